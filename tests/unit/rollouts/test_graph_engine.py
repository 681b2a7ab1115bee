"""The in-place engine's own code path on the CPU: ``generate`` and the trainer are its oracles."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    GenerationConfig,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
)

import tiny_models
from grpo_dual.config.schema import LoraConfig, ModelConfig, RolloutConfig, SamplingConfig
from grpo_dual.errors import ConfigError, ModelError, NumericsError
from grpo_dual.model.family import UnsupportedError
from grpo_dual.model.loading import attach_lora
from grpo_dual.model.packing import flatten, pack, unpack
from grpo_dual.model.policy import Policy
from grpo_dual.model.processors import Replay, keep_mask
from grpo_dual.rollouts import choose
from grpo_dual.rollouts.choose import choose_engine
from grpo_dual.rollouts.drawing import Drawer
from grpo_dual.rollouts.graph import GraphEngine
from grpo_dual.rollouts.transformers import TransformersEngine
from grpo_dual.rollouts.weights import check_fused
from grpo_dual.types import RolloutGroup

PROMPTS = [
    tiny_models.prompt([1, 20, 21, 22, 23], "five"),
    tiny_models.prompt([1, 30], "two"),
    tiny_models.prompt([1, 40, 41, 40, 42, 43, 44, 45], "eight"),
    tiny_models.prompt([1, 50, 51], "three"),
]
PLAIN = SamplingConfig(max_new_tokens=24, temperature=0.9)
HANDOFF = SamplingConfig(
    max_new_tokens=24,
    min_new_tokens=5,
    temperature=0.9,
    top_k=20,
    top_p=0.9,
    repetition_penalty=1.18,
)


def engine(policy: Policy, sampling: SamplingConfig = PLAIN, sequences: int = 64) -> GraphEngine:
    return GraphEngine(policy, tiny_models.Codec(), sampling, max_sequences=sequences)


def flat(groups: list[RolloutGroup]) -> list[tuple[int, ...]]:
    return [rollout.token_ids for group in groups for rollout in group.rollouts]


def gaps(
    policy: Policy, groups: list[RolloutGroup], sampling: SamplingConfig, layout: Any = pack
) -> torch.Tensor:
    """Trainer's log-probs minus the recorded ones."""
    rollouts = [r for g in groups for r in g.rollouts]
    batch = layout(
        [(g.prompt.token_ids, [r.token_ids for r in g.rollouts]) for g in groups], tiny_models.PAD
    )
    kept = None
    if rollouts[0].kept_ids is not None:
        kept = [ids for r in rollouts for ids in (r.kept_ids or ())]
    replay = None if sampling.plain else Replay(batch, sampling, (2, 3), kept)
    with torch.no_grad():
        scored = policy.token_stats(
            batch, temperature=sampling.temperature, chunk=50, processor=replay
        ).logprobs
    recorded = torch.tensor([p for r in rollouts for p in r.logprobs], dtype=scored.dtype)
    return scored - recorded


@pytest.mark.parametrize("k", [1, 3])
def test_greedy_tokens_are_those_of_generate(k: int):
    policy = tiny_models.policy()
    drawn = engine(policy).generate(PROMPTS, k, greedy=True)
    config = GenerationConfig(
        max_new_tokens=24, do_sample=False, eos_token_id=[2, 3], pad_token_id=0, bos_token_id=1
    )
    for group in drawn:
        ids = torch.tensor([group.prompt.token_ids])
        whole = policy.model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), generation_config=config
        )
        expected = tuple(whole[0, ids.shape[1] :].tolist())
        assert [r.token_ids for r in group.rollouts] == [expected] * k


@pytest.mark.parametrize(
    ("dtype", "spread", "tolerance"),
    [(torch.float64, 0.3, 1e-6), (torch.float32, 0.15, 1e-5)],
)
@pytest.mark.parametrize("layout", [pack, unpack])
@pytest.mark.parametrize(
    "sampling",
    [
        PLAIN,
        HANDOFF,
        HANDOFF.model_copy(update={"top_k": 0, "top_p": 1.0}),
        HANDOFF.model_copy(update={"repetition_penalty": 1.0, "top_p": 1.0}),
    ],
)
def test_recorded_log_probs_are_the_trainers(
    dtype: torch.dtype, spread: float, tolerance: float, layout: Any, sampling: SamplingConfig
):
    policy = tiny_models.policy(dtype=dtype, initializer_range=spread)
    torch.manual_seed(1)
    groups = engine(policy, sampling).generate(PROMPTS, 5)
    assert float(gaps(policy, groups, sampling, layout).abs().max()) < tolerance
    assert len(set(flat(groups))) > 5


