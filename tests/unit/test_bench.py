"""The benchmark counts what it says it counts; its figures depend on the machine and are only checked for sense."""

from __future__ import annotations

import time

import pytest
import torch
from oracles import TablePredictor
from zoo import ZOO, rnn

from nmt import bench
from nmt.bench import Endless, Speed, bench_decode, bench_train, forward_flops, matrix_peak, random_batch, timed
from nmt.config import Config, DotConfig, ModelConfig
from nmt.models.build import build_model
from nmt.search.beam import beam_search

CPU = torch.device("cpu")


def tiny(name: str = "lstm") -> Config:
    return Config.model_validate(
        {
            "data": {"max_tokens": 60},
            "tokenizer": {"kind": "words", "joint": True},
            "model": ZOO[name].model_dump(),
            "train": {"precision": "float32"},
            "search": {"beam": 3},
        }
    )


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The matrix product takes longer than all the rest here; it has a test of its own."""
    monkeypatch.setattr(bench, "matrix_peak", lambda dtype, device: 1e9)


EMBEDDING, WIDTH, VOCABULARY = 12, 16, 19
ENCODER = 2 * (4 * 8 * (EMBEDDING + 8) + 2 * 4 * 8)  # two directions of an LSTM with two biases, 8 units each
DECODER = (
    4 * WIDTH * (EMBEDDING + WIDTH)  # LSTM
    + 2 * 4 * WIDTH  # its biases
    + WIDTH * 2 * WIDTH  # the bridge from the encoder: hidden state and cell
    + 2 * WIDTH  # its bias
    + 2 * WIDTH * WIDTH  # the attentional state
    + WIDTH  # its bias
)


@pytest.mark.parametrize(
    ("model", "head"),
    [
        (rnn(attention=DotConfig(), tie="none"), WIDTH * VOCABULARY + VOCABULARY),
        (rnn(attention=DotConfig(), tie="decoder"), WIDTH * EMBEDDING + EMBEDDING * VOCABULARY + VOCABULARY),
    ],
)
def test_flops_of_a_hand_count(model: ModelConfig, head: int) -> None:
    """2 per weight; the source embedding is looked up, the target's is multiplied where it is the output layer."""
    built = build_model(model, VOCABULARY, VOCABULARY)
    assert forward_flops(built, 3, 5) == 2 * (3 * ENCODER + 5 * (DECODER + head))


@pytest.mark.parametrize("beam", [1, 4])
@pytest.mark.parametrize("steps", [1, 3, 6])
def test_endless_outputs_have_exactly_so_many_tokens(beam: int, steps: int) -> None:
    tables = TablePredictor.random(5, steps, 9, seed=1)
    found = beam_search(Endless(tables, steps), beam=beam, limits=torch.full((5,), steps))
    assert {len(h.tokens) + 1 for hypotheses in found for h in hypotheses} == {steps}
    plain = beam_search(tables, beam=beam, limits=torch.full((5,), steps))
    assert steps == 1 or any(len(h.tokens) + 1 < steps for hypotheses in plain for h in hypotheses)


def test_endless_keeps_count_through_select() -> None:
    tables = TablePredictor.random(2, 3, 6, seed=1)
    endless = Endless(tables, 2)
    state = endless.start(1, 3)
    log_probs, state = endless.step(torch.ones(2, dtype=torch.int64), state)
    assert (log_probs[:, 2] == -torch.inf).all()
    chosen = endless.select(torch.tensor([1]))
    assert chosen.sentences == 1
    log_probs, _ = chosen.step(torch.ones(1, dtype=torch.int64), state.reorder(torch.tensor([1])))
    assert log_probs[:, 2].isfinite().all()


def test_random_pairs() -> None:
    batch = random_batch(7, 5, 19)
    assert batch.tgt is not None
    assert batch.src.ids.shape == (7, 6)  # EOS
    assert batch.tgt.ids.shape == (7, 7)  # BOS and EOS
    assert batch.src.full
    assert batch.tgt.full
    assert int(batch.src.ids[:, :-1].min()) >= 4
    assert int(batch.src.ids.max()) < 19


def test_timed_leaves_the_warm_up_out() -> None:
    calls: list[int] = []

    def action(index: int) -> None:
        calls.append(index)
        time.sleep(0.03 if index < 2 else 0.001)

    times = timed(action, repeats=3, warmup=2, device=CPU)
    assert calls == [0, 1, 2, 3, 4]
    assert len(times) == 3
    assert min(times) >= 0.001
    assert min(times) < 0.03


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("name", ["lstm", "gru-feeding"])
def test_training_is_measured(name: str) -> None:
    speed = bench_train(tiny(name), vocabulary=20, length=5, steps=2, device=CPU)
    check(speed, "target tokens/s")
    assert speed.rate * speed.seconds == pytest.approx(60)  # 10 pairs of 5 tokens and EOS


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("name", ["lstm", "gru-feeding"])
def test_search_is_measured(name: str) -> None:
    speed = bench_decode(tiny(name), vocabulary=20, length=5, steps=4, sentences=3, repeats=2, device=CPU)
    check(speed, "sentences/s")
    assert speed.rate * speed.seconds == pytest.approx(3)


def check(speed: Speed, unit: str) -> None:
    assert speed.unit == unit
    assert min(speed.rate, speed.seconds, speed.flops, speed.peak) > 0
    assert speed.spread >= 1
    assert speed.precision == "float32"


def test_the_matrix_peak_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """2 n**3 FLOP over the quickest product."""
    seen: list[tuple[int, torch.dtype]] = []
    product = torch.randn

    def small(rows: int, columns: int, **options: object) -> torch.Tensor:
        seen.append((rows, options["dtype"]))  # type: ignore[arg-type]
        return product(8, 8)

    monkeypatch.setattr(torch, "randn", small)
    monkeypatch.setattr(
        bench, "timed", lambda action, **_: [float(action(0) is not None) * seconds for seconds in (2, 1)]
    )
    size = 1536
    assert matrix_peak(torch.float32, CPU) == 2.0 * size**3
    assert seen == [(size, torch.float32)] * 2
