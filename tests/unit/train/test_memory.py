"""The memory plan against peaks that were measured on a card, and what it decides."""

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from transformers import GPT2Config, OlmoeConfig, OPTConfig, Qwen2MoeConfig

import short_runs
import tiny_models
from grpo_dual.config.schema import RunConfig
from grpo_dual.model.fourbit import nf4_bytes
from grpo_dual.train import memory, wiring
from grpo_dual.train.memory import GIB, Fit, MemoryPlan, Model, Room, Shape, fit, fit_memory, plan

LLAMA_8B = Shape(32, 4096, 14336, 1024, 128256, 2)
WEIGHTS = 2 * 8_030_261_248
TRAINED = 41_943_040  # r 16 on seven layers of 32: 32 x 16 x 81,920 = 41.9 M
DATA = {"path": "x"}
PLAIN = Model(LLAMA_8B, WEIGHTS, TRAINED, flat=True, layers="fused", in_place=True)


def config(*, prompts: int, k: int, longest: int, **train: Any) -> RunConfig:
    objectives = {
        name: {"prompts_per_step": prompts // 2, "data": DATA}
        for name in ("fairness", "hallucination")
    }
    return RunConfig.model_validate(
        {
            "model": {"name": "x"},
            "objectives": objectives,
            "rollout": {
                "group_size": k,
                "max_prompt_tokens": longest,
                "sampling": {"max_new_tokens": 128},
            },
            "train": {"microbatch_prompts": 2, **train},
        }
    )


def planned(
    model: Model = PLAIN,
    *,
    prompts: int = 4,
    k: int = 4,
    longest: int = 558,
    evaluated: int = 0,
    checkpointing: bool = False,
    **train: Any,
) -> MemoryPlan:
    run = config(prompts=prompts, k=k, longest=longest, **train)
    return plan(model, run, evaluated=evaluated, checkpointing=checkpointing)


def test_a_layer_by_hand() -> None:
    # 6 x 4096 + 2 x 1024 + 3 x 14336 = 69,632 values of 2 bytes.
    assert LLAMA_8B.layer_bytes("fused") == 139_264
    # 2 x 4096 of 4 bytes; 4 x 4096 + 2 x 1024 + 4 x 14336 = 75,776 of 2
    assert LLAMA_8B.layer_bytes("joined") == 32_768 + 151_552
    # 8 x 4096 + 14336 = 47,104 of 4 bytes; 2 x 4096 + 2 x 1024 + 3 x 14336 = 53,248 of 2
    assert LLAMA_8B.layer_bytes("peft") == 188_416 + 106_496
    # 2 (keys, values) x 32 layers x 1024 x 2 bytes
    assert LLAMA_8B.slot_bytes == 131_072


def test_a_token_checkpointed_by_hand() -> None:
    # An fp32 input of 4096 for each of 32 layers, and one layer; without fused layers of 2 bytes.
    make = lambda layers: LLAMA_8B.activations(1, checkpointing=True, flat=True, layers=layers)  # noqa: E731
    assert make("fused") == 32 * 4096 * 4 + 139_264
    assert make("joined") == 32 * 4096 * 2 + 32_768 + 151_552


@pytest.mark.parametrize(
    ("prompts", "k", "longest", "checkpointing", "measured"),
    [
        # benchmarks/results/step_8b_*.json; the longest pass there had two prompts of 220 + 896,
        # 2,140 tokens, and with 16 prompts 134 + 896, 3,078 tokens: means of 558 and 515.
        (4, 4, 558, False, 26.21),
        (4, 4, 558, True, 18.43),
        (16, 8, 515, False, 32.48),
    ],
)
def test_measured_peaks(
    prompts: int, k: int, longest: int, checkpointing: bool, measured: float
) -> None:
    found = planned(prompts=prompts, k=k, longest=longest, checkpointing=checkpointing)
    assert found.total / GIB == pytest.approx(measured, rel=0.05)


@pytest.mark.parametrize(
    ("flat", "layers", "measured"),
    [
        # docs/performance.md, the training pass at 16 sequences
        (True, "fused", 26.2),
        (True, "joined", 29.5),
        (True, "peft", 37.2),
        (False, "joined", 34.7),
        (False, "peft", 43.9),
    ],
)
def test_measured_peaks_of_other_layers(
    flat: bool, layers: Literal["fused", "joined", "peft"], measured: float
) -> None:
    found = planned(replace(PLAIN, flat=flat, layers=layers))
    assert found.total / GIB == pytest.approx(measured, rel=0.05)


def test_fused_layers_are_for_flat_rows() -> None:
    masked = replace(PLAIN, flat=False)
    assert planned(masked).total == planned(replace(masked, layers="joined")).total
    plain = planned(packed=False)
    # Four completions with a prompt each, instead of one prompt for them: 2 x 4 x (558 + 128).
    assert plain.tokens == 5488
    per_token = 1.5 * 32 * LLAMA_8B.layer_bytes("joined")
    assert plain.activations == 5488 * per_token


def test_four_bit_weights() -> None:
    # Embedding and head (2 x 128,256 x 4096) and 65 norms of 4096 stay in 16 bit; the seven layers
    # of 32 are 218,103,808 weights each.
    layers = 32 * 218_103_808
    assert 2 * 128_256 * 4096 + 65 * 4096 + layers == WEIGHTS // 2
    packed = nf4_bytes(layers)
    # 3.35 GiB instead of 13
    assert packed / GIB == pytest.approx(0.5159 * layers / GIB, rel=1e-4)
    model = replace(PLAIN, weights=packed + 2 * (WEIGHTS // 2 - layers), layers="peft")
    assert planned(replace(model, in_place=False)).weights / GIB == pytest.approx(5.31, abs=0.01)


def test_keys_and_values() -> None:
    # In place: 4 prompts of 558 with 4 x 128 tokens, 4,280 slots, two steps of 4,096.
    assert planned().keys == 8192 * 131_072
    other = replace(PLAIN, in_place=False)
    # Else 16 sequences of 686 tokens, and one layer of 32 twice while it grows.
    assert planned(other).keys == 16 * 686 * 131_072 * 33 / 32
    # An evaluation of 200 prompts, in one wave: 200 x 686 = 137,200 slots, 34 steps.
    assert planned(evaluated=200).keys == 34 * 4096 * 131_072
    assert planned(other, evaluated=200).keys == 137_200 * 131_072 * 33 / 32
    # 256 sequences at once are the most.
    assert planned(other, evaluated=1000).keys == 256 * 686 * 131_072 * 33 / 32


def test_keys_are_gone_before_the_passes_unless_in_place() -> None:
    parts: dict[str, Any] = {"weights": 5 * GIB, "adapter": GIB, "head": GIB, "tokens": 1}
    staying = MemoryPlan(**parts, keys=8 * GIB, activations=4 * GIB)
    assert staying.total == 19 * GIB
    assert replace(staying, in_place=False).total == 14 * GIB
    assert replace(staying, in_place=False, activations=9 * GIB).total == 16 * GIB


CARD = Room("card", 80 * GIB, 78 * GIB)
KEEPING = MemoryPlan(
    weights=15 * GIB, adapter=GIB, keys=4 * GIB, activations=40 * GIB, head=GIB, tokens=2140
)
SAVING = replace(KEEPING, activations=2 * GIB)


@pytest.mark.parametrize(
    ("ours", "on"),
    [
        (78.0, False),
        (69.0, False),  # 61 + a tenth of 80 = 69 fits exactly
        (68.9, True),
        (30.0, True),
        (10.0, True),  # neither fits: the smaller one
    ],
)
def test_auto_recomputes_where_it_must(ours: float, on: bool) -> None:
    found = fit("auto", KEEPING, SAVING, replace(CARD, ours=int(ours * GIB)))
    assert found.checkpointing is on
    assert found.plan is (SAVING if on else KEEPING)


def test_auto_says_both_numbers() -> None:
    assert fit("auto", KEEPING, SAVING, CARD).notes == (
        "memory: 61.0 GiB of 78.0 free on card at most (weights 15.0, adapter and optimiser 1.0, "
        "keys and values 4.0, a pass of at most 2,140 tokens 40.0, logits 1.0)",
        "memory: gradient checkpointing off (auto): 61.0 GiB and a reserve of 8.0 fit 78.0",
    )
    small = replace(CARD, ours=48 * GIB)
    assert fit("auto", KEEPING, SAVING, small).notes[1:] == (
        "memory: gradient checkpointing on (auto): without it 61.0 GiB and a reserve of 8.0 do not "
        "fit 48.0; with it 23.0",
    )


def test_auto_does_not_recompute_for_nothing() -> None:
    # The rollouts' keys are what does not fit, and they are gone before a pass.
    keys: dict[str, Any] = {"keys": 60 * GIB, "in_place": False}
    found = fit("auto", replace(KEEPING, **keys), replace(SAVING, **keys), CARD)
    assert not found.checkpointing
    assert found.notes[1] == (
        "memory: gradient checkpointing off (auto): it would take 76.0 GiB, no less than 76.0 "
        "without it"
    )
    full = fit("auto", replace(KEEPING, **keys), replace(SAVING, **keys), replace(CARD, ours=GIB))
    assert "that may not fit; lower rollout.max_sequences" in full.notes[-1]


@pytest.mark.parametrize("setting", [True, False])
def test_what_is_set_is_done(setting: bool) -> None:
    small = replace(CARD, ours=20 * GIB)
    found = fit(setting, KEEPING, SAVING, small)
    assert (found.checkpointing, found.plan) == (setting, SAVING if setting else KEEPING)
    first, last = found.notes
    assert f"{found.plan.total / GIB:.1f} GiB of 20.0 free" in first
    assert "may not fit; lower train.microbatch_prompts" in last
    assert ("set model.gradient_checkpointing: true" in last) is not setting


def test_a_loaded_policy_is_planned_for(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = tiny_models.policy()
    run = config(prompts=4, k=4, longest=64)
    assert fit_memory(policy, run, in_place=False, evaluated=0) is None
    assert not policy.checkpointing

    # As if its tensors were on a card.
    monkeypatch.setattr(policy, "device", torch.device("cuda"))
    rooms: list[torch.device] = []

    def room(device: torch.device) -> Room:
        rooms.append(device)
        return Room("card", GIB, 10**6)

    monkeypatch.setattr(memory.Room, "of", room)
    found = fit_memory(policy, run, in_place=False, evaluated=0)
    assert isinstance(found, Fit)
    assert rooms == [policy.device]
    frozen = sum(p.numel() for p in policy.model.parameters() if not p.requires_grad)
    assert found.plan.weights == 4 * frozen
    assert found.checkpointing
    assert "gradient checkpointing on (auto)" in found.notes[1]


@pytest.mark.parametrize("ours", [10**6, 10**12])
def test_a_run_does_what_the_plan_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ours: int
) -> None:
    run = short_runs.config(short_runs.save_model(tmp_path / "model"), tmp_path / "runs")
    asked: dict[str, Any] = {}

    def chosen(policy: Any, config: RunConfig, **more: Any) -> Fit:
        asked.update(more, policy=policy)
        return fit(config.model.gradient_checkpointing, KEEPING, SAVING, replace(CARD, ours=ours))

    monkeypatch.setattr(wiring, "fit_memory", chosen)
    parts = wiring.build(run)
    assert parts.policy.checkpointing is (ours < KEEPING.total)
    assert any("gradient checkpointing" in note for note in parts.notes)
    # The synthetic world holds 4 items of each objective back.
    assert asked == {"policy": parts.policy, "in_place": False, "evaluated": 4}
    monkeypatch.undo()
    plain = wiring.build(run)
    assert not plain.policy.checkpointing
    assert not any("memory" in note for note in plain.notes)


@pytest.mark.parametrize(
    ("config", "width"),
    [
        (GPT2Config(n_embd=64), 256),  # four times the hidden size, unless n_inner is said
        (GPT2Config(n_embd=64, n_inner=100), 100),
        (OPTConfig(ffn_dim=72), 72),
        (OlmoeConfig(intermediate_size=1024, num_experts_per_tok=8), 8192),
        (
            Qwen2MoeConfig(
                intermediate_size=5632,
                moe_intermediate_size=1408,
                num_experts_per_tok=4,
                shared_expert_intermediate_size=5632,
            ),
            4 * 1408 + 5632,
        ),
    ],
)
def test_inner_width_of_other_families(config: Any, width: int) -> None:
    assert Shape.of(config, 2).intermediate == width
