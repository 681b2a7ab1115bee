"""The memory plan against peaks that were measured on a card."""

import pytest

from grpo_dual.config.schema import RunConfig
from grpo_dual.train.memory import GIB, MemoryPlan, Shape, plan

LLAMA_8B = Shape(32, 4096, 14336, 1024, 128256, 2)
WEIGHTS = 2 * 8_030_261_248
TRAINED = 41_943_040  # r 16 on seven layers of 32: 32 x 16 x 81,920 = 41.9 M
DATA = {"path": "x"}


def config(*, prompts: int, k: int, longest: int, checkpointing: bool = False) -> RunConfig:
    objectives = {
        name: {"prompts_per_step": prompts // 2, "data": DATA}
        for name in ("fairness", "hallucination")
    }
    return RunConfig.model_validate(
        {
            "model": {"name": "x", "gradient_checkpointing": checkpointing},
            "objectives": objectives,
            "rollout": {
                "group_size": k,
                "max_prompt_tokens": longest,
                "sampling": {"max_new_tokens": 128},
            },
            "train": {"microbatch_prompts": 2},
        }
    )


def test_a_layer_by_hand() -> None:
    # 6 x 4096 + 2 x 1024 + 3 x 14336 = 69,632 values of 2 bytes.
    assert LLAMA_8B.layer_bytes == 139_264
    # 2 (keys, values) x 32 layers x 1024 x 2 bytes
    assert LLAMA_8B.slot_bytes == 131_072


@pytest.mark.parametrize(
    ("prompts", "k", "longest", "checkpointing", "measured"),
    [
        # benchmarks/results/step_8b_*.json; the longest pass there had two prompts of 220 + 896,
        # 2,140 tokens, and with 16 prompts 134 + 896, 3,078 tokens: means of 558 and 515.
        (4, 4, 558, False, 26.22),
        (4, 4, 558, True, 17.86),
        (16, 8, 515, False, 32.3),
    ],
)
def test_measured_peaks(
    prompts: int, k: int, longest: int, checkpointing: bool, measured: float
) -> None:
    found = plan(
        LLAMA_8B,
        config(prompts=prompts, k=k, longest=longest, checkpointing=checkpointing),
        weights=WEIGHTS,
        trained=TRAINED,
        flat=True,
    )
    assert found.total / GIB == pytest.approx(measured, rel=0.05)


def test_what_does_not_fit_is_said() -> None:
    found = MemoryPlan(
        weights=15 * GIB, adapter=GIB, keys=GIB, activations=9 * GIB, head=GIB, tokens=2140
    )
    assert found.text("card", 80 * GIB) == (
        "memory: 27.0 GiB of 80.0 on card at most (weights 15.0, adapter and optimiser 1.0, "
        "keys and values 1.0, a pass of at most 2,140 tokens 9.0, logits 1.0)"
    )
    assert "may not fit; lower train.microbatch_prompts" in found.text("card", 24 * GIB)
