"""Subword sampling: what comes out is the same text, by the right distribution, and depends on nothing else."""

from __future__ import annotations

import io
import math
import pickle
import random
import re
import time
from collections import Counter
from itertools import islice, pairwise

import pytest
import sentencepiece
import torch

from nmt.config import BpeDropout, Config, NoSampling, SentencePieceConfig, TrainConfig, UnigramSampling, WordsConfig
from nmt.data.corpus import Corpus, write_corpus
from nmt.data.example import Feeder
from nmt.data.loader import batches
from nmt.data.phrasebook import generate
from nmt.data.plan import Plan
from nmt.errors import UserError
from nmt.settings.load import load_config
from nmt.text.learn import learn_tokenizers
from nmt.text.pieces import PieceType, read_piece_model
from nmt.text.sampling import (
    LONGEST,
    WAYS,
    Best,
    Dropout,
    Memo,
    Pieces,
    SubwordSampler,
    check_sampling,
    draws,
    make_samplers,
    merge,
)
from nmt.text.tokenizer import UNK, SentencePieceTokenizer, load_tokenizers

ODD = [
    "",
    "   ",
    "a",
    "猫",
    "猫狗 x猫 ▁ 狗x",
    "two  spaces and a\ttab",
    "unfriendliest antidisestablishmentarianism",
    "Ünïcödé ﬁne ½ İstanbul",
    "<s> </s> <unk> <0x41> <pad>",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "\U0001f600\U0001f600 \u200d\ufeff e\u0301",
]
KINDS = {"bpe": BpeDropout(), "unigram": UnigramSampling()}


def chi_square_limit(freedom: int) -> float:
    """What a chi-square statistic exceeds with a probability of 1e-6 (Wilson and Hilferty 1931)."""
    spread = 2 / (9 * freedom)
    return freedom * (1 - spread + 4.7534 * math.sqrt(spread)) ** 3


def chi_square(counts: Counter, expected: dict, total: int) -> tuple[float, int]:
    """Statistic and degrees of freedom; what is expected less than 5 times is one class."""
    assert set(counts) <= set(expected)
    rest = [key for key, p in expected.items() if p * total < 5]
    classes = [(counts[key], p * total) for key, p in expected.items() if p * total >= 5]
    if rest:
        classes.append((sum(counts[key] for key in rest), sum(expected[key] for key in rest) * total))
    return sum((seen - wanted) ** 2 / wanted for seen, wanted in classes if wanted), len(classes) - 1


@pytest.fixture(scope="module")
def lines() -> list[str]:
    """English, and after that as many French."""
    src, tgt, *_ = zip(*generate("train", 400), strict=True)
    return [*src, *tgt]


def learned(lines, model="bpe", **options) -> SentencePieceTokenizer:
    config = SentencePieceConfig(model=model, size=700, **options)
    tokenizer, _ = learn_tokenizers(config, lambda: lines, list)
    assert isinstance(tokenizer, SentencePieceTokenizer)
    return tokenizer


@pytest.fixture(scope="module")
def tokenizers(lines) -> dict[str, SentencePieceTokenizer]:
    return {model: learned(lines, model) for model in KINDS}


def trained_elsewhere(lines, **options) -> SentencePieceTokenizer:
    """With a model that was made without this package."""
    model = io.BytesIO()
    options = {"vocab_size": 200, "model_type": "bpe", "hard_vocab_limit": False, "minloglevel": 2, **options}
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(lines), model_writer=model, **options)
    return SentencePieceTokenizer(model.getvalue(), SentencePieceConfig(normalization="identity"))


def plain(pieces: Pieces, line: str) -> list[int]:
    """Byte pair encoding by our merges, none of them dropped."""
    dropout = Dropout(pieces, 0.5)
    ids = [n for word in pieces.words(pieces.tokenizer.normalised(line)) for n in pieces.spell(dropout.parts(word))]
    return [n for before, n in pairwise([0, *ids]) if not before == n == UNK]


