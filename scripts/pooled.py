"""Both objectives as one, as trainers pool them that know no others: the rivals' way, to compare.

One sampler that alternates, one advantage batch (with ``advantage.normalization: batch`` one std
for both), one KL coefficient, one denominator. Named in a configuration as
``kind: plugin, factory: pooled:Pooled``, with this folder on the Python path.
"""

from collections.abc import Mapping, Sequence

from grpo_dual.config.objectives import (
    BbqData,
    FairnessConfig,
    HallucinationConfig,
    HaluEvalData,
    PluginConfig,
)
from grpo_dual.train.objectives import Fairness, Hallucination
from grpo_dual.types import BbqRecord, Message, Record, RolloutGroup, Score


class Pooled:
    """An objective that hands every record to the one that it came from."""

    def __init__(
        self,
        name: str,
        config: PluginConfig,
        *,
        max_new_tokens: int,
        seed: int,
        bbq: str,
        halueval: str,
        split_by: str = "templates",
    ) -> None:
        """``bbq`` and ``halueval`` are the two's ``data.path``; qa alone, as in real-small.yaml."""
        self.name, self.config = name, config
        self.eval_records: tuple[Record, ...] = ()
        bbq_data = BbqData.model_validate({"path": bbq, "split_by": split_by})
        halueval_data = HaluEvalData(path=halueval, subsets={"qa": 1.0})
        self._fairness = Fairness(
            "fairness", FairnessConfig(data=bbq_data), max_new_tokens=max_new_tokens, seed=seed
        )
        self._hallucination = Hallucination(
            "hallucination",
            HallucinationConfig(data=halueval_data),
            max_new_tokens=max_new_tokens,
            seed=seed,
        )
        self.notes = (*self._fairness.notes, *self._hallucination.notes)

    def _of(self, record: Record) -> Fairness | Hallucination:
        return self._fairness if isinstance(record, BbqRecord) else self._hallucination

    def draw(self, n: int) -> list[Record]:
        """Half of each; the odd one is BBQ's."""
        fair = self._fairness.draw(n - n // 2)
        return [*fair, *self._hallucination.draw(n // 2)]

    def messages(self, record: Record) -> tuple[Message, ...]:
        """See Objective."""
        return self._of(record).messages(record)

    def target(self, record: Record) -> str:
        """See Objective."""
        return self._of(record).target(record)

    def score(self, group: RolloutGroup) -> tuple[Score, ...]:
        """See Objective."""
        return self._of(group.prompt.record).score(group)

    def best(self, record: Record) -> float:
        """See Objective."""
        return self._of(record).best(record)

    def answerable(self, record: Record) -> bool:
        """See Objective."""
        return self._of(record).answerable(record)

    def evaluate(
        self, records: Sequence[Record], texts: Sequence[str]
    ) -> dict[str, float | int | str | None]:
        """It has no held-out items of its own: the two objectives beside it are the yardstick."""
        del records, texts
        return {}

    def state_dict(self) -> dict[str, object]:
        """See Objective."""
        return {
            "fairness": self._fairness.state_dict(),
            "hallucination": self._hallucination.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, object]) -> None:
        """See Objective."""
        for own in (self._fairness, self._hallucination):
            part = state[own.name]
            assert isinstance(part, Mapping)
            own.load_state_dict(part)
