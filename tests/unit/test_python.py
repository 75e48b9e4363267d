"""What a program or a notebook asks of `nmt`: one text or many, arguments that cannot be, attention, gradients."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from zoo import WORDS, build, write_run

import nmt
from nmt.candidates import Translation
from nmt.config import SearchConfig, WordsConfig
from nmt.errors import UserError
from nmt.text.tokenizer import WordTokenizer
from nmt.translate import Translator

TOKENIZER = WordTokenizer(WORDS, WordsConfig())


def make(name: str = "lstm-feeding", **search: object) -> Translator:
    settings = SearchConfig.model_validate({"beam": 2, "max_ratio": 1.0, "max_extra": 4, **search})
    return Translator(build(name), (TOKENIZER, TOKENIZER), settings, device=torch.device("cpu"))


@pytest.mark.parametrize("line", ["w1 w2 w3", "", b"w1 w2", b"\xff"])
def test_one_text_gets_one_translation(line: str | bytes) -> None:
    translator = make()
    found = translator.translate(line, nbest=2)
    assert isinstance(found, Translation)
    assert [found] == translator.translate([line], nbest=2) == list(translator.stream(line, nbest=2))
    assert translator.translate("w1 w2", prefixes="w3").text.startswith("w3")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"beam": 0}, "beam=0: it is a number from 1 on"),
        ({"beam": "2"}, "beam='2': it is a number from 1 on"),
        ({"nbest": -1}, "nbest=-1: it is a number from 1 on"),
        ({"nbest": 3}, "nbest=3 needs as many hypotheses, and search makes 2"),
        ({"lines": None}, "lines is a sequence of texts, and this is None"),
        ({"lines": 7}, "lines is a sequence of texts, and this is 7"),
        ({"lines": ["w1", None]}, r"lines\[1\] is no text: None"),
        ({"prefixes": "w1"}, "prefixes is a sequence of texts, and this is 'w1'"),
        ({"prefixes": [1]}, r"prefixes\[0\] is no text: 1"),
    ],
)
def test_arguments_that_cannot_be(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        make().translate(**{"lines": ["w1"], **arguments})  # type: ignore[call-overload]
    if "nbest" in arguments:  # what a wider beam makes possible
        assert len(make().translate("w1", nbest=3, beam=3).candidates) == 3


def test_a_lone_surrogate_costs_only_its_line() -> None:
    good, bad = make().translate(["w1", "w2 \udce9"])
    assert good == make().translate("w1")
    assert bad == Translation([], r"no text (a lone surrogate, '\udce9', letter 4)")


def test_the_model_of_a_translator_is_refused_for_another() -> None:
    translator = make()
    with pytest.raises(UserError, match="laid out for search"):
        Translator(translator.model, translator.tokenizers, translator.search, device=translator.device)


@pytest.mark.parametrize("name", ["lstm-feeding", "transformer", "copy", "copy-ngrams"])
def test_gradients_reach_every_weight(tmp_path: Path, name: str) -> None:
    """And the losses are those that search and scoring see."""
    write_run(tmp_path / "run", name)
    translator = nmt.load(tmp_path / "run", trainable=True)
    pairs = [("w1 w2", "w3"), ("w4 zzz", "w5 w6 zzz")]
    losses = translator.model(translator.batch(pairs)).nll
    losses.sum().backward()
    without = [n for n, p in translator.model.named_parameters() if p.grad is None]
    assert without == []
    best = nmt.load(tmp_path / "run").translate("w1 w2").candidates[0]
    forced = translator.model(translator.batch([("w1 w2", best.text)])).nll.sum()
    assert -float(forced.detach()) == pytest.approx(best.hypothesis.log_prob, rel=1e-3, abs=1e-3)


def test_an_alignment_by_another_attention() -> None:
    translator = make("transformer")
    translation = translator.translate("w1 w2 w3")
    own = translator.alignment(translation)
    assert translator.model.alignment is not None
    name = translator.model.alignment.name
    heads = [translator.alignment(translation, attention=name, heads=[n]).weights for n in (1, 2)]
    assert own.weights == pytest.approx(sum(heads) / 2, abs=1e-6)
    assert translator.alignment(translation, heads=(2,)).weights == pytest.approx(heads[1])
    later = translator.alignment(translation, step="input").weights
    assert later.shape == own.weights.shape
    assert abs(later - own.weights).max() > 1e-3
    assert translator.alignment(translation, attention="encoder.1.self").src == ["w1", "w2", "w3", "</s>"]
    for arguments, message in (
        ({"attention": "decoder.9.cross"}, "the model has no attention called 'decoder.9.cross'\nIt has encoder.1"),
        ({"heads": [3]}, "has no head 3: it has 2"),
        ({"heads": [0]}, "heads=0: it is a number from 1 on"),
        ({"step": "both"}, """step='both': it is "output" or "input\""""),
    ):
        with pytest.raises(UserError, match=message):
            translator.alignment(translation, **arguments)  # type: ignore[arg-type]


def test_the_names_of_the_package_are_what_it_offers() -> None:
    found = subprocess.run(
        [sys.executable, "-c", "import nmt, sys; print(dir(nmt), 'torch' in sys.modules)"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert found.stdout == "['__version__', 'load'] False\n"
