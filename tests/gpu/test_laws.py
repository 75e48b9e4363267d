"""Models, search, translation and scoring on a device against the CPU."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from oracles import TablePredictor, exhaustive
from zoo import MEAN, WORDS, batch, build, collate, each_attentive, each_model, sentences, write_run

from nmt.config import SearchConfig
from nmt.device import autocast
from nmt.score import score_pairs
from nmt.search.beam import beam_search
from nmt.search.rules import AtLeast
from nmt.search.sampling import sample
from nmt.translate import Translator

CPU = torch.device("cpu")
MARGIN = 1e-4
"""Where the scores of two hypotheses are nearer than this, rounding may decide which comes first."""


def both(name, device):
    """The zoo member on the CPU and on the device."""
    return build(name), build(name).to(device)


def clear(scores):
    """Whether no two neighbours are so near that they may trade places."""
    return all(a - b > MARGIN for a, b in pairwise(scores))


@each_model
def test_losses_are_those_of_the_cpu(name, device):
    here, there = both(name, device)
    expected, found = here(batch(8), 0.1), there(batch(8).to(device), 0.1)
    assert found.nll.device.type == device.type
    assert found.nll.dtype == found.objective.dtype == torch.float32
    torch.testing.assert_close(found.nll.cpu(), expected.nll, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found.objective.cpu(), expected.objective, atol=1e-4, rtol=1e-4)


@each_model
def test_gradients_are_those_of_the_cpu(name, device):
    """In training mode, for cuDNN's recurrent layers have no backward pass in the other; so dropout is taken out."""
    gradients = []
    for model, place in zip(both(name, device), (CPU, device), strict=True):
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
            elif isinstance(module, torch.nn.RNNBase):
                module.dropout = 0.0
        losses = model.train()(batch(8).to(place), 0.1)
        gradients.append(torch.autograd.grad(losses.objective.mean(), list(model.parameters())))
    for expected, found in zip(*gradients, strict=True):
        torch.testing.assert_close(found.cpu(), expected, atol=1e-4, rtol=1e-3)


@each_model
def test_bfloat16_is_close(name, device):
    here, there = both(name, device)
    with torch.inference_mode(), autocast(device, "bfloat16"):
        low = there(batch(8).to(device)).nll
    assert low.dtype == torch.float32
    exact = here(batch(8)).nll
    assert (low.cpu().sum() - exact.sum()).abs() < 0.03 * exact.sum()


@each_model
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_step_equals_decode(name, precision, device):
    near = {"atol": 1e-4, "rtol": 1e-4} if precision == "float32" else {"atol": 0.25, "rtol": 0.05}
    model, pairs = build(name).to(device), batch().to(device)
    with torch.inference_mode(), autocast(device, precision):
        source = model.read(pairs)
        expected = model.head.log_probs(model.decoder.decode(pairs.tgt.ids[:, :-1], source), source)
        predictor = model.predictor(pairs)
        state = predictor.start(1, expected.shape[1])
        for t in range(expected.shape[1]):
            log_probs, state = predictor.step(pairs.tgt.ids[:, t], state)
            assert log_probs.dtype == torch.float32
            torch.testing.assert_close(log_probs, expected[:, t], **near)


@each_attentive
def test_weights_sum_to_one_and_padding_gets_none(name, device):
    model, pairs, seen = build(name).to(device), batch().to(device), []

    def probe(heard, weights, _values):
        if heard == model.decoder.alignment.name:
            seen.append(weights)
        return weights

    with torch.inference_mode(), autocast(device, "bfloat16"):
        model.attend(pairs, probe)
    weights = torch.cat(seen, dim=2)  # [B,H,T,S]
    torch.testing.assert_close(weights.sum(-1), torch.ones_like(weights[..., 0]), atol=1e-5, rtol=0)
    assert (weights.masked_select(~pairs.src.mask[:, None, None]) == 0).all()


def search(model, src, device, beam):
    limits = torch.tensor([len(s) + 3 for s in src])  # on the CPU, as the translator gives them
    with torch.inference_mode():
        return beam_search(model.predictor(collate(src).to(device)), beam=beam, limits=limits, penalty=MEAN)


@each_model
@pytest.mark.parametrize("beam", [1, 4])
def test_search_is_that_of_the_cpu(name, beam, device):
    here, there = both(name, device)
    src = sentences(9)
    for source, expected, found in zip(
        src, search(here, src, CPU, beam), search(there, src, device, beam), strict=True
    ):
        scores = [h.score for h in expected]
        assert [h.score for h in found] == pytest.approx(scores, abs=MARGIN)
        if clear(scores):
            assert [h.tokens for h in found] == [h.tokens for h in expected]
        for h in found:  # and each is as probable as it says
            with torch.inference_mode():
                nll = here(collate([source], [h.tokens])).nll[0]
            assert h.token_log_probs == pytest.approx((-nll).tolist(), abs=MARGIN)


class DeviceTables(TablePredictor):
    """The oracle, with its state and its index tensors on the device."""

    def start(self, beams, steps):
        state = super().start(beams, steps)
        return state._replace(read=state.read.to(self.device))

    def step(self, tokens, state):
        position, beams = state.read.shape[1], len(tokens) // self.sentences
        tables = self.tables[:, position].repeat_interleave(beams, dim=0)
        log_probs = tables[torch.arange(len(tokens), device=self.device), tokens]
        return log_probs, state._replace(read=torch.cat([state.read, tokens[:, None]], dim=1))

    def select(self, sentences):
        return DeviceTables(self.tables[sentences])


