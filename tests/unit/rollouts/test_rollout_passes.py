"""Shared prompts against the model's own cache, token by token of the same sequences."""

from typing import Any

import pytest
import torch
from torch import Tensor

import tiny_models
from grpo_dual.config.schema import LoraConfig, ModelConfig, SamplingConfig
from grpo_dual.model.policy import Policy
from grpo_dual.rollouts.passes import CachePass, Pass, SharedPass, choose_pass
from grpo_dual.rollouts.transformers import TransformersEngine

LIMIT = 8
PROMPTS = [[1, *range(10, 10 + n)] for n in (4, 1, 11, 6)]
CONFIG = ModelConfig(
    dtype="float32", device="cpu", lora=LoraConfig(rank=4, alpha=8, targets=tiny_models.SEVEN)
)


def forced(passes: Pass, k: int, stays: list[int]) -> list[Tensor]:
    """Logits behind prompts and tokens, which are the same for whoever is asked.

    ``stays[t]`` of the sequences, drawn at random, still run at step t.
    """
    generator = torch.Generator().manual_seed(0)
    active = torch.arange(len(PROMPTS) * k)
    found = [passes.prompts()]
    for step, count in enumerate(stays):
        active = active[torch.randperm(len(active), generator=generator)[:count].sort().values]
        tokens = torch.randint(4, tiny_models.VOCABULARY, (count,), generator=generator)
        found.append(passes.tokens(tokens, active, step))
    return found


def largest_gap(policy: Policy, k: int, stays: list[int]) -> float:
    """Between the logits of shared prompts and those of the cache, over all steps."""
    shared = SharedPass(policy, PROMPTS, k, LIMIT)
    with policy.inference():
        ours = forced(shared, k, stays)
        truth = forced(CachePass(policy, PROMPTS, k, tiny_models.PAD), k, stays)
    assert [one.shape for one in ours] == [two.shape for two in truth]
    assert all(two.abs().max() > 1 for two in truth)
    return max(float((one - two).abs().max()) for one, two in zip(ours, truth, strict=True))


# Logits reach 40; Transformers' norms are in fp32, so not 1e-12.
FLOOR = 1e-5


@pytest.mark.parametrize("layers", ["own", "transformers"])
@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3"])
def test_shared_prompts_give_what_the_cache_gives(family: str, layers: str) -> None:
    policy = tiny_models.family_policy(family, dtype=torch.float64, config=CONFIG)
    if layers == "transformers":
        tiny_models.without_own_layers(policy)
    # 24 sequences in 8 rows of 2 x 12 // 8 = 3 lanes; 6 of them, then 2, in rows of their own.
    assert largest_gap(policy, 6, [24, 24, 19, 6, 6, 2, 1]) <= FLOOR


@pytest.mark.parametrize(
    ("k", "stays"),
    [
        (1, [4, 4, 3, 2, 2, 1]),  # nothing to share
        (4, [16, 15, 9, 9, 6, 3]),  # 2 rows of 3 lanes a prompt, of which 2 are never used
        (9, [2, 2, 1]),  # nearly all have ended at their first token
    ],
)
def test_any_number_of_completions(k: int, stays: list[int]) -> None:
    assert largest_gap(tiny_models.policy(0, dtype=torch.float64), k, stays) <= FLOOR


def test_what_a_lane_must_not_see() -> None:
    policy = tiny_models.policy(0)
    shared = SharedPass(policy, [[1, 5, 6], [1]], 2, 3)
    with policy.inference():
        shared.prompts()
        shared.tokens(torch.tensor([7, 8, 9, 10]), torch.arange(4), 0)
    layout: Any = shared._layout
    # 2 x 3 // 3 = 2 lanes. Slots: 3 of the prompt, then lanes 0 1 0 1 0 1.
    assert (layout.lanes, layout.slots) == (2, 9)
    assert layout.mask[:, 0].isfinite().int().tolist() == [
        [[1, 1, 1, 1, 0, 1, 0, 1, 0], [1, 1, 1, 0, 1, 0, 1, 0, 1]],
        [[1, 0, 0, 1, 0, 1, 0, 1, 0], [1, 0, 0, 0, 1, 0, 1, 0, 1]],
    ]


def test_many_completions_do_not_meet_each_others_tokens_for_nothing() -> None:
    """A row is at most three times as long as a prompt, however many completions there are."""
    policy = tiny_models.policy(0)
    shared = SharedPass(policy, [[1, 5, 6, 7, 8]], 1000, 2)
    with policy.inference():
        shared.prompts()
        shared.tokens(torch.full((1000,), 7), torch.arange(1000), 0)
    layout: Any = shared._layout
    # 2 x 5 // 2 = 5 lanes: 200 rows of 5 + 2 x 5 slots.
    assert (len(layout.sizes), layout.lanes, layout.slots) == (200, 5, 15)


def test_who_shares() -> None:
    policy = tiny_models.policy(0)
    chosen = lambda: type(choose_pass(policy, PROMPTS, 2, LIMIT, tiny_models.PAD))  # noqa: E731
    assert chosen() is SharedPass
    # The longest prompt has 12 tokens: 20 with its completion.
    policy.window = 20
    assert chosen() is SharedPass
    policy.window = 19
    assert chosen() is CachePass
    policy.window = None
    policy.flat = False
    assert chosen() is CachePass


@pytest.mark.parametrize("greedy", [False, True])
def test_the_engine_draws_the_same_by_either(greedy: bool) -> None:
    """In fp64, where the last bits of two ways decide no draw."""
    policy = tiny_models.policy(0, dtype=torch.float64, initializer_range=0.2)
    sampling = SamplingConfig(max_new_tokens=24, repetition_penalty=1.1, top_k=30, top_p=0.9)
    engine = TransformersEngine(policy, tiny_models.Codec(), sampling, max_sequences=16)
    prompts = [tiny_models.prompt(ids, str(i)) for i, ids in enumerate(PROMPTS)]
    drawn = []
    for flat in (True, False):
        policy.flat = flat
        torch.manual_seed(3)
        drawn.append(engine.generate(prompts, 5, greedy=greedy))
    for one, two in zip(*drawn, strict=True):
        for ours, theirs in zip(one.rollouts, two.rollouts, strict=True):
            assert ours.token_ids == theirs.token_ids
            assert ours.kept_ids == theirs.kept_ids
            assert ours.logprobs == pytest.approx(theirs.logprobs, abs=1e-6)
