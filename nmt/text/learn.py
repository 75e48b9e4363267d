"""Learning tokenizers from training text, and from nothing else."""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path

import sentencepiece

from nmt.config import CharactersConfig, SentencePieceConfig, TokenizerConfig, WordsConfig
from nmt.errors import UserError
from nmt.text.tokenizer import (
    BOS,
    EOS,
    PAD,
    SPACE_MARK,
    SPECIALS,
    UNK,
    CharacterTokenizer,
    SentencePieceTokenizer,
    Tokenizer,
    WordTokenizer,
    load_sentencepiece,
    normalise,
)

Lines = Callable[[], Iterable[str]]
"""Text that can be read more than once: each call starts at the first line."""

MOST_LINES = 2_000_000
"""SentencePiece holds its training text in memory; of a larger one it gets every second, third, ... line."""
LONGEST_WORD = 500
"""In characters; longer ones are cut: some versions of SentencePiece abort on words of more than 65,535."""
SKIPPED = str.maketrans({"▅": " ", SPACE_MARK: " "})
"""SentencePiece uses U+2585 for itself: lines that hold it would be skipped."""
BYTES = 256


def learn_tokenizers(
    config: TokenizerConfig, src_lines: Lines, tgt_lines: Lines, *, tags: Sequence[str] = ()
) -> tuple[Tokenizer, Tokenizer]:
    """The tokenizers (source, target) of a training text: one object twice if `config.joint`.

    `src_lines` and `tgt_lines` are called once for each pass over the text. The result depends on text and settings
    only. The size reached may differ from `config.size`: see len(tokenizer). `tags` are words that will stand before
    source lines: of what is learned, the source side has each of them as one token; whether it has them in any case,
    `check_tags` says. Raises UserError if there is nothing to learn from, or if `config.path` is not a SentencePiece
    model.
    """
    if config.joint:
        joint = _learn(config, lambda: chain(src_lines(), tgt_lines()), "training text", tags)
        return joint, joint
    src = _learn(config, src_lines, "source side of the training text", tags)
    if isinstance(config, SentencePieceConfig) and config.tgt_path is not None:
        return src, load_sentencepiece(Path(config.tgt_path), config)
    return src, _learn(config, tgt_lines, "target side of the training text")


def check_tags(tokenizer: Tokenizer, tags: Sequence[str]) -> None:
    """Raises UserError unless each of the tags is one token; a space apart before it does not count."""
    for tag in tags:
        ids = tokenizer.encode(tag)
        pieces = [piece for piece in tokenizer.pieces(ids) if piece != SPACE_MARK]
        if len(pieces) == 1 and UNK not in ids:
            continue
        if isinstance(tokenizer, CharacterTokenizer) and len(pieces) > 1:
            raise UserError(
                f"data.more: the tag {tag} is {len(pieces)} characters, and so {len(pieces)} tokens",
                "With tokenizer.kind: characters take one character that the text has not, such as ◆.",
            )
        raise UserError(
            f"data.more: the tag {tag} is not a token of the tokenizer, which makes it: {' '.join(pieces)}",
            "A tokenizer that is learned with the corpus has it; of one that is there already, name a piece as tag.",
        )


def _learn(config: TokenizerConfig, lines: Lines, what: str, tags: Sequence[str] = ()) -> Tokenizer:
    if isinstance(config, WordsConfig):
        words = WordTokenizer((), config)
        return WordTokenizer(_vocabulary(config, words.split, lines, what, tags), config)
    if isinstance(config, CharactersConfig):
        characters = CharacterTokenizer((), config)
        return CharacterTokenizer(_vocabulary(config, characters.split, lines, what, tags), config)
    if config.path is not None:
        return load_sentencepiece(Path(config.path), config)
    return _learn_sentencepiece(config, lines, what, tags)


def _vocabulary(
    config: WordsConfig | CharactersConfig,
    split: Callable[[str], list[str]],
    lines: Lines,
    what: str,
    tags: Sequence[str],
) -> list[str]:
    """What the tags are, and the most frequent tokens, `size` in all."""
    tokens = [*chain.from_iterable(map(split, tags)), *_most_frequent(config, map(split, lines()), what)]
    return list(dict.fromkeys(tokens))[: config.size]