def test_waves_and_finished_sequences_change_nothing():
    """Greedy completions do not depend on who shares the batch; some end long before others."""
    policy = tiny_models.policy()
    together = flat(engine(policy).generate(PROMPTS, 2, greedy=True))
    assert flat(engine(policy, sequences=2).generate(PROMPTS, 2, greedy=True)) == together
    assert flat(engine(policy, sequences=4).generate(PROMPTS, 2, greedy=True)) == together
    lengths = {len(ids) for ids in together}
    assert len(lengths) > 1


class EndsEarly(tiny_models.Codec):
    """Ends that the model of seed 2 reaches greedily after 19, 9, 4 and 6 tokens."""

    eos_ids = (29, 63)


@pytest.mark.parametrize("looks", [(1, 0), (5, 2), (8, 2)])
def test_a_sequence_leaves_the_batch_when_the_look_behind_its_end_is_read(looks: tuple[int, int]):
    """On CUDA it is read some steps after it was cast; of (5, 2) and (8, 2) one ends in between."""
    policy = tiny_models.policy(2)
    every, after = looks
    used = GraphEngine(policy, EndsEarly(), PLAIN, max_sequences=64)
    used._looks = looks
    sizes: list[int] = []
    step = used._step

    def counted(batch: Any) -> None:
        sizes.append(batch.size)
        step(batch)

    used._step = counted  # type: ignore[method-assign]
    found = [len(ids) for ids in flat(used.generate(PROMPTS, 1, greedy=True))]
    assert found == [19, 9, 4, 6]
    read = [-(-length // every) * every + after for length in found]
    assert sizes == [sum(end > s for end in read) for s in range(1, min(24, max(read)))]


def test_one_new_token_leaves_room_for_the_step_that_cuda_captures():
    policy = tiny_models.policy()
    used = engine(policy, SamplingConfig(max_new_tokens=1))
    groups = used.generate(PROMPTS, 2)
    assert {len(ids) for ids in flat(groups)} == {1}
    # Capturing runs a step, which writes at place 1 of the output.
    assert used._output is not None
    assert used._output.tokens.shape[1] == 2


def test_a_second_rollout_with_longer_prompts_and_more_of_them():
    policy = tiny_models.policy()
    used = engine(policy)
    first = flat(used.generate(PROMPTS[:1], 1, greedy=True))
    longer = [*PROMPTS, tiny_models.prompt([1, *range(10, 50)], "long")]
    fresh = flat(engine(policy).generate(longer, 3, greedy=True))
    assert flat(used.generate(longer, 3, greedy=True)) == fresh
    assert flat(used.generate(PROMPTS[:1], 1, greedy=True)) == first


def test_what_a_captured_step_reads_lives_as_long_as_the_engine(monkeypatch: pytest.MonkeyPatch):
    """A CUDA graph reads memory, not objects: EOS ids of a rollout's own drawer were freed behind
    it, and the next rollout's graphs called sequences finished by whatever lay there.
    """
    used = engine(tiny_models.policy())
    seen: list[Any] = []
    draw = GraphEngine._draw

    def noted(self: GraphEngine, batch: Any, logits: torch.Tensor) -> None:
        seen.append(batch.drawer)
        draw(self, batch, logits)

    monkeypatch.setattr(GraphEngine, "_draw", noted)
    for greedy in (False, True, False, True):
        used.generate(PROMPTS, 2, greedy=greedy)
    assert {id(drawer) for drawer in seen} == {id(d) for d in used._drawers.values()}


def test_an_update_of_the_adapter_is_seen_by_the_next_rollout():
    policy = tiny_models.policy(initializer_range=0.15)
    used = engine(policy)
    before = used.generate(PROMPTS, 3)
    tiny_models.randomise(policy, 0.4)
    assert float(gaps(policy, before, PLAIN).abs().max()) > 0.01
    torch.manual_seed(2)
    after = used.generate(PROMPTS, 3)
    assert float(gaps(policy, after, PLAIN).abs().max()) < 1e-5


def test_a_frozen_stage_is_what_the_canary_sees(monkeypatch: pytest.MonkeyPatch):
    """The same update with the stage left as it was: far beyond what the canary allows."""
    policy = tiny_models.policy(initializer_range=0.15)
    used = engine(policy)
    used.generate(PROMPTS, 3)
    tiny_models.randomise(policy, 0.4)
    monkeypatch.setattr(used._decoder, "refresh", lambda: None)
    stale = gaps(policy, used.generate(PROMPTS, 8), PLAIN)
    assert float(stale.abs().quantile(0.999)) > 0.5


def test_the_reference_and_no_adapter_are_drawn_from_when_they_are_active():
    policy = tiny_models.policy(initializer_range=0.15)
    used = engine(policy)
    policy.freeze_reference()
    tiny_models.randomise(policy, 0.4)
    with policy.reference():
        frozen = used.generate(PROMPTS, 3)
        assert float(gaps(policy, frozen, PLAIN).abs().max()) < 1e-5
    assert float(gaps(policy, frozen, PLAIN).abs().max()) > 0.01
    with policy.model.disable_adapter():
        bare = used.generate(PROMPTS, 3)
        assert float(gaps(policy, bare, PLAIN).abs().max()) < 1e-5


def test_rollouts_between_a_forward_pass_and_its_backward_change_no_gradient():
    """What a rollout stages stands below weights that the backward pass reads."""
    policy = tiny_models.policy()
    used = engine(policy)
    groups = [(p.token_ids, [[7, 8, 9]]) for p in PROMPTS]
    parameters = [p for _, p in policy.trainable_parameters()]

    def gradients(*, between: bool) -> list[torch.Tensor]:
        scored = policy.token_stats(flatten(groups), temperature=1.0, chunk=50).logprobs
        if between:
            used.generate(PROMPTS, 1)
        return list(torch.autograd.grad(scored.sum(), parameters))

    for one, two in zip(gradients(between=True), gradients(between=False), strict=True):
        assert torch.equal(one, two)


def test_the_base_weights_are_shared_and_not_copied():
    policy = tiny_models.policy()
    before = {name: p.clone() for name, p in policy.model.named_parameters()}
    used = engine(policy)
    for name, parameter in policy.model.named_parameters():
        assert torch.equal(parameter, before[name]), name
    for layer, own in zip(used._decoder.weights.layers, policy.body.layers, strict=True):  # type: ignore[arg-type]
        base = own.self_attn.k_proj.base_layer.weight  # type: ignore[union-attr]
        assert layer.qkv.projections[1].weight.data_ptr() == base.data_ptr()
        inside = layer.qkv.whole.untyped_storage().data_ptr()
        assert base.untyped_storage().data_ptr() == inside
    # A second engine finds the weights beside each other and moves nothing.
    places = [p.data_ptr() for p in policy.model.parameters()]
    engine(policy)
    assert [p.data_ptr() for p in policy.model.parameters()] == places


def test_qwen3_with_head_norms_is_drawn_exactly():
    config = ModelConfig(dtype="float32", device="cpu", lora=LoraConfig(rank=4, alpha=8))
    policy = tiny_models.family_policy("qwen3", dtype=torch.float32, config=config)
    groups = engine(policy).generate(PROMPTS, 3)
    assert float(gaps(policy, groups, PLAIN).abs().max()) < 1e-5


def test_what_it_cannot_run_is_refused_or_told():
    torch.manual_seed(0)
    neox = GPTNeoXForCausalLM(
        GPTNeoXConfig(
            vocab_size=67,
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=1,
            num_attention_heads=4,
            max_position_embeddings=64,
            attn_implementation="sdpa",
        )
    ).requires_grad_(False)
    config = ModelConfig(dtype="float32", device="cpu", lora=LoraConfig(rank=4, alpha=8))
    other = Policy(attach_lora(neox, config.lora), tiny_models.tokenizer(), config)
    unready = tiny_models.policy()
    unready.flat = False
    with pytest.raises(UnsupportedError, match="takes no flat rows"):
        engine(unready)
    with pytest.raises(UnsupportedError, match="o_proj of layer 0 has a bias"):
        check_fused(tiny_models.policy(attention_bias=True))
    with pytest.raises(UnsupportedError, match="gate_proj of layer 0 has a bias"):
        check_fused(tiny_models.policy(mlp_bias=True))
    with pytest.raises(UnsupportedError, match="not laid out like a Llama"):
        check_fused(other)
    check_fused(tiny_models.policy())
    with pytest.raises(UnsupportedError, match="top_p without top_k"):
        engine(tiny_models.policy(), SamplingConfig(top_p=0.9))
    told: list[str] = []
    chosen = choose_engine(tiny_models.policy(), tiny_models.Codec(), RolloutConfig(), told.append)
    assert isinstance(chosen, TransformersEngine)
    assert told == [
        "rollouts by the transformers engine, not in place: CUDA graphs need a CUDA device"
    ]
    with pytest.raises(ConfigError, match="need a CUDA device"):
        choose_engine(
            tiny_models.policy(), tiny_models.Codec(), RolloutConfig(engine="graph"), told.append
        )


def test_what_a_card_is_told(monkeypatch: pytest.MonkeyPatch):
    """Without one: the engine and its rehearsal are stand-ins."""
    made = SimpleNamespace(slower=None)
    policy: Any = SimpleNamespace(device=torch.device("cuda"), window=None)
    rehearsed: list[Any] = []
    monkeypatch.setattr(choose, "GraphEngine", lambda *_, **__: made)
    monkeypatch.setattr(choose, "rehearse", rehearsed.append)
    told: list[str] = []
    assert choose_engine(policy, tiny_models.Codec(), RolloutConfig(), told.append) is made
    assert (told, rehearsed) == ([], [])
    made.slower = "PhiModel is not laid out like a Llama"
    assert choose_engine(policy, tiny_models.Codec(), RolloutConfig(), told.append) is made
    assert rehearsed == [policy]
    assert told.pop() == (
        "rollouts in place, through the model's own modules, which takes longer than a step made "
        "for its family: PhiModel is not laid out like a Llama"
    )

    made.slower = None
    policy.window = 896 + 128
    choose_engine(policy, tiny_models.Codec(), RolloutConfig(), told.append)
    assert told == []
    config = RolloutConfig(max_prompt_tokens=897)
    choose_engine(policy, tiny_models.Codec(), config, told.append)
    assert told.pop().startswith("sequences of more than 1024 tokens, the model's attention window")
    made.slower = "PhiModel is not laid out like a Llama"

    def waits(_: Any) -> None:
        raise UnsupportedError("a step of its modules waits for the device")

    monkeypatch.setattr(choose, "rehearse", waits)
    found = choose_engine(policy, tiny_models.Codec(), RolloutConfig(), told.append)
    assert isinstance(found, TransformersEngine)
    assert told.pop() == (
        "rollouts by the transformers engine, not in place: a step of its modules waits for the "
        "device"
    )
    with pytest.raises(ConfigError, match="waits for the device"):
        choose_engine(policy, tiny_models.Codec(), RolloutConfig(engine="graph"), told.append)


def test_merged_and_doubled_adapters_are_refused():
    policy = tiny_models.policy()
    used = engine(policy)
    policy.model.merge_adapter()
    with pytest.raises(ModelError, match="merged into the base weights"):
        used.generate(PROMPTS, 1)
    policy.model.unmerge_adapter()
    policy.freeze_reference()
    policy.model.base_model.set_adapter(list(policy.model.peft_config))  # type: ignore[operator]
    with pytest.raises(ModelError, match=r"several adapters .* Set rollout\.engine: transformers"):
        used.generate(PROMPTS, 1)


def test_logits_that_are_not_finite_stop_the_run():
    policy = tiny_models.policy()
    with torch.no_grad():
        policy.trainable_parameters()[0][1].fill_(float("nan"))
    with pytest.raises(NumericsError, match="diverged"):
        engine(policy).generate(PROMPTS, 2)


LOGITS = torch.tensor([2.0, 1.5, 1.0, 0.5, 0.0, -0.5, -1.0, -8.0])


@pytest.mark.parametrize(
    "sampling",
    [
        SamplingConfig(temperature=0.7),
        SamplingConfig(temperature=0.9, top_k=5, top_p=0.9),
        SamplingConfig(top_k=3),
    ],
)
def test_frequencies_are_the_targets(sampling: SamplingConfig):
    """Chi-square over 20,000 draws; above its mean by six standard deviations: never by chance."""
    count = 20_000
    torch.manual_seed(0)
    drawer = Drawer(sampling, (99,), torch.device("cpu"), greedy=False)
    drawn = drawer.draw(LOGITS.expand(count, -1), None, torch.zeros(1, dtype=torch.int32))
    tempered = LOGITS / sampling.temperature
    kept = keep_mask(tempered[None], sampling.top_k, sampling.top_p)[0]
    target = torch.softmax(tempered.masked_fill(~kept, -torch.inf), -1)
    seen = torch.bincount(drawn.tokens, minlength=len(LOGITS))
    assert int(seen[~kept].sum()) == 0
    expected = target[kept] * count
    chi = float(((seen[kept] - expected) ** 2 / expected).sum())
    freedom = int(kept.sum()) - 1
    assert chi < freedom + 6 * (2 * freedom) ** 0.5
    assert torch.allclose(drawn.logprobs, target.log()[drawn.tokens], atol=1e-6)


@given(st.integers(0, 10_000), st.integers(1, 12), st.floats(0.05, 1.0))
@settings(deadline=None)
def test_what_is_kept_is_what_transformers_keeps(seed: int, top_k: int, top_p: float):
    logits = torch.randn(3, 12, generator=torch.Generator().manual_seed(seed))
    sampling = SamplingConfig(top_k=top_k, top_p=top_p)
    drawn = Drawer(sampling, (99,), torch.device("cpu"), greedy=False).draw(
        logits, None, torch.zeros(1, dtype=torch.int32)
    )
    assert drawn.kept_ids is not None
    assert drawn.kept is not None
    expected = keep_mask(logits, top_k, top_p)
    for row in range(3):
        ids = drawn.kept_ids[row, : int(drawn.kept[row])].tolist()
        assert sorted(ids) == expected[row].nonzero().squeeze(1).tolist()
        assert int(drawn.tokens[row]) in ids
