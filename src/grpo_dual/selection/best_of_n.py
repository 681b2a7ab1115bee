"""What the best of n completions is worth, from N >= n of them, without bias.

    E[max of n] = sum_{i=n..N} C(i-1, n-1) / C(N, n) R_(i),   R_(1) <= ... <= R_(N)

The mean over all subsets of n of the N samples: R_(i) is the largest of C(i-1, n-1) of them. With
outcomes 0 and 1 it is pass@k (Chen et al. 2021, arXiv 2107.03374); sorted by a proxy and summed
over gold it is the gold of the completion that the proxy picks (Nakano et al. 2021, arXiv
2112.09332). ``1 - (1 - c/N)^n`` instead is biased low. A best-of-n score is an inference-time
result: it is not comparable with scores of one completion.
"""

import math
from collections.abc import Sequence
from itertools import groupby


def rank_weights(total: int, n: int) -> list[float]:
    """[N] weight of each rank, the lowest value first; they sum to 1.

    Args:
        total: N, samples drawn.
        n: of how many the best is taken.

    Raises:
        ValueError: n is not from 1 to N.
    """
    if not 1 <= n <= total:
        raise ValueError(f"the best of {n} cannot be estimated from {total} samples")
    whole = math.comb(total, n)  # exact, and true division of whole numbers is rounded once
    return [math.comb(rank - 1, n - 1) / whole for rank in range(1, total + 1)]


def expected_max(values: Sequence[float], n: int) -> float:
    """Expected largest of n samples.

    Args:
        values: [N] of one prompt, in any order.
        n: from 1 to N; 1 gives the mean.

    Raises:
        ValueError: n is out of range.
    """
    return math.fsum(map(math.prod, zip(rank_weights(len(values), n), sorted(values), strict=True)))


def expected_pick(proxy: Sequence[float], gold: Sequence[float], n: int) -> float:
    """Expected gold of the one of n samples that the proxy likes most, equals drawn by lot.

    Args:
        proxy: [N] what is selected by.
        gold: [N] what the selected one is worth.
        n: from 1 to N; 1 gives the mean of gold.

    Raises:
        ValueError: n is out of range, or the two differ in length.
    """
    if len(proxy) != len(gold):
        raise ValueError(f"{len(proxy)} proxy and {len(gold)} gold scores")
    ordered = sorted(zip(proxy, gold, strict=True), key=lambda pair: pair[0])
    averaged: list[float] = []
    for _, ties in groupby(ordered, key=lambda pair: pair[0]):
        golds = [value for _, value in ties]
        averaged += [math.fsum(golds) / len(golds)] * len(golds)
    return math.fsum(map(math.prod, zip(rank_weights(len(gold), n), averaged, strict=True)))


def pass_at_k(total: int, right: int, k: int) -> float:
    """Chance that at least one of k samples is right: 1 - C(N - c, k) / C(N, k).

    Args:
        total: N, samples drawn.
        right: c, right ones among them.
        k: from 1 to N.

    Raises:
        ValueError: k or c is out of range.
    """
    if not 1 <= k <= total or not 0 <= right <= total:
        raise ValueError(f"pass@{k} cannot be had from {right} of {total} right samples")
    return 1 - math.comb(total - right, k) / math.comb(total, k)


def kl_bound(n: int) -> float:
    """Upper bound of KL(best of n || policy), nats: log n - (n - 1) / n.

    Loose where completions repeat, as with a choice of three options (Beirami et al. 2024, arXiv
    2401.01879).

    Args:
        n: at least 1.
    """
    if n < 1:
        raise ValueError(f"the best of {n} is nothing")
    return math.log(n) - (n - 1) / n


def powers(n: int) -> list[int]:
    """1, 2, 4, ... up to n, and n itself: where a curve is drawn."""
    return sorted({*(2**i for i in range(n.bit_length()) if 2**i <= n), n})
