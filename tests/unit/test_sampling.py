"""Sampling: draws have the probabilities they should have, and depend on nothing but the seed, the key and the step."""

from __future__ import annotations

import math
import random
from collections import Counter

import pytest
import torch
from oracles import BOS, EOS, PAD, TablePredictor
from zoo import build, collate, each_model, sentences

from nmt.config import AveragePenalty, GnmtPenalty
from nmt.search.penalty import length_penalty
from nmt.search.rules import AtLeast, NoUnknown, Prefixed
from nmt.search.sampling import draw, nucleus_edge, philox, sample, uniforms, weights

SETTINGS = [(1.0, 0, 1.0), (0.6, 0, 1.0), (1.7, 0, 1.0), (1.0, 2, 1.0), (1.0, 0, 0.7), (0.8, 3, 0.8), (1.3, 2, 0.6)]


def samples(
    predictor, count, limits, *, keys=None, temperature=1.0, top_k=0, top_p=1.0, seed=1, rules=(), penalty=None
):
    with torch.no_grad():
        return sample(
            predictor,
            count=count,
            limits=torch.tensor(limits),
            keys=range(predictor.sentences) if keys is None else keys,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            seed=seed,
            penalty=penalty or length_penalty(AveragePenalty()),
            rules=rules,
        )


def distribution(log_probs, temperature, top_k, top_p):
    """What is drawn from, by the book: temper, keep the most probable, of these the nucleus; {column: probability}."""
    tempered = [math.exp(value / temperature) for value in log_probs]
    ranked = sorted((n for n in range(len(tempered)) if tempered[n] > 0), key=lambda n: -tempered[n])
    ranked = ranked[: top_k or None]
    total, nucleus, mass = math.fsum(tempered[n] for n in ranked), [], 0.0
    for n in ranked:
        if top_p < 1 and mass >= top_p:
            break
        nucleus.append(n)
        mass += tempered[n] / total
    total = math.fsum(tempered[n] for n in nucleus)
    return {n: tempered[n] / total for n in nucleus}


def outputs(table, limit, settings):
    """Every output that can be drawn from a table [L,V,V], with its probability of being drawn."""
    found, prefixes = {}, {(): 1.0}
    for position in range(limit):
        longer = {}
        for prefix, p in prefixes.items():
            row = table[position, prefix[-1] if prefix else BOS].tolist()
            row[PAD] = row[BOS] = -math.inf
            choices = {EOS: 1.0} if position + 1 == limit else distribution(row, *settings)
            for token, q in choices.items():
                (found if token == EOS else longer)[prefix if token == EOS else (*prefix, token)] = p * q
        prefixes = longer
    return found


def chi_square(observed, expected, total):
    """How probable a deviation as large as this one is; outputs expected fewer than five times count as one."""
    cells, rare = [], [0.0, 0.0]
    for output, p in expected.items():
        if p * total < 5:
            rare = [rare[0] + observed[output], rare[1] + p * total]
        else:
            cells.append((observed[output], p * total))
    cells += [tuple(rare)] if rare[1] >= 5 else []
    if len(cells) < 2:
        return 1.0
    statistic = sum((seen - mean) ** 2 / mean for seen, mean in cells)
    half = torch.tensor([(len(cells) - 1) / 2, statistic / 2], dtype=torch.float64)
    return float(torch.special.gammaincc(half[0], half[1]))


@pytest.mark.parametrize("settings", SETTINGS)
def test_frequencies(settings):
    count, limit, tables = 4000, 4, TablePredictor.random(3, 4, 6, seed=4)
    temperature, top_k, top_p = settings
    found = samples(tables, count, [limit] * 3, temperature=temperature, top_k=top_k, top_p=top_p)
    for table, hypotheses in zip(tables.tables, found, strict=True):
        observed, expected = Counter(tuple(h.tokens) for h in hypotheses), outputs(table, limit, settings)
        assert len(hypotheses) == count
        assert set(observed) <= set(expected)
        assert chi_square(observed, expected, count) > 1e-4
    if settings[1:] == (0, 1.0):  # and the test would have seen another temperature
        other = outputs(tables.tables[0], limit, (temperature * 1.2, top_k, top_p))
        assert chi_square(Counter(tuple(h.tokens) for h in found[0]), other, count) < 1e-4


