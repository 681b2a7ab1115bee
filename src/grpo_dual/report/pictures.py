"""Before and after as dots with intervals, and the trade-off as a front."""

from collections.abc import Sequence

from grpo_dual.evaluation.pareto import AXIS, Point, front, hypervolume
from grpo_dual.report.held_out import Estimate, measures
from grpo_dual.report.panels import Dots, FrontPanel, IntervalPanel, Trail
from grpo_dual.report.reading import MANY, Run

_AXES = {"fairness": "fairness", "hallucination": "faithfulness"}
_LEFT_OUT = ("distinct", "detect_always_no", "detect_length_only")


def before_after(runs: Sequence[Run]) -> tuple[IntervalPanel, ...]:
    """Shares in one panel, bias scores in another; none where nothing was evaluated twice."""
    compared = [run for run in runs if len(run.held_out) > 1]
    panels = (
        _dots(compared, "Held-out shares, before and after", percent=True),
        _dots(compared, "Bias scores, before and after (0 is none)", percent=False),
    )
    return tuple(p for p in panels if p is not None)


def trade_off(runs: Sequence[Run]) -> FrontPanel | None:
    """Every evaluated checkpoint on both axes; None where no run has two objectives with one."""
    pair = _pair(runs)
    if pair is None:
        return None
    trails: list[Trail] = []
    for slot, run in enumerate(runs):
        points = _points(run, pair, prefix="" if len(runs) == 1 else f"{run.tag} ")
        if points:
            trails.append(Trail(run.tag, slot, points))
    named = [Point(*point) for trail in trails for point in trail.points]
    best = sorted({(p.name, p.x, p.y) for p in front(named)}, key=lambda p: (p[1], -p[2]))
    x, y = (_AXES.get(name, name) for name in pair)
    return FrontPanel("The trade-off", x, y, tuple(trails), tuple(best), hypervolume(named))


def _pair(runs: Sequence[Run]) -> tuple[str, str] | None:
    """The first two objectives that have axes in some run."""
    for run in runs:
        with_axis = [
            name
            for name in run.history.objectives
            if any(_axis(result.get(name, {})) is not None for result in run.held_out.values())
        ]
        if len(with_axis) > 1:
            return with_axis[0], with_axis[1]
    return None


def _points(run: Run, pair: tuple[str, str], prefix: str) -> tuple[tuple[str, float, float], ...]:
    points: list[tuple[str, float, float]] = []
    for step, result in sorted(run.held_out.items()):
        x, y = (_axis(result.get(name, {})) for name in pair)
        if x is not None and y is not None:
            points.append((f"{prefix}step {step}", x, y))
    return tuple(points)


def _axis(scores: object) -> float | None:
    value: object = scores.get(AXIS) if isinstance(scores, dict) else None  # pyright: ignore
    known = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if known else None  # pyright: ignore


def _dots(runs: Sequence[Run], title: str, *, percent: bool) -> IntervalPanel | None:
    by_run = [{m.row.words.strip(): m for m in measures(run)} for run in runs]
    rows = list(
        dict.fromkeys(
            words
            for own in by_run
            for words, m in own.items()
            if _drawn(m.row.key, m.row.objective)
            and m.row.percent == percent
            and (m.after.value is not None or m.before.value is not None)
            and (percent or m.row.better == "nearer 0")
        )
    )
    if not rows:
        return None
    dots: list[Dots] = []
    nothing = Estimate(None)
    for slot, (run, own) in enumerate(zip(runs, by_run, strict=True)):
        name = "" if len(runs) == 1 else f"{run.tag} "
        before = tuple(own[r].before if r in own else nothing for r in rows)
        after = tuple(own[r].after if r in own else nothing for r in rows)
        if not dots or (before != dots[0].values and len(runs) <= MANY):
            dots.append(Dots(f"{name}before", None, before))
        dots.append(Dots(f"{name}after", slot, after))
    low, high = (0.0, 1.0) if percent else (-1.0, 1.0)
    known = any(e.known for d in dots for e in d.values)
    brief = "Bars are 95 % intervals." if known else "Without intervals: the file has none."
    if len(runs) > MANY:
        brief += f" Before is that of {runs[0].tag}; each run's own is in its table."
    return IntervalPanel(title, tuple(rows), tuple(dots), percent, low, high, brief)


def _drawn(key: str, objective: str) -> bool:
    """Shares of items; baselines and what has no scale of 0 to 1 are in the table alone."""
    return key not in _LEFT_OUT and (bool(key) or not objective)
