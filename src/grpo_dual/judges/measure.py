"""How many tokens a judge takes for a character, and how long: kept, or measured by asking."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from grpo_dual.config.judging import CloudProviderConfig, JudgeConfig, JudgeOutageConfig
from grpo_dual.errors import JudgeError
from grpo_dual.judges import rubric
from grpo_dual.judges.build import cache_path, identity
from grpo_dual.judges.cache import VerdictCache
from grpo_dual.judges.client import Cause, Failure, Opinion, Question
from grpo_dual.judges.counting import Ask, chars
from grpo_dual.judges.estimate import Ratio
from grpo_dual.judges.ledger import Spent
from grpo_dual.judges.service import JudgeService


@dataclass(frozen=True, slots=True)
class Sample:
    """What a few real requests to one judge showed."""

    spent: Spent
    ratio: Ratio | None
    """None when no request was answered."""
    answer_seconds: float | None
    """Of one answer."""


def only(config: JudgeConfig, judge: str) -> JudgeConfig:
    """The same settings for one of the judges."""
    changes = {"providers": {judge: config.providers[judge]}, "route": "primary-then-fallback"}
    return config.model_copy(update=changes)


def unassisted(config: JudgeConfig) -> JudgeConfig:
    """The same judges for questions that stand alone; the offline judge never steps in for them."""
    rule = config.outage
    action = "unscored" if rule.action == "heuristic" else rule.action
    outage = JudgeOutageConfig(
        action=action,
        min_scored=1.0,
        probe_seconds=rule.probe_seconds,
        patience_seconds=rule.patience_seconds,
    )
    return config.model_copy(update={"outage": outage})


def nobody(question: Question) -> Failure:
    """Stands for the offline judge where it must not step in: the budget is spent."""
    del question
    return Failure("", Cause.BUDGET, 0, "")


def kept_ratio(config: JudgeConfig, judge: str) -> Ratio | None:
    """From the verdicts of earlier runs; None where there are none.

    Raises:
        JudgeError: The cache cannot be read.
    """
    path = cache_path(config.cache)
    if not config.cache.enabled or not path.exists():
        return None
    with VerdictCache(path, max_entries=config.cache.max_entries) as cache:
        found = cache.tokens_per_char(judge, config.rubric)
    return None if found is None else Ratio(*found)


def kept(config: JudgeConfig, judge: str, asks: Sequence[Ask]) -> frozenset[bytes]:
    """Digests of the asks whose verdicts earlier runs have paid for.

    Raises:
        JudgeError: The cache cannot be read.
    """
    path, provider = cache_path(config.cache), config.providers[judge]
    if not (config.cache.enabled and path.exists() and isinstance(provider, CloudProviderConfig)):
        return frozenset()
    own = identity(provider)
    with VerdictCache(path, max_entries=config.cache.max_entries) as cache:
        return frozenset(
            ask.digest
            for ask in asks
            if cache.holds(
                rubric.cache_key(own, rubric.render(ask.question, config.rubric), config.rubric)
            )
        )


def sample(config: JudgeConfig, judge: str, questions: Sequence[Question], count: int) -> Sample:
    """Send real requests; they are paid, and their verdicts are kept like all others.

    Args:
        config: Of the run.
        judge: One behind an API.
        questions: To choose from: ``count`` of them, evenly.
        count: Requests, failed ones apart.

    Raises:
        JudgeError: A key or SDK is missing, or a file cannot be used.
    """
    step = max(1, len(questions) // max(1, count))
    chosen = list(questions[::step][:count])
    with JudgeService(unassisted(only(config, judge))).start() as judges:
        began = time.monotonic()
        pending = [judges.submit([question], nobody) for question in chosen]
        answers = [p.result().answers[0] for p in pending]
        took = time.monotonic() - began
        spent = judges.take_spent()[judge]
        hits = judges.take_tally().cache_hits[judge]
    asked = [q for q, a in zip(chosen, answers, strict=True) if isinstance(a, Opinion)]
    failed = [a for a in answers if isinstance(a, Failure)]
    if chosen and not asked:
        raise JudgeError(
            f"judge.providers.{judge}: none of the {len(chosen)} questions of --ask brought a "
            f"verdict: {failed[0]}"
        )
    provider = config.providers[judge]
    assert isinstance(provider, CloudProviderConfig), "only these are paid"
    ratio = kept_ratio(config, judge)
    if ratio is None and asked and spent.usage.input:
        # Without a cache; a request that failed is counted by its tokens alone.
        fed = sum(chars(rubric.render(q, config.rubric)) for q in asked)
        ratio = Ratio(spent.usage.input / fed, spent.usage.output / len(asked), len(asked))
    fresh = len(asked) - hits
    at_once = min(provider.concurrency, max(1, fresh))
    return Sample(spent, ratio, took * at_once / fresh if fresh > 0 else None)