def test_samples_are_independent():
    """Pairs of neighbours, among samples of a sentence and among sentences, are as frequent as their product says."""
    table = TablePredictor.random(1, 2, 6, seed=8).tables
    expected = outputs(table[0], 2, (1.0, 0, 1.0))
    pairs = {(a, b): p * q for a, p in expected.items() for b, q in expected.items()}
    found = samples(TablePredictor(table.expand(100, -1, -1, -1)), 100, [2] * 100)
    drawn = [[tuple(h.tokens) for h in hypotheses] for hypotheses in found]
    across = Counter(pair for row in drawn for pair in zip(row[::2], row[1::2], strict=True))
    down = Counter(pair for a, b in zip(drawn[::2], drawn[1::2], strict=True) for pair in zip(a, b, strict=True))
    assert chi_square(across, pairs, 5000) > 1e-4
    assert chi_square(down, pairs, 5000) > 1e-4


@pytest.mark.parametrize("columns", [3, 9, 128, 129, 1500])
@pytest.mark.parametrize("settings", [*SETTINGS, (1.0, 40, 0.9), (0.5, 0, 0.99), (1.0, 1, 1.0), (3.0, 0, 0.999)])
def test_what_is_drawn_from(columns, settings):
    generator = torch.Generator().manual_seed(columns)
    log_probs = torch.log_softmax(3 * torch.randn(20, columns, generator=generator), dim=-1)
    log_probs[:, torch.rand(columns, generator=generator) < 0.2] = -torch.inf
    log_probs[:, 1] = -1.0
    found = weights(log_probs, *settings).double()
    for row, counts in zip(log_probs, found / found.sum(dim=1, keepdim=True), strict=True):
        expected = distribution(row.tolist(), *settings)
        assert counts.nonzero()[:, 0].tolist() == sorted(expected)
        assert counts[sorted(expected)].tolist() == pytest.approx([expected[n] for n in sorted(expected)], rel=2e-5)


@pytest.mark.parametrize("top_p", [0.01, 0.3, 0.9, 0.999, 1 - 1e-12])
def test_the_nucleus_of_long_rows(top_p):
    """Found without sorting, it is the one that sorting finds."""
    generator = torch.Generator().manual_seed(1)
    counts = (torch.randn(30, 5000, generator=generator) * torch.linspace(0.1, 12, 30)[:, None]).softmax(dim=1)
    counts = counts / counts.amax(dim=1, keepdim=True)
    for row, edge in zip(counts, nucleus_edge(counts, top_p), strict=True):
        ordered = sorted(row.tolist(), reverse=True)
        total, mass, place = math.fsum(ordered), 0.0, -1
        while place + 1 < len(ordered) and mass < top_p * total - 1e-13:
            place += 1
            mass += ordered[place]
        assert float(edge) == pytest.approx(ordered[place], rel=1e-6 if top_p < 0.9999 else 1e-2)


def test_equals_of_the_last_one_kept_are_kept():
    log_probs = torch.tensor([0.4, 0.2, 0.2, 0.1, 0.1]).log()[None]
    assert (weights(log_probs, 1.0, 2, 1.0) > 0).tolist() == [[True, True, True, False, False]]
    assert (weights(log_probs, 1.0, 0, 0.5) > 0).tolist() == [[True, True, True, False, False]]
    assert (weights(log_probs, 1.0, 4, 0.55) > 0).tolist() == [[True, True, True, False, False]]


def test_a_number_picks_its_column():
    """The first column whose cumulated probability passes the number, by a loop; never one that is impossible."""
    generator = random.Random(4)
    rows = [[generator.choice([0.0, generator.random()]) for _ in range(400)] for _ in range(60)]
    numbers = [generator.choice([0.0, 1 - 2.0**-52, generator.random()]) for _ in rows]
    log_probs = torch.tensor(rows).log()
    found = draw(log_probs, torch.tensor(numbers, dtype=torch.float64), 1.0, 0, 1.0).tolist()
    for row, number, column in zip(rows, numbers, found, strict=True):
        total, passed = math.fsum(row), 0.0
        assert row[column] > 0
        for n, value in enumerate(row):
            passed += value / total
            if passed > number + 1e-6:
                assert column <= n
                break
        assert math.fsum(row[: column + 1]) / total > number - 1e-6


