"""Settings for so many pairs: what `nmt train` takes where nobody has said what the model is.

Toolkits come with settings made for millions of pairs, and small corpora suffer from them. Sources:

[SZ]   Sennrich and Zhang 2019, Revisiting Low-Resource Neural Machine Translation (arXiv 1905.11901): recurrent models.
       From 100,000 words on they beat phrase-based translation if the vocabulary is cut (14,000 to 2,000 pieces brought
       up to 5 BLEU), batches are small, words are dropped, layers are few, and label smoothing is tuned, too.
[AM]   Araabi and Monz 2020, Optimizing Transformer for Low-Resource NMT (2011.02266): up to 7.3 BLEU over the default
       settings, on subsets of IWSLT14.
[BPK]  van Biljon, Pretorius and Kreutzer 2020, On Optimal Transformer Depth for Low-Resource Language Translation
       (2004.04418): low to moderate depth is often best.
[MSN]  Morishita, Suzuki and Nagata 2018, NTT's Neural Machine Translation Systems for WMT 2018: on a small corpus a
       recurrent model is sometimes better than a transformer.
[A]    Atrio and Popescu-Belis 2022, Small Batch Sizes Improve Training of Low-Resource Neural MT (2203.10579).
[PEV]  Provilkov, Emelianenko and Voita 2020, BPE-Dropout (1910.13267).
[V]    Vaswani et al. 2017, the base model: section 5, and its rate of learning at its highest, (512 * 4000)**-0.5.
[IWSLT] what fairseq gives for IWSLT14, 160,000 pairs: 6 + 6 layers of 512, 10,000 joint pieces, dropout 0.3.
[M30K] recipes/multi30k, measured here: 29,000 pairs.

They agree on directions; where a figure stands between two of theirs, it is our judgement.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from nmt.config import TokenizerConfig, TrainConfig


class Preset(NamedTuple):
    """What depends on the size of the corpus."""

    most: float  # pairs it is for, at most
    pieces: int  # of a joint vocabulary
    kind: str
    layers: int  # of encoder and of decoder
    width: int
    feed_forward: int  # of a transformer
    heads: int
    dropout: float
    word_dropout: float
    label_smoothing: float
    subword_dropout: float
    max_tokens: int  # of a batch
    accumulate: int
    lr: float
    warmup: int
    steps: int
    validate_every: int


PRESETS = (
    # Some hundreds, some thousands: [SZ], and [MSN] for the kind; learning rates between the recipes' here.
    Preset(1_500, 1_000, "rnn", 1, 256, 0, 1, 0.5, 0.1, 0.2, 0.1, 512, 1, 2e-3, 200, 3_000, 100),
    Preset(12_000, 2_000, "rnn", 1, 512, 0, 1, 0.4, 0.1, 0.2, 0.1, 1_024, 1, 1.5e-3, 500, 8_000, 250),
    # Some ten thousands: [M30K], with more steps for longer sentences; patience ends it.
    Preset(80_000, 6_000, "transformer", 3, 256, 512, 4, 0.3, 0.0, 0.1, 0.1, 2_048, 1, 2.5e-3, 800, 10_000, 300),
    # Some hundred thousands: [IWSLT]. Millions: [V]; sampling subwords helps below a million [PEV].
    Preset(1e6, 10_000, "transformer", 6, 512, 1_024, 4, 0.3, 0.0, 0.1, 0.1, 4_096, 1, 5e-4, 4_000, 40_000, 1_000),
    Preset(
        float("inf"), 32_000, "transformer", 6, 512, 2_048, 8, 0.1, 0.0, 0.1, 0.0, 8_192, 4, 7e-4, 4_000, 100_000, 2_000
    ),
)
"""Smallest first. Between two sizes, the nearer in proportion."""

PATIENCE = 10

PASSES, LOWER, TOKENS_PER_PAIR = 20, 5, 30
"""Of a training that goes on with other text: passes over it, what the rate is divided by, and a guess."""

Reason = tuple[tuple[str, ...], str]


class Choice(NamedTuple):
    """Nested settings, as a configuration file has them, and in words: dotted keys, and why they have their values."""

    pairs: int
    settings: dict[str, Any]
    reasons: list[Reason]
    why: str = ", and no model in the settings"

    def only(self, *sections: str) -> Choice:
        """The same without other sections of the settings."""
        kept = {name: section for name, section in self.settings.items() if name in sections}
        return self._replace(settings=kept, why="")


def choose(pairs: int, tokenizer: TokenizerConfig, *, learned: bool = True, two_scripts: bool = False) -> Choice:
    """Settings for a corpus of so many pairs.

    `tokenizer` is what the user has said of it; it is left as it is where it is not `learned` for this run, or not
    made of subwords. `two_scripts`: the sides are written in different letters, so that they have no pieces in common.
    """
    preset = _preset(pairs)
    subwords = tokenizer.kind == "sentencepiece"
    train: dict[str, Any] = {
        "steps": preset.steps,
        "optimizer": {"lr": preset.lr},
        "schedule": {"kind": "inverse_sqrt", "warmup": preset.warmup},
        "accumulate": preset.accumulate,
        "label_smoothing": preset.label_smoothing,
        "validate_every": preset.validate_every,
        "patience": PATIENCE,
    }
    cut = learned and tokenizer.kind == "sentencepiece" and getattr(tokenizer, "path", None) is None
    joint = tokenizer.joint and not (cut and two_scripts)
    settings = {"data": {"max_tokens": preset.max_tokens}, "model": _model(preset, joint), "train": train}
    if cut:
        settings["tokenizer"] = {"size": preset.pieces, **({} if joint == tokenizer.joint else {"joint": joint})}
    if subwords and getattr(tokenizer, "path", None) is None and preset.subword_dropout:
        unigram = getattr(tokenizer, "model", "bpe") == "unigram"
        sampled = {"kind": "unigram"} if unigram else {"kind": "bpe_dropout", "rate": preset.subword_dropout}
        train["subword_sampling"] = sampled
    return Choice(pairs, settings, _reasons(preset))


def tune(pairs: int, before: TrainConfig, *, schedule: bool = False) -> Choice:
    """Settings to go on with a trained model on so many pairs of other text: some twenty passes at a low rate.

    `before` is how the model was trained. With `schedule` its rates go on.
    """
    preset = _preset(pairs)
    updates = pairs * TOKENS_PER_PAIR / (preset.max_tokens * preset.accumulate)  # of one pass
    steps = round(min(preset.steps, max(200, PASSES * updates)))
    train: dict[str, Any] = {
        "steps": steps,
        "validate_every": round(min(preset.validate_every, max(20, updates))),
        "patience": PATIENCE // 2,
        "optimizer": {**before.optimizer.model_dump(), "lr": before.peak / LOWER},
        "schedule": {"kind": "inverse_sqrt", "warmup": steps // 20},
        "accumulate": preset.accumulate,
        **before.model_dump(include={"label_smoothing", "consistency", "subword_sampling"}),
    }
    if schedule:
        train |= before.model_dump(include={"optimizer", "schedule"})
    rate = "as it went on" if schedule else f"1/{LOWER} of the highest rate so far, so that little is forgotten"
    reasons: list[Reason] = [
        (
            ("train.steps", "train.validate_every", "train.patience"),
            f"some {PASSES} passes; it stops by itself once it no longer gets better",
        ),
        (("train.optimizer.lr", "train.schedule.kind", "train.schedule.warmup"), rate),
        (("data.max_tokens", "train.accumulate"), "batches for so much text"),
        (
            ("train.label_smoothing", "train.subword_sampling.kind", "train.consistency.kind"),
            "as in the first training",
        ),
    ]
    settings = {"data": {"max_tokens": preset.max_tokens}, "train": train}
    return Choice(pairs, settings, reasons, " to go on with")


def _preset(pairs: int) -> Preset:
    return next(preset for preset in PRESETS if pairs <= preset.most)


def _model(preset: Preset, joint: bool) -> dict[str, Any]:
    width = preset.width
    if preset.kind == "rnn":
        encoder: dict[str, Any] = {"kind": "rnn", "layers": preset.layers, "width": width}
        decoder = {**encoder, "attention": {"kind": "additive", "width": width // 2}}
    else:
        shape = {"layers": preset.layers, "width": width, "heads": preset.heads, "feed_forward": preset.feed_forward}
        encoder = decoder = {"kind": "transformer", **shape}
    return {
        # One table for source, target and output is a third of the parameters of a small model.
        "embedding": {"width": width // 2 if preset.kind == "rnn" else width, "tie": "all" if joint else "decoder"},
        "encoder": encoder,
        "decoder": decoder,
        "dropout": preset.dropout,
        "word_dropout": preset.word_dropout,
    }


def _reasons(preset: Preset) -> list[Reason]:
    """In the order of importance, as the literature has it."""
    small = preset.most <= 80_000
    return [
        (
            ("tokenizer.size",),
            "in little text rare pieces are seen too seldom (Sennrich and Zhang 2019)"
            if small
            else "more text bears more pieces",
        ),
        (("tokenizer.joint",), "two writing systems have no pieces in common"),
        (
            ("model.encoder.kind", "model.encoder.layers", "model.encoder.width"),
            {
                "rnn": "the smaller the corpus, the smaller the model; recurrent ones need less text",
                "transformer": "shallow and narrow, for little text (van Biljon et al. 2020)"
                if small
                else "there is text enough for a deep one",
            }[preset.kind],
        ),
        (
            ("model.dropout", "model.word_dropout", "train.subword_sampling.kind", "train.label_smoothing"),
            "noise, against learning by heart (Sennrich and Zhang 2019)" if preset.dropout > 0.1 else "little noise",
        ),
        (
            ("data.max_tokens", "train.accumulate"),
            "small batches, many updates (Sennrich and Zhang 2019)" if small else "large batches, smooth gradients",
        ),
        (
            ("train.optimizer.lr", "train.schedule.warmup", "train.steps", "train.patience"),
            "for such a model and batch; it stops by itself once it no longer gets better",
        ),
    ]


def explain(choice: Choice, said: Mapping[str, Any], config: Mapping[str, Any]) -> list[str]:
    """A line for each reason: what has been chosen, without what the user has `said`, and why.

    `said` and `config` are nested settings; the latter are those that came out.
    """
    lines = []
    for keys, why in choice.reasons:
        values = {key: _at(choice.settings, key) for key in keys if _at(said, key) is None}
        chosen = [
            f"{key} {_shown(value)}" for key, value in values.items() if value is not None and value == _at(config, key)
        ]
        if chosen:
            lines.append(f"{', '.join(chosen)}: {why}")
    return lines


def _shown(value: Any) -> str:
    """As a file of settings has it."""
    return str(value).lower() if isinstance(value, bool) else f"{value:.3g}" if isinstance(value, float) else str(value)


def _at(values: Any, key: str) -> Any:
    """The value at a dotted key, if there is one."""
    for name in key.split("."):
        values = values.get(name) if isinstance(values, Mapping) else None
    return values
