"""What a policy made of its items -> the numbers of a result file; docs/evaluation.md has the keys.

Unparsed answers are wrong in ``wrong``, the headline, and left out in ``exclude``, as in the paper.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from grpo_dual.evaluation.asking import READINGS, BbqReply
from grpo_dual.evaluation.bbq_bias import Policy, score_predictions
from grpo_dual.evaluation.draws import OVER_CATEGORIES, Spread, bbq_difference, bbq_means
from grpo_dual.evaluation.halueval import score_halueval
from grpo_dual.evaluation.pareto import AXIS
from grpo_dual.evaluation.run import Evaluated, HaluEvalReply
from grpo_dual.evaluation.stats import Estimate, interval, paired_difference
from grpo_dual.records.predictions import Prediction, by_name
from grpo_dual.types import Task

POLICIES: tuple[Policy, ...] = ("wrong", "exclude")
OUTCOMES = ("grounded", "abstains", "hallucinated")
"""Shares of judged answers, which sum to 1."""
DETECT = "detect_accuracy"
HEADLINE = "generation"
"""The reading and, with ``wrong``, the policy of the fairness axis."""


def result(found: Evaluated, *, draws: int, seed: int) -> dict[str, object]:
    """All numbers of one policy, JSON-able.

    Args:
        found: What it made of its items.
        draws: Bootstrap draws; 0 leaves intervals out.
        seed: Of the bootstrap.
    """
    made: dict[str, object] = {"left_out": dict(found.left_out)}
    axes: dict[str, float | None] = {"fairness": None, "faithfulness": None}
    intervals: dict[str, tuple[float, float] | None] = dict.fromkeys(axes)
    if found.bbq:
        readings = {name: _reading(found.bbq, name, draws, seed) for name in READINGS}
        made["bbq"] = {"n": len(found.bbq), "readings": readings}
        axis = bbq_means(_predictions(found.bbq, HEADLINE), "wrong", draws=draws, seed=seed)[AXIS]
        axes["fairness"], intervals["fairness"] = axis.value, axis.interval
    if found.halueval:
        made["halueval"] = {"open": _open(found.halueval, draws, seed)}
        grounded = _shares(found.halueval, draws, seed)["grounded"]
        axes["faithfulness"], intervals["faithfulness"] = grounded.value, _ends(grounded)
    return {
        "axes": axes,
        "axes_intervals_95": intervals,
        **made,
        "yardstick": {name: dict(scores) for name, scores in found.yardstick.items()},
    }


def difference(
    first: Evaluated, other: Evaluated, *, draws: int, seed: int
) -> dict[str, dict[str, object]]:
    """The other's numbers minus the first's on the items of both, with paired intervals.

    Args:
        first: What is compared with.
        other: What is compared.
        draws: Bootstrap draws of templates, the same for both.
        seed: Of the bootstrap.
    """
    made: dict[str, dict[str, object]] = {}
    if first.bbq and other.bbq:
        made["bbq"] = {}
        for reading in READINGS:
            gap = bbq_difference(
                _predictions(first.bbq, reading),
                _predictions(other.bbq, reading),
                "wrong",
                draws=draws,
                seed=seed,
            )
            made["bbq"][reading] = {
                "n": gap.items,
                "categories": {name: _gaps(own) for name, own in gap.categories.items()},
                "macro": _gaps(gap.over_categories),
            }
    if first.halueval and other.halueval:
        made["halueval"] = {"open": _open_difference(first.halueval, other.halueval, draws, seed)}
    return made


def _predictions(replies: Sequence[BbqReply], reading: str) -> list[Prediction]:
    return [Prediction(reply.record, reply.choices[reading]) for reply in replies]


def _reading(
    replies: Sequence[BbqReply], reading: str, draws: int, seed: int
) -> dict[Policy, dict[str, object]]:
    predictions = _predictions(replies, reading)
    made: dict[Policy, dict[str, object]] = {}
    for policy in POLICIES:
        categories: dict[str, object] = {}
        for name, rows in by_name(predictions).items():
            scores, spread = score_predictions(rows, policy, draws=draws, seed=seed)
            categories[name] = {**scores, "intervals_95": spread}
        means = bbq_means(predictions, policy, draws=draws, seed=seed)
        made[policy] = {
            "categories": categories,
            "macro": {key: means[key].value for key in OVER_CATEGORIES},
            "macro_intervals_95": {key: means[key].interval for key in OVER_CATEGORIES},
        }
    return made


def _open(replies: Sequence[HaluEvalReply], draws: int, seed: int) -> dict[str, object]:
    by_subset: dict[str, list[HaluEvalReply]] = defaultdict(list)
    for reply in replies:
        by_subset[reply.record.subset].append(reply)
    return {
        **_open_scores(replies, draws, seed),
        "by_subset": {
            name: _open_scores(own, draws, seed) for name, own in sorted(by_subset.items())
        },
    }


def _open_scores(replies: Sequence[HaluEvalReply], draws: int, seed: int) -> dict[str, object]:
    scores = score_halueval([r.record for r in replies], [r.completion for r in replies])
    spread = {key: _ends(found) for key, found in _shares(replies, draws, seed).items()}
    return {**scores, "intervals_95": spread}


def _shares(replies: Sequence[HaluEvalReply], draws: int, seed: int) -> dict[str, Estimate]:
    """Each share with its interval, from draws of contexts with their question."""
    return {
        key: interval([v for _, v in own], [c for c, _ in own], draws, seed)
        for key, own in ((k, list(_outcomes(replies, k).values())) for k in (*OUTCOMES, DETECT))
    }


def _open_difference(
    first: Sequence[HaluEvalReply], other: Sequence[HaluEvalReply], draws: int, seed: int
) -> dict[str, object]:
    made: dict[str, object] = {}
    for key in (*OUTCOMES, DETECT):
        one, two = _outcomes(first, key), _outcomes(other, key)
        shared = [name for name in one if name in two]
        gap = paired_difference(
            [one[name][1] for name in shared],
            [two[name][1] for name in shared],
            [one[name][0] for name in shared],
            draws,
            seed,
        )
        made[key] = {"value": gap.value, "interval_95": _ends(gap), "n": gap.items}
    return made


def _outcomes(
    replies: Sequence[HaluEvalReply], key: str
) -> dict[str, tuple[tuple[str, str], float | None]]:
    """Item -> its cluster and whether ``key`` holds; of the items that it is asked of."""
    task = Task.DETECT if key == DETECT else Task.ANSWER
    return {
        reply.record.record_id: (
            (reply.record.context, reply.record.query),
            _holds(reply, key),
        )
        for reply in replies
        if reply.record.task is task
    }


def _holds(reply: HaluEvalReply, key: str) -> float | None:
    if key == DETECT:
        return float(bool(reply.right))
    return None if reply.verdict is None else float(reply.verdict == key)


def _ends(found: Estimate) -> tuple[float, float] | None:
    return None if found.low is None or found.high is None else (found.low, found.high)


def _gaps(spreads: Mapping[str, Spread]) -> dict[str, object]:
    return {
        key: {"value": spread.value, "interval_95": spread.interval}
        for key, spread in spreads.items()
    }


def rows(found: Evaluated) -> Iterator[dict[str, object]]:
    """One object per item: what was asked, written, read and found likely."""
    for reply in found.bbq:
        record = reply.record
        yield {
            "task": "bbq",
            "record_id": record.record_id,
            "category": record.subset,
            "example_id": record.example_id,
            "question_index": record.question_index,
            "context_condition": record.condition.value,
            "question_polarity": record.polarity.value,
            "names": record.names,
            "options": list(record.options),
            "label": record.label,
            "unknown": record.unknown,
            "biased": record.biased,
            "completion": reply.completion,
            "finished": reply.finished,
            **{f"choice_{name}": choice for name, choice in reply.choices.items()},
            "right": reply.choices[HEADLINE] == record.label,
            "text_logprobs": [score.logprob for score in reply.texts],
            "text_tokens": [score.tokens for score in reply.texts],
            "letter_logprobs": [score.logprob for score in reply.letters],
            "letter_tokens": [score.tokens for score in reply.letters],
        }
    for answer in found.halueval:
        item = answer.record
        yield {
            "task": "halueval",
            "protocol": "open",
            "record_id": item.record_id,
            "subset": item.subset,
            "form": item.task.value,
            "completion": answer.completion,
            "finished": answer.finished,
            "verdict": answer.verdict,
            "hallucinated": item.hallucinated,
            "right": answer.right,
        }
