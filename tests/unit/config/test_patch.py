"""A finding's patch is applied to the resolved configuration, or refused with its key."""

from pathlib import Path

import pytest

from grpo_dual.config.load import load_config
from grpo_dual.config.patch import patched
from grpo_dual.config.schema import RunConfig
from grpo_dual.errors import ConfigError

DEMO = load_config(Path(__file__).resolve().parents[3] / "configs" / "demo.yaml")


def test_values_go_where_the_key_says_and_nowhere_else() -> None:
    patch = {
        "rollout.sampling.min_new_tokens": 3,
        "objectives.hallucination.data.length_matched": True,
        "objectives.hallucination.data.subsets": {"qa": 1.0},
    }
    changed = patched(DEMO, patch)
    assert changed.rollout.sampling.min_new_tokens == 3
    expected = DEMO.model_dump()
    expected["rollout"]["sampling"]["min_new_tokens"] = 3
    expected["objectives"]["hallucination"]["data"] |= {
        "length_matched": True,
        "subsets": {"qa": 1.0},
    }
    assert changed.model_dump() == expected
    assert patched(DEMO, {}) == DEMO


def test_a_number_is_a_place_in_a_list() -> None:
    data = DEMO.model_dump()
    data["objectives"]["fairness"]["custom_rewards"] = [
        {"function": "m:f", "weight": 1.0},
        {"function": "m:g", "weight": 1.0},
    ]
    config = RunConfig.model_validate(data)
    changed = patched(config, {"objectives.fairness.custom_rewards.1.weight": 0.0})
    weights = [reward.weight for reward in changed.objectives["fairness"].custom_rewards]
    assert weights == [1.0, 0.0]


@pytest.mark.parametrize(
    ("patch", "named"),
    [
        ({"rollout.smapling.top_k": 0}, "`smapling`"),
        ({"rollout.sampling.topk": 0}, "topk"),
        ({"objectives.fairness.custom_rewards.0.weight": 0.0}, "`0`"),
        ({"rollout.group_size": 1}, "rollout.group_size"),
        ({"rollout.group_size.x": 1}, "`x`"),
        ({"objectives.fairness.kl.beta_min": 0.5}, "beta must lie between"),
    ],
)
def test_what_does_not_fit_is_refused(patch: dict[str, object], named: str) -> None:
    with pytest.raises(ConfigError, match="patch") as refused:
        patched(DEMO, patch)
    assert named in str(refused.value)