# What comes out is the text


@pytest.mark.parametrize("model", KINDS)
def test_the_text_stays_the_same(tokenizers, lines, model):
    tokenizer, sampler = tokenizers[model], SubwordSampler(tokenizers[model], KINDS[model])
    changed = 0
    for n, line in enumerate(lines + ODD):
        stored, ids = tokenizer.encode(line), sampler.sample(line, (1, 0, n, 0))
        assert ids is not None
        assert tokenizer.decode(ids) == tokenizer.decode(stored)
        assert min(ids, default=4) >= UNK
        assert (UNK in ids) == (UNK in stored)
        changed += ids != stored
    assert changed > 0.7 * len(lines)


@pytest.mark.parametrize("model", KINDS)
def test_unknown_characters(lines, model):
    """Without bytes to spell them with; side by side they are one token, as SentencePiece has it."""
    tokenizer = learned(lines, model, byte_fallback=False)
    sampler = SubwordSampler(tokenizer, KINDS[model])
    for line in ["猫", "猫狗", "x猫狗y 猫", "the 猫 狗 the", "ab猫狗 猫cd"]:
        stored = tokenizer.encode(line)
        for n in range(50):
            ids = sampler.sample(line, (n,))
            assert ids.count(UNK) == stored.count(UNK)
            assert tokenizer.decode(ids) == tokenizer.decode(stored)


@pytest.mark.parametrize(
    "options",
    [
        {"user_defined_symbols": ["<sep>", "the", "▁of▁", "x"]},
        {"user_defined_symbols": ["<sep>", "the"], "model_type": "unigram"},
        {"byte_fallback": True, "vocab_size": 500, "user_defined_symbols": ["<sep>", "th", "the"]},
        {"treat_whitespace_as_suffix": True},
        {"treat_whitespace_as_suffix": True, "model_type": "unigram"},
        {"add_dummy_prefix": False},
        {"remove_extra_whitespaces": False},
        {"normalization_rule_name": "nfkc_cf", "split_by_unicode_script": False, "split_digits": True},
        {"pad_id": 3, "bos_id": -1, "unk_id": 7},
    ],
    ids=lambda options: " ".join(options),
)
def test_models_of_others(lines, options):
    tokenizer = trained_elsewhere(lines, **options)
    model = options.get("model_type", "bpe")
    sampler = SubwordSampler(tokenizer, KINDS[model])
    pieces = Pieces(tokenizer)
    symbols = options.get("user_defined_symbols", [])
    extra = ["a<sep>b", "<sep>", "the<sep> the", "x the  other  of the xx", "cup of  tea", "MIXED Case 12 345"]
    for n, line in enumerate([*lines[:60], *lines[-60:], *ODD, *extra]):
        stored, ids = tokenizer.encode(line), sampler.sample(line, (n,))
        assert tokenizer.decode(ids) == tokenizer.decode(stored)
        if model == "bpe":
            assert plain(pieces, line) == stored
        for symbol in map(tokenizer._processor.piece_to_id, symbols):
            assert ids.count(tokenizer._ours[symbol]) == stored.count(tokenizer._ours[symbol])


def test_pieces_across_words_are_refused(lines):
    tokenizer = trained_elsewhere(lines, split_by_whitespace=False)
    with pytest.raises(UserError, match="goes word by word, but this SentencePiece model has pieces with white space"):
        SubwordSampler(tokenizer, BpeDropout())


def test_a_very_long_word_is_left_alone(tokenizers):
    draw = random.Random(1)
    for model, config in KINDS.items():
        sampler = SubwordSampler(tokenizers[model], config)
        words = ["".join(draw.choices("etaoinsh", k=length)) for length in (LONGEST - 1, LONGEST, 10**6)]
        assert sampler.sample(f"a {words[0]}", (1,)) is not None  # with the mark of the space just short enough
        began = time.monotonic()
        assert sampler.sample(f"a {words[1]}", (1,)) is None
        assert sampler.sample(f"{words[2]} a", (1,)) is None
        assert time.monotonic() - began < 5.0


