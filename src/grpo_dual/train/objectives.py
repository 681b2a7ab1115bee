"""What the loop knows of an objective, and the two that are shipped.

The loop sees the Protocol only; a third objective is a class like the two below, built with the
same arguments and its ``settings``, and named in the YAML as ``kind: plugin, factory:
module:Class``.
"""

import importlib
import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Protocol, runtime_checkable

from grpo_dual.config.judging import JudgeConfig
from grpo_dual.config.objectives import (
    FairnessConfig,
    HallucinationConfig,
    ObjectiveConfig,
    PluginConfig,
)
from grpo_dual.errors import ConfigError
from grpo_dual.evaluation.yardstick import fairness_yardstick, hallucination_yardstick
from grpo_dual.prompts import fairness, hallucination
from grpo_dual.records.bad_rows import BadRows
from grpo_dual.records.mixture import bbq_sampler, halueval_sampler
from grpo_dual.records.strata import take_bbq, take_halueval
from grpo_dual.rewards.compose import Scoring
from grpo_dual.rewards.custom import current_directory_importable
from grpo_dual.rewards.fairness import FairnessReward
from grpo_dual.rewards.hallucination import HallucinationReward
from grpo_dual.rewards.judging import Judging
from grpo_dual.train.sources import asked_items, bbq_splits, bbq_yardstick, halueval_splits
from grpo_dual.types import (
    BbqRecord,
    Condition,
    HaluEvalRecord,
    Message,
    Pair,
    Record,
    RolloutGroup,
    Score,
    Task,
)


@runtime_checkable
class Objective(Protocol):
    """One objective: its records, wording, reward and yardstick."""

    @property
    def name(self) -> str:
        """Its name in the configuration."""
        ...

    @property
    def config(self) -> ObjectiveConfig:
        """Its part of the configuration."""
        ...

    @property
    def notes(self) -> Sequence[str]:
        """What differs from what was asked of the data, to be shown to the user."""
        ...

    @property
    def eval_records(self) -> Sequence[Record]:
        """Held out for the yardstick, never trained on."""
        ...

    def draw(self, n: int) -> Sequence[Record]:
        """The next ``n`` records to train on."""
        ...

    def messages(self, record: Record) -> tuple[Message, ...]:
        """The chat that asks a record."""
        ...

    def target(self, record: Record) -> str:
        """The supervised reply."""
        ...

    def score(self, group: RolloutGroup) -> tuple[Score, ...]:
        """One score per rollout."""
        ...

    def best(self, record: Record) -> float:
        """The best attainable task part: a group that is all there is solved.

        Infinite where the task part pays no more for right than for wrong: it cannot tell then.
        """
        ...

    def answerable(self, record: Record) -> bool:
        """True when the context or knowledge holds the answer, so that evading it is a fault."""
        ...

    def evaluate(
        self, records: Sequence[Record], texts: Sequence[str]
    ) -> dict[str, float | int | str | None]:
        """The yardstick on completions of ``eval_records``."""
        ...

    def state_dict(self) -> dict[str, object]:
        """What moves (the sampler), JSON-able."""
        ...

    def load_state_dict(self, state: Mapping[str, object]) -> None:
        """Go on where ``state_dict`` was taken."""
        ...


@runtime_checkable
class Judged(Protocol):
    """An objective whose scoring can be begun and waited for later."""

    def begin(self, group: RolloutGroup) -> Scoring:
        """Start scoring; calling the result gives one score per rollout."""
        ...


def begin_scoring(objective: Objective, group: RolloutGroup) -> Scoring:
    """Start scoring a group; an objective that cannot is asked when its scores are needed."""
    if isinstance(objective, Judged):
        return objective.begin(group)
    return partial(objective.score, group)


def build_objective(
    name: str,
    config: ObjectiveConfig,
    *,
    max_new_tokens: int,
    seed: int,
    judges: JudgeConfig | None = None,
    judging: Judging | None = None,
) -> Objective:
    """Read an objective's data and build its parts; plug-ins have judges of their own.

    Raises:
        ConfigError: A plugin cannot be loaded, or the data path is wrong.
        DataError: A data file is wrong, or too few records are left.
    """
    if isinstance(config, FairnessConfig):
        return Fairness(
            name,
            config,
            max_new_tokens=max_new_tokens,
            seed=seed,
            judges=judges,
            judging=judging,
        )
    if isinstance(config, HallucinationConfig):
        return Hallucination(
            name,
            config,
            max_new_tokens=max_new_tokens,
            seed=seed,
            judges=judges,
            judging=judging,
        )
    assert isinstance(config, PluginConfig)
    return _plugin(name, config, max_new_tokens=max_new_tokens, seed=seed)


