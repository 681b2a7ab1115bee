"""Scoring continuations behind one context is scoring each in a forward pass of its own."""

import random
from itertools import pairwise

import pytest
import torch

import tiny_models
from grpo_dual.config.schema import LoraConfig, ModelConfig
from grpo_dual.errors import ModelError
from grpo_dual.model import continuations
from grpo_dual.model.continuations import Choices, ContinuationScore, continuation_logprobs
from grpo_dual.model.policy import Policy


def made(seed: int, prefix: int, lengths: tuple[int, ...]) -> Choices:
    generator = torch.Generator().manual_seed(seed)
    return Choices(
        tuple(tiny_models.random_ids(prefix, generator)),
        tuple(tuple(tiny_models.random_ids(n, generator)) for n in lengths),
    )


_LONG = made(4, 9, (6,))
ITEMS = (
    made(1, 11, (5, 9, 3)),
    made(2, 3, (1, 1, 1)),
    made(3, 20, (6,)),
    # Each continuation is a prefix of the next one.
    Choices(_LONG.prefix_ids, tuple(_LONG.continuations[0][:n] for n in (2, 3, 6))),
    made(5, 1, (1, 4)),
)


def oracle(policy: Policy, item: Choices) -> list[float]:
    """By the model's own forward, one unpadded row per continuation: no code of ours."""
    found: list[float] = []
    for continuation in item.continuations:
        row = torch.tensor([[*item.prefix_ids, *continuation]])
        with torch.no_grad():
            logits = policy.model(input_ids=row).logits[0, len(item.prefix_ids) - 1 : -1]
        logprobs = torch.log_softmax(logits.double(), -1)
        found.append(float(logprobs.gather(1, torch.tensor(continuation)[:, None]).sum()))
    return found


def numbers(scores: list[tuple[ContinuationScore, ...]]) -> list[float]:
    return [score.logprob for own in scores for score in own]


@pytest.fixture(scope="module")
def policy() -> Policy:
    return tiny_models.policy(2)


@pytest.mark.parametrize("flat", [True, False])
def test_equals_one_plain_forward_per_continuation(flat: bool) -> None:
    policy = tiny_models.policy(2)
    policy.flat = flat  # the padded rows are what fp32 on CUDA takes
    scores = continuation_logprobs(policy, ITEMS)
    expected = [value for item in ITEMS for value in oracle(policy, item)]
    assert numbers(scores) == pytest.approx(expected, abs=1e-5)
    assert [tuple(s.tokens for s in own) for own in scores] == [
        (5, 9, 3),
        (1, 1, 1),
        (6,),
        (2, 3, 6),
        (1, 4),
    ]


def test_in_fp64_to_the_last_digits() -> None:
    policy = tiny_models.policy(3, dtype=torch.float64)
    expected = [value for item in ITEMS for value in oracle(policy, item)]
    assert numbers(continuation_logprobs(policy, ITEMS)) == pytest.approx(expected, abs=1e-10)


def test_a_longer_continuation_costs_the_nats_of_its_further_tokens(policy: Policy) -> None:
    """The chain rule: log p(ab) = log p(a) + log p(b | a), with a moved into the context."""
    whole = ITEMS[3].continuations[2]
    short, _, long = continuation_logprobs(policy, [ITEMS[3]])[0]
    rest = Choices((*ITEMS[3].prefix_ids, *whole[:2]), (whole[2:],))
    added = continuation_logprobs(policy, [rest])[0][0]
    assert long.logprob == pytest.approx(short.logprob + added.logprob, abs=1e-5)
    assert added.logprob < 0


@pytest.mark.parametrize("flat", [True, False])
@pytest.mark.parametrize("budget", [1, 30, 47, 10_000])
def test_budget_and_order_do_not_matter(flat: bool, budget: int) -> None:
    policy = tiny_models.policy(2)
    policy.flat = flat
    whole = continuation_logprobs(policy, ITEMS)
    order = list(range(len(ITEMS)))
    random.Random(5).shuffle(order)
    mixed = continuation_logprobs(policy, [ITEMS[n] for n in order], token_budget=budget)
    assert numbers(mixed) == pytest.approx(numbers([whole[n] for n in order]), abs=1e-5)