def test_large_rows_are_drawn_in_parts(monkeypatch):
    log_probs = torch.log_softmax(torch.randn(50, 300, generator=torch.Generator().manual_seed(1)), dim=-1)
    numbers = torch.rand(50, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    whole = draw(log_probs, numbers, 0.9, 0, 0.8)
    monkeypatch.setattr("nmt.search.sampling.CHUNK", 1000)
    assert draw(log_probs, numbers, 0.9, 0, 0.8).tolist() == whole.tolist()


@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_philox_gives_the_published_words(counter, key, words):
    """The known answers that come with Salmon et al. (2011)."""
    assert tuple(int(word) for word in philox([torch.tensor(word) for word in counter], key)) == words


def test_numbers_are_uniform_and_differ():
    names = torch.tensor([[0, 0], [1, 0], [0, 1]])
    numbers = uniforms(7, names, samples=40, first=0, steps=32)
    assert numbers.shape == (3, 40, 32)
    assert numbers.unique().numel() == numbers.numel()
    assert numbers.min() >= 0
    assert numbers.max() < 1
    tenths = Counter((numbers.flatten() * 10).long().tolist())
    assert chi_square(tenths, dict.fromkeys(range(10), 0.1), numbers.numel()) > 1e-4
    assert uniforms(7, names[1:], samples=3, first=32, steps=2).tolist() == (
        uniforms(7, names, samples=9, first=30, steps=9)[1:, :3, 2:4].tolist()
    )


@pytest.mark.parametrize("settings", SETTINGS[::2])
def test_log_probs_are_those_of_the_predictor(settings):
    """However the distribution was bent for the draw; and scores are what the penalty makes of them."""
    temperature, top_k, top_p = settings
    limits = [1, 3, 6, 6, 2]
    tables = TablePredictor.random(5, 6, 7, seed=11)
    penalty = length_penalty(GnmtPenalty(alpha=0.8))
    found = samples(tables, 30, limits, temperature=temperature, top_k=top_k, top_p=top_p, penalty=penalty)
    for table, hypotheses, limit in zip(tables.tables, found, limits, strict=True):
        for h in hypotheses:
            assert len(h.tokens) < limit
            assert not {PAD, BOS, EOS} & set(h.tokens)
            read, wrote = [BOS, *h.tokens], [*h.tokens, EOS]
            assert h.token_log_probs == [
                float(table[n, a, b]) for n, (a, b) in enumerate(zip(read, wrote, strict=True))
            ]
            assert h.log_prob == pytest.approx(sum(h.token_log_probs))
            assert h.score == pytest.approx(h.log_prob / ((5 + len(wrote)) / 6) ** 0.8)


class Counted(TablePredictor):
    """Remembers how many sentences each selection left."""

    def __init__(self, tables, selections):
        super().__init__(tables)
        self.selections = selections

    def select(self, rows):
        self.selections.append(len(rows))
        return Counted(self.tables[rows], self.selections)


@pytest.mark.parametrize("settings", [(1.0, 0, 1.0), (0.8, 4, 0.9)])
def test_a_draw_depends_on_seed_key_sample_and_step_alone(settings):
    limits = [1, 2, 40, 3, 3, 7, 70, 2, 12, 2, 5]
    tables, keys = TablePredictor.random(len(limits), 70, 9, seed=3).tables, [5, 2**40, 0, 17, 2**63, 3, 4, 9, 8, 6, 1]
    tables[:, :, :, EOS] -= 2.0  # longer outputs
    tables = tables.log_softmax(dim=-1)
    temperature, top_k, top_p = settings

    def run(numbers, count=6, seed=1, limits=limits, selections=None):
        predictor = Counted(tables[numbers], [] if selections is None else selections)
        options = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "seed": seed}
        found = samples(predictor, count, [limits[n] for n in numbers], keys=[keys[n] for n in numbers], **options)
        return dict(zip(numbers, found, strict=True))

    everything, selections = list(range(len(limits))), []
    together = run(everything, selections=selections)
    assert len(selections) > 1  # sentences were left out on the way
    assert max(len(h.tokens) for h in together[6]) > 32
    assert run(everything) == together
    assert run(everything[::-1]) == together
    for n in everything:
        assert run([n]) == {n: together[n]}
    assert run(everything, count=3) == {n: found[:3] for n, found in together.items()}
    assert run(everything, seed=2) != together
    longer = run([3, 4, 5], limits=[70] * len(limits))  # what ended of itself ends in the same way
    for n, found in longer.items():
        for ours, theirs in zip(together[n], found, strict=True):
            same = len(ours.tokens) + 1 < limits[n]
            assert ours == theirs if same else ours.tokens == theirs.tokens[: len(ours.tokens)]


def test_equal_sentences_differ_by_their_key():
    tables = TablePredictor(TablePredictor.random(1, 8, 9, seed=2).tables.expand(3, -1, -1, -1))
    one, two, same = samples(tables, 20, [8] * 3, keys=[1, 2, 1])
    assert one == same
    assert one != two


@pytest.mark.parametrize("settings", [(1e-4, 0, 1.0), (1e-45, 0, 1.0), (1.0, 1, 1.0), (1.0, 0, 1e-6)])
def test_the_limit_is_greedy(settings):
    temperature, top_k, top_p = settings
    tables = TablePredictor.random(20, 6, 7, seed=6)
    found = samples(tables, 2, [6] * 20, temperature=temperature, top_k=top_k, top_p=top_p)
    for table, hypotheses in zip(tables.tables, found, strict=True):
        tokens = []
        for position in range(6):
            row = table[position, tokens[-1] if tokens else BOS].clone()
            row[[PAD, BOS]] = -torch.inf
            tokens.append(EOS if position == 5 else int(row.argmax()))
            if tokens[-1] == EOS:
                break
        assert [h.tokens for h in hypotheses] == [tokens[:-1]] * 2


