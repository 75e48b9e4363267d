"""Law: with subword sampling, too, training that was stopped and resumed is training that was not, bit for bit."""

from __future__ import annotations

import io
import signal

import pytest
import torch
from zoo import ZOO

from nmt.config import Config, DataConfig, SentencePieceConfig
from nmt.data.phrasebook import generate
from nmt.data.prepare import prepare
from nmt.rundir import MODEL, OPTIMIZER, RunDir, read_tensors
from nmt.settings.load import load_config
from nmt.train.loop import train
from nmt.train.metrics import Console


class Interrupting(Console):
    def __init__(self, step=None):
        super().__init__(io.StringIO())
        self._at = step

    def advance(self, step):
        super().advance(step)
        if step == self._at:
            signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize(
    ("model", "sampling", "name"),
    [
        ("bpe", {"kind": "bpe_dropout", "rate": 0.3}, "copy"),
        ("unigram", {"kind": "unigram"}, "transformer"),
    ],
)
def test_resumed_training_is_uninterrupted_training(tmp_path, model, sampling, name):
    src, tgt, *_ = zip(*generate("train", 80), strict=True)
    for side, lines in (("src", src), ("tgt", tgt)):
        (tmp_path / side).write_text("".join(f"{line}\n" for line in lines), "utf-8")
    tokenizer = SentencePieceConfig(model=model, size=350)
    data = DataConfig(src=str(tmp_path / "src"), tgt=str(tmp_path / "tgt"), max_length=60)
    corpus = prepare(Config(data=data, tokenizer=tokenizer), tmp_path / "prepared", report=lambda text: None)

    def create(path, **changes):
        settings = {"precision": "float32", "steps": 6, "validate_every": 6, "log_every": 2, "samples": 0}
        base = {
            "data": {"prepared": str(corpus.folder), "max_tokens": 400, "max_length": 60},
            "tokenizer": tokenizer.model_dump(),
            "model": ZOO[name].model_dump(),
            "train": {**settings, "average": None, "subword_sampling": sampling, **changes},
        }
        return RunDir.create(tmp_path / path, load_config(None, base=base), corpus.tokenizers)

    def go(run, stop_at=None, **changes):
        return train(run, corpus, device=torch.device("cpu"), console=Interrupting(stop_at), **changes)

    def weights(run, file=MODEL):
        return read_tensors(run.checkpoint("last") / file)

    whole, stopped, plain = create("whole"), create("stopped"), create("plain", subword_sampling={"kind": "none"})
    for run in (whole, plain):
        assert go(run).step == 6
    assert go(stopped, stop_at=3).step == 3
    assert go(RunDir(stopped.path), resume=True).step == 6
    for file in (MODEL, OPTIMIZER):
        ours, theirs = weights(whole, file), weights(stopped, file)
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert any(not torch.equal(tensor, weights(plain)[key]) for key, tensor in weights(whole).items())
