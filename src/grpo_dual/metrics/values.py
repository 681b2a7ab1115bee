"""Metric values that carry their sums and counts, so that parts of a step can be merged exactly.

A mean of means is wrong as soon as the parts differ in size; these values merge sums and counts
instead, and an empty one is None (missing), never 0.0.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, Self


class Value(Protocol):
    """Anything that knows its number, or that it has none."""

    @property
    def value(self) -> float | int | None:
        """The number, or None when nothing was measured."""
        ...


@dataclass(frozen=True, slots=True)
class Mean:
    """A mean with its sum and weight. ``Mean.of([1, 2]) + Mean.of([6])`` is 3, not 3.75."""

    total: float = 0.0
    """Sum of the (weighted) values."""
    count: float = 0.0
    """Number of values, or sum of their weights."""

    @classmethod
    def of(cls, values: Iterable[float | None], weights: Sequence[float] | None = None) -> Self:
        """Mean of ``values``, where None is left out.

        Args:
            values: The values.
            weights: A weight for each of them (tokens, say); 1 each when not given.
        """
        listed = list(values)
        each = [1.0] * len(listed) if weights is None else weights
        pairs = [(v, w) for v, w in zip(listed, each, strict=True) if v is not None]
        return cls(sum((v * w for v, w in pairs), 0.0), sum((w for _, w in pairs), 0.0))

    def __add__(self, other: "Mean") -> "Mean":
        return Mean(self.total + other.total, self.count + other.count)

    @property
    def value(self) -> float | None:
        """Sum by weight; None when nothing was measured."""
        return self.total / self.count if self.count else None


@dataclass(frozen=True, slots=True)
class Max:
    """The largest of some values."""

    value: float | None = None
    """None when there was none."""

    @classmethod
    def of(cls, values: Iterable[float | None]) -> Self:
        """Largest of ``values``, where None is left out; not a number wins, so that it is seen."""
        present = [v for v in values if v is not None]
        nan = next((v for v in present if v != v), None)
        return cls(max(present, default=None) if nan is None else nan)

    def __add__(self, other: "Max") -> "Max":
        return Max.of((self.value, other.value))


@dataclass(frozen=True, slots=True)
class Fraction:
    """A share with its counts: ``Fraction(1, 4) + Fraction(3, 4)`` is 1/2 of 8."""

    hits: int = 0
    """How many have the property."""
    count: int = 0
    """How many were looked at."""

    def __post_init__(self) -> None:
        """Refuse a share outside 0..1: it can only be a counting mistake."""
        if not 0 <= self.hits <= self.count:
            raise ValueError(f"a fraction of {self.hits} out of {self.count} cannot be")

    @classmethod
    def of(cls, flags: Iterable[bool]) -> Self:
        """Share of true flags."""
        listed = list(flags)
        return cls(sum(listed), len(listed))

    def __add__(self, other: "Fraction") -> "Fraction":
        return Fraction(self.hits + other.hits, self.count + other.count)

    @property
    def value(self) -> float | None:
        """Hits by count; None when nothing was looked at."""
        return self.hits / self.count if self.count else None


@dataclass(frozen=True, slots=True)
class Count:
    """How often something happened. Zero is a measurement here, so it is never missing."""

    value: int = 0
    """The count."""

    def __add__(self, other: "Count") -> "Count":
        return Count(self.value + other.value)