# Byte pair encoding


def test_without_dropout_it_is_sentencepiece(lines, tokenizers):
    for tokenizer in (
        tokenizers["bpe"],
        learned(lines, byte_fallback=False),
        learned(lines[:300], normalization="nmt_nfkc"),
    ):
        pieces = Pieces(tokenizer)
        for line in lines + ODD:
            assert plain(pieces, line) == tokenizer.encode(line)


def test_without_dropout_it_is_sentencepiece_on_real_text(shared):
    text = {side: (shared / "multi30k" / f"val.{side}").read_text("utf-8").splitlines() for side in ("en", "de")}
    config = SentencePieceConfig(size=2000)
    tokenizer, _ = learn_tokenizers(config, lambda: text["en"], lambda: text["de"])
    pieces = Pieces(tokenizer)
    for line in text["en"] + text["de"]:
        assert plain(pieces, line) == tokenizer.encode(line)


SCORES = {"a": 0.0, "b": 0.0, "c": 0.0, "bc": -1.0, "ab": -2.0, "cb": -3.0, "abc": -4.0, "abcb": -5.0, "bcbc": -6.0}


def algorithm_1(parts: tuple[str, ...], rate: float) -> dict[tuple[str, ...], float]:
    """The distribution over segmentations, by all the outcomes of all the coins (Provilkov et al. 2020)."""
    merges = [(SCORES[a + b], -n) for n, (a, b) in enumerate(pairwise(parts)) if a + b in SCORES]
    result: Counter = Counter()
    for coins in range(2 ** len(merges)):
        kept = [each for n, each in enumerate(merges) if coins >> n & 1]
        probability = (1 - rate) ** len(kept) * rate ** (len(merges) - len(kept))
        if not kept:
            result[parts] += probability
            continue
        place = -max(kept)[1]
        merged = (*parts[:place], parts[place] + parts[place + 1], *parts[place + 2 :])
        for final, p in algorithm_1(merged, rate).items():
            result[final] += probability * p
    return result


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("word", ["abcbc", "cbab", "bcb"])
def test_dropout_is_algorithm_1(word, rate):
    class Alphabet:  # as much of `Pieces` as is asked for
        scores, units, spell = SCORES, staticmethod(list), staticmethod(tuple)

    expected = algorithm_1(tuple(word), rate)
    assert sum(expected.values()) == pytest.approx(1)
    dropout, total = Dropout(Alphabet(), rate), 4000
    found = Counter(tuple(dropout.parts(word, draws((n, "test"), len(word)))) for n in range(total))
    statistic, freedom = chi_square(found, expected, total)
    assert freedom >= 1
    assert statistic < chi_square_limit(freedom)


def test_all_merges_dropped_leaves_characters():
    costs = {text: -score for text, score in SCORES.items()}
    assert merge(list("abcbc"), costs, [99]) == list("abcbc")
    assert merge(list("abcbc"), costs, []) == ["abc", "bc"]
    # The second of bc, bc, ab, cb; the second of bc, ab; abc.
    assert merge(list("abcbc"), costs, [1, 1, 0]) == ["abc", "bc"]
    assert merge(list("abcbc"), costs, [1, 1, 1]) == ["ab", "c", "bc"]
    assert merge(list("abcbc"), costs, [3, 1]) == ["a", "b", "cb", "c"]


def test_a_word_has_many_ways(tokenizers):
    """And which of them a line has does not hang on those before it."""
    sampler = SubwordSampler(tokenizers["bpe"], BpeDropout(rate=0.5))
    again = SubwordSampler(tokenizers["bpe"], BpeDropout(rate=0.5))
    drawn = [tuple(sampler.sample("antidisestablishment", (n,))) for n in range(300)]
    assert WAYS / 4 < len(set(drawn)) <= WAYS
    assert drawn[::-1] == [tuple(again.sample("antidisestablishment", (n,))) for n in reversed(range(300))]


