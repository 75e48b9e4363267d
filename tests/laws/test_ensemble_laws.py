"""Laws of ensembles: the mean of the members' probabilities, in search, in scoring and in what is said of alignment."""

import random

import pytest
import torch
from oracles import TablePredictor, exhaustive
from zoo import MEAN, TGT_SIZE, WORDS, ZOO, attends, batch, build, collate, each_model, sentences, write_run

from nmt.align.ensemble import load_ensemble
from nmt.align.extract import attention_maps, choose_reading, default_reading
from nmt.config import AlignConfig, AveragePenalty, GnmtPenalty, NoPenalty, RewardPenalty, SearchConfig, WordsConfig
from nmt.data.batch import EOS, PAD, UNK, pad
from nmt.data.example import Feeder, collate_examples
from nmt.details import Wanted, with_details
from nmt.errors import UserError
from nmt.models.ensemble import CROSS, Ensemble, EnsemblePredictor, of_written
from nmt.models.reading import COPY, Reading, Recorder
from nmt.score import score_pairs
from nmt.search.beam import beam_search
from nmt.search.penalty import length_penalty
from nmt.text.tokenizer import WordTokenizer
from nmt.translate import Translator

MIXED = {
    "rnn and transformer": ("lstm-feeding", "transformer"),
    "copying and not": ("copy-transformer", "gru"),
    "not copying first": ("transformer-alibi", "copy-fixed"),
    "all copying": ("copy", "copy-transformer-own", "copy-sentinel"),
    "one without attention": ("bottleneck", "copy-transformer-mean", "coverage"),
}
each_mixed = pytest.mark.parametrize("names", MIXED.values(), ids=MIXED)


def ensemble(*names):
    """Of models of the zoo; equal names get different weights."""
    return Ensemble([build(name, seed=n) for n, name in enumerate(names, start=1)], TGT_SIZE).eval()


def search(predictor, beam, limits, penalty=MEAN):
    with torch.no_grad():
        return beam_search(predictor, beam=beam, limits=torch.tensor(limits), penalty=penalty)


def assert_same(one, other, rel=1e-5):
    """Equal hypotheses of equal scores."""
    for ours, theirs in zip(one, other, strict=True):
        assert [h.tokens for h in ours] == [h.tokens for h in theirs]
        assert [h.score for h in ours] == pytest.approx([h.score for h in theirs], rel=rel)


@each_model
@pytest.mark.parametrize("times", [1, 2])
def test_an_ensemble_of_one_model_is_the_model(name, times):
    """Once, or the same one twice."""
    model = build(name)
    same, pairs = Ensemble([model] * times, TGT_SIZE).eval(), batch()
    with torch.no_grad():
        torch.testing.assert_close(same(pairs).nll, model(pairs).nll, rtol=1e-5, atol=1e-6)
    assert (same(pairs).nll == 0).equal(pairs.tgt.ids[:, 1:] == PAD)
    limits = [6] * len(pairs.src.ids)
    assert_same(search(same.predictor(pairs), 3, limits), search(model.predictor(pairs), 3, limits))
    assert same.copies == model.copies
    assert (same.alignment is None) == (model.alignment is None)


class Narrow(TablePredictor):
    """A table that knows nothing of the last words of the others: it reads them as unknown."""

    def step(self, tokens, state):
        return super().step(tokens.where(tokens < self.tables.shape[-1], UNK), state)

    def select(self, rows):
        return Narrow(self.tables[rows])


def mean_table(tables, size):
    """One table [B,L,V,V] that says the mean of what several say, in float64."""
    total = torch.zeros(*tables[0].shape[:2], size, size, dtype=torch.float64)
    for table in tables:
        known = table.shape[-1]
        read = [n if n < known else UNK for n in range(size)]
        total[..., :known] += table.double().exp()[:, :, read]
    return (total / len(tables)).log()


