"""Search under every penalty, rule and way to stop equals brute force where brute force is possible."""

import itertools
import math

import pytest
import torch
from oracles import TablePredictor, exhaustive
from zoo import MEAN, TGT_SIZE, build, collate, each_model, sentences

from nmt.config import AveragePenalty, GnmtPenalty, NoPenalty, RewardPenalty
from nmt.data.batch import EOS, PAD, UNK
from nmt.search.beam import beam_search, top
from nmt.search.penalty import best_possible, length_penalty
from nmt.search.rules import AtLeast, ByText, Columns, NoRepeat, NoUnknown, Prefixed, Step

CPU = torch.device("cpu")
PENALTIES = {
    "none": (NoPenalty(), lambda p, n: p),
    "average": (AveragePenalty(alpha=0.8), lambda p, n: p / n**0.8),
    "gnmt": (GnmtPenalty(alpha=0.6), lambda p, n: p / ((5 + n) / 6) ** 0.6),
    "reward": (RewardPenalty(reward=0.7), lambda p, n: p + 0.7 * n),
    "toll": (RewardPenalty(reward=-0.7), lambda p, n: p - 0.7 * n),
}


def runs(tokens, size):
    return [tuple(tokens[n : n + size]) for n in range(len(tokens) - size + 1)]


def never(*sequences):
    """Sequences of tokens that are not written, by a function of what is written so far."""

    def forbidden(sentence, ids):
        return frozenset(last for *before, last in sequences if ids[len(ids) - len(before) :] == before), False

    return ByText(forbidden)


RULES = {
    "none": ([], lambda t: True),
    "no unknown": ([NoUnknown()], lambda t: UNK not in t),
    "no token twice": ([NoRepeat(1)], lambda t: len(set(t)) == len(t)),
    "no bigram twice": ([NoRepeat(2)], lambda t: len(set(runs(t, 2))) == len(runs(t, 2))),
    "never 4": ([never([4])], lambda t: 4 not in t),
    "never 3 4 and 5 5": ([never([3, 4], [5, 5])], lambda t: not {(3, 4), (5, 5)} & set(runs(t, 2))),
    "no end after 4": (
        [ByText(lambda _, ids: (frozenset([EOS, 99] if ids[-1:] == [4] else []), False))],
        lambda t: t[-1:] != [4],
    ),
    "at least 3": ([AtLeast(torch.full((50,), 3))], lambda t: len(t) + 1 >= 3),
    "after 4": ([Prefixed([[4]] * 50, [], CPU)], lambda t: t[:1] == [4]),
    "after 4 4, then no bigram twice": (
        [Prefixed([[4, 4]] * 50, [NoRepeat(2)], CPU)],
        lambda t: t[:2] == [4, 4] and all(r not in runs(t, 2)[:n] for n, r in enumerate(runs(t, 2)) if n + 2 > 2),
    ),
    "many": (
        [NoUnknown(), NoRepeat(2), AtLeast(torch.full((50,), 2))],
        lambda t: UNK not in t and len(set(runs(t, 2))) == len(runs(t, 2)) and len(t) >= 1,
    ),
}


def search(predictor, beam, limits, **settings):
    settings = {"penalty": MEAN, **settings}
    with torch.no_grad():
        return beam_search(predictor, beam=beam, limits=torch.tensor(limits), **settings)