def test_a_way_is_what_its_draws_say(tokenizers):
    """That nothing is merged where the draws drop nothing is a short cut."""
    pieces = Pieces(tokenizers["bpe"])
    dropout = Dropout(pieces, 0.2)
    for word in ("▁antidisestablishment", "▁the", "▁a", "a", "猫", "▁猫the"):
        for way in range(WAYS):
            found = dropout.cut([word], [way + 5 * WAYS])
            assert found == list(pieces.spell(dropout.parts(word, draws((way, word), len(word)))))


def test_words_are_forgotten_and_come_back(monkeypatch):
    monkeypatch.setattr("nmt.text.sampling.REMEMBERED", 3)
    made = []
    memo = Memo(lambda word: made.append(word) or word * 2)
    assert [memo[word] for word in "abcabcd"] == [word * 2 for word in "abcabcd"]
    assert made == list("abcd")
    assert [memo[word] for word in "aefgha"] == ["aa", "ee", "ff", "gg", "hh", "aa"]
    assert made == list("abcdefgha")
    assert len(memo) <= 3


# Unigram


def test_the_best_are_those_of_sentencepiece(tokenizers, lines):
    """In its own order, but for ties; the scores are sums of what it says of each piece."""
    tokenizer = tokenizers["unigram"]
    best, processor = Best(Pieces(tokenizer), UnigramSampling(best=20)), tokenizer._processor
    words = sorted({word for line in lines for word in line.split()})
    for word in [*random.Random(1).sample(words, 150), "unfriendliest", "a", "zzqa"]:
        ours = best.best(f"▁{word}")
        theirs = [tuple(ids) for ids in processor.nbest_encode(word, nbest_size=20, out_type=int)]
        assert len(ours) == len(theirs)
        known = {ids: score for score, ids in ours}
        assert len(known) == len(ours)
        for (score, ids), other in zip(ours, theirs, strict=True):
            assert sum(map(processor.get_score, ids)) == pytest.approx(score, abs=1e-4)
            assert sum(map(processor.get_score, other)) == pytest.approx(score, abs=1e-4)


def brute_force(text: str, scores: dict[str, float]) -> list[tuple[float, tuple[str, ...]]]:
    """All ways to cut the text into pieces."""
    if not text:
        return [(0.0, ())]
    heads = [text[:n] for n in range(1, len(text) + 1) if text[:n] in scores]
    return [(scores[h] + s, (h, *rest)) for h in heads for s, rest in brute_force(text[len(h) :], scores)]


@pytest.mark.parametrize(("alpha", "best"), [(0.2, 64), (0.0, 5), (1.0, 1000), (0.5, 3)])
def test_unigram_frequencies(tokenizers, alpha, best):
    """p(x) ~ exp(alpha * score(x)) among the best, by a count of all segmentations there are."""
    tokenizer, word = tokenizers["unigram"], "▁parlera"
    pieces = Pieces(tokenizer)
    every = sorted(brute_force(word, pieces.scores), reverse=True)[:best]
    assert len(every) >= min(best, 8)
    norm = sum(math.exp(alpha * score) for score, _ in every)
    expected = {parts: math.exp(alpha * score) / norm for score, parts in every}
    sampler, total = SubwordSampler(tokenizer, UnigramSampling(alpha=alpha, best=best)), 6000
    found = Counter(tuple(tokenizer.pieces(sampler.sample("parlera", (n,)))) for n in range(total))
    statistic, freedom = chi_square(found, expected, total)
    assert freedom >= 2
    assert statistic < chi_square_limit(freedom)


# On what it depends


