"""The chunked head against a dense one (algorithms.md section 7)."""

import pytest
import torch
from torch import Tensor

from grpo_dual.errors import ModelError
from grpo_dual.model.head import TokenStats, project, token_stats

TOKENS, WIDTH, VOCABULARY = 23, 16, 301


def inputs(scale: float, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    """States and a head with logits up to +-scale; one target is the vocabulary's last row."""
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(TOKENS, WIDTH, generator=generator, dtype=torch.float64)
    weight = torch.randn(VOCABULARY, WIDTH, generator=generator, dtype=torch.float64)
    weight *= scale / (hidden @ weight.T).abs().max()
    targets = torch.randint(0, VOCABULARY, (TOKENS,), generator=generator)
    targets[-1] = VOCABULARY - 1
    return hidden.to(dtype), weight.to(dtype), targets


def dense(hidden: Tensor, weight: Tensor, targets: Tensor, temperature: float) -> TokenStats:
    """The same statistics with [N, V] logits, in fp64, through autograd."""
    logits = hidden.double() @ weight.double().T
    logp, logp_t = torch.log_softmax(logits, -1), torch.log_softmax(logits / temperature, -1)
    index = targets[:, None]
    return TokenStats(
        logprobs=logp_t.gather(1, index).squeeze(1),
        entropy=-(logp.exp() * logp).sum(-1),
        entropy_sampling=-(logp_t.exp() * logp_t).sum(-1),
        max_prob=logp.exp().amax(-1),
        logprobs_model=logp.gather(1, index).squeeze(1),
    )


@pytest.mark.parametrize("temperature", [0.9, 1.0])
@pytest.mark.parametrize("chunk", [1, 7, 512])
@pytest.mark.parametrize(("scale", "tolerance"), [(5.0, 1e-5), (80.0, 1e-4)])
def test_chunked_is_dense(chunk: int, temperature: float, scale: float, tolerance: float) -> None:
    hidden, weight, targets = inputs(scale)
    hidden.requires_grad_()
    stats = token_stats(hidden, weight, targets, temperature=temperature, chunk=chunk)
    truth = dense(hidden, weight, targets, temperature)
    for name, value in stats._asdict().items():
        assert value.dtype == torch.float32
        assert torch.allclose(value.double(), getattr(truth, name), rtol=0, atol=tolerance), name
    upstream = torch.linspace(-2, 3, TOKENS)
    (gradient,) = torch.autograd.grad((stats.logprobs * upstream).sum(), hidden)
    (expected,) = torch.autograd.grad((truth.logprobs * upstream).sum(), hidden)
    assert torch.allclose(gradient, expected.float(), rtol=1e-4, atol=1e-5 * expected.abs().max())
    assert (gradient - expected).norm() <= 1e-4 * expected.norm()


def test_gradient_matches_finite_differences_in_fp64() -> None:
    hidden, weight, targets = inputs(5.0, torch.float64)

    def logprobs(states: Tensor) -> Tensor:
        return token_stats(states, weight, targets[:4], temperature=0.9, chunk=3).logprobs

    assert torch.autograd.gradcheck(logprobs, hidden[:4].clone().requires_grad_(), atol=1e-8)


def test_a_bias_is_added() -> None:
    hidden, weight, targets = inputs(5.0, torch.float64)
    bias = torch.linspace(-1, 1, VOCABULARY, dtype=torch.float64)
    stats = token_stats(hidden, weight, targets, temperature=1.0, chunk=7, bias=bias)
    logp = torch.log_softmax(hidden @ weight.T + bias, -1)
    assert torch.allclose(stats.logprobs, logp.gather(1, targets[:, None])[:, 0], atol=1e-12)


def test_bf16_states_give_fp32_log_probs() -> None:
    # bf16 logits near 25 are .125 apart; here both sides are upcast first, so the only error is
    # that of fp32 sums.
    hidden, weight, targets = inputs(25.0, torch.bfloat16)
    hidden.requires_grad_()
    stats = token_stats(hidden, weight, targets, temperature=1.0, chunk=7)
    truth = dense(hidden, weight, targets, 1.0)
    assert stats.logprobs.dtype == torch.float32
    assert torch.allclose(stats.logprobs.double(), truth.logprobs, rtol=0, atol=1e-4)
    stats.logprobs.sum().backward()
    assert hidden.grad is not None
    assert hidden.grad.dtype == torch.bfloat16


def test_worked_entropies() -> None:
    # T5.1: logits (2, 1, 0) have entropy .832396 at T=1, .784904 at .9, .556749 at .6.
    weight = torch.tensor([[2.0], [1.0], [0.0]], dtype=torch.float64)
    hidden = torch.ones(1, 1, dtype=torch.float64)
    target = torch.tensor([0])
    for temperature, entropy in ((1.0, 0.832396), (0.9, 0.784904), (0.6, 0.556749)):
        stats = token_stats(hidden, weight, target, temperature=temperature, chunk=1)
        assert stats.entropy_sampling.item() == pytest.approx(entropy, abs=5e-7)
        assert stats.entropy.item() == pytest.approx(0.832396, abs=5e-7)
        # e^2 / (e^2 + e + 1)
        assert stats.max_prob.item() == pytest.approx(0.665241, abs=5e-7)


def test_sampled_minus_log_p_is_not_the_entropy_of_another_temperature() -> None:
    # T5.1: mean of -log p at T=1 under samples of T=.9 is .787367, between the two entropies.
    weight = torch.tensor([[2.0], [1.0], [0.0]], dtype=torch.float64)
    hidden, targets = torch.ones(3, 1, dtype=torch.float64), torch.arange(3)
    stats = token_stats(hidden, weight, targets, temperature=0.9, chunk=2)
    assert -(stats.logprobs.exp() * stats.logprobs_model).sum().item() == pytest.approx(
        0.787367, abs=5e-7
    )


def test_only_logprobs_carry_a_gradient() -> None:
    hidden, weight, targets = inputs(5.0)
    stats = token_stats(hidden.requires_grad_(), weight, targets, temperature=1.0, chunk=7)
    assert [value.requires_grad for value in stats] == [True, False, False, False, False]


def test_memory_is_bounded_by_the_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = []

    def recording(left: Tensor, right: Tensor) -> Tensor:
        product = left @ right
        shapes.append(tuple(product.shape))
        return product

    monkeypatch.setattr("grpo_dual.model.head._matmul", recording)
    hidden, weight, targets = inputs(5.0)
    stats = token_stats(hidden.requires_grad_(), weight, targets, temperature=1.0, chunk=7)
    stats.logprobs.sum().backward()
    assert max(rows for rows, columns in shapes if columns == VOCABULARY) == 7


def test_what_does_not_fit_is_refused() -> None:
    hidden, weight, targets = inputs(5.0)
    with pytest.raises(ModelError, match="requires a gradient"):
        token_stats(hidden, weight.clone().requires_grad_(), targets, temperature=1.0, chunk=7)
    with pytest.raises(ModelError, match="do not fit together"):
        token_stats(hidden[:3], weight, targets, temperature=1.0, chunk=7)
    with pytest.raises(ModelError, match="must be positive"):
        token_stats(hidden, weight, targets, temperature=0.0, chunk=7)


def test_projection_keeps_the_wider_type() -> None:
    hidden, weight, _ = inputs(5.0, torch.bfloat16)
    assert project(hidden, weight).dtype == torch.float32
    assert project(hidden.double(), weight).dtype == torch.float64
