"""Recurrent encoder and decoder: Bahdanau et al. 2015 and Luong et al. 2015 with today's kernels.

Shapes: see the legend in `interface.py`; L layers.
"""

from __future__ import annotations

from typing import NamedTuple, assert_never, cast

import torch
from torch import Tensor, nn

from nmt.config import RnnDecoderConfig, RnnEncoderConfig
from nmt.data.batch import Padded
from nmt.models.attention import Attention, build_attention
from nmt.models.bridge import Bridge, build_summary
from nmt.models.interface import Alignment, Decoder, Encoder, Features, Memory, Probe, Source
from nmt.models.layers import Dropout, TokenEmbedding, VariationalDropout

CELLS: dict[str, type[nn.LSTM] | type[nn.GRU] | type[nn.RNN]] = {"lstm": nn.LSTM, "gru": nn.GRU, "tanh": nn.RNN}


def reversal(src: Padded) -> Tensor:
    """[B,S] positions that reverse each sentence within its length and leave its padding where it is."""
    positions = torch.arange(src.ids.shape[1], device=src.ids.device)
    backwards = src.lengths[:, None] - 1 - positions
    return torch.where(backwards >= 0, backwards, positions)


class RnnEncoder(Encoder):
    """A stack of bidirectional layers.

    Each direction is a left-to-right pass over right-padded input (the backward one over the reversed sentence), which
    is several times faster than packed sequences and equal to them: padding comes last, so no state has seen it.
    """

    def __init__(self, config: RnnEncoderConfig, embedding: TokenEmbedding, dropout: float) -> None:
        super().__init__()
        self.embedding, self.spells = embedding, embedding.ngrams is not None
        cell, width = CELLS[config.cell], config.width
        inputs = [embedding.width] + [width] * (config.layers - 1)
        self.forwards = nn.ModuleList(cell(size, width // 2, batch_first=True) for size in inputs)
        self.backwards = nn.ModuleList(cell(size, width // 2, batch_first=True) for size in inputs)
        self.variational = config.variational
        self.dropout = VariationalDropout(dropout) if self.variational else Dropout(dropout)
        self.width, self.residual = width, config.residual

    def forward(self, src: Padded, probe: Probe | None = None) -> Memory:
        states = self.dropout(self.embedding.lookup(src.ids, src.spelled))  # [B,S,D]
        order = reversal(src)

        def reverse(sequence: Tensor) -> Tensor:
            return sequence.gather(1, order[:, :, None].expand_as(sequence))

        for n, (left_to_right, right_to_left) in enumerate(zip(self.forwards, self.backwards, strict=True)):
            read = self.dropout(states) if n > 0 else states
            ahead = left_to_right(read)[0]  # [B,S,D/2]
            back = reverse(right_to_left(reverse(read))[0])  # [B,S,D/2]
            said = torch.cat([ahead, back], dim=-1)  # [B,S,D]
            states = said + states if self.residual and n > 0 else said
        last = (src.lengths - 1)[:, None, None].expand(-1, 1, ahead.shape[-1])
        summary = torch.cat([ahead.gather(1, last)[:, 0], back[:, 0]], dim=-1)  # [B,D] where each direction ended
        mask = src.mask
        if mask is not None:
            states = states * mask[:, :, None]  # what a pass made of padding is nobody's business
        return Memory(states, mask, summary)


class RnnState(NamedTuple):
    hidden: Tensor  # [N,L,D]
    cell: Tensor | None  # [N,L,D] of an LSTM
    feed: Tensor | None  # [N,D] the last attentional state, with input feeding
    coverage: Tensor | None  # [N,S] the attention each position got so far, for a scorer that uses it
    masks: tuple[Tensor, ...]  # [N,D] each, of variational dropout: on embedding, between layers, on output; else none

    def reorder(self, rows: Tensor) -> RnnState:
        def chosen(part: Tensor | None) -> Tensor | None:
            return None if part is None else part.index_select(0, rows)

        return RnnState(
            self.hidden.index_select(0, rows),
            chosen(self.cell),
            chosen(self.feed),
            chosen(self.coverage),
            tuple(mask.index_select(0, rows) for mask in self.masks),
        )


class Recurrence(nn.Module):
    """A stack of one-directional layers: a whole sequence at once, or one step."""

    def __init__(self, config: RnnDecoderConfig, inputs: int, dropout: float) -> None:
        super().__init__()
        self.cell, self.residual = config.cell, config.residual
        sizes = [inputs] + [config.width] * (config.layers - 1)
        self.layers = nn.ModuleList(CELLS[config.cell](size, config.width, batch_first=True) for size in sizes)
        self.dropout = Dropout(dropout)

    def forward(self, states: Tensor, start: RnnState) -> Tensor:
        """[B,T,inputs] -> [B,T,D]"""
        for n, layer in enumerate(self.layers):
            read = self._read(states, n, start)
            hidden = start.hidden[:, n][None].contiguous()  # [1,B,D], as the kernels want it
            first = hidden if start.cell is None else (hidden, start.cell[:, n][None].contiguous())
            said = layer(read, first)[0]
            states = said + states if self.residual and n > 0 else said
        return states

    def step(self, states: Tensor, state: RnnState) -> tuple[Tensor, RnnState]:
        """[N,inputs] -> [N,D] and the state after it: the cells one by one, a third faster than a sequence of 1."""
        hidden, cell = list(state.hidden.unbind(1)), [] if state.cell is None else list(state.cell.unbind(1))
        for n, layer in enumerate(self.layers):
            read, (weights,) = self._read(states, n, state), cast(nn.RNNBase, layer).all_weights
            match self.cell:
                case "lstm":
                    hidden[n], cell[n] = torch.lstm_cell(read, (hidden[n], cell[n]), *weights)
                case "gru":
                    hidden[n] = torch.gru_cell(read, hidden[n], *weights)
                case "tanh":
                    hidden[n] = torch.rnn_tanh_cell(read, hidden[n], *weights)
                case _:
                    assert_never(self.cell)
            states = hidden[n] + states if self.residual and n > 0 else hidden[n]
        after = torch.stack(cell, dim=1) if cell else None
        return states, state._replace(hidden=torch.stack(hidden, dim=1), cell=after)

    def _read(self, states: Tensor, layer: int, state: RnnState) -> Tensor:
        """[B,T,D] or [N,D], what a layer reads, with dropout between layers."""
        if layer == 0:
            return states
        if not state.masks:
            return self.dropout(states)
        mask = state.masks[layer]
        return states * (mask if states.ndim == 2 else mask[:, None])


class RnnDecoder(Decoder[RnnState]):
    """Luong's wiring: the recurrent state after reading a token is the query; the output is the attentional state
    tanh(W [context; hidden]) (Luong et al. 2015, equation 5). With input feeding it is input of the next step, too.
    Bahdanau's: the state before reading is the query, and the context enters the cell (Bahdanau et al. 2015, A.1.2).

    Where no step depends on an earlier step's attention, a known target takes one recurrent call and one attention
    for all positions; else `decode` folds `step`'s own code over the positions.
    """

    def __init__(self, config: RnnDecoderConfig, embedding: TokenEmbedding, memory_width: int, dropout: float) -> None:
        super().__init__()
        self.embedding = embedding
        self.attention: Attention | None = None
        self.alignment: Alignment | None = None
        context = 0
        if config.attention.kind != "none":
            self.alignment = Alignment("decoder.cross", "output")
            self.attention = build_attention(config.attention, config.width, memory_width, self.alignment.name)
            context = memory_width
        self.asks_first = config.wiring == "bahdanau"
        self.combine = nn.Linear(context + config.width, config.width) if config.output == "tanh" else None
        self.width = context + config.width if self.combine is None else config.width
        self.feeds = config.feeds
        self.covers = self.attention is not None and self.attention.scorer.uses_history
        inputs = embedding.width + (self.width if self.feeds else 0) + (context if self.asks_first else 0)
        self.recurrence = Recurrence(config, inputs, dropout)
        summary = build_summary(config.bridge, memory_width)
        parts = 2 if config.cell == "lstm" else 1
        self.bridge = Bridge(summary, parts=parts, layers=config.layers, width=config.width)
        self.dropout = Dropout(dropout)
        self.mask_widths = [embedding.width, *[config.width] * (config.layers - 1), self.width]
        self.variational = config.variational

    def prepare(self, memory: Memory) -> tuple[Tensor, ...]:
        return () if self.attention is None else self.attention.keys(memory)

    def start(self, source: Source, rows: int, steps: int) -> RnnState:
        start = self.bridge(source.memory)  # [B,1 or 2,L,D]
        start = start.repeat_interleave(rows // len(start), dim=0)  # [N,1 or 2,L,D]
        feed = start.new_zeros(rows, self.width) if self.feeds else None
        length = source.memory.states.shape[1]
        coverage = start.new_zeros(rows, length, dtype=torch.float32) if self.covers else None
        masks = ()
        if self.variational and self.training:  # drawn once for all steps
            masks = tuple(self.dropout(start.new_ones(rows, width)) for width in self.mask_widths)
        return RnnState(start[:, 0], start[:, 1] if start.shape[1] == 2 else None, feed, coverage, masks)

    def step(self, tokens: Tensor, state: RnnState, source: Source) -> tuple[Features, RnnState]:
        return self._advance(self._embed(tokens[:, None], state), state, source, None)

    def decode(self, tgt_in: Tensor, source: Source, probe: Probe | None = None) -> Features:
        state = self.start(source, *tgt_in.shape)
        embedded = self._embed(tgt_in, state)  # [B,T,D]
        if not (self.feeds or self.asks_first or self.covers):
            outputs = self.recurrence(embedded, state)
            return self._said(outputs, *self._ask(outputs, source, probe, None), embedded, state)
        steps = []
        for position in range(tgt_in.shape[1]):
            read = embedded[:, position : position + 1]
            features, state = self._advance(read, state, source, probe, calls=tgt_in.shape[1])
            steps.append(features)
        hidden, context, read, weights = (torch.cat(parts, dim=1) for parts in zip(*steps, strict=True))
        return Features(hidden, context, read, weights)

    def _advance(
        self, embedded: Tensor, state: RnnState, source: Source, probe: Probe | None, *, calls: int = 1
    ) -> tuple[Features, RnnState]:
        """One token per row, [N,1,D]; in search the K beams of a sentence become its queries. `calls`: how many such
        steps share a backward pass."""
        sentences = len(source.memory.states)

        def queries(rows: Tensor) -> Tensor:
            return rows.view(sentences, -1, rows.shape[-1])  # [N,D] -> [B,K,D]

        inputs = embedded[:, 0]
        history = None if state.coverage is None else queries(state.coverage)  # [B,K,S]
        if self.asks_first:
            found = self._ask(queries(state.hidden[:, -1]), source, probe, history, calls)
            inputs = torch.cat([inputs, cast(Tensor, found[0]).flatten(0, 1)], dim=-1)
        elif state.feed is not None:
            inputs = torch.cat([inputs, state.feed], dim=-1)
        outputs, state = self.recurrence.step(inputs, state)
        if not self.asks_first:
            found = self._ask(queries(outputs), source, probe, history, calls)
        features = self._said(queries(outputs), *found, queries(embedded[:, 0]), state)
        if self.feeds:
            state = state._replace(feed=features.hidden.reshape(-1, self.width))
        if state.coverage is not None:
            state = state._replace(coverage=state.coverage + cast(Tensor, features.weights).flatten(0, 1))
        return features, state

    def _embed(self, tokens: Tensor, state: RnnState) -> Tensor:
        """[N,T] -> [N,T,D]"""
        return self.embedding.lookup(tokens) * state.masks[0][:, None] if state.masks else self.embedding(tokens)

    def _ask(
        self, query: Tensor, source: Source, probe: Probe | None, history: Tensor | None, calls: int = 1
    ) -> tuple[Tensor | None, Tensor | None]:
        """[B,Q,D] -> context [B,Q,D of the memory] and weights [B,Q,S], if there is attention."""
        if self.attention is None:
            return None, None
        return self.attention(query, *source.keys, source.memory.mask, probe, history, calls=calls)

    def _said(
        self, outputs: Tensor, context: Tensor | None, weights: Tensor | None, embedded: Tensor, state: RnnState
    ) -> Features:
        """[B,Q,D] recurrent outputs and what attention brought -> attentional states."""
        hidden = outputs if context is None else torch.cat([context, outputs], dim=-1)
        if self.combine is not None:
            hidden = torch.tanh(self.combine(hidden))
        if not state.masks:
            return Features(self.dropout(hidden), context, embedded, weights)
        mask = state.masks[-1].view(len(hidden), -1, self.width)  # [B,1,D], or [B,K,D] in search
        return Features(hidden * mask, context, embedded, weights)
