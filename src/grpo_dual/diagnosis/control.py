"""Control charts: when is a change more than noise?

Sources: EWMA chart (Roberts 1959; Lucas and Saccucci 1990), moving-range sigma (Shewhart), p-chart.
Steps of a run are autocorrelated, so one breach is a warning at most and three in a row are needed
to act.
"""

import math
from collections.abc import Callable, Sequence
from itertools import islice, pairwise

from grpo_dual.diagnosis.history import Series

WEIGHT = 0.2
"""lambda of the EWMA."""
WIDTH = 3.0
"""L: limits stand L sigma of the EWMA from the centre."""
RANGE = 1.128
"""d2: mean moving range of two normal values over their sigma."""
PERSISTENCE = 3
"""Rows in a row before a finding may ask for action."""
_ROUNDING = 1e-6
"""Relative change that is what printing a number leaves."""


def moving_sigma(values: Sequence[float]) -> float | None:
    """``mean |x_t - x_(t-1)| / 1.128``: sigma of single steps, hardly moved by a drift.

    Returns:
        None with fewer than two values.
    """
    if len(values) < 2:
        return None
    moves = [abs(b - a) for a, b in pairwise(values)]
    return math.fsum(moves) / len(moves) / RANGE


def ewma_limit(sigma: float, *, weight: float = WEIGHT, width: float = WIDTH) -> float:
    """``L sigma sqrt(lambda / (2 - lambda))``: how far a settled EWMA strays by chance.

    For lambda .2 and L 3 that is exactly 1 sigma.
    """
    return width * sigma * math.sqrt(weight / (2 - weight))


def p_chart_limit(share: float, n: float, *, width: float = 3.0) -> float:
    """``L sqrt(p (1 - p) / n)``: how far an observed share strays by chance.

    Args:
        share: Centre p.
        n: Independent units: prompts, not tokens or completions of one prompt.
        width: L.
    """
    return width * math.sqrt(share * (1 - share) / n) if n > 0 else math.inf


def drifted(series: Series, centre: float, sigma: float) -> list[bool]:
    """For each row: is the EWMA of ``series`` beyond its limit around ``centre``?"""
    limit = ewma_limit(sigma)
    return [z is not None and abs(z - centre) > limit for z in series.smoothed(WEIGHT).values]


def trend(series: Series, *, rows: int = PERSISTENCE + 2, width: float = WIDTH) -> int | None:
    """Did the mean of the last ``rows`` measured values leave that of the first by more than noise?

    Noise is ``width sigma sqrt(2 / rows)``, sigma of single steps from their moving range.

    Returns:
        1 it rose, -1 it fell, 0 it did neither; None with fewer than six finite values.
    """
    known = [v for v in series.known if math.isfinite(v)]
    n = min(rows, len(known) // 2)
    sigma = moving_sigma(known)
    if n < PERSISTENCE or sigma is None:
        return None
    moved = (math.fsum(known[-n:]) - math.fsum(known[:n])) / n
    if abs(moved) <= max(width * sigma * math.sqrt(2 / n), _ROUNDING * abs(known[0])):
        return 0
    return 1 if moved > 0 else -1


def in_a_row(series: Series, breaks: Callable[[float], bool], *, rows: int = PERSISTENCE) -> bool:
    """Do the last ``rows`` measured values all break the rule? False with fewer of them."""
    last = list(islice((v for v in reversed(series.values) if v is not None), rows))
    return len(last) == rows and all(map(breaks, last))


def full_batch_reliability(half_cosine: float) -> float:
    """``rel = 2 c / (1 + c)``, c = max(0, cos of two half batches' gradients): Spearman-Brown.

    Args:
        half_cosine: Cosine between the gradients of the two halves of one objective's prompts.

    Returns:
        Reliability of the full batch's gradient in [0, 1]: 0 is noise, 1 is all signal.
    """
    c = max(0.0, half_cosine)
    return 2 * c / (1 + c)


def corrected_cosine(cosine: float, reliability_a: float, reliability_b: float) -> float | None:
    """``cos / sqrt(rel_a rel_b)``: takes out noise's pull of a cosine towards 0 (Spearman 1904).

    Args:
        cosine: Measured cosine between two objectives' full-batch gradients.
        reliability_a: Full-batch reliability of the first gradient.
        reliability_b: Of the second.

    Returns:
        The corrected cosine, which may exceed 1 in size; None where either gradient is all noise.
    """
    product = reliability_a * reliability_b
    return cosine / product**0.5 if product > 0 else None
