"""What packing saves: the table of section 6.2, counted on real batches."""

import pytest

from grpo_dual.model.packing import PackedBatch, pack, unpack

# (prompt, completion) lengths -> token ratio / FLOP ratio at K = 4, 8, 16.
TABLE = {
    (150, 40): ((2.45, 2.40), (3.23, 3.12), (3.85, 3.68)),
    (150, 100): ((1.82, 1.77), (2.11, 2.04), (2.29, 2.20)),
    (150, 128): ((1.68, 1.64), (1.89, 1.84), (2.02, 1.95)),
    (300, 40): ((2.96, 2.90), (4.39, 4.25), (5.79, 5.54)),
    (300, 100): ((2.29, 2.23), (2.91, 2.80), (3.37, 3.21)),
    (300, 128): ((2.11, 2.05), (2.59, 2.49), (2.92, 2.79)),
    (900, 40): ((3.55, 3.51), (6.16, 6.04), (9.77, 9.45)),
    (900, 100): ((3.08, 3.02), (4.71, 4.55), (6.40, 6.10)),
    (900, 128): ((2.91, 2.85), (4.27, 4.12), (5.58, 5.30)),
}


def counts(batch: PackedBatch) -> tuple[int, int]:
    """Tokens of a batch without padding, and (query, key) pairs that its mask allows."""
    return int((batch.segment_ids >= 0).sum()), int(batch.attention_mask().sum())


def flops(tokens: int, pairs: int, scored: int) -> float:
    """One forward pass of Llama-3-8B: linear layers, attention, head on the completions only."""
    return 2 * 6.979e9 * tokens + 4 * 4096 * 32 * pairs + 2 * 0.525e9 * scored


@pytest.mark.parametrize(("prompt", "completion"), TABLE)
def test_s62_tokens_and_flops_saved(prompt: int, completion: int) -> None:
    for k, expected in zip((4, 8, 16), TABLE[prompt, completion], strict=True):
        group = ([1] * prompt, [[1] * completion] * k)
        plain, packed = counts(unpack([group], 0)), counts(pack([group], 0))
        # K (P + C) against P + K C; the pairs are those of the two causal triangles.
        assert plain[0] == k * (prompt + completion)
        assert plain[1] == k * (prompt + completion) * (prompt + completion + 1) // 2
        assert packed[0] == prompt + k * completion
        assert packed[1] == prompt * (prompt + 1) // 2 + k * (
            completion * prompt + completion * (completion + 1) // 2
        )
        scored = k * completion
        ratios = (plain[0] / packed[0], flops(*plain, scored) / flops(*packed, scored))
        assert ratios == pytest.approx(expected, abs=5.1e-3)
