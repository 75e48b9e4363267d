"""The contracts of every model: what encoders, decoders and heads say to each other, and nothing else.

Legend of shapes, used in every comment of this package:
B sentences, K beams, N = B*K rows (sentence-major: row = b*K + k), S source positions, T target positions,
Q queries per sentence (T when a target is known, K in search), D features, H heads, V vocabulary,
E extra copyable ids of this batch. Masks are boolean, True = real token. Ids are int64.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Generic, Literal, NamedTuple, Protocol, Self, TypeVar

import torch
from torch import Tensor, nn

from nmt.data.batch import Padded


class Memory(NamedTuple):
    """What the encoder says of B sentences."""

    states: Tensor  # [B,S,D]
    mask: Tensor | None  # [B,S]; None when nothing is padded
    summary: Tensor  # [B,D] the sentence as one vector, from which a decoder may start


class Source(NamedTuple):
    """What a decoder looks at while it writes. Always B sentences, never tiled over beams."""

    memory: Memory
    keys: tuple[Tensor, ...]  # projections of the memory made once per sentence; private to the decoder
    pointer_keys: tuple[Tensor, ...]  # the same for a head that points with an attention of its own
    copy_ids: Tensor | None  # [B,S] id of each source token in target space, >= V outside the vocabulary
    extras: int  # E

    def select(self, sentences: Tensor) -> Source:
        """The same for some of the sentences, `sentences` [B'] being their row numbers."""

        def rows(tensor: Tensor) -> Tensor:
            return tensor.index_select(0, sentences)

        states, mask, summary = self.memory
        memory = Memory(rows(states), None if mask is None else rows(mask), rows(summary))
        copy_ids = None if self.copy_ids is None else rows(self.copy_ids)
        return Source(memory, tuple(map(rows, self.keys)), tuple(map(rows, self.pointer_keys)), copy_ids, self.extras)


class State(Protocol):
    """What a decoder remembers between steps: tensors with N rows on axis 0.

    A state is used once: `step` and `reorder` consume it and may reuse its storage.
    """

    def reorder(self, rows: Tensor) -> Self:
        """The state whose row n is row `rows[n]` of this one. Rows stay with their sentence, and sentences in their
        order; some may be dropped, with all their rows."""
        ...


StateT = TypeVar("StateT", bound=State)


class Features(NamedTuple):
    """What a decoder says about Q positions of each sentence; a head may use any of it."""

    hidden: Tensor  # [B,Q,D]
    context: Tensor | None  # [B,Q,D] what attention brought from the source
    embedded: Tensor  # [B,Q,D] the token that was read
    weights: Tensor | None  # [B,Q,S] the attention a pointing head listens to, if one does


class Forced(NamedTuple):
    """A pass over known pairs: what the decoder says before each label, and of which source."""

    features: Features  # Q = T
    labels: Tensor  # [B,T]; 0 = padding
    source: Source
    links: Tensor | None = None  # see `Batch.links`

    def select(self, sentences: Tensor) -> Forced:
        """The same for some of the sentences, `sentences` [B'] being their row numbers."""

        def rows(part: Tensor | None) -> Tensor | None:
            return None if part is None else part.index_select(0, sentences)

        features = Features(*map(rows, self.features))  # type: ignore[arg-type]
        labels = self.labels.index_select(0, sentences)
        return Forced(features, labels, self.source.select(sentences), rows(self.links))

    def halves(self) -> tuple[Forced, Forced]:
        first, second = torch.arange(len(self.labels), device=self.labels.device).chunk(2)
        return self.select(first), self.select(second)


class Probe(Protocol):
    """The one door for looking at attention, or changing it. Costs nothing when absent."""

    def __call__(self, name: str, weights: Tensor, values: Tensor) -> Tensor:
        """Sees `weights` [B,H,Q,S] of the attention called `name` and the `values` [B,S,D] that they weigh; returns
        the weights to use. A stepwise decoder calls it once per target position, in order, Q = 1.

        Names: "decoder.cross" of a decoder with one attention; "encoder.1.self", "decoder.1.self" (S is then T) and
        "decoder.1.cross" of one with layers, which count from 1. "head.copy" is what a copying head says: with which
        probability each position is copied, so what a row lacks of 1 is that of generating. "ensemble.cross" of an
        ensemble is the mean of what its members choose.
        """
        ...


class Alignment(NamedTuple):
    """Which attention says best where a target word came from, if nobody chooses another."""

    name: str  # as a probe hears it
    read: Literal["output", "input"]  # ask the step that writes a word, or the next one, which reads it
    head: int | None = None  # which one, from 1; None: all of them


class TokenLosses(NamedTuple):
    """Losses of the label tokens in nats, float32, exactly 0 where the label is padding."""

    nll: Tensor  # [B,T] -log p(label)
    objective: Tensor  # [B,T] what training minimises: label smoothing and the like included


class Encoder(nn.Module, ABC):
    """Reads B source sentences."""

    spells: bool = False
    """Whether it reads how unknown words are spelled, so that batches must have `src.spelled`."""

    @abstractmethod
    def forward(self, src: Padded, probe: Probe | None = None) -> Memory: ...

    def fusible(self) -> Iterable[nn.Module]:
        """The layers that `train.compile` compiles, if this has any that gain from it."""
        return ()


class Decoder(nn.Module, ABC, Generic[StateT]):
    """Writes the target: a known one at once (`decode`), or one token at a time (`step`). The two must agree."""

    width: int  # of Features.hidden
    alignment: Alignment | None  # None: nothing in it looks at the source

    @abstractmethod
    def prepare(self, memory: Memory) -> tuple[Tensor, ...]:
        """What is computed once per sentence for all its steps and beams."""

    @abstractmethod
    def start(self, source: Source, rows: int, steps: int) -> StateT:
        """The state before the first token, for `rows` = B*K rows that will take at most `steps` steps."""

    @abstractmethod
    def step(self, tokens: Tensor, state: StateT, source: Source) -> tuple[Features, StateT]:
        """Reads one token per row, `tokens` [N], and speaks of the next: features with Q = K."""

    @abstractmethod
    def decode(self, tgt_in: Tensor, source: Source, probe: Probe | None = None) -> Features:
        """Reads known targets, `tgt_in` [B,T] right-padded, and speaks of each next token: features with Q = T."""

    def fusible(self) -> Iterable[nn.Module]:
        """As of an encoder."""
        return ()


class Subset(NamedTuple):
    """Some tokens of the vocabulary for each sentence, to which its distribution is confined."""

    tokens: Tensor  # [B,C] PAD, BOS, EOS, UNK and others, each once; then PAD, where a sentence has fewer than C
    weights: Tensor  # [B,C,D] of the output layer
    bias: Tensor  # [B,C] minus infinity where there is no such token

    def select(self, sentences: Tensor) -> Subset:
        """The same for some of the sentences, `sentences` [B'] being their row numbers."""
        return Subset(*(part.index_select(0, sentences) for part in self))


class Head(nn.Module, ABC):
    """Owns the distribution over the next token."""

    copies: bool = False
    """Whether it can produce words of the source, so that batches must have `copy_ids`."""

    def prepare(self, memory: Memory) -> tuple[Tensor, ...]:
        """What is computed once per sentence: `Source.pointer_keys`."""
        return ()

    def look(self, features: Features, source: Source, probe: Probe) -> None:
        """Shows a probe the attention of the head itself, if it has any."""
        return

    @abstractmethod
    def losses(self, features: Features, labels: Tensor, source: Source, smoothing: float) -> TokenLosses:
        """Losses of `labels` [B,T] (0 = padding), computed in chunks so that [B,T,V+E] never exists at once."""

    @abstractmethod
    def divergence(self, one: Forced, other: Forced) -> tuple[Tensor, Tensor]:
        """How far two passes over the same targets are apart, each [B,T] in nats and 0 where there is padding: the
        Kullback-Leibler divergences KL(one || other) and KL(other || one), computed in chunks."""

    def fusible(self) -> Iterable[nn.Module]:
        """As of an encoder: what of it is many small operations."""
        return ()

    @abstractmethod
    def subset(self, tokens: Tensor) -> Subset:
        """What `log_probs` needs to speak of `tokens` [B,C] only."""

    @abstractmethod
    def log_probs(self, features: Features, source: Source, subset: Subset | None = None) -> Tensor:
        """Natural-log probabilities [B,Q,V+E], float32 whatever the autocast type.

        With a subset [B,Q,C], of a distribution over its tokens alone; its cost grows with C, not with V."""


class Predictor(Protocol):
    """All that search knows of a model; bound to one batch of sources. An ensemble or a table is one, too."""

    @property
    def sentences(self) -> int: ...

    @property
    def device(self) -> torch.device: ...

    @property
    def columns(self) -> Tensor | None:
        """[B,C] which token each column of the log-probabilities is, PAD where there is none; None: column n is
        token n, V+E in all. PAD, BOS, EOS and UNK are the first four in any case."""
        ...

    def start(self, beams: int, steps: int) -> State: ...

    def step(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """Reads one token per row, `tokens` [N]; returns log-probabilities [N,C] of the next, for search to keep."""
        ...

    def select(self, sentences: Tensor) -> Predictor: ...
