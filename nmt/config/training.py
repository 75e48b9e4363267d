"""Settings of training: optimiser, schedule, and how often what is done."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from nmt.config.base import LARGEST, NotNegative, PositiveInt, PositiveWeight, Rate, Seed, Settings, Width


class AdamConfig(Settings):
    kind: Literal["adam", "adamw"] = "adam"
    lr: Annotated[float, Field(gt=0, le=LARGEST)] = 1e-3
    beta1: Rate = 0.9
    beta2: Rate = 0.98
    eps: Annotated[float, Field(gt=0, le=1)] = 1e-8
    weight_decay: Annotated[float, Field(ge=0, le=LARGEST)] = 0.0


class ConstantSchedule(Settings):
    """optimizer.lr throughout, after a linear warm-up."""

    kind: Literal["constant"] = "constant"
    warmup: NotNegative = 0


class InverseSqrtSchedule(Settings):
    """Linear warm-up to optimizer.lr, then lr * sqrt(warmup / step)."""

    kind: Literal["inverse_sqrt"] = "inverse_sqrt"
    warmup: PositiveInt = 2000


class LinearSchedule(Settings):
    """Linear warm-up to optimizer.lr, then linearly down, to nothing after `steps` updates."""

    kind: Literal["linear"] = "linear"
    warmup: NotNegative = 0
    steps: PositiveInt = Field(description="updates in all, warm-up included; train.steps is no more than that")

    @model_validator(mode="after")
    def _comes_down(self) -> Self:
        if self.warmup >= self.steps:
            raise ValueError(f"warmup is {self.warmup}, and steps {self.steps}: nothing is left to come down in")
        return self


class NoamSchedule(Settings):
    """optimizer.lr * width**-0.5 * min(step**-0.5, step * warmup**-1.5) (Vaswani et al. 2017, equation 3).

    There optimizer.lr is 1.0; with the default of 0.001 nothing would be learned.
    """

    kind: Literal["noam"] = "noam"
    warmup: PositiveInt = 4000
    width: Width = 512


class PlateauSchedule(Settings):
    """optimizer.lr, times `factor` whenever the development score has not improved for `patience` validations."""

    kind: Literal["plateau"] = "plateau"
    warmup: NotNegative = 0
    factor: Annotated[float, Field(gt=0, lt=1)] = 0.5
    patience: PositiveInt = 2


ScheduleConfig = Annotated[
    ConstantSchedule | InverseSqrtSchedule | LinearSchedule | NoamSchedule | PlateauSchedule,
    Field(discriminator="kind"),
]


class AverageConfig(Settings):
    """At the end, average the weights of some checkpoints and keep the average if it scores better on dev."""

    which: Literal["last", "best"] = "best"
    count: PositiveInt = 5


class NoConsistency(Settings):
    """One pass, one loss."""

    kind: Literal["none"] = "none"


class RDrop(Settings):
    """Two passes that differ by dropout, and their divergence (Liang et al. 2021). Costs about twice the time."""

    kind: Literal["rdrop"] = "rdrop"
    weight: PositiveWeight = 5.0


class SimCut(Settings):
    """A second pass with some words cut out, and its divergence from the first (Gao et al. 2022)."""

    kind: Literal["simcut"] = "simcut"
    weight: PositiveWeight = 3.0
    cut: Annotated[float, Field(gt=0, lt=1)] = Field(0.05, description="share of the words, on either side")


ConsistencyConfig = Annotated[NoConsistency | RDrop | SimCut, Field(discriminator="kind")]


class NoSampling(Settings):
    """A word has the same subwords each time."""

    kind: Literal["none"] = "none"


class BpeDropout(Settings):
    """Merges of BPE are left out by chance, so that words come in smaller pieces, too (Provilkov et al. 2020)."""

    kind: Literal["bpe_dropout"] = "bpe_dropout"
    rate: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.1, description="how probable it is that a merge is left out; 0.6 for Chinese and Japanese characters"
    )


class UnigramSampling(Settings):
    """One of the best segmentations x of a word by chance, p(x) ~ exp(alpha * score(x)) (Kudo 2018)."""

    kind: Literal["unigram"] = "unigram"
    alpha: Annotated[float, Field(ge=0, le=1_000)] = Field(
        0.2, description="0: all of the best are as probable; the higher, the more often the very best"
    )
    best: PositiveInt = Field(64, description="segmentations to choose among, for each word")


SubwordSamplingConfig = Annotated[NoSampling | BpeDropout | UnigramSampling, Field(discriminator="kind")]


class TrainConfig(Settings):
    steps: PositiveInt = Field(10000, description="updates of the weights")
    optimizer: AdamConfig = AdamConfig()
    schedule: ScheduleConfig = InverseSqrtSchedule()
    clip: Annotated[float, Field(ge=0, le=LARGEST)] = Field(1.0, description="largest gradient norm; 0 = no clipping")
    accumulate: PositiveInt = Field(1, description="batches per update")
    label_smoothing: Rate = 0.1
    consistency: ConsistencyConfig = Field(
        NoConsistency(),
        description="whether two passes over a pair shall agree: much better on small data, twice the time",
    )
    subword_sampling: SubwordSamplingConfig = Field(
        NoSampling(),
        description="cut words into other subwords in each epoch: helps most where there are few pairs, and with rare "
        "or misspelled words; lines get longer, and batches with them: beyond data.max_tokens by a fifth or so",
    )
    precision: Literal["auto", "float32", "tf32", "bfloat16"] = Field(
        "auto", description="of matrix products (tf32: on NVIDIA GPUs); auto takes what this machine is fast at"
    )
    compile: bool = Field(
        False,
        description="let PyTorch's compiler fuse the layers of a transformer: takes minutes at first; slower on a CPU",
    )
    seed: Seed = 1
    log_every: PositiveInt = 50
    validate_every: PositiveInt = 500
    metric: Literal["bleu", "chrf", "loss"] = Field("bleu", description="the development score that chooses `best`")
    patience: PositiveInt | None = Field(None, description="stop after so many validations without a better score")
    samples: NotNegative = Field(4, description="translations shown at each validation")
    keep_last: PositiveInt = Field(
        2, description="so many of the last checkpoints stay on disk, with all that training needs to go on from them"
    )
    keep_best: PositiveInt = Field(
        2, description="so many of the best stay, as weights alone; at least as many as are averaged at the end"
    )
    average: AverageConfig | None = AverageConfig()
    mean_decay: Rate = Field(
        0.0, description="judge and save a running mean of the weights, such as 0.999 (exponential); 0 = themselves"
    )

    @property
    def peak(self) -> float:
        """The highest rate that the schedule comes to."""
        if self.schedule.kind == "noam":
            return float(self.optimizer.lr * (self.schedule.width * self.schedule.warmup) ** -0.5)
        return self.optimizer.lr

    @property
    def last_kept(self) -> int:
        """How many of the last checkpoints stay, those for the average at the end included."""
        average = self.average
        return max(self.keep_last, average.count if average is not None and average.which == "last" else 0)

    @property
    def best_kept(self) -> int:
        """The same of the best ones."""
        average = self.average
        return max(self.keep_best, average.count if average is not None and average.which == "best" else 0)

    @model_validator(mode="after")
    def _rate_lasts(self) -> Self:
        if self.schedule.kind == "linear" and self.schedule.steps < self.steps:
            end = self.schedule.steps
            raise ValueError(
                f"schedule.steps is {end}: the rate is 0 from update {end + 1} on, but steps is {self.steps}: "
                "let both be the same"
            )
        return self