def check_all(found, tables, limit, score, allowed):
    for table, hypotheses in zip(tables, found, strict=True):
        expected = exhaustive(table, limit, score, allowed)
        scores = [s for _, s, _ in expected]
        assert [h.score for h in hypotheses] == pytest.approx(scores, rel=1e-4, abs=1e-5)
        assert {tuple(h.tokens) for h in hypotheses} == {tuple(tokens) for tokens, _, _ in expected}
        by_tokens = {tuple(tokens): (s, p) for tokens, s, p in expected}
        for h in hypotheses:
            assert (h.score, h.log_prob) == pytest.approx(by_tokens[tuple(h.tokens)], rel=1e-4, abs=1e-5)
            assert math.fsum(h.token_log_probs) == pytest.approx(h.log_prob, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("stop", ["first_k", "exact"])
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("penalty", PENALTIES)
def test_wide_beam_is_exhaustive(penalty, rule, stop):
    """Fifty tables each, with all outputs in the n-best list."""
    (config, score), (rules, allowed) = PENALTIES[penalty], RULES[rule]
    size, limit = 6, 4
    tables = TablePredictor.random(50, limit, size, seed=len(penalty) * 100 + len(rule))
    found = search(tables, 40, [limit] * 50, penalty=length_penalty(config), rules=rules, stop=stop)
    check_all(found, tables.tables, limit, score, allowed)


@pytest.mark.parametrize("limit", [1, 2, 3, 5])
@pytest.mark.parametrize("size", [4, 5])
def test_rules_hold_at_every_limit(limit, size):
    rules, allowed = RULES["many"]
    tables = TablePredictor.random(50, limit, size, seed=limit)
    found = search(tables, 40, [limit] * 50, rules=rules)
    check_all(found, tables.tables, limit, lambda p, n: p / n, allowed)


@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.parametrize("beam", [1, 2, 3, 4])
def test_exact_is_never_worse(penalty, beam):
    """And is what search without any stopping finds: nothing that would still have come is better."""
    chosen = length_penalty(PENALTIES[penalty][0])
    tables = TablePredictor.random(100, 7, 6, seed=beam)
    early = search(tables, beam, [7] * 100, penalty=chosen)
    exact = search(tables, beam, [7] * 100, penalty=chosen, stop="exact")

    def never_stops(log_prob, length):  # of all live prefixes anything may come
        score = chosen(log_prob, length)
        return score if isinstance(length, int) and log_prob.ndim == 2 else torch.full_like(score, torch.inf)

    endless = search(tables, beam, [7] * 100, penalty=never_stops, stop="exact")
    better = 0
    for a, b, c in zip(early, exact, endless, strict=True):
        assert b[0].score >= a[0].score
        assert [h.tokens for h in b] == [h.tokens for h in c]
        better += b[0].score > a[0].score
    assert better > 0 or beam == 1 or penalty not in ("average", "reward")  # where scores may still rise


@pytest.mark.parametrize("penalty", PENALTIES)
def test_what_a_prefix_can_still_reach_bounds_all_that_follows(penalty):
    chosen = length_penalty(PENALTIES[penalty][0])
    for length, limit in itertools.combinations_with_replacement(range(1, 9), 2):
        log_prob = torch.tensor([-0.1, -3.0])
        bound = best_possible(chosen, log_prob, length, torch.tensor(limit))
        for final, more in itertools.product(range(length, limit + 1), [0.0, -0.5]):
            assert (chosen(log_prob + more, final) <= bound + 1e-6).all()


def test_within_a_word_that_may_not_be_said_only_what_is_likely_follows():
    rule = ByText(lambda _, ids: (frozenset([5]), ids[-1:] == [4]))
    step = Step(torch.arange(1), torch.tensor([[[4], [4], [6]]]), Columns(None))
    rows = [[0, 0, 0.5, 0.1, 0.005, 0.3], [0, 0, 0.005, 0.005, 0.005, 0.9], [0, 0, 0, 0, 0.005, 0.9]]
    log_probs = torch.tensor([rows]).log_()
    rule(log_probs, step)
    expected = [[0, 0, 0.5, 0.1, 0, 0], [0] * 6, [0, 0, 0, 0, 0.005, 0]]
    assert log_probs.exp()[0].tolist() == [pytest.approx(row) for row in expected]


def test_rules_that_leave_nothing_give_nothing():
    tables = TablePredictor.random(3, 5, 5, seed=1)
    rules = [Prefixed([[4, 4, 4, 4], [4], []], [NoUnknown(), never([4]), AtLeast(torch.tensor([5, 3, 1]))], CPU)]
    found = search(tables, 2, [5, 4, 4], rules=rules)
    assert [[h.tokens for h in hypotheses] for hypotheses in found] == [[[4, 4, 4, 4]], [], [[]]]


@each_model
def test_rules_are_blind_to_the_batch(name):
    """With different prefixes and lengths, sentences come out as if each were alone."""
    model, src = build(name), sentences(5)
    prefixes = [[], [4], [5, 6, 7], [], [8, 8]]
    least = [1, 4, 2, 6, 1]

    def rules(rows):
        inner = [NoUnknown(), NoRepeat(2), AtLeast(torch.tensor([least[n] for n in rows]))]
        return [Prefixed([prefixes[n] for n in rows], inner, CPU)]

    limits = [len(s) + 4 for s in src]
    together = search(model.predictor(collate(src)), 3, limits, rules=rules(range(5)))
    for n, hypotheses in enumerate(together):
        (alone,) = search(model.predictor(collate([src[n]])), 3, limits[n : n + 1], rules=rules([n]))
        assert [h.tokens for h in alone] == [h.tokens for h in hypotheses]
        assert [h.score for h in alone] == pytest.approx([h.score for h in hypotheses], rel=1e-5)
        for h in hypotheses:
            assert h.tokens[: len(prefixes[n])] == prefixes[n]
            assert len(h.tokens) + 1 >= least[n]


# Shortlists


def shortlist(rows):
    """Lists of tokens, filled up."""
    width = max(map(len, rows))
    return torch.tensor([[*row, *[PAD] * (width - len(row))] for row in rows])


@each_model
def test_a_shortlist_of_everything_changes_nothing(name):
    model, src = build(name), sentences(5)
    batch = collate(src)
    everything = list(range(TGT_SIZE + batch.extras))
    limits = [len(s) + 3 for s in src]
    with torch.no_grad():
        short = model.predictor(batch, shortlist([everything, everything[:4], *[everything] * 3]))
        short.subset = model.head.subset(shortlist([[*everything[:4], *everything[:3:-1]]] * 5))  # in another order
    plain = search(model.predictor(batch), 4, limits)
    for a, b in zip(search(short, 4, limits), plain, strict=True):
        assert [h.tokens for h in a] == [h.tokens for h in b]
        assert [h.score for h in a] == pytest.approx([h.score for h in b], rel=1e-5)


@each_model
def test_a_shortlist_is_all_that_is_written(name):
    """The distribution is that of the model, confined to the list; other sentences' lists do not matter."""
    model, src = build(name), sentences(3)
    batch = collate(src)
    lists = [[0, 1, 2, 3, 7, 9], [0, 1, 2, 3, 5, 6, 11, 4], [0, 1, 2, 3]]
    limits = [6, 7, 8]
    with torch.no_grad():
        found = search(model.predictor(batch, shortlist(lists)), 3, limits)
        for n, hypotheses in enumerate(found):
            assert {token for h in hypotheses for token in h.tokens} <= set(lists[n])
            (alone,) = search(model.predictor(collate([src[n]]), shortlist([lists[n]])), 3, limits[n : n + 1])
            assert [h.tokens for h in alone] == [h.tokens for h in hypotheses]
            assert [h.score for h in alone] == pytest.approx([h.score for h in hypotheses], rel=1e-5)


@pytest.mark.parametrize("name", ["lstm", "transformer"])
def test_a_shortlist_renormalises_the_vocabulary(name):
    model = build(name)
    with torch.no_grad():
        source = model.read(collate([[4, 5], [6, 7]]))
        state = model.decoder.start(source, 4, 3)
        features, _ = model.decoder.step(torch.ones(4, dtype=torch.int64), state, source)
        lists = shortlist([[0, 1, 2, 3, 9, 5], [0, 1, 2, 3, 8]])
        some = model.head.log_probs(features, source, model.head.subset(lists))
        every = model.head.log_probs(features, source)
    for b, row in enumerate(([0, 1, 2, 3, 9, 5], [0, 1, 2, 3, 8])):
        expected = torch.log_softmax(every[b][:, row], dim=-1)
        torch.testing.assert_close(some[b][:, : len(row)], expected, atol=1e-5, rtol=0)
        assert (some[b][:, len(row) :] == -torch.inf).all()


def test_rules_find_their_tokens_in_a_shortlist():
    lists = shortlist([[0, 1, 2, 3, 9, 5], [0, 1, 2, 3, 8]])
    columns = Columns(lists)
    written = torch.tensor([[[9, 5]], [[8, 8]]])
    step = Step(torch.arange(2), written, columns)
    log_probs = torch.zeros(2, 1, 6)
    never([5, 9], [8, 8], [7], [500])(log_probs, step)
    assert log_probs[:, 0].tolist() == [[0, 0, 0, 0, -torch.inf, 0], [0, 0, 0, 0, -torch.inf, 0]]
    log_probs = torch.zeros(2, 1, 6)
    Prefixed([[1, 1, 5], [1, 1, 9]], [], CPU)(log_probs, step)
    assert log_probs[0, 0].tolist() == [-torch.inf] * 5 + [0]
    assert (log_probs[1] == -torch.inf).all()  # 9 is not in the list of the second


@pytest.mark.parametrize("size", [37, 640, 8000, 8001])
@pytest.mark.parametrize("count", [1, 2, 10])
def test_top_is_topk(size, count):
    values = torch.randn(7, 3, size, generator=torch.Generator().manual_seed(size))
    values[0, 0, 5:] = -torch.inf
    found, places = top(values, count)
    expected, _ = values.topk(count, dim=-1)
    assert torch.equal(found, expected)
    assert torch.equal(values.gather(-1, places), expected)
    assert all(len(set(row)) == count for row in places.flatten(0, 1).tolist())
