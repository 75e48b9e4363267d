"""Settings of search: what is looked for, what is allowed, and when it stops."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, Strict, model_validator

from nmt.config.base import NotNegative, PositiveInt, Seed, Settings

Power = Annotated[float, Field(ge=0, le=10)]
"""Of a length: beyond it scores of long outputs are no numbers any more."""


class NoPenalty(Settings):
    """log p: of all outputs the most probable, and so rather the short ones."""

    kind: Literal["none"] = "none"


class AveragePenalty(Settings):
    """log p / length ** alpha: with alpha 1 the mean over tokens."""

    kind: Literal["average"] = "average"
    alpha: Power = 1.0


class GnmtPenalty(Settings):
    """log p / ((5 + length) / 6) ** alpha (Wu et al. 2016, equation 14)."""

    kind: Literal["gnmt"] = "gnmt"
    alpha: Power = 0.6


class RewardPenalty(Settings):
    """log p + reward * length: each token earns so many nats (He et al. 2016; Murray and Chiang 2018)."""

    kind: Literal["reward"] = "reward"
    reward: Annotated[float, Field(ge=-100, le=100)] = 0.5


def _number_is_average(value: Any) -> Any:
    """`length_penalty: 1.0` is short for `{kind: average, alpha: 1.0}`."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return {"kind": "average", "alpha": float(value)}
    return value


LengthPenaltyConfig = Annotated[
    NoPenalty | AveragePenalty | GnmtPenalty | RewardPenalty,
    Field(discriminator="kind"),
]


class SamplingConfig(Settings):
    """Draw tokens instead of searching for the best ones."""

    temperature: Annotated[float, Field(ge=1e-4, le=100)] = Field(
        1.0, description="below 1: closer to the most probable"
    )
    top_k: NotNegative = Field(0, description="draw from so many most probable tokens only; 0 = all")
    top_p: Annotated[float, Field(gt=0, le=1)] = Field(
        1.0, description="draw from the fewest tokens that have this probability together (nucleus)"
    )
    count: Annotated[int, Field(gt=0, le=10_000)] = Field(1, description="samples per sentence")
    seed: Seed = Field(1, description="with the number of the line it decides every draw")


class MbrConfig(Settings):
    """Of several outputs take the one that the others resemble most (minimum Bayes risk)."""

    utility: Literal["chrf", "bleu"] = Field("chrf", description="how resemblance is measured")


class SearchConfig(Settings):
    beam: Annotated[int, Field(gt=0, le=10_000)] = Field(5, description="hypotheses kept per sentence; 1 = greedy")
    stop: Literal["first_k", "exact"] = Field(
        "first_k",
        description="first_k: as many as the beam have ended and no other is ahead; exact: no other can get ahead",
    )
    length_penalty: Annotated[LengthPenaltyConfig, BeforeValidator(_number_is_average)] = Field(
        AveragePenalty(), description="how outputs of different lengths compare; a number is the alpha of `average`"
    )
    coverage_penalty: Annotated[float, Field(ge=0, le=1_000)] = Field(
        0.0, description="rank the n-best by score + this * sum of log min(1, attention a source token got)"
    )
    max_ratio: Annotated[float, Field(gt=0, le=1_000)] = Field(
        2.0, description="longest output: max_ratio * source + max_extra"
    )
    max_extra: Annotated[int, Field(gt=0, le=100_000)] = 10
    max_length: PositiveInt | None = Field(None, description="and never more tokens than this, the end counted")
    min_ratio: Annotated[float, Field(ge=0, le=1_000)] = Field(0.0, description="shortest output: min_ratio * source")
    min_length: PositiveInt = Field(1, description="and never fewer tokens than this, the end counted")
    no_repeat: NotNegative = Field(0, description="so many tokens in a row are never written twice; 0 = may be")
    no_repeat_words: NotNegative = Field(0, description="nor so many words, as white space separates them; 0 = may be")
    no_unk: bool = Field(False, description="never write <unk>")
    ban: Annotated[tuple[str, ...], Strict(False)] = Field(
        (), description="words or phrases that are never written, as words of their own, however they are cut"
    )
    sampling: SamplingConfig | None = Field(None, description="draw outputs instead of searching for the best")
    mbr: MbrConfig | None = Field(None, description="choose among the samples, or the beam, by minimum Bayes risk")
    max_tokens: PositiveInt = Field(16384, description="size of a batch: source tokens times beams, padding included")
    max_source: PositiveInt = Field(1024, description="longer lines are not translated (an empty line and a message)")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "float32", description="of the weights in search; bfloat16 is faster where the machine is, and rounds scores"
    )

    @model_validator(mode="after")
    def _settings_fit(self) -> Self:
        if self.min_ratio > self.max_ratio:
            raise ValueError(f"min_ratio is {self.min_ratio}, more than max_ratio: {self.max_ratio}")
        if self.max_length is not None and self.min_length > self.max_length:
            raise ValueError(f"min_length is {self.min_length}, more than max_length: {self.max_length}")
        if self.sampling is not None and self.coverage_penalty:
            raise ValueError("coverage_penalty ranks what beam search found, and sampling has no order: drop one")
        if self.sampling is not None and self.mbr is not None and self.sampling.count == 1:
            raise ValueError("mbr chooses among samples, and sampling.count is 1: draw 16 or more")
        return self

    @property
    def outputs(self) -> int:
        """Hypotheses that search gives for a sentence, at most."""
        return self.beam if self.sampling is None else self.sampling.count
