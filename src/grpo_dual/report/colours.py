"""Roles of colours: light and dark values, and the placeholders that figures are drawn with.

Categories are Okabe and Ito's (https://jfly.uni-koeln.de/color/), darkened or lightened where their
contrast with the ground would be below 3:1; lines differ by dash and marker as well.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Role:
    """What a colour is for."""

    name: str
    """Of the CSS variable, without its dashes."""
    light: str
    dark: str


Ink = Callable[[Role], str]
"""Role -> colour."""

GROUND: Final = Role("ground", "#ffffff", "#14171a")
INK: Final = Role("ink", "#1c2024", "#e8eaed")
MUTED: Final = Role("muted", "#5a636d", "#a3acb5")
GRID: Final = Role("grid", "#dfe3e8", "#31373d")
PANEL: Final = Role("panel", "#f6f7f9", "#1c2024")
LINK: Final = Role("link", "#00588a", "#7cc4f0")
BETTER: Final = Role("better", "#00694d", "#4cc9a4")
WORSE: Final = Role("worse", "#a84400", "#f2935a")
SERIES: Final = (
    Role("series-0", "#0072b2", "#56b4e9"),  # blue, sky blue
    Role("series-1", "#d55e00", "#e69f00"),  # vermillion, orange
    Role("series-2", "#008a65", "#2fc298"),  # bluish green
    Role("series-3", "#a64d84", "#dc96bd"),  # reddish purple
    Role("series-4", "#1c2024", "#f0e442"),  # black, yellow
    Role("series-5", "#4f7fbf", "#b8c7e0"),
)
"""Of lines, in the order of objectives or runs."""

ROLES: Final = (GROUND, INK, MUTED, GRID, PANEL, LINK, BETTER, WORSE, *SERIES)


def placeholder(role: Role) -> str:
    """A colour that nothing else in a figure has; ``svg.py`` puts the CSS variable in its place."""
    return f"#0a0b{ROLES.index(role):02x}"


def light(role: Role) -> str:
    """For PNG files."""
    return role.light


def series(slot: int) -> Role:
    """The colour of a line."""
    return SERIES[slot % len(SERIES)]


def variables(*, dark: bool) -> str:
    """The CSS declarations of all roles."""
    return "".join(f"--{r.name}:{r.dark if dark else r.light};" for r in ROLES)


def contrast(first: str, second: str) -> float:
    """WCAG 2.2's contrast ratio of two ``#rrggbb`` colours: 1 to 21."""
    high, low = sorted((_luminance(first), _luminance(second)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def _luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
