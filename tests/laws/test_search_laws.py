"""Laws of beam search: exact where brute force is possible, and blind to how sentences are batched."""

import pytest
import torch
from oracles import TablePredictor, exhaustive
from zoo import TGT_SIZE, ZOO, batch, build, collate, each_model, sentences

from nmt.config import AveragePenalty
from nmt.data.batch import BOS, EOS, PAD
from nmt.search.beam import beam_search
from nmt.search.penalty import length_penalty as make_penalty


def search(predictor, beam, limits, length_penalty=1.0, **settings):
    penalty = make_penalty(AveragePenalty(alpha=length_penalty))
    with torch.no_grad():
        return beam_search(predictor, beam=beam, limits=torch.tensor(limits), penalty=penalty, **settings)


def greedy(predictor, limit):
    """The most probable token at each step, for a predictor of one sentence."""
    state, tokens, output, total = predictor.start(1, limit), torch.tensor([BOS]), [], 0.0
    for step in range(limit):
        log_probs, state = predictor.step(tokens, state)
        row = log_probs[0].clone()
        row[[PAD, BOS]] = -torch.inf
        choice = EOS if step + 1 == limit else int(row.argmax())
        total += float(row[choice])
        if choice == EOS:
            break
        output.append(choice)
        tokens = torch.tensor([choice])
    return output, total


@pytest.mark.parametrize("size", [4, 5, 6])
@pytest.mark.parametrize("limit", [1, 2, 3, 4])
@pytest.mark.parametrize("length_penalty", [0.0, 0.6, 1.0])
def test_wide_beam_is_exhaustive(size, limit, length_penalty):
    """With room for every prefix, all hypotheses come out in order, with their scores."""
    tables = TablePredictor.random(12, limit, size, seed=size * 100 + limit)
    words = size - 3
    everything = sum(words**n for n in range(limit))
    found = search(tables, max(everything, size), [limit] * 12, length_penalty)
    for table, hypotheses in zip(tables.tables, found, strict=True):
        expected = exhaustive(table, limit, length_penalty)
        assert [h.tokens for h in hypotheses] == [tokens for tokens, _, _ in expected]
        assert [h.score for h in hypotheses] == pytest.approx([score for _, score, _ in expected], rel=1e-5)
        assert [h.log_prob for h in hypotheses] == pytest.approx([p for _, _, p in expected], rel=1e-5)


@pytest.mark.parametrize("seed", range(40))
def test_beam_one_is_greedy(seed):
    limit = 6
    tables = TablePredictor.random(9, limit, 4 + seed % 4, seed)
    found = search(tables, 1, [limit] * 9)
    for n, (best,) in enumerate(found):
        tokens, log_prob = greedy(tables.select(torch.tensor([n])), limit)
        assert best.tokens == tokens
        assert best.log_prob == pytest.approx(log_prob, rel=1e-5)


@each_model
def test_beam_one_of_a_model_is_greedy(name):
    model = build(name)
    src = sentences(6)
    found = search(model.predictor(collate(src)), 1, [9] * 6)
    for n, (best,) in enumerate(found):
        with torch.no_grad():
            assert best.tokens == greedy(model.predictor(collate([src[n]])), 9)[0]


@pytest.mark.parametrize("beam", [1, 2, 3, 5])
def test_compaction_changes_nothing(beam):
    """Sentences with limits from 1 to 7 leave the batch at different times; each comes out as if it were alone."""
    limits = [1 + n % 7 for n in range(20)]
    tables = TablePredictor.random(20, 7, 6, seed=beam)
    together = search(tables, beam, limits)
    for n, hypotheses in enumerate(together):
        (alone,) = search(tables.select(torch.tensor([n])), beam, limits[n : n + 1])
        assert [h.tokens for h in alone] == [h.tokens for h in hypotheses]
        assert [h.score for h in alone] == pytest.approx([h.score for h in hypotheses])
        assert [t for h in alone for t in h.token_log_probs] == pytest.approx(
            [t for h in hypotheses for t in h.token_log_probs], abs=1e-5
        )


