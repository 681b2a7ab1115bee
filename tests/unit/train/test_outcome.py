"""What came out of a run, read from its folder alone."""

import json
from pathlib import Path
from typing import Any

import pytest

from grpo_dual.errors import CheckpointError
from grpo_dual.metrics.sinks import EVALUATIONS, STEP_CSV, SUMMARY
from grpo_dual.train.outcome import outcome

CONFIG = {"objectives": {"fairness": {"weight": 1.0}, "hallucination": {"weight": 1.0}}}


def run_folder(folder: Path, *results: dict[str, Any]) -> Path:
    (folder / "config.json").write_text(json.dumps(CONFIG))
    lines = [json.dumps({"step": 5 * i, **result}) + "\n" for i, result in enumerate(results)]
    (folder / EVALUATIONS).write_text("".join(lines))
    return folder


def scores(x: float | None, y: float | None) -> dict[str, Any]:
    return {
        "fairness": {"axis": x, "accuracy_ambig": 0.7, "s_amb": None},
        "hallucination": {"axis": y, "hallucinated": 0.1},
    }


def test_axes_and_scores_are_those_of_the_last_evaluation(tmp_path: Path) -> None:
    found = outcome(run_folder(tmp_path, scores(0.8, 0.3), scores(0.5, 0.6)))
    assert (found.step, found.fairness, found.faithfulness) == (5, 0.5, 0.6)
    assert found.scores["accuracy_ambig"] == 0.7
    assert found.scores["s_amb"] is None  # undefined is not 0
    assert found.scores["s_dis"] is None
    assert found.hypervolume == pytest.approx(0.39, abs=1e-12)  # .8 * .3 + .5 * (.6 - .3)
    assert (found.seconds, found.finding) == (None, None)


def test_a_run_of_one_objective_has_no_point(tmp_path: Path) -> None:
    found = outcome(run_folder(tmp_path, scores(0.8, None)))
    assert (found.fairness, found.faithfulness, found.hypervolume) == (0.8, None, None)
    assert outcome(run_folder(tmp_path)).step is None


def test_the_gravest_finding_and_the_seconds_are_told(tmp_path: Path) -> None:
    run_folder(tmp_path, scores(0.8, 0.3))
    (tmp_path / SUMMARY).write_text('{"wall_seconds": 12.5}')
    # Entropy that falls from 2 to almost nothing, with rewards that say nothing any more.
    rows = [f"{s},{max(0.01, 2 - s / 8)},{2 - s / 40},0.0,0.9" for s in range(1, 31)]
    header = "step,entropy_f,entropy_h,reward_std_f,zero_var_frac_f"
    (tmp_path / STEP_CSV).write_text("\n".join([header, *rows]) + "\n")
    found = outcome(tmp_path)
    assert found.seconds == 12.5
    assert found.finding is not None
    severity, code, objective = found.finding.split(" ")
    assert severity in {"act", "warn"}
    assert code
    assert objective == "(fairness)"


def test_a_damaged_summary_is_named(tmp_path: Path) -> None:
    run_folder(tmp_path, scores(0.8, 0.3))
    (tmp_path / SUMMARY).write_text("{")
    with pytest.raises(CheckpointError, match=SUMMARY):
        outcome(tmp_path)
