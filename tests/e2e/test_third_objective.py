"""A third objective is one class and one entry in the YAML."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

import short_runs
from grpo_dual.config.objectives import ObjectiveConfig
from grpo_dual.errors import ConfigError
from grpo_dual.train.run import train
from grpo_dual.types import Message, Record, RolloutGroup, Score, Task
from short_runs import rows


class Brevity:
    """A third objective: say few words. All that the loop knows of it is here."""

    notes = ()

    def __init__(
        self, name: str, config: ObjectiveConfig, *, max_new_tokens: int, seed: int, words: int
    ) -> None:
        self.name = name
        self.config = config
        self._limit = max_new_tokens
        self._next = seed
        self._words = words
        self.eval_records = (self._record("held out"),)

    def _record(self, key: str) -> Record:
        return Record(
            record_id=f"brevity/{key}",
            objective=self.name,
            subset="all",
            task=Task.ANSWER,
            origin="tests",
        )

    def draw(self, n: int) -> Sequence[Record]:
        self._next += n
        return [self._record(str(self._next - n + i)) for i in range(n)]

    def messages(self, record: Record) -> tuple[Message, ...]:
        return (Message("user", f"w5 w6 {record.record_id}"),)

    def target(self, _: Record) -> str:
        return "w7"

    def score(self, group: RolloutGroup) -> tuple[Score, ...]:
        return tuple(
            Score({"task": -len(r.token_ids) / self._limit}, "brief", "rule")
            for r in group.rollouts
        )

    def best(self, _: Record) -> float:
        return 0.0

    def answerable(self, _: Record) -> bool:
        return True

    def evaluate(
        self, _: Sequence[Record], texts: Sequence[str]
    ) -> dict[str, float | int | str | None]:
        brief = [len(text.split()) <= self._words for text in texts]
        return {"headline": sum(brief) / len(brief)}

    def state_dict(self) -> dict[str, object]:
        return {"next": self._next}

    def load_state_dict(self, state: Mapping[str, object]) -> None:
        self._next = int(str(state["next"]))


def third(**changes: Any) -> dict[str, Any]:
    return {
        "kind": "plugin",
        "factory": "test_third_objective:Brevity",
        "settings": {"words": 3},
        "prompts_per_step": 2,
        **changes,
    }


def test_a_third_objective_is_a_class_and_an_entry(run: Callable[..., Path]):
    table = rows(run(objectives={"brevity": third()}, sft={"steps": 1, "batch_size": 3}))
    for row in table:
        assert float(row["grad_norm_brevity"]) > 0
        assert float(row["weight_brevity"]) == pytest.approx(1 / 3)
        assert math.isfinite(float(row["grad_cosine"]))


@pytest.mark.parametrize(
    "factory",
    [
        "nowhere:C",
        "test_third_objective:Absent",
        "test_third_objective",
        "test_third_objective:no_objective",
    ],
)
def test_a_plugin_that_cannot_be_built_is_refused(model: Path, tmp_path: Path, factory: str):
    changed = short_runs.config(model, tmp_path, objectives={"x": third(factory=factory)})
    with pytest.raises(ConfigError, match=r"objectives\.x\.factory"):
        train(changed)
    assert list(tmp_path.iterdir()) == []


def no_objective(*_: object, **__: object) -> object:
    return object()
