"""Panels -> matplotlib: the same code draws the page's SVG and the PNG files."""

import io
import textwrap
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Any

from grpo_dual.errors import CheckpointError, ConfigError
from grpo_dual.report import colours, legend, looks, over_steps
from grpo_dual.report.colours import Ink
from grpo_dual.report.panels import (
    FrontPanel,
    Group,
    IntervalPanel,
    Line,
    Panel,
    SpanPanel,
    TimePanel,
)
from grpo_dual.report.svg import inline

INSTALL = 'pip install "grpo-dual[figures]"'
_WIDTH, _HEIGHT = 4.0, 2.7
"""Inches of one panel; wide enough that its text can be read on a phone."""
_WORDS = 0.27
"""Inches above a score's dots."""
_SETTINGS: dict[str, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9,
    "axes.labelsize": 9,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "legend.fontsize": 8.5,
    "axes.titlesize": 10,
    "svg.fonttype": "none",
    "svg.hashsalt": "grpo-dual",
    "text.parse_math": False,
    "text.usetex": False,
    "axes.unicode_minus": True,
    "path.simplify": True,
}


def need_matplotlib() -> None:
    """Fail before anything is read rather than after.

    Raises:
        ConfigError: matplotlib is not installed.
    """
    try:
        import matplotlib as _  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            f"figures are drawn by matplotlib, which is missing: {INSTALL}"
        ) from error


def svg(panel: Panel, prefix: str) -> str:
    """A panel as an inline ``<svg>`` whose colours are CSS variables.

    Args:
        panel: What to draw.
        prefix: Of every id in it; no other figure of the page has it.
    """
    with _figure(_WIDTH, _height(panel)) as figure:
        draw(figure.subplots(), panel, colours.placeholder)
        target = io.StringIO()
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(target, format="svg", transparent=True, metadata=nothing)
    return inline(target.getvalue(), prefix)


def png(group: Group, path: Path, key: str = "") -> None:
    """The panels of a group as one PNG, and beneath them what its letters stand for.

    Raises:
        CheckpointError: It cannot be written.
    """
    columns = min(2 if len(group.panels) in (2, 4) else 3, len(group.panels))
    grid(group.panels, columns, path, key=key)


def grid(
    panels: Sequence[Panel],
    columns: int,
    path: Path,
    right: Mapping[int, tuple[Line, str]] = MappingProxyType({}),
    key: str = "",
) -> None:
    """Panels in rows of ``columns``, in the format of the file's ending.

    Args:
        panels: In reading order.
        columns: Panels in a row.
        path: The file.
        right: Place of a panel -> a line on an axis of its own at the right, and its unit.
        key: A line of text beneath all.

    Raises:
        CheckpointError: It cannot be written.
    """
    rows = -(-len(panels) // columns)
    height = sum(
        max(_height(p) for p in panels[i * columns : (i + 1) * columns]) for i in range(rows)
    )
    with _figure(_WIDTH * 1.25 * columns, height * 1.2) as figure:
        figure.set_facecolor(colours.GROUND.light)
        axes = figure.subplots(rows, columns, squeeze=False).flatten()
        for number, (panel, place) in enumerate(zip(panels, axes, strict=False)):
            draw(place, panel, colours.light)
            if number in right:
                _right(place, *right[number], colours.light)
            legend.title(place, panel.title, colours.light)
        for place in axes[len(panels) :]:
            place.set_visible(False)
        if key:
            text = textwrap.fill(key, 48 * columns)
            figure.supxlabel(
                text, x=0.01, ha="left", fontsize=8.5, color=colours.light(colours.INK)
            )
        try:
            figure.savefig(path, dpi=150)
        except OSError as error:
            raise CheckpointError(
                f"{path}: cannot be written: {error.strerror or error}; name another file."
            ) from error


def draw(axes: Any, panel: Panel, ink: Ink) -> None:
    """A panel on its axes."""
    if isinstance(panel, TimePanel):
        over_steps.draw(axes, panel, ink)
    elif isinstance(panel, IntervalPanel):
        _intervals(axes, panel, ink)
    elif isinstance(panel, FrontPanel):
        _front(axes, panel, ink)
    else:
        _spans(axes, panel, ink)
    _dress(axes, ink)


@contextmanager
def _figure(width: float, height: float) -> Generator[Any]:
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    library: Any = matplotlib  # its stubs list every setting by name
    with library.rc_context(_SETTINGS):
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(figure)
        yield figure


def _right(axes: Any, line: Line, unit: str, ink: Ink) -> None:
    """A line with an axis of its own."""
    other = axes.twinx()
    over_steps.trace(other, line.thinned(), ink)
    other.set_ylabel(f"{unit} (right)", color=ink(colours.MUTED))
    other.tick_params(colors=ink(colours.MUTED), length=3)
    other.spines[["top", "left", "bottom", "right"]].set_visible(False)
    if line.constant:
        value = line.known[0][1]
        other.set_ylim(value - 0.05, value + 1.0)
    handles, labels = axes.get_legend_handles_labels()
    more, names = other.get_legend_handles_labels()
    legend.draw(axes, ink, [*handles, *more], [*labels, *(f"{name} (right)" for name in names)])


def _height(panel: Panel) -> float:
    if isinstance(panel, SpanPanel):
        return 0.8 + 0.38 * len(panel.spans)
    more = legend.height(panel)
    if isinstance(panel, IntervalPanel):
        return 0.9 + _row(panel) * len(panel.rows) + more
    return (3.4 if isinstance(panel, FrontPanel) else _HEIGHT) + more


def _row(panel: IntervalPanel) -> float:
    """Inches of one score: its words, and its dots beneath."""
    return _WORDS + _dots_of(panel)


def _dots_of(panel: IntervalPanel) -> float:
    return 0.17 + 0.08 * max(0, len(panel.dots) - 2)


def _intervals(axes: Any, panel: IntervalPanel, ink: Ink) -> None:
    """Row by row: its words, and beneath them one dot a kind, the first kind on top."""
    count = len(panel.dots)
    for place, row in enumerate(panel.rows):
        axes.text(
            panel.low, -place - 0.12, row, va="top", ha="left", fontsize=8.5,
            color=ink(colours.INK),
        )  # fmt: skip
    for place, dots in enumerate(panel.dots):
        hollow = dots.slot is None
        colour = ink(colours.MUTED if dots.slot is None else colours.series(dots.slot))
        shift = (_WORDS + 0.67 * _dots_of(panel) * (place + 0.5) / count) / _row(panel)
        known = [(e, -i - shift) for i, e in enumerate(dots.values) if e.value is not None]
        for estimate, y in known:
            if estimate.known:
                axes.plot((estimate.low, estimate.high), (y, y), color=colour, linewidth=1.6)
        axes.plot(
            [e.value for e, _ in known], [y for _, y in known], linestyle="none",
            marker="o" if dots.slot is None else looks.marker(1 + dots.slot),
            markersize=5.5, color=colour, label=dots.label,
            markerfacecolor=ink(colours.GROUND) if hollow else colour,
        )  # fmt: skip
    axes.set_ylim(-len(panel.rows) - 0.1, 0.05)
    margin = 0.03 * (panel.high - panel.low)
    axes.set_xlim(panel.low - margin, panel.high + margin)
    axes.set_yticks([])
    if panel.share:
        from matplotlib.ticker import PercentFormatter

        axes.xaxis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))
    else:
        axes.axvline(0, color=ink(colours.MUTED), linewidth=0.8)
    legend.draw(axes, ink)


