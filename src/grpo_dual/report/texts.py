"""Model text is data: what a reader sees of it, and numbers as a reader sees them."""

import math
import unicodedata
from dataclasses import dataclass

LIMIT = 20_000
"""Characters of one completion on the page; what is behind them is counted."""
LONG = 600
"""Characters from which a text gets a box that scrolls."""

_KEPT = "\n\t"
_CONTROL_PICTURES = 0x2400
_BIDI = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_SEPARATORS = ("Zl", "Zp")
_INVISIBLE = ("Cc", "Cf", "Cs", "Cn", "Co", *_SEPARATORS)


@dataclass(frozen=True, slots=True)
class Shown:
    """A text that the page can show."""

    text: str
    """No character of it acts: see ``visible``."""
    left_out: int
    """Characters behind ``LIMIT``."""

    @property
    def long(self) -> bool:
        """It gets a box that scrolls."""
        return len(self.text) > LONG

    @property
    def empty(self) -> bool:
        """There is nothing to see."""
        return not self.text.strip()


def shown(text: str) -> Shown:
    """A text of a model, cut at ``LIMIT`` and made visible."""
    return Shown(visible(text[:LIMIT]), max(0, len(text) - LIMIT))


def visible(text: str) -> str:
    r"""The text with everything that acts without being seen written out.

    Control characters become their pictures (U+2400 and on), marks of writing direction and other
    invisible characters their code points in brackets: what a reader sees is what is there. Line
    breaks and tabs stay; zero-width joiners stay where they join (emoji, Indic scripts).
    ``visible("a\x00b\u202ec")`` is ``"a\u2400b[U+202E]c"``.
    """
    return "".join(_seen(c) for c in text.replace("\r\n", "\n"))


def _seen(character: str) -> str:
    code = ord(character)
    if character in _KEPT or character in "\u200c\u200d":
        return character
    if code < 0x20:
        return chr(_CONTROL_PICTURES + code)
    if code == 0x7F:
        return "\u2421"
    if character in _BIDI or unicodedata.category(character) in _INVISIBLE:
        return f"[U+{code:04X}]"
    return character


def label(text: str, limit: int = 40) -> str:
    """A name for a figure: printable ASCII on one line, ``?`` for the rest, never empty.

    Fonts of figures hold few scripts, and a legend drops what begins with an underscore.
    """
    plain = "".join(c if " " <= c <= "~" else "?" for c in " ".join(text.split())).lstrip("_")
    return (plain if len(plain) <= limit else f"{plain[: limit - 3]}...") or "?"


def number(value: float | None, *, share: bool = False) -> str:
    """Three significant digits; shares in per cent; ``-`` for what was not measured."""
    if value is None:
        return "-"
    if not math.isfinite(value):
        return str(value)
    if share:
        return f"{100 * value:.1f} %"
    if value and not 1e-3 <= abs(value) < 1e5:
        return f"{value:.2e}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def duration(seconds: float | None) -> str:
    """``73 s``, ``12 min``, ``3.4 h``."""
    if seconds is None:
        return "-"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
