"""The head's bf16 path on CUDA (bf16 operands, fp32 accumulation and output) and its memory."""

import pytest
import torch

from grpo_dual.model.head import token_stats

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


def test_bf16_head_is_fp32_exact_and_never_holds_all_logits() -> None:
    tokens, width, vocabulary, chunk = 2048, 1024, 128_256, 256
    generator = torch.Generator("cuda").manual_seed(0)
    weight = torch.randn(vocabulary, width, generator=generator, device="cuda").bfloat16()
    hidden = (torch.randn(tokens, width, generator=generator, device="cuda") / 8).bfloat16()
    targets = torch.randint(0, vocabulary, (tokens,), generator=generator, device="cuda")
    hidden.requires_grad_()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    stats = token_stats(hidden, weight, targets, temperature=0.9, chunk=chunk)
    stats.logprobs.sum().backward()
    # Five fp32 copies of a chunk's logits at most; all at once would be 8 chunks' worth each.
    assert torch.cuda.max_memory_allocated() - before < 5.5 * chunk * vocabulary * 4
    few = hidden.detach()[:32].double().requires_grad_()
    logits = few @ weight.double().T / 0.9
    truth = torch.log_softmax(logits, -1).gather(1, targets[:32, None])[:, 0]
    assert (stats.logprobs[:32] - truth).abs().max() < 1e-4
    (expected,) = torch.autograd.grad(truth.sum(), few)
    assert hidden.grad is not None
    # bf16 rounds the result and d_logits: 2^-8 each.
    assert (hidden.grad[:32] - expected).norm() < 1e-2 * expected.norm()
