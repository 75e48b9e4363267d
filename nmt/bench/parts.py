"""The parts of a training step and of a search: how long each takes, and what it has to compute.

Both are found from outside: no model knows that it is measured.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import NamedTuple, TypeVar

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from nmt.data.batch import Batch
from nmt.models.interface import Source, State
from nmt.models.seq2seq import Seq2Seq
from nmt.search import beam

Result = TypeVar("Result")


class Laps:
    """Seconds by part, from now on: whatever passes between two calls of `end` goes to one part, so all is counted."""

    def __init__(self, device: torch.device, rest: str) -> None:
        """`rest` is the part of what lies between the watched methods."""
        self.device, self.rest = device, rest
        self.seconds: dict[str, float] = {}
        drain(device)
        self.last = time.perf_counter()

    def end(self, part: str) -> None:
        drain(self.device)
        now = time.perf_counter()
        self.seconds[part] = self.seconds.get(part, 0.0) + now - self.last
        self.last = now

    @contextmanager
    def watch(self, owner: object, method: str, part: str) -> Iterator[None]:
        """Meanwhile each call of this method of an object or class is a lap of `part`."""
        original, own = getattr(owner, method), method in vars(owner)

        def watched(*arguments: object, **options: object) -> object:
            self.end(self.rest)
            result = original(*arguments, **options)
            self.end(part)
            return result

        setattr(owner, method, watched)
        try:
            yield
        finally:
            if own:
                setattr(owner, method, original)
            else:
                delattr(owner, method)

    @contextmanager
    def of_training(self, model: Seq2Seq) -> Iterator[None]:
        with ExitStack() as stack:
            stack.enter_context(self.watch(model.encoder, "forward", "encoder"))
            for method in ("prepare", "decode"):
                stack.enter_context(self.watch(model.decoder, method, "decoder"))
            stack.enter_context(self.watch(model.head, "losses", "head"))
            # Called once, when the last gradient has been computed; the sums of losses count as backward, too.
            gradients = torch.autograd.graph.register_multi_grad_hook(
                list(model.parameters()), lambda _: self.end("backward"), mode="all"
            )
            stack.callback(gradients.remove)
            yield

    @contextmanager
    def of_search(self, model: Seq2Seq, state: type[State]) -> Iterator[None]:
        with ExitStack() as stack:
            stack.enter_context(self.watch(model, "predictor", "encode"))
            for method in ("start", "step"):
                stack.enter_context(self.watch(model.decoder, method, "decoder"))
            stack.enter_context(self.watch(model.head, "log_probs", "head"))
            stack.enter_context(self.watch(state, "reorder", "reorder"))
            stack.enter_context(self.watch(beam, "candidates", "top-k"))
            yield


def middle(runs: list[Laps]) -> dict[str, float]:
    """The seconds by part of the run whose whole is the median."""
    return sorted((run.seconds for run in runs), key=lambda seconds: sum(seconds.values()))[len(runs) // 2]


class Flops(NamedTuple):
    """Of one forward pass, by part."""

    encoder: float
    prepare: float  # what the decoder makes of the memory, once per sentence
    decoder: float
    head: float  # a tied output layer included


@torch.no_grad()
def forward_flops(model: Seq2Seq, batch: Batch, *, beams: int = 0, steps: int = 0) -> Flops:
    """FLOP per sentence of a forced pass over `batch`; or, given `beams` and `steps`, of a search of so many.

    Two for each weight of a matrix and vector it multiplies, and for each number of attention's two products; nothing
    for embeddings, which are looked up, biases and norms. In a forced pass causal attention counts as if it saw all
    positions; in search a beam's own prefix counts, P positions at step P, whatever a kernel computes beyond that.
    PyTorch counts the products as they are made, so the model has to be on a CPU, in float32 and eval mode.
    """
    assert batch.tgt is not None
    sentences, ids = len(batch.src.ids), batch.tgt.ids
    memory, encoder = counted(lambda: model.encoder(batch.src))
    (keys, pointer_keys), prepare = counted(lambda: (model.decoder.prepare(memory), model.head.prepare(memory)))
    source = Source(memory, keys, pointer_keys, batch.copy_ids, batch.extras)
    if steps == 0:
        features, decoder = counted(lambda: model.decoder.decode(ids[:, :-1], source))
        _, head = counted(lambda: model.head.losses(features, ids[:, 1:], source, 0.0))
    else:  # one beam: with more a kernel may look at their prefixes, too
        state, decoder = counted(lambda: model.decoder.start(source, sentences, steps))
        head = 0
        for _ in range(steps):
            (features, state), written = counted(functools.partial(model.decoder.step, ids[:, 0], state, source))
            _, said = counted(functools.partial(model.head.log_probs, features, source))
            decoder, head = decoder + beams * written, head + beams * said
    return Flops(encoder / sentences, prepare / sentences, decoder / sentences, head / sentences)


def counted(action: Callable[[], Result]) -> tuple[Result, int]:
    """The result and the FLOP of its matrix products; fused attention, which may skip some, is off meanwhile."""
    counter = FlopCounterMode(display=False, custom_mapping={torch.ops.aten.mkldnn_rnn_layer: recurrent_flops})
    with sdpa_kernel(SDPBackend.MATH), counter:
        result = action()
    return result, counter.get_total_flops()


def recurrent_flops(
    inputs: torch.Size, of_input: torch.Size, of_hidden: torch.Size, *_: object, out_shape: object, **__: object
) -> int:
    """Of one direction of one layer, which PyTorch's counter does not know: shapes [T,B,I], [4D,I], [4D,D]."""
    return 2 * inputs[0] * inputs[1] * (of_input.numel() + of_hidden.numel())


def drain(device: torch.device) -> None:
    """Waits until the device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
