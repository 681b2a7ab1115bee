"""The tables of the page: before and after, runs beside each other, provenance."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from grpo_dual.report.held_out import Estimate, Measure, basis, difference, measures
from grpo_dual.report.panels import Table, interval
from grpo_dual.report.reading import Run
from grpo_dual.report.texts import duration

VOID = 0.02
"""Share of unparsed replies above which bias scores are not to be compared."""


@dataclass(frozen=True, slots=True)
class Change:
    """One line of a before/after table."""

    words: str
    before: str
    after: str
    change: str
    better: str
    """Which way is."""
    improved: bool | None
    sure: bool
    """The intervals do not overlap."""


def changes(run: Run) -> tuple[Change, ...]:
    """The before/after table of one run."""
    return tuple(_change(m) for m in measures(run))


def intervals_of(runs: Sequence[Run]) -> str:
    """Where the intervals of the tables are from."""
    return basis([e for run in runs for m in measures(run) for e in (m.before, m.after)])


def caveats(run: Run) -> tuple[str, ...]:
    """What keeps the before/after numbers from being compared as they are."""
    told: list[str] = []
    for measure in measures(run):
        row = measure.row
        ends = [e.value for e in (measure.before, measure.after) if e.value is not None]
        if row.key == "unparsed" and max(ends, default=0.0) > VOID:
            told.append(
                f"{max(ends):.1%} of BBQ's replies name no option: above {VOID:.0%} bias scores "
                "are not comparable."
            )
        if row.key == "judged_by" and "heuristic" in str(row.after):
            told.append(
                "Answers are judged by the offline judge, which training rewards as well: what it "
                "gains is not independent evidence."
            )
    return tuple(told)


def paired(first: Run, second: Run) -> Table:
    """Both runs' measures line by line, and how the second one's end differs from the first's."""
    own, other = ({m.row.words.strip(): m for m in measures(run)} for run in (first, second))
    words = [*own, *(w for w in other if w not in own)]
    rows = tuple(_pair(w, own.get(w), other.get(w)) for w in words)
    header = (
        "measure",
        "A before",
        "A after",
        "B before",
        "B after",
        "B after - A after",
        "better",
    )
    note = (
        "Intervals of differences are Newcombe's, with the items taken as independent: where both "
        "runs answered the same items, the true ones are narrower."
    )
    return Table(header, rows, note)


def provenance(run: Run) -> tuple[tuple[str, str], ...]:
    """What the run was made by, as names and values."""
    environment = run.environment
    packages = _mapping(environment.get("packages"))
    platform = _mapping(environment.get("platform"))
    lines = [
        ("state", run.state),
        ("training", duration(run.seconds)),
        ("repeat it", f"grpo-dual train {shlex.quote(str(run.folder / 'config.json'))}"),
        ("seed", str(run.history.setting("train.seed"))),
        ("model", str(run.history.setting("model.name"))),
        ("revision", _revision(_mapping(environment.get("git")).get("package"))),
        ("versions", ", ".join(f"{name} {v}" for name, v in packages.items() if v)),
        ("Python", " ".join(str(environment.get(k) or "") for k in ("implementation", "python"))),
        ("platform", ", ".join(f"{name} {value}" for name, value in platform.items())),
    ]
    return tuple((name, value) for name, value in lines if value.strip() not in ("", "None", "-"))


def _change(measure: Measure) -> Change:
    words, _, _, change, better = measure.row.cells()
    before, after = (
        _cell(measure, e, raw)
        for e, raw in (
            (measure.before, measure.row.before),
            (measure.after, measure.row.after),
        )
    )
    return Change(words.strip(), before, after, change, better, measure.improved, measure.sure)


def _cell(measure: Measure, estimate: Estimate, raw: object) -> str:
    if isinstance(raw, str):
        return raw
    if estimate.value is not None and not measure.row.percent and not estimate.known:
        return f"{estimate.value:.2f}"
    return interval(estimate, share=measure.row.percent)


def _pair(words: str, own: Measure | None, other: Measure | None) -> tuple[str, ...]:
    cells: list[str] = [words]
    for m in (own, other):
        if m is None:
            cells += ["-", "-"]
        else:
            cells += [_cell(m, m.before, m.row.before), _cell(m, m.after, m.row.after)]
    known = other or own
    assert known is not None
    moved = Estimate(None) if own is None or other is None else difference(other.after, own.after)
    cells.append(_moved(moved, percent=known.row.percent))
    return (*cells, known.row.better)


def _moved(moved: Estimate, *, percent: bool) -> str:
    if moved.value is None:
        return "-"
    scale, digits = (100, 1) if percent else (1, 2)
    shown = f"{scale * moved.value:+.{digits}f}"
    if moved.low is None or moved.high is None:
        return shown
    return f"{shown} [{scale * moved.low:+.{digits}f}, {scale * moved.high:+.{digits}f}]"


def _revision(git: object) -> str:
    found = _mapping(git)
    if not found:
        return "not known (no git work tree)"
    return f"{found.get('revision')}{', with changes' if found.get('modified') else ''}"


def _mapping(value: object) -> Mapping[str, object]:
    return cast("Mapping[str, object]", value) if isinstance(value, Mapping) else {}
