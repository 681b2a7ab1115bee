import json
import math
from pathlib import Path

import pytest
from made_histories import BOTH, DEMO, made

from faults.recording import DIGITS, KEPT_SAMPLES, history_document, revive
from grpo_dual.diagnosis.history import History, Sample
from grpo_dual.diagnosis.reading import number, read_run, read_table
from grpo_dual.errors import DataError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text(json.dumps(DEMO))
    return tmp_path


def steps_file(folder: Path, text: str) -> None:
    (folder / "train_step_metrics.csv").write_text(text)


def test_a_run_that_has_just_begun(folder: Path):
    assert read_run(folder) == History(BOTH, (), {}, config=DEMO)


def test_rows_with_missing_cells(folder: Path):
    steps_file(folder, "step,kl_f,kl_h\n1,0.25,\n2,nan,inf\n")
    history = read_run(folder)
    assert history.steps == (1, 2)
    (first, second), kl_h = history.columns["kl_f"], history.columns["kl_h"]
    assert first == 0.25
    assert second is not None
    assert math.isnan(second)
    assert kl_h == (None, math.inf)


def test_a_half_written_line_is_left_out(folder: Path):
    steps_file(folder, "step,kl_f\n1,0.25\n2,0.")
    assert read_run(folder).columns == {"kl_f": (0.25,)}
    line = {"step": 1, "objective": "fairness", "prompt": "?", "completion": "Ann"}
    (folder / "completions.jsonl").write_text(f"{json.dumps(line)}\n{json.dumps(line)[:-9]}")
    assert read_run(folder).samples == (Sample(1, "fairness", "?", "Ann"),)


def test_a_row_without_its_step_is_numbered(folder: Path):
    steps_file(folder, "kl_f\n0.1\n0.2\n")
    assert read_run(folder).steps == (1, 2)


def test_how_it_ended(folder: Path):
    (folder / "stopped.json").write_text('{"error": "loss (nan) was not finite"}')
    assert read_run(folder).ended == "loss (nan) was not finite"
    (folder / "stopped.json").write_text('{"error": null}')
    assert read_run(folder).ended is None


def test_h0_is_what_the_frozen_probe_measured_before_the_first_step(folder: Path):
    files = {
        "eval_metrics.jsonl": [{"step": s, "fairness": {"axis": 0.2}} for s in (0, 5)],
        "probe_metrics.jsonl": [
            {"step": 0, "fairness": {"entropy": 1.75}},
            {"step": 5, "fairness": {"entropy": 0.5}},
        ],
    }
    for name, lines in files.items():
        (folder / name).write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    history = read_run(folder)
    assert history.baseline == {"fairness": 1.75}
    assert set(history.evaluations) == {0, 5}


def test_another_folder_is_refused(tmp_path: Path):
    with pytest.raises(DataError, match="no run folder: it has no"):
        read_run(tmp_path)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("config.json", "{", r"config\.json: cannot be read as JSON"),
        ("config.json", "[]", r"config\.json: an object is expected, not a list"),
        ("stopped.json", "no", r"stopped\.json: cannot be read as JSON"),
        ("train_step_metrics.csv", "", r"train_step_metrics\.csv: is empty"),
        ("completions.jsonl", "{}\n", r"completions\.jsonl, line 1: not a sample completion"),
        ("completions.jsonl", "no\n", r"completions\.jsonl, line 1: not a sample completion"),
    ],
)
def test_a_damaged_file_is_named(folder: Path, name: str, text: str, message: str):
    (folder / name).write_text(text)
    with pytest.raises(DataError, match=message):
        read_run(folder)


def test_a_table(tmp_path: Path):
    path = tmp_path / "log.csv"
    path.write_bytes(b"\xef\xbb\xbfa,b\r\n1,x\r\n2\r\n")
    header, rows = read_table(path)
    assert header == ("a", "b")
    assert rows == [{"a": 1.0, "b": None}, {"a": 2.0, "b": None}]
    with pytest.raises(DataError, match="cannot be read"):
        read_table(tmp_path)


@pytest.mark.parametrize(
    ("cell", "value"),
    [("1e-6", 1e-6), (" 2 ", 2.0), (3, 3.0), ("", None), ("x", None), (None, None), (True, None)],
)
def test_cells(cell: object, value: float | None):
    assert number(cell) == value


def test_a_history_as_json_and_back():
    history = made(
        3,
        kl_f=(0.5, None, math.inf),
        kl_h=-math.inf,
        ended="the end",
        evaluations={0: {"fairness": {"axis": 0.25}}},
        baseline={"fairness": 1.5},
        samples=(Sample(3, "fairness", "?", "Ann\n<b>", "right", 0.5),),
    )
    document = json.loads(json.dumps(history_document(history), allow_nan=False))
    assert revive(document) == history


def test_nan_survives():
    document = json.loads(json.dumps(history_document(made(1, kl_f=math.nan)), allow_nan=False))
    (value,) = revive(document).columns["kl_f"]
    assert value is not None
    assert math.isnan(value)


def test_numbers_are_rounded_and_old_completions_dropped():
    samples = tuple(Sample(step, "fairness", "?", f"{step}") for step in range(1, 40))
    history = made(1, kl_f=1 / 3, samples=samples)
    assert DIGITS == 5
    back = revive(history_document(history))
    assert back.columns["kl_f"] == (0.33333,)
    assert back.samples == samples[-KEPT_SAMPLES:]


@pytest.mark.parametrize("step", ["nan", "inf"])
def test_a_step_that_is_no_number_is_refused(tmp_path: Path, step: str):
    (tmp_path / "config.json").write_text('{"objectives": {"fairness": {}}}')
    (tmp_path / "train_step_metrics.csv").write_text(f"step,kl_f\n1,0.1\n{step},0.1\n")
    with pytest.raises(DataError, match=rf"row 2: step is {step}"):
        read_run(tmp_path)
