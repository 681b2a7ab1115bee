"""HaluEval's two task forms: answers by gold where there is one, detection beside its baselines.

Rows of the synthetic world are judged by its own gold, real ones by the offline lexical judge,
which is also what training rewards: ``judged_by`` says which, and a result by the heuristic is not
independent of it.
"""

from collections.abc import Iterable, Sequence

from grpo_dual.errors import DataError
from grpo_dual.evaluation.world import judge_by_gold
from grpo_dual.judges import heuristic
from grpo_dual.prompts import hallucination
from grpo_dual.prompts.parse import YesNo
from grpo_dual.types import HaluEvalRecord, Task

_OUTCOMES = ("grounded", "abstains", "hallucinated")


def _share(hits: Iterable[bool]) -> float | None:
    """Share of True, None of nothing."""
    listed = list(hits)
    return sum(listed) / len(listed) if listed else None


def _is_synthetic(record: HaluEvalRecord) -> bool:
    return record.record_id.startswith("synthetic-")


def judge_of(record: HaluEvalRecord) -> str:
    """Who judges answers to a record: ``gold`` in the synthetic world, else ``heuristic``."""
    return "gold" if _is_synthetic(record) else "heuristic"


def outcome(record: HaluEvalRecord, text: str) -> str | None:
    """The verdict on an answer, None where it cannot be judged offline."""
    if not record.context.strip() or not record.accepted:
        return None
    if _is_synthetic(record):
        return judge_by_gold(record, text)
    verdict = heuristic.judge(record, text).verdict
    return None if verdict is None else verdict.value


def _answers(pairs: Sequence[tuple[HaluEvalRecord, str]]) -> dict[str, float | int | str | None]:
    judged = [(record, outcome(record, text)) for record, text in pairs]
    known = [(record, found) for record, found in judged if found is not None]
    sources = sorted({judge_of(r) for r, _ in known})
    shares = {name: _share(o == name for _, o in known) for name in _OUTCOMES}
    return {
        **shares,
        "judged_by": "+".join(sources) or None,
        "n_answer": len(known),
        "n_unjudged": len(judged) - len(known),
    }


def _length(record: HaluEvalRecord) -> int:
    return len((record.shown or "").split())


def length_baseline(records: Sequence[HaluEvalRecord]) -> float | None:
    """Accuracy of telling hallucinations by length alone, its threshold chosen in hindsight.

    Args:
        records: DETECT items.

    Returns:
        The best share over all thresholds in words and both directions on these very items: an
        upper bound of what length can do, not an estimate of it. None of nothing.
    """
    if not records:
        return None
    by_length: dict[int, list[bool]] = {}
    for record in records:
        by_length.setdefault(_length(record), []).append(bool(record.hallucinated))
    # Right when everything is called hallucinated; then lengths change sides, the shortest first.
    right = sum(bool(record.hallucinated) for record in records)
    best = max(right, len(records) - right)
    for length in sorted(by_length):
        side = by_length[length]
        right += len(side) - 2 * sum(side)
        best = max(best, right, len(records) - right)
    return best / len(records)


def _detections(pairs: Sequence[tuple[HaluEvalRecord, str]]) -> dict[str, float | int | str | None]:
    for record, _ in pairs:
        if record.hallucinated is None:
            raise DataError(
                f"{record.origin}: {record.record_id} has no gold verdict to score detection by"
            )
    replies = [(record, hallucination.parse(text, record)) for record, text in pairs]
    return {
        "detect_accuracy": _share(
            isinstance(reply, YesNo) and reply.yes == record.hallucinated
            for record, reply in replies
        ),
        "detect_unparsed": _share(not isinstance(reply, YesNo) for _, reply in replies),
        "detect_always_no": _share(not record.hallucinated for record, _ in pairs),
        "detect_length_only": length_baseline([record for record, _ in pairs]),
        "n_detect": len(pairs),
    }


def score_halueval(
    records: Sequence[HaluEvalRecord], texts: Sequence[str]
) -> dict[str, float | int | str | None]:
    """Score one completion per HaluEval item.

    Args:
        records: ANSWER and DETECT items, in any mixture.
        texts: The completions, in the same order.

    Returns:
        Shares in [0, 1] and counts; None where there are no items. Answers with knowledge:
        ``grounded``, ``abstains``, ``hallucinated`` (they sum to 1), ``judged_by`` (gold,
        heuristic, or both as ``gold+heuristic``), ``n_answer``; ``n_unjudged`` counts answers
        without knowledge or accepted text, which are in no share. Detection: ``detect_accuracy``
        (unparsed is wrong), ``detect_unparsed``, ``detect_always_no`` (accuracy of always saying
        no), ``detect_length_only`` (see `length_baseline`: an upper bound), ``n_detect``.

    Raises:
        ValueError: There are not as many texts as records.
        DataError: A detection item has no gold verdict.
    """
    pairs = list(zip(records, texts, strict=True))
    return {
        **_answers([pair for pair in pairs if pair[0].task is Task.ANSWER]),
        **_detections([pair for pair in pairs if pair[0].task is Task.DETECT]),
    }
