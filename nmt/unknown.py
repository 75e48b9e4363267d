"""What is read off the forced pass over a translation: what it copied, and what its unknown words stand for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path

from nmt.align.extract import COPY as COPY
from nmt.align.extract import Reading, choose_reading, forced_weights
from nmt.align.maps import Weights
from nmt.candidates import Candidate, Translation, different, written
from nmt.config import AlignConfig
from nmt.data.batch import UNK
from nmt.errors import UserError
from nmt.text.lines import read_lines
from nmt.text.tokenizer import ListTokenizer, Tokenizer
from nmt.translate import Translator

TOGETHER = 64
"""Translations of which the forced passes share batches."""


def with_weights(
    translator: Translator, translations: Iterable[Translation], reading: Reading
) -> Iterator[tuple[Translation, list[Weights]]]:
    """Each translation with the weights [T+1,S+1] of each of its candidates, EOS included on both sides."""
    encode, feeder = translator.tokenizers[0].encode, translator.feeder
    iterator = iter(translations)
    while chunk := list(islice(iterator, TOGETHER)):
        examples = [
            feeder.example((t.source, encode(t.source)))._replace(tgt=candidate.hypothesis.tokens)
            for t in chunk
            for candidate in t.candidates
        ]
        found = iter(
            forced_weights(
                translator.model,
                examples,
                reading,
                device=translator.device,
                max_tokens=translator.search.max_tokens,
            )
        )
        for translation in chunk:
            yield translation, [next(found) for _ in translation.candidates]


def replace_unknown(
    translator: Translator,
    translations: Iterable[Translation],
    align: AlignConfig,
    dictionary: Mapping[str, str] | None = None,
) -> Iterator[Translation]:
    """The translations with each unknown word replaced by what the dictionary says of the source word that its step
    attends to most, or by that word itself (Luong et al. 2015, "Addressing the rare word problem", section 3.2).

    Scores and tokens of the hypotheses stay. Raises UserError for subwords, and for a model without attention.
    """
    tokenizers = translator.tokenizers
    if not all(isinstance(tokenizer, ListTokenizer) for tokenizer in tokenizers):
        raise UserError(
            "--replace-unk is for words and characters, and the tokens of this run are subwords",
            "They spell words that training never had, so that there is no unknown word to replace.",
        )
    reading = choose_reading(translator.model, align, device=translator.device)
    if reading.within is not None:
        raise UserError(f"--replace-unk asks attention to the source, and align.attention is {reading.name}")
    return _replaced(translator, translations, reading, dictionary or {})


def _replaced(
    translator: Translator, translations: Iterable[Translation], reading: Reading, dictionary: Mapping[str, str]
) -> Iterator[Translation]:
    src, tgt = translator.tokenizers
    entries: dict[str, str] = {}
    for word, entry in dictionary.items():
        entries.setdefault(src.normal(word), entry)
    for translation, weights in with_weights(translator, translations, reading):
        words, given = src.segment(translation.source).pieces, len(tgt.encode(translation.prefix))
        candidates = []
        for candidate, rows in zip(translation.candidates, weights, strict=True):
            tokens, extras = list(candidate.hypothesis.tokens), list(candidate.extras)
            for step, token in enumerate(tokens):
                if token == UNK and step >= given:
                    row = rows[step + (reading.read == "input")]
                    word = words[int(row[: len(words)].argmax())]
                    tokens[step] = len(tgt) + len(extras)
                    extras.append(entries.get(word, word))
            text = written(tgt, tokens, extras, translation.prefix)
            candidates.append(Candidate(text, candidate.hypothesis, candidate.extras))
        yield translation._replace(candidates=different(candidates))


def unusable(dictionary: Mapping[str, str], src: Tokenizer) -> list[str]:
    """The entries that replace nothing, as they are not one word of the source."""
    return [word for word in dictionary if len(src.segment(word).pieces) != 1]


def read_dictionary(path: Path) -> dict[str, str]:
    """Lines of a source word, a tab, and its translation; of several for a word the first counts."""
    entries: dict[str, str] = {}
    for number, line in enumerate(read_lines(path, record=True), start=1):
        parts = line.split("\t")
        if len(parts) != 2 or not all(part.strip() for part in parts):
            raise UserError(f"{path}, line {number}: not a word, a tab and its translation")
        entries.setdefault(parts[0].strip(), parts[1].strip())
    return entries
