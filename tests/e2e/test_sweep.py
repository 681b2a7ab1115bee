"""A sweep that is killed goes on where it was; one that fails in a cell says so and goes on."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import short_runs
from grpo_dual.cli.main import main
from grpo_dual.evaluation.evaluated import SWEEP

STEPS = 3
SETTINGS: dict[str, Any] = {
    "model": {"name": "embedded", "dtype": "float32", "device": "cpu"},
    "objectives": {
        name: {
            "prompts_per_step": 2,
            "data": {"path": "synthetic", "train_samples": 32, "eval_samples": 8, **data},
        }
        for name, data in (("fairness", {}), ("hallucination", {"subsets": {"qa": 1.0}}))
    },
    "rollout": {"group_size": 4, "max_prompt_tokens": 464, "sampling": {"max_new_tokens": 16}},
    "train": {"steps": STEPS, "threads": 1, "optimizer": {"learning_rate": 1e-3}},
    "checkpoint": {"every": 1},
    "eval": {"decode": "train"},
    "doctor": {"mode": "off"},
}
CELLS = ("f0.2-h0.8", "f0.8-h0.2")


def config_file(folder: Path, **changes: Any) -> Path:
    path = folder / "run.yaml"
    path.write_text(json.dumps({**SETTINGS, **changes}))
    return path


def command(config: Path, out: Path, *more: str) -> list[str]:
    return ["sweep", str(config), "--weights", "0.2,0.8", "--out", str(out), *more]


def start(config: Path, out: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "grpo_dual", *command(config, out)], stdout=subprocess.DEVNULL
    )


def until(told: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 120
    while not told():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)


def rows(out: Path, cell: str) -> int:
    """Rows that a cell's run has written so far."""
    files = [*(out / cell).glob("*/train_step_metrics.csv")]
    return len(files[0].read_text().splitlines()) - 1 if files else 0


def run_of(out: Path, cell: str) -> Path:
    (folder,) = (out / cell).glob(f"{cell}-*/")
    return folder


def children(pid: int) -> list[int]:
    return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a sweep that nobody disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    assert main(command(config_file(folder), folder / "out")) == 0
    return folder / "out"


def test_the_table_has_every_cell_with_its_scores(whole: Path) -> None:
    cells = json.loads((whole / SWEEP).read_text())["cells"]
    assert [(c["name"], c["status"]) for c in cells] == [(name, "done") for name in CELLS]
    assert cells[0]["values"] == {
        "objectives.fairness.weight": "0.2",
        "objectives.hallucination.weight": "0.8",
    }
    assert any(c["on_front"] for c in cells)
    for cell in cells:
        assert cell["outcome"]["step"] == STEPS
        assert 0 <= cell["outcome"]["fairness"] <= 1
        assert cell["outcome"]["seconds"] > 0
    configs = [json.loads((run_of(whole, name) / "config.json").read_text()) for name in CELLS]
    weights = [[o["weight"] for o in c["objectives"].values()] for c in configs]
    assert weights == [[0.2, 0.8], [0.8, 0.2]]
    first, second = (short_runs.reproducible(run_of(whole, name)) for name in CELLS)
    assert first != second


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds processes by /proc")
def test_a_killed_sweep_goes_on_from_its_checkpoint(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, out = config_file(tmp_path), tmp_path / "out"
    process = start(config, out)
    until(lambda: rows(out, CELLS[1]) >= 1, process)  # the first cell is done, the second is not
    (run,) = children(process.pid)
    for pid in (process.pid, run):
        os.kill(pid, signal.SIGKILL)
    process.wait()
    done = run_of(out, CELLS[0])
    before = {p: p.stat().st_mtime_ns for p in done.rglob("*") if p.is_file()}
    begun = run_of(out, CELLS[1])
    assert not (begun / "training_metrics_summary.json").exists()
    capsys.readouterr()
    assert main(command(config, out)) == 0
    told = capsys.readouterr().out
    assert "1 of 2 cells are done" in told
    assert f"{CELLS[1]} goes on" in told
    assert {p: p.stat().st_mtime_ns for p in done.rglob("*") if p.is_file()} == before
    assert run_of(out, CELLS[1]) == begun
    for name in CELLS:
        expected = short_runs.reproducible(run_of(whole, name))
        assert short_runs.reproducible(run_of(out, name)) == expected


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds processes by /proc")
def test_a_run_that_outlives_its_sweep_is_waited_for(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, out = config_file(tmp_path), tmp_path / "out"
    process = start(config, out)
    until(lambda: bool(children(process.pid)), process)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert main(command(config, out)) == 0
    told = capsys.readouterr().out
    assert f"{CELLS[0]} is still run by an earlier start" in told
    assert f"{CELLS[0]} starts" not in told
    assert f"{CELLS[0]} done" in told
    expected = short_runs.reproducible(run_of(whole, CELLS[0]))
    assert short_runs.reproducible(run_of(out, CELLS[0])) == expected


def test_an_interrupted_sweep_ends_its_runs(tmp_path: Path) -> None:
    config, out = config_file(tmp_path), tmp_path / "out"
    process = start(config, out)
    until(lambda: rows(out, CELLS[0]) >= 1, process)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 130
    cells = json.loads((out / SWEEP).read_text())["cells"]
    # Whether the short run ended before the signal reached it is the machine's to decide.
    assert [c["status"] for c in cells] in (["waiting", "waiting"], ["done", "waiting"])
    n = rows(out, CELLS[0])
    time.sleep(1)
    assert rows(out, CELLS[0]) == n  # nobody writes on


def test_a_cell_that_fails_is_recorded_and_the_others_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, out = config_file(tmp_path), tmp_path / "out"
    missing = str(tmp_path / "nothing")
    grid = ["--grid", f"model.name={missing},embedded"]
    more = ["--train.steps", "1", "--jobs", "2"]
    arguments = ["sweep", str(config), *grid, *more, "--out", str(out)]
    assert main(arguments) == 1
    failed, done = json.loads((out / SWEEP).read_text())["cells"]
    assert (failed["status"], done["status"]) == ("failed", "done")
    assert missing in failed["error"]
    assert failed["outcome"] is None
    assert f"failed: {failed['error']}" in capsys.readouterr().out
    assert main(["pareto", str(out)]) == 0
    assert f"no evaluation yet of {failed['name']}" in capsys.readouterr().out