@pytest.mark.parametrize("penalty", [NoPenalty(), AveragePenalty(), GnmtPenalty(), RewardPenalty()], ids=str)
@pytest.mark.parametrize("sizes", [(5, 5), (6, 5), (4, 6), (5, 6, 4)])
@pytest.mark.parametrize("limit", [1, 2, 3, 4])
def test_wide_beam_is_exhaustive(sizes, limit, penalty):
    """Whatever each member's vocabulary; the brute force runs over one table, made of the members' probabilities."""
    tables = [TablePredictor.random(6, limit, size, seed=10 * n + size).tables for n, size in enumerate(sizes)]
    score, widest = length_penalty(penalty), max(sizes)
    beam = max(sum((widest - 3) ** n for n in range(limit)), widest)
    found = search(EnsemblePredictor([Narrow(table) for table in tables]), beam, [limit] * 6, score)

    def scored(log_prob, length):
        return float(score(torch.tensor(log_prob), length))

    for table, hypotheses in zip(mean_table(tables, widest), found, strict=True):
        expected = exhaustive(table, limit, scored)
        possible = [output for output in expected if output[2] > -torch.inf]
        assert [h.tokens for h in hypotheses] == [tokens for tokens, _, _ in possible]
        assert [h.score for h in hypotheses] == pytest.approx([s for _, s, _ in possible], rel=1e-5, abs=1e-6)
        assert [h.log_prob for h in hypotheses] == pytest.approx([p for _, _, p in possible], rel=1e-5)


@each_mixed
def test_steps_and_forced_pass_are_the_mean_of_probabilities(names):
    """Of members asked one by one, in float64; labels are words of the source, too."""
    model, src = ensemble(*names), sentences(5)
    tgt = [[*[n for n in given if n < 17], 17, 18, TGT_SIZE] for given in sentences(5, seed=9)]
    src = [[17, 18, *sentence] for sentence in src]  # so that TGT_SIZE and the next are to be copied
    pairs = collate(src, tgt if model.copies else [row[:-1] for row in tgt])
    ids = pairs.tgt.ids
    with torch.no_grad():
        nll = model(pairs).nll
        members = [(m, m.predictor(pairs)) for m in model.members]
        states = [predictor.start(1, ids.shape[1]) for _, predictor in members]
        together = model.predictor(pairs)
        state = together.start(1, ids.shape[1])
        for step in range(ids.shape[1] - 1):
            mean = torch.zeros(len(ids), TGT_SIZE + pairs.extras, dtype=torch.float64)
            for n, (member, predictor) in enumerate(members):
                said, states[n] = predictor.step(ids[:, step], states[n])
                mean[:, : said.shape[1]] += said.double().exp() / len(members)
                assert member.copies == (said.shape[1] == TGT_SIZE + pairs.extras)
            said, state = together.step(ids[:, step], state)
            said = said.double().exp()
            torch.testing.assert_close(said, mean[:, : said.shape[1]], rtol=1e-4, atol=1e-9)
            assert (said == 0).equal(mean[:, : said.shape[1]] == 0)  # such as words that this source does not have
            assert said.sum(dim=1).tolist() == pytest.approx([1.0] * len(ids), rel=1e-5)
            real = ids[:, step + 1] != PAD
            expected = -mean.gather(1, ids[:, step + 1, None])[:, 0].log()
            torch.testing.assert_close(nll[real, step].double(), expected[real], rtol=1e-4, atol=1e-5)


@each_mixed
@pytest.mark.parametrize("beam", [1, 4])
def test_batch_changes_no_translation(names, beam):
    model, src = ensemble(*names), sentences(7)
    limits = [len(sentence) + 3 for sentence in src]
    together = search(model.predictor(collate(src)), beam, limits)
    for n, hypotheses in enumerate(together):
        assert_same(search(model.predictor(collate([src[n]])), beam, limits[n : n + 1]), [hypotheses])


@each_mixed
def test_score_is_rescored(names):
    model, src = ensemble(*names), sentences(4)
    found = search(model.predictor(collate(src)), 4, [8] * 4)
    for source, hypotheses in zip(src, found, strict=True):
        for h in hypotheses:
            with torch.no_grad():
                nll = model(collate([source], [h.tokens])).nll[0]
            assert h.token_log_probs == pytest.approx((-nll).tolist(), abs=2e-5)
            assert h.log_prob == pytest.approx(float(-nll.sum()), rel=1e-5)


