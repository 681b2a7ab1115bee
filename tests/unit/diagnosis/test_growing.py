import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_histories import BOTH, DEMO

from grpo_dual.diagnosis.growing import Growing, baseline_of
from grpo_dual.diagnosis.history import History, Sample, Value
from grpo_dual.diagnosis.reading import read_run
from grpo_dual.metrics.names import columns
from grpo_dual.metrics.sinks import RunMetrics

COLUMNS = columns(BOTH)
EMPTY = History(BOTH, (), {}, config=DEMO)


def numbers(step: int) -> dict[str, Value]:
    """A whole row, a third of it missing."""
    return {
        key: step if key == "step" else None if (i + step) % 3 == 0 else step / (i + 1)
        for i, key in enumerate(COLUMNS)
    }


def sample(step: int, objective: str) -> dict[str, object]:
    return {
        "objective": objective,
        "prompt": "Who was it?\nAnn or Bob",
        "completion": f"Ann, at step {step}",
        "verdict": "right",
        "total": None if step == 2 else step / 7,
    }


def evaluation(step: int) -> dict[str, dict[str, object]]:
    return {"fairness": {"axis": step / 10}, "hallucination": {"axis": 0.5}}


PROBED = {"fairness": {"entropy": 1.25, "n": 32}, "hallucination": {"n": 32}}


def write(metrics: RunMetrics, growing: Growing, step: int) -> None:
    """The same step into the files and into the growing history."""
    for objective in BOTH:
        noted = sample(step, objective)
        metrics.write_completion(step, noted)
        total = noted["total"]
        growing.add_sample(
            Sample(
                step,
                objective,
                str(noted["prompt"]),
                str(noted["completion"]),
                str(noted["verdict"]),
                total if isinstance(total, float) else None,
            )
        )
    row = numbers(step)
    metrics.write_step(row)
    growing.add_step(row)
    if step % 2 == 0:
        metrics.write_evaluation(step, evaluation(step))
        growing.add_evaluation(step, evaluation(step))


def test_row_by_row_it_is_what_the_files_hold(tmp_path: Path):
    (tmp_path / "config.json").write_text(json.dumps(DEMO))
    with RunMetrics(tmp_path, COLUMNS) as metrics:
        growing = Growing(read_run(tmp_path))
        metrics.write_evaluation(0, evaluation(0))
        growing.add_evaluation(0, evaluation(0))
        metrics.write_probe(0, PROBED)
        growing.set_baseline(baseline_of(PROBED))
        for step in range(1, 6):
            write(metrics, growing, step)
            assert growing.history == read_run(tmp_path)
    assert growing.history.baseline == {"fairness": 1.25}
    # One that goes on in the middle, as a resumed run does.
    (tmp_path / "later").mkdir()
    (tmp_path / "later" / "config.json").write_text(json.dumps(DEMO))
    with RunMetrics(tmp_path / "later", COLUMNS) as metrics:
        ahead = Growing(EMPTY)
        for step in (1, 2, 3):
            write(metrics, ahead, step)
        resumed = Growing(read_run(tmp_path / "later"))
        for step in (4, 5):
            write(metrics, resumed, step)
        assert resumed.history == read_run(tmp_path / "later")


def test_what_was_handed_out_does_not_change():
    growing = Growing(EMPTY)
    growing.add_step({"step": 1, "kl_f": 0.5})
    then = growing.history
    growing.add_step({"step": 2, "kl_f": 0.7})
    growing.add_evaluation(0, evaluation(0))
    growing.set_baseline({"fairness": 1.0})
    assert then.column("kl_f").values == (0.5,)
    assert (then.steps, dict(then.evaluations), dict(then.baseline)) == ((1,), {}, {})


def test_what_a_row_leaves_out_is_missing():
    growing = Growing(EMPTY)
    growing.add_step({"step": 1, "kl_f": 0.5})
    growing.add_step({"step": 2, "kl_h": 0.6})
    growing.add_step({"step": 3, "kl_f": 0.7, "kl_h": 0.8})
    history = growing.history
    assert history.column("kl_f").values == (0.5, None, 0.7)
    assert history.column("kl_h").values == (None, 0.6, 0.8)


VALUES = st.one_of(st.none(), st.floats(-1e6, 1e6))


@st.composite
def histories(draw: st.DrawFn) -> History:
    keys = draw(st.lists(st.sampled_from(COLUMNS[1:]), min_size=1, max_size=4, unique=True))
    rows = draw(st.integers(0, 6))
    steps = tuple(range(1, rows + 1))
    values: Mapping[str, tuple[Value, ...]] = {
        key: tuple(draw(st.lists(VALUES, min_size=rows, max_size=rows))) for key in keys
    }
    told = [
        Sample(step, draw(st.sampled_from(BOTH)), "?", draw(st.text(max_size=5)))
        for step in steps
        for _ in range(draw(st.integers(0, 2)))
    ]
    looked = {step: evaluation(step) for step in steps if draw(st.booleans())}
    return History(BOTH, steps, values, config=DEMO, samples=tuple(told), evaluations=looked)


@settings(deadline=None)
@given(histories(), st.data())
def test_after_n_rows_it_is_the_history_until_then(history: History, data: st.DataObject):
    begun = data.draw(st.integers(0, len(history)))
    growing = Growing(history.until(begun))
    assert growing.history == history.until(begun)
    for step in history.steps[begun:]:
        for own in history.samples:
            if own.step == step:
                growing.add_sample(own)
        row = step - 1
        growing.add_step({"step": step, **{k: v[row] for k, v in history.columns.items()}})
        if step in history.evaluations:
            growing.add_evaluation(step, history.evaluations[step])
        assert growing.history == history.until(step)


def test_source_and_end_are_not_grown():
    # A run that is watched has not ended, whatever its folder said before.
    assert Growing(replace(EMPTY, ended="killed")).history.ended is None


@pytest.mark.parametrize(
    ("own", "known"),
    [
        ({"entropy": 1.5}, {"fairness": 1.5}),
        ({"entropy": 2}, {"fairness": 2.0}),
        ({"entropy": None}, {}),
        ({"entropy": "1.5"}, {}),
        ({}, {}),
    ],
)
def test_h0_where_it_was_measured(own: dict[str, object], known: dict[str, float]):
    assert baseline_of({"fairness": own, "hallucination": {}}) == known
