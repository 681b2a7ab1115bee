"""The scaling sweep: its points, its budget, what it skips, and its figure."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

ROOT = Path(__file__).resolve().parents[3]
sys.path.append(str(ROOT / "benchmarks"))

import figure_scaling  # noqa: E402
import measure  # noqa: E402
import scaling  # noqa: E402
import shapes  # noqa: E402

BASE = scaling.Point(prompts=4, k=4, prompt_tokens=220, new_tokens=128)
WEIGHTS = shapes.parameters("8b")


class Clock:
    """Moves when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_points_are_unique_with_the_base_among_them_and_quickest_first() -> None:
    found = scaling.points(BASE, scaling.AXES, WEIGHTS)
    # 4 + 3 + 5 + 4 values, of which the base is three (not of the prompts' lengths): 16 - 3 + 1
    assert len(found) == len(set(found)) == 14
    assert BASE in found
    floors = [point.floor(WEIGHTS, scaling.NOMINAL) for point in found]
    assert floors == sorted(floors)


def test_a_point_moves_along_one_axis() -> None:
    for point in scaling.points(BASE, scaling.AXES, WEIGHTS):
        changed = [n for n in scaling.Point.__slots__ if getattr(point, n) != getattr(BASE, n)]
        assert len(changed) <= 1


def test_floor_of_the_base_point() -> None:
    # 4 x 220 + 16 x 128 = 2,928 packed tokens: 128 x 2 x 7.50466e9 / 3.0e12 = .64040 s and
    # 6 x 7.50466e9 x 2,928 / 770e12 = .17122 s
    found = BASE.floor(WEIGHTS, measure.CARDS["H100"])
    assert found == pytest.approx(0.64040 + 0.17122, abs=2e-5)


def test_a_budget_foretells_by_the_last_point() -> None:
    clock = Clock()
    budget = scaling.Budget(60.0, clock)
    assert budget.fits(1e9)  # nothing is known yet
    clock.now += 10
    budget.took(2.0, 10.0)  # 5 floors
    assert budget.fits(10.0)  # 10 + 5 x 10 = 60
    assert not budget.fits(10.1)


def run(
    seconds: float, costs: dict[scaling.Point, float], lost: scaling.Point | None = None
) -> tuple[list[dict[str, Any]], list[scaling.Point], int]:
    """A sweep of fakes; what was reported last, and how often."""
    clock = Clock()
    last: list[Any] = []

    def one(point: scaling.Point) -> dict[str, Any]:
        clock.now += costs[point]
        if point == lost:
            raise torch.OutOfMemoryError("Tried to allocate 9 GiB. And more.")
        return {"step_s": costs[point]}

    def report(done: list[dict[str, Any]], skipped: list[scaling.Point]) -> None:
        last.append((list(done), skipped))

    scaling.sweep(list(costs), one, scaling.Budget(seconds, clock), WEIGHTS, report)
    return *last[-1], len(last)


def test_what_does_not_fit_the_budget_is_skipped_and_named() -> None:
    wanted = scaling.points(BASE, scaling.AXES, WEIGHTS)[:4]
    # Each takes ten floors, so what is foretold is true; the third would end a second late.
    costs = {point: 10 * point.floor(WEIGHTS, scaling.NOMINAL) for point in wanted}
    first, second, third, _ = costs.values()
    done, skipped, reports = run(first + second + third - 1.0, costs)
    assert [row["step_s"] for row in done] == [first, second]
    assert skipped == wanted[2:]
    assert reports == 3  # after each point, and when the rest is skipped


def test_with_time_enough_nothing_is_skipped() -> None:
    wanted = scaling.points(BASE, scaling.AXES, WEIGHTS)[:4]
    done, skipped, reports = run(1000.0, dict.fromkeys(wanted, 10.0))
    assert (len(done), skipped, reports) == (4, [], 4)


def test_a_point_that_does_not_fit_memory_is_recorded_and_the_sweep_goes_on() -> None:
    wanted = scaling.points(BASE, scaling.AXES, WEIGHTS)[:3]
    done, skipped, _ = run(1000.0, dict.fromkeys(wanted, 10.0), lost=wanted[1])
    assert [row.get("failed") for row in done] == [
        None,
        "out of memory (Tried to allocate 9 GiB)",
        None,
    ]
    assert done[1]["k"] == wanted[1].k
    assert skipped == []


def test_axes_of_the_command_line() -> None:
    assert scaling.axis("k=4,8") == ("k", (4, 8))
    assert scaling.axis("prompts=") == ("prompts", ())
    with pytest.raises(argparse.ArgumentTypeError, match="'q' is no axis; choose from k, prompts"):
        scaling.axis("q=1")


