"""``grpo-dual pareto``: reads what runs wrote, names who dominates whom."""

import json
from pathlib import Path

import pytest

from grpo_dual.cli.fronts import weights_text
from grpo_dual.cli.main import MISTAKE, main
from grpo_dual.metrics.sinks import EVALUATIONS


def run_folder(folder: Path, *axes: tuple[float | None, float | None]) -> Path:
    folder.mkdir()
    lines = [
        json.dumps({"step": 10 * i, "fairness": {"axis": x}, "hallucination": {"axis": y}}) + "\n"
        for i, (x, y) in enumerate(axes)
    ]
    (folder / EVALUATIONS).write_text("".join(lines))
    return folder


def test_every_checkpoint_is_on_the_front_or_dominated_by_a_named_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = run_folder(tmp_path / "a", (0.4, 0.5), (0.8, 0.3))
    second = run_folder(tmp_path / "b", (0.5, 0.6))
    out = tmp_path / "out.json"
    assert main(["pareto", str(first), str(second), str(first), "--json", str(out)]) == 0
    result = json.loads(out.read_text())
    assert {p["name"]: p["dominated_by"] for p in result["points"]} == {
        "a@0": "b@0",
        "a@10": None,
        "b@0": None,
    }
    # .8 * .3 + .5 * (.6 - .3) together; .8 * .3 + .4 * (.5 - .3) and .5 * .6 alone.
    assert result["hypervolume"] == pytest.approx(0.39, abs=1e-12)
    alone = result["hypervolume_by_run"]
    assert [alone[str(f)] for f in (first, second)] == pytest.approx([0.32, 0.30], abs=1e-12)
    printed = capsys.readouterr().out
    assert "on the front" in printed
    assert "hypervolume 0.3900  all runs together" in printed


@pytest.mark.parametrize("axes", [(None, 0.5), (0.5, None)])
def test_a_run_without_an_axis_is_refused_with_file_step_and_objective(
    axes: tuple[float | None, float | None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run_folder(tmp_path / "a", (0.1, 0.1), axes)
    assert main(["pareto", str(folder)]) == MISTAKE
    error = capsys.readouterr().err
    objective = "fairness" if axes[0] is None else "hallucination"
    assert all(part in error for part in (EVALUATIONS, "step 10", f"'{objective}.axis'"))


def test_weights_of_other_objectives_are_named() -> None:
    assert weights_text({"fairness": 0.25, "hallucination": 0.75}) == "0.25 : 0.75"
    assert weights_text({"fairness": 0.0, "hallucination": 0.0, "pooled": 1.0}) == "pooled 1.00"
    assert weights_text({}) == "-"
