"""A scorer of the user's own, as nmt/README.md shows it, from training to translation; and all that can be wrong."""

from __future__ import annotations

import random
import re
import sys
import textwrap
from pathlib import Path

import pytest
import torch

from nmt.config import CopyHeadConfig, CustomConfig, ModelConfig, RnnDecoderConfig, RnnEncoderConfig
from nmt.data.batch import collate
from nmt.errors import UserError
from nmt.models.attention import build_attention, build_scorer
from nmt.models.build import build_model
from nmt.models.interface import Memory

README = Path(__file__).resolve().parents[2] / "nmt" / "README.md"
TINY = """
tokenizer: {kind: words}
train: {steps: 4, validate_every: 4, log_every: 2, samples: 1, precision: float32, average: null}
"""
SMALL = ("--set", "model.embedding.width=8", "--set", "model.encoder.width=8", "--set", "model.decoder.width=8")


def block(language: str) -> str:
    """The first block of a language under `A scorer of your own`."""
    section = README.read_text("utf-8").split("**A scorer of your own**")[1]
    return textwrap.dedent(re.findall(rf"^  ```{language}\n(.*?)^  ```$", section, re.MULTILINE | re.DOTALL)[0])


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with mine.py and mine.yaml of the README and a little text, where the user is."""
    draw = random.Random(1)
    lines = [" ".join(draw.choices("abcdefgh", k=draw.randint(1, 5))) for _ in range(30)]
    (tmp_path / "train.en").write_text("".join(f"{line}\n" for line in lines))
    (tmp_path / "train.de").write_text("".join(f"{line[::-1]}\n" for line in lines))
    (tmp_path / "mine.py").write_text(block("python"))
    (tmp_path / "mine.yaml").write_text(TINY + block("yaml"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NMT_TRUST_CODE", raising=False)
    before, paths = set(sys.modules), list(sys.path)
    yield tmp_path
    assert sys.path == paths
    for name in set(sys.modules) - before:
        if name.split(".")[0] in ("mine", "wrong", "package"):
            del sys.modules[name]


TEXTS = ("--src", "train.en", "--tgt", "train.de", "--dev-src", "train.en", "--dev-tgt", "train.de")
TRAIN = ("train", "mine.yaml", *TEXTS, *SMALL, "--device", "cpu")


def test_from_the_example_to_a_translation(command, here, monkeypatch):
    """Training a configuration of one's own needs no permission; loading a run does, whichever command it is."""
    command(*TRAIN, "-o", "run")
    del sys.modules["mine"]
    refused = (
        "run has code of its own: to load it is to run mine:Distance from the current folder or from what is "
        "installed\nif you trust that code, set the environment variable NMT_TRUST_CODE=1 and repeat the command"
    )
    for arguments in (
        ("translate", "run", "train.en"),
        ("score", "run", "train.en", "train.de"),
        ("align", "run", "train.en", "train.de"),
        ("info", "run"),
        ("train", "run", "--resume"),
        ("train", "mine.yaml", *TEXTS, "-o", "other", "--init-from", "run"),
    ):
        assert refused in command(*arguments, code=2)[1]
        assert "mine" not in sys.modules
    assert not (here / "other").exists()
    monkeypatch.setenv("NMT_TRUST_CODE", "0")
    assert refused in command("translate", "run", "train.en", code=2)[1]

    monkeypatch.setenv("NMT_TRUST_CODE", "1")
    out, err = command("translate", "run", "train.en")
    assert (len(out.splitlines()), err) == (30, "")
    assert "custom attention" in command("info", "run")[0]
    assert "going on from step 4" in command("train", "run", "--resume", "--set", "train.steps=6")[1]

    (here / "mine.py").unlink()
    del sys.modules["mine"]
    said = command("translate", "run", "train.en", code=2)[1]
    assert f"attention.scorer: mine:Distance: there is no module mine, neither in {here} nor among those" in said


def test_a_mistake_is_told_before_any_work(command, here):
    err = command(*TRAIN, "-o", "run", "--set", "model.decoder.attention.options.temper=1.0", code=2)[1]
    assert "attention.options {'temperature': 4.0, 'temper': 1.0}: got an unexpected keyword argument 'temper'" in err
    assert "temperature: float = 1.0" in err
    assert "pairs" not in err
    assert not (here / "run").exists()


def test_the_example_measures_distance(here):
    scorer = build_scorer(CustomConfig(scorer="mine:Distance", options={"temperature": 2.0}), 6, 7)
    assert scorer.training
    query, states = torch.randn(2, 3, 6), torch.randn(2, 4, 7)
    distances = torch.cdist(query, scorer.project(states)).square() / 4
    weights = scorer.score(query, scorer.keys(states)).softmax(-1)
    torch.testing.assert_close(weights, (-distances).softmax(-1))


def test_several_heads_over_a_scorer_of_ones_own(here):
    attention = build_attention(CustomConfig(scorer="mine:Distance", heads=2), 6, 8, "test")
    assert attention.scorer.project.weight.shape == (3, 3)
    memory = Memory(torch.randn(2, 4, 8), None, torch.randn(2, 8))
    context, weights = attention(torch.randn(2, 5, 6), *attention.keys(memory), None)
    assert (context.shape, weights.shape) == ((2, 5, 8), (2, 5, 4))


