"""Evaluated policies as points of the trade-off: run folders, sweeps and results of `eval`.

Runs whose configurations differ in the seed alone are one group; groups that differ in the
objectives' weights alone trace one front, seed by seed.
"""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from grpo_dual.errors import DataError
from grpo_dual.evaluation.pareto import AXIS, Point, hypervolume
from grpo_dual.metrics.files import read_object
from grpo_dual.metrics.sinks import EVALUATIONS, evaluations

OBJECTIVES = ("fairness", "hallucination")
"""Whose axes are x and y of a point."""
SWEEP = "sweep.json"
"""What a sweep's folder says of its cells."""
CONFIG = "config.json"

_SEED = "train.seed"
_NO_MATTER = ("name", "out", _SEED)
"""Keys in which the runs of a group may differ; those of ``tracking`` too."""


@dataclass(frozen=True, slots=True)
class EvaluatedRun:
    """A run with its evaluated checkpoints."""

    folder: Path
    points: Mapping[int, Point]
    """By step."""
    settings: Mapping[str, object]
    """Dotted key -> value of all that makes its numbers, the seed aside; empty when unknown."""
    seed: int | None
    """None when unknown."""

    @property
    def weights(self) -> dict[str, float]:
        """Share of each objective in the loss; empty when unknown."""
        found: dict[str, float] = defaultdict(lambda: 1.0)
        for key, value in self.settings.items():
            parts = key.split(".")
            if parts[0] == "objectives" and parts[2:] in (["weight"], ["reward_scale"]):
                found[parts[1]] *= float(cast("float", value))
        whole = sum(found.values())
        return {name: value / whole for name, value in found.items()} if whole > 0 else {}


@dataclass(frozen=True, slots=True)
class Group:
    """Runs that belong together, by cell and seed."""

    settings: Mapping[str, object]
    """What its runs have in common and another group has not."""
    runs: tuple[EvaluatedRun, ...]
    again: tuple[EvaluatedRun, ...] = ()
    """Runs of a configuration and seed that is there already; they are left out."""

    @property
    def steps(self) -> dict[int, dict[int, Point]]:
        """Step -> seed -> point."""
        found: dict[int, dict[int, Point]] = defaultdict(dict)
        for run in self.runs:
            for step, point in run.points.items():
                found[step][run.seed or 0] = point
        return dict(sorted(found.items()))

    @property
    def areas(self) -> dict[int, float]:
        """Seed -> hypervolume of its own front.

        Fewer points make a smaller area, so a seed that lacks a cell or step of another one is left
        out.
        """
        found: dict[int, dict[tuple[str, int], Point]] = defaultdict(dict)
        for run in self.runs:
            cell = json.dumps(run.settings, sort_keys=True)
            found[run.seed or 0] |= {(cell, step): p for step, p in run.points.items()}
        everything = {place for points in found.values() for place in points}
        return {
            seed: hypervolume([*points.values()])
            for seed, points in sorted(found.items())
            if points.keys() == everything
        }

    @property
    def seeds(self) -> list[int]:
        """Seeds of its runs."""
        return sorted({run.seed or 0 for run in self.runs})


def read_evaluated(folder: Path) -> EvaluatedRun:
    """Read a run folder; the configuration may be missing.

    Raises:
        DataError: It holds no evaluation of both objectives, or its configuration is damaged.
        CheckpointError: Its evaluations are damaged.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; give the folder that the run printed")
    found = evaluations(folder / EVALUATIONS)
    if not found:
        raise DataError(
            f"{folder}: holds no evaluation ({EVALUATIONS} is absent or empty); give the folder of "
            "a run with held-out items (objectives.NAME.data.eval_samples)"
        )
    points = {
        step: Point(f"{folder.name}@{step}", *(_axis(folder, step, result, n) for n in OBJECTIVES))
        for step, result in sorted(found.items())
    }
    path = folder / CONFIG
    config = dict(flat(read_object(path))) if path.exists() else {}
    seed = config.get(_SEED)
    return EvaluatedRun(folder, points, counting(config), seed if isinstance(seed, int) else None)


def counting(config: Mapping[str, object]) -> dict[str, object]:
    """Of dotted keys those that make a run's numbers, the seed aside: equal in runs of a group."""
    return {
        key: value
        for key, value in config.items()
        if key not in _NO_MATTER and not key.startswith("tracking.")
    }


def told_apart(runs: Sequence[EvaluatedRun]) -> tuple[EvaluatedRun, ...]:
    """The runs; where folders have one name, their points' names have the folders above too.

    Seeds that are started in one second and kept in a folder each have run folders of one name.
    """
    names = names_apart([run.folder for run in runs])
    return tuple(
        run if run.folder.name == name else _named_by(run, name)
        for run, name in zip(runs, names, strict=True)
    )


def names_apart(folders: Sequence[Path]) -> list[str]:
    """Names of different folders: the shortest ends of their paths that differ."""
    paths = [folder.absolute().parts for folder in folders]
    return ["/".join(_own_end(parts, [o for o in paths if o != parts])) for parts in paths]


