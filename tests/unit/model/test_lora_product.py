"""Joined LoRA layers are PEFT's layers, with a backward of their own."""

from typing import Any

import pytest
import torch
from peft import LoraConfig as PeftLoraConfig
from peft import get_peft_model
from torch import Tensor, nn

import tiny_models
from grpo_dual.config.schema import LoraConfig, ModelConfig
from grpo_dual.model.joined import Joined, Stages
from grpo_dual.model.lora import use_products
from grpo_dual.model.packing import pack
from grpo_dual.model.policy import Policy

GROUPS = [([4, 5, 6, 7], [[8, 9, 10], [11, 12]]), ([13, 14], [[15, 16]])]
SCALE = 0.7


class Two(nn.Module):
    """Two layers that read the same input."""

    def __init__(self, wide: int, bias: bool) -> None:
        super().__init__()
        self.q = nn.Linear(wide, 32, bias=bias)
        self.k = nn.Linear(wide, 8, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.q(x), self.k(x)], -1)


def layers(dtype: torch.dtype, *, wide: int = 48, bias: bool = True) -> list[Any]:
    """``q`` and ``k`` with random rank-4 adapters, the adapters in fp32 at least."""
    torch.manual_seed(0)
    config = PeftLoraConfig(r=4, lora_alpha=4 * SCALE, target_modules=["q", "k"])  # pyright: ignore[reportArgumentType]
    model: Any = get_peft_model(Two(wide, bias).to(dtype), config)  # pyright: ignore[reportArgumentType]
    for name, parameter in model.named_parameters():
        if ".lora_" in name:
            parameter.data = torch.randn_like(parameter)
            if dtype == torch.float64:
                parameter.data = parameter.data.double()
    return [model.base_model.model.q, model.base_model.model.k]


def plainly(x: Tensor, modules: list[Any]) -> Tensor:
    """The formula, for autograd: y = x W^T + bias + s (x A^T) B^T of each."""
    parts = []
    for m in modules:
        base, a, b = m.base_layer, m.lora_A["default"].weight, m.lora_B["default"].weight
        bias = 0 if base.bias is None else base.bias.to(a.dtype)
        parts.append(x @ base.weight.to(a.dtype).T + bias + SCALE * (x @ a.T) @ b.T)
    return torch.cat(parts, -1)


def adapters(modules: list[Any]) -> list[Tensor]:
    return [p for m in modules for p in (m.lora_A["default"].weight, m.lora_B["default"].weight)]


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("bias", [False, True])
def test_values_and_gradients_are_those_of_the_formula(count: int, bias: bool) -> None:
    modules = layers(torch.float64, bias=bias)[:count]
    x = torch.randn(9, 48, dtype=torch.float64, requires_grad=True)
    inputs = [x, *adapters(modules)]
    expected = plainly(x, modules)
    upstream = torch.randn_like(expected)
    truth = torch.autograd.grad((expected * upstream).sum(), inputs)
    found = Joined(*modules)(x)
    own = torch.autograd.grad((found * upstream).sum(), inputs)
    assert (found - expected).abs().max() <= 1e-12
    for one, two in zip(own, truth, strict=True):
        assert (one - two).norm() <= 1e-12 * two.norm()


def test_gradients_in_16_bit_are_those_of_32_within_rounding() -> None:
    """bf16 has 8 bits: products of 48 terms stay within a few per cent of the fp32 ones."""
    modules = layers(torch.bfloat16)
    x = torch.randn(64, 48).bfloat16()
    upstream = torch.randn(64, 40)
    whole_x, half_x = x.float().requires_grad_(), x.clone().requires_grad_()
    truth = torch.autograd.grad(
        (plainly(whole_x, modules) * upstream).sum(), [whole_x, *adapters(modules)]
    )
    y = Joined(*modules)(half_x)
    assert y.dtype == torch.bfloat16
    own = torch.autograd.grad((y.float() * upstream).sum(), [half_x, *adapters(modules)])
    assert [g.dtype for g in own] == [torch.bfloat16, *[torch.float32] * 4]
    for one, two in zip(own, truth, strict=True):
        assert (one.float() - two).norm() <= 0.01 * two.norm()


def run(policy: Policy) -> tuple[Tensor, list[Tensor]]:
    logprobs = policy.token_stats(pack(GROUPS, 0), temperature=1.0, chunk=4).logprobs
    parameters = [p for _, p in policy.trainable_parameters()]
    return logprobs.detach(), list(torch.autograd.grad((logprobs * 1.5).sum(), parameters))


def test_a_policy_computes_the_same_with_it() -> None:
    policy = tiny_models.policy(1, dtype=torch.float64)
    values, gradients = run(policy)
    use_products(policy.model, Stages())
    found, own = run(policy)
    assert (found - values).abs().max() <= 1e-12
    for one, two in zip(own, gradients, strict=True):
        assert (one - two).norm() <= 1e-12 * two.norm()
    # The reference is another adapter, frozen as it was.
    policy.freeze_reference()
    tiny_models.randomise(policy)
    with policy.reference():
        reference = policy.token_stats(pack(GROUPS, 0), temperature=1.0, chunk=4).logprobs
    assert (reference - values).abs().max() <= 1e-12
    assert (run(policy)[0] - values).abs().max() > 1e-3
    tuner = policy.model.base_model
    tuner.disable_adapter_layers()
    with torch.no_grad():
        none = policy.token_stats(pack(GROUPS, 0), temperature=1.0, chunk=4).logprobs
        row = torch.tensor([GROUPS[0][0] + GROUPS[0][1][0]])
        own = policy.causal_lm(input_ids=row).logits[0, 3:-1].log_softmax(-1)
    assert (none[:3] - own.gather(1, row[0, 4:, None])[:, 0]).abs().max() <= 1e-12


def test_dropout_stays_pefts(monkeypatch: pytest.MonkeyPatch) -> None:
    """It draws a mask for each layer, which the product knows nothing of."""
    config = ModelConfig(
        dtype="float32", device="cpu", lora=LoraConfig(rank=4, dropout=0.5, targets=("q_proj",))
    )
    policy = tiny_models.policy(config=config)
    use_products(policy.model, Stages())
    monkeypatch.setattr(Joined, "__call__", None)  # cannot be called
    with policy.adapter_dropout(), torch.no_grad():
        policy.token_stats(pack(GROUPS, 0), temperature=1.0, chunk=4)
    with pytest.raises(TypeError):
        policy.token_stats(pack(GROUPS, 0), temperature=1.0, chunk=4)


def test_other_layers_are_left_alone() -> None:
    layer = nn.Linear(3, 3)
    use_products(layer, Stages())
    assert "forward" not in vars(layer)
