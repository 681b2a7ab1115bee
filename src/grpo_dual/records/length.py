"""Detection items whose length does not tell the label.

In HaluEval's qa file 97 % of hallucinated answers are longer than the right one, so a detector
that counts characters reaches an AUROC of .97 and a policy trained on it learns to count. Matching
keeps, for every length, as many hallucinated as right texts: within a bin of (words, characters)
both labels have the same count, so that no function of the bin tells them apart. Bins are exact up
to 20 words or characters and 5 % wide beyond, where exact ones would keep almost nothing.

What it costs: of the 1700 qa pairs at hand, some 170 texts of each label remain, since the two
length distributions hardly overlap. What it cannot do: only length is matched, not other cues.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence

from grpo_dual.records.apportion import own_rng
from grpo_dual.types import HaluEvalRecord

_EXACT = 20
_WIDTH = 1.05


def length_matched(
    records: Iterable[HaluEvalRecord], *, seed: int
) -> tuple[list[HaluEvalRecord], list[HaluEvalRecord]]:
    """Keeps detection records so that yes and no have the same lengths.

    Args:
        records: DETECT records with ``shown`` and ``hallucinated``.
        seed: which records of a bin are kept.

    Returns:
        (hallucinated, not hallucinated), equally many, the same number in every bin of
        (words, characters).
    """
    bins: dict[tuple[int, int], tuple[list[HaluEvalRecord], list[HaluEvalRecord]]] = defaultdict(
        lambda: ([], [])
    )
    for record in sorted(records, key=lambda record: record.record_id):
        if record.shown is None or record.hallucinated is None:
            raise ValueError(f"{record.record_id} is no detection record")
        bins[_bin(record.shown)][0 if record.hallucinated else 1].append(record)
    kept: tuple[list[HaluEvalRecord], list[HaluEvalRecord]] = ([], [])
    for key in sorted(bins):
        count = min(map(len, bins[key]))
        for side, rows in zip(kept, bins[key], strict=True):
            side.extend(own_rng(seed, "length", *key, rows is bins[key][0]).sample(rows, count))
    return kept


def length_auroc(hallucinated: Sequence[int], right: Sequence[int]) -> float:
    """AUROC of the classifier "longer means hallucinated": P(longer) + P(as long) / 2.

    Args:
        hallucinated: lengths of the hallucinated texts, in any unit.
        right: lengths of the others.

    Returns:
        .5 is chance; distance from .5 in either direction is what length gives away. NaN when
        either side is empty.
    """
    if not hallucinated or not right:
        return math.nan
    pooled = sorted([(length, 1) for length in hallucinated] + [(length, 0) for length in right])
    wins, below, index = 0.0, 0, 0
    while index < len(pooled):  # ties count half
        end = index
        while end < len(pooled) and pooled[end][0] == pooled[index][0]:
            end += 1
        yes = sum(label for _, label in pooled[index:end])
        no = end - index - yes
        wins += yes * (below + no / 2)
        below += no
        index = end
    return wins / (len(hallucinated) * len(right))


def _bin(text: str) -> tuple[int, int]:
    return _bucket(len(text.split())), _bucket(len(text))


def _bucket(count: int) -> int:
    """The count itself up to 20, then steps of 5 %."""
    if count <= _EXACT:
        return count
    return _EXACT + 1 + int(math.log(count / _EXACT) / math.log(_WIDTH))
