"""Judges that cost nothing and write down what they are asked: the rehearsal of a run.

They stand where the configured ones would, behind the same router, and their verdicts are the
offline judge's, so that a policy trained by them moves as one trained by a real judge would.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from grpo_dual.config.judging import (
    HeuristicProviderConfig,
    JudgeBudgetConfig,
    JudgeCacheConfig,
    JudgeConfig,
    JudgeOutageConfig,
)
from grpo_dual.judges import rubric
from grpo_dual.judges.cache import VerdictCache
from grpo_dual.judges.client import Chat, Failure, Judge, Opinion, Question
from grpo_dual.judges.estimate import Asked, Bound
from grpo_dual.judges.ledger import Ledger
from grpo_dual.judges.local import offline
from grpo_dual.judges.secrets import Secret
from grpo_dual.judges.service import JudgeService


@dataclass(frozen=True, slots=True)
class Ask:
    """A question that a judge would have been asked."""

    step: int
    judge: str
    question: Question
    digest: bytes
    """Of the whole request: equal requests are paid for once."""
    chars: int
    """Of the whole request."""


class CountingJudge:
    """See Judge."""

    def __init__(self, name: str, version: int, threshold: float, asks: list[Ask]) -> None:
        """Count into ``asks``.

        Args:
            name: Of the judge that it stands for.
            version: Of the rubric.
            threshold: The offline judge's, for the verdicts.
            asks: Grows by one for each question.
        """
        self.name = name
        self.step = 0
        self._version = version
        self._threshold = threshold
        self._asks = asks

    def key(self, question: Question) -> str:
        """See Judge."""
        return f"{self.name} {_digest(rubric.render(question, self._version)).hex()}"

    async def judge(self, question: Question) -> Opinion | Failure:
        """See Judge."""
        chat = rubric.render(question, self._version)
        self._asks.append(Ask(self.step, self.name, question, _digest(chat), chars(chat)))
        return offline(question, self._threshold)

    async def close(self) -> None:
        """See Judge."""


class CountingService(JudgeService):
    """A ``JudgeService`` for a run that is tried: it needs no key, and nothing is sent."""

    def __init__(self, config: JudgeConfig, threshold: float) -> None:
        """Put counting judges in the place of the configured ones.

        Args:
            config: With at least one provider.
            threshold: The offline judge's, for the verdicts.
        """
        super().__init__(without_cost(config), build=self._counting)
        self._threshold = threshold
        self._asks: list[Ask] = []
        self._counters: list[CountingJudge] = []

    def _counting(
        self,
        config: JudgeConfig,
        _secrets: Mapping[str, Secret],
        _ledger: Ledger,
        _cache: VerdictCache | None,
    ) -> dict[str, Judge]:
        self._counters = [
            CountingJudge(name, config.rubric, self._threshold, self._asks)
            for name in config.providers
        ]
        return {judge.name: judge for judge in self._counters}

    def begin_step(self, step: int) -> None:
        """See JudgeService."""
        for judge in self._counters:
            judge.step = step

    def take(self) -> list[Ask]:
        """What was asked since the last call; call it when no group is pending."""
        taken = list(self._asks)
        self._asks.clear()
        return taken


def without_cost(config: JudgeConfig) -> JudgeConfig:
    """The same judges by name and share on the same route, and nothing that can cost or fail."""
    providers = {
        name: HeuristicProviderConfig(concurrency=provider.concurrency, share=provider.share)
        for name, provider in config.providers.items()
    }
    changes = {
        "providers": providers,
        "budget": JudgeBudgetConfig(),
        "outage": JudgeOutageConfig(),
        "cache": JudgeCacheConfig(enabled=False),
    }
    return config.model_copy(update=changes)


def distinct(asks: Sequence[Ask], *, across_steps: bool) -> list[Ask]:
    """The asks that have to be paid for.

    Args:
        asks: In order.
        across_steps: Equal ones of other steps are found in the cache; else only those of one step
            share a request.
    """
    first: dict[object, Ask] = {}
    for ask in asks:
        first.setdefault((ask.judge, ask.digest, 0 if across_steps else ask.step), ask)
    return list(first.values())


def asked(asks: Sequence[Ask], steps: int) -> list[Asked]:
    """What one judge is asked in each step: its own asks, in the order of the steps."""
    own = {step: list(found) for step, found in groupby(asks, lambda ask: ask.step)}
    return [
        Asked(
            len({ask.question.record.record_id for ask in own.get(step, ())}),
            len(own.get(step, ())),
            sum(ask.chars for ask in own.get(step, ())),
        )
        for step in range(1, steps + 1)
    ]


def bounds(asks: Sequence[Ask], steps: int, group_size: int) -> list[Bound]:
    """What one judge can be asked in each step, from one ask for each of its groups."""
    return [
        Bound(a.questions, group_size * a.questions, group_size * a.chars)
        for a in asked(asks, steps)
    ]


def chars(chat: Chat) -> int:
    """Characters of a request."""
    return len(chat.system) + sum(len(turn.content) for turn in chat.turns)


def _digest(chat: Chat) -> bytes:
    texts = (chat.system, *(turn.content for turn in chat.turns))
    return hashlib.sha256("\0".join(texts).encode("utf-8", "surrogatepass")).digest()