@pytest.fixture(scope="module")
def corpora(tmp_path_factory, lines, tokenizers) -> dict[str, Corpus]:
    folder, half = tmp_path_factory.mktemp("corpora"), len(lines) // 2
    pairs = list(zip(lines[:half], lines[half:], strict=True))[:200]
    for model, tokenizer in tokenizers.items():
        write_corpus(folder / model, pairs, (tokenizer, tokenizer), max_length=None)
    return {model: Corpus.open(folder / model) for model in tokenizers}


def by_pair(corpus, samplers, seed=3, budget=300, epochs=1, **options):
    """For each pair of each epoch its ids, padding aside."""
    plan = Plan(corpus.src_lengths, corpus.tgt_lengths, max_tokens=budget, seed=seed)
    start = options.setdefault("start", 0)
    stream = batches(corpus, max_tokens=budget, seed=seed, samplers=samplers, **options)
    found = {}
    for number, batch in islice(stream, epochs * plan.batches_per_epoch - start):
        assert sorted(batch.indices.tolist()) == sorted(plan.batch(number).tolist())
        for row, i in enumerate(batch.indices.tolist()):
            sides = [side.ids[row, : side.lengths[row]].tolist() for side in (batch.src, batch.tgt)]
            found[plan.epoch_of(number)[0], i] = sides
    return found


def samplers_of(tokenizers, model, max_length=256):
    return make_samplers((tokenizers[model],) * 2, KINDS[model], max_length=max_length)


@pytest.mark.parametrize("model", KINDS)
def test_ids_depend_on_seed_epoch_and_pair_alone(tokenizers, corpora, model):
    corpus, tokenizer = corpora[model], tokenizers[model]
    found = by_pair(corpus, samplers_of(tokenizers, model), epochs=2)
    assert len(found) == 2 * len(corpus)
    # other batches, another place to start, processes that make them ahead
    assert by_pair(corpus, samplers_of(tokenizers, model), budget=90, epochs=2) == found
    assert by_pair(corpus, samplers_of(tokenizers, model), epochs=2, workers=2) == found
    later = by_pair(corpus, samplers_of(tokenizers, model), epochs=2, start=9)
    assert later == {key: found[key] for key in later}
    assert len(later) > len(corpus)
    # another seed and another epoch differ in most lines, and so do the sides of a pair
    other = by_pair(corpus, samplers_of(tokenizers, model), seed=4, epochs=2)
    assert sum(other[key] != found[key] for key in found) > 0.9 * len(found)
    assert sum(found[0, i] != found[1, i] for i in range(len(corpus))) > 0.9 * len(corpus)
    samplers = samplers_of(tokenizers, model)
    for (epoch, i), (src, tgt) in found.items():
        assert [tokenizer.decode(src), tokenizer.decode(tgt)] == list(corpus.text(i))
        assert (src[:-1], tgt[1:-1]) == samplers.sample(corpus.text(i), ([], []), (3, epoch, i))


def test_both_sides_draw_on_their_own(tokenizers):
    samplers = samplers_of(tokenizers, "bpe")
    text = "the beautiful stations of professeur Maclogrant"
    pairs = [samplers.sample((text, text), ([], []), (1, 0, n)) for n in range(20)]
    assert any(src != tgt for src, tgt in pairs)


def test_a_sampler_goes_to_another_process(tokenizers, lines):
    for model in KINDS:
        samplers = samplers_of(tokenizers, model)
        copy = pickle.loads(pickle.dumps(samplers))
        assert [copy.src.sample(line, (1,)) for line in lines] == [samplers.src.sample(line, (1,)) for line in lines]


def test_a_side_that_gets_too_long_stays_as_it_is(tokenizers, corpora):
    corpus, limit = corpora["bpe"], 14
    found = by_pair(corpus, samplers_of(tokenizers, "bpe", max_length=limit))
    free = by_pair(corpus, samplers_of(tokenizers, "bpe"))
    kept = 0
    for (_, i), sides in found.items():
        for side, special, stored, unlimited in zip(
            sides, (1, 2), (corpus.src(i), corpus.tgt(i)), free[0, i], strict=True
        ):
            too_long = len(unlimited) - special > limit
            ids = side[special - 1 : -1]
            assert (ids == stored.tolist()) if too_long else (side == unlimited)
            kept += too_long
    assert kept > 10


