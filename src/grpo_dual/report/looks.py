"""The look of a line: dash and marker beside its colour, so that 36 of them differ."""

from typing import Any

from grpo_dual.report import colours

_DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1, 1.6)), (0, (6, 2, 1, 2)), (0, (9, 2)), "-")
_MARKERS = ("o", "s", "^", "D", "v", "P")


def dash(slot: int) -> Any:
    """Matplotlib's line style."""
    return _DASHES[(slot + slot // len(colours.SERIES)) % len(_DASHES)]


def marker(slot: int) -> str:
    """One place further in every round of colours, so that 36 lines have a look each."""
    return _MARKERS[(slot + slot // len(colours.SERIES)) % len(_MARKERS)]