def test_the_order_of_members_does_not_matter():
    one, other = build("lstm"), build("copy-transformer", seed=2)
    src, limits = sentences(6), [8] * 6
    forward, backward = (Ensemble(members, TGT_SIZE).eval() for members in ([one, other], [other, one]))
    assert_same(*(search(model.predictor(collate(src)), 4, limits) for model in (forward, backward)))


@each_mixed
def test_a_shortlist_confines_every_member(names):
    """What is on no list has no probability; of what is, the mean of what the confined members say."""
    model, src = ensemble(*names), [[5, 17, 6], [18, 8]]
    tokens = pad([[0, 1, EOS, UNK, 5, 9, 17, TGT_SIZE], [0, 1, EOS, UNK, 8]]).ids
    with torch.no_grad():
        predictor = model.predictor(collate(src), tokens)
        assert predictor.columns.equal(tokens)
        said, _ = predictor.step(torch.tensor([1, 1]), predictor.start(1, 2))
        parts = [m.predictor(collate(src), tokens) for m in model.members]
        mean = sum(p.step(torch.tensor([1, 1]), p.start(1, 2))[0].double().exp() for p in parts) / len(parts)
    torch.testing.assert_close(said.double().exp(), mean, rtol=1e-5, atol=1e-9)
    chosen = predictor.select(torch.tensor([1]))
    assert chosen.columns.equal(tokens[1:])


TOKENIZER = WordTokenizer(WORDS, WordsConfig())
SINGLE = [name for name in ZOO if attends(name) and name.startswith(("copy", "lstm-feeding", "transformer", "gru-to"))]


def translator(names, beam):
    model = build(*names) if len(names) == 1 else ensemble(*names)
    settings = SearchConfig(beam=beam, max_ratio=1.0, max_extra=4)
    return Translator(model, (TOKENIZER, TOKENIZER), settings, device=torch.device("cpu"))


def lines(count):
    """With words that the vocabulary lacks."""
    draw = random.Random(3)
    return [" ".join(draw.choices([*WORDS, "new", "other", "more"], k=draw.randint(1, 7))) for _ in range(count)]


def own_map(member, source, target):
    """[T+1,S+1] by the member's own reading, of one pair alone; and what it copies, if it does."""
    recorder = Recorder()
    feeder = Feeder(TOKENIZER, TOKENIZER, spells=member.spells)
    pair = collate_examples([feeder.example(*((line, TOKENIZER.encode(line)) for line in (source, target)))])
    with torch.no_grad():
        member.attend(pair, recorder)
    heard = recorder.weights()
    aligned = None if member.alignment is None else heard[member.alignment.name].mean(dim=1)[0]
    return aligned, heard[COPY.name][0, 0] if member.copies else torch.zeros(1)


@pytest.mark.parametrize("beam", [1, 5])
@pytest.mark.parametrize("names", [*((name,) for name in SINGLE), *MIXED.values()], ids="+".join)
def test_the_alignment_of_a_translation_is_that_of_scoring_the_pair(names, beam):
    """Each of the best, in its batch, against its pair of texts, alone, and asking the members one by one."""
    runner = translator(names, beam)
    members = [runner.model] if len(names) == 1 else list(runner.model.members)
    wanted = Wanted(default_reading(runner.model), copied=runner.model.copies, flags=False)
    translations = runner.translate(lines(6), nbest=min(beam, 3))
    for translation, details in with_details(runner, translations, wanted):
        pairs = [(translation.source, candidate.text) for candidate in translation.candidates]
        scored = attention_maps(runner.model, runner.tokenizers, pairs, device=runner.device, max_tokens=64)
        for n, (pair, by_score) in enumerate(zip(pairs, scored, strict=True)):
            found = torch.from_numpy(details.attention[n])
            torch.testing.assert_close(found[:-1, :-1], torch.from_numpy(by_score.weights), rtol=0, atol=1e-5)
            aligned, copied = zip(*(own_map(member, *pair) for member in members), strict=True)
            maps = torch.stack([weights for weights in aligned if weights is not None])
            torch.testing.assert_close(found, maps.mean(dim=0), rtol=0, atol=1e-5)
            if wanted.copied:
                expected = sum(copied) / len(members)
                torch.testing.assert_close(torch.from_numpy(details.copied[n]), expected, rtol=0, atol=1e-5)


