"""Soups are exact: the adapter's change is the weighted sum of its parts' changes."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model

from grpo_dual.errors import CheckpointError
from grpo_dual.model.soups import Adapter, read_adapter, soup, write_soup
from tiny_models import llama

# PEFT asks transformers under the old name.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated")


def test_worked_numbers_are_the_sum_not_the_average_of_factors() -> None:
    # A1 = [1 0], B1 = [1; 0], A2 = [0 1], B2 = [0; 1], half of each: diag(.5, .5). Averaging the
    # factors gives .25 everywhere, PEFT's "linear" .5 everywhere.
    def adapter(a: list[float], b: list[float]) -> Adapter:
        tensors = {
            "m.lora_A.weight": torch.tensor([a]),
            "m.lora_B.weight": torch.tensor([b]).T.contiguous(),
        }
        return Adapter(Path("x"), {"r": 1, "lora_alpha": 1}, tensors)

    config, tensors = soup([(adapter([1, 0], [1, 0]), 0.5), (adapter([0, 1], [0, 1]), 0.5)])
    change = tensors["m.lora_B.weight"] @ tensors["m.lora_A.weight"]
    assert torch.equal(change, torch.diag(torch.tensor([0.5, 0.5])))
    assert (config["r"], config["lora_alpha"]) == (2, 2)


def trained(folder: Path, seed: int, **settings: Any) -> Path:
    """An adapter with weights as if it had been trained: B is not zero."""
    lora = LoraConfig(target_modules=["q_proj", "down_proj"], task_type="CAUSAL_LM", **settings)
    model = get_peft_model(llama(), lora)
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data.copy_(torch.randn(parameter.shape, generator=generator) / 4)
    model.save_pretrained(str(folder))
    return folder


def merged(folder: Path) -> dict[str, torch.Tensor]:
    model = PeftModel.from_pretrained(llama(), str(folder)).merge_and_unload()
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def test_peft_loads_the_sum_and_merges_it_to_the_weighted_sum_of_changes(tmp_path: Path) -> None:
    one = trained(tmp_path / "one", 1, r=2, lora_alpha=4)
    two = trained(tmp_path / "two", 2, r=3, lora_alpha=5, use_rslora=True)
    assert write_soup([(one, 0.3), (two, 0.9)], tmp_path / "sum") == 5
    base = {name: p.detach() for name, p in llama().named_parameters()}
    first, second, both = merged(one), merged(two), merged(tmp_path / "sum")
    moved = 0
    for name, weight in base.items():
        expected = weight + 0.3 * (first[name] - weight) + 0.9 * (second[name] - weight)
        assert (both[name] - expected).abs().max() <= 1e-6 * max(1.0, expected.abs().max().item())
        moved += not torch.equal(both[name], weight)
    assert moved == 4  # two modules of two layers


def test_one_adapter_with_weight_one_is_itself(tmp_path: Path) -> None:
    one = trained(tmp_path / "one", 1, r=2, lora_alpha=4)
    write_soup([(one, 1.0)], tmp_path / "same")
    for name, weight in merged(one).items():
        assert torch.allclose(weight, merged(tmp_path / "same")[name], atol=1e-6)


def edit(folder: Path, **changes: object) -> None:
    file = folder / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"peft_type": "IA3"}, "LoRA"),
        ({"bias": "all"}, "bias"),
        ({"use_dora": True}, "use_dora"),
        ({"rank_pattern": {"q_proj": 4}}, "rank_pattern"),
    ],
)
def test_what_is_no_plain_lora_is_refused(
    changes: dict[str, object], names: str, tmp_path: Path
) -> None:
    one = trained(tmp_path / "one", 1, r=2)
    edit(one, **changes)
    with pytest.raises(CheckpointError, match=names):
        read_adapter(one)


def test_adapters_of_other_models_or_modules_are_refused(tmp_path: Path) -> None:
    one, two = (trained(tmp_path / name, 1, r=2) for name in ("one", "two"))
    edit(two, base_model_name_or_path="another/model")
    with pytest.raises(CheckpointError, match="base_model_name_or_path"):
        write_soup([(one, 0.5), (two, 0.5)], tmp_path / "sum")
    lora = LoraConfig(target_modules=["q_proj"], task_type="CAUSAL_LM", r=2)
    get_peft_model(llama(), lora).save_pretrained(str(tmp_path / "three"))
    with pytest.raises(CheckpointError, match="modules"):
        write_soup([(one, 0.5), (tmp_path / "three", 0.5)], tmp_path / "sum")
    assert not (tmp_path / "sum").exists()


def test_nothing_is_overwritten_and_nothing_half_written(tmp_path: Path) -> None:
    one = trained(tmp_path / "one", 1, r=2)
    (tmp_path / "sum").mkdir()
    with pytest.raises(CheckpointError, match="exists already"):
        write_soup([(one, 1.0)], tmp_path / "sum")
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="cannot be written"):
        write_soup([(one, 1.0)], tmp_path / "file" / "sum")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "one", "sum"]
    with pytest.raises(CheckpointError, match=r"adapter_config\.json"):
        read_adapter(tmp_path / "nowhere")
