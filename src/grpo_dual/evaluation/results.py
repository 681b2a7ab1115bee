"""What a policy made of its items -> the numbers of a result file; docs/evaluation.md has the keys.

Unparsed answers are wrong in ``wrong``, the headline, and left out in ``exclude``, as in the paper.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from statistics import fmean
from typing import TypeVar

from grpo_dual.evaluation import detection, grounding, preference, retention
from grpo_dual.evaluation.asking import READINGS, BbqReply
from grpo_dual.evaluation.bbq_bias import Policy, score_predictions
from grpo_dual.evaluation.draws import OVER_CATEGORIES, Spread, bbq_difference, bbq_means
from grpo_dual.evaluation.measures import Measure, Outcome, compare, measure
from grpo_dual.evaluation.pareto import AXIS
from grpo_dual.evaluation.protocols import Bootstrap
from grpo_dual.evaluation.run import Evaluated
from grpo_dual.evaluation.stats import Estimate
from grpo_dual.records.predictions import Prediction, by_name

POLICIES: tuple[Policy, ...] = ("wrong", "exclude")
HEADLINE = "generation"
"""The reading and, with ``wrong``, the policy of the fairness axis."""

O = TypeVar("O", bound=Outcome)  # noqa: E741
Json = dict[str, object]


def result(found: Evaluated, boot: Bootstrap) -> Json:
    """All numbers of one policy, JSON-able.

    Args:
        found: What it made of its items.
        boot: Of the intervals.
    """
    made: Json = {"left_out": dict(found.left_out)}
    axes: dict[str, float | None] = {"fairness": None, "faithfulness": None}
    intervals: dict[str, tuple[float, float] | None] = dict.fromkeys(axes)
    if found.bbq:
        readings = {name: _reading(found.bbq, name, boot) for name in READINGS}
        made["bbq"] = {"n": len(found.bbq), "readings": readings}
        means = bbq_means(
            _predictions(found.bbq, HEADLINE), "wrong", draws=boot.draws, seed=boot.seed
        )
        axes["fairness"], intervals["fairness"] = means[AXIS].value, means[AXIS].interval
    if found.opened is not None:
        grounded = found.opened.numbers["grounded"]
        axes["faithfulness"], intervals["faithfulness"] = grounded.value, _ends(grounded)
    halueval = _halueval(found, boot)
    if halueval:
        made["halueval"] = halueval
    if found.retained is not None:
        kept = found.retained
        made["retention"] = {
            "texts": _numbers(kept.texts.numbers),
            "questions": _numbers(kept.refusals.numbers),
        }
    return {
        "axes": axes,
        "axes_intervals_95": intervals,
        **made,
        "yardstick": {name: dict(scores) for name, scores in found.yardstick.items()},
    }


def _halueval(found: Evaluated, boot: Bootstrap) -> Json:
    made: Json = {}
    if found.opened is not None:
        own = found.opened
        judges = sorted({o.judged_by for o in own.outcomes if o.judged_by is not None})
        made["open"] = {
            "judged_by": "+".join(judges) or None,
            **_numbers(own.numbers),
            "by_subset": _by(lambda o: o.subset, grounding.MEASURES, own.outcomes, boot),
        }
    if found.recognised is not None:
        made["detection"] = {
            name: {
                **_numbers(own.numbers),
                "by_subset": _by(lambda o: o.subset, detection.MEASURES, own.outcomes, boot),
            }
            for name, own in found.recognised.readings.items()
        }
    if found.compared is not None:
        own = found.compared.found
        made["pairs"] = {
            **_numbers(own.numbers),
            "by_subset": _by(lambda o: o.subset, preference.MEASURES, own.outcomes, boot),
        }
    return made


def difference(first: Evaluated, other: Evaluated, boot: Bootstrap) -> Json:
    """The other's numbers minus the first's on the items of both, with paired intervals.

    Args:
        first: What is compared with.
        other: What is compared.
        boot: Of the intervals; the same clusters are drawn for both.
    """
    made: Json = {}
    if first.bbq and other.bbq:
        made["bbq"] = {name: _bbq_gap(first, other, name, boot) for name in READINGS}
    halueval: Json = {}
    if first.opened is not None and other.opened is not None:
        sides = first.opened.outcomes, other.opened.outcomes
        halueval["open"] = _gap(grounding.MEASURES, *sides, boot)
    if first.recognised is not None and other.recognised is not None:
        halueval["detection"] = {
            name: _gap(
                detection.MEASURES,
                own.outcomes,
                other.recognised.readings[name].outcomes,
                boot,
            )
            for name, own in first.recognised.readings.items()
        }
    if first.compared is not None and other.compared is not None:
        sides = first.compared.found.outcomes, other.compared.found.outcomes
        halueval["pairs"] = _gap(preference.MEASURES, *sides, boot)
    if halueval:
        made["halueval"] = halueval
    if first.retained is not None and other.retained is not None:
        one, two = first.retained, other.retained
        made["retention"] = {
            "texts": _gap(retention.TEXT_MEASURES, one.texts.outcomes, two.texts.outcomes, boot),
            "questions": _gap(
                retention.ANSWER_MEASURES, one.refusals.outcomes, two.refusals.outcomes, boot
            ),
        }
    return made


def _predictions(replies: Sequence[BbqReply], reading: str) -> list[Prediction]:
    return [Prediction(reply.record, reply.choices[reading]) for reply in replies]


def _reading(replies: Sequence[BbqReply], reading: str, boot: Bootstrap) -> Json:
    predictions = _predictions(replies, reading)
    made: Json = {}
    for policy in POLICIES:
        categories: Json = {}
        unparsed: list[float] = []
        for name, own in by_name(predictions).items():
            scores, spread = score_predictions(own, policy, draws=boot.draws, seed=boot.seed)
            categories[name] = {**scores, "intervals_95": spread}
            unparsed.append(float(scores["unparsed"] or 0.0))
        means = bbq_means(predictions, policy, draws=boot.draws, seed=boot.seed)
        made[policy] = {
            "categories": categories,
            "macro": {
                **{key: means[key].value for key in OVER_CATEGORIES},
                "unparsed": fmean(unparsed),
            },
            "macro_intervals_95": {key: means[key].interval for key in OVER_CATEGORIES},
        }
    return made


def _bbq_gap(first: Evaluated, other: Evaluated, reading: str, boot: Bootstrap) -> Json:
    gap = bbq_difference(
        _predictions(first.bbq, reading),
        _predictions(other.bbq, reading),
        "wrong",
        draws=boot.draws,
        seed=boot.seed,
    )
    return {
        "n": gap.items,
        "categories": {name: _spreads(own) for name, own in gap.categories.items()},
        "macro": _spreads(gap.over_categories),
    }


def _spreads(spreads: Mapping[str, Spread]) -> Json:
    return {
        key: {"value": spread.value, "interval_95": spread.interval}
        for key, spread in spreads.items()
    }


def _numbers(numbers: Mapping[str, Estimate]) -> Json:
    """Every score, its interval, and over how many items it is."""
    return {
        **{key: found.value for key, found in numbers.items()},
        "intervals_95": {key: _ends(found) for key, found in numbers.items()},
        "n": {key: found.items for key, found in numbers.items()},
        "n_clusters": max((found.clusters for found in numbers.values()), default=0),
    }


def _by(
    kind: Callable[[O], str],
    measures: Mapping[str, Measure[O]],
    outcomes: Sequence[O],
    boot: Bootstrap,
) -> Json:
    groups: dict[str, list[O]] = defaultdict(list)
    for outcome in outcomes:
        groups[kind(outcome)].append(outcome)
    return {
        name: _numbers(measure(measures, own, draws=boot.draws, seed=boot.seed))
        for name, own in sorted(groups.items())
    }


def _gap(
    measures: Mapping[str, Measure[O]],
    first: Sequence[O],
    other: Sequence[O],
    boot: Bootstrap,
) -> Json:
    """Differences on the items of both; another tokenizer may have left others out."""
    shared = {o.item_id for o in first} & {o.item_id for o in other}
    sides = [[o for o in side if o.item_id in shared] for side in (first, other)]
    found = compare(measures, *sides, draws=boot.draws, seed=boot.seed)
    return {
        key: {"value": gap.value, "interval_95": _ends(gap), "n": gap.items}
        for key, gap in found.items()
    }


def _ends(found: Estimate) -> tuple[float, float] | None:
    return None if found.low is None or found.high is None else (found.low, found.high)


def rows(found: Evaluated) -> Iterator[Json]:
    """One object per item and protocol: what was asked, written, read and found likely."""
    yield from map(_bbq_row, found.bbq)
    verdicts = {} if found.opened is None else {o.item_id: o for o in found.opened.outcomes}
    for reply in found.asked:
        record, judged = reply.prompt.record, verdicts.get(reply.prompt.record.record_id)
        yield {
            "task": "open" if judged is not None else "yardstick",
            "record_id": record.record_id,
            "subset": record.subset,
            "completion": reply.rollout.text,
            "finished": reply.rollout.finished,
            "verdict": None if judged is None else judged.verdict,
            "judged_by": None if judged is None else judged.judged_by,
        }
    if found.recognised is not None:
        said = {name: own.outcomes for name, own in found.recognised.readings.items()}
        for number, outcome in enumerate(said[HEADLINE]):
            yield {
                "task": "detection",
                "record_id": outcome.item_id,
                "subset": outcome.subset,
                "hallucinated": outcome.hallucinated,
                "completion": found.recognised.completions[outcome.item_id],
                "said": {name: own[number].said for name, own in said.items()},
                "right": outcome.right,
            }
    if found.compared is not None:
        for pair in found.compared.found.outcomes:
            yield {
                "task": "pairs",
                "record_id": pair.item_id,
                "subset": pair.subset,
                "logprobs": [pair.accepted.logprob, pair.rejected.logprob],
                "tokens": [pair.accepted.tokens, pair.rejected.tokens],
                "longer_by": pair.longer_by,
            }
    if found.retained is not None:
        for answer in found.retained.refusals.outcomes:
            yield {
                "task": "retention",
                "record_id": f"general/{answer.item_id}",
                "kind": answer.kind,
                "completion": found.retained.completions[answer.item_id],
                "refused": answer.refused,
                "right": answer.right,
            }
        for text in found.retained.texts.outcomes:
            yield {
                "task": "retention",
                "record_id": f"general/{text.item_id}",
                "nats": text.nats,
                "tokens": text.tokens,
                "bytes": text.size,
            }


def _bbq_row(reply: BbqReply) -> Json:
    record = reply.record
    return {
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
