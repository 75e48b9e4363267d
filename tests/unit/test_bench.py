"""The benchmark counts what it says it counts; its figures depend on the machine and are only checked for sense."""

from __future__ import annotations

import time

import pytest
import torch
from zoo import SIZES, ZOO, collate, each_model, rnn, transformer

import nmt.device
from nmt import bench
from nmt.bench import Speed, bench_decode, bench_train, matrix_peak, parts, random_batch, timed
from nmt.bench.parts import Flops, Laps, forward_flops, middle
from nmt.config import AdditiveConfig, Config, DotConfig, ModelConfig, ScorerConfig
from nmt.data.batch import Batch
from nmt.device import Bfloat16
from nmt.errors import UserError
from nmt.models.build import build_model
from nmt.models.heads import VocabHead
from nmt.models.rnn import RnnDecoder, RnnEncoder, RnnState
from nmt.search import beam
from nmt.settings.load import load_config
from nmt.train import step

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


S, T, EMBEDDING, WIDTH, VOCABULARY = 5, 7, 12, 16, 19
ENCODER = 2 * 4 * 8 * (EMBEDDING + 8)  # two directions of an LSTM, 8 units each
DECODER = 4 * WIDTH * (EMBEDDING + WIDTH) + 2 * WIDTH * WIDTH  # LSTM, attentional state
BRIDGE = WIDTH * 2 * WIDTH  # from the encoder to hidden state and cell


def pair() -> Batch:
    """Two pairs of S and T positions."""
    return collate([[5] * (S - 1)] * 2, [[6] * (T - 1)] * 2)


def flops(model: ModelConfig, **search: int) -> Flops:
    return forward_flops(build_model(model, VOCABULARY, VOCABULARY).eval(), pair(), **search)


@pytest.mark.parametrize("search", [{}, {"beams": 3, "steps": T}])
@pytest.mark.parametrize(
    ("attention", "prepare", "each"),  # weights for each source position; numbers for each query and source position
    [(DotConfig(), 0, WIDTH + WIDTH), (AdditiveConfig(width=8), WIDTH * 8, 8 + WIDTH)],
)
@pytest.mark.parametrize(
    ("tie", "head"),
    [("none", WIDTH * VOCABULARY), ("decoder", WIDTH * EMBEDDING + EMBEDDING * VOCABULARY)],
)
def test_flops_of_a_recurrent_model_by_hand(
    search: dict[str, int], attention: ScorerConfig, prepare: int, each: int, tie: str, head: int
) -> None:
    """2 per weight and token; the source embedding is looked up, the target's is multiplied as the output layer."""
    beams = search.get("beams", 1)
    decoder = DECODER + (WIDTH * 8 if prepare else 0) + S * each
    expected = (S * ENCODER, S * prepare, BRIDGE + beams * T * decoder, beams * T * head)
    assert flops(rnn(attention=attention, tie=tie), **search) == tuple(2 * part for part in expected)


@pytest.mark.parametrize("search", [{}, {"beams": 1, "steps": T}, {"beams": 3, "steps": T}])
def test_flops_of_a_transformer_by_hand(search: dict[str, int]) -> None:
    """Causal attention counts in full where the target is known, and in search as far as the prefix goes."""
    layers, width, inner = SIZES["layers"], SIZES["width"], SIZES["feed_forward"]
    beams, past = search.get("beams", 1), T * (T + 1) // 2 if search else T * T
    networks = 4 * width * width + 2 * width * inner  # queries, keys, values, output; feed-forward
    cross = 2 * width * width  # queries, output
    expected = (
        layers * (S * networks + 2 * S * S * width),
        layers * S * 2 * width * width,
        layers * beams * (T * (networks + cross) + 2 * past * width + 2 * T * S * width),
        beams * T * width * VOCABULARY,
    )
    assert flops(transformer(), **search) == tuple(2 * part for part in expected)


