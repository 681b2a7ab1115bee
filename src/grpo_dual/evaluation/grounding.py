"""Open answers: grounded, abstaining or hallucinated, by the offline judge; each counted apart.

The world's own rows are judged by their gold, real ones by the lexical judge that training rewards
too; ``judged_by`` of an outcome says which. An abstention is no hallucination and no grounded
answer, and an answer without a verdict is in no share.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from grpo_dual.evaluation.detection import cluster_of
from grpo_dual.evaluation.halueval import judge_of, outcome
from grpo_dual.evaluation.measures import Measure, compare, measure, share
from grpo_dual.evaluation.stats import DRAWS, Estimate
from grpo_dual.types import HaluEvalRecord


@dataclass(frozen=True, slots=True)
class Answered:
    """What became of one answer."""

    item_id: str
    cluster: str
    subset: str
    verdict: str | None
    """``grounded``, ``abstains`` or ``hallucinated``; None: it could not be judged offline."""
    judged_by: str | None
    """``gold`` or ``heuristic``; None without a verdict."""


@dataclass(frozen=True, slots=True)
class Grounding:
    """The scores of open answers; keys as in `MEASURES`."""

    numbers: dict[str, Estimate]
    outcomes: tuple[Answered, ...]


def score_answers(
    records: Sequence[HaluEvalRecord],
    texts: Sequence[str],
    *,
    draws: int = DRAWS,
    seed: int = 0,
) -> Grounding:
    """Judge one free answer per record.

    Args:
        records: ANSWER records.
        texts: The answers, in the same order.
        draws: Bootstrap draws over clusters.
        seed: Of the bootstrap.

    Returns:
        ``grounded``, ``abstains`` and ``hallucinated`` (of the judged; they sum to 1),
        ``hallucinated_answering`` (of those that do not abstain: a model cannot lower it by
        declining alone), ``no_verdict`` (of all).

    Raises:
        ValueError: There are not as many texts as records.
    """
    outcomes: list[Answered] = []
    for record, text in zip(records, texts, strict=True):
        verdict = outcome(record, text)
        outcomes.append(
            Answered(
                item_id=record.record_id,
                cluster=cluster_of(record),
                subset=record.subset,
                verdict=verdict,
                judged_by=None if verdict is None else judge_of(record),
            )
        )
    return Grounding(measure(MEASURES, outcomes, draws=draws, seed=seed), tuple(outcomes))


def compare_answers(
    first: Grounding, second: Grounding, *, draws: int = DRAWS, seed: int = 0
) -> dict[str, Estimate]:
    """Scores of ``second`` minus those of ``first`` on the same items.

    Raises:
        DataError: They are not of the same items.
    """
    return compare(MEASURES, first.outcomes, second.outcomes, draws=draws, seed=seed)


def _is(name: str) -> Measure[Answered]:
    return share(lambda o: None if o.verdict is None else o.verdict == name)


def _of_the_answering(answer: Answered) -> float | None:
    if answer.verdict in (None, "abstains"):
        return None
    return answer.verdict == "hallucinated"


MEASURES: Final[dict[str, Measure[Answered]]] = {
    "grounded": _is("grounded"),
    "abstains": _is("abstains"),
    "hallucinated": _is("hallucinated"),
    "hallucinated_answering": share(_of_the_answering),
    "no_verdict": share(lambda o: o.verdict is None),
}
"""Name -> score of answers, each with an interval and comparable between models."""
