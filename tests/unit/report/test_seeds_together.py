"""Many runs that differ in the seed alone are drawn as one line with a band."""

from pathlib import Path
from statistics import fmean

import pytest

import recorded_runs
from grpo_dual.report.page import groups
from grpo_dual.report.panels import FrontPanel, IntervalPanel, Line, TimePanel
from grpo_dual.report.reading import MANY, Run, read_runs
from grpo_dual.report.seeds import _mean, teams  # pyright: ignore[reportPrivateUsage]


def run(folder: Path, name: str, seed: int, beta: float) -> Path:
    made = recorded_runs.demo(folder / f"{name}-{seed}")

    def change(config: dict[str, dict[str, object]]) -> None:
        config |= {"name": name}  # type: ignore[dict-item]
        config["train"]["seed"] = seed
        config["advantage"]["eps"] = beta

    recorded_runs.change_json(made / "config.json", change)
    return made


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, ...]:
    folder = tmp_path_factory.mktemp("runs")
    cells = [("both", 1e-4), ("pooled", 1e-6)]
    return read_runs([run(folder, n, seed, eps) for n, eps in cells for seed in range(3)])


def test_a_team_is_runs_that_differ_in_the_seed_alone(runs: tuple[Run, ...]) -> None:
    assert [(team.name, team.places) for team in teams(runs)] == [
        ("both (A-C)", (0, 1, 2)),
        ("pooled (D-F)", (3, 4, 5)),
    ]


def test_few_runs_and_runs_without_a_second_seed_are_drawn_for_themselves(
    runs: tuple[Run, ...], tmp_path: Path
) -> None:
    assert teams(runs[:MANY]) == ()
    alone = read_runs([run(tmp_path, f"b{n}", 0, 10.0**-n) for n in range(MANY + 1)])
    assert teams(alone) == ()


def test_every_figure_of_all_runs_has_a_line_for_each_team(runs: tuple[Run, ...]) -> None:
    drawn = [p for group in groups(runs) if group.key != "judges" for p in group.panels]
    names = ["both (A-C)", "pooled (D-F)"]
    assert {type(p) for p in drawn} >= {TimePanel, IntervalPanel, FrontPanel}
    for panel in drawn:
        if isinstance(panel, TimePanel):
            assert [line.label for line in panel.lines] == names
            assert "means over seeds" in panel.says
        if isinstance(panel, IntervalPanel):
            assert [d.label for d in panel.dots] == ["A before", *(f"{n} after" for n in names)]
        if isinstance(panel, FrontPanel):
            assert [trail.label for trail in panel.trails] == names


def test_mean_and_band_of_three_short_lines() -> None:
    """(1, 2, 6) -> 3 in [1, 6]; where one run has stopped, of the two that go on."""
    lines = [
        Line("A", 0, (1, 2), (1.0, None)),
        Line("B", 1, (1, 2), (2.0, 4.0)),
        Line("C", 2, (1, 2), (6.0, 8.0)),
    ]
    found = _mean(lines, "team", 0)
    assert (found.steps, found.values) == ((1, 2), (3.0, 6.0))
    assert found.band == ((1.0, 6.0), (4.0, 8.0))


def test_a_thinned_band_still_holds_all_it_held() -> None:
    steps = tuple(range(1300))
    band = tuple((float(s), s + 1.0) for s in steps)
    thin = Line("A", 0, steps, tuple(s + 0.5 for s in steps), band=band).thinned()
    assert thin.band[0] == (0.0, 3.0)  # ceil(1300 / 600) = 3 steps a point
    assert thin.values[0] == fmean((0.5, 1.5, 2.5))
