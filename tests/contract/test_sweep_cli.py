"""``grpo-dual sweep``: what it refuses, before anything is trained."""

import fcntl
import json
from pathlib import Path

import pytest

from grpo_dual.cli.main import MISTAKE, main
from grpo_dual.config.load import load_config
from grpo_dual.evaluation.evaluated import SWEEP
from grpo_dual.train.grid import Axes, cells

DEMO = Path(__file__).resolve().parents[2] / "configs" / "demo.yaml"


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["sweep", *arguments]) == MISTAKE
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ((), "--weights, --seeds or --grid"),
        (("--weights", "0.2,x"), "not `x`"),
        (("--weights", "1.5"), "at most 1"),
        (("--weights", "0:0"), "both weights are 0"),
        (("--weights", "0.5,0.5"), "f0.5-h0.5 twice"),
        (("--seeds", "0,-1"), "`-1`"),
        (("--grid", "train.steps"), "KEY=V,V"),
        (("--grid", "train.stepz=1,2"), "train.stepz"),
        (("--grid", "train.steps=1,x"), "train.steps"),
        (("--grid", "train.seed=1,2"), "--seeds"),
        (("--grid", "out=a,b"), "cannot be an axis"),
        (("--seeds", "0", "--train.stepz", "3"), "train.stepz"),
        (("--seeds", "0", "--jobs", "0"), "--jobs"),
        (("--seeds", "0", "--jobs", "2", "--model.device", "cuda"), "share cuda"),
    ],
)
def test_a_wrong_grid_is_refused(
    flags: tuple[str, ...], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    error = refused([str(DEMO), *flags, "--out", str(tmp_path / "out")], capsys)
    assert told in error
    assert not (tmp_path / "out").exists()


def test_the_folder_must_be_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert "--out" in refused([str(DEMO), "--seeds", "0"], capsys)


def begun(out: Path, seeds: tuple[int, ...], **names: str) -> list[str]:
    """A folder of a sweep of seeds that has not trained yet; the command it was started with."""
    made = cells(load_config(DEMO), Axes(seeds=seeds), out)
    for cell in made:
        (out / cell.name).mkdir(parents=True)
        (out / cell.name / "config.json").write_text(cell.config.model_dump_json())
    rows = [{"name": names.get(c.name, c.name)} for c in made]
    (out / SWEEP).write_text(json.dumps({"cells": rows}))
    return [str(DEMO), "--seeds", ",".join(map(str, seeds)), "--out", str(out)]


def test_a_changed_configuration_is_refused_naming_what_differs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = begun(tmp_path / "out", (0, 1))
    error = refused([*arguments, "--train.steps", "7"], capsys)
    assert "train.steps was 60, is 7" in error
    assert "seed0" in error


def test_cells_may_not_be_taken_away(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    begun(tmp_path / "out", (0, 1))
    error = refused([str(DEMO), "--seeds", "0", "--out", str(tmp_path / "out")], capsys)
    assert "seed1" in error


def test_a_damaged_or_foreign_folder_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    arguments = begun(out, (0,))
    (out / SWEEP).write_text("{")
    assert SWEEP in refused(arguments, capsys)
    (out / SWEEP).unlink()
    assert "holds other files (seed0)" in refused(arguments, capsys)


def test_two_sweeps_do_not_work_in_one_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = begun(tmp_path / "out", (0,))
    with (tmp_path / "out" / ".lock").open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert "another sweep is at work" in refused(arguments, capsys)


def test_cells_of_one_seed_follow_each_other_and_bear_their_values(tmp_path: Path) -> None:
    axes = Axes(
        weights=((0.25, 0.75), (1.0, 0.0)),
        seeds=(3, 4),
        grid=(("objectives.fairness.data.categories", ("Age SES",)),),
    )
    made = cells(load_config(DEMO), axes, tmp_path)
    assert [cell.name for cell in made] == [
        "f0.25-h0.75_categoriesAge-SES_seed3",
        "f1.0-h0.0_categoriesAge-SES_seed3",
        "f0.25-h0.75_categoriesAge-SES_seed4",
        "f1.0-h0.0_categoriesAge-SES_seed4",
    ]
    last = made[-1].config
    assert (last.train.seed, last.name, last.out) == (4, made[-1].name, tmp_path / made[-1].name)
    assert [o.weight for o in last.objectives.values()] == [1.0, 0.0]
    fairness = last.objectives["fairness"]
    assert fairness.kind == "fairness"
    assert fairness.data.categories == ("Age", "SES")
