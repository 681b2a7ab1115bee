"""The rollouts' Triton kernels, by Triton's interpreter, against the trainer and plain operations.

In fp32, and where rounding matters in fp16. In bf16, which the interpreter does not multiply, a
card checks them: scripts/cuda_checks.py.
"""

from typing import Any

import pytest
import torch

import tiny_models
from grpo_dual.config.schema import LoraConfig, ModelConfig, SamplingConfig
from grpo_dual.model import llama
from grpo_dual.model.attention import ByGroup
from grpo_dual.model.packing import pack
from grpo_dual.model.policy import Policy
from grpo_dual.rollouts.graph import SIZES, GraphEngine
from grpo_dual.rollouts.pool import Pool, Rows, power_below
from grpo_dual.rollouts.weights import Weights
from interpreted import assert_near, require_interpreter

require_interpreter()

from grpo_dual.rollouts import attending, fused, race_kernels  # noqa: E402


def policy_of(family: str, dtype: torch.dtype, **changes: Any) -> Policy:
    lora = LoraConfig(rank=4, alpha=8, targets=tiny_models.SEVEN)
    config = ModelConfig(dtype="float32", lora=lora, device="cpu")
    return tiny_models.family_policy(family, dtype=dtype, config=config, **changes)


@pytest.mark.filterwarnings("ignore:invalid value encountered in subtract:RuntimeWarning")
@pytest.mark.parametrize("vocabulary", [50, 10_000])
def test_a_token_is_the_race_s_winner(vocabulary: int):
    torch.manual_seed(0)
    logits = 3 * torch.randn(16, vocabulary)
    logits[1] = -torch.inf
    logits[1, 7] = 0.5
    noise = torch.empty_like(logits).exponential_()
    tokens, logprobs = race_kernels.drawn(logits, noise, 0.9)
    truth = torch.log_softmax(logits.double() / 0.9, -1)
    assert tokens.tolist() == (truth - noise.double().log()).argmax(-1).tolist()
    assert_near(logprobs, truth.gather(1, tokens[:, None])[:, 0])


class Interpreted(GraphEngine):
    """The engine as on a card, but for the graphs: fused kernels, sizes that leave fillers."""

    def _decode_step(self) -> fused.Fused:
        return fused.Fused(Weights(self._policy))

    def _size(self, count: int) -> int:
        return next(size for size in SIZES if size >= count)


class Ends(tiny_models.Codec):
    """A third of the ids end a completion."""

    eos_ids = tuple(range(2, tiny_models.VOCABULARY, 3))


@pytest.mark.parametrize(
    ("family", "k", "splits"), [("llama", 5, 2), ("llama", 2, 1), ("qwen2", 3, 8), ("qwen3", 1, 2)]
)
def test_decode_step(monkeypatch: pytest.MonkeyPatch, family: str, k: int, splits: int):
    """Recorded log-probs are the trainer's, whoever stands beside whom.

    Prompts of less and more than a tile of 64 keys. Rows of two prompts meet in one program; 15, 9
    and 3 sequences leave fillers in batches of 16 and 4, and so do those that end.
    """
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (8, 0))
    monkeypatch.setattr(attending, "SPLITS", splits)
    generator = torch.Generator().manual_seed(k)
    prompts = [
        tiny_models.prompt([1, *tiny_models.random_ids(n, generator)], str(n)) for n in (5, 2, 75)
    ]
    policy = policy_of(family, torch.float32)
    sampling = SamplingConfig(max_new_tokens=6)
    torch.manual_seed(4)
    groups = Interpreted(policy, Ends(), sampling, max_sequences=64).generate(prompts, k)
    rows = [(g.prompt.token_ids, [r.token_ids for r in g.rollouts]) for g in groups]
    with torch.no_grad():
        scored = policy.token_stats(pack(rows, tiny_models.PAD), temperature=1.0, chunk=50).logprobs
    drawn = [r for g in groups for r in g.rollouts]
    assert_near(torch.tensor([p for r in drawn for p in r.logprobs]), scored)
    assert len({len(r.token_ids) for r in drawn}) > 1


