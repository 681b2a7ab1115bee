"""What a few seeds tell: means and differences with 95 % intervals by Student's t.

With three seeds a bootstrap can only draw from three numbers and its intervals are much too narrow;
t intervals hold their level where the means over seeds are about normal. They are not cut to the
range of the quantity: an interval beyond [0, 1] says that there were too few seeds.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np

LEVEL = 0.95
"""Coverage of all intervals here."""

_NODES = 64
"""Of the quadrature: exact to 1e-12 for every df from 1 on."""


@dataclass(frozen=True, slots=True)
class SeedMean:
    """A mean over seeds."""

    mean: float
    n: int
    """Seeds."""
    interval: tuple[float, float] | None
    """None with one seed."""


@dataclass(frozen=True, slots=True)
class SeedDifference:
    """A difference of two means over seeds."""

    mean: float
    interval: tuple[float, float] | None
    """None where a side has one seed and no two seeds match."""
    method: Literal["paired", "welch"]
    n: tuple[int, int]
    """Seeds of both sides that were used."""


@cache
def t_quantile(df: float) -> float:
    """The t with P(|T| <= t) = `LEVEL` for Student's distribution.

    With t = sqrt(df) tan(a) the density is cos(a) ** (df - 1) up to a constant.

    Args:
        df: Degrees of freedom, at least 1; need not be whole.
    """
    if df < 1:
        raise ValueError(f"df is {df}, but must be at least 1")
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    norm = math.exp(math.lgamma((df + 1) / 2) - math.lgamma(df / 2)) * 2 / math.sqrt(math.pi)

    def covered(t: float) -> float:
        half = math.atan(t / math.sqrt(df)) / 2
        return norm * half * float(weights @ np.cos(half * (nodes + 1)) ** (df - 1))

    low, high = 1.9, 12.8  # df from infinity (1.96) to 1 (12.71)
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if covered(middle) < LEVEL else (low, middle)
    return (low + high) / 2


def seed_mean(values: Sequence[float]) -> SeedMean:
    """Mean of independent values with its t interval.

    Raises:
        ValueError: There is no value.
    """
    if not values:
        raise ValueError("a mean needs at least one value")
    n, mean = len(values), math.fsum(values) / len(values)
    if n == 1:
        return SeedMean(mean, 1, None)
    half = t_quantile(n - 1) * math.sqrt(_variance(values) / n)
    return SeedMean(mean, n, (mean - half, mean + half))


def seed_difference(a: Mapping[int, float], b: Mapping[int, float]) -> SeedDifference:
    """Mean of ``a`` minus mean of ``b``.

    Seeds that both have are paired where there are at least two of them, and the others left out:
    runs of one seed share data order and initial adapter. Otherwise the sides are independent
    samples with variances of their own (Welch 1947, df of Satterthwaite).

    Args:
        a: Seed -> value.
        b: The same of the other side.

    Raises:
        ValueError: A side is empty.
    """
    both = sorted(a.keys() & b.keys())
    if len(both) > 1:
        of = seed_mean([a[seed] - b[seed] for seed in both])
        return SeedDifference(of.mean, of.interval, "paired", (of.n, of.n))
    first, second = seed_mean([*a.values()]), seed_mean([*b.values()])
    mean, n = first.mean - second.mean, (first.n, second.n)
    if min(n) < 2:
        return SeedDifference(mean, None, "welch", n)
    parts = [_variance([*side.values()]) / len(side) for side in (a, b)]
    spread = math.fsum(parts)
    if spread == 0:
        return SeedDifference(mean, (mean, mean), "welch", n)
    df = spread**2 / math.fsum(p**2 / (k - 1) for p, k in zip(parts, n, strict=True))
    half = t_quantile(df) * math.sqrt(spread)
    return SeedDifference(mean, (mean - half, mean + half), "welch", n)


def _variance(values: Sequence[float]) -> float:
    """With ddof 1; exactly 0 for equal values."""
    if max(values) == min(values):
        return 0.0
    mean = math.fsum(values) / len(values)
    return math.fsum((v - mean) ** 2 for v in values) / (len(values) - 1)