def _front(axes: Any, panel: FrontPanel, ink: Ink) -> None:
    corners = [(0.0, panel.front[0][2]), *((x, y) for _, x, y in panel.front)]
    corners.append((panel.front[-1][1], 0.0))
    stairs: list[tuple[float, float]] = [corners[0]]
    for (_, _), (x, y) in pairwise(corners):
        stairs += [(stairs[-1][0], y), (x, y)]
    xs, ys = zip(*stairs, strict=True)
    muted = ink(colours.MUTED)
    axes.plot(xs, ys, color=muted, linewidth=0.9, linestyle=(0, (3, 3)), label="front")
    axes.fill_between(xs, ys, color=muted, alpha=0.08, linewidth=0)
    for trail in panel.trails:
        colour = ink(colours.series(trail.slot))
        xs, ys = [p[1] for p in trail.points], [p[2] for p in trail.points]
        marker = looks.marker(trail.slot)
        axes.plot(
            xs, ys, color=colour, linewidth=1.3, marker=marker, markersize=6, label=trail.label,
            linestyle=looks.dash(trail.slot),
        )  # fmt: skip
        axes.plot(
            xs[0], ys[0], color=colour, marker=marker, markersize=6,
            markerfacecolor=ink(colours.GROUND),
        )  # fmt: skip
        ends = dict.fromkeys((trail.points[0], trail.points[-1]))
        for name, x, y in ends if len(panel.trails) == 1 else ():
            right = x > 0.7
            axes.annotate(
                name, (x, y), xytext=(-8 if right else 8, -8), textcoords="offset points",
                ha="right" if right else "left", va="top", fontsize=8.5, color=ink(colours.INK),
            )  # fmt: skip
    axes.set_xlim(0, 1.04)
    axes.set_ylim(0, 1.04)
    axes.set_xlabel(f"{panel.x} (larger is better)")
    axes.set_ylabel(f"{panel.y} (larger is better)")
    legend.draw(axes, ink)


def _spans(axes: Any, panel: SpanPanel, ink: Ink) -> None:
    roles = (colours.WORSE, colours.SERIES[0], colours.MUTED)
    styles: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1, 1)))
    for place, span in enumerate(panel.spans):
        colour = ink(roles[span.slot])
        y = -place - 0.75
        axes.plot(
            (span.first, max(span.last, span.first + 0.3)),
            (y, y),
            color=colour,
            linewidth=4,
            linestyle=styles[span.slot],
            solid_capstyle="butt",
        )
        if not span.over:
            axes.plot(span.last, y, color=colour, marker=">", markersize=5, clip_on=False)
        axes.text(
            0, y + 0.18, span.text, ha="left", va="bottom", fontsize=8.5, color=ink(colours.INK)
        )
    axes.set_ylim(-len(panel.spans) - 0.1, 0.1)
    axes.set_xlim(0, max(1, panel.last))
    axes.set_yticks([])
    axes.set_xlabel("step")


def _dress(axes: Any, ink: Ink) -> None:
    muted, grid_colour = ink(colours.MUTED), ink(colours.GRID)
    axes.grid(color=grid_colour, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.set_facecolor("none")
    axes.spines[["top", "right"]].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(grid_colour)
    axes.tick_params(colors=muted, length=3)
    axes.xaxis.label.set_color(muted)
    axes.yaxis.label.set_color(muted)
