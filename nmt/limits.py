"""What is too much, one table for all commands.

| of | the limit | beyond it |
|---|---|---|
| a line of text | LINE_BYTES, and UTF-8 | the line counts as empty, and a message names it |
| a line of any other file | RECORD_BYTES | the file is refused |
| a side of a pair that a model reads | search.max_source, in tokens | the same |
| a side of a pair to learn from | data.max_length, in tokens | the pair is left out and counted |
| a development pair | search.max_source, in tokens | the pair is left out and counted |
| a line under TER | TER_WORDS | TER is left out, and a message names the line |
| memory | what the machine has | one sentence on what to lower |
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

from nmt.errors import UserError

LINE_BYTES = 2**20
"""No sentence is longer. What is beyond is skipped as it is read, so that a line without end takes no memory."""
RECORD_BYTES = 2**28
"""Of files such as JSON lines, where one line may hold all the weights of a pair."""
TER_WORDS = 500
"""Its search for shifts takes seconds for 500 words, and minutes for 2,000."""

OUT_OF_MEMORY = (
    "out of memory",
    "can't allocate memory",
    "bad_alloc",
    "ALLOC_FAILED",
    "can't start new thread",
)
"""In the messages of allocators that raise a plain RuntimeError, such as the CPU's."""
LESS_MEMORY = (
    "Lower what is worked on at once: --set search.max_tokens=N, --beam and search.max_source where text is translated "
    "or read by a model, data.max_tokens in training; or take a smaller model."
)
"""Where nothing is known of what took it."""
NO_KERNEL = "could not create a primitive"
"""oneDNN's word when memory for its code or its buffers is refused."""


def beyond(side: str, tokens: int, limit: int) -> str | None:
    """Why no model reads so many tokens of one side; None if it does."""
    return None if tokens <= limit else f"the {side} has {tokens:,} tokens, more than search.max_source: {limit:,}"


def is_out_of_memory(error: BaseException) -> bool:
    message = str(error)
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError)  # torch.OutOfMemoryError is one
        and (any(text in message for text in OUT_OF_MEMORY) or message == NO_KERNEL)
    )


@contextmanager
def enough_memory(doing: str, hint: str) -> Iterator[None]:
    """Within it the machine's being out of memory is a UserError: what it was `doing`, and what to lower."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise UserError(f"out of memory {doing}", hint) from error


def memory_for_search(lengths: Sequence[int], hypotheses: int, max_tokens: int) -> AbstractContextManager[None]:
    """The same while lines of so many tokens are translated together."""
    return enough_memory(
        f"while translating {len(lengths):,} line{'s' * (len(lengths) != 1)} of up to {max(lengths):,} tokens, with "
        f"{hypotheses:,} hypotheses of each",
        f"Lower search.max_tokens, the size of a batch (it is {max_tokens:,}), or --beam, or search.max_source, so "
        "that lines as long as these are left empty.",
    )


def memory_for_pass(lengths: Sequence[tuple[int, int]], max_tokens: int) -> AbstractContextManager[None]:
    """The same while pairs of so many source and target tokens are read together."""
    src, tgt = map(max, zip(*lengths, strict=True))
    return enough_memory(
        f"in a pass over {len(lengths):,} pair{'s' * (len(lengths) != 1)} of up to {src:,} source and {tgt:,} target "
        "tokens",
        f"Lower search.max_tokens, the size of a batch (it is {max_tokens:,}), or search.max_source, so that pairs as "
        "long as these are left empty: with --set where the command has it, or in the run's config.yaml.",
    )
