"""Checkpoints: restored exactly, thinned out, survived when damaged, averaged; and the record cut back."""

from __future__ import annotations

import json
import re

import pytest
import torch
from zoo import ZOO, batch

from nmt.config import Config, TrainConfig, WordsConfig
from nmt.errors import UserError
from nmt.models.build import build_model
from nmt.rundir import MODEL, OPTIMIZER, STATE, RunDir, distinct_tensors, load_weights, read_tensors
from nmt.text.tokenizer import WordTokenizer
from nmt.train.checkpoint import (
    average_checkpoints,
    choose,
    remove_others,
    restore,
    save_checkpoint,
    say_disk,
    scored_checkpoints,
    start_from,
    thin_out,
    thin_out_disk,
    tidy,
    write_average,
)
from nmt.train.mean import RunningMean
from nmt.train.metrics import Window, cut_back
from nmt.train.objective import Objective
from nmt.train.optim import make_optimizer
from nmt.train.state import Scored, TrainState, improves, ranked
from nmt.train.step import label_tokens, train_step

SETTINGS = TrainConfig()


class Training:
    """A run with a tiny model that takes real steps."""

    def __init__(self, path, name="lstm-feeding", decay=0.0):
        config = Config(tokenizer=WordsConfig(), model=ZOO[name])
        tokenizer = WordTokenizer([f"w{n}" for n in range(15)], WordsConfig())
        self.run = RunDir(path) if path.exists() else RunDir.create(path, config, (tokenizer, tokenizer))
        torch.manual_seed(3)
        self.model = build_model(config.model, 19, 19)
        self.optimizer = make_optimizer(SETTINGS.optimizer, self.model)
        self.mean = RunningMean(self.model, decay)
        self.state = TrainState()

    def step(self):
        pairs = batch(seed=self.state.step)
        train_step(
            Objective(self.model, SETTINGS),
            self.optimizer,
            [(self.state.step, pairs)],
            tokens=label_tokens(pairs),
            lr=0.01,
            settings=SETTINGS,
            device=torch.device("cpu"),
            precision="float32",
        )
        self.state.step += 1
        self.mean.update(self.state.step)

    def save(self, score):
        self.state.checkpoints.append(Scored(f"step-{self.state.step:08d}", self.state.step, score))
        save_checkpoint(self.run, self.model, self.optimizer, self.state, self.mean)
        if max(c.score for c in self.state.checkpoints) == score:
            self.run.point("best", self.state.checkpoints[-1].name)

    def restore(self):
        reports = []
        self.state = restore(self.run, self.model, self.optimizer, self.mean, report=reports.append)
        return reports


@pytest.fixture
def training(tmp_path):
    """Three steps with a checkpoint after each; the second scored best."""
    training = Training(tmp_path / "run")
    for score in (10.0, 12.0, 11.0):
        training.step()
        training.save(score)
    return training


def test_training_goes_on_from_a_checkpoint_bit_for_bit(training):
    training.state.window = [0.1, 1 / 3, 2.5, 70, 3]
    save_checkpoint(training.run, training.model, training.optimizer, training.state, training.mean)
    other = Training(training.run.path)
    assert other.restore() == []
    assert other.state == training.state
    for _ in range(3):
        training.step()
        other.step()
    for name, value in training.model.state_dict().items():
        assert torch.equal(value, other.model.state_dict()[name]), name


def test_a_window_goes_on_exactly():
    whole = Window(torch.device("cpu"))
    for n in range(1, 8):
        whole.add(torch.tensor([1 / n, n / 7, 0.1]), n)
    first = Window(torch.device("cpu"))
    for n in range(1, 4):
        first.add(torch.tensor([1 / n, n / 7, 0.1]), n)
    second = Window(torch.device("cpu"), json.loads(json.dumps(first.save())))
    for n in range(4, 8):
        second.add(torch.tensor([1 / n, n / 7, 0.1]), n)
    one, two = whole.report(), second.report()
    assert one["loss"] == pytest.approx(sum(1 / n for n in range(1, 8)) / 28)
    assert {k: v for k, v in one.items() if k != "tokens_per_second"} == {
        k: v for k, v in two.items() if k != "tokens_per_second"
    }
    assert whole.save() == [0.0, 0.0, 0.0, 0, 0]