def test_a_copying_model_copies_what_was_sampled(tokenizers, corpora):
    tokenizer, corpus = tokenizers["bpe"], corpora["bpe"]
    options = {"max_tokens": 300, "seed": 3, "start": 0, "feeder": Feeder(tokenizer, tokenizer, copies=True)}
    for (_, batch), (_, stored) in islice(
        zip(
            batches(corpus, samplers=samplers_of(tokenizers, "bpe"), **options), batches(corpus, **options), strict=True
        ),
        5,
    ):
        assert torch.equal(batch.copy_ids, batch.src.ids)
        assert batch.extras == 0
        assert not torch.equal(batch.copy_ids.flatten()[:50], stored.copy_ids.flatten()[:50])


def test_draws():
    """Fixed for good: runs that are resumed under another version must find the same."""
    assert draws((1, 2, 3, 0), 2) == draws((1, 2, 3, 0), 5)[:2]
    assert draws((5, "▁Haus"), 0) == ()
    many = draws((7,), 4000)
    statistic, freedom = chi_square(Counter(n >> 26 for n in many), dict.fromkeys(range(64), 1 / 64), len(many))
    assert statistic < chi_square_limit(freedom)


# Settings


def test_the_setting(tmp_path):
    assert TrainConfig().subword_sampling == NoSampling()
    config = load_config(None, ["train.subword_sampling.kind=bpe_dropout"])
    assert config.train.subword_sampling == BpeDropout(rate=0.1)
    overrides = ["tokenizer.model=unigram", "train.subword_sampling={kind: unigram, alpha: 0.5}"]
    assert load_config(None, overrides).train.subword_sampling == UnigramSampling(alpha=0.5, best=64)
    for value in ("{kind: bpe_dropout, rate: 1.0}", "{kind: bpe_dropout, rate: 0}", "{kind: unigram, best: 0}"):
        with pytest.raises(UserError):
            load_config(None, [f"train.subword_sampling={value}", *overrides[:1]])


@pytest.mark.parametrize(
    ("kind", "tokenizer", "message"),
    [
        (
            "bpe_dropout",
            "{model: unigram}",
            "bpe_dropout is for tokenizer.model: bpe, but that is unigram; set it to bpe",
        ),
        ("unigram", "{}", "but that is bpe; set it to unigram, or train.subword_sampling.kind to bpe_dropout"),
        ("unigram", "{kind: words}", "cuts words into other subwords, and tokenizer.kind: words has none"),
        ("bpe_dropout", "{kind: characters}", "and tokenizer.kind: characters has none; set it to sentencepiece"),
    ],
)
def test_what_does_not_fit_is_refused(kind, tokenizer, message):
    with pytest.raises(UserError, match=re.escape(message)):
        load_config(None, [f"train.subword_sampling.kind={kind}", f"tokenizer={tokenizer}"])


def test_a_prepared_folder_decides_later(tokenizers):
    """Its tokenizer is not known when the settings are read."""
    config = Config.model_validate({"data": {"prepared": "x"}, "train": {"subword_sampling": {"kind": "unigram"}}})
    sampling = config.train.subword_sampling
    assert make_samplers((tokenizers["unigram"],) * 2, sampling, max_length=9) is not None
    with pytest.raises(UserError, match="kind: unigram does not fit the tokenizer, a SentencePiece model of bpe"):
        make_samplers((tokenizers["bpe"],) * 2, sampling, max_length=9)
    words = learn_tokenizers(WordsConfig(), lambda: ["a"], lambda: ["b"])
    with pytest.raises(UserError, match="kind: unigram needs subwords, but the tokenizer is of words"):
        make_samplers(words, sampling, max_length=9)
    assert make_samplers(words, NoSampling(), max_length=9) is None