@each_mixed
def test_scoring_a_translation_gives_the_scores_of_search(names):
    """From text to text, copied words among it."""
    runner = translator(names, 3)
    found = [(t.source, c) for t in runner.translate(lines(6), nbest=3) for c in t.candidates]
    for (_, candidate), score in zip(found, score_pairs(runner, [(s, c.text) for s, c in found]), strict=True):
        assert score.log_prob == pytest.approx(candidate.hypothesis.log_prob, rel=1e-5, abs=1e-5)
        assert score.score == pytest.approx(candidate.hypothesis.score, rel=1e-5, abs=1e-5)
        assert score.token_log_probs == pytest.approx(candidate.hypothesis.token_log_probs, abs=2e-5)


def test_a_member_can_be_asked_elsewhere():
    """Another attention, one head, the step that reads a word: each word is aligned as that member alone has it, and
    the end by the step that writes it."""
    first, second = build("lstm"), build("transformer", seed=2)
    readings = [Reading("decoder.cross", None, "output"), Reading("decoder.1.cross", (2,), "input")]
    model, pairs = Ensemble([first, second], TGT_SIZE, readings=readings).eval(), batch()
    heard = Recorder()
    parts = [Recorder(), Recorder()]
    with torch.no_grad():
        model.attend(pairs, heard)
        first.attend(pairs, parts[0])
        second.attend(pairs, parts[1])
    assert model.alignment == CROSS
    assert list(heard.weights()) == [CROSS.name]
    one = parts[0].weights()["decoder.cross"][:, 0]
    other = parts[1].weights()["decoder.1.cross"][:, 1]
    for n, length in enumerate(pairs.tgt.lengths.tolist()):
        last = length - 2  # BOS y1 .. yJ EOS: step J writes EOS
        shifted = other[n, [*range(1, last + 1), last]]
        expected = (one[n, : last + 1] + shifted) / 2
        torch.testing.assert_close(heard.weights()[CROSS.name][n, 0, : last + 1], expected)
    weights = torch.rand(2, 3, 4)
    assert of_written(weights, readings[0], pairs.tgt) is weights


def test_each_run_is_asked_as_its_settings_say(tmp_path):
    """Without any, as its model chooses; where a run asks for self-attention, too. No settings of the whole count."""
    names, settings = (
        ("lstm", "transformer", "transformer"),
        (
            AlignConfig(),
            AlignConfig(attention="decoder.2.cross", heads=(2,), read="input"),
            AlignConfig(attention="encoder.1.self"),
        ),
    )
    runs = [write_run(tmp_path / str(n), name, seed=n) for n, name in enumerate(names)]
    for run, align in zip(runs, settings, strict=True):
        run.replace_config(run.config.model_copy(update={"align": align}))
    model = load_ensemble(runs)
    assert model.readings == (
        Reading("decoder.cross", None, "output"),
        Reading("decoder.2.cross", (2,), "input"),
        Reading("decoder.1.cross", None, "output"),
    )
    assert choose_reading(model, settings[1], device=torch.device("cpu")) == Reading(CROSS.name, None, "output")
    runs[1].replace_config(runs[1].config.model_copy(update={"align": AlignConfig(attention="decoder.7.cross")}))
    with pytest.raises(UserError, match=r"1: the model has no attention called 'decoder\.7\.cross'"):
        load_ensemble(runs)


def test_what_an_ensemble_refuses():
    with pytest.raises(ValueError, match="needs a member"):
        Ensemble([], TGT_SIZE)
    with pytest.raises(ValueError, match="self-attention"):
        Ensemble([build("transformer")], TGT_SIZE, readings=[Reading("decoder.1.self", None, "input")])
    model = ensemble("bottleneck", "bottleneck")
    assert model.alignment is None
    with pytest.raises(ValueError, match="nothing in the model looks at the source"):
        default_reading(model)
