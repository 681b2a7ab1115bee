"""Metric files: exact bytes, exact resume, clear refusals."""

import csv
import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grpo_dual.errors import CheckpointError
from grpo_dual.metrics import sinks
from grpo_dual.metrics.sinks import Cell, RunMetrics
from grpo_dual.metrics.values import Fraction, Mean

COLUMNS = ("step", "loss", "kl_f")
FILES = (sinks.STEP_CSV, sinks.STEP_JSONL, sinks.COMPLETIONS, sinks.EVALUATIONS, sinks.PROBES)


def row(step: int) -> dict[str, Cell]:
    return {"step": step, "loss": 1 / step, "kl_f": None if step == 2 else step * 0.1}


def walk(metrics: RunMetrics, steps: range) -> None:
    for step in steps:
        metrics.write_step(row(step))
        metrics.write_completion(step, {"text": f"naïve\u2028answer {step}"})
        if step % 2 == 0:
            metrics.write_evaluation(step, {"accuracy": step / 8})
            metrics.write_probe(step, {"fairness": {"entropy": 1 / step}})


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in FILES}


@pytest.fixture
def whole(tmp_path: Path) -> dict[str, bytes]:
    """The files of a run of six steps that was never killed."""
    folder = tmp_path / "whole"
    folder.mkdir()
    with RunMetrics(folder, COLUMNS) as metrics:
        metrics.write_evaluation(0, {"accuracy": 0.0})
        metrics.write_probe(0, {"fairness": {"entropy": 2.0}})
        walk(metrics, range(1, 7))
    return contents(folder)


def test_bytes_of_the_step_files(tmp_path: Path):
    with RunMetrics(tmp_path, COLUMNS) as metrics:
        metrics.write_step({"step": 1, "loss": 0.1 + 0.2, "kl_f": Mean.of([1.0, 2.0])})
        metrics.write_step({"step": 2, "loss": math.nan, "kl_f": Fraction()})
        metrics.write_step({"step": 3, "loss": -math.inf, "kl_f": True})
        # Flushed per row: readable before the files are closed.
        assert (tmp_path / sinks.STEP_CSV).read_bytes() == (
            b"step,loss,kl_f\n1,0.30000000000000004,1.5\n2,nan,\n3,-inf,1\n"
        )
    assert (tmp_path / sinks.STEP_JSONL).read_bytes() == (
        b'{"step": 1, "loss": 0.30000000000000004, "kl_f": 1.5}\n'
        b'{"step": 2, "loss": "nan", "kl_f": null}\n'
        b'{"step": 3, "loss": "-inf", "kl_f": 1}\n'
    )


@given(st.floats(allow_nan=False))
def test_floats_read_back_to_the_same_double(tmp_path_factory: pytest.TempPathFactory, x: float):
    folder = tmp_path_factory.mktemp("floats")
    with RunMetrics(folder, COLUMNS) as metrics:
        metrics.write_step({"step": 1, "loss": x})
    with (folder / sinks.STEP_CSV).open(newline="") as file:
        (read,) = csv.DictReader(file)
    assert float(read["loss"]).hex() == x.hex()
    assert read["kl_f"] == ""


@pytest.mark.parametrize("checkpoint", [1, 3, 5])
@pytest.mark.parametrize("torn", [0, 1, 9])
def test_resume_gives_the_files_of_the_run_that_was_never_killed(
    tmp_path: Path, whole: dict[str, bytes], checkpoint: int, torn: int
):
    with RunMetrics(tmp_path, COLUMNS) as metrics:
        metrics.write_evaluation(0, {"accuracy": 0.0})
        metrics.write_probe(0, {"fairness": {"entropy": 2.0}})
        walk(metrics, range(1, 6))
    for name in FILES:
        path = tmp_path / name
        # A line of the killed step, torn after some characters.
        with path.open("ab") as file:
            file.write(whole[name].splitlines(keepends=True)[-1][:torn])
    with RunMetrics(tmp_path, COLUMNS) as metrics:
        metrics.resume(checkpoint)
        walk(metrics, range(checkpoint + 1, 7))
    assert contents(tmp_path) == whole
    assert not list(tmp_path.glob(".*"))


