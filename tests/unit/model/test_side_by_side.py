"""Weights of one input lie below each other, with room for an adapter; nothing else is touched."""

import torch
from torch import Tensor, nn

import tiny_models
from grpo_dual.config.schema import LoraConfig, ModelConfig
from grpo_dual.model.family import padded_rank, side_by_side


def parameters(*rows: int) -> list[nn.Parameter]:
    return [nn.Parameter(torch.randn(n, 3), requires_grad=False) for n in rows]


def copies(own: list[nn.Parameter]) -> Tensor:
    return torch.cat([p.detach().clone() for p in own])


def test_the_parameters_become_its_first_rows_and_the_spare_ones_are_zero():
    own = parameters(2, 4)
    before = copies(own)
    whole = side_by_side(own, 3)
    assert torch.equal(whole, torch.cat([before, torch.zeros(3, 3)]))
    whole[:6] += 1
    assert torch.equal(copies(own), before + 1)


def test_it_is_made_once_unless_more_room_is_wanted():
    own = parameters(2, 4)
    whole = side_by_side(own, 2)
    assert side_by_side(own, 2) is whole
    assert side_by_side(own) is whole
    before = copies(own)
    wider = side_by_side(own, 5)
    assert wider.data_ptr() != whole.data_ptr()
    assert torch.equal(wider[:6], before)
    assert side_by_side(own, 2) is wider


def test_what_stands_behind_a_parameter_in_its_storage_is_not_taken_for_room():
    """Loaders hand out views of one buffer: here the third matrix follows the first two."""
    buffer = torch.randn(9, 3)
    own = [nn.Parameter(part, requires_grad=False) for part in buffer.split([2, 4, 3])]
    before = buffer.clone()
    side_by_side(own[:2], 3)[6:] = 7.0
    assert torch.equal(copies(own), before)


def test_parameters_that_were_moved_since_are_laid_anew():
    own = parameters(2, 4)
    whole = side_by_side(own, 1)
    own[1].data = own[1].data.clone()
    assert side_by_side(own, 1) is not whole
    half = parameters(2)
    side_by_side(half)
    half[0].data = half[0].data.double()
    assert side_by_side(half).dtype == torch.float64


def test_ranks_are_those_of_tensor_cores():
    """Rank 4 is staged as 16, 17 as 32, 40 as 64."""
    for rank, staged in ((4, 16), (16, 16), (17, 32), (40, 64)):
        config = ModelConfig(dtype="float32", device="cpu", lora=LoraConfig(rank=rank, alpha=8))
        policy = tiny_models.family_policy("llama", dtype=torch.float32, config=config)
        assert padded_rank(policy.model) == staged
