"""Recurrent encoder and decoder: Bahdanau et al. 2015 and Luong et al. 2015 with today's kernels.

Shapes: see the legend in `interface.py`; L layers.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from nmt.config import RnnDecoderConfig, RnnEncoderConfig
from nmt.data.batch import Padded
from nmt.models.attention import Attention, build_scorer
from nmt.models.interface import Alignment, Decoder, Encoder, Features, Memory, Probe, Source
from nmt.models.layers import Dropout, TokenEmbedding

CELLS: dict[str, type[nn.LSTM] | type[nn.GRU]] = {"lstm": nn.LSTM, "gru": nn.GRU}


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
        self.embedding = embedding
        cell, width = CELLS[config.cell], config.width
        inputs = [embedding.width] + [width] * (config.layers - 1)
        self.forwards = nn.ModuleList(cell(size, width // 2, batch_first=True) for size in inputs)
        self.backwards = nn.ModuleList(cell(size, width // 2, batch_first=True) for size in inputs)
        self.dropout = Dropout(dropout)
        self.width = width

    def forward(self, src: Padded, probe: Probe | None = None) -> Memory:
        states = self.embedding(src.ids)  # [B,S,D]
        order = reversal(src)

        def reverse(sequence: Tensor) -> Tensor:
            return sequence.gather(1, order[:, :, None].expand_as(sequence))

        for n, (left_to_right, right_to_left) in enumerate(zip(self.forwards, self.backwards, strict=True)):
            if n > 0:
                states = self.dropout(states)
            ahead = left_to_right(states)[0]  # [B,S,D/2]
            back = reverse(right_to_left(reverse(states))[0])  # [B,S,D/2]
            states = torch.cat([ahead, back], dim=-1)  # [B,S,D]
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

    def reorder(self, rows: Tensor) -> RnnState:
        def chosen(part: Tensor | None) -> Tensor | None:
            return None if part is None else part.index_select(0, rows)

        return RnnState(self.hidden.index_select(0, rows), chosen(self.cell), chosen(self.feed))


class RnnDecoder(Decoder[RnnState]):
    """Luong's wiring: the recurrent state after reading a token is the query; the output is the attentional state
    tanh(W [context; hidden]) (Luong et al. 2015, equation 5). With input feeding it is input of the next step, too.

    Without input feeding no step depends on an earlier step's attention, so a known target takes one recurrent call
    and one attention for all positions; with it, `decode` folds `step`'s own code over the positions.
    """

    alignment = Alignment("decoder.cross", "output")

    def __init__(self, config: RnnDecoderConfig, embedding: TokenEmbedding, memory_width: int, dropout: float) -> None:
        super().__init__()
        self.embedding = embedding
        self.layers, self.width, self.input_feeding = config.layers, config.width, config.input_feeding
        self.gated = config.cell == "lstm"
        self.bridge = nn.Linear(memory_width, config.layers * config.width * (2 if self.gated else 1))
        self.rnn = CELLS[config.cell](
            embedding.width + (config.width if config.input_feeding else 0),
            config.width,
            config.layers,
            batch_first=True,
            dropout=dropout if config.layers > 1 else 0.0,
        )
        scorer = build_scorer(config.attention, config.width, memory_width)
        self.attention = Attention(scorer, self.alignment.name)
        self.combine = nn.Linear(memory_width + config.width, config.width)
        self.dropout = Dropout(dropout)

    def prepare(self, memory: Memory) -> tuple[Tensor, ...]:
        return (self.attention.keys(memory),)

    def start(self, source: Source, rows: int, steps: int) -> RnnState:
        summary = source.memory.summary
        start = torch.tanh(self.bridge(summary)).view(len(summary), -1, self.layers, self.width)
        start = start.repeat_interleave(rows // len(summary), dim=0)  # [N,1 or 2,L,D]
        feed = start.new_zeros(rows, self.width) if self.input_feeding else None
        return RnnState(start[:, 0], start[:, 1] if self.gated else None, feed)

    def step(self, tokens: Tensor, state: RnnState, source: Source) -> tuple[Features, RnnState]:
        return self._advance(self.embedding(tokens[:, None]), state, source, None)

    def decode(self, tgt_in: Tensor, source: Source, probe: Probe | None = None) -> Features:
        embedded = self.embedding(tgt_in)  # [B,T,D]
        state = self.start(source, *tgt_in.shape)
        if not self.input_feeding:
            hidden = state.hidden.transpose(0, 1).contiguous()  # [L,B,D], as the kernels want it
            start = hidden if state.cell is None else (hidden, state.cell.transpose(0, 1).contiguous())
            return self._attend(self.rnn(embedded, start)[0], embedded, source, probe)
        steps = []
        for position in range(tgt_in.shape[1]):
            features, state = self._advance(embedded[:, position : position + 1], state, source, probe)
            steps.append(features)
        hidden, context, read, weights = (torch.cat(parts, dim=1) for parts in zip(*steps, strict=True))
        return Features(hidden, context, read, weights)

    def _advance(
        self, embedded: Tensor, state: RnnState, source: Source, probe: Probe | None
    ) -> tuple[Features, RnnState]:
        """One token per row, [N,1,D]; in search the K beams of a sentence become its queries."""
        inputs = embedded[:, 0] if state.feed is None else torch.cat([embedded[:, 0], state.feed], dim=-1)
        outputs, state = self._recur_once(inputs, state)
        sentences = len(source.memory.states)
        features = self._attend(
            outputs.view(sentences, -1, self.width), embedded.view(sentences, -1, embedded.shape[-1]), source, probe
        )
        if self.input_feeding:
            state = state._replace(feed=features.hidden.reshape(-1, self.width))
        return features, state

    def _recur_once(self, inputs: Tensor, state: RnnState) -> tuple[Tensor, RnnState]:
        """[N,D] -> [N,D] and the state after it: the layers' cells one by one, a third faster than a sequence of 1."""
        hidden, cell = list(state.hidden.unbind(1)), [] if state.cell is None else list(state.cell.unbind(1))
        for layer, weights in enumerate(self.rnn.all_weights):
            if layer > 0:
                inputs = self.dropout(inputs)
            if cell:
                hidden[layer], cell[layer] = torch.lstm_cell(inputs, (hidden[layer], cell[layer]), *weights)
            else:
                hidden[layer] = torch.gru_cell(inputs, hidden[layer], *weights)
            inputs = hidden[layer]
        after = torch.stack(cell, dim=1) if cell else None
        return inputs, state._replace(hidden=torch.stack(hidden, dim=1), cell=after)

    def _attend(self, outputs: Tensor, embedded: Tensor, source: Source, probe: Probe | None) -> Features:
        """[B,Q,D] recurrent outputs -> attentional states."""
        context, weights = self.attention(outputs, source.keys[0], source.memory, probe)
        hidden = self.dropout(torch.tanh(self.combine(torch.cat([context, outputs], dim=-1))))  # [B,Q,D]
        return Features(hidden, context, embedded, weights)