@each_model
def test_no_product_of_a_known_model_escapes(name: str) -> None:
    """All matrices of encoder and head at each position, counted from the parameters; a forced pass has the decoder's
    products that steps have, but for what causal attention looks at in vain."""
    model = ZOO[name]
    built = build_model(model, VOCABULARY, VOCABULARY).eval()
    forced, steps = (forward_flops(built, pair(), **search) for search in ({}, {"beams": 1, "steps": T}))
    around = 2 * S * model.encoder.layers * model.encoder.width if "transformer" in model.encoder.kind else 0
    assert forced.encoder == 2 * S * (weights(built.encoder) + around)
    if built.head.copies:  # it multiplies weights of attention, too, and in search one matrix more
        assert steps.head > 2 * T * weights(built.head.vocabulary)
    else:
        assert forced.head == steps.head == 2 * T * weights(built.head)
    future = T * (T - 1) // 2 * model.decoder.layers * 4 * model.decoder.width
    assert forced.decoder - steps.decoder == (future if "transformer" in model.decoder.kind else 0)
    assert forced.prepare == steps.prepare


def weights(module: torch.nn.Module) -> int:
    """Of the matrices in it that are not looked up."""
    parts = [part for part in module.modules() if not isinstance(part, torch.nn.Embedding)]
    return sum(p.numel() for part in parts for p in part.parameters(recurse=False) if p.ndim == 2)


class Clock:
    """Stands still but for `tick`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.monkeypatch = 0.0, monkeypatch
        monkeypatch.setattr(parts, "time", self)

    def perf_counter(self) -> float:
        return self.now

    def tick(self, *_: object) -> None:
        self.now += 1

    def slow(self, owner: object, method: str) -> None:
        """Each call of it takes a second."""
        original = getattr(owner, method)

        def slowed(*arguments: object, **options: object) -> object:
            self.tick()
            return original(*arguments, **options)

        self.monkeypatch.setattr(owner, method, slowed)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


TRAINING = ["encoder", "decoder", "head", "backward", "optimiser", "other"]
SEARCH = ["encode", "decoder", "head", "reorder", "top-k", "host"]


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("part", "owner", "method", "calls"),
    [
        ("encoder", RnnEncoder, "forward", 1),
        ("decoder", RnnDecoder, "prepare", 1),
        ("decoder", RnnDecoder, "decode", 1),
        ("head", VocabHead, "losses", 1),
        ("optimiser", step, "_clip", 1),
        ("optimiser", torch.optim.Adam, "step", 1),
        ("other", step, "_seed", 1),
    ],
)
def test_parts_of_training(clock: Clock, part: str, owner: object, method: str, calls: int) -> None:
    clock.slow(owner, method)
    speed = bench_train(tiny(), vocabulary=20, length=5, steps=2, device=CPU)
    assert {name: found.seconds for name, found in speed.parts.items()} == {**dict.fromkeys(TRAINING, 0.0), part: calls}
    assert list(speed.parts) == TRAINING


@pytest.mark.usefixtures("quick")
def test_backward_is_a_part_of_its_own(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second at its beginning; its FLOP are twice those of all parts forward."""
    losses = VocabHead.losses

    def heard(*arguments: object) -> object:
        result = losses(*arguments)
        if result.objective.requires_grad:  # not where FLOP are counted
            result.objective.register_hook(clock.tick)
        return result

    monkeypatch.setattr(VocabHead, "losses", heard)
    speed = bench_train(tiny(), vocabulary=20, length=5, steps=1, device=CPU)
    assert {name: part.seconds for name, part in speed.parts.items() if part.seconds} == {"backward": 1.0}
    sentence = speed.work * 6  # 5 tokens and EOS
    assert speed.parts["backward"].flops == pytest.approx(10 * sentence * 2 / 3)
    assert speed.parts["backward"].peak_share == pytest.approx(10 * sentence * 2 / 3 / 1e9)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("part", "owner", "method", "calls"),
    [
        ("encode", RnnEncoder, "forward", 1),
        ("encode", RnnDecoder, "prepare", 1),
        ("decoder", RnnDecoder, "start", 1),
        ("decoder", RnnDecoder, "step", 4),
        ("head", VocabHead, "log_probs", 4),
        ("reorder", RnnState, "reorder", 3),  # none after the last step
        ("top-k", beam, "candidates", 4),
        ("host", beam.Pool, "add", 4),
    ],
)
def test_parts_of_search(clock: Clock, part: str, owner: object, method: str, calls: int) -> None:
    slowed = clock.slow(owner, method) or getattr(owner, method)
    speed = bench_decode(tiny(), vocabulary=20, length=5, steps=4, sentences=3, repeats=2, device=CPU)
    assert {name: found.seconds for name, found in speed.parts.items()} == {**dict.fromkeys(SEARCH, 0.0), part: calls}
    assert list(speed.parts) == SEARCH
    assert getattr(owner, method) is slowed  # what was put around it is gone


