"""``grpo-dual pareto`` over seeds and weights: groups, intervals, differences, result files."""

import json
from pathlib import Path
from typing import Any

import pytest

from grpo_dual.cli.main import MISTAKE, main
from grpo_dual.evaluation.evaluated import SWEEP
from grpo_dual.metrics.sinks import EVALUATIONS

Axes = tuple[float, float]


def run_folder(
    folder: Path, seed: int, weights: Axes, *axes: Axes, rate: float = 1e-3, **other: Any
) -> Path:
    """A run of which only what `pareto` reads is there."""
    folder.mkdir(parents=True)
    lines = [
        json.dumps({"step": 10 * i, "fairness": {"axis": x}, "hallucination": {"axis": y}}) + "\n"
        for i, (x, y) in enumerate(axes)
    ]
    (folder / EVALUATIONS).write_text("".join(lines))
    config = {
        "name": folder.name,
        "out": str(folder.parent),
        "objectives": {
            name: {"weight": w, "reward_scale": 1.0, "data": {"categories": []}}
            for name, w in zip(("fairness", "hallucination"), weights, strict=True)
        },
        "train": {"seed": seed, "optimizer": {"learning_rate": rate}},
        **other,
    }
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def result_of(out: Path, *paths: Path) -> dict[str, Any]:
    assert main(["pareto", *map(str, paths), "--json", str(out)]) == 0
    return json.loads(out.read_text())


