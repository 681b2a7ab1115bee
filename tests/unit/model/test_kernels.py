"""The training pass's Triton kernels, by Triton's interpreter, against plain operations.

In fp32 and fp16. In bf16, which the interpreter does not multiply, a card checks them:
scripts/cuda_checks.py.
"""

import pytest
import torch

from grpo_dual.model import head, llama
from interpreted import assert_near, require_interpreter

require_interpreter()

from grpo_dual.model import head_kernels, kernels  # noqa: E402


@pytest.mark.parametrize("added", [False, True])
def test_norm_of_a_sum(added: bool):
    torch.manual_seed(0)
    x, g, past = (torch.randn(5, 96) for _ in range(3))
    branch, w = (torch.randn(5, 96) if added else None), torch.randn(96)
    total = (x.clone() if branch is None else x + branch).requires_grad_()
    y = w * (total * torch.rsqrt(total.pow(2).mean(-1, keepdim=True) + 1e-5))
    (grad,) = torch.autograd.grad((y, total), total, (g, past))
    found = kernels.norm_forward(x, branch, w, 1e-5)
    assert_near(found.total, total.detach(), 0)
    assert_near(found.y, y.detach())
    back, low = kernels.norm_backward(g, past, found.kept, w, found.root, added=added)
    assert_near(back, grad)
    assert (low is None) is not added
    if low is not None:
        assert_near(low, grad)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("added", [False, True])
def test_add_norm_is_the_plain_one_s_gradient(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, added: bool
):
    """The stream stays fp32 whatever the weight's dtype."""
    torch.manual_seed(0)
    x = torch.randn(5, 96, requires_grad=True)
    branch = torch.randn(5, 96).to(dtype).requires_grad_() if added else None
    inputs = [x] if branch is None else [x, branch]
    w, past, g = torch.randn(96).to(dtype), torch.randn(5, 96), torch.randn(5, 96)
    found = []
    for by_kernel in (False, True):
        monkeypatch.setattr(llama, "_by_kernel", lambda _, by_kernel=by_kernel: by_kernel)
        total, y = llama.add_norm(x, branch, w, 1e-5)
        assert (total.dtype, y.dtype) == (torch.float32, dtype)
        grads = torch.autograd.grad((total * past).sum() + (y.float() * g).sum(), inputs)
        found.append((total, y, *grads))
    for plain, own in zip(*found, strict=True):
        assert_near(own.detach(), plain.detach(), 1e-5 if dtype == torch.float32 else 2e-3)


def test_gated_unit():
    """1,500 columns are more than a block."""
    torch.manual_seed(0)
    both, g = torch.randn(3, 2 * 1500, requires_grad=True), torch.randn(3, 1500)
    gate, up = both.chunk(2, -1)
    y = torch.nn.functional.silu(gate) * up
    y.backward(g)
    assert_near(kernels.gated(both.detach()), y.detach())
    assert both.grad is not None
    assert_near(kernels.gated_backward(g, both.detach()), both.grad)


def test_rotation_and_back():
    """Three query heads and two key heads are turned, two value heads are not."""
    torch.manual_seed(0)
    x = torch.randn(4, 7 * 16)
    angle = torch.randn(4, 8)
    cos, sin = (t.repeat(1, 2) for t in (angle.cos(), angle.sin()))
    heads = x.view(4, 7, 16)
    one, two = heads.chunk(2, -1)
    turned = heads * cos[:, None] + torch.cat([-two, one], -1) * sin[:, None]
    turned[:, 5:] = heads[:, 5:]
    found = x.clone()
    kernels.rotate_(found, cos, sin, 5)
    assert_near(found, turned.reshape(4, -1))
    kernels.rotate_(found, cos, sin, 5, back=True)
    assert_near(found, x)


@pytest.mark.parametrize("vocabulary", [50, 4096, 10_000])
def test_head(vocabulary: int):
    """A row of which two ids can be drawn, and a peaked one."""
    torch.manual_seed(0)
    logits = 6 * torch.randn(4, vocabulary)
    logits[1] = -torch.inf
    logits[1, [3, vocabulary - 5]] = torch.tensor([1.0, 2.0])
    logits[2] *= 5
    chosen = torch.randint(0, vocabulary, (4,))
    chosen[1] = vocabulary - 5
    truth = head._describe(logits.double(), chosen, 0.7)
    found = head_kernels.described(logits, chosen, 0.7)
    for one, two in zip(found, truth, strict=True):
        assert_near(one, two)
    slopes = head._slopes(logits.double(), chosen, truth.log_z, 0.7, torch.float64)
    assert_near(head_kernels.slopes(logits, chosen, found[-1], 0.7, torch.float32), slopes)