def test_divergence_is_said_when_metrics_are_read():
    window = Window(torch.device("cpu"))
    window.add(torch.tensor([1.0, 1.0, float("nan")]), 5)
    with pytest.raises(UserError, match=r"training has diverged(.|\n)*lower train.optimizer.lr.*warmup"):
        window.report()


@pytest.mark.parametrize("file", [MODEL, OPTIMIZER, STATE])
def test_a_damaged_last_checkpoint_falls_back_to_the_one_before(training, file):
    path = training.run.checkpoints / "step-00000003" / file
    path.write_bytes(path.read_bytes()[:-20])
    other = Training(training.run.path)
    reports = other.restore()
    assert f"step-00000003 cannot be used: {path} is damaged" in reports[0]
    assert reports[1] == "going on from step-00000002 instead"
    assert other.state.step == 2
    assert training.run.pointed("last") == training.run.pointed("best") == "step-00000002"


def test_no_usable_checkpoint_is_an_error_that_names_the_file(training):
    for folder in training.run.checkpoints.iterdir():
        (folder / MODEL).unlink()
    with pytest.raises(UserError, match=r"no checkpoint to go on from: .*step-00000003/model.safetensors is missing"):
        training.restore()


def test_a_checkpoint_newer_than_last_is_not_resumed(training):
    """As after a crash between writing a checkpoint and pointing at it."""
    training.run.point("last", "step-00000002")
    assert training.restore() == []
    assert training.state.step == 2
    training.step()
    training.save(11.0)
    assert training.run.pointed("last") == "step-00000003"


def test_without_a_pointer_the_newest_is_taken(training):
    """As a file system may leave an empty file where a pointer was."""
    (training.run.path / "last").write_text("")
    assert training.run.pointed("last") is None
    assert training.restore() == [
        f"{training.run.path / 'last'} names no checkpoint that is there: going on from the newest"
    ]
    assert training.state.step == 3


def test_what_a_killed_process_left_is_tidied_away(training):
    training.step()
    save_checkpoint(training.run, training.model, training.optimizer, training.state, training.mean)
    training.run.point("last", "step-00000003")  # killed before the pointer was moved
    (training.run.checkpoints / ".step-00000005.1.tmp").mkdir()
    (training.run.checkpoints / "average-best-2").mkdir()
    (training.run.path / ".best.4194305.tmp").write_text("step-")  # more than Linux counts processes
    training.restore()
    tidy(training.run, training.state)
    assert sorted(path.name for path in training.run.checkpoints.iterdir()) == [
        "average-best-2",
        *(f"step-0000000{n}" for n in (1, 2, 3)),
    ]
    assert not list(training.run.path.glob(".*"))


@pytest.mark.parametrize("where", ["weights", "memory"])
def test_what_is_not_finite_is_never_saved(training, where):
    training.step()
    name, weight = next(iter(training.model.named_parameters()))
    broken = weight.data if where == "weights" else training.optimizer.state[weight]["exp_avg_sq"]
    broken[0, 0] = float("inf")
    what = name if where == "weights" else f"{name}.exp_avg_sq"
    with pytest.raises(UserError, match=f"training has diverged: a value of {what} is not a finite number"):
        save_checkpoint(training.run, training.model, training.optimizer, training.state, training.mean)
    assert training.run.pointed("last") == "step-00000003"
    assert sorted(p.name for p in training.run.checkpoints.iterdir()) == [f"step-0000000{n}" for n in (1, 2, 3)]


def test_a_new_run_takes_what_it_is_told_to(training, tmp_path):
    training.state.plateau_scale = 0.5
    save_checkpoint(training.run, training.model, training.optimizer, training.state, training.mean)
    folder = training.run.checkpoint("last")
    for keep in ((), ("optimizer",), ("schedule",), ("optimizer", "schedule")):
        other = Training(tmp_path / "-".join(["other", *keep]))
        state = start_from(folder, other.model, other.optimizer, keep)
        assert (state.schedule_start, state.plateau_scale) == ((3, 0.5) if "schedule" in keep else (0, 1.0))
        assert (state.step, state.checkpoints) == (0, [])
        for (name, ours), theirs in zip(other.model.named_parameters(), training.model.parameters(), strict=True):
            assert torch.equal(ours, theirs), name
            memory = other.optimizer.state.get(ours, {})
            assert set(memory) == (set(training.optimizer.state[theirs]) if "optimizer" in keep else set())
            for key, value in memory.items():
                assert torch.equal(value, training.optimizer.state[theirs][key])