def test_rules_hold_and_leave_log_probs_alone():
    tables = TablePredictor.random(6, 7, 8, seed=9)
    prefixes = [[5, 6], [], [7], [4, 4, 4], [], [6]]
    rules = [Prefixed(prefixes, [NoUnknown(), AtLeast(torch.tensor([4, 5, 1, 6, 3, 1]))], tables.device)]
    found = samples(tables, 40, [7] * 6, rules=rules)
    for table, prefix, least, hypotheses in zip(tables.tables, prefixes, [4, 5, 1, 6, 3, 1], found, strict=True):
        assert len({tuple(h.tokens) for h in hypotheses}) > 5
        for h in hypotheses:
            assert h.tokens[: len(prefix)] == prefix
            assert 3 not in h.tokens[len(prefix) :]
            assert len(h.tokens) + 1 >= least
            read, wrote = [BOS, *h.tokens], [*h.tokens, EOS]
            assert h.token_log_probs == [
                float(table[n, a, b]) for n, (a, b) in enumerate(zip(read, wrote, strict=True))
            ]


def test_where_nothing_can_be_drawn_there_is_no_sample():
    """Of the samples that come there, and of no others."""
    tables = TablePredictor.random(3, 5, 6, seed=12).tables
    expected = samples(TablePredictor(tables), 50, [5] * 3)
    broken = tables.clone()
    broken[0, 1, 4] = -torch.inf  # who wrote 4 first can write nothing
    broken[1, 0] = math.nan
    found = samples(TablePredictor(broken), 50, [5] * 3)
    assert found[0] == [h for h in expected[0] if h.tokens[:1] != [4]]
    assert 0 < len(found[0]) < 50
    assert found[1] == []
    assert found[2] == expected[2]


class Shortlisted(TablePredictor):
    """Columns of its own for each sentence, [B,C] filled up with PAD."""

    def __init__(self, tables, columns):
        super().__init__(tables)
        self.columns = columns

    def step(self, tokens, state):
        log_probs, state = super().step(tokens, state)
        names = self.columns.repeat_interleave(len(tokens) // self.sentences, dim=0)
        void = (names == PAD).index_fill(1, torch.tensor([0]), False)
        return log_probs.gather(1, names).masked_fill(void, -torch.inf), state

    def select(self, rows):
        return Shortlisted(self.tables[rows], self.columns[rows])


def test_columns_are_read_as_tokens():
    tables = TablePredictor.random(4, 6, 9, seed=5).tables
    lists = [[0, 1, 2, 3, 8, 5], [0, 1, 2, 3, 4, 5, 6, 7, 8], [0, 1, 2, 3, 7], [0, 1, 2, 3]]
    columns = torch.tensor([[*row, *[PAD] * (9 - len(row))] for row in lists])
    found = samples(Shortlisted(tables, columns), 40, [6, 6, 3, 6])
    assert found[1] == samples(TablePredictor(tables), 40, [6] * 4)[1]  # all of them, in their order
    for table, row, hypotheses in zip(tables, lists, found, strict=True):
        assert {token for h in hypotheses for token in h.tokens} == set(row[3:])
        for h in hypotheses:
            read, wrote = [BOS, *h.tokens], [*h.tokens, EOS]
            assert h.token_log_probs == [
                float(table[n, a, b]) for n, (a, b) in enumerate(zip(read, wrote, strict=True))
            ]
    alone = Shortlisted(tables[2:3], columns[2:3, :5])  # filled up with fewer
    assert samples(alone, 40, [3], keys=[2]) == [found[2]]


@each_model
def test_models(name):
    """A batch changes no sample, and forced scoring gives its log-probabilities again."""
    model, src, limits = build(name), sentences(5), [3, 9, 6, 9, 1]
    found = samples(model.predictor(collate(src)), 3, limits)
    for n, (source, limit) in enumerate(zip(src, limits, strict=True)):
        (alone,) = samples(model.predictor(collate([source])), 3, [limit], keys=[n])
        for ours, theirs in zip(found[n], alone, strict=True):
            assert ours.tokens == theirs.tokens
            with torch.no_grad():
                nll = model(collate([source], [ours.tokens])).nll[0]
            assert ours.token_log_probs == pytest.approx((-nll).tolist(), abs=1e-4)
