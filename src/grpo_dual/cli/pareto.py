"""``grpo-dual pareto``: the trade-off of both objectives over checkpoints and runs."""

from collections.abc import Sequence
from pathlib import Path

from grpo_dual.cli.output import console, table, write_json
from grpo_dual.errors import DataError
from grpo_dual.evaluation.pareto import AXIS, Point, dominator, front, hypervolume
from grpo_dual.metrics.sinks import EVALUATIONS, evaluations

_OBJECTIVES = ("fairness", "hallucination")


def pareto(runs: Sequence[Path], *, json: Path | None) -> None:
    """Print every evaluated checkpoint of the runs, who dominates it, and the hypervolumes.

    Args:
        runs: Run folders.
        json: Where the result is written too.

    Raises:
        DataError: A folder has no evaluation of both objectives.
        CheckpointError: An evaluation file was damaged, or ``json`` cannot be written.
    """
    by_run = {run: _points(run) for run in dict.fromkeys(runs)}
    points = [point for found in by_run.values() for point in found]
    best = front(points)
    rows = [(p, None if p in best else dominator(p, points)) for p in points]
    rows.sort(key=lambda row: (-row[0].x, -row[0].y))
    areas = {str(run): hypervolume(found) for run, found in by_run.items()}
    if json is not None:
        result = {
            "axes": {"x": "fairness", "y": "faithfulness"},
            "reference": [0, 0],
            "hypervolume": hypervolume(points),
            "hypervolume_by_run": areas,
            "points": [
                {
                    "name": point.name,
                    "fairness": point.x,
                    "faithfulness": point.y,
                    "dominated_by": None if by is None else by.name,
                }
                for point, by in rows
            ],
        }
        write_json(json, result)
    _print(rows, areas, hypervolume(points))


def _points(run: Path) -> list[Point]:
    if not run.is_dir():
        raise DataError(f"{run}: no such folder; give the folder that the run printed")
    found = evaluations(run / EVALUATIONS)
    if not found:
        raise DataError(
            f"{run}: holds no evaluation ({EVALUATIONS} is absent or empty); give the folder of a "
            "run with held-out items (objectives.NAME.data.eval_samples)"
        )
    return [
        Point(f"{run.name}@{step}", *(_axis(run, step, result, name) for name in _OBJECTIVES))
        for step, result in sorted(found.items())
    ]


def _axis(run: Path, step: int, result: dict[str, object], objective: str) -> float:
    scores = result.get(objective)
    value = scores.get(AXIS) if isinstance(scores, dict) else None  # pyright: ignore
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise DataError(
            f"{run / EVALUATIONS}: step {step} has no '{objective}.{AXIS}'. The front needs both "
            "objectives' held-out items, BBQ's of both conditions and HaluEval's answers, scored "
            "by this version; evaluate the run anew"
        )
    return float(value)


def _print(
    rows: Sequence[tuple[Point, Point | None]], areas: dict[str, float], whole: float
) -> None:
    out = console()
    columns = ("checkpoint", "fairness", "faithfulness", "dominated by")
    made = table(None, columns, ("checkpoint", "dominated by"), out)
    for point, by in rows:
        reason = "on the front" if by is None else by.name
        made.add_row(point.name, f"{point.x:.4f}", f"{point.y:.4f}", reason)
    out.print(made)
    for run, area in areas.items():
        out.print(f"hypervolume {area:.4f}  {run}", markup=False, highlight=False)
    if len(areas) > 1:
        out.print(f"hypervolume {whole:.4f}  all runs together", markup=False, highlight=False)
