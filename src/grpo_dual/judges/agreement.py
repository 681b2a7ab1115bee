"""Agreement of two labellings of the same items: two judges, or a judge and gold.

Of n items with a label on both sides, n_ij is the number that the first calls i and the second j,
r_i and c_j are the sums of a row and of a column, and d_ij >= 0 says how bad it is to confuse i
with j:

    observed disagreement   D_o = sum_ij d_ij n_ij / n
    expected by chance      D_e = sum_ij d_ij r_i c_j / n^2
    kappa                   1 - D_o / D_e

- unweighted (Cohen 1960, Educational and Psychological Measurement 20, 37-46): d_ij = 1 for i != j,
  which is (p_o - p_e) / (1 - p_e) with p the share of equal labels.
- linear (Cohen 1968, Psychological Bulletin 70, 213-220, with the weights of Cicchetti and Allison
  1971): d_ij = |i - j|, for labels in order. A common factor of all d cancels.

Where D_e = 0 (both sides use one and the same label only, or there is no item) kappa says nothing
and is None; 0 would say "no better than chance". A label that is None is a judgement that failed:
the item is left out of all of it, and counted.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from grpo_dual.judges.heuristic import Verdict

Pair: TypeAlias = tuple[str | None, str | None]
"""The label of each side for one item; None where that side did not score it."""

Weights: TypeAlias = Literal["none", "linear"]

VERDICTS: tuple[str, ...] = (Verdict.HALLUCINATED, Verdict.ABSTAINS, Verdict.GROUNDED)
"""The judges' scale in order: wrong < abstains < right."""

_DEFINED = 0.95
"""Share of bootstrap draws in which kappa must be defined to have an interval."""


@dataclass(frozen=True, slots=True)
class Coverage:
    """Which items both sides scored."""

    items: int
    scored: int
    """Items with a label on both sides; everything else here is computed on them."""
    unscored_first: int
    """Items without a label on the first side, whatever the second says."""
    unscored_second: int

    @property
    def share(self) -> float | None:
        """Scored items per item; None where there is no item."""
        return self.scored / self.items if self.items else None


def coverage(pairs: Iterable[Pair]) -> Coverage:
    """Count the items, and those that a side did not score."""
    known = Counter((first is not None, second is not None) for first, second in pairs)
    return Coverage(
        items=known.total(),
        scored=known[True, True],
        unscored_first=known[False, True] + known[False, False],
        unscored_second=known[True, False] + known[False, False],
    )


def confusion(pairs: Iterable[Pair], labels: Sequence[str]) -> dict[str, dict[str, int]]:
    """Count how often the first side says one label and the second another.

    Args:
        pairs: One pair of labels an item; an item with a None is left out.
        labels: All labels that may occur, in the order of the scale if it has one.

    Returns:
        Count by the first side's label, then by the second's; every label is there, also with 0.

    Raises:
        ValueError: A label is not among ``labels``, or one stands there twice.
    """
    if len(set(labels)) != len(labels):
        raise ValueError(f"a label stands twice among {list(labels)}")
    counts = {first: dict.fromkeys(labels, 0) for first in labels}
    for first, second in pairs:
        if first is None or second is None:
            continue
        for label in (first, second):
            if label not in counts:
                raise ValueError(f"label {label!r} is not among {list(labels)}")
        counts[first][second] += 1
    return counts


def observed_agreement(pairs: Iterable[Pair], labels: Sequence[str]) -> float | None:
    """Share of the items scored by both on which they say the same, p_o; None without an item."""
    counts = confusion(pairs, labels)
    total = sum(sum(row.values()) for row in counts.values())
    return sum(counts[label][label] for label in labels) / total if total else None


def cohens_kappa(
    pairs: Iterable[Pair], labels: Sequence[str], *, weights: Weights = "none"
) -> float | None:
    """Agreement beyond chance (Cohen 1960; ``linear``: Cohen 1968), see the head of this file.

    Args:
        pairs: One pair of labels an item; an item with a None is left out.
        labels: All labels that may occur. Only ``linear`` looks at their order, `VERDICTS` say.
        weights: Whether all confusions are equally bad, or as bad as they are far apart.

    Returns:
        1 for perfect agreement, 0 for what chance gives, at least -1; None where both sides use
        one and the same label only, or where no item is scored by both.
    """
    counts = _matrix(confusion(pairs, labels), labels)
    kappa = _kappas(counts[None], weights)[0]
    return None if np.isnan(kappa) else float(kappa)


def kappa_interval(
    pairs: Iterable[Pair],
    labels: Sequence[str],
    *,
    weights: Weights = "none",
    level: float = 0.95,
    draws: int = 1000,
    seed: int = 0,
) -> tuple[float, float] | None:
    """Percentile bootstrap interval of kappa over items (Efron and Tibshirani 1993, chapter 13).

    Items are drawn as if independent: where several belong together (completions of one prompt),
    the interval is too narrow. It is also the point (1, 1) for any perfect agreement.

    Args:
        pairs: As in `cohens_kappa`.
        labels: As in `cohens_kappa`.
        weights: As in `cohens_kappa`.
        level: Share of the draws between the bounds, in (0, 1).
        draws: Bootstrap draws.
        seed: Of the bootstrap.

    Returns:
        (low, high); None where kappa is None, or undefined in more than 5 % of the draws.

    Raises:
        ValueError: ``level`` is not between 0 and 1, or ``draws`` is not positive.
    """
    if not 0 < level < 1 or draws < 1:
        raise ValueError(f"level {level} must be in (0, 1) and draws {draws} at least 1")
    counts = _matrix(confusion(pairs, labels), labels)
    if np.isnan(_kappas(counts[None], weights)[0]):
        return None
    # Drawing n items with replacement is drawing how often each cell of the table occurs.
    total = int(counts.sum())
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(total, counts.ravel() / total, size=draws)
    kappas = _kappas(drawn.reshape(draws, *counts.shape), weights)
    known = kappas[~np.isnan(kappas)]
    if len(known) < _DEFINED * draws:
        return None
    tail = 100 * (1 - level) / 2
    low, high = np.percentile(known, [tail, 100 - tail])
    return float(low), float(high)


def _matrix(counts: dict[str, dict[str, int]], labels: Sequence[str]) -> NDArray[np.int64]:
    """The counts n_ij as [labels, labels]."""
    table = [[counts[first][second] for second in labels] for first in labels]
    return np.array(table, dtype=np.int64).reshape(len(labels), len(labels))


def _kappas(counts: NDArray[np.int64], weights: Weights) -> NDArray[np.float64]:
    """Kappa of each table of [tables, labels, labels]; NaN where undefined."""
    places: NDArray[np.int64] = np.arange(counts.shape[-1], dtype=np.int64)
    apart = np.abs(places[:, None] - places)
    bad = apart if weights == "linear" else np.sign(apart)
    # In whole numbers, so that D_e = 0 is exact: n D_o and n^2 D_e.
    observed = (bad * counts).sum(axis=(1, 2))
    expected = np.einsum("ij,ti,tj->t", bad, counts.sum(axis=2), counts.sum(axis=1))
    scaled = (observed * counts.sum(axis=(1, 2))).astype(np.float64)
    undefined = np.full(len(counts), np.nan)
    return 1 - np.divide(scaled, expected.astype(np.float64), out=undefined, where=expected > 0)
