"""A run that was killed and resumed gives the same bytes as the run that never was."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import short_runs
from grpo_dual.config.schema import RunConfig
from grpo_dual.metrics.sinks import RunMetrics
from grpo_dual.train import run as run_module
from grpo_dual.train.checkpoint import Checkpoints
from grpo_dual.train.run import train
from grpo_dual.train.step import Updater
from short_runs import only_run, reproducible

COMMAND = "import sys; from grpo_dual.cli.main import main; sys.exit(main())"
STEPS = 6
SECTIONS: dict[str, dict[str, Any]] = {
    # A warm-up, two updates on the same samples and a falling rate: all of it has a state.
    "sft": {"steps": 2, "batch_size": 4},
    "train": {
        "steps": STEPS,
        "num_iterations": 2,
        "optimizer": {"learning_rate": 1e-2, "schedule": "cosine"},
    },
    "eval": {"every": 3, "probe": {"every": 3, "prompts": 2}},
    "checkpoint": {"every": 2, "keep_last": 2},
}


@pytest.fixture(scope="module")
def whole(model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """What the uninterrupted run wrote."""
    out = tmp_path_factory.mktemp("whole")
    assert train(short_runs.config(model, out, **SECTIONS)) == 0
    return reproducible(only_run(out))


def test_the_uninterrupted_run_trains(whole: dict[str, object]):
    """Equal bytes mean nothing when nothing moves."""
    rows = whole["csv"]
    assert isinstance(rows, list)
    assert len(rows) == STEPS
    assert all(float(row["grad_norm"]) > 0 for row in rows)
    assert float(rows[-1]["kl_f"]) > 0
    assert float(rows[0]["lr"]) > float(rows[-1]["lr"]) > 0


class Killed(BaseException):
    """Stands in for a signal: nothing catches it."""


def after(
    monkeypatch: pytest.MonkeyPatch, owner: type | object, name: str, calls: int, *, done: bool
) -> None:
    """Let ``owner.name`` be called ``calls`` times, then die: behind that call, or before it."""
    original: Callable[..., object] = getattr(owner, name)
    count = 0

    def dying(*args: Any, **kwargs: Any) -> object:
        nonlocal count
        count += 1
        if count == calls and not done:
            raise Killed
        result = original(*args, **kwargs)
        if count == calls:
            raise Killed
        return result

    monkeypatch.setattr(owner, name, dying)


@pytest.mark.parametrize(
    ("owner", "name", "calls", "done"),
    [
        (run_module, "warm_up", 1, True),
        (run_module, "measure", 1, True),
        (run_module, "probe", 1, True),
        (Checkpoints, "save", 1, False),
        (Updater, "update", 10, True),
        (RunMetrics, "write_step", 5, True),
        (RunMetrics, "write_completion", 21, True),
        (RunMetrics, "write_probe", 2, True),
        (RunMetrics, "write_evaluation", 3, True),
        (Checkpoints, "save", 3, False),
        (RunMetrics, "write_summary", 1, False),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)).rpartition(".")[2],
)
def test_resumed_run_is_the_same(
    owner: type,
    name: str,
    calls: int,
    done: bool,
    model: Path,
    whole: dict[str, object],
    tmp_path: Path,
):
    config = short_runs.config(model, tmp_path, **SECTIONS)
    with pytest.MonkeyPatch.context() as patch:
        after(patch, owner, name, calls, done=done)
        with pytest.raises(Killed):
            train(config)
    folder = only_run(tmp_path)
    assert not (folder / "training_metrics_summary.json").exists()
    assert train(config, folder) == 0
    assert reproducible(folder) == whole
    assert json.loads((folder / "training_metrics_summary.json").read_text())["steps"] == STEPS


def test_killed_twice(model: Path, whole: dict[str, object], tmp_path: Path):
    config = short_runs.config(model, tmp_path, **SECTIONS)
    resume: Path | None = None
    for calls in (3, 4):
        with pytest.MonkeyPatch.context() as patch:
            after(patch, RunMetrics, "write_step", calls, done=True)
            with pytest.raises(Killed):
                train(config, resume)
        resume = only_run(tmp_path)
    assert train(config, resume) == 0
    assert resume is not None
    assert reproducible(resume) == whole


def test_a_half_written_line_is_dropped(model: Path, whole: dict[str, object], tmp_path: Path):
    config = short_runs.config(model, tmp_path, **SECTIONS)
    with pytest.MonkeyPatch.context() as patch:
        after(patch, RunMetrics, "write_step", 4, done=True)
        with pytest.raises(Killed):
            train(config)
    folder = only_run(tmp_path)
    for name in ("train_step_metrics.csv", "train_step_metrics.jsonl", "completions.jsonl"):
        with (folder / name).open("ab") as file:
            file.write(b'{"step": 5, "x')
    assert train(config, folder) == 0
    assert reproducible(folder) == whole


def contents(folder: Path) -> dict[str, tuple[int, bytes]]:
    files = [p for p in folder.rglob("*") if p.is_file()]
    return {str(p): (p.stat().st_mtime_ns, p.read_bytes()) for p in files}


def test_a_finished_run_is_left_alone(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    config = short_runs.config(model, tmp_path, train={"steps": 1})
    train(config)
    folder = only_run(tmp_path)
    before = contents(folder)
    capsys.readouterr()
    assert train(config, folder) == 0
    assert "finished" in capsys.readouterr().out
    assert contents(folder) == before


def start(config: Path, *arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", COMMAND, "train", *arguments],
        cwd=config.parent,
        env={**os.environ, "PYTHONPATH": str(short_runs.HERE)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def test_sigkill_at_a_random_moment(model: Path, whole: dict[str, object], tmp_path: Path):
    config = tmp_path / "run.yaml"
    config.write_text(json.dumps(short_runs.settings(model, tmp_path / "out", **SECTIONS)))
    moment = random.randrange(STEPS + 1), random.uniform(0, 0.3)
    print(f"killed {moment[1]:.3f} s after row {moment[0]} (0: after the folder was made)")
    process = start(config, str(config), "--doctor", "off")
    deadline = time.monotonic() + 120
    while rows_written(tmp_path / "out") < moment[0]:
        assert process.poll() is None, process.stderr and process.stderr.read().decode()
        assert time.monotonic() < deadline
        time.sleep(0.005)
    time.sleep(moment[1])
    process.send_signal(signal.SIGKILL)
    process.communicate()
    folder = only_run(tmp_path / "out")
    assert train(RunConfig.model_validate_json((folder / "config.json").read_text()), folder) == 0
    assert reproducible(folder) == whole


def rows_written(out: Path) -> int:
    """Rows of the metric CSV so far; 0 when there is no more than a run folder, -1 without one."""
    metrics = [folder / "train_step_metrics.csv" for folder in out.glob("short-*")]
    if not metrics or not metrics[0].exists():
        return len(metrics) - 1
    return len(metrics[0].read_text().splitlines()) - 1