def _own_end(parts: tuple[str, ...], others: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    for length in range(1, len(parts)):
        end = parts[-length:]
        if all(other[-length:] != end for other in others):
            return end
    return parts


def _named_by(run: EvaluatedRun, name: str) -> EvaluatedRun:
    points = {step: replace(point, name=f"{name}@{step}") for step, point in run.points.items()}
    return replace(run, points=points)


def read_results(path: Path) -> list[Point]:
    """The points of a result file of ``grpo-dual eval --json``, one for each target.

    Raises:
        DataError: It is no such file, or a target has no axes.
    """
    targets = read_object(path).get("targets")
    if not isinstance(targets, list) or not targets:
        raise DataError(f"{path}: no `targets`; give what `grpo-dual eval --json` wrote")
    points: list[Point] = []
    for number, target in enumerate(cast("list[object]", targets)):
        entry = cast("dict[str, object]", target if isinstance(target, dict) else {})
        axes = entry.get("axes")
        found = cast("dict[str, object]", axes if isinstance(axes, dict) else {})
        values = [_share(found.get(name)) for name in ("fairness", "faithfulness")]
        if values[0] is None or values[1] is None:
            raise DataError(
                f"{path}: targets[{number}] has no `axes` with `fairness` and `faithfulness`; "
                "evaluate it on BBQ and HaluEval both"
            )
        points.append(Point(f"{path.stem}:{entry.get('name', number)}", values[0], values[1]))
    return points


def sweep_runs(folder: Path) -> tuple[list[Path], list[str]]:
    """Run folders of a sweep's cells, and the names of those cells that have no evaluation yet.

    Raises:
        DataError: Its ``sweep.json`` is damaged.
    """
    cells = read_object(folder / SWEEP).get("cells")
    runs: list[Path] = []
    without: list[str] = []
    try:
        for cell in cast("list[dict[str, object]]", cells):
            run = None if cell["run"] is None else folder / str(cell["run"])
            if run is not None and evaluations(run / EVALUATIONS):
                runs.append(run)
            else:
                without.append(str(cell["name"]))
    except (KeyError, TypeError) as error:
        raise DataError(
            f"{folder / SWEEP}: its cells cannot be read (at {error}); it was damaged or edited. "
            "Start the sweep again with its command, which writes it anew"
        ) from error
    return runs, without


def grouped(runs: Sequence[EvaluatedRun], *, any_weights: bool = False) -> list[Group]:
    """Runs of one configuration together, in their order.

    Args:
        runs: Those without a configuration make a group each.
        any_weights: Objectives' weights may differ within a group.
    """
    found: dict[str, list[EvaluatedRun]] = defaultdict(list)
    for run in runs:
        own = {k: v for k, v in run.settings.items() if not (any_weights and is_weight(k))}
        found[json.dumps(own, sort_keys=True) if own else str(run.folder)].append(run)
    kept: list[tuple[list[EvaluatedRun], list[EvaluatedRun]]] = []
    for members in found.values():
        first: dict[tuple[str, int | None], EvaluatedRun] = {}
        again: list[EvaluatedRun] = []
        for run in members:
            place = (json.dumps(run.settings, sort_keys=True), run.seed)
            if first.setdefault(place, run) is not run:
                again.append(run)
        kept.append(([*first.values()], again))
    commons = [dict(_common([r.settings for r in members])) for members, _ in kept]
    own = [
        {k: v for k, v in c.items() if any(k not in o or o[k] != v for o in commons)}
        for c in commons
    ]
    return [
        Group(settings, tuple(members), tuple(again))
        for settings, (members, again) in zip(own, kept, strict=True)
    ]


def flat(node: Mapping[str, object], stem: str = "") -> Iterator[tuple[str, object]]:
    """(dotted key, value) of everything in a nested mapping."""
    for key, value in node.items():
        if isinstance(value, Mapping) and value:
            yield from flat(cast("Mapping[str, object]", value), f"{stem}{key}.")
        else:
            yield f"{stem}{key}", value


def is_weight(key: str) -> bool:
    """Is it the key of an objective's weight?"""
    parts = key.split(".")
    return parts[0] == "objectives" and parts[2:] == ["weight"]


def _common(all_settings: Sequence[Mapping[str, object]]) -> Iterator[tuple[str, object]]:
    first, *others = all_settings
    for key, value in first.items():
        if all(key in other and other[key] == value for other in others):
            yield key, value


def _axis(run: Path, step: int, result: Mapping[str, object], objective: str) -> float:
    scores = result.get(objective)
    found = cast("dict[str, object]", scores) if isinstance(scores, dict) else {}
    value = _share(found.get(AXIS))
    if value is None:
        raise DataError(
            f"{run / EVALUATIONS}: step {step} has no '{objective}.{AXIS}'. The front needs both "
            "objectives' held-out items, BBQ's of both conditions and HaluEval's answers, scored "
            "by this version; evaluate the run anew"
        )
    return value


def _share(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value)