class Fairness:
    """BBQ: the unknown option when the context is ambiguous, the stated person when it is not."""

    def __init__(
        self,
        name: str,
        config: FairnessConfig,
        *,
        max_new_tokens: int,
        seed: int,
        judges: JudgeConfig | None = None,
        judging: Judging | None = None,
    ) -> None:
        self.name = name
        self.config = config
        bad = BadRows()
        train, held_out = bbq_splits(config.data, bad, seed)
        self.held_out = tuple(held_out)
        notes: list[str] = []
        if config.data.train_samples is not None:
            taken = take_bbq(
                train,
                config.data.train_samples,
                ambiguous_fraction=config.data.ambiguous_fraction,
                seed=seed,
            )
            train, notes = list(taken.records), list(taken.notes)
        self.eval_records = bbq_yardstick(held_out, config.data, seed)
        self._sampler = bbq_sampler(train, config.data, seed=seed)
        self._reward = FairnessReward(
            config, max_new_tokens=max_new_tokens, judges=judges, judging=judging
        )
        self.notes = _notes(name, bad, [*notes, *self._sampler.notes])

    @property
    def train_records(self) -> tuple[BbqRecord, ...]:
        """All that can be drawn, in the forms in which they are asked."""
        return self._sampler.records

    def draw(self, n: int) -> list[BbqRecord]:
        """See Objective."""
        return self._sampler.draw(n)

    def messages(self, record: Record) -> tuple[Message, ...]:
        """See Objective."""
        return fairness.messages(_bbq(record))

    def target(self, record: Record) -> str:
        """See Objective."""
        return fairness.target(_bbq(record))

    def pair(self, record: Record) -> Pair | None:
        """See ``grpo_dual.train.warmup.Paired``."""
        return fairness.pair(_bbq(record))

    def begin(self, group: RolloutGroup) -> Scoring:
        """See Judged."""
        return self._reward.begin(group)

    def score(self, group: RolloutGroup) -> tuple[Score, ...]:
        """See Objective."""
        return self._reward.score(group)

    def best(self, record: Record) -> float:
        """See Objective."""
        del record
        table = self.config.reward
        return _best(table.right, table.wrong)

    def answerable(self, record: Record) -> bool:
        """See Objective."""
        return _bbq(record).condition is Condition.DISAMBIGUATED

    def evaluate(
        self, records: Sequence[Record], texts: Sequence[str]
    ) -> dict[str, float | int | str | None]:
        """See Objective."""
        return fairness_yardstick([_bbq(r) for r in records], texts)

    def state_dict(self) -> dict[str, object]:
        """See Objective."""
        return self._sampler.state_dict()

    def load_state_dict(self, state: Mapping[str, object]) -> None:
        """See Objective."""
        self._sampler.load_state_dict(state)


class Hallucination:
    """HaluEval: answers that the knowledge supports, and detecting those that it does not."""

    def __init__(
        self,
        name: str,
        config: HallucinationConfig,
        *,
        max_new_tokens: int,
        seed: int,
        judges: JudgeConfig | None = None,
        judging: Judging | None = None,
    ) -> None:
        self.name = name
        self.config = config
        data = config.data
        bad = BadRows()
        train, held_out = halueval_splits(data, bad, seed)
        self.held_out = tuple(held_out)
        notes: list[str] = []
        if data.train_samples is not None:
            taken = take_halueval(train, data.train_samples, subsets=data.subsets, seed=seed)
            train, notes = list(taken.records), list(taken.notes)
        self.eval_records = tuple(asked_items(held_out, data))
        self._sampler = halueval_sampler(train, data, seed=seed)
        self._reward = HallucinationReward(
            config, max_new_tokens=max_new_tokens, judges=judges, judging=judging
        )
        self.notes = _notes(name, bad, [*notes, *self._sampler.notes])

    @property
    def train_records(self) -> tuple[HaluEvalRecord, ...]:
        """All that can be drawn, in the forms in which they are asked."""
        return self._sampler.records

    def draw(self, n: int) -> list[HaluEvalRecord]:
        """See Objective."""
        return self._sampler.draw(n)

    def messages(self, record: Record) -> tuple[Message, ...]:
        """See Objective."""
        return hallucination.messages(_halueval(record))

    def target(self, record: Record) -> str:
        """See Objective."""
        return hallucination.target(_halueval(record))

    def pair(self, record: Record) -> Pair | None:
        """See ``grpo_dual.train.warmup.Paired``."""
        return hallucination.pair(_halueval(record))

    def begin(self, group: RolloutGroup) -> Scoring:
        """See Judged."""
        return self._reward.begin(group)

    def score(self, group: RolloutGroup) -> tuple[Score, ...]:
        """See Objective."""
        return self._reward.score(group)

    def best(self, record: Record) -> float:
        """See Objective."""
        table = self.config.reward
        if record.task is Task.DETECT:
            return _best(table.detect_right, table.detect_wrong)
        return _best(table.grounded, table.hallucinated)

    def answerable(self, record: Record) -> bool:
        """See Objective."""
        return record.task is Task.ANSWER and bool(_halueval(record).context)

    def evaluate(
        self, records: Sequence[Record], texts: Sequence[str]
    ) -> dict[str, float | int | str | None]:
        """See Objective."""
        return hallucination_yardstick([_halueval(r) for r in records], texts)

    def state_dict(self) -> dict[str, object]:
        """See Objective."""
        return self._sampler.state_dict()

    def load_state_dict(self, state: Mapping[str, object]) -> None:
        """See Objective."""
        self._sampler.load_state_dict(state)


def _plugin(name: str, config: PluginConfig, *, max_new_tokens: int, seed: int) -> Objective:
    where = f"objectives.{name}.factory: {config.factory}"
    module_name, _, attribute = config.factory.partition(":")
    try:
        with current_directory_importable():
            factory = getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(
            f"{where} cannot be imported ({error}); write module:Class, with the module in the "
            "current directory or on the Python path"
        ) from error
    objective = factory(name, config, max_new_tokens=max_new_tokens, seed=seed, **config.settings)
    if not isinstance(objective, Objective):
        raise ConfigError(
            f"{where} lacks a method or attribute of grpo_dual.train.objectives.Objective"
        )
    return objective


def _best(right: float, wrong: float) -> float:
    return right if right > wrong else math.inf


def _notes(name: str, bad: BadRows, notes: Sequence[str]) -> tuple[str, ...]:
    told = [*([bad.summary()] if bad.count else []), *notes]
    return tuple(f"{name}: {note}" for note in told)


def _bbq(record: Record) -> BbqRecord:
    assert isinstance(record, BbqRecord)
    return record


def _halueval(record: Record) -> HaluEvalRecord:
    assert isinstance(record, HaluEvalRecord)
    return record
