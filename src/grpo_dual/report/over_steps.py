"""A panel of lines over steps -> matplotlib."""

from collections.abc import Sequence
from typing import Any

from grpo_dual.report import colours, legend, looks
from grpo_dual.report.colours import Ink
from grpo_dual.report.panels import SMOOTHED, Level, Line, TimePanel

_SPIKE = 8
"""Times what 98 % of the values reach."""
_SPIKES_AMONG = 50


def draw(axes: Any, panel: TimePanel, ink: Ink) -> None:
    """Lines, levels and findings over steps."""
    for line in panel.lines:
        if line.known:
            trace(axes, line.thinned(), ink)
    for level in panel.levels:
        _level(axes, level, ink)
    for mark in panel.marks:
        axes.axvline(mark.step, color=ink(colours.MUTED), linewidth=0.8, linestyle=(0, (1, 2)))
    _numbered(axes, panel, ink)
    axes.set_xlabel("step")
    axes.set_ylabel(panel.unit)
    if panel.share:
        from matplotlib.ticker import PercentFormatter

        highest = max((v for line in panel.lines for _, v in line.known), default=1.0)
        top = 1.0 if highest > 0.5 else max(0.1, 1.2 * highest)
        axes.set_ylim(-0.03 * top, 1.03 * top)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))
    else:
        _cut(axes, panel, ink)
    steps = [s for line in panel.lines for s, _ in line.known]
    if len(set(steps)) < 2:
        axes.set_xlim(min(steps) - 1, max(steps) + 1)
    legend.draw(axes, ink)


def _cut(axes: Any, panel: TimePanel, ink: Ink) -> None:
    """End the axis below single values that would flatten all others, and say so."""
    values = sorted(v for line in panel.lines for _, v in line.known)
    usual = values[int(0.98 * len(values))] if values else 0.0
    if len(values) < _SPIKES_AMONG or usual <= 0 or values[-1] < _SPIKE * usual:
        return
    axes.set_ylim(values[0] - 0.05 * (usual - values[0]), 1.6 * usual)
    axes.text(
        0.99, 0.97, f"cut: single values up to {values[-1]:.3g}", transform=axes.transAxes,
        ha="right", va="top", fontsize=8, color=ink(colours.MUTED),
    )  # fmt: skip


def trace(axes: Any, line: Line, ink: Ink) -> None:
    """One line, with its band where it is a mean, smoothed where it is long."""
    slot = line.slot
    style: dict[str, Any] = {
        "color": ink(colours.series(slot)),
        "linestyle": looks.dash(slot),
        "marker": looks.marker(slot),
        "markersize": 3.5,
        "label": line.label,
    }
    known = line.known
    if line.points:
        style |= {"linestyle": (0, (1, 3)), "linewidth": 1, "markersize": 5}
        style["markerfacecolor"] = "none"
        axes.plot(*zip(*known, strict=True), **style)
        return
    if line.band:
        lows, highs = zip(*line.band, strict=True)
        axes.fill_between(line.steps, lows, highs, color=style["color"], alpha=0.18, linewidth=0)
    if len(known) < SMOOTHED:
        axes.plot(line.steps, _gaps(line.values), linewidth=1.8, **style)
        return
    if not line.band:
        thin = {"color": style["color"], "linewidth": 0.7, "alpha": 0.4}
        axes.plot(line.steps, _gaps(line.values), **thin)
    every = max(1, len(line.steps) // 7)
    start = (every // 2 + slot * every // 3) % every  # markers of two lines seldom meet
    axes.plot(line.steps, _gaps(line.smoothed()), linewidth=1.9, markevery=(start, every), **style)


def _gaps(values: Sequence[float | None]) -> list[float]:
    return [float("nan") if v is None else v for v in values]


def _level(axes: Any, level: Level, ink: Ink) -> None:
    colour = ink(colours.MUTED if level.slot is None else colours.series(level.slot))
    axes.axhline(level.value, color=colour, linewidth=0.9, linestyle=(0, (3, 3)), label=level.label)


def _numbered(axes: Any, panel: TimePanel, ink: Ink) -> None:
    """The numbers of findings above the plot; those too near to the last one are joined to it."""
    steps = [s for line in panel.lines for s, _ in line.known]
    width = max(steps) - min(steps) if steps else 0
    merged: list[tuple[int, str]] = []
    for mark in panel.marks:
        if merged and mark.step - merged[-1][0] < 0.07 * width:
            merged[-1] = (merged[-1][0], f"{merged[-1][1]},{mark.text}")
        else:
            merged.append((mark.step, mark.text))
    for step, text in merged:
        axes.text(
            step,
            1.01,
            text,
            transform=axes.get_xaxis_transform(),
            ha="center",
            va="bottom",
            fontsize=8,
            color=ink(colours.MUTED),
        )
