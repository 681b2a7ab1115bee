"""The scored half of a step: batches that are had one by one, as their verdicts arrive."""

from collections.abc import Iterator, Mapping, Sequence

from grpo_dual.rewards.compose import Scoring
from grpo_dual.train.batch import ObjectiveBatch, PackedGroups, score_groups
from grpo_dual.train.clock import Clock
from grpo_dual.train.wiring import Parts


class ScoredBatches:
    """The step's batches in the order in which they should be waited for.

    Iterating scores each objective when it is asked for: those without a judge first, so that their
    gradients are computed while the others' verdicts are still on their way. A second iteration
    (num_iterations > 1) gives the same batches.
    """

    def __init__(
        self,
        parts: Parts,
        packed: Sequence[PackedGroups],
        scorings: Mapping[str, Sequence[Scoring]],
        clock: Clock,
    ) -> None:
        """``scorings``: one for each group, by objective; ``clock`` gets the waiting time."""
        self._parts = parts
        self._packed = sorted(packed, key=lambda p: p.name in parts.judged)
        self._scorings = scorings
        self._clock = clock
        self.batches: list[ObjectiveBatch] = []
        """Those that are scored."""

    def __iter__(self) -> Iterator[ObjectiveBatch]:
        """Score what is not scored yet."""
        yield from self.batches
        for packed in self._packed[len(self.batches) :]:
            with self._clock("reward"):
                batch = self._score(packed)
            self.batches.append(batch)
            yield batch

    def _score(self, packed: PackedGroups) -> ObjectiveBatch:
        objective, advantage = self._parts.objectives[packed.name], self._parts.config.advantage
        return score_groups(
            packed,
            [scoring() for scoring in self._scorings[packed.name]],
            [objective.best(group.prompt.record) for group in packed.groups],
            normalization=advantage.normalization,
            eps=advantage.eps,
        )
