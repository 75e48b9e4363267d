"""Outputs drawn from a predictor's distribution, token by token. It never sees a model.

Shapes: B sentences still drawn for, K samples of each, N = B*K rows, C columns of the predictor.

Each step: log-probabilities -> rules -> p ** (1 / temperature) -> the `top_k` most probable -> of these the nucleus ->
one uniform number per row picks a column by the inverse of the distribution function, in the order of the columns. At
the length limit EOS is the only choice; PAD and BOS never are one.

A uniform number is a function of (seed, key of the sentence, number of the sample, step) alone. So a draw does not
depend on which sentences share the batch, in which order, on which device, on how many samples are drawn or how long
they may become, as far as the probabilities do not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from nmt.data.batch import BOS, EOS
from nmt.models.interface import Predictor
from nmt.models.layers import room
from nmt.search.beam import top
from nmt.search.hypothesis import Hypothesis
from nmt.search.penalty import LengthPenalty
from nmt.search.rules import Columns, Rule, Step

AHEAD = 32
"""Steps whose uniform numbers are made at once: making them takes a hundred small operations, however many they are."""

CHUNK = 1 << 20
"""Probabilities that are drawn from at a time, so that a pass over them finds them in the cache; elsewhere than on a
CPU 64 times as many, to save memory."""

BLOCK = 128
"""Columns that are summed at a time: the distribution function is needed in full within one block only."""

WORD = 0xFFFFFFFF

TINY = torch.finfo(torch.float32).tiny  # whose inverse is a number


def sample(
    predictor: Predictor,
    *,
    count: int,
    limits: Tensor,
    keys: Sequence[int],
    temperature: float,
    top_k: int,
    top_p: float,
    seed: int,
    penalty: LengthPenalty,
    rules: Sequence[Rule] = (),
) -> list[list[Hypothesis]]:
    """`count` samples of each sentence, in the order of the draws; fewer only where rules leave nothing to draw.

    `limits` [B] is the largest length of each output, EOS included (>= 1); `keys` [B], whole numbers below 2^64, stand
    for the sentences in every draw, so equal sentences of equal keys get equal samples. `temperature` > 0;
    `top_k` 0 = all; `top_p` 1 = all. Tokens as probable as the last one that `top_k` or `top_p` keeps are kept, too.
    Log-probabilities are those of the predictor, neither tempered nor cut; `penalty` makes scores of them. Call it
    without gradients.
    """
    total, device, steps = predictor.sentences, predictor.device, int(limits.max())
    limits, names = limits.to(device), key_words(keys, device)  # names [B,2]
    sentences = torch.arange(total, device=device)  # [B] which of all sentences each row still drawn for is
    done = torch.zeros(total, count, dtype=torch.bool, device=device)  # [B,K]
    tokens = torch.full((total * count,), BOS, device=device)  # [N]
    written = tokens.new_empty(total, count, 0)  # [B,K,t] what was drawn, if there is a rule to read it
    drawn = Drawn(total, count, steps, device)
    state = predictor.start(count, steps)

    for step in range(steps):
        if step % AHEAD == 0:
            numbers = uniforms(seed, names, samples=count, first=step, steps=min(AHEAD, steps - step))
        log_probs, state = predictor.step(tokens, state)  # [N,C]
        log_probs, columns = log_probs.unflatten(0, (-1, count)), Columns(predictor.columns)  # [B,K,C]
        for rule in rules:
            rule(log_probs, Step(sentences, written, columns))
        log_probs[:, :, :EOS] = -torch.inf  # PAD and BOS
        chosen = draw(
            log_probs.flatten(0, 1), numbers[:, :, step % AHEAD].flatten(), temperature, top_k, top_p
        ).view_as(done)
        chosen = chosen.masked_fill((limits[sentences] == step + 1)[:, None], EOS)
        gained = log_probs.gather(2, chosen[:, :, None])[:, :, 0]  # [B,K]
        written_now = columns.read(chosen)
        drawn.add(sentences, step, written_now, gained)
        done = done | (chosen == EOS) | ~gained.isfinite()

        searched = ~done.all(dim=1)  # [B]
        remaining = int(searched.sum())  # the one host synchronisation of a step
        if remaining == 0:
            break
        if 2 * remaining <= len(done):  # half the sentences are done: stop computing them
            rows = searched.int().argsort(descending=True, stable=True)[:remaining]
            predictor = predictor.select(rows)
            sentences, done, names, numbers = sentences[rows], done[rows], names[rows], numbers[rows]
            written, written_now = written[rows], written_now[rows]
            state = state.reorder((rows[:, None] * count + torch.arange(count, device=device)).flatten())
        tokens = written_now.flatten()
        if rules:
            written = torch.cat([written, written_now[:, :, None]], dim=2)
    return drawn.hypotheses(penalty)


class Drawn:
    """What was drawn, step by step, of all sentences. What follows the end of a sample means nothing."""

    def __init__(self, sentences: int, samples: int, steps: int, device: torch.device) -> None:
        self.tokens = torch.full((sentences, samples, steps), EOS, device=device)
        self.log_probs = torch.zeros(sentences, samples, steps, device=device)

    def add(self, sentences: Tensor, step: int, tokens: Tensor, log_probs: Tensor) -> None:
        """Tokens and their log-probabilities [B,K] of some sentences [B]; not finite = there was nothing to draw."""
        self.tokens[sentences, :, step] = tokens
        self.log_probs[sentences, :, step] = log_probs

    def hypotheses(self, penalty: LengthPenalty) -> list[list[Hypothesis]]:
        tokens, log_probs = self.tokens.cpu(), self.log_probs.cpu().double()
        lengths = (tokens == EOS).int().argmax(dim=2) + 1  # each ends in one, or died and is left out
        sums = log_probs.where(torch.arange(tokens.shape[2]) < lengths[:, :, None], 0.0).sum(dim=2)  # [B,K]
        parts = (tokens, log_probs, lengths, sums, penalty(sums, lengths))
        return [
            [
                Hypothesis(written[: length - 1], score, log_prob, gained[:length])
                for written, gained, length, log_prob, score in zip(*sentence, strict=True)
                if math.isfinite(log_prob)
            ]
            for sentence in zip(*(part.tolist() for part in parts), strict=True)
        ]


def draw(log_probs: Tensor, numbers: Tensor, temperature: float, top_k: int, top_p: float) -> Tensor:
    """One column of each row of log_probs [N,C], by its number of [0,1) in `numbers` [N]. PAD where none is
    possible."""
    rows = max(1, room(CHUNK, log_probs.device) // log_probs.shape[1])
    return torch.cat(
        [
            pick(weights(part, temperature, top_k, top_p), place)
            for part, place in zip(log_probs.split(rows), numbers.split(rows), strict=True)
        ]
    )


def weights(log_probs: Tensor, temperature: float, top_k: int, top_p: float) -> Tensor:
    """[N,C] -> what each column counts in the draw, [N,C] float32, the greatest 1: proportional to p ** (1 /
    temperature), 0 outside of the `top_k` and the nucleus."""
    best = log_probs.amax(dim=1, keepdim=True)
    counts = ((log_probs - best) / max(temperature, TINY)).exp()
    if 0 < top_k < counts.shape[1]:
        leading, _ = top(counts, top_k)
        counts = counts.where(counts >= leading[:, -1:], 0.0)
    else:
        leading = counts
    if top_p < 1:
        counts = counts.where(counts >= nucleus_edge(leading, top_p), 0.0)
    return counts


def nucleus_edge(counts: Tensor, top_p: float) -> Tensor:
    """Counts [N,C] of 0 to 1 -> the smallest in the nucleus, [N,1]: the fewest that are together `top_p` of all
    (Holtzman et al. 2020).

    Long rows are not sorted: the bits of positive numbers are ordered like the numbers. Ten bits at a time, from the
    first, it is found which ones the edge has, by the sums of the counts with each.
    """
    exact = precise(counts.device)
    if counts.shape[1] <= 1024:
        ordered, _ = counts.sort(dim=1, descending=True)
        mass = ordered.to(exact).cumsum(dim=1)
        return ordered.gather(1, (mass < top_p * mass[:, -1:]).sum(dim=1, keepdim=True))
    bits = counts.contiguous().view(torch.int32)
    wide = counts.to(exact)
    needed = top_p * wide.sum(dim=1, keepdim=True)  # [N,1] still, of those whose bits begin like the edge
    edge = torch.zeros_like(bits[:, :1])
    for shift in (20, 10, 0):  # bits 31 and 30 of what is at most 1 are 0
        begins = (bits >> shift + 10) == edge
        digit = (1023 - (bits >> shift & 1023)).long()  # the greatest first
        mass = wide.new_zeros(len(wide), 1024).scatter_add_(1, digit, wide.where(begins, 0.0)).cumsum(dim=1)
        place = (mass < needed).sum(dim=1, keepdim=True).clamp_max(1023)
        needed = needed - nn.functional.pad(mass, (1, 0)).gather(1, place)
        edge = (edge << 10) | (1023 - place).int()
    return edge.view(torch.float32)


def pick(counts: Tensor, numbers: Tensor) -> Tensor:
    """The column [N] of counts [N,C] in which the sum of them, from the left, passes `numbers` [N] times their total,
    and so never one of count 0. The first if the total is 0, or no number."""
    counts = nn.functional.pad(counts, (0, -counts.shape[1] % BLOCK)).unflatten(1, (-1, BLOCK))
    exact = precise(counts.device)
    sums = counts.sum(dim=2).to(exact).cumsum(dim=1)  # [N,C/BLOCK]
    target = numbers[:, None] * sums[:, -1:]
    block = torch.searchsorted(sums, target, right=True).clamp_max(sums.shape[1] - 1)  # [N,1]
    target = target - nn.functional.pad(sums, (1, 0)).gather(1, block)
    within = counts.gather(1, block[:, :, None].expand(-1, -1, BLOCK))[:, 0].to(exact).cumsum(dim=1)  # [N,BLOCK]
    # The two sums of a block may differ in their last digits.
    target = target.minimum(within[:, -1:] * (1 - torch.finfo(exact).eps))
    place = torch.searchsorted(within, target, right=True).clamp_max(BLOCK - 1)
    return (block * BLOCK + place).where(sums[:, -1:] > 0, 0)[:, 0]


def precise(device: torch.device) -> torch.dtype:
    return torch.float32 if device.type == "mps" else torch.float64  # which has nothing wider


def key_words(keys: Sequence[int], device: torch.device) -> Tensor:
    """Whole numbers as two words of 32 bits, the lower first, [B,2]."""
    return torch.tensor([[key & WORD, key >> 32 & WORD] for key in keys], dtype=torch.int64, device=device).view(-1, 2)


def uniforms(seed: int, names: Tensor, *, samples: int, first: int, steps: int) -> Tensor:
    """[B,samples,steps] numbers of [0,1) for the steps from `first` on; `names` [B,2] are the keys' words. Of the seed
    the lower 64 bits count."""
    device = names.device
    step = torch.arange(first, first + steps, device=device)[None, None]
    number = torch.arange(samples, device=device)[None, :, None]
    counter = torch.broadcast_tensors(step, number, names[:, :1, None], names[:, 1:, None])
    high, low, *_ = philox(counter, (seed & WORD, seed >> 32 & WORD))
    exact = precise(device)
    numbers = (high.to(exact) + low.to(exact) * 2.0**-32) * 2.0**-32
    return numbers.clamp_max(1 - torch.finfo(exact).eps)  # times a total it stays below the total


def philox(counter: Sequence[Tensor], key: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Philox 4x32-10 (Salmon et al. 2011): four random words for a counter of four and a key of two words, in int64."""
    (a, b, c, d), (left, right) = counter, key
    for _ in range(10):
        # Products of two words overflow int64; the words of them are right all the same.
        first, second = a * 0xD2511F53, c * 0xCD9E8D57
        a, b, c, d = (
            (second >> 32 & WORD) ^ b ^ left,
            second & WORD,
            (first >> 32 & WORD) ^ d ^ right,
            first & WORD,
        )
        left, right = left + 0x9E3779B9 & WORD, right + 0xBB67AE85 & WORD
    return a, b, c, d