def test_wide_beam_is_exhaustive(device):
    tables = TablePredictor.random(12, 4, 5, seed=3).tables
    found = beam_search(DeviceTables(tables.to(device)), beam=15, limits=torch.full((12,), 4), penalty=MEAN)
    for table, hypotheses in zip(tables, found, strict=True):
        expected = exhaustive(table, 4, 1.0)
        scores = [score for _, score, _ in expected]
        assert [h.score for h in hypotheses] == pytest.approx(scores, rel=1e-4)
        if clear(scores):
            assert [h.tokens for h in hypotheses] == [tokens for tokens, _, _ in expected]


@each_model
@pytest.mark.parametrize("beam", [1, 5])
def test_a_search_step_synchronises_once(name, beam, device, synchronisations):
    """Twenty more steps, and at most one more synchronisation for each of them."""
    model, pairs = build(name).to(device), collate(sentences(6)).to(device)

    def count(steps):
        with torch.inference_mode():
            predictor = model.predictor(pairs)
            limits = torch.full((6,), steps)
            rules = [AtLeast(limits.to(device))]
            return synchronisations(lambda: beam_search(predictor, beam=beam, limits=limits, penalty=MEAN, rules=rules))

    count(4)  # the first use loads kernels
    assert count(40) - count(20) <= 20


LINES = [" ".join(WORDS[n : n + 1 + n % 6]) for n in range(len(WORDS) - 6)] + ["", "nothing known here"]


def check_like(found, expected):
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected, strict=True):
        scores = [candidate.hypothesis.score for candidate in theirs.candidates]
        assert [candidate.hypothesis.score for candidate in ours.candidates] == pytest.approx(scores, abs=MARGIN)
        if clear(scores):
            assert [candidate.text for candidate in ours.candidates] == [
                candidate.text for candidate in theirs.candidates
            ]


@pytest.mark.parametrize("name", ["lstm-deep-feeding", "gru", "transformer"])
def test_translator(name, device, tmp_path):
    run = write_run(tmp_path / "run", name)
    expected = list(Translator.load(run.path, device="cpu").translate(LINES, nbest=5))
    check_like(list(Translator.load(run.path, device=str(device)).translate(LINES, nbest=5)), expected)
    # as validation makes it: of a model that is on the device already, and trains on
    model = build(name).to(device).train()
    translator = Translator(model, run.tokenizers(), run.config.search, device=device)
    check_like(list(translator.translate(LINES, nbest=5)), expected)
    assert model.training
    model(batch().to(device)).nll.sum().backward()


def test_translator_in_bfloat16_scores_alike(device, tmp_path):
    """In search the weights themselves are rounded; what it finds is scored again in float32."""
    run = write_run(tmp_path / "run", "lstm-feeding").path
    low = Translator.load(run, device=str(device), search=SearchConfig(precision="bfloat16"))
    assert {parameter.dtype for parameter in low.model.parameters()} == {torch.bfloat16}
    lines = [line for line in LINES if line]
    found = [translation.candidates[0] for translation in low.translate(lines)]
    pairs = list(zip(lines, (candidate.text for candidate in found), strict=True))
    for candidate, score in zip(found, score_pairs(Translator.load(run, device="cpu"), pairs), strict=True):
        length = len(score.token_log_probs)
        assert candidate.hypothesis.log_prob / length == pytest.approx(score.log_prob / length, abs=0.15)


def test_scores_are_those_of_the_cpu(device, tmp_path):
    run = write_run(tmp_path / "run", "gru-feeding").path
    pairs = [(line, " ".join(reversed(line.split()))) for line in LINES if line]
    here, there = (list(score_pairs(Translator.load(run, device=place), pairs)) for place in ("cpu", str(device)))
    for expected, found in zip(here, there, strict=True):
        assert found.token_log_probs == pytest.approx(expected.token_log_probs, abs=MARGIN)


SAMPLING = {"temperature": 0.8, "top_k": 4, "top_p": 0.9, "seed": 3}


def draw(predictor, limits, **options):
    keys = range(predictor.sentences)
    with torch.inference_mode():
        return sample(predictor, count=5, limits=limits, keys=keys, penalty=MEAN, **SAMPLING, **options)


def test_samples_are_those_of_the_cpu(device):
    """Of a table, whose probabilities are the same everywhere; a draw on an edge may fall to either side."""
    tables = TablePredictor.random(12, 4, 7, seed=3).tables
    here, there = (draw(DeviceTables(tables.to(place)), torch.full((12,), 4)) for place in (device, "cpu"))
    same = [a.tokens == b.tokens for x, y in zip(here, there, strict=True) for a, b in zip(x, y, strict=True)]
    assert sum(same) >= len(same) - 1


@pytest.mark.parametrize("name", ["lstm", "transformer", "copy"])
def test_a_sampling_step_synchronises_once(name, device, synchronisations):
    model, pairs = build(name).to(device), batch().to(device)
    count = len(pairs.src.ids)

    def syncs(steps):
        limits = torch.full((count,), steps)
        predictor = model.predictor(pairs)
        return synchronisations(lambda: draw(predictor, limits, rules=[AtLeast(limits.to(device))]))

    syncs(4)  # the first use loads kernels
    assert syncs(40) - syncs(20) <= 20


@pytest.mark.parametrize("name", ["lstm", "transformer", "copy"])
def test_a_shortlist_is_that_of_the_cpu(name, device):
    src = sentences(4)
    lists = torch.tensor([[0, 1, 2, 3, 5, 6, 7 + n] for n in range(4)])
    limits = torch.tensor([len(s) + 3 for s in src])
    found = []
    for place in (device, torch.device("cpu")):
        with torch.inference_mode():
            predictor = build(name).to(place).predictor(collate(src).to(place), lists.to(place))
            found.append(beam_search(predictor, beam=3, limits=limits, penalty=MEAN))
    for one, other in zip(*found, strict=True):
        assert [h.score for h in one] == pytest.approx([h.score for h in other], rel=1e-3, abs=1e-4)
