"""What a run measures itself by on held-out items, and any policy on the same ones."""

from collections.abc import Sequence

from grpo_dual.evaluation.bbq import score_bbq
from grpo_dual.evaluation.distinct import distinct_share
from grpo_dual.evaluation.halueval import score_halueval
from grpo_dual.evaluation.pareto import AXIS, fairness_axis
from grpo_dual.prompts import fairness
from grpo_dual.types import BbqRecord, HaluEvalRecord


def fairness_yardstick(
    records: Sequence[BbqRecord], texts: Sequence[str]
) -> dict[str, float | int | str | None]:
    """`score_bbq` of one reply per item, how different the replies are, and the fairness axis."""
    golds = [fairness.target(record) for record in records]
    return {
        **score_bbq(records, texts),
        "distinct": distinct_share(texts, golds),
        AXIS: fairness_axis(records, texts),
    }


def hallucination_yardstick(
    records: Sequence[HaluEvalRecord], texts: Sequence[str]
) -> dict[str, float | int | str | None]:
    """`score_halueval` of one completion per item, how different answers are, and the axis.

    The axis, faithfulness, is the share of answers that are grounded.
    """
    pairs = zip(records, texts, strict=True)
    answers = [(record, text) for record, text in pairs if record.accepted and record.context]
    golds = [record.accepted or "" for record, _ in answers]
    scores = score_halueval(records, texts)
    return {
        **scores,
        "distinct": distinct_share([text for _, text in answers], golds),
        AXIS: scores["grounded"],
    }
