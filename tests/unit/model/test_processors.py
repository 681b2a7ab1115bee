"""Processed sampling: worked numbers of algorithms.md section 5, and Transformers as the oracle."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from transformers import RepetitionPenaltyLogitsProcessor, TopKLogitsWarper, TopPLogitsWarper

import tiny_models
from grpo_dual.config.schema import SamplingConfig
from grpo_dual.errors import ModelError
from grpo_dual.model.head import token_stats
from grpo_dual.model.packing import PackedBatch, flatten, pack, unpack
from grpo_dual.model.processors import Replay, keep_mask, penalise, seen_ids

NO_IDS = torch.zeros(1, 1, dtype=torch.long)


def test_truncation_by_hand() -> None:
    # T5.2a: p = (.5, .3, .15, .05), top_p .9 keeps 3 of mass .95; mu is p over .95.
    p = torch.tensor([[0.5, 0.3, 0.15, 0.05]], dtype=torch.float64)
    kept = keep_mask(p.log(), top_k=0, top_p=0.9)
    assert kept.tolist() == [[True, True, True, False]]
    mu = torch.softmax(p.log().masked_fill(~kept, -torch.inf), -1)[0]
    expected = torch.tensor([0.526316, 0.315789, 0.157895, 0.0], dtype=torch.float64)
    assert torch.allclose(mu, expected, atol=5e-7)
    # An uncorrected gradient points to mu - p, whatever the advantage: sharper on S, tail up.
    drift = torch.tensor([0.02632, 0.01579, 0.00789, -0.05], dtype=torch.float64)
    assert torch.allclose(mu - p[0], drift, atol=5e-6)
    assert torch.special.entr(p).sum().item() == pytest.approx(1.142120, abs=5e-7)
    assert torch.special.entr(mu).sum().item() == pytest.approx(0.993268, abs=5e-7)


def test_penalty_temperature_and_truncation_by_hand() -> None:
    # T5.2b: z = (20, 18, 17, 15, 10), id 0 seen, rp 1.18: z'_0 = 16.94915; then T .9, top_p .9.
    logits = torch.tensor([[20.0, 18, 17, 15, 10]], dtype=torch.float64)
    seen = torch.tensor([[True, False, False, False, False]])
    processed = penalise(logits, seen, 1.18)
    assert processed[0, 0].item() == pytest.approx(16.94915, abs=5e-6)
    kept = keep_mask(processed / 0.9, top_k=100, top_p=0.9)
    mu = torch.softmax((processed / 0.9).masked_fill(~kept, -torch.inf), -1)[0]
    expected = torch.tensor([0.18967, 0.60964, 0.20069, 0, 0], dtype=torch.float64)
    assert torch.allclose(mu, expected, atol=5e-6)
    pi = torch.softmax(logits / 0.9, -1)[0]
    weights = torch.tensor([4.593, 0.1549, 0.1549], dtype=torch.float64)
    assert torch.allclose(pi[:3] / mu[:3], weights, atol=5e-4)


@pytest.mark.parametrize(("top_k", "top_p"), [(0, 0.9), (5, 1.0), (20, 0.5), (3, 0.99), (500, 0.1)])
def test_kept_ids_are_those_of_transformers(top_k: int, top_p: float) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(50, 40, generator=generator) * 3
    logits[:10] = logits[:10].round()  # ties at the k-th value
    expected = logits
    if top_k:
        expected = TopKLogitsWarper(top_k)(NO_IDS, expected)
    if top_p < 1:
        expected = TopPLogitsWarper(top_p)(NO_IDS, expected)
    assert torch.equal(keep_mask(logits, top_k, top_p), expected.isfinite())


def test_the_penalty_is_that_of_transformers() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(4, 30, generator=generator)
    ids = torch.randint(0, 30, (4, 12), generator=generator)
    seen = torch.zeros(4, 30, dtype=torch.bool).scatter_(1, ids, True)
    expected = RepetitionPenaltyLogitsProcessor(1.18)(ids, logits.clone())
    assert torch.allclose(penalise(logits, seen, 1.18), expected, rtol=1e-6)


def test_seen_ids_are_the_prefix() -> None:
    groups = [([4, 5], [[6, 7], [8]]), ([9], [[4]])]
    for layout in (pack, unpack):
        seen = seen_ids(layout(groups, 0), 0, 4, vocabulary=10)
        found = [row.nonzero().flatten().tolist() for row in seen]
        assert found == [[4, 5], [4, 5, 6], [4, 5], [9]]


def dense_replay(
    logits: Tensor,
    sampling: SamplingConfig,
    token: int,
    prefix: list[int],
    offset: int,
    kept: list[int] | None,
) -> Tensor:
    """One token's processed log-prob, written out."""
    seen = torch.zeros_like(logits, dtype=torch.bool)
    seen[prefix] = True
    rp = sampling.repetition_penalty
    processed = torch.where(seen, torch.where(logits < 0, logits * rp, logits / rp), logits)
    forbidden = torch.zeros_like(seen)
    if offset < sampling.min_new_tokens:
        forbidden[[2, 3]] = True
    if kept is not None:
        outside = torch.ones_like(seen)
        outside[kept] = False
        forbidden |= outside
    processed = processed.masked_fill(forbidden, -torch.inf) / sampling.temperature
    return torch.log_softmax(processed, -1)[token]