def test_resuming_points_best_back_to_a_checkpoint_of_training(training):
    training.run.point("best", "average-best-5")
    training.restore()
    assert training.run.pointed("best") == "step-00000002"


def test_the_last_and_the_best_are_kept():
    scored = [Scored(f"step-{n:08d}", n, score) for n, score in enumerate([5.0, 9.0, 1.0, 8.0, 2.0, 3.0])]
    assert [c.step for c in thin_out(scored, "bleu", last=2, best=2)] == [1, 3, 4, 5]
    assert [c.step for c in thin_out(scored, "loss", last=2, best=2)] == [2, 4, 5]
    assert [c.step for c in thin_out(scored, "bleu", last=1, best=3)] == [0, 1, 3, 5]
    assert [c.step for c in choose(scored, "bleu", "best", 3)] == [0, 1, 3]
    assert [c.step for c in choose(scored, "loss", "best", 2)] == [2, 4]
    assert [c.step for c in choose(scored, "bleu", "last", 9)] == [0, 1, 2, 3, 4, 5]
    assert improves("loss", 1.0, 2.0)
    assert improves("bleu", 2.0, 1.0)
    assert not improves("bleu", 1.0, 1.0)
    assert improves("loss", 1.0, None)


def test_at_the_same_score_the_loss_decides():
    """As while BLEU is 0, or when a small development set is translated without a mistake."""
    assert improves("bleu", 50.0, 50.0, loss=1.0, best_loss=2.0)
    assert not improves("bleu", 50.0, 50.0, loss=2.0, best_loss=1.0)
    assert not improves("bleu", 50.0, 50.0, loss=1.0, best_loss=1.0)
    assert not improves("bleu", 49.0, 50.0, loss=1.0, best_loss=2.0)
    assert improves("bleu", 0.0, 0.3, loss=1.0, best_loss=2.0)  # neither says anything
    assert not improves("bleu", 0.3, 0.0, loss=2.0, best_loss=1.0)
    assert improves("chrf", 0.3, 0.0, loss=2.0, best_loss=1.0)
    equal = [Scored("a", 1, 50.0, 2.0), Scored("b", 2, 50.0, 1.0), Scored("c", 3, 40.0, 0.5), Scored("d", 4, 50.0)]
    assert [one.name for one in ranked("bleu", equal)] == ["b", "a", "d", "c"]


def test_only_unwanted_checkpoints_and_leftovers_are_removed(training):
    (training.run.checkpoints / ".step-00000009.1.tmp").mkdir()
    (training.run.checkpoints / "average-best-2").mkdir()
    remove_others(training.run, [])
    assert sorted(p.name for p in training.run.checkpoints.iterdir()) == [
        "average-best-2",
        "step-00000002",  # best
        "step-00000003",  # last
    ]


def test_only_the_last_have_what_training_needs_to_go_on(training):
    """The others are weights, and no training tries to go on from them."""
    thin_out_disk(training.run, training.state)
    folders = [training.run.checkpoints / c.name for c in training.state.checkpoints]
    assert [(folder / OPTIMIZER).exists() for folder in folders] == [False, True, True]
    assert all((folder / MODEL).exists() for folder in folders)
    for folder in folders[1:]:
        (folder / OPTIMIZER).write_bytes(b"cut")
    with pytest.raises(UserError, match="no checkpoint to go on from"):
        training.restore()


@pytest.mark.parametrize("decay", [0.0, 0.9])
def test_what_is_said_to_go_on_disk_is_what_does(tmp_path, decay):
    """At most: two of the last, one more that is being written, the best and an average."""
    training = Training(tmp_path / "run", decay=decay)
    training.step()
    training.save(1.0)
    sizes = {path.name: path.stat().st_size for path in training.run.checkpoint("last").iterdir()}
    settings = TrainConfig(mean_decay=decay)
    expected = 3 * (sizes[MODEL] + sizes[OPTIMIZER]) + (settings.average.count + 1) * sizes[MODEL]
    said = say_disk(training.model, settings)
    number = re.match(r"checkpoints take up to ([\d.]+) MB .*: the last 2 .* and the best 5 ", said)
    assert float(number[1]) == pytest.approx(expected / 1e6, rel=0.2, abs=0.06)  # a file of so small ones has headers


