"""HaluEval pairs by likelihood: is the accepted side the likelier reply to its prompt?

Sums of log-probs favour short texts and means per token long, fluent ones, and in HaluEval the
accepted side is mostly the shorter one (in qa a span against a sentence). So each accuracy stands
beside "the shorter wins", and three times: over all pairs, over those whose sides differ by at most
three words, and balanced over length, where the shorter side wins exactly half of the time.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from grpo_dual.errors import DataError
from grpo_dual.evaluation.detection import cluster_of
from grpo_dual.evaluation.measures import Measure, compare, measure, share
from grpo_dual.evaluation.stats import DRAWS, Estimate, Floats, ratio
from grpo_dual.prompts import hallucination
from grpo_dual.types import Choices, ContinuationScore, HaluEvalRecord, Pair

MATCHED: Final = 3
"""Largest difference in words of the two sides of a length-matched pair."""

By: TypeAlias = Literal["sum", "mean"]


@dataclass(frozen=True, slots=True)
class Preferred:
    """What a model makes of one pair."""

    item_id: str
    cluster: str
    subset: str
    accepted: ContinuationScore
    rejected: ContinuationScore
    longer_by: int
    """Words of the rejected side minus those of the accepted one."""

    def wins(self, by: By) -> float:
        """1 if the accepted side is likelier, 1/2 if both are as likely, else 0."""
        if by == "sum":
            return _wins(self.accepted.logprob, self.rejected.logprob)
        return _wins(self.accepted.mean, self.rejected.mean)

    @property
    def shorter_wins(self) -> float:
        """The null: 1 if the accepted side has fewer words, 1/2 if as many, else 0."""
        return _wins(self.longer_by, 0)

    @property
    def matched(self) -> bool:
        """The sides differ by at most `MATCHED` words."""
        return abs(self.longer_by) <= MATCHED


@dataclass(frozen=True, slots=True)
class Preference:
    """The scores of pairs; keys as in `MEASURES`."""

    numbers: dict[str, Estimate]
    outcomes: tuple[Preferred, ...]


def pairs_of(records: Iterable[HaluEvalRecord]) -> list[HaluEvalRecord]:
    """The records that hold two different sides, in order; the others have nothing to prefer."""
    return [record for record in records if hallucination.pair(record) is not None]


def pair_choices(
    record: HaluEvalRecord,
    prompt_ids: tuple[int, ...],
    encode: Callable[[str], tuple[int, ...]],
) -> Choices:
    """Both sides of a pair, accepted first, behind the prompt that asks for the answer.

    Args:
        record: See `pairs_of`.
        prompt_ids: Of ``prompts.hallucination.messages``, generation prompt included.
        encode: A reply to its ids with the end of the turn (``ChatEncoder.encode_completion``).

    Raises:
        DataError: The record has no two sides.
    """
    pair = _pair(record)
    return Choices(prompt_ids, (encode(pair.accepted), encode(pair.rejected)))


def score_preference(
    records: Sequence[HaluEvalRecord],
    scores: Sequence[tuple[ContinuationScore, ContinuationScore]],
    *,
    draws: int = DRAWS,
    seed: int = 0,
) -> Preference:
    """Score how likely both sides of every pair are.

    Args:
        records: ANSWER records with both sides, see `pairs_of`.
        scores: For each, those of its accepted and its rejected side as replies to the same prompt,
            the end of the turn included (so that a sum is the probability of the whole reply).
        draws: Bootstrap draws over clusters.
        seed: Of the bootstrap.

    Returns:
        ``sum`` and ``mean``: share of pairs whose accepted side is likelier, in sum or by the
        token, a tie counting half; the same ``_matched`` (sides differ by at most three words) and
        ``_balanced`` (mean of the shares where the accepted side is the shorter and where it is the
        longer one: 1/2 for any rule that looks at length alone); ``ties_sum``, ``ties_mean``;
        ``matched``: share of matched pairs; ``null_shorter`` and ``null_shorter_matched``.

    Raises:
        ValueError: There are not as many scores as records.
        DataError: A record has no two sides.
    """
    outcomes = tuple(_outcome(record, *own) for record, own in zip(records, scores, strict=True))
    return Preference(measure(MEASURES, outcomes, draws=draws, seed=seed), outcomes)


def compare_preference(
    first: Preference, second: Preference, *, draws: int = DRAWS, seed: int = 0
) -> dict[str, Estimate]:
    """Scores of ``second`` minus those of ``first`` on the same pairs.

    Raises:
        DataError: They are not of the same pairs.
    """
    return compare(MEASURES, first.outcomes, second.outcomes, draws=draws, seed=seed)


def _outcome(
    record: HaluEvalRecord, accepted: ContinuationScore, rejected: ContinuationScore
) -> Preferred:
    pair = _pair(record)
    return Preferred(
        item_id=record.record_id,
        cluster=cluster_of(record),
        subset=record.subset,
        accepted=accepted,
        rejected=rejected,
        longer_by=len(pair.rejected.split()) - len(pair.accepted.split()),
    )


def _pair(record: HaluEvalRecord) -> Pair:
    pair = hallucination.pair(record)
    if pair is None:
        raise DataError(
            f"{record.origin}: {record.record_id} has no two sides to prefer one of; choose the "
            "records by pairs_of"
        )
    return pair


def _wins(one: float, other: float) -> float:
    return 0.5 if one == other else float(one > other)


def _balanced(by: By) -> Measure[Preferred]:
    """Mean of the shares where the accepted side is shorter and where it is longer."""

    def terms(outcome: Preferred) -> tuple[float, ...]:
        if outcome.longer_by == 0:
            return (0.0, 0.0, 0.0, 0.0)
        won = outcome.wins(by)
        return (won, 1.0, 0.0, 0.0) if outcome.longer_by > 0 else (0.0, 0.0, won, 1.0)

    def statistic(sums: Floats) -> Floats:
        return (ratio(sums[..., 0], sums[..., 1]) + ratio(sums[..., 2], sums[..., 3])) / 2

    return Measure(terms, statistic)


MEASURES: Final[dict[str, Measure[Preferred]]] = {
    "sum": share(lambda o: o.wins("sum")),
    "mean": share(lambda o: o.wins("mean")),
    "sum_matched": share(lambda o: o.wins("sum") if o.matched else None),
    "mean_matched": share(lambda o: o.wins("mean") if o.matched else None),
    "sum_balanced": _balanced("sum"),
    "mean_balanced": _balanced("mean"),
    "ties_sum": share(lambda o: o.wins("sum") == 0.5),
    "ties_mean": share(lambda o: o.wins("mean") == 0.5),
    "matched": share(lambda o: o.matched),
    "null_shorter": share(lambda o: o.shorter_wins),
    "null_shorter_matched": share(lambda o: o.shorter_wins if o.matched else None),
}
"""Name -> score of pairs, each with an interval and comparable between models."""
