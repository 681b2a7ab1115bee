"""The learning half of a step: packed groups, reference, scores and updates.

Memory that runs out in it costs one repetition in passes of half the size, and nothing else.
"""

from collections.abc import Callable, Mapping, Sequence

import torch

from grpo_dual.config.schema import SamplingConfig
from grpo_dual.errors import OutOfMemoryError
from grpo_dual.rewards.compose import Scoring
from grpo_dual.train.batch import PackedGroups, PassLimit, pack_groups
from grpo_dual.train.clock import Clock
from grpo_dual.train.scoring import ScoredBatches
from grpo_dual.train.update import Update
from grpo_dual.train.wiring import Parts
from grpo_dual.types import RolloutGroup


class Learner:
    """Updates a policy on a step's groups."""

    def __init__(self, parts: Parts, tell: Callable[[str], None]) -> None:
        """``tell`` hears when memory ran out."""
        self._parts = parts
        self._tell = tell
        self._halved = False
        self._limit = limit_of(parts)

    def learn(
        self,
        groups: Mapping[str, Sequence[RolloutGroup]],
        scorings: Mapping[str, Sequence[Scoring]],
        clock: Clock,
        *,
        first: bool,
    ) -> tuple[ScoredBatches, list[Update]]:
        """All updates on the groups of a step.

        Args:
            groups: Of each objective.
            scorings: One for each group; may be called twice.
            clock: Gets the time of reference and scores.
            first: The first step: sampler and trainer are compared before anything is updated.

        Raises:
            NumericsError: They disagree.
            OutOfMemoryError: The passes do not fit the device, though they were halved.
        """
        before = self._parts.updater.updates
        try:
            return self._learn(groups, scorings, clock, first=first)
        except torch.OutOfMemoryError as error:
            self._halve(error, begun=self._parts.updater.updates > before)
        # Outside the handler, whose traceback would keep the tensors of the pass that failed.
        self._forget()
        return self.learn(groups, scorings, clock, first=first)

    def _learn(
        self,
        groups: Mapping[str, Sequence[RolloutGroup]],
        scorings: Mapping[str, Sequence[Scoring]],
        clock: Clock,
        *,
        first: bool,
    ) -> tuple[ScoredBatches, list[Update]]:
        updater, times = self._parts.updater, self._parts.config.train.num_iterations
        packed = [pack(self._parts, name, own, self._limit) for name, own in groups.items()]
        with clock("reference"):
            updater.add_reference(packed)
        if first:
            updater.check_sampler(packed)
        if times > 1:
            updater.add_old(packed)
        scored = ScoredBatches(self._parts, packed, scorings, clock)
        return scored, [updater.update(scored, fresh=i == 0) for i in range(times)]

    def _halve(self, error: torch.OutOfMemoryError, *, begun: bool) -> None:
        """Halve the passes, once in a run and only while the step has updated nothing."""
        advice = (
            "Lower train.microbatch_prompts (or train.microbatch_tokens), rollout.group_size or "
            "rollout.max_prompt_tokens, or "
            "set model.gradient_checkpointing: true"
        )
        reason = str(error).split(". ")[0]
        half = self._limit.halved
        if self._halved or begun or half is None:
            raise OutOfMemoryError(
                f"the device's memory does not hold a pass of {self._limit} and their completions "
                f"({reason}). {advice}."
            ) from error
        self._halved = True
        self._limit = half
        self._tell(
            f"out of memory ({reason}): this step is computed again, and the next ones are, in "
            f"passes of {half}"
        )

    def _forget(self) -> None:
        for _, parameter in self._parts.policy.trainable_parameters():
            parameter.grad = None
        if self._parts.policy.device.type == "cuda":
            torch.cuda.empty_cache()


def limit_of(parts: Parts) -> PassLimit:
    """The configuration's."""
    config = parts.config.train
    return PassLimit(config.microbatch_prompts, config.microbatch_tokens)


def pack(
    parts: Parts,
    name: str,
    groups: Sequence[RolloutGroup],
    limit: PassLimit,
    sampling: SamplingConfig | None = None,
) -> PackedGroups:
    """One objective's groups as micro-batches; ``sampling`` is the run's unless given."""
    config = parts.config
    layout = "flat" if parts.policy.flat else "packed"
    return pack_groups(
        name,
        groups,
        sampling=sampling or config.rollout.sampling,
        eos_ids=parts.encoder.eos_ids,
        pad_id=parts.encoder.pad_id,
        limit=limit,
        layout=layout if config.train.packed else "plain",
        device=parts.policy.device,
    )
