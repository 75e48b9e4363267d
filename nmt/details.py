"""What there is to know about a translation beside its text: what it looked at, what it copied, what looks wrong."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from nmt.align.extract import Reading, choose_reading
from nmt.align.maps import Weights
from nmt.candidates import Translation
from nmt.config import AlignConfig
from nmt.flags import find_flags
from nmt.translate import Translator
from nmt.unknown import COPY, with_weights


class Wanted(NamedTuple):
    """What is asked about each translation. The first two cost a forced pass each."""

    attention: Reading | None  # to the source
    copied: bool
    flags: bool


class Details(NamedTuple):
    """Weights are [T+1,S+1], a row per forced step, EOS included, for each candidate."""

    attention: list[Weights]  # empty where not wanted
    copied: list[Weights]
    flags: list[str]  # of the best candidate


def source_reading(translator: Translator, align: AlignConfig) -> Reading | None:
    """How the target's attention to the source is read; None where there is none, or the settings name another.

    Raises UserError if the settings name one that the model does not have.
    """
    if translator.model.alignment is None and align.attention is None:
        return None
    reading = choose_reading(translator.model, align, device=translator.device)
    return reading if reading.within is None else None


def with_details(
    translator: Translator, translations: Sequence[Translation], wanted: Wanted
) -> Iterator[tuple[Translation, Details]]:
    """Each translation with what is wanted to know about it. Only some of the weights are in memory at a time."""
    attention = _weights(translator, translations, wanted.attention)
    copied = _weights(translator, translations, COPY if wanted.copied else None)
    for translation, attended, copies in zip(translations, attention, copied, strict=True):
        flags = _flags(translator, translation, attended) if wanted.flags else []
        yield translation, Details(attended, copies, flags)


def _weights(
    translator: Translator, translations: Sequence[Translation], reading: Reading | None
) -> Iterator[list[Weights]]:
    if reading is None:
        return ([] for _ in translations)
    return (weights for _, weights in with_weights(translator, translations, reading))


def _flags(translator: Translator, translation: Translation, attention: list[Weights]) -> list[str]:
    if not translation.candidates:
        return []
    best = translation.candidates[0]
    return find_flags(
        translation.source,
        best.text,
        translator.tokenizers[0].encode(translation.source),
        best.hypothesis.tokens,
        best.hypothesis.token_log_probs,
        attention[0] if attention else None,
    )


def record(translator: Translator, translation: Translation, details: Details, wanted: Wanted) -> dict[str, Any]:
    """A translation for JSON.

    `links`: for each token of a candidate, [the index of the source token that it attends to most, its own index], as
    everywhere the source first. (Older files have `alignment` instead, the target first.)
    Of a model that copies also `gate`, the probability with which each token (EOS last) was generated, `copied`, that
    with which each source token (EOS last) was copied then, and `outside`, the indices of the tokens that are words of
    the source which the vocabulary lacks.
    """
    src, tgt = translator.tokenizers
    candidates: list[dict[str, Any]] = [
        {
            "text": text,
            "score": round(h.score, 6),
            "log_prob": round(h.log_prob, 6),
            "tokens": tgt.pieces(h.tokens, extras),
            "token_log_probs": [round(p, 6) for p in h.token_log_probs],
        }
        for text, h, extras in translation.candidates
    ]
    for candidate, weights in zip(candidates, details.attention, strict=False):
        assert wanted.attention is not None
        candidate["links"] = _links(weights, wanted.attention, len(candidate["tokens"]))
    for candidate, (_, h, _), weights in zip(candidates, translation.candidates, details.copied, strict=False):
        candidate["outside"] = [n for n, token in enumerate(h.tokens) if token >= len(tgt)]
        candidate["gate"] = [round(max(0.0, 1.0 - float(row.sum())), 4) for row in weights]
        candidate["copied"] = [[round(float(p), 4) for p in row] for row in weights]
    entries: dict[str, Any] = {"text": translation.text, "problem": translation.problem}
    if wanted.flags:
        entries["flags"] = details.flags
    if details.attention or details.copied:
        entries["source"] = src.segment(translation.source).pieces
    return {**entries, "candidates": candidates}


def _links(weights: Weights, reading: Reading, length: int) -> list[list[int]]:
    rows = weights[reading.read == "input" :][:length, :-1]  # the end of the source is no token to be aligned with
    return [[int(row.argmax()), n] for n, row in enumerate(rows)]
