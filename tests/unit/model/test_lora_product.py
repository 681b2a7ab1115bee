"""The LoRA product is PEFT's, with a backward of its own."""

import pytest
import torch
from torch import Tensor, nn

import tiny_models
from grpo_dual.config.schema import LoraConfig, ModelConfig
from grpo_dual.model.lora import LoraProduct, use_products
from grpo_dual.model.packing import pack
from grpo_dual.model.policy import Policy

GROUPS = [([4, 5, 6, 7], [[8, 9, 10], [11, 12]]), ([13, 14], [[15, 16]])]


def test_its_backward_by_finite_differences() -> None:
    generator = torch.Generator().manual_seed(0)
    make = lambda *shape: torch.randn(  # noqa: E731
        *shape, generator=generator, dtype=torch.float64
    )
    x, a, b = (t.requires_grad_() for t in (make(2, 3, 5), make(2, 5), make(4, 2)))
    weight, bias = make(4, 5), make(4)
    product = lambda x, a, b: LoraProduct.apply(x, weight, bias, a, b, 0.7)  # noqa: E731
    assert torch.autograd.gradcheck(product, (x, a, b))
    # y = x W^T + bias + .7 x A^T B^T
    expected = x @ weight.T + bias + 0.7 * (x @ a.T) @ b.T
    assert torch.allclose(product(x, a, b), expected, rtol=0, atol=1e-14)


def run(policy: Policy) -> tuple[Tensor, list[Tensor]]:
    logprobs = policy.token_stats(pack(GROUPS, 0), temperature=1.0, chunk=4).logprobs
    parameters = [p for _, p in policy.trainable_parameters()]
    return logprobs.detach(), list(torch.autograd.grad((logprobs * 1.5).sum(), parameters))


def test_a_policy_computes_the_same_with_it() -> None:
    policy = tiny_models.policy(1, dtype=torch.float64)
    values, gradients = run(policy)
    use_products(policy.model)
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
    use_products(policy.model)
    monkeypatch.setattr(LoraProduct, "apply", None)  # cannot be called
    with policy.adapter_dropout(), torch.no_grad():
        policy.token_stats(pack(GROUPS, 0), temperature=1.0, chunk=4)
    with pytest.raises(TypeError):
        policy.token_stats(pack(GROUPS, 0), temperature=1.0, chunk=4)


def test_gradients_in_16_bit_are_those_of_32_within_rounding() -> None:
    """bf16 has 8 bits: products of 48 terms stay within a few per cent of the fp32 ones."""
    generator = torch.Generator().manual_seed(0)
    x, weight, a, b = (
        torch.randn(*shape, generator=generator) for shape in ((64, 48), (32, 48), (8, 48), (32, 8))
    )
    upstream = torch.randn(64, 32, generator=generator)

    def gradients(dtype: torch.dtype) -> list[Tensor]:
        inputs = [x.to(dtype).requires_grad_(), a.requires_grad_(), b.requires_grad_()]
        y = LoraProduct.apply(inputs[0], weight.to(dtype), None, inputs[1], inputs[2], 2.0)
        assert isinstance(y, Tensor)
        assert y.dtype == dtype
        return list(torch.autograd.grad((y.float() * upstream).sum(), inputs))

    for half, whole in zip(gradients(torch.bfloat16), gradients(torch.float32), strict=True):
        assert half.dtype == (torch.bfloat16 if half.shape == x.shape else torch.float32)
        assert (half.float() - whole).norm() <= 0.01 * whole.norm()


def test_other_layers_are_left_alone() -> None:
    layer = nn.Linear(3, 3)
    use_products(layer)
    assert "forward" not in vars(layer)
