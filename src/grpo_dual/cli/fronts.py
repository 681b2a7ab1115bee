"""What ``grpo-dual pareto`` prints: points and who dominates them, groups and fronts over seeds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from rich.console import Console

from grpo_dual.cli.output import console, table, write_json
from grpo_dual.evaluation.evaluated import (
    OBJECTIVES,
    SWEEP,
    EvaluatedRun,
    Group,
    grouped,
    is_weight,
    read_evaluated,
    read_results,
    sweep_runs,
    told_apart,
)
from grpo_dual.evaluation.over_seeds import SeedDifference, SeedMean, seed_difference, seed_mean
from grpo_dual.evaluation.pareto import Point, dominator, front, hypervolume

_SHOWN = 3
"""Differing keys of a group that are shown."""


@dataclass(frozen=True, slots=True)
class Found:
    """All that was given to the command."""

    runs: tuple[EvaluatedRun, ...]
    files: Mapping[Path, Sequence[Point]]
    """Points of result files."""
    notes: tuple[str, ...]

    @property
    def points(self) -> list[Point]:
        """Every point."""
        return [point for point, _ in self.ranked]

    @property
    def ranked(self) -> list[tuple[Point, EvaluatedRun | None]]:
        """Every point with its run, if it has one; the fairest first."""
        own = [(point, run) for run in self.runs for point in run.points.values()]
        others = [(point, None) for points in self.files.values() for point in points]
        pairs = [*own, *others]
        return sorted(pairs, key=lambda pair: (-pair[0].x, -pair[0].y))

    @property
    def areas(self) -> dict[str, float]:
        """Hypervolume of each run and of each file."""
        of = {**{run.folder: [*run.points.values()] for run in self.runs}, **self.files}
        return {str(path): hypervolume(points) for path, points in of.items()}


def pareto(paths: Sequence[Path], *, json: Path | None) -> None:
    """Print every evaluated policy, who dominates it, and the hypervolumes, with intervals.

    Args:
        paths: Run folders, folders of sweeps, result files of ``eval``.
        json: Where the result is written too.

    Raises:
        DataError: One has no evaluation of both objectives.
        CheckpointError: An evaluation file was damaged, or ``json`` cannot be written.
    """
    found = gather(paths)
    groups, fronts = grouped(found.runs), grouped(found.runs, any_weights=True)
    if json is not None:
        write_json(json, as_json(found, groups, fronts))
    out = console()
    _print_points(found, out)
    print_groups(groups, fronts, out)
    for note in found.notes:
        _say(out, note)


def gather(paths: Sequence[Path]) -> Found:
    """Read everything that was given.

    Raises:
        DataError: See `pareto`.
        CheckpointError: See `pareto`.
    """
    folders: list[Path] = []
    files: dict[Path, list[Point]] = {}
    notes: list[str] = []
    for path in dict.fromkeys(paths):
        if (path / SWEEP).is_file():
            own, without = sweep_runs(path)
            folders += own
            if without:
                notes.append(f"{path}: no evaluation yet of {', '.join(without)}")
            if own:
                continue
        if path.is_file():
            files[path] = read_results(path)
        else:
            folders.append(path)
    runs = told_apart([read_evaluated(folder) for folder in dict.fromkeys(folders)])
    return Found(runs, files, tuple(notes))


def as_json(found: Found, groups: Sequence[Group], fronts: Sequence[Group]) -> Mapping[str, object]:
    """The result of the command."""
    points = found.points
    best = front(points)
    return {
        "axes": {"x": "fairness", "y": "faithfulness"},
        "reference": [0, 0],
        "level": 0.95,
        "hypervolume": hypervolume(points),
        "hypervolume_by_run": found.areas,
        "points": [
            {
                "name": point.name,
                "fairness": point.x,
                "faithfulness": point.y,
                "dominated_by": None if point in best else _name(dominator(point, points)),
                "weights": None if run is None else run.weights,
                "seed": None if run is None else run.seed,
            }
            for point, run in found.ranked
        ],
        "groups": [_group(group, number) for number, group in enumerate(groups, start=1)],
        "differences": _differences(groups),
        "fronts_over_weights": [_group(g, number) for number, g in enumerate(fronts, start=1)],
        "differences_of_fronts": _differences(fronts),
        "notes": list(found.notes),
    }


def _name(point: Point | None) -> str | None:
    return None if point is None else point.name


def _group(group: Group, number: int) -> dict[str, object]:
    areas = group.areas
    cells = {tuple(sorted(run.weights.items())) for run in group.runs}
    return {
        "number": number,
        "settings": group.settings,
        "weights": group.runs[0].weights if len(cells) == 1 else None,
        "seeds": [run.seed for run in group.runs],
        "runs": [str(run.folder) for run in group.runs],
        "left_out": [str(run.folder) for run in group.again],
        "steps": {
            str(step): {
                "fairness": _estimate(seed_mean([p.x for p in by_seed.values()])),
                "faithfulness": _estimate(seed_mean([p.y for p in by_seed.values()])),
            }
            for step, by_seed in group.steps.items()
        }
        if len(cells) == 1
        else None,
        "hypervolume": {
            **_estimate(seed_mean([*areas.values()])),
            "by_seed": {str(seed): area for seed, area in areas.items()},
        }
        if areas
        else None,
    }


def _estimate(of: SeedMean) -> dict[str, object]:
    return {"mean": of.mean, "interval_95": of.interval, "n": of.n}


def _differences(groups: Sequence[Group]) -> list[dict[str, object]]:
    return [
        {
            "of": second + 1,
            "minus": first + 1,
            "mean": gap.mean,
            "interval_95": gap.interval,
            "method": gap.method,
            "n": gap.n,
        }
        for (first, second), gap in gaps(groups).items()
    ]


def gaps(groups: Sequence[Group]) -> dict[tuple[int, int], SeedDifference]:
    """Differences of hypervolume, the later group's minus the earlier one's, by their places."""
    areas = {place: a for place, group in enumerate(groups) if (a := group.areas)}
    return {(i, j): seed_difference(areas[j], areas[i]) for i, j in combinations(areas, 2)}


def weights_text(weights: Mapping[str, float]) -> str:
    """``0.20 : 0.80``, in the order of the objectives; ``-`` when unknown.

    Of other objectives than the two: ``pooled 1.00``, those that weigh something.
    """
    if set(weights) <= set(OBJECTIVES):
        return " : ".join(f"{value:.2f}" for value in weights.values()) or "-"
    return ", ".join(f"{name} {value:.2f}" for name, value in weights.items() if value)


def _print_points(found: Found, out: Console) -> None:
    points = found.points
    best = front(points)
    named = next((r.weights for r in found.runs if {*r.weights} == {*OBJECTIVES}), {})
    heading = "weights" + (f" ({' : '.join(named)})" if named else "")
    columns = ("checkpoint", heading, "fairness", "faithfulness", "dominated by")
    made = table(None, columns, ("checkpoint", heading, "dominated by"), out)
    for point, run in found.ranked:
        by = None if point in best else dominator(point, points)
        made.add_row(
            point.name,
            "-" if run is None else weights_text(run.weights),
            f"{point.x:.4f}",
            f"{point.y:.4f}",
            "on the front" if by is None else by.name,
        )
    out.print(made)
    for path, area in found.areas.items():
        _say(out, f"hypervolume {area:.4f}  {path}")
    if len(found.areas) > 1:
        together = "all points together" if found.files else "all runs together"
        _say(out, f"hypervolume {hypervolume(points):.4f}  {together}")


def print_groups(groups: Sequence[Group], fronts: Sequence[Group], out: Console) -> None:
    """Print means over seeds of groups and fronts, and differences between their hypervolumes.

    Args:
        groups: Runs that differ in the seed alone.
        fronts: Runs that differ in seed and weights alone.
        out: Where it is printed.
    """
    if all(len(group.runs) == 1 for group in groups):
        _say(out, "one seed of each configuration: no intervals")
    else:
        _print_means(groups, out)
        for number, group in enumerate(groups, start=1):
            _print_area(f"group {number}", group, out)
        _print_gaps("group", groups, out)
    if len(fronts) < len(groups):
        for number, group in enumerate(fronts, start=1):
            name = f"front {number} over {len(group.runs)} runs of all weights, {what(group)}"
            _print_area(name.removesuffix(", -"), group, out)
        _print_gaps("front", fronts, out)


def _print_means(groups: Sequence[Group], out: Console) -> None:
    columns = ("group", "what differs", "step", "seeds", "fairness", "faithfulness")
    title = "means over seeds, 95 % t intervals"
    made = table(title, columns, ("what differs",), out)
    for number, group in enumerate(groups, start=1):
        for step, by_seed in group.steps.items():
            made.add_row(
                str(number),
                what(group),
                str(step),
                str(len(by_seed)),
                estimate_text(seed_mean([p.x for p in by_seed.values()])),
                estimate_text(seed_mean([p.y for p in by_seed.values()])),
            )
    out.print(made)


def _print_area(name: str, group: Group, out: Console) -> None:
    areas = group.areas
    for run in group.again:
        _say(
            out,
            f"{run.folder}: left out of {name}, whose seed {run.seed} is another folder's already",
        )
    lacking = [str(seed) for seed in group.seeds if seed not in areas]
    if lacking:
        _say(
            out,
            f"{name}: left out of the hypervolume, for not every point is there: "
            f"seed {', '.join(lacking)}",
        )
    if areas:
        of = seed_mean([*areas.values()])
        _say(out, f"hypervolume {estimate_text(of)} of {_seeds(of.n)}  {name}")


def _seeds(n: int) -> str:
    return "1 seed (no interval)" if n == 1 else f"{n} seeds"


def _print_gaps(kind: str, groups: Sequence[Group], out: Console) -> None:
    """Of many groups, those against the first alone."""
    for (i, j), gap in gaps(groups).items():
        if i > 0 and len(groups) > 4:
            continue
        how = {
            "paired": f"paired by seed, {gap.n[0]} seeds",
            "welch": f"Welch, {gap.n[0]} and {gap.n[1]} seeds",
        }[gap.method]
        if gap.interval is None:
            how = "no interval: too few seeds"
        _say(out, f"difference {_spread(gap.mean, gap.interval)}  {kind} {j + 1} - {i + 1}; {how}")


def what(group: Group) -> str:
    """What is its own in a group, shortly; ``-`` when nothing is."""
    told = [
        f"{key.removeprefix('objectives.')} {value}"
        for key, value in group.settings.items()
        if not is_weight(key)
    ]
    if len(told) < len(group.settings):
        told.insert(0, f"weights {weights_text(group.runs[0].weights)}")
    more = f", {len(told) - _SHOWN} more" if len(told) > _SHOWN else ""
    return (", ".join(told[:_SHOWN]) + more) or "-"


def estimate_text(of: SeedMean) -> str:
    """``0.5000 [0.41, 0.59]``."""
    low_high = of.interval
    return f"{of.mean:.4f}" + (
        "" if low_high is None else f" [{low_high[0]:.4f}, {low_high[1]:.4f}]"
    )


def _spread(mean: float, interval: tuple[float, float] | None) -> str:
    return f"{mean:+.4f}" + (
        "" if interval is None else f" [{interval[0]:+.4f}, {interval[1]:+.4f}]"
    )


def _say(out: Console, text: str) -> None:
    out.print(text, markup=False, highlight=False, soft_wrap=True)