def test_a_prepared_folder_that_does_not_fit_is_told_at_once(tmp_path, lines, command):
    for side, text in (("src", lines[:100]), ("tgt", lines[400:500])):
        (tmp_path / side).write_text("".join(f"{line}\n" for line in text), "utf-8")
    files = ["--src", tmp_path / "src", "--tgt", tmp_path / "tgt"]
    command("prepare", *files, "-o", tmp_path / "p", "--set", "tokenizer={model: unigram, size: 400}")
    sampling = ["--set", "train.subword_sampling.kind=bpe_dropout", "-o", tmp_path / "run"]
    _, told = command("train", "--data", tmp_path / "p", *sampling, code=2)
    assert "does not fit the settings: train.subword_sampling.kind: bpe_dropout is for tokenizer.model: bpe" in told
    learned(lines, "unigram").save(tmp_path, "src")
    _, told = command("train", *files, *sampling, "--set", f"tokenizer.path={tmp_path / 'joint.model'}", code=2)
    assert "kind: bpe_dropout does not fit the tokenizer, a SentencePiece model of unigram" in told
    assert not (tmp_path / "run").exists()


def test_a_model_of_the_users_is_looked_into(tmp_path, tokenizers):
    """Before there is a tokenizer: its settings say `bpe`, as they do by default."""
    tokenizers["unigram"].save(tmp_path, "src")
    named = SentencePieceConfig(path=str(tmp_path / "joint.model"))
    load_config(None, ["train.subword_sampling.kind=unigram", f"tokenizer.path={named.path}"])
    check_sampling(UnigramSampling(), named, None)
    check_sampling(NoSampling(), named, None)
    check_sampling(BpeDropout(), SentencePieceConfig(), None)
    with pytest.raises(
        UserError, match="bpe_dropout does not fit the tokenizer, a SentencePiece model of unigram"
    ) as caught:
        check_sampling(BpeDropout(), named, None)
    assert caught.value.hint.startswith("Take train.subword_sampling: {kind: unigram}")
    with pytest.raises(UserError, match="does not fit the tokenizer"):
        check_sampling(BpeDropout(), SentencePieceConfig(), load_tokenizers(tmp_path))


# What a model holds


@pytest.mark.parametrize("algorithm", ["bpe", "unigram", "word", "char"])
def test_a_model_is_read(lines, algorithm):
    """As SentencePiece reads it."""
    tokenizer = trained_elsewhere(lines, model_type=algorithm, user_defined_symbols=["<sep>"], control_symbols=["<c>"])
    model, processor = tokenizer.piece_model(), tokenizer._processor
    assert (model.algorithm, model.byte_fallback) == (algorithm, False)
    assert len(model.pieces) == processor.get_piece_size()
    for n, piece in enumerate(model.pieces):
        assert piece.text == processor.id_to_piece(n)
        assert piece.score == processor.get_score(n)
        assert (piece.type == PieceType.CONTROL) == processor.is_control(n)
        assert (piece.type == PieceType.UNKNOWN) == processor.is_unknown(n)
        assert (piece.type == PieceType.USER_DEFINED) == (piece.text.strip("▁") == "<sep>")


def test_bytes_of_a_model_are_read(lines):
    model = learned(lines).piece_model()
    assert model.byte_fallback
    assert [piece.text for piece in model.pieces if piece.type == PieceType.BYTE] == [
        f"<0x{n:02X}>" for n in range(256)
    ]


@pytest.mark.parametrize("raw", [b"", b"\x0a", b"\x0a\x05abc", b"\x0f", b"\xff", b"\x12\x02\x18\x09", b"\x0a\x00"])
def test_what_is_no_model_is_not_read(raw):
    with pytest.raises((ValueError, KeyError)):
        read_piece_model(raw)
