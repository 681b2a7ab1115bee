"""Runs that differ in the seed alone, drawn as one: their mean, and what lies between them."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from grpo_dual.evaluation.evaluated import counting, flat
from grpo_dual.evaluation.over_seeds import seed_mean
from grpo_dual.report.held_out import Estimate
from grpo_dual.report.panels import (
    Dots,
    FrontPanel,
    Group,
    IntervalPanel,
    Level,
    Line,
    Panel,
    TimePanel,
    Trail,
)
from grpo_dual.report.reading import MANY, Run
from grpo_dual.report.texts import label


@dataclass(frozen=True, slots=True)
class Team:
    """Runs of one configuration."""

    name: str
    places: tuple[int, ...]
    """Of its runs among all."""


Members = Mapping[int, int]
"""Place of a run -> place of its team."""


def teams(runs: Sequence[Run]) -> tuple[Team, ...]:
    """The configurations among many runs; none where there are few runs, or no seed twice."""
    if len(runs) <= MANY:
        return ()
    found: dict[str, list[int]] = defaultdict(list)
    for place, run in enumerate(runs):
        found[json.dumps(counting(dict(flat(run.history.config))), sort_keys=True)].append(place)
    groups = [tuple(places) for places in found.values()]
    if all(len(places) == 1 for places in groups):
        return ()
    return tuple(Team(_name(runs, places), places) for places in groups)


def _name(runs: Sequence[Run], places: Sequence[int]) -> str:
    """``both (A-C)``: the configuration's name and the letters of its runs."""
    letters = [runs[place].tag for place in places]
    whole = list(range(places[0], places[-1] + 1)) == list(places) and len(places) > 2
    shown = f"{letters[0]}-{letters[-1]}" if whole else ", ".join(letters)
    own = runs[places[0]].history.setting("name")
    return f"{label(own)} ({shown})" if isinstance(own, str) and own else shown


def drawn_together(group: Group, found: Sequence[Team]) -> Group:
    """The group with a line for each team instead of one for each run."""
    if not found:
        return group
    members = {place: number for number, team in enumerate(found) for place in team.places}
    panels = tuple(_panel(panel, found, members) for panel in group.panels)
    return replace(group, panels=panels)


def _panel(panel: Panel, found: Sequence[Team], members: Members) -> Panel:
    if isinstance(panel, TimePanel):
        note = "Lines are means over seeds, bands reach from the lowest to the highest."
        return replace(
            panel,
            lines=tuple(_lines(panel.lines, found, members)),
            levels=tuple(_levels(panel.levels, found, members)),
            note=f"{panel.note} {note}".strip(),
        )
    if isinstance(panel, IntervalPanel):
        brief = "Dots are means over seeds, bars 95 % t intervals; before is one run's."
        return replace(panel, dots=tuple(_dots(panel.dots, found, members)), brief=brief)
    if isinstance(panel, FrontPanel):
        return replace(panel, trails=tuple(_trails(panel.trails, found, members)))
    return panel


def _lines(lines: Sequence[Line], found: Sequence[Team], members: Members) -> list[Line]:
    by_team: dict[tuple[int, bool], list[Line]] = defaultdict(list)
    for line in lines:
        if line.known:
            by_team[members[line.slot], line.points].append(line)
    return [
        _mean(own, found[number].name + (", probe" if points else ""), number)
        for (number, points), own in sorted(by_team.items())
    ]


def _mean(lines: Sequence[Line], name: str, slot: int) -> Line:
    """The mean, step by step; the band is that of the lines as they are drawn, smoothed."""
    means = _by_step([line.known for line in lines])
    drawn = _by_step([line.shown for line in lines])
    band = tuple((min(drawn[s]), max(drawn[s])) for s in means)
    return Line(name, slot, tuple(means), tuple(map(fmean, means.values())), lines[0].points, band)


def _by_step(lines: Sequence[Sequence[tuple[int, float]]]) -> dict[int, list[float]]:
    found: dict[int, list[float]] = defaultdict(list)
    for step, value in sorted(pair for line in lines for pair in line):
        found[step].append(value)
    return found


def _levels(levels: Sequence[Level], found: Sequence[Team], members: Members) -> list[Level]:
    """Those of a team in the middle of its runs'."""
    kept = [level for level in levels if level.slot is None]
    own: dict[int, list[Level]] = defaultdict(list)
    for level in levels:
        if level.slot is not None:
            own[members[level.slot]].append(level)
    for number, those in sorted(own.items()):
        what = those[0].label.split()[-1]
        value = fmean(level.value for level in those)
        kept.append(Level(f"{found[number].name} {what}", number, value))
    return kept


def _dots(dots: Sequence[Dots], found: Sequence[Team], members: Members) -> list[Dots]:
    """Behind training by team; what was before stays that of the first run."""
    kept = [own for own in dots if own.slot is None][:1]
    by_team: dict[int, list[Dots]] = defaultdict(list)
    for own in dots:
        if own.slot is not None:
            by_team[members[own.slot]].append(own)
    for number, those in sorted(by_team.items()):
        rows = zip(*(own.values for own in those), strict=True)
        values = tuple(_over(row) for row in rows)
        kept.append(Dots(f"{found[number].name} after", number, values))
    return kept


def _over(row: Sequence[Estimate]) -> Estimate:
    values = [found.value for found in row if found.value is not None]
    if not values:
        return Estimate(None)
    mean = seed_mean(values)
    low, high = mean.interval if mean.interval is not None else (None, None)
    return Estimate(mean.mean, low, high, "seeds")


def _trails(trails: Sequence[Trail], found: Sequence[Team], members: Members) -> list[Trail]:
    by_team: dict[int, list[Trail]] = defaultdict(list)
    for trail in trails:
        by_team[members[trail.slot]].append(trail)
    return [
        Trail(found[number].name, number, _middle(those, found[number].name))
        for number, those in sorted(by_team.items())
    ]


def _middle(trails: Sequence[Trail], name: str) -> tuple[tuple[str, float, float], ...]:
    """Means by step; names of points end with it (``A step 25``)."""
    by_step: dict[int, list[tuple[float, float]]] = defaultdict(list)
    for trail in trails:
        for point, x, y in trail.points:
            by_step[int(point.rsplit(" ", 1)[-1])].append((x, y))
    return tuple(
        (f"{name} step {step}", fmean(x for x, _ in own), fmean(y for _, y in own))
        for step, own in sorted(by_step.items())
    )