HISTORIC = """
from nmt.models.scorers import Scorer

class Elsewhere(Scorer):
    uses_history = True

    def score(self, query, keys, history):
        return -5 * history
"""


def test_a_scorer_of_ones_own_may_use_history(here):
    """One that looks where it has not looked yet looks everywhere in turn; a copying head cannot have it."""
    (here / "wrong.py").write_text(HISTORIC)
    custom = CustomConfig(scorer="wrong:Elsewhere")
    decoder = RnnDecoderConfig(width=8, attention=custom, input_feeding=False)
    model = build_model(ModelConfig(encoder=RnnEncoderConfig(width=8), decoder=decoder), 9, 9)
    seen = []
    model.attend(collate([[4, 5]], [[6] * 60]), lambda _, weights, __: seen.append(weights) or weights)
    assert len(seen) == 61
    torch.testing.assert_close(sum(seen)[0, 0, 0], torch.full((3,), 61 / 3), atol=0.1, rtol=0)
    with pytest.raises(UserError, match=r"model\.head\.attention: its scorer uses history, but a head sees the whole"):
        build_model(ModelConfig(head=CopyHeadConfig(attention=custom)), 9, 9)


def test_a_module_may_be_in_a_package(here):
    (here / "package").mkdir()
    (here / "package" / "__init__.py").touch()
    (here / "package" / "near.py").write_text(block("python"))
    build_scorer(CustomConfig(scorer="package.near:Distance"), 6, 6)
    with pytest.raises(UserError, match=r"there is no module package\.far, neither"):
        build_scorer(CustomConfig(scorer="package.far:Distance"), 6, 6)


WRONG = """
from torch import nn
from nmt.models.scorers import Scorer

class NoScorer(nn.Module): ...
class NoScore(Scorer): ...
class Flat(Scorer):
    def score(self, query, keys, history=None): return query.sum(-1)
class Whole(Scorer):
    def score(self, query, keys, history=None): return (query @ keys.transpose(1, 2)).long()
class Nothing(Scorer):
    def score(self, query, keys, history=None): pass
class Keys(Scorer):
    def keys(self, states): return states[:, 1:]
    def score(self, query, keys, history=None): return query @ keys.transpose(1, 2)
class Needs(Scorer):
    def __init__(self, query_width, memory_width, depth): ...
    def score(self, query, keys, history=None): pass
function = print
"""


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("NoScorer", "is no subclass of nmt.models.scorers.Scorer\nderive it from Scorer and write `score`"),
        ("NoScore", "has no `score`"),
        ("Flat", ": score() of a query [2, 3, 6] and keys [2, 4, 6] gives [2, 3]\nit must be [2, 3, 4]"),
        ("Whole", " gives torch.int64\nit must be a tensor of floating-point numbers [2, 3, 4]"),
        ("Nothing", " gives NoneType\nit must be a tensor of floating-point numbers [2, 3, 4]"),
        ("Keys", ": keys() of states [2, 4, 6] gives [2, 3, 6]\nit must be [2, 4, any]"),
        ("Needs", "cannot be made of (query_width, memory_width) and attention.options {}: missing a required "),
        ("Absent", "wrong.py has no class Absent\nits classes: NoScorer, NoScore, Flat, Whole, Nothing, Keys, Needs"),
        ("function", "wrong.py has no class function"),
    ],
)
def test_what_can_be_wrong_with_a_class(here, name, said):
    (here / "wrong.py").write_text(WRONG)
    with pytest.raises(UserError) as caught:
        build_scorer(CustomConfig(scorer=f"wrong:{name}"), 6, 6)
    assert str(caught.value).startswith(f"attention.scorer: wrong:{name}")
    assert said in str(caught.value)


def test_a_module_that_needs_another_one(here):
    (here / "wrong.py").write_text("import surely_not_installed\n")
    with pytest.raises(UserError, match="wrong imports surely_not_installed, which is not there"):
        build_scorer(CustomConfig(scorer="wrong:Any"), 6, 6)


def test_a_module_without_a_file(here):
    with pytest.raises(UserError, match="builtins has no class exec"):
        build_scorer(CustomConfig(scorer="builtins:exec"), 6, 6)


def test_errors_in_the_users_code_keep_their_traceback(here):
    (here / "wrong.py").write_text("1 / 0\n")
    with pytest.raises(ZeroDivisionError):
        build_scorer(CustomConfig(scorer="wrong:Any"), 6, 6)


@pytest.mark.parametrize(
    "scorer", ["mine", "mine.Distance", "mine:", ":Distance", "my-module:Distance", "a..b:C", None]
)
def test_an_import_path_is_module_and_class(command, here, scorer):
    change = "model.decoder.attention=" + (
        "{kind: custom}" if scorer is None else f'{{kind: custom, scorer: "{scorer}"}}'
    )
    err = command("train", *TEXTS, "-o", "run", "--set", change, code=2)[1]
    ends = "and is missing" if scorer is None else f"not {scorer}"
    assert f"scorer is a class by its import path, like mypackage.mymodule:MyScorer, {ends}\n" in err
