"""Configuration files and overrides. The text of the messages is part of the contract."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nmt.config import (
    AdditiveConfig,
    AlignConfig,
    AverageConfig,
    Config,
    InverseSqrtSchedule,
    NoamSchedule,
    SentencePieceConfig,
    WordsConfig,
)
from nmt.errors import UserError
from nmt.settings.load import dump_config, load_config
from nmt.settings.paths import FILES, check_files

PRESETS = sorted((Path(__file__).parents[2] / "nmt" / "presets").glob("*.yaml"))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def load(text: str, *overrides: str, base: dict[str, Any] | None = None) -> Config:
    Path("c.yaml").write_text(text, encoding="utf-8")
    return load_config(Path("c.yaml"), overrides, base)


def message(text: str, *overrides: str, base: dict[str, Any] | None = None) -> str:
    with pytest.raises(UserError) as caught:
        load(text, *overrides, base=base)
    return caught.value.message


# What is accepted


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "{}", "data:\nmodel:\n  decoder:\n", "\ufeffmodel:\r\n"])
def test_empty_files_and_sections_mean_defaults(here: Path, text: str) -> None:
    assert load(text) == Config() == load_config(None)


def test_yaml_1_2(here: Path) -> None:
    config = load("data: {src: no, tgt: off}\ntrain: {optimizer: {lr: 1e-4, eps: 1E-9}, clip: 5}\n")
    assert (config.data.src, config.data.tgt) == (str(here / "no"), str(here / "off"))
    assert (config.train.optimizer.lr, config.train.optimizer.eps, config.train.clip) == (1e-4, 1e-9, 5.0)


def test_the_default_kind_need_not_be_named(here: Path) -> None:
    config = load("tokenizer: {size: 4000}\ntrain: {optimizer: {lr: 0.1}}\nmodel: {decoder: {attention: {width: 8}}}")
    assert config.tokenizer == SentencePieceConfig(size=4000)
    assert config.train.optimizer.lr == 0.1
    assert config.model.decoder.attention == AdditiveConfig(width=8)


def test_a_list(here: Path) -> None:
    assert load("align: {heads: [1, 3]}").align.heads == (1, 3)
    assert load("align:\n  heads:\n  - 2\n", "align.heads=[1,3]").align.heads == (1, 3)
    assert load("align: {heads: [1]}", "align.heads=null").align.heads is None
    config = Config(align=AlignConfig(attention="decoder.2.cross", heads=(4,), read="input"))
    assert load(dump_config(config)) == config


def test_an_alias_is_a_copy(here: Path) -> None:
    config = load("model: {encoder: &rnn {cell: gru}, decoder: *rnn}", "model.decoder.cell=lstm")
    assert (config.model.encoder.cell, config.model.decoder.cell) == ("gru", "lstm")


def test_files_are_relative_to_where_they_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, current = tmp_path / "recipe", tmp_path / "current"
    folder.mkdir()
    current.mkdir()
    monkeypatch.chdir(current)
    text = "data: {src: ../a.en, tgt: /abs/a.de, dev_src: x, dev_tgt: y}\ntokenizer: {path: sp.model}\n"
    (folder / "c.yaml").write_text(text)
    config = load_config(Path("../recipe/c.yaml"), ["data.dev_tgt=z"], {"data": {"dev_src": Path("w")}})
    assert config.data.src == str(tmp_path / "a.en")
    assert config.data.tgt == "/abs/a.de"
    assert (config.data.dev_src, config.data.dev_tgt) == (str(current / "w"), str(current / "z"))
    assert config.tokenizer.model_dump()["path"] == str(folder / "sp.model")


def test_every_setting_of_type_file_is_known_to_the_schema() -> None:
    sections = {"data": Config().data.model_dump(), "tokenizer": Config().tokenizer.model_dump()}
    assert all(key[1] in sections[key[0]] for key in FILES)


def test_overrides_come_last_and_merge(here: Path) -> None:
    text = "train: {steps: 10, average: null, schedule: {kind: noam, warmup: 7}}\ntokenizer: {kind: words, size: 9}"
    base = {"train": {"steps": 20, "seed": 5}}
    config = load(text, "train.steps=30", "train.schedule.width=64", "train.average.count=3", base=base)
    assert (config.train.steps, config.train.seed) == (30, 5)
    assert config.train.schedule.model_dump() == {"kind": "noam", "warmup": 7, "width": 64}
    assert config.train.average == AverageConfig(count=3)
    assert config.tokenizer == WordsConfig(size=9)


def test_an_override_can_replace_a_section_or_unset_a_value(here: Path) -> None:
    config = load("train: {schedule: {kind: noam}, patience: 3}", "train.schedule={warmup: 5}", "train.patience=null")
    assert config.train.schedule == InverseSqrtSchedule(warmup=5)
    assert config.train.patience is None
    assert load("", "train.average=null").train.average is None


@pytest.mark.parametrize("preset", PRESETS, ids=lambda preset: preset.stem)
def test_presets_load(preset: Path) -> None:
    assert load_config(preset).data.src is not None


def test_there_are_presets() -> None:
    assert {"rnn", "rnn-tiny", "transformer"} <= {preset.stem for preset in PRESETS}


def test_the_name_of_a_kind_is_short_for_the_section(here: Path) -> None:
    config = load("tokenizer: words\nmodel: {decoder: {attention: bilinear}}", "train.schedule=noam")
    assert (config.tokenizer, config.train.schedule) == (WordsConfig(), NoamSchedule())
    assert (
        config.model.decoder.attention == load("model: {decoder: {attention: {kind: general}}}").model.decoder.attention
    )
    assert load("", "search.length_penalty=gnmt", "search.length_penalty.alpha=2").search.length_penalty.alpha == 2


def test_a_text_of_one_kind_is_no_section_of_another(here: Path) -> None:
    transformer = "{kind: transformer, attention: basic}"
    text = f"model: {{embedding: {{width: 256}}, encoder: {transformer}, decoder: {transformer}}}"
    assert load(text).model.decoder.attention == "basic"
    assert load(dump_config(load(text))) == load(text)
    assert load(text, "model.decoder.attention=multihead").model.decoder.attention == "multihead"


ATTENTION = "model: {decoder: {attention: {kind: additive, width: 8, coverage: true, heads: 2}}}"


@pytest.mark.parametrize("kind", ["dot", "scaled_dot", "general", "bilinear", "none"])
@pytest.mark.parametrize("key", ["model.decoder.attention", "model.decoder.attention.kind"])
def test_what_other_kinds_know_falls_away_with_the_kind(here: Path, key: str, kind: str) -> None:
    attention = load(ATTENTION, f"{key}={kind}").model.decoder.attention
    assert attention.kind == {"bilinear": "general"}.get(kind, kind)
    assert getattr(attention, "heads", None) == (None if kind == "none" else 2 if key.endswith("kind") else 1)


def test_what_the_command_line_says_does_not_fall_away(here: Path) -> None:
    said = message(ATTENTION, "model.decoder.attention.width=9", "model.decoder.attention.kind=dot")
    assert said.endswith("unknown key; it belongs to kind additive")
    unknown = ATTENTION.replace("width", "widht")
    assert "attention.widht: unknown key" in message(unknown, "model.decoder.attention.kind=dot")


def test_no_attention_names_all_that_has_to_change_and_then_works(here: Path) -> None:
    text = "model: {decoder: {wiring: luong, input_feeding: true}, head: {kind: copy}, coverage: 0.5}\ntokenizer: words"
    said = message(text, "model.decoder.attention=none")
    assert said.startswith("--set model.decoder.attention: model.decoder.attention is none, and without one these have")
    changes = re.findall(r"model[\w.]+=\w+", said.partition(" (or")[0])
    assert len(changes) == 3
    assert load(text, "model.decoder.attention=none", *changes).model.head.kind == "vocab"
    own = re.findall(r"model[\w.]+=\w+", said.partition(" (or")[2])
    load(text, "model.decoder.attention=none", *changes[:-1], *own)


# What is refused


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("data:\n  max_tokns: 9", "c.yaml:2: data.max_tokns: unknown key; did you mean `max_tokens`?"),
        (
            "model:\n  layers: 3",
            "c.yaml:2: model.layers: unknown key; layers belongs under model.encoder or model.decoder",
        ),
        ("\nlr: 3", "c.yaml:2: lr: unknown key; lr belongs under train.optimizer"),
        ("train: {lr: 3}", "c.yaml:1: train.lr: unknown key; lr belongs under train.optimizer"),
        ("foo: 1", "c.yaml:1: foo: unknown key; valid here: data, tokenizer, model, train, search, align"),
        ("warmups: 1", "c.yaml:1: warmups: unknown key; did you mean `train.schedule.warmup`?"),
        (
            "tokenizer: {min_count: 2}",
            "c.yaml:1: tokenizer.min_count: unknown key; it belongs to kind words or characters",
        ),
        (
            "model: {decoder: {attention: {kind: dot, width: 3}}}",
            "c.yaml:1: model.decoder.attention.width: unknown key; it belongs to kind additive",
        ),
        (
            'train:\n  steps: "3"',
            'c.yaml:2: train.steps: expected a whole number, found the text "3": write it without quotes',
        ),
        ("train: {steps: 1e4}", "c.yaml:1: train.steps: expected a whole number, found 10000.0: write 10000"),
        ("train: {steps: 1.5}", "c.yaml:1: train.steps: expected a whole number, found 1.5"),
        ("train: {steps: true}", "c.yaml:1: train.steps: expected a whole number, found true"),
        ("train: {steps: 0}", "c.yaml:1: train.steps: must be greater than 0, found 0"),
        ("train: {clip: no}", 'c.yaml:1: train.clip: expected a number, found the text "no"'),
        ("train: {clip: .nan}", "c.yaml:1: train.clip: expected a finite number, found nan"),
        ("tokenizer: {joint: yes}", 'c.yaml:1: tokenizer.joint: expected true or false, found the text "yes"'),
        ("data:\n  src: 3\n  tgt: b", "c.yaml:2: data.src: expected text, found 3: put it in quotes"),
        (
            "data:\n  src: 2024-01-01\n  tgt: b",
            "c.yaml:2: data.src: expected text, found the date 2024-01-01: put it in quotes",
        ),
        ("model: rnn", 'c.yaml:1: model: expected a section of keys, found the text "rnn"'),
        (
            "tokenizer: wrds",
            "c.yaml:1: tokenizer: expected one of sentencepiece, words, characters, "
            'found the text "wrds"; did you mean `words`?',
        ),
        (
            "tokenizer: bpe",
            "c.yaml:1: tokenizer: expected one of sentencepiece, words, characters, "
            'found the text "bpe"; did you mean `sentencepiece` with `model: bpe`?',
        ),
        (
            "train: {average: none}",
            'c.yaml:1: train.average: expected a section of keys, found the text "none": write null',
        ),
        (
            "tokenizer: {kind: bpe}",
            'c.yaml:1: tokenizer.kind: expected one of sentencepiece, words, characters, found the text "bpe"; '
            "did you mean `sentencepiece` with `model: bpe`?",
        ),
        (
            "model: {encoder: {kind: lstm}}",
            'c.yaml:1: model.encoder.kind: expected one of rnn, transformer, found the text "lstm"; '
            "did you mean `rnn` with `cell: lstm`?",
        ),
        ("train: [1]", "c.yaml:1: train: expected a section of keys, found a list"),
        (
            "tokenizer:\n  kind: wrds",
            "c.yaml:2: tokenizer.kind: expected one of sentencepiece, words, characters, "
            'found the text "wrds"; did you mean `words`?',
        ),
        (
            "train: {metric: blue}",
            'c.yaml:1: train.metric: expected one of bleu, chrf, loss, found the text "blue"; did you mean `bleu`?',
        ),
        ("data:\n  src: a", "c.yaml:2: data: src and tgt go together: one of them is missing"),
        (
            "tokenizer: {kind: words}\nmodel:\n  embedding:\n    tie: all",
            "c.yaml:4: model.embedding.tie: all shares one embedding, so it needs tokenizer.joint: true",
        ),
        ("- 1", "c.yaml: expected sections (data:, model:, train:, ...) at the top, found a list"),
        ("a: 1\nb: 2\na: 3", "c.yaml:3:1: the key `a` is there twice"),
        ("train:\n  steps: 1\n\tseed: 2", "c.yaml:3:1: not YAML: found character '\\t' that cannot start any token"),
        ("train: {steps: 3", "c.yaml:1:17: not YAML: expected ',' or '}', but got '<stream end>'"),
        ("a: \x07", "c.yaml: not YAML: unacceptable character #x0007: special characters are not allowed"),
        ("data: {src: !!int x}", "c.yaml: not YAML: invalid literal for int() with base 10: 'x'"),
        ("a: &a {b: *a}", "c.yaml:1: nested too deeply (an alias of a section within itself?)"),
    ],
)
def test_one_mistake(here: Path, text: str, expected: str) -> None:
    assert message(text) == expected


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("train.stepz=1", "--set train.stepz: unknown key; did you mean `steps`?"),
        ("trian.steps=1", "--set trian.steps: trian: unknown key; did you mean `train`?"),
        ("align.heads=[]", "--set align.heads: no head is named; null means all"),
        ("align.heads=[2,1,2]", "--set align.heads: a head is there twice: 2, 1, 2"),
        ("align.heads=[1,0]", "--set align.heads: align.heads.2: must be greater than 0, found 0"),
        ("align.heads=3", "--set align.heads: expected a list, found 3"),
        ("train={stepz: 1}", "--set train: train.stepz: unknown key; did you mean `steps`?"),
        ("train.steps=x", '--set train.steps: expected a whole number, found the text "x"'),
        ("train.keep_best=0", "--set train.keep_best: must be greater than 0, found 0"),
        ("train.seed.x=1", "--set train.seed.x: train.seed is not a section, but 4"),
        ("train.steps", "--set train.steps: expected KEY=VALUE"),
        ("train..steps=1", "--set train..steps=1: expected KEY=VALUE"),
        ("train.steps={", "--set train.steps: not YAML: expected the node content, but found '<stream end>'"),
    ],
)
def test_a_mistake_in_an_override(here: Path, override: str, expected: str) -> None:
    assert message("train: {seed: 4}", override) == expected


def test_a_mistake_in_options(here: Path) -> None:
    assert message("", base={"data": {"src": "a"}}) == (
        "command line: data: src and tgt go together: one of them is missing"
    )


def test_all_mistakes_are_listed_in_the_order_of_the_file(here: Path) -> None:
    assert message("train: {steps: 0}\nsearch:\n  beem: 2\ndata: {src: 3, tgt: b}", "model.dropout=2") == (
        "4 problems in the settings:\n"
        "  --set model.dropout: must be less than 1, found 2\n"
        "  c.yaml:1: train.steps: must be greater than 0, found 0\n"
        "  c.yaml:3: search.beem: unknown key; did you mean `beam`?\n"
        "  c.yaml:4: data.src: expected text, found 3: put it in quotes"
    )


def test_files_that_cannot_be_read(here: Path) -> None:
    with pytest.raises(UserError, match=r"^none\.yaml: no such file or directory\n`nmt init NAME`"):
        load_config(Path("none.yaml"))
    with pytest.raises(UserError, match="is a directory"):
        load_config(here)
    Path("c.yaml").write_bytes(b"train:\n  # caf\xe9\n")
    with pytest.raises(UserError, match=r"^c\.yaml:2: not UTF-8 text"):
        load_config(Path("c.yaml"))


def test_check_files(here: Path) -> None:
    Path("a.en.gz").touch()
    Path("a.de").touch()
    config = load("data:\n  src: a.en\n  tgt: a.de\n", "tokenizer.path=sp.model")
    with pytest.raises(UserError) as caught:
        check_files(config, Path("c.yaml"))
    assert caught.value.message == (
        "2 problems in the settings:\n"
        f"  tokenizer.path: no such file: {here}/sp.model\n"
        f"  c.yaml:2: data.src: no such file: {here}/a.en; did you mean `a.en.gz`?"
    )
    check_files(load("data: {src: a.en.gz, tgt: a.de}"))
    with pytest.raises(UserError, match=r"^data\.prepared: .*a\.de is a file, not a folder$"):
        check_files(load("data: {prepared: a.de}"))
    with pytest.raises(UserError, match=r"^data\.src: .* is a folder, not a file$"):
        check_files(load("data: {src: ., tgt: a.de}"))


def numbers(node: Any, at: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """The numbers of a JSON schema, each with where it is."""
    for name, inner in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ():
        yield from numbers(inner, f"{at}.{name}")
    if isinstance(node, dict) and node.get("type") in ("integer", "number"):
        yield at, node


def test_every_number_has_bounds() -> None:
    """Nothing runs over, and nothing goes on for ever, whatever stands there."""
    found = dict(numbers(Config.model_json_schema()))
    assert len(found) > 80
    for at, schema in found.items():
        assert {"minimum", "exclusiveMinimum"} & schema.keys(), at
        assert {"maximum", "exclusiveMaximum"} & schema.keys(), at


@pytest.mark.parametrize(
    "override",
    [
        "search.length_penalty=500",
        "search.length_penalty={kind: reward, reward: 1e300}",
        "search.max_ratio=1e30",
        "search.max_extra=1000000000000",
        "search.sampling={temperature: 1e300}",
        "search.beam=1000000000",
        "train.seed=12345678901234567890123",
        "model.encoder.layers=100000",
        "model.encoder.width=2000000",
    ],
)
def test_numbers_beyond_all_reason_are_refused(here: Path, override: str) -> None:
    assert ": must be less than " in message("", override)


# Properties

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT | st.sampled_from(["words", "noam", "rnn", "dot"]),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(
                ["kind", "width", "layers", "attention", "schedule", "average", "size", "which", "more", "src"]
            )
            | TEXT,
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)
SECTIONS = ["data", "tokenizer", "model", "train", "search"]


@given(st.dictionaries(st.sampled_from(SECTIONS) | TEXT, VALUES, max_size=4))
@settings(max_examples=150, deadline=None)
def test_any_mapping_is_settings_or_a_user_error(base: dict[str, Any]) -> None:
    """No input makes the explaining itself fail, and every message says where the value came from."""
    try:
        said = type(load_config(None, base=base)).__name__
    except UserError as error:
        said = error.message
    assert said == "Config" or "command line: " in said


@given(
    src=TEXT.map(lambda name: "/x" + name.replace("/", "")),
    lr=st.floats(min_value=1e-300, max_value=1e38),
    seed=st.integers(min_value=0, max_value=2**63 - 1),
    average=st.none() | st.builds(AverageConfig, count=st.integers(1, 5)),
    tokenizer=st.builds(WordsConfig, lowercase=st.booleans())
    | st.builds(SentencePieceConfig, path=st.none() | st.just("/no")),
)
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_dump_and_load_agree(
    tmp_path: Path, src: str, lr: float, seed: int, average: AverageConfig | None, tokenizer: WordsConfig
) -> None:
    values = Config().model_dump() | {"tokenizer": tokenizer.model_dump()}
    values["data"] |= {"src": src, "tgt": "/1e-4"}
    values["train"] |= {"seed": seed, "average": None if average is None else average.model_dump()}
    values["train"]["optimizer"]["lr"] = lr
    config = Config.model_validate(values)
    path = tmp_path / "dumped.yaml"
    path.write_text(dump_config(config), encoding="utf-8")
    assert load_config(path) == config


# Lists of sections


def test_further_corpora_are_relative_to_where_they_are_written(here: Path) -> None:
    (here / "sub").mkdir()
    path = here / "sub" / "c.yaml"
    path.write_text("data:\n  src: a\n  tgt: b\n  more:\n  - {src: c, tgt: ../d, weight: 2}\n  - {src: e, tgt: f}\n")
    config = load_config(path, ["data.more.2.src=g", "data.more.2.tag=<x>"])
    first, second = config.data.more
    assert (first.src, first.tgt, first.weight, first.tag) == (str(here / "sub" / "c"), str(here / "d"), 2.0, None)
    assert (second.src, second.tgt, second.weight, second.tag) == (str(here / "g"), str(here / "sub" / "f"), 1.0, "<x>")
    (here / "again.yaml").write_text(dump_config(config))
    assert load_config(here / "again.yaml") == config
    assert load_config(path, ["data.more=null"]).data.more == ()
    with pytest.raises(UserError) as caught:
        check_files(config, path)
    assert f"{path}:5: data.more.1.tgt: no such file: {here / 'd'}" in caught.value.message
    assert f"data.more.2.src: no such file: {here / 'g'}" in caught.value.message


TWO = "data:\n  src: a\n  tgt: b\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("data:\n  more: [{src: c, tgt: d}]", "2: data: more names further corpora: src and tgt name the first"),
        (f"{TWO}  more:\n  - src: c", "5: data.more.1.tgt: missing"),
        (f"{TWO}  more:\n  - {{wieght: 2}}", "5: data.more.1.wieght: unknown key; did you mean `weight`?"),
        (
            f"{TWO}  more:\n  - {{src: c, tgt: d}}\n  - src: c\n    tgt: d\n    weight: 0",
            "8: data.more.2.weight: must be greater than 0, found 0",
        ),
        (
            f"{TWO}  more: [{{src: c, tgt: d, tag: a b}}]",
            "4: data.more.1.tag: it must be one word, without white space, such as <bt>",
        ),
        (f"{TWO}  more: {{src: c, tgt: d}}", "4: data.more: expected a list, found a section"),
        (f"{TWO}  more: [c.src]", '4: data.more.1: expected a section of keys, found the text "c.src"'),
    ],
)
def test_mistakes_in_a_list_of_sections(here: Path, text: str, expected: str) -> None:
    assert f"c.yaml:{expected}" in [line.strip() for line in message(text).splitlines()]


def test_an_item_that_is_not_there(here: Path) -> None:
    text = "data: {src: a, tgt: b, more: [{src: c, tgt: d}]}"
    place = "--set data.more.2.weight"
    assert message(text, "data.more.2.weight=2") == f"{place}: data.more.2 is not a section, but nothing"
    assert message(text, "data.more.1=2") == "--set data.more.1: data.more is not a section, but a list"


def test_what_was_called_keep_is_read_for_ever(here: Path) -> None:
    """It meant so many of the last and so many of the best. Who comes later, and who says it by its new name, wins."""

    def kept(text: str, *overrides: str) -> tuple[int, int]:
        train = load(text, *overrides).train
        return train.keep_last, train.keep_best

    assert kept("train: {keep: 4}") == (4, 4)
    assert kept("train: {keep: 4, keep_last: 1}") == (1, 4)
    assert kept("train: {keep: 4}", "train.keep_best=3") == (4, 3)
    assert kept("train: {keep: 4}", "train={keep: 3}") == (3, 3)
    assert kept(dump_config(Config()), "train.keep=3") == (3, 3)
    assert "c.yaml:2: train.keep_last: must be greater than 0, found 0" in message("train:\n  keep: 0\n")


def test_as_many_stay_as_are_averaged() -> None:
    assert (Config().train.last_kept, Config().train.best_kept) == (2, 5)
    train = load_config(None, ["train.average.which=last", "train.average.count=3", "train.keep_best=4"]).train
    assert (train.last_kept, train.best_kept) == (3, 4)
    assert load_config(None, ["train.average=null"]).train.best_kept == 2
