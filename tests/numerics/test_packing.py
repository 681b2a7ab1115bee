"""A packed row computes what separate rows compute (algorithms.md section 6)."""

from dataclasses import fields, replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import tiny_models
from grpo_dual.config.schema import LoraConfig, ModelConfig
from grpo_dual.errors import ModelError
from grpo_dual.model.attention import ByGroup, attend
from grpo_dual.model.packing import PackedBatch, flatten, join, pack, unpack
from grpo_dual.model.policy import Policy


def group(
    seed: int, prompt: int = 11, completions: tuple[int, ...] = (5, 9, 3, 7)
) -> tuple[list[int], list[list[int]]]:
    generator = torch.Generator().manual_seed(seed)
    return (
        tiny_models.random_ids(prompt, generator),
        [tiny_models.random_ids(c, generator) for c in completions],
    )


def oracle(policy: Policy, groups: list) -> Tensor:
    """Log-probs by the model's own forward on one unpadded row per completion: no code of ours."""
    values = []
    for prompt, completions in groups:
        for completion in completions:
            row = torch.tensor([prompt + completion])
            logits = policy.model(input_ids=row).logits[0, len(prompt) - 1 : -1]
            logprobs = torch.log_softmax(logits, -1)
            values.append(logprobs.gather(1, torch.tensor(completion)[:, None]).squeeze(1))
    return torch.cat(values)


def gradients(policy: Policy, logprobs: Tensor) -> list[Tensor]:
    """LoRA gradients of a sum that weights every token differently."""
    weights = torch.linspace(-1, 1, len(logprobs), dtype=logprobs.dtype)
    parameters = [parameter for _, parameter in policy.trainable_parameters()]
    return list(torch.autograd.grad((logprobs * weights).sum(), parameters))


def worst(left: list[Tensor], right: list[Tensor]) -> float:
    """Largest relative difference of a parameter's gradient."""
    return max(float((a - b).norm() / b.norm()) for a, b in zip(left, right, strict=True))


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("seed", range(10))
def test_packed_is_plain_in_fp64(seed: int, checkpointing: bool) -> None:
    config = ModelConfig(
        dtype="float32",
        lora=LoraConfig(rank=4, alpha=8, targets=tiny_models.SEVEN),
        gradient_checkpointing=checkpointing,
        device="cpu",
    )
    policy = tiny_models.policy(seed, dtype=torch.float64, num_hidden_layers=3, config=config)
    groups = [group(seed)]
    truth = oracle(policy, groups)
    expected = gradients(policy, truth)
    for layout in (pack, unpack):
        logprobs = policy.token_stats(layout(groups, 0), temperature=1.0, chunk=5).logprobs
        assert (logprobs - truth).abs().max() <= 1e-12
        # 1e-6, not 1e-12: Transformers computes RMSNorm in fp32 even inside fp64 models.
        assert worst(gradients(policy, logprobs), expected) <= 1e-6


@pytest.mark.parametrize("seed", range(3))
def test_several_prompts_of_different_length_share_a_batch(seed: int) -> None:
    policy = tiny_models.policy(seed, dtype=torch.float64)
    groups = [group(1, 11, (5, 9, 3, 7)), group(2, 3, (1, 2)), group(3, 20, (6,))]
    truth = oracle(policy, groups)
    expected = gradients(policy, truth)
    for batch in (pack(groups, 0), unpack(groups, 0), pack(groups, 2, multiple_of=8)):
        logprobs = policy.token_stats(batch, temperature=1.0, chunk=7).logprobs
        assert (logprobs - truth).abs().max() <= 1e-12
        assert worst(gradients(policy, logprobs), expected) <= 1e-6
        assert batch.num_sequences == 7
        lengths = torch.bincount(batch.sequence_index).tolist()
        assert lengths == [5, 9, 3, 7, 1, 2, 6]


