"""Schedules against the published formulae, worked out by hand; updates against a plain Adam; steps however cut."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from nmt.config import (
    AdamConfig,
    ConstantSchedule,
    InverseSqrtSchedule,
    LinearSchedule,
    NoamSchedule,
    PlateauSchedule,
    TrainConfig,
)
from nmt.data.batch import Batch, collate
from nmt.models.interface import TokenLosses
from nmt.train.objective import Objective
from nmt.train.optim import after_validation, learning_rate, make_optimizer
from nmt.train.step import label_tokens, train_step

CPU = torch.device("cpu")


def test_constant_warms_up_linearly_and_stays():
    schedule = ConstantSchedule(warmup=4)
    assert [learning_rate(schedule, 2.0, s) for s in (1, 2, 4, 5, 1000)] == [0.5, 1.0, 2.0, 2.0, 2.0]
    assert learning_rate(ConstantSchedule(), 2.0, 1) == 2.0


def test_inverse_sqrt_peaks_at_the_end_of_warmup():
    schedule = InverseSqrtSchedule(warmup=100)
    rates = [learning_rate(schedule, 1e-3, s) for s in (1, 50, 100, 400, 10000)]
    assert rates == pytest.approx([1e-5, 5e-4, 1e-3, 5e-4, 1e-4])


def test_linear_comes_down_to_nothing_after_its_last_step():
    schedule = LinearSchedule(warmup=4, steps=9)
    rates = [learning_rate(schedule, 6.0, s) for s in range(1, 12)]
    assert rates == pytest.approx([1.5, 3.0, 4.5, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0, 0.0, 0.0])
    assert learning_rate(LinearSchedule(steps=3), 3.0, 1) == 3.0


@pytest.mark.parametrize(
    ("schedule", "reason"),
    [({"steps": 5, "warmup": 5}, "nothing is left to come down in"), ({"steps": 9}, "the rate is 0 from update 10 on")],
)
def test_linear_has_to_fit(schedule, reason):
    with pytest.raises(ValueError, match=reason):
        TrainConfig(steps=10, schedule={"kind": "linear", **schedule})


@pytest.mark.parametrize("step", [1, 37, 4000, 4001, 100_000])
def test_noam_is_equation_3_of_vaswani_2017(step):
    schedule = NoamSchedule(warmup=4000, width=512)
    expected = 2.0 * 512**-0.5 * min(step**-0.5, step * 4000**-1.5)
    assert learning_rate(schedule, 2.0, step) == pytest.approx(expected)


def test_noam_peak_of_the_base_transformer():
    assert learning_rate(NoamSchedule(), 1.0, 4000) == pytest.approx(1 / math.sqrt(512 * 4000))  # 6.99e-4


def test_plateau_halves_after_patience_validations_without_improvement():
    schedule = PlateauSchedule(factor=0.5, patience=2)
    scale, stale, scales = 1.0, 0, []
    for improved in [True, False, True, False, False, False, False]:
        scale, stale = after_validation(schedule, scale=scale, stale=stale, improved=improved)
        scales.append(scale)
    assert scales == [1.0, 1.0, 1.0, 1.0, 0.5, 0.5, 0.25]
    assert learning_rate(schedule, 3.0, 10, scale) == 0.75


def test_only_matrices_decay():
    model = nn.Linear(3, 2)
    with torch.no_grad():
        model.weight.fill_(1.0)
        model.bias.fill_(1.0)
    optimizer = make_optimizer(AdamConfig(kind="adamw", lr=0.1, weight_decay=0.5), model)
    model.weight.grad, model.bias.grad = torch.zeros(2, 3), torch.zeros(2)
    optimizer.step()
    assert torch.allclose(model.weight, torch.tensor(0.95))  # 1 - lr * decay
    assert torch.equal(model.bias, torch.ones(2))


class Tiny(nn.Module):
    """One embedding that predicts the next token, under the models' interface."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table, self.out = nn.Embedding(9, 4), nn.Linear(4, 9)
        self.dropout = nn.Dropout(dropout)

    def forward(self, batch: Batch, smoothing: float = 0.0) -> TokenLosses:
        ids, labels = batch.tgt.ids[:, :-1], batch.tgt.ids[:, 1:]
        logits = self.out(self.dropout(self.table(ids))).float().transpose(1, 2)
        nll = nn.functional.cross_entropy(logits, labels, ignore_index=0, reduction="none")
        smooth = nn.functional.cross_entropy(
            logits, labels, ignore_index=0, reduction="none", label_smoothing=smoothing
        )
        return TokenLosses(nll, smooth)


