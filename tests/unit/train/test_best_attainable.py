"""What a group must earn to count as solved."""

import math
from typing import Any

import pytest

from grpo_dual.config.objectives import FairnessConfig, HallucinationConfig
from grpo_dual.train.objectives import build_objective

KINDS: dict[str, type[FairnessConfig] | type[HallucinationConfig]] = {
    "fairness": FairnessConfig,
    "hallucination": HallucinationConfig,
}


def best(kind: str, table: dict[str, float], **data: Any) -> set[float]:
    config = KINDS[kind].model_validate(
        {
            "data": {"path": "synthetic", "train_samples": 32, "eval_samples": 4, **data},
            "reward": table,
        }
    )
    objective = build_objective(kind, config, max_new_tokens=8, seed=0)
    return {objective.best(record) for record in objective.draw(8)}


@pytest.mark.parametrize(
    ("kind", "table", "expected"),
    [
        ("fairness", {}, 1.0),
        ("fairness", {"right": 0.5}, 0.5),
        ("hallucination", {"grounded": 0.25}, 0.25),
        # Right pays what wrong pays: all equal says nothing, so no group is ever solved.
        ("fairness", {"right": 0.0, "wrong": 0.0}, math.inf),
        ("hallucination", {"grounded": 0.3, "hallucinated": 0.3}, math.inf),
    ],
)
def test_it_is_what_right_pays_if_that_is_more_than_wrong(
    kind: str, table: dict[str, float], expected: float
):
    assert best(kind, table) == {expected}


def test_detection_has_its_own_row_of_the_table():
    detect = {"detect_right": 0.4, "detect_wrong": 0.4}
    data = {"subsets": {"qa": 1.0}, "detect_fraction": 1.0}
    assert best("hallucination", detect, **data) == {math.inf}
    assert best("hallucination", {"detect_right": 0.4}, **data) == {0.4}