@each_model
@pytest.mark.parametrize("beam", [1, 4])
def test_batch_changes_no_translation(name, beam):
    model = build(name)
    src = sentences(7)
    limits = [len(s) + 3 for s in src]
    together = search(model.predictor(collate(src)), beam, limits)
    for n, hypotheses in enumerate(together):
        (alone,) = search(model.predictor(collate([src[n]])), beam, limits[n : n + 1])
        assert [h.tokens for h in alone] == [h.tokens for h in hypotheses]
        assert [h.score for h in alone] == pytest.approx([h.score for h in hypotheses], rel=1e-5)


@each_model
def test_score_is_rescored(name):
    """Scoring an output gives the log-probability that search reported, token by token."""
    model = build(name)
    src = sentences(6)
    found = search(model.predictor(collate(src)), 4, [8] * 6, length_penalty=0.7)
    for source, hypotheses in zip(src, found, strict=True):
        for h in hypotheses:
            with torch.no_grad():
                nll = model(collate([source], [h.tokens])).nll[0]
            assert h.token_log_probs == pytest.approx((-nll).tolist(), abs=2e-5)
            assert h.log_prob == pytest.approx(float(-nll.sum()), rel=1e-5)
            assert h.score == pytest.approx(h.log_prob / (len(h.tokens) + 1) ** 0.7, rel=1e-5)


@each_model
def test_hypotheses_are_distinct_sorted_and_within_limits(name):
    model = build(name)
    limits = [1, 2, 3, 5, 8]
    for limit, hypotheses in zip(limits, search(model.predictor(batch()), 5, limits), strict=True):
        assert 1 <= len(hypotheses) <= 5
        assert len({tuple(h.tokens) for h in hypotheses}) == len(hypotheses)
        assert [h.score for h in hypotheses] == sorted((h.score for h in hypotheses), reverse=True)
        for h in hypotheses:
            assert len(h.tokens) + 1 <= limit
            assert not {PAD, BOS, EOS} & set(h.tokens)


@pytest.mark.parametrize("beam", [2, 3, 5])
def test_unlikely_ends_do_not_stop_a_likely_sentence(beam):
    """A model that is sure of each next token, with EOS second at every step: K ends that nobody wants are finished
    long before the sentence is."""
    length, size = 12, 9
    logits = torch.full((1, length + 1, size, size), -10.0)
    logits[..., EOS] = -4.0
    logits[:, torch.arange(length), :, 4 + torch.arange(length) % 5] = 2.0
    logits[:, length, :, EOS] = 2.0
    best = search(TablePredictor(torch.log_softmax(logits, dim=-1)), beam, [length + 1])[0][0]
    assert best.tokens == [4 + n % 5 for n in range(length)]


@pytest.mark.parametrize("name", [name for name in ZOO if ZOO[name].head.kind == "copy"])
def test_wide_beam_is_exhaustive_over_copied_words_too(name):
    """Every output of at most two tokens, scored one by one by the forced pass, comes out in its order."""
    model, src = build(name), [[17, 5, 18, 17], [4, 18]]
    extras, limit = 2, 3  # the second sentence has one word to copy beyond the vocabulary
    found = search(model.predictor(collate(src)), 420, [limit] * 2)
    for source, beyond, hypotheses in zip(src, (extras, 1), found, strict=True):
        words = range(3, TGT_SIZE + beyond)
        outputs = [[], *([a] for a in words), *([a, b] for a in words for b in words)]
        with torch.no_grad():
            nll = model(collate([source] * len(outputs), outputs)).nll.sum(1)
        scores = sorted((-float(n) / (len(o) + 1), o) for n, o in zip(nll, outputs, strict=True))[::-1]
        assert len(hypotheses) == len(outputs)
        assert [h.score for h in hypotheses] == pytest.approx([score for score, _ in scores], rel=1e-4, abs=1e-5)
        assert hypotheses[0].tokens == scores[0][1]
        assert {tuple(h.tokens) for h in hypotheses} == {tuple(o) for o in outputs}
        assert any(token >= TGT_SIZE for h in hypotheses[:50] for token in h.tokens)
