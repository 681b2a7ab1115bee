"""95 % intervals of shares and of balanced accuracies."""

import math

Z = 1.96


def wilson(hits: int, total: int) -> tuple[float, float]:
    """Wilson's interval of a share; (0, 1) of nothing.

    Args:
        hits: How many of ``total``.
        total: Trials.

    Source: Wilson, JASA 22 (1927), 209-212.
    """
    if total == 0:
        return 0.0, 1.0
    share, spread = hits / total, Z * Z / total
    middle = (share + spread / 2) / (1 + spread)
    half = Z / (1 + spread) * math.sqrt(share * (1 - share) / total + spread / (4 * total))
    return max(0.0, middle - half), min(1.0, middle + half)


def balanced(hits: tuple[int, int], totals: tuple[int, int]) -> tuple[float, float, float]:
    """Mean of two classes' accuracies, with its interval.

    The variances are those of shares with two hits and two misses added (Agresti and Coull, 1998),
    so that a perfect score on few items is not certain.

    Args:
        hits: Right in each class.
        totals: Items of each class, above 0.

    Returns:
        (balanced accuracy, lower end, upper end); .5 is chance whatever the classes' sizes.
    """
    accuracy = sum(h / n for h, n in zip(hits, totals, strict=True)) / 2
    shares = [((h + 2) / (n + 4), n + 4) for h, n in zip(hits, totals, strict=True)]
    half = Z / 2 * math.sqrt(sum(p * (1 - p) / n for p, n in shares))
    return accuracy, max(0.0, accuracy - half), min(1.0, accuracy + half)
