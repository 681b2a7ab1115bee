"""A whole run with TensorBoard, killed and resumed: each step once, with the numbers of the CSV."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import short_runs
from grpo_dual.errors import ConfigError
from grpo_dual.metrics.sinks import RunMetrics
from grpo_dual.metrics.trackers import STATE
from grpo_dual.train.run import train
from grpo_dual.train.tracking import told

STEPS = 5


class Killed(BaseException):
    """Stands in for a signal: nothing catches it."""


def test_a_killed_run_has_each_step_once(model: Path, tmp_path: Path) -> None:
    config = short_runs.config(
        model,
        tmp_path,
        train={"steps": STEPS},
        eval={"every": 2},
        tracking={"to": ["tensorboard"]},
    )
    write = RunMetrics.write_step

    def dying(self: RunMetrics, row: dict[str, float]) -> dict[str, float | int | None]:
        numbers = write(self, row)
        if numbers["step"] == 4:  # the checkpoint is of step 2
            raise Killed
        return numbers

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunMetrics, "write_step", dying)
        with pytest.raises(Killed):
            train(config)
    folder = short_runs.only_run(tmp_path)
    assert train(config, folder) == 0
    found = EventAccumulator(str(folder / "tensorboard"))
    found.Reload()
    rows = short_runs.rows(folder)
    for tag, column in (("fairness/kl", "kl_f"), ("run/grad_norm", "grad_norm")):
        events = found.Scalars(tag)
        assert [event.step for event in events] == list(range(1, STEPS + 1))
        # Event files hold single precision.
        expected = [float(row[column]) for row in rows]
        assert [event.value for event in events] == pytest.approx(expected, rel=1e-6)
    assert [e.step for e in found.Scalars("fairness/eval/accuracy_ambig")] == [0, 2, 4, STEPS]
    assert found.Tags()["tensors"] == []  # no completions


def test_no_tracker_leaves_nothing_behind(run: Callable[..., Path]) -> None:
    folder = run()
    assert not (folder / STATE).exists()
    assert not (folder / "tensorboard").exists()


def test_a_missing_extra_stops_a_run_before_its_folder_is_made(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ConfigError, match=r"grpo-dual\[wandb\]"):
        train(short_runs.config(model, tmp_path / "runs", tracking={"to": ["wandb"]}))
    assert not (tmp_path / "runs").exists()


def test_trackers_hear_of_no_judge_and_no_folder(model: Path, tmp_path: Path) -> None:
    heard = told(short_runs.config(model, tmp_path))
    assert heard.keys().isdisjoint({"judge", "out", "tracking"})
    assert "path" not in heard["objectives"]["fairness"]["data"]  # type: ignore[index]
    assert heard["train"]["steps"] == 8  # type: ignore[index]