def test_attention_of_any_rows(monkeypatch: pytest.MonkeyPatch):
    """Against a softmax: rows of some completions of some prompts, in order, and fillers.

    Heads of 12 are padded to 16.
    """
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (8, 0))
    monkeypatch.setattr(attending, "KEYS", 16)
    draw = torch.Generator().manual_seed(0)
    pick = lambda *of: of[int(torch.randint(len(of), (), generator=draw))]  # noqa: E731
    for _ in range(25):
        per, kv, k = pick(1, 3, 4), pick(1, 2), pick(1, 3, 5)
        splits, span, dim = pick(1, 2, 8), pick(1, 40), pick(12, 16)
        lengths = [pick(1, 2, 15, 16, 17, 83) for _ in range(pick(1, 2, 3))]
        starts = [sum(lengths[:i]) for i in range(len(lengths) + 1)]
        rows = [
            (starts[i // k], lengths[i // k], starts[-1] + i * span)
            for i in range(len(lengths) * k)
            if pick(True, True, False)
        ]
        slots = starts[-1] + (len(lengths) * k + 1) * span
        rows += [(-1, 0, slots - span)] * (pick(0, 1, 5) if rows else 1)
        prompt, length, own = torch.tensor(rows, dtype=torch.int32).t().contiguous()
        scale = pick(None, 0.4)
        step, m, heads = pick(0, span - 1), len(rows), per * kv
        keys, values, queries = (
            torch.randn(n, h, dim, generator=draw)
            for n, h in ((slots, kv), (slots, kv), (m, heads))
        )
        monkeypatch.setattr(attending, "SPLITS", splits)
        own = Rows(
            tokens=torch.zeros(m, dtype=torch.int64), prompt=prompt, length=length, own=own,
            step=torch.tensor([step], dtype=torch.int32), together=power_below(k),
        )  # fmt: skip
        mixed = attending.attend(queries, own, keys, values, scale)
        for found, query, (start, count, first) in zip(mixed, queries, rows, strict=True):
            seen = [*range(start, start + count), *range(first, first + step + 1)]
            k_, v_ = (t[seen].repeat_interleave(per, 1) for t in (keys, values))
            weights = torch.softmax(
                torch.einsum("hd,thd->ht", query, k_) * (scale or dim**-0.5), -1
            )
            assert_near(found, torch.einsum("ht,thd->hd", weights, v_))


def test_the_first_layer_rounds_as_the_training_pass(monkeypatch: pytest.MonkeyPatch):
    """In 16 bit a step of a model of one layer gives the trainer's states, to the bit.

    Tokens without a prompt, which see themselves alone: attention has nothing to round. What may be
    left are sums in another order. By ``x w`` for one of the two norms a third would be the same.
    """
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (8, 0))
    policy = policy_of("llama", torch.float16, layers=1)
    monkeypatch.setattr(llama, "_by_kernel", lambda x: x.element_size() == 2)
    weights = Weights(policy)
    weights.refresh()
    ids = torch.arange(4, tiny_models.VOCABULARY)
    ints = lambda values: torch.as_tensor(values, dtype=torch.int32)  # noqa: E731
    rows = Rows(
        tokens=ids, prompt=ints([-1] * len(ids)), length=ints([0] * len(ids)),
        own=ints(range(len(ids))), step=ints([0]), together=1,
    )  # fmt: skip
    step = fused.Fused(weights)
    step.reserve(4)
    with torch.no_grad():
        found = step.hidden(rows, Pool.allocate(step.slot, len(ids)))
        alone = ByGroup([[1]] * len(ids), torch.float16)
        trained = policy.flat_states(ids, torch.zeros_like(ids), alone)
    assert float((found == trained).double().mean()) > 0.99


def test_power_below() -> None:
    assert [power_below(n) for n in (0, 1, 2, 3, 4, 7, 8)] == [1, 1, 2, 2, 4, 4, 8]