def test_the_average_is_the_mean_of_every_tensor(training):
    folders = [training.run.checkpoints / f"step-0000000{n}" for n in (1, 2, 3)]
    mean = average_checkpoints(folders)
    for name in distinct_tensors(training.model):
        expected = torch.stack([read_tensors(f / MODEL)[name] for f in folders]).mean(0)
        torch.testing.assert_close(mean[name], expected)
        assert mean[name].dtype == torch.float32
    chosen = choose(scored_checkpoints(training.run), "bleu", "best", 2)
    folder = write_average(training.run, "average-best-2", chosen)
    load_weights(folder / MODEL, training.model)
    assert json.loads((folder / STATE).read_text())["average_of"] == ["step-00000002", "step-00000003"]


def test_different_models_have_no_average(training, tmp_path):
    other = Training(tmp_path / "other", "gru")
    other.save(1.0)
    with pytest.raises(UserError, match="are of different models: they have no average"):
        average_checkpoints([training.run.checkpoints / "step-00000001", other.run.checkpoints / "step-00000000"])


def test_the_record_is_cut_back_to_a_step(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 5, "a": 1}\n{"step": 10}\n{"step": 15}\n{"step": 10, "b": "é"}\n{"step": 20, "lo')
    cut_back(path, 10, print)
    assert path.read_text() == '{"step": 5, "a": 1}\n{"step": 10}\n{"step": 10, "b": "é"}\n'
    cut_back(tmp_path / "none", 10, print)


def test_a_line_cut_within_a_letter_is_dropped(tmp_path):
    path = tmp_path / "samples.jsonl"
    whole = '{"step": 5, "source": "a", "reference": "b", "output": "ᎣᏏᏲ"}\n'
    path.write_bytes((whole + '{"step": 5, "output": "Ꭳ').encode()[:-1] + b"\n\0\0\0")
    cut_back(path, 10, print)
    assert path.read_text("utf-8") == whole


def weights(model):
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def test_the_running_mean_is_a_sum_of_what_the_weights_were(tmp_path):
    """m_n = sum over k of w_k (1 - d_k) times the d of all later updates; the checkpoint holds m, training goes on
    with w."""
    training = Training(tmp_path / "run", decay=0.3)
    seen = [weights(training.model)]
    for _ in range(5):
        training.step()
        seen.append(weights(training.model))
    decays = [min(0.3, (1 + n) / (10 + n)) for n in range(1, 6)]
    training.save(1.0)
    stored = read_tensors(training.run.checkpoint("last") / MODEL)
    for name in weights(training.model):
        expected = seen[0][name].double()
        for decay, weight in zip(decays, seen[1:], strict=True):
            expected = decay * expected + (1 - decay) * weight[name].double()
        torch.testing.assert_close(stored[name].double(), expected, atol=1e-6, rtol=1e-5)
        assert torch.equal(weights(training.model)[name], seen[-1][name])
    with training.mean.judged():
        assert all(torch.equal(weights(training.model)[name], stored[name]) for name in stored if name in seen[0])


def test_training_goes_on_with_the_weights_not_their_mean(tmp_path):
    training = Training(tmp_path / "run", decay=0.9)
    for _ in range(3):
        training.step()
    training.save(1.0)
    other = Training(tmp_path / "run", decay=0.9)
    assert other.restore() == []
    for each in (training, other):
        each.step()
    for name, weight in weights(training.model).items():
        assert torch.equal(weights(other.model)[name], weight)
        assert torch.equal(other.mean.means[name], training.mean.means[name])


def test_a_checkpoint_without_a_mean_is_not_taken_for_one_with(tmp_path):
    training = Training(tmp_path / "run")
    training.save(1.0)
    with pytest.raises(UserError, match="no weights beside their running mean"):
        Training(tmp_path / "run", decay=0.9).restore()