def test_seeds_of_one_configuration_are_a_group_with_intervals(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [
        run_folder(tmp_path / "a0", 0, (1, 3), (0.1, 0.1), (0.4, 0.5)),
        run_folder(tmp_path / "a1", 1, (1, 3), (0.1, 0.1), (0.5, 0.5), tracking={"to": ["wandb"]}),
        run_folder(tmp_path / "b0", 0, (1, 3), (0.1, 0.1), (0.5, 0.8), rate=1e-4),
        run_folder(tmp_path / "b1", 1, (1, 3), (0.1, 0.1), (0.5, 0.9), rate=1e-4),
    ]
    result = result_of(tmp_path / "out.json", *runs)
    first, second = result["groups"]
    assert first["settings"] == {"train.optimizer.learning_rate": 1e-3}
    assert (first["seeds"], first["weights"]) == (
        [0, 1],
        {"fairness": 0.25, "hallucination": 0.75},
    )
    # Fairness .4 and .5: mean .45, standard error .05; df 1.
    at_ten = first["steps"]["10"]["fairness"]
    assert at_ten["mean"] == pytest.approx(0.45, abs=1e-12)
    half = 12.706204736 * 0.05
    assert at_ten["interval_95"] == pytest.approx([0.45 - half, 0.45 + half], abs=1e-8)
    # .1 * .1 lies inside both: areas .20 and .25; .40 and .45.
    assert first["hypervolume"]["by_seed"] == pytest.approx({"0": 0.20, "1": 0.25}, abs=1e-12)
    assert second["hypervolume"]["mean"] == pytest.approx(0.425, abs=1e-12)
    (gap,) = result["differences"]
    assert (gap["of"], gap["minus"], gap["method"], gap["n"]) == (2, 1, "paired", [2, 2])
    assert gap["mean"] == pytest.approx(0.2, abs=1e-12)
    # .4 - .2 and .45 - .25 are equal.
    assert gap["interval_95"] == pytest.approx([0.2, 0.2], abs=1e-12)
    printed = capsys.readouterr().out
    assert "0.25 : 0.75" in printed
    assert "group 2 - 1; paired by seed, 2 seeds" in printed


def test_runs_of_all_weights_trace_one_front_seed_by_seed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # Points (.8, .3) and (.5, .6) of seed 0: .39; of seed 1 (.8, .3) and (.5, .7): .44.
    # Seed 2 lacks one weight: its smaller area would say nothing about the method.
    runs = [
        run_folder(tmp_path / "f0", 0, (0.8, 0.2), (0.8, 0.3)),
        run_folder(tmp_path / "h0", 0, (0.2, 0.8), (0.5, 0.6)),
        run_folder(tmp_path / "f1", 1, (0.8, 0.2), (0.8, 0.3)),
        run_folder(tmp_path / "h1", 1, (0.2, 0.8), (0.5, 0.7)),
        run_folder(tmp_path / "f2", 2, (0.8, 0.2), (0.9, 0.9)),
    ]
    result = result_of(tmp_path / "out.json", *runs)
    assert [group["weights"]["fairness"] for group in result["groups"]] == pytest.approx([0.8, 0.2])
    (front,) = result["fronts_over_weights"]
    assert front["hypervolume"]["by_seed"] == pytest.approx({"0": 0.39, "1": 0.44}, abs=1e-12)
    printed = capsys.readouterr().out
    assert "front 1 over 5 runs of all weights: left out of the hypervolume" in printed
    assert "seed 2" in printed


def test_one_seed_has_no_interval_and_that_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [run_folder(tmp_path / str(w), 0, (w, 1), (0.4, 0.5)) for w in (1, 2)]
    result = result_of(tmp_path / "out.json", *runs)
    assert [g["hypervolume"]["interval_95"] for g in result["groups"]] == [None, None]
    assert result["differences"][0]["interval_95"] is None
    assert "one seed of each configuration: no intervals" in capsys.readouterr().out


def test_a_second_run_of_a_seed_is_named_and_does_not_count(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [run_folder(tmp_path / n, s, (1, 1), (0.4, 0.5)) for n, s in (("a", 0), ("b", 0))]
    other = run_folder(tmp_path / "c", 1, (1, 1), (0.5, 0.5))
    (group,) = result_of(tmp_path / "out.json", *runs, other)["groups"]
    assert (group["seeds"], group["left_out"]) == ([0, 1], [str(runs[1])])
    assert f"{runs[1]}: left out of group 1" in capsys.readouterr().out


def test_results_of_eval_stand_beside_runs(tmp_path: Path) -> None:
    run = run_folder(tmp_path / "a", 0, (1, 1), (0.8, 0.3))
    file = tmp_path / "base.json"
    axes = {"fairness": 0.5, "faithfulness": 0.6}
    file.write_text(json.dumps({"targets": [{"name": "llama", "axes": axes}]}))
    result = result_of(tmp_path / "out.json", run, file)
    assert [point["name"] for point in result["points"]] == ["a@0", "base:llama"]
    areas = result["hypervolume_by_run"]
    assert areas == pytest.approx({str(run): 0.24, str(file): 0.30}, abs=1e-12)
    assert result["hypervolume"] == pytest.approx(0.39, abs=1e-12)  # .8 * .3 + .5 * .3


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("{", "JSON"),
        ('{"targets": []}', "targets"),
        ('{"targets": [{"name": "x", "axes": {"fairness": 0.5}}]}', "targets[0]"),
    ],
)
def test_a_file_without_axes_is_refused(
    content: str, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "result.json"
    file.write_text(content)
    assert main(["pareto", str(file)]) == MISTAKE
    error = capsys.readouterr().err
    assert "result.json" in error
    assert told in error


def test_a_sweep_stands_for_its_evaluated_cells(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_folder(tmp_path / "one" / "run", 0, (1, 1), (0.4, 0.5))
    cells = [{"name": "one", "run": "one/run"}, {"name": "two", "run": None}]
    (tmp_path / SWEEP).write_text(json.dumps({"cells": cells}))
    assert [p["name"] for p in result_of(tmp_path / "out.json", tmp_path)["points"]] == ["run@0"]
    assert "no evaluation yet of two" in capsys.readouterr().out
    (tmp_path / SWEEP).write_text(json.dumps({"cells": [{"name": "one"}]}))
    assert main(["pareto", str(tmp_path)]) == MISTAKE
    assert SWEEP in capsys.readouterr().err


def test_run_folders_of_one_name_are_told_apart_by_the_folders_above(tmp_path: Path) -> None:
    runs = [
        run_folder(tmp_path / "seed-0" / "both", 0, (1, 1), (0.4, 0.5)),
        run_folder(tmp_path / "seed-1" / "both", 1, (1, 1), (0.5, 0.6)),
        run_folder(tmp_path / "seed-1" / "alone", 1, (1, 0), (0.6, 0.2)),
    ]
    points = result_of(tmp_path / "out.json", *runs)["points"]
    assert {p["name"]: p["dominated_by"] for p in points} == {
        "seed-0/both@0": "seed-1/both@0",
        "seed-1/both@0": None,
        "alone@0": None,
    }
