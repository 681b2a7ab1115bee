"""RMS norms as one kernel, by Triton's interpreter: rounded as the module itself rounds."""

from typing import Any

import pytest
import torch
from torch import nn
from transformers.models.gemma3.modeling_gemma3 import Gemma3RMSNorm
from transformers.models.llama.modeling_llama import LlamaRMSNorm
from transformers.models.olmo2.modeling_olmo2 import Olmo2RMSNorm

import tiny_models
from grpo_dual.model import norms
from interpreted import require_interpreter

require_interpreter()

WAYS: dict[str, tuple[Any, norms.Rounding]] = {
    "llama": (LlamaRMSNorm, norms.Rounding(twice=True, shifted=False)),
    "olmo2": (Olmo2RMSNorm, norms.Rounding(twice=False, shifted=False)),
    "gemma3": (Gemma3RMSNorm, norms.Rounding(twice=False, shifted=True)),
}


def half(kind: Any, width: int = 96) -> nn.Module:
    """In 16 bit with random weights; the interpreter knows no bf16."""
    made = kind(width, eps=1e-3).half()
    torch.manual_seed(0)
    nn.init.normal_(made.weight, 0.8, 0.2)
    return made.requires_grad_(False)


@pytest.fixture(autouse=True)
def on_a_card(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        norms,
        "_by_kernel",
        lambda x, w: x.dtype == w.dtype == torch.float16 and not x.requires_grad,
    )


@pytest.mark.parametrize("family", WAYS)
def test_each_family_is_known_by_what_it_gives(family: str) -> None:
    kind, expected = WAYS[family]
    assert norms._rounding(half(kind), 1e-3) == expected


@pytest.mark.parametrize("family", WAYS)
def test_rows_of_any_shape_are_the_module_s_to_the_bit(
    family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = half(WAYS[family][0])
    x = torch.randn(2, 5, 3, 96).half().transpose(1, 2)  # heads, turned round
    truth = module(x)
    used = norms.Norms()
    assert used.take_over(nn.ModuleList([module])) == 1
    calls: list[torch.Size] = []
    normed = norms._normed

    def counted(x: torch.Tensor, *args: Any) -> torch.Tensor:
        calls.append(x.shape)
        return normed(x, *args)

    monkeypatch.setattr(norms, "_normed", counted)
    assert torch.equal(module(x), truth)
    assert calls == []
    with used.fused():
        found = module(x)
        assert calls == [x.shape]
        assert found.shape == truth.shape
        assert float((found == truth).double().mean()) > 0.999
        # Where a gradient is asked for, and in other dtypes, it is the module's own.
        wide, graded = x.float(), x.detach().requires_grad_()
        assert torch.equal(module(wide), type(module).forward(module, wide))
        (grad,) = torch.autograd.grad(module(graded).float().sum(), graded)
        assert float(grad.abs().max()) > 0
    assert torch.equal(module(x), truth)
    assert calls == [x.shape]


class HalvedRMSNorm(LlamaRMSNorm):
    """A way that is not known."""

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return super().forward(hidden_states) / 2


def test_what_gives_something_else_is_left_alone() -> None:
    module, layer = half(HalvedRMSNorm), nn.LayerNorm(96).half()
    before = module(torch.ones(1, 96).half())
    used = norms.Norms()
    assert used.take_over(nn.ModuleList([module, layer])) == 0
    with used.fused():
        assert torch.equal(module(torch.ones(1, 96).half()), before)


def test_rollouts_ask_for_it_and_training_and_reference_passes_do_not() -> None:
    policy = tiny_models.policy()
    policy.freeze_reference()
    with policy.inference(), policy.reference():
        assert not policy._norms._fused
    with policy.sampling():
        assert policy._norms._fused
    assert not policy._norms._fused
