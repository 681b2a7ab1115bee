"""Exact shares of whole things: how many of each kind, when the total must come out right."""

import random
from collections.abc import Hashable, Iterable, Mapping
from fractions import Fraction
from typing import TypeVar

K = TypeVar("K", bound=Hashable)


def own_rng(seed: int, *names: object) -> random.Random:
    """A generator of its own for each purpose: no other draw, nor the global state, moves it.

    Python seeds from text by SHA-512, so the stream is the same in every process.
    """
    return random.Random("/".join(map(str, (seed, *names))))


def shares_of(weights: Mapping[K, float]) -> dict[K, Fraction]:
    """Weights as exact fractions that sum to 1; weights of 0 stay 0.

    Weights are read as the decimals that a user wrote: .1 is one tenth, so that .1 of 10 is 1.

    Raises:
        ValueError: a weight is negative or not finite, or all are 0.
    """
    exact = {key: Fraction(str(float(weight))) for key, weight in weights.items()}
    total = sum(exact.values(), Fraction(0))
    if any(weight < 0 for weight in exact.values()) or total <= 0:
        raise ValueError(f"weights must be >= 0 and not all 0: {dict(weights)}")
    return {key: weight / total for key, weight in exact.items()}


def largest_remainder(
    total: int,
    shares: Mapping[K, Fraction],
    room: Mapping[K, int] | None = None,
    credit: dict[K, Fraction] | None = None,
) -> dict[K, int]:
    """Divides ``total`` into whole numbers nearest to the shares (Hamilton's method).

    Args:
        total: how many to hand out.
        shares: exact shares, summing to 1; a share of 0 receives nothing.
        room: at most this many for each key. What a full key leaves goes to the others by share;
            when all are full the result sums to less than ``total``.
        credit: rounding error carried between calls, changed in place: over several calls each
            key's sum stays nearest to its share of the whole.

    Returns:
        The count of each key. Ties go to the key that comes first in ``shares``.
    """
    counts = dict.fromkeys(shares, 0)
    left, open_keys = total, [key for key in shares if shares[key] > 0]
    due: dict[K, Fraction] = {}
    while open_keys:
        weight = _total(shares[key] for key in open_keys)
        due = {key: left * shares[key] / weight for key in open_keys}
        full = [key for key in open_keys if room is not None and due[key] >= room[key]]
        if room is None or not full:
            break
        for key in full:  # takes what it has room for; the rest is divided anew
            counts[key] = room[key]
            left -= room[key]
            open_keys.remove(key)
    behind = {key: due[key] + (credit or {}).get(key, Fraction(0)) for key in open_keys}
    for _ in range(left):
        able = [key for key in open_keys if room is None or counts[key] < room[key]]
        if not able:
            break
        key = max(able, key=lambda name: behind[name])
        counts[key] += 1
        behind[key] -= 1
    if credit is not None:
        credit.update(behind)
    return counts


def next_by_quota(counts: Mapping[K, int], shares: Mapping[K, Fraction]) -> K:
    """Who is next, so that after every draw each key has its share to within less than one.

    The quota method (Balinski and Young, 1975): among the keys still below their share of the new
    total, the one with the largest share / (count + 1). It keeps floor(s n) <= count <= ceil(s n)
    for every key after every draw n, which the largest remainder of each step alone does not.
    Ties go to the key that comes first in ``shares``.
    """
    total = sum(counts.values()) + 1
    below = (key for key in shares if counts[key] < shares[key] * total)
    return max(below, key=lambda key: shares[key] / (counts[key] + 1))


def water_fill(shares: Mapping[K, Fraction], caps: Mapping[K, Fraction]) -> dict[K, Fraction]:
    """Cuts shares to their caps and gives what is left to the others, in proportion.

    Returns:
        Shares that sum to 1. When the caps sum to less than 1 nothing can take the rest: the
        result is then proportional to the caps.
    """
    result: dict[K, Fraction] = {key: Fraction(0) for key in shares}
    open_keys = [key for key in shares if shares[key] > 0]
    left = Fraction(1)
    while open_keys:
        weight = _total(shares[key] for key in open_keys)
        over = [key for key in open_keys if left * shares[key] / weight > caps[key]]
        for key in over or open_keys:
            result[key] = caps[key] if over else left * shares[key] / weight
        left -= _total(result[key] for key in over or open_keys)
        open_keys = [key for key in open_keys if key not in over] if over else []
    total = _total(result.values())
    return {key: share / total for key, share in result.items()}


def _total(values: Iterable[Fraction]) -> Fraction:
    return sum(values, Fraction(0))