def _most_frequent(config: WordsConfig | CharactersConfig, sentences: Iterable[list[str]], what: str) -> list[str]:
    """The `size` most frequent tokens that occur `min_count` times; of equally frequent ones, the first in code point
    order."""
    counts = Counter(chain.from_iterable(sentences))
    if not counts:
        raise UserError(f"the {what} is empty: there is nothing to learn a tokenizer from")
    kept = sorted((-count, token) for token, count in counts.items() if count >= config.min_count)
    if not kept:
        raise UserError(
            f"tokenizer.min_count is {config.min_count}, but nothing in the {what} occurs so often", "Lower it."
        )
    return [token for _, token in kept[: config.size]]


def _learn_sentencepiece(
    config: SentencePieceConfig, lines: Lines, what: str, tags: Sequence[str]
) -> SentencePieceTokenizer:
    # With the space before it: else that would be a token of its own.
    symbols = [SPACE_MARK + tag for tag in _training_lines(config, lambda: tags)]
    counts: Counter[str] = Counter()
    total = 0
    for total, line in enumerate(_training_lines(config, lines), start=1):  # noqa: B007
        counts.update(line)
    if not counts:
        raise UserError(f"the {what} is empty: there is nothing to learn a tokenizer from")
    rare = _rare_characters(config, counts)
    table = str.maketrans(dict.fromkeys(rare, "\0"))  # the learner leaves NUL out, and does not join what is beside it
    step = -(-total // MOST_LINES)  # rounded up
    needed = len(SPECIALS) + len(symbols) + BYTES * config.byte_fallback + len({*counts, " "} - rare)
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=(x.translate(table) for x in islice(_training_lines(config, lines), 0, None, step)),
            model_writer=model,
            model_type=config.model,
            vocab_size=max(config.size, needed),
            hard_vocab_limit=False,  # fewer pieces where the text has no more
            character_coverage=1.0,
            byte_fallback=config.byte_fallback,
            normalization_rule_name=_rule(config),
            max_sentence_length=2**30,  # longer lines would be skipped; the default is 4192 bytes
            num_threads=1,
            pad_id=PAD,
            bos_id=BOS,
            eos_id=EOS,
            unk_id=UNK,
            pad_piece=SPECIALS[PAD],
            bos_piece=SPECIALS[BOS],
            eos_piece=SPECIALS[EOS],
            unk_piece=SPECIALS[UNK],
            user_defined_symbols=symbols,
            minloglevel=2,  # errors only
        )
    except RuntimeError as error:
        raise UserError(f"SentencePiece cannot learn from the {what}: {error}") from error
    return SentencePieceTokenizer(model.getvalue(), config)


def _rule(config: SentencePieceConfig) -> str:
    """SentencePiece's own normalisation rule; NFC is ours to do."""
    return "nmt_nfkc" if config.normalization == "nmt_nfkc" else "identity"


def _training_lines(config: SentencePieceConfig, lines: Lines) -> Iterator[str]:
    """The lines that hold text, normalised, in a form that SentencePiece's learner takes."""
    normalizer = sentencepiece.SentencePieceNormalizer(
        rule_name=_rule(config), add_dummy_prefix=False, escape_whitespaces=False, remove_extra_whitespaces=True
    )
    long_word = re.compile(f"([^ ]{{{LONGEST_WORD}}})")
    for line in lines():
        line = normalise(line, lowercase=config.lowercase, nfc=config.normalization == "nfc").translate(SKIPPED)
        line = normalizer.normalize(line)
        if line.strip():
            yield long_word.sub(r"\1 ", line)


def _rare_characters(config: SentencePieceConfig, counts: Counter[str]) -> set[str]:
    """Characters to be spelled as bytes because all of them would take more than a third of the pieces.

    (SentencePiece's own setting for this, character_coverage, does not go below 0.98.)
    """
    if not config.byte_fallback:
        return set()
    ranked = sorted(counts, key=lambda character: (-counts[character], character))
    return set(ranked[max(config.size // 3, 100) :])