def test_resume_without_a_checkpoint_starts_over(tmp_path: Path, whole: dict[str, bytes]):
    with RunMetrics(tmp_path, COLUMNS) as metrics:
        metrics.write_evaluation(0, {"accuracy": 0.0})
        metrics.write_probe(0, {"fairness": {"entropy": 2.0}})
        walk(metrics, range(1, 3))
    (tmp_path / sinks.STEP_CSV).write_bytes(b"step,lo")
    with RunMetrics(tmp_path, COLUMNS) as metrics:
        metrics.resume(None)
        metrics.write_evaluation(0, {"accuracy": 0.0})
        metrics.write_probe(0, {"fairness": {"entropy": 2.0}})
        walk(metrics, range(1, 7))
    assert contents(tmp_path) == whole


def test_resume_at_step_0_keeps_the_evaluation_before_training(tmp_path: Path):
    with RunMetrics(tmp_path, COLUMNS) as metrics:
        metrics.write_evaluation(0, {"accuracy": 0.5})
        walk(metrics, range(1, 3))
    with RunMetrics(tmp_path, COLUMNS) as metrics:
        metrics.resume(0)
    assert (tmp_path / sinks.STEP_CSV).read_text() == "step,loss,kl_f\n"
    assert (tmp_path / sinks.EVALUATIONS).read_text() == '{"step": 0, "accuracy": 0.5}\n'


def test_a_missing_step_is_named(tmp_path: Path):
    with RunMetrics(tmp_path, COLUMNS) as metrics:
        walk(metrics, range(1, 5))
    path = tmp_path / sinks.STEP_JSONL
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:1] + lines[2:]))
    with pytest.raises(CheckpointError, match=r"train_step_metrics\.jsonl: step 2 is missing"):
        RunMetrics(tmp_path, COLUMNS).resume(4)
    path.write_text("".join(lines[:2] + lines[1:]))
    with pytest.raises(CheckpointError, match="twice"):
        RunMetrics(tmp_path, COLUMNS).resume(4)


def test_a_damaged_line_is_named(tmp_path: Path):
    with RunMetrics(tmp_path, COLUMNS) as metrics:
        walk(metrics, range(1, 5))
    path = tmp_path / sinks.COMPLETIONS
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([lines[0], b"\xff\x00oops\n", *lines[2:]]))
    before = path.read_bytes()
    with pytest.raises(CheckpointError, match=r"completions\.jsonl, line 2: not a metric row"):
        RunMetrics(tmp_path, COLUMNS).resume(4)
    assert path.read_bytes() == before


def test_other_columns_are_refused(tmp_path: Path):
    with RunMetrics(tmp_path, COLUMNS) as metrics:
        walk(metrics, range(1, 3))
    with pytest.raises(CheckpointError, match="columns are not those of this run"):
        RunMetrics(tmp_path, (*COLUMNS, "lr")).resume(1)


def test_a_fresh_run_never_writes_into_an_earlier_one(tmp_path: Path):
    with RunMetrics(tmp_path, COLUMNS) as metrics:
        walk(metrics, range(1, 2))
    before = contents_of_steps(tmp_path)
    with RunMetrics(tmp_path, COLUMNS) as metrics, pytest.raises(CheckpointError, match="--resume"):
        metrics.write_step(row(1))
    assert contents_of_steps(tmp_path) == before


def contents_of_steps(folder: Path) -> tuple[bytes, bytes]:
    return (folder / sinks.STEP_CSV).read_bytes(), (folder / sinks.STEP_JSONL).read_bytes()


def test_unknown_keys_and_skipped_steps_are_refused(tmp_path: Path):
    with RunMetrics(tmp_path, COLUMNS) as metrics:
        with pytest.raises(ValueError, match="kl_x"):
            metrics.write_step({"step": 1, "kl_x": 0.0})
        with pytest.raises(ValueError, match="step 0 is followed by step 2"):
            metrics.write_step({"step": 2})
        with pytest.raises(ValueError, match="step None"):
            metrics.write_step({"loss": 2.0})
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match="first column"):
        RunMetrics(tmp_path, ("loss", "step"))