def test_a_whole_sweep_of_the_tiny_shape(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "scaling.json"
    small = ["--prompts", "2", "--k", "2", "--prompt-tokens", "9", "--new-tokens", "3"]
    axes = ["--axis", "k=2,3", "--axis", "prompts=", "--axis", "prompt_tokens="]
    argv = ["scaling.py", *small, *axes, "--axis", "new_tokens=", "--json", str(path)]
    monkeypatch.setattr(sys, "argv", argv)
    scaling.main()
    whole = json.loads(path.read_text())
    assert json.loads(capsys.readouterr().out) == whole
    assert [(p["k"], p["sequences"], p["packed_tokens"]) for p in whole["points"]] == [
        (2, 4, 30),  # 2 x 9 + 4 x 3
        (3, 6, 36),
    ]
    assert whole["skipped"] == []
    assert {"machine", "versions", "date", "command", "base", "axes"} <= set(whole)
    parts = ("rollout", "pack", "reference", "forward_backward", "update", "step")
    for point in whole["points"]:
        assert set(point["seconds"]) == set(parts)
        assert {len(samples) for samples in point["seconds"].values()} == {3}
        for *split, step in zip(*(point["seconds"][part] for part in parts), strict=True):
            assert 0 < sum(split) <= step


def point(seconds: float, **changes: int) -> dict[str, Any]:
    parts = {"rollout": 0.5, "reference": 0.1, "forward_backward": 0.2, "update": 0.05}
    return {
        "prompts": 4, "k": 4, "prompt_tokens": 220, "new_tokens": 128, "step_s": seconds,
        "median_s": parts | {"step": seconds}, "peak_gib": 10.0 * seconds, **changes,
    }  # fmt: skip


LOST = {"prompts": 4, "k": 32, "prompt_tokens": 220, "new_tokens": 128, "failed": "out of memory"}
SWEEP: dict[str, Any] = {
    "shape": "8b",
    "base": {"prompts": 4, "k": 4, "prompt_tokens": 220, "new_tokens": 128},
    "points": [point(2.0, k=8), point(1.0), point(3.0, new_tokens=512), LOST],
    "machine": {"device": "a card"},
    "versions": {"torch": "2.11"},
    "date": "2026-11-25",
}
STEP = {
    "rival": "trl",
    "rival_step_s": 11.0,
    "others": [
        {"rival": "trl-vllm", "rival_step_s": 3.0},
        {"rival": "trl-vllm-uncorrected", "rival_step_s": None},
    ],
    "work": {"prompt_lengths": [100, 300], "k": 4, "new_tokens": 128},
}


def test_an_axis_has_the_points_that_differ_from_the_base_in_nothing_else() -> None:
    assert [p["k"] for p in figure_scaling.along(SWEEP, "k")] == [4, 8, 32]
    assert [p["new_tokens"] for p in figure_scaling.along(SWEEP, "new_tokens")] == [128, 512]
    assert [p["prompts"] for p in figure_scaling.along(SWEEP, "prompts")] == [4]


def test_a_rival_is_marked_where_its_size_lies_on_the_axis() -> None:
    found = figure_scaling.rivals_of(STEP)
    assert [(r.name, r.seconds) for r in found] == [("trl", 11.0), ("trl-vllm", 3.0)]
    # Two prompts of 200 tokens on average; the base has four, so only their axis holds it.
    size = {"k": 4, "prompts": 2, "prompt_tokens": 200, "new_tokens": 128}
    assert all(r.size == size for r in found)
    on = [a for a in figure_scaling.LABELS if figure_scaling.marks(found, SWEEP["base"], a)]
    assert on == ["prompts"]
    figure = figure_scaling.draw(SWEEP, found)
    lines = [line for axes in figure.axes[::2] for line in axes.lines]
    (mark,) = [line for line in lines if line.get_label() == "TRL with vLLM"]
    assert figure.get_suptitle().endswith("rivals: of 200 tokens on average")
    assert (list(mark.get_xdata()), list(mark.get_ydata())) == ([2], [3.0])


def test_the_figure_shows_what_was_measured(tmp_path: Path) -> None:
    figure = figure_scaling.draw(SWEEP, [])
    first, strip = figure.axes[0], figure.axes[1]
    lines = {line.get_label(): line for line in first.lines}
    assert list(lines["whole step"].get_xdata()) == [4, 8]
    assert list(lines["whole step"].get_ydata()) == [1.0, 2.0]
    assert list(lines["reference"].get_ydata()) == [0.1, 0.1]
    assert list(strip.lines[0].get_ydata()) == [10.0, 20.0]
    assert "does not fit" in {text.get_text().strip() for text in first.texts}
    assert [axes.get_xlabel() for axes in figure.axes[1::2]] == [*figure_scaling.LABELS.values()]
    path = tmp_path / "scaling.png"
    figure.savefig(path)
    assert path.stat().st_size > 10_000


def test_memory_that_was_not_measured_is_said_to_be() -> None:
    sweep = SWEEP | {"points": [point(1.0) | {"peak_gib": None}]}
    strip = figure_scaling.draw(sweep, []).axes[1]
    assert [text.get_text() for text in strip.texts] == ["not measured"]