def test_adapter_and_base_are_scored_apart() -> None:
    config = ModelConfig(
        dtype="float32",
        lora=LoraConfig(rank=4, alpha=8, targets=tiny_models.SEVEN),
        reference="base",
        device="cpu",
    )
    policy = tiny_models.policy(2, config=config)
    live = numbers(continuation_logprobs(policy, ITEMS))
    with policy.reference():
        base = numbers(continuation_logprobs(policy, ITEMS))
    with policy.model.disable_adapter():
        expected = [value for item in ITEMS for value in oracle(policy, item)]
    assert base == pytest.approx(expected, abs=1e-5)
    assert max(abs(a - b) for a, b in zip(live, base, strict=True)) > 0.1
    assert numbers(continuation_logprobs(policy, ITEMS)) == live


def test_no_gradient_is_kept(policy: Policy) -> None:
    continuation_logprobs(policy, ITEMS)
    assert all(parameter.grad is None for _, parameter in policy.trainable_parameters())
    assert torch.is_grad_enabled()


def test_passes_keep_to_the_budget() -> None:
    sizes = [30, 5, 12, 7, 40, 9]
    # Longest first: 40 | 30 | 12 + 9 + 7 = 28, + 5 = 33 > 32 | 5.
    assert list(continuations._passes(sizes, 32, flat=True)) == [[4], [0], [2, 5, 3], [1]]
    # Padded to the first: 12 + 12 = 24, 36 > 32; then 7 + 7.
    assert list(continuations._passes(sizes, 32, flat=False)) == [[4], [0], [2, 5], [3, 1]]
    assert list(continuations._passes([], 32, flat=True)) == []


def test_progress_counts_items_and_the_budget_decides_the_passes(policy: Policy) -> None:
    passes: list[int] = []
    continuation_logprobs(policy, ITEMS, token_budget=30, progress=passes.append)
    # Sizes 28, 6, 26, 20, 6: 28 | 26 | 20 + 6 | 6.
    assert passes == [1, 1, 2, 1]
    assert continuation_logprobs(policy, []) == []


def test_scores_by_hand() -> None:
    score = ContinuationScore(-6.0, 4)
    assert score.mean == -1.5


@pytest.mark.parametrize(
    ("item", "says"),
    [
        (Choices((), ((5,),)), "item 1 has an empty context"),
        (Choices((5,), ()), "item 1 has no continuation"),
        (Choices((5,), ((6,), ())), "continuation 1 of item 1 is empty"),
    ],
)
def test_what_cannot_be_scored_is_refused(policy: Policy, item: Choices, says: str) -> None:
    with pytest.raises(ModelError, match=says):
        continuation_logprobs(policy, [ITEMS[0], item])


def test_a_budget_of_nothing_is_refused(policy: Policy) -> None:
    with pytest.raises(ModelError, match="token_budget must be positive"):
        continuation_logprobs(policy, ITEMS, token_budget=0)


def test_more_options_cost_no_second_context(policy: Policy, monkeypatch) -> None:
    """Tokens that pass through the layers: one context however many options."""
    seen: list[int] = []
    real = policy.token_stats

    def counted(batch, **kwargs):
        seen.append(batch.input_ids.numel())
        return real(batch, **kwargs)

    monkeypatch.setattr(policy, "token_stats", counted)
    item = made(7, 20, (2, 2, 2, 2))
    for options in range(1, 5):
        continuation_logprobs(policy, [Choices(item.prefix_ids, item.continuations[:options])])
    assert seen[0] == 22
    assert [b - a for a, b in pairwise(seen)] == [2, 2, 2]
