"""Typed access to the fields of a raw row; every complaint names the origin and the field."""

from collections.abc import Collection, Mapping
from difflib import get_close_matches
from typing import cast

from grpo_dual.errors import DataError


def suggestion(word: str, known: Collection[str]) -> str:
    """``; did you mean 'Age'?`` when one of ``known`` is close to ``word``, else empty."""
    folded = {name.casefold(): name for name in known}
    near = get_close_matches(word.casefold(), folded, n=1)
    return f"; did you mean '{folded[near[0]]}'?" if near else ""


def shorten(value: object, limit: int = 60) -> str:
    """``repr`` of a value for an error message, at most ``limit`` characters."""
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 3] + "..."


class Fields:
    """The fields of one object of a row.

    Args:
        row: The object.
        origin: ``path:line``.
        prefix: Path of this object inside the row, ending in a dot; empty for the row itself.
    """

    def __init__(self, row: Mapping[str, object], origin: str, prefix: str = "") -> None:
        self._row = row
        self._origin = origin
        self._prefix = prefix

    def fault(self, key: str, problem: str) -> DataError:
        """The error for a field, to be raised by the caller."""
        return DataError(f"{self._origin}: field '{self._prefix}{key}' {problem}")

    def has(self, key: str) -> bool:
        """True when the field is there, whatever it holds."""
        return key in self._row

    def value(self, key: str) -> object:
        """The field as it is.

        Raises:
            DataError: The field is missing.
        """
        if key not in self._row:
            there = ", ".join(str(name) for name in list(self._row)[:12]) or "nothing"
            near = suggestion(key, [str(name) for name in self._row])
            raise self.fault(key, f"is missing; the row has: {there}{near}")
        return self._row[key]

    def text(self, key: str, *, blank: bool = False) -> str:
        """A text field, as it is.

        Raises:
            DataError: It is missing, no text, or blank although ``blank`` is False.
        """
        value = self.value(key)
        if not isinstance(value, str):
            raise self.fault(key, f"must be text, not {shorten(value)}")
        if not blank and not value.strip():
            raise self.fault(key, "is empty; it must hold text")
        return value

    def integer(self, key: str, lowest: int, highest: int) -> int:
        """A whole number from ``lowest`` to ``highest``; true and false are no numbers.

        Raises:
            DataError: It is missing, of another type or out of range.
        """
        value = self.value(key)
        if not isinstance(value, int) or isinstance(value, bool) or not lowest <= value <= highest:
            raise self.fault(
                key, f"must be a whole number from {lowest} to {highest}, not {shorten(value)}"
            )
        return value

    def choice(self, key: str, allowed: Collection[str]) -> str:
        """A text that is one of ``allowed``, exactly.

        Raises:
            DataError: It is missing or something else.
        """
        value = self.text(key)
        if value not in allowed:
            near = suggestion(value, allowed)
            raise self.fault(
                key, f"must be one of {', '.join(allowed)}, not {shorten(value)}{near}"
            )
        return value

    def inner(self, key: str) -> "Fields":
        """An object field.

        Raises:
            DataError: It is missing or no object.
        """
        value = self.value(key)
        if not isinstance(value, Mapping):
            raise self.fault(key, f"must be an object, not {shorten(value)}")
        items = cast("Mapping[str, object]", value)
        return Fields(items, self._origin, f"{self._prefix}{key}.")

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of texts, possibly empty.

        Raises:
            DataError: It is missing, no list, or holds something that is no text.
        """
        value = self.value(key)
        if not isinstance(value, (list, tuple)):
            raise self.fault(key, f"must be a list of texts, not {shorten(value)}")
        items = cast("list[object]", value)
        for item in items:
            if not isinstance(item, str):
                raise self.fault(key, f"must hold texts only, not {shorten(item)}")
        return tuple(cast("list[str]", items))
