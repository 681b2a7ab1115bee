"""An optimiser's step is seen by whatever keeps an adapter staged until it changes."""

import pytest
import torch

import tiny_models
from grpo_dual.config.schema import OptimizerConfig
from grpo_dual.model.packing import flatten
from grpo_dual.model.policy import Policy
from grpo_dual.train.optimizer import adamw

GROUPS = [([4, 5, 6, 7], [[8, 9, 10], [11, 12]]), ([13, 14], [[15, 16]])]


def logprobs(policy: Policy) -> torch.Tensor:
    return policy.token_stats(flatten(GROUPS), temperature=1.0, chunk=4).logprobs


@pytest.mark.parametrize("fused", [False, True])
def test_a_pass_behind_a_step_is_of_the_new_weights(fused: bool) -> None:
    """Torch counts no version for a fused step (2.11 to 2.13); without ours KL stays exactly 0."""
    policy, other = tiny_models.policy(), tiny_models.policy()
    tiny_models.randomise(policy)
    parameters = [p for _, p in policy.trainable_parameters()]
    optimizer = adamw(parameters, OptimizerConfig(learning_rate=1e-2), fused=fused)
    for _ in range(2):
        before = logprobs(policy)
        before.sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        other.load_adapter_state(policy.adapter_state())
        found = logprobs(policy)
        torch.testing.assert_close(found, logprobs(other), rtol=0, atol=1e-5)
        assert (found - before).abs().max() > 1e-2