SENTENCES = [[4, 5, 6], [7], [8, 8], [5, 4, 7, 6]]


def pairs(rows: list[list[int]]) -> Batch:
    return collate(rows, rows)


def take_step(model, batches, *, optimizer=None, lr=0.1, **changes):
    settings = TrainConfig(**changes)
    optimizer = optimizer or make_optimizer(AdamConfig(lr=1.0), model)
    tokens = sum(label_tokens(batch) for _, batch in batches)
    return train_step(
        Objective(model, settings),
        optimizer,
        batches,
        tokens=tokens,
        lr=lr,
        settings=settings,
        device=CPU,
        precision="float32",
    )


def test_label_tokens_are_words_and_eos():
    assert label_tokens(pairs(SENTENCES)) == (3 + 1 + 2 + 4) + 4


def test_a_step_is_adam_on_the_clipped_mean_loss_per_token():
    model, reference = Tiny(), Tiny()
    sums = take_step(model, [(0, pairs(SENTENCES))], clip=0.05, label_smoothing=0.1)

    losses = reference(pairs(SENTENCES), 0.1)
    (losses.objective.sum() / 14).backward()
    norm = math.sqrt(sum(float((p.grad**2).sum()) for p in reference.parameters()))
    assert norm > 0.05
    assert sums.tolist() == pytest.approx([losses.objective.sum().item(), losses.nll.sum().item(), norm], rel=1e-5)
    for parameter in reference.parameters():
        parameter.grad *= 0.05 / norm
    torch.optim.Adam(reference.parameters(), lr=0.1, betas=(0.9, 0.98), eps=1e-8, foreach=False).step()
    for ours, theirs in zip(model.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
        assert ours.grad is None


@pytest.mark.parametrize("clip", [0.0, 1.0])
def test_a_step_does_not_depend_on_how_it_is_cut_into_batches(clip):
    whole, cut = Tiny(), Tiny()
    one = take_step(whole, [(0, pairs(SENTENCES))], clip=clip)
    two = take_step(cut, [(0, pairs(SENTENCES[:1])), (1, pairs(SENTENCES[1:]))], clip=clip)
    torch.testing.assert_close(one, two)
    for a, b in zip(whole.parameters(), cut.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_dropout_depends_on_seed_and_global_batch_index_alone():
    def loss(index: int, seed: int) -> float:
        torch.manual_seed(index * 7 + 1)  # whatever state the generator was in
        return float(take_step(Tiny(dropout=0.5), [(index, pairs(SENTENCES))], seed=seed)[0])

    assert loss(3, 1) == loss(3, 1)
    assert len({loss(3, 1), loss(4, 1), loss(3, 2), loss(1, 3)}) == 4


def test_a_gradient_that_is_not_finite_changes_nothing():
    model = Tiny()
    optimizer = make_optimizer(AdamConfig(), model)
    take_step(model, [(0, pairs(SENTENCES))], optimizer=optimizer)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    moments = {id(p): optimizer.state[p]["exp_avg"].clone() for p in model.parameters()}

    handle = model.out.weight.register_hook(lambda grad: grad * float("nan"))
    sums = take_step(model, [(1, pairs(SENTENCES))], optimizer=optimizer)
    handle.remove()
    assert not torch.isfinite(sums[2])
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(torch.equal(moments[id(p)], optimizer.state[p]["exp_avg"]) for p in model.parameters())

    take_step(model, [(2, pairs(SENTENCES))], optimizer=optimizer)
    assert not torch.equal(before["out.weight"], model.out.weight)