def test_nothing_stays_in_a_model_that_was_watched() -> None:
    model = build_model(ZOO["lstm"], 20, 20)
    before = [dict(vars(part)) for part in model.modules()]
    laps = Laps(CPU, rest="other")
    with laps.of_training(model), laps.of_search(model, RnnState):
        model(random_batch(2, 3, 20)).objective.sum().backward()
    assert set(laps.seconds) == {"other", "encoder", "decoder", "head", "backward"}
    assert [dict(vars(part)) for part in model.modules()] == before
    laps.seconds.clear()
    model(random_batch(2, 3, 20)).objective.sum().backward()
    assert laps.seconds == {}


def test_the_middle_run_is_shown_whole() -> None:
    runs = [Laps(CPU, rest="other") for _ in range(3)]
    for run, seconds in zip(runs, ({"a": 1.0, "b": 9.0}, {"a": 2.0}, {"a": 3.0, "b": 1.0}), strict=True):
        run.seconds = seconds
    assert middle(runs) == {"a": 3.0, "b": 1.0}


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
@pytest.mark.parametrize("name", ["gru-feeding", "transformer"])
def test_training_is_measured(name: str) -> None:
    speed = bench_train(tiny(name), vocabulary=20, length=5, steps=2, device=CPU)
    check(speed, "target tokens/s")
    assert speed.rate * speed.seconds == pytest.approx(60)  # 10 pairs of 5 tokens and EOS


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("name", ["gru-feeding", "transformer"])
def test_search_is_measured(name: str) -> None:
    speed = bench_decode(tiny(name), vocabulary=20, length=5, steps=4, sentences=3, repeats=2, device=CPU)
    check(speed, "sentences/s")
    assert speed.rate * speed.seconds == pytest.approx(3)


@pytest.mark.parametrize(("kind", "setting"), [("train", "train"), ("decode", "search")])
def test_what_is_only_emulated_is_not_timed(monkeypatch: pytest.MonkeyPatch, kind: str, setting: str) -> None:
    monkeypatch.setattr(nmt.device, "bfloat16_of_cpu", lambda: Bfloat16(fast=False, lstm=True))
    config = load_config(None, [f"{setting}.precision=bfloat16"])
    sizes = {"vocabulary": 20, "length": 5, "steps": 2, "device": CPU}
    with pytest.raises(UserError, match="bfloat16 is left out: this processor has no instructions for it"):
        bench_train(config, **sizes) if kind == "train" else bench_decode(config, **sizes, sentences=3, repeats=2)


def check(speed: Speed, unit: str) -> None:
    assert speed.unit == unit
    assert min(speed.rate, speed.seconds, speed.flops, speed.peak) > 0
    assert speed.spread >= 1
    assert speed.precision == "float32"
    assert speed.work * speed.rate == pytest.approx(speed.flops)
    assert sum(part.share for part in speed.parts.values()) == pytest.approx(1)
    for name, part in speed.parts.items():
        counted = name in ("encoder", "encode", "decoder", "head", "backward")
        assert (part.flops is not None) == (part.peak_share is not None) == counted
        assert part.flops is None or part.peak_share == pytest.approx(part.flops / speed.peak)
    done = sum(part.flops * part.seconds for part in speed.parts.values() if part.flops is not None)
    assert done == pytest.approx(speed.flops * speed.seconds)


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


@pytest.mark.parametrize(
    ("parts", "bound"),
    [
        ({"head": (3.0, 0.7), "host": (1.0, None)}, r"head (75% of the time): matrix products, at 70% of the peak"),
        ({"head": (3.0, 0.2)}, "head (100% of the time): small operations and memory rather than products, at 20% of"),
        ({"head": (1.0, 0.9), "host": (3.0, None)}, "host (75% of the time), where nothing is multiplied"),
    ],
)
def test_what_bounds_it(parts: dict[str, tuple[float, float | None]], bound: str) -> None:
    total = sum(seconds for seconds, _ in parts.values())
    shares = {name: bench.Part(s, s / total, None if p is None else p * 1e9, p) for name, (s, p) in parts.items()}
    speed = Speed(1.0, "sentences/s", total, 1.0, 1.0, 1.0, 1e9, "float32", shares)
    assert speed.bound.startswith(bound)
