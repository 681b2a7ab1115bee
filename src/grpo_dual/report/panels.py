"""What a figure shows, before it is drawn: the numbers, a sentence that states them, a table."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from grpo_dual.diagnosis.history import Series, Value
from grpo_dual.report.held_out import Estimate
from grpo_dual.report.texts import number

EDGE = 5
"""Rows at each end over which a sentence averages."""
TABLE_ROWS = 20
"""Most rows of a figure's table; a longer series is shown at even distances."""
MOST_POINTS = 600
"""Most points of a line; of a longer series each point is the mean of several steps."""
SMOOTHED = 15
"""Measured values from which a line is shown smoothed, its values thin behind it."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line over steps."""

    label: str
    slot: int
    """Colour, dash and marker."""
    steps: tuple[int, ...]
    values: tuple[Value, ...]
    points: bool = False
    """Measured now and then: markers, and no smoothing."""
    band: tuple[tuple[float, float], ...] = ()
    """Lowest and highest of the runs whose mean it is, by step."""

    @property
    def known(self) -> list[tuple[int, float]]:
        """The measured ones."""
        pairs = zip(self.steps, self.values, strict=True)
        return [(s, v) for s, v in pairs if v is not None]

    @property
    def constant(self) -> bool:
        """All measured values are the same."""
        return len({v for _, v in self.known}) == 1

    @property
    def width(self) -> int:
        """Steps behind one point of the figure."""
        return math.ceil(len(self.steps) / MOST_POINTS)

    def thinned(self) -> "Line":
        """At most ``MOST_POINTS`` points, each the mean of ``width`` steps."""
        width = self.width
        if width <= 1:
            return self
        starts = range(0, len(self.steps), width)
        means = tuple(Series(self.values[i : i + width]).first(width) for i in starts)
        steps = tuple(self.steps[min(i + width // 2, len(self.steps) - 1)] for i in starts)
        parts = [self.band[i : i + width] for i in starts] if self.band else []
        band = tuple((min(low for low, _ in p), max(high for _, high in p)) for p in parts)
        return Line(self.label, self.slot, steps, means, self.points, band)

    def smoothed(self) -> tuple[Value, ...]:
        """EWMA, as the doctor smooths."""
        return Series(self.values).smoothed().values

    @property
    def shown(self) -> list[tuple[int, float]]:
        """The measured ones, smoothed where the line is drawn so."""
        if self.points or len(self.known) < SMOOTHED:
            return self.known
        pairs = zip(self.steps, self.smoothed(), self.values, strict=True)
        return [(s, v) for s, v, known in pairs if known is not None and v is not None]


@dataclass(frozen=True, slots=True)
class Level:
    """A horizontal line: a target, a start."""

    label: str
    slot: int | None
    """Colour of the line it belongs to; None for a muted one."""
    value: float


@dataclass(frozen=True, slots=True)
class Mark:
    """A finding of the doctor on the axis of steps."""

    text: str
    """Its number in the list."""
    step: int


@dataclass(frozen=True, slots=True)
class Table:
    """The numbers of a figure."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


@dataclass(frozen=True, slots=True)
class TimePanel:
    """Lines over steps."""

    title: str
    unit: str
    lines: tuple[Line, ...]
    share: bool = False
    levels: tuple[Level, ...] = ()
    marks: tuple[Mark, ...] = ()
    note: str = ""
    """Said behind the sentence: how to read it."""

    @property
    def brief(self) -> str:
        """Where each line begins and ends."""
        told = [brief for line in self.lines if (brief := _brief(line, share=self.share))]
        width = max((line.width for line in self.lines), default=1)
        thin = f" Each point is the mean of {width} steps." if width > 1 else ""
        return f"{'; '.join(told)}.{thin}" if told else ""

    @property
    def says(self) -> str:
        """The text alternative."""
        told = [_said(line, share=self.share) for line in self.lines]
        told += [f"{x.label} is {number(x.value, share=self.share)}" for x in self.levels]
        if self.marks:
            at = ", ".join(f"{m.text} from step {m.step}" for m in self.marks)
            told.append(f"findings: {at}")
        return f"{'; '.join(told)}.{f' {self.note}' if self.note else ''}"

    @property
    def table(self) -> Table:
        """Steps by lines."""
        steps = sorted({s for line in self.lines for s, _ in line.known})
        chosen = evenly(steps, TABLE_ROWS)
        by_line = [dict(line.known) for line in self.lines]
        rows = tuple(
            (str(s), *(number(own.get(s), share=self.share) for own in by_line)) for s in chosen
        )
        note = f"{len(chosen)} of {len(steps)} steps." if len(chosen) < len(steps) else ""
        return Table(("step", *(line.label for line in self.lines)), rows, note)


@dataclass(frozen=True, slots=True)
class Dots:
    """One kind of marker in an interval panel."""

    label: str
    slot: int | None
    """None: muted, hollow."""
    values: tuple[Estimate, ...]
    """One for each row of the panel."""


@dataclass(frozen=True, slots=True)
class IntervalPanel:
    """Scores as dots with their intervals, one row a score."""

    title: str
    rows: tuple[str, ...]
    dots: tuple[Dots, ...]
    share: bool = True
    low: float = 0.0
    high: float = 1.0
    brief: str = "Dots are shares of held-out items, bars 95 % intervals."

    @property
    def says(self) -> str:
        """The text alternative."""
        told: list[str] = []
        for place, row in enumerate(self.rows):
            own = [(d.label, d.values[place].value) for d in self.dots]
            shown = (f"{label} {number(v, share=self.share)}" for label, v in own if v is not None)
            told.append(f"{row}: {', '.join(shown)}")
        return f"{'; '.join(told)}."

    @property
    def table(self) -> Table:
        """Rows by kinds."""
        cells = tuple(
            (row, *(interval(d.values[i], share=self.share) for d in self.dots))
            for i, row in enumerate(self.rows)
        )
        return Table(("measure", *(d.label for d in self.dots)), cells)


@dataclass(frozen=True, slots=True)
class Trail:
    """The evaluated checkpoints of one run, in order."""

    label: str
    slot: int
    points: tuple[tuple[str, float, float], ...]
    """Name, and the two axes."""


@dataclass(frozen=True, slots=True)
class FrontPanel:
    """Two axes, larger is better on both."""

    title: str
    x: str
    y: str
    trails: tuple[Trail, ...]
    front: tuple[tuple[str, float, float], ...]
    """The points that no other dominates, by x."""
    hypervolume: float

    @property
    def brief(self) -> str:
        """The area below the front."""
        return f"Up and to the right is better. Hypervolume {self.hypervolume:.3f} (at most 1)."

    @property
    def says(self) -> str:
        """The text alternative."""
        ends = [
            f"{t.label} from {_point(t.points[0])} to {_point(t.points[-1])}" for t in self.trails
        ]
        best = ", ".join(name for name, _, _ in self.front)
        return (
            f"{self.x} and {self.y}: {'; '.join(ends)}. Not dominated: {best}. Hypervolume above "
            f"(0, 0): {self.hypervolume:.3f}."
        )

    @property
    def table(self) -> Table:
        """One row a checkpoint."""
        best = {name for name, _, _ in self.front}
        rows = tuple(
            (name, f"{x:.4f}", f"{y:.4f}", "on the front" if name in best else "dominated")
            for trail in self.trails
            for name, x, y in trail.points
        )
        return Table(("checkpoint", self.x, self.y, ""), rows)


@dataclass(frozen=True, slots=True)
class Span:
    """How long a finding held."""

    text: str
    slot: int
    """By severity."""
    first: int
    last: int
    over: bool
    """It no longer holds."""


@dataclass(frozen=True, slots=True)
class SpanPanel:
    """Findings of the doctor over steps."""

    title: str
    spans: tuple[Span, ...]
    last: int
    """The run's last step."""
    severities: tuple[str, ...] = ("act", "warn", "note")
    brief: str = "An arrow: it still holds at the last step."

    @property
    def says(self) -> str:
        """The text alternative."""
        told = (f"{s.text}: {_when(s)}" for s in self.spans)
        return f"{'; '.join(told)}."

    @property
    def table(self) -> Table:
        """One row a finding."""
        rows = tuple(
            (s.text, self.severities[s.slot], str(s.first), "holds" if not s.over else str(s.last))
            for s in self.spans
        )
        return Table(("finding", "severity", "from step", "until step"), rows)


Panel = TimePanel | IntervalPanel | FrontPanel | SpanPanel


@dataclass(frozen=True, slots=True)
class Group:
    """Panels that belong together: a section of the page, and one PNG file."""

    key: str
    """Anchor, and name of the file."""
    title: str
    says: str
    """What to look for, in a sentence."""
    panels: tuple[Panel, ...]
    notes: tuple[str, ...] = ()
    """What is not drawn, and why."""


def evenly(listed: Sequence[int], most: int) -> list[int]:
    """At most ``most`` of them at even distances, first and last among them."""
    if len(listed) <= most:
        return list(listed)
    places = {round(i * (len(listed) - 1) / (most - 1)) for i in range(most)}
    return [listed[i] for i in sorted(places)]


def interval(estimate: Estimate, *, share: bool) -> str:
    """``97.0 % [93.8, 98.6]``."""
    shown = number(estimate.value, share=share)
    if estimate.low is None or estimate.high is None:
        return shown
    if share:
        return f"{shown} [{100 * estimate.low:.1f}, {100 * estimate.high:.1f}]"
    return f"{shown} [{estimate.low:.2f}, {estimate.high:.2f}]"


def _brief(line: Line, *, share: bool) -> str:
    if not line.known or line.points:
        return ""
    if line.constant:
        return f"{line.label} {number(line.known[0][1], share=share)} throughout"
    first, last = (sum(v for _, v in e) / len(e) for e in (line.known[:EDGE], line.known[-EDGE:]))
    return f"{line.label} {number(first, share=share)} to {number(last, share=share)}"


def _said(line: Line, *, share: bool) -> str:
    known = line.known
    if not known:
        return f"{line.label} was not measured"
    if line.constant:
        return f"{line.label} is {number(known[0][1], share=share)} throughout"
    low, high = min(known, key=lambda p: p[1]), max(known, key=lambda p: p[1])
    extremes = (
        f"lowest {number(low[1], share=share)} at step {low[0]}, highest "
        f"{number(high[1], share=share)} at step {high[0]}"
    )
    if line.points or len(known) < 2 * EDGE:
        first, last = known[0], known[-1]
        ends = (
            f"{number(first[1], share=share)} at step {first[0]}, {number(last[1], share=share)} "
            f"at step {last[0]}"
        )
    else:
        means = [sum(v for _, v in part) / EDGE for part in (known[:EDGE], known[-EDGE:])]
        ends = (
            f"{number(means[0], share=share)} over the first {EDGE} steps, "
            f"{number(means[1], share=share)} over the last {EDGE}"
        )
    return f"{line.label} {ends} ({extremes})"


def _point(point: tuple[str, float, float]) -> str:
    return f"({point[1]:.2f}, {point[2]:.2f})"


def _when(span: Span) -> str:
    if span.over:
        return f"steps {span.first} to {span.last}"
    return f"from step {span.first} on" if span.first else "before the first step"