@pytest.mark.parametrize("truncated", [False, True])
@pytest.mark.parametrize("chunk", [1, 3, 100])
@pytest.mark.parametrize("layout", [lambda groups: pack(groups, 0), flatten], ids=["rows", "flat"])
def test_replayed_log_probs_and_gradients(
    layout: Callable[..., PackedBatch], chunk: int, truncated: bool
) -> None:
    sampling = SamplingConfig(
        max_new_tokens=9,
        min_new_tokens=2,
        temperature=0.9,
        top_k=5 if truncated else 0,
        repetition_penalty=1.18,
    )
    groups = [([4, 5, 5, 9], [[6, 7, 6, 2], [8, 4, 3]]), ([9, 11], [[4, 9]])]
    batch = layout(groups)
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(batch.num_tokens, 6, generator=generator, dtype=torch.float64)
    weight = torch.randn(30, 6, generator=generator, dtype=torch.float64)
    hidden.requires_grad_()
    completions = [(p, c) for p, cs in groups for c in cs]
    kept = (
        [sorted({t, 12, 13, 20 + i, 29}) for i, t in enumerate(batch.targets.tolist())]
        if truncated
        else None
    )
    replay = Replay(batch, sampling, (2, 3), kept)
    stats = token_stats(
        hidden, weight, batch.targets, temperature=0.9, chunk=chunk, processor=replay
    )
    rows = iter(range(batch.num_tokens))
    expected = torch.stack(
        [
            dense_replay(
                hidden[n] @ weight.T,
                sampling,
                token,
                p + c[:t],
                t,
                None if kept is None else kept[n],
            )
            for p, c in completions
            for t, token in enumerate(c)
            for n in [next(rows)]
        ]
    )
    assert torch.allclose(stats.logprobs, expected, rtol=0, atol=1e-12)
    upstream = torch.linspace(-1, 2, batch.num_tokens, dtype=torch.float64)
    (gradient,) = torch.autograd.grad((stats.logprobs * upstream).sum(), hidden)
    (truth,) = torch.autograd.grad((expected * upstream).sum(), hidden)
    assert torch.allclose(gradient, truth, rtol=0, atol=1e-12)
    # The model's own statistics do not know of the processing.
    plain = token_stats(hidden, weight, batch.targets, temperature=1.0, chunk=100)
    assert torch.allclose(stats.logprobs_model, plain.logprobs, rtol=0, atol=1e-12)
    assert torch.allclose(stats.entropy, plain.entropy, rtol=0, atol=1e-12)
    assert stats.entropy_sampling.isfinite().all()


def test_what_cannot_be_replayed_is_refused() -> None:
    batch = pack([([4], [[5, 6]])], 0)
    truncating = SamplingConfig(top_p=0.9)
    with pytest.raises(ModelError, match="carry no kept ids"):
        Replay(batch, truncating, (2,), None)
    with pytest.raises(ModelError, match="1 lists of kept ids for 2"):
        Replay(batch, truncating, (2,), [[5]])
    with pytest.raises(ModelError, match=r"token 1 \(id 6\) is not among its 1 kept ids"):
        Replay(batch, truncating, (2,), [[5], [5]])


def test_a_policy_replays_in_both_layouts() -> None:
    policy = tiny_models.policy(0)
    groups = [([5, 6, 7], [[8, 2], [9, 10, 3]])]
    sampling = SamplingConfig(repetition_penalty=1.3, min_new_tokens=1)
    values = []
    for layout in (pack, unpack):
        batch = layout(groups, 0)
        replay = Replay(batch, sampling, (2, 3), None)
        values.append(
            policy.token_stats(batch, temperature=1.0, chunk=2, processor=replay).logprobs
        )
    assert torch.allclose(*values, rtol=0, atol=1e-5)
