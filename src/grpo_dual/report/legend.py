"""Legends and titles above a plot: in as few rows as fit, and with room for all of them."""

from collections.abc import Sequence
from typing import Any

from grpo_dual.report import colours
from grpo_dual.report.colours import Ink
from grpo_dual.report.panels import FrontPanel, IntervalPanel, Panel, TimePanel

_ROW = 0.18
"""Inches."""
_ABOVE = 9
"""Points between plot and legend: room for the numbers of findings."""


def height(panel: Panel) -> float:
    """Inches that a legend of more than two rows needs beyond what every panel has."""
    return _ROW * max(0, _rows(_labels(panel)) - 2)


def title(axes: Any, text: str, ink: Ink) -> None:
    """Above the legend."""
    legend = axes.get_legend()
    rows = 0 if legend is None else _rows([text.get_text() for text in legend.get_texts()])
    axes.set_title(text, loc="left", color=ink(colours.INK), pad=16 + 14 * rows)


def draw(axes: Any, ink: Ink, handles: Sequence[Any] = (), labels: Sequence[str] = ()) -> None:
    """Above the plot, in as few rows as fit; none for a single line."""
    if not handles:
        handles, labels = axes.get_legend_handles_labels()
    if len(handles) < 2:
        return
    from matplotlib.transforms import ScaledTranslation

    raised = axes.transAxes + ScaledTranslation(0, _ABOVE / 72, axes.figure.dpi_scale_trans)
    axes.legend(
        handles, labels, loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=_columns(labels),
        bbox_transform=raised,
        frameon=False, borderaxespad=0, handlelength=2.6, columnspacing=1.2, labelspacing=0.3,
        labelcolor=ink(colours.INK),
    )  # fmt: skip


def _columns(labels: Sequence[str]) -> int:
    longest = max(map(len, labels))
    fit = next(n for least, n in ((25, 1), (15, 2), (4, 3), (0, 5)) if longest >= least)
    return min(len(labels), fit)


def _rows(labels: Sequence[str]) -> int:
    """Of a legend."""
    return -(-len(labels) // _columns(labels)) if len(labels) > 1 else 0


def _labels(panel: Panel) -> list[str]:
    """What the legend names."""
    if isinstance(panel, TimePanel):
        return [line.label for line in panel.lines if line.known] + [x.label for x in panel.levels]
    if isinstance(panel, IntervalPanel):
        return [dots.label for dots in panel.dots]
    return ["front", *(t.label for t in panel.trails)] if isinstance(panel, FrontPanel) else []