@pytest.mark.parametrize("layers", ["own", "transformers"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_flat_row_is_plain_in_fp64(checkpointing: bool, layers: str) -> None:
    """Prompts of different length, groups of different size, in one row without mask or padding."""
    config = ModelConfig(
        dtype="float32",
        lora=LoraConfig(rank=4, alpha=8, targets=tiny_models.SEVEN),
        gradient_checkpointing=checkpointing,
        device="cpu",
    )
    policy = tiny_models.policy(3, dtype=torch.float64, config=config)
    assert policy.flat
    if layers == "transformers":
        tiny_models.without_own_layers(policy)
    groups = [group(1, 11, (5, 9, 3, 7)), group(2, 3, (1, 2)), group(3, 20, (6,))]
    truth = oracle(policy, groups)
    expected = gradients(policy, truth)
    batch = flatten(groups)
    assert batch.input_ids.shape == (1, 67)  # 11 + 24 + 3 + 3 + 20 + 6
    logprobs = policy.token_stats(batch, temperature=1.0, chunk=7).logprobs
    assert (logprobs - truth).abs().max() <= 1e-12
    assert worst(gradients(policy, logprobs), expected) <= 1e-6
    # The mask of the same row says the same, and SDPA is still what serves the other layouts.
    masked = policy.token_stats(replace(batch, runs=None), temperature=1.0, chunk=7).logprobs
    assert (masked - truth).abs().max() <= 1e-12
    plain = policy.token_stats(unpack(groups, 0), temperature=1.0, chunk=7).logprobs
    assert (plain - truth).abs().max() <= 1e-12


@pytest.mark.parametrize("scale", [None, 0.3])
def test_attention_by_group_is_attention_by_mask(scale: float | None) -> None:
    """Of queries, keys and values too, where two heads share their keys."""
    batch = flatten([group(1, 11, (5, 9, 3, 7)), group(2, 3, (1, 2)), group(3, 20, (6,))])
    runs, generator = batch.runs, torch.Generator().manual_seed(0)
    assert runs is not None
    q, k, v = (
        torch.randn(67, heads, 6, generator=generator, dtype=torch.float64).requires_grad_()
        for heads in (4, 2, 2)
    )
    # Written out: softmax(s q k^T) v over what the mask lets through.
    wide_k, wide_v = (part.repeat_interleave(2, 1) for part in (k, v))
    products = torch.einsum("ihd,jhd->hij", q, wide_k) * (6**-0.5 if scale is None else scale)
    weights = products.masked_fill(~batch.attention_mask()[0], -torch.inf).softmax(-1)
    truth = torch.einsum("hij,jhd->ihd", weights, wide_v)
    expected = torch.autograd.grad(truth.square().sum(), (q, k, v))
    for found in (
        ByGroup(runs.lengths(), torch.float64)(0, q, k, v, scale),
        attend(q, k, v, runs, scale=scale),
    ):
        assert (found - truth).abs().max() <= 1e-12
        got = torch.autograd.grad(found.square().sum(), (q, k, v))
        assert all((a - b).abs().max() <= 1e-12 for a, b in zip(got, expected, strict=True))


def test_a_prompts_keys_get_the_gradient_of_every_copy() -> None:
    batch = flatten([([7, 8], [[9], [10, 11]]), ([5], [[6]])])
    runs = batch.runs
    assert runs is not None
    # Runs: prompt 0 1 | 0 1 2 | 0 1 3 4 | prompt 5 | 5 6.
    assert runs.key_index.tolist() == [0, 1, 0, 1, 2, 0, 1, 3, 4, 5, 5, 6]
    assert runs.query_ends.tolist() == [0, 2, 3, 5, 6, 7]
    assert runs.key_ends.tolist() == [0, 2, 5, 9, 10, 12]
    assert (runs.longest_query, runs.longest_key) == (2, 4)
    assert runs.lengths() == [[2, 1, 2], [1, 1]]
    none = len(runs.key_index)
    assert runs.copies.tolist() == [
        [0, 2, 5],
        [1, 3, 6],
        [4, none, none],
        [7, none, none],
        [8, none, none],
        [9, 10, none],
        [11, none, none],
    ]


def packed_logprobs(policy: Policy, batch: PackedBatch, **inputs: Tensor | None) -> Tensor:
    """Log-probs of a packed row when the forward pass is given other inputs than ours."""
    arguments = {
        "attention_mask": batch.attention_mask(),
        "position_ids": batch.position_ids,
        "use_cache": False,
    }
    output = policy.body(input_ids=batch.input_ids, **{**arguments, **inputs})
    hidden = output.last_hidden_state[0, batch.hidden_index]
    logprobs = torch.log_softmax(policy.logits(hidden), -1)
    return logprobs.gather(1, batch.targets[:, None]).squeeze(1)


def test_the_silently_wrong_masks_are_told_apart() -> None:
    """The table of section 6.3: what is wrong there is seen to be wrong here, ours is not."""
    policy = tiny_models.policy(0, dtype=torch.float64, num_hidden_layers=3)
    groups = [group(0)]
    batch = pack(groups, 0)
    with torch.no_grad():
        truth = oracle(policy, groups)
        ours = packed_logprobs(policy, batch)
        wrong = {
            "no mask, cache off": packed_logprobs(policy, batch, attention_mask=None),
            "no mask, cache on": packed_logprobs(
                policy, batch, attention_mask=None, use_cache=True
            ),
            "2-D ones": packed_logprobs(
                policy, batch, attention_mask=torch.ones_like(batch.input_ids)
            ),
            "default positions": packed_logprobs(policy, batch, position_ids=None),
        }
        policy.causal_lm.set_attn_implementation("eager")
        wrong["eager, bool"] = packed_logprobs(policy, batch)
    assert (ours - truth).abs().max() <= 1e-12
    for name, logprobs in wrong.items():
        # The smallest of them, default positions, is about .003 in the reference table: a log-prob
        # tolerance near 1e-3 would let it pass.
        assert (logprobs - truth).abs().max() > 1e-3, name


def test_eager_is_refused() -> None:
    with pytest.raises(ModelError, match="eager"):
        tiny_models.policy(attn_implementation="eager")


def test_worked_counts() -> None:
    # T6: P=3, K=2, C=(2,1). The last row sees 3 prompt tokens and itself.
    batch = pack([([7, 8, 9], [[10, 11], [12]])], 0)
    assert batch.position_ids.tolist() == [[0, 1, 2, 3, 4, 3]]
    assert batch.segment_ids.tolist() == [[0, 0, 0, 1, 1, 2]]
    assert batch.attention_mask().sum(-1).flatten().tolist() == [1, 2, 3, 4, 5, 4]
    # Both first tokens are predicted by the prompt's last state, 2.
    assert batch.hidden_index.tolist() == [2, 3, 2]
    assert batch.targets.tolist() == [10, 11, 12]
    assert batch.sequence_index.tolist() == [0, 0, 1]
    assert batch.token_offsets.tolist() == [0, 1, 0]


def test_padding_sees_itself_only_and_is_seen_by_nobody() -> None:
    batch = pack([([7, 8, 9], [[10, 11], [12]]), ([7], [[8]])], 5)
    mask = batch.attention_mask()[1, 0]
    assert mask[2:].tolist() == torch.eye(6, dtype=torch.bool)[2:].tolist()
    assert not mask[:2, 2:].any()
    assert batch.input_ids[1].tolist() == [7, 8, 5, 5, 5, 5]


def test_a_row_may_be_rounded_up() -> None:
    assert pack([([1, 2, 3], [[4]])], 0, multiple_of=8).input_ids.shape == (1, 8)


@pytest.mark.parametrize(
    ("groups", "text"),
    [
        ([], "at least one prompt"),
        ([([], [[1]])], "group 0 has an empty prompt"),
        ([([1], [[1]]), ([1], [])], "group 1 has no completions"),
        ([([1], [[1], []])], "completion 1 of group 0 is empty"),
    ],
)
def test_what_cannot_be_scored_is_refused(groups: list, text: str) -> None:
    for layout in (pack, unpack):
        with pytest.raises(ModelError, match=text):
            layout(groups, 0)


ids = st.integers(0, 50)
some_groups = st.lists(
    st.tuples(
        st.lists(ids, min_size=1, max_size=6),
        st.lists(st.lists(ids, min_size=1, max_size=5), min_size=1, max_size=4),
    ),
    min_size=1,
    max_size=3,
)


@given(groups=some_groups)
@settings(deadline=None, max_examples=60)
def test_each_token_sees_exactly_its_prefix(groups: list) -> None:
    prefixes = [
        list(prompt) + completion[:t]
        for prompt, completions in groups
        for completion in completions
        for t in range(len(completion))
    ]
    for batch in (pack(groups, 0), unpack(groups, 0), flatten(groups)):
        width = batch.input_ids.shape[1]
        rows, columns = batch.hidden_index // width, batch.hidden_index % width
        visible = batch.visible(rows, columns)
        seen = [batch.input_ids[r][v].tolist() for r, v in zip(rows, visible, strict=True)]
        assert seen == prefixes
        assert batch.targets.tolist() == [t for _, cs in groups for c in cs for t in c]
        positions = batch.position_ids.reshape(-1)[batch.hidden_index].tolist()
        assert positions == [len(prefix) - 1 for prefix in prefixes]
        assert batch.token_offsets.tolist() == [
            t for _, cs in groups for c in cs for t in range(len(c))
        ]
        assert batch.num_sequences == sum(len(cs) for _, cs in groups)


def test_joined_flat_rows_are_one_flat_row() -> None:
    groups = [group(1, 11, (5, 9, 3)), group(2, 3, (1, 2)), group(3, 20, (6,)), group(4, 2, (3, 3))]
    whole = flatten(groups)
    joined = join([flatten(groups[:2]), flatten(groups[2:3]), flatten(groups[3:])])
    for field in fields(whole):
        one, two = getattr(whole, field.name), getattr(joined, field.name)
        if isinstance(one, Tensor):
            assert torch.equal(one, two), field.name
    assert whole.runs is not None
    assert joined.runs is not None
    for field in fields(whole.runs):
        one, two = getattr(whole.runs, field.name), getattr(joined.runs, field.name)
        assert torch.equal(torch.as_tensor(one), torch.as_tensor(two)), field.name


@pytest.mark.parametrize("family", ["llama", "qwen3", "qwen2"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_layers_of_the_llama_family_on_a_flat_row(family: str, checkpointing: bool) -> None:
    """Our own layers against the model's own forward on single rows, adapter on and off."""
    config = ModelConfig(
        dtype="float32",
        lora=LoraConfig(rank=4, alpha=8, targets=tiny_models.SEVEN),
        gradient_checkpointing=checkpointing,
        device="cpu",
    )
    policy = tiny_models.family_policy(family, dtype=torch.float64, config=config)
    groups = [group(1, 11, (5, 9, 3, 7)), group(2, 3, (1, 2)), group(3, 20, (6,))]
    truth = oracle(policy, groups)
    expected = gradients(policy, truth)
    policy.freeze_reference()
    batch = flatten(groups)
    logprobs = policy.token_stats(batch, temperature=1.0, chunk=7).logprobs
    # 1e-6 of Qwen 3: its norms of single heads are computed in fp32 here as there.
    assert (logprobs - truth).abs().max() <= 1e-12
    assert worst(gradients(policy, logprobs), expected) <= 1e-6
    # A step of an optimiser is seen: what is staged of an adapter is not what it was.
    tiny_models.randomise(policy)
    moved = policy.token_stats(batch, temperature=1.0, chunk=7).logprobs
    assert (moved - oracle(policy, groups)).abs().max() <= 1e-12
    with policy.reference():
        kept = policy.token_stats(batch, temperature=1.0, chunk=7).logprobs
    assert (kept - truth).abs().max() <= 1e-12
    # Rows with a mask still go through Transformers' own layers.
    plain = policy.token_stats(unpack(groups, 0), temperature=1.0, chunk=7).logprobs
    assert (plain - moved).abs().max() <= 1e-12