def test_a_sample_with_nan_is_refused(tmp_path: Path):
    with RunMetrics(tmp_path, COLUMNS) as metrics, pytest.raises(ValueError, match="JSON"):
        metrics.write_completion(1, {"reward": math.nan})


def test_a_file_in_place_of_the_folder_is_named(tmp_path: Path):
    blocked = tmp_path / "run"
    blocked.write_text("a file")
    with RunMetrics(blocked, COLUMNS) as metrics, pytest.raises(CheckpointError, match="--out"):
        metrics.write_step(row(1))


def test_summary_from_the_rows(tmp_path: Path):
    with RunMetrics(tmp_path, COLUMNS) as metrics:
        for step in range(1, 13):
            loss: Cell = float(step)
            if step == 4:
                loss = math.nan
            metrics.write_step({"step": step, "loss": loss, "kl_f": None if step > 2 else 0.5})
        metrics.write_summary(
            wall_seconds=3.5,
            better={"loss": "lower"},
            evaluation={"before": {"accuracy": 0.5}, "after": {"accuracy": 0.75}},
        )
    summary = json.loads((tmp_path / sinks.SUMMARY).read_text())
    assert summary["steps"] == 12
    assert summary["wall_seconds"] == 3.5
    assert summary["evaluation"]["after"]["accuracy"] == 0.75
    # Steps 3..12 are the last ten; 4 is not finite: (3 + 5 + ... + 12) / 9 = 71 / 9.
    assert summary["columns"]["loss"] == {
        "first": 1.0,
        "last": 12.0,
        "mean_last_10": 71 / 9,
        "missing": 0,
        "non_finite": 1,
        "best": 1.0,
        "best_step": 1,
    }
    # Nothing measured in the last ten rows: missing, not 0.
    assert summary["columns"]["kl_f"] == {
        "first": 0.5,
        "last": 0.5,
        "mean_last_10": None,
        "missing": 10,
        "non_finite": 0,
    }


def test_the_best_of_equals_is_the_first(tmp_path: Path):
    with RunMetrics(tmp_path, COLUMNS) as metrics:
        for step, loss in enumerate((0.0, 1.0, 1.0), start=1):
            metrics.write_step({"step": step, "loss": loss})
        metrics.write_summary(wall_seconds=0.0, better={"loss": "higher"}, evaluation={})
    column = json.loads((tmp_path / sinks.SUMMARY).read_text())["columns"]["loss"]
    assert (column["best"], column["best_step"]) == (1.0, 2)


def test_an_atomic_write_leaves_the_old_file_when_it_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = tmp_path / "summary.json"
    sinks.write_atomically(path, b"old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(CheckpointError, match="No space left on device"):
        sinks.write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_evaluations_are_read_back_by_step(tmp_path: Path):
    path = tmp_path / sinks.EVALUATIONS
    assert sinks.evaluations(path) == {}
    with RunMetrics(tmp_path, COLUMNS) as metrics:
        metrics.write_evaluation(0, {"fairness": {"s_amb": None, "judged_by": "gold"}})
        metrics.write_evaluation(4, {"fairness": {"s_amb": -0.5}})
    expected = {
        0: {"fairness": {"s_amb": None, "judged_by": "gold"}},
        4: {"fairness": {"s_amb": -0.5}},
    }
    assert sinks.evaluations(path) == expected
    with path.open("a") as file:
        file.write('{"step": 6, "fair')
    assert sinks.evaluations(path) == expected


@pytest.mark.parametrize("line", ["no JSON", "[1]", '{"accuracy": 1}', '{"step": "x"}'])
def test_a_damaged_evaluation_is_named(tmp_path: Path, line: str):
    path = tmp_path / sinks.EVALUATIONS
    path.write_text(f'{{"step": 0}}\n{line}\n')
    with pytest.raises(CheckpointError, match="line 2"):
        sinks.evaluations(path)
