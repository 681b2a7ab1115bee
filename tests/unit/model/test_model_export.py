"""Exported weights: the sum of base and adapter, rounded once; a folder whole or absent."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from torch import nn
from transformers import AutoModelForCausalLM

import tiny_models
from grpo_dual.config.schema import LoraConfig, ModelConfig, SamplingConfig
from grpo_dual.errors import CheckpointError
from grpo_dual.model.export import (
    Decoding,
    merge,
    new_folder,
    write_adapter,
    write_merged,
    write_spoken,
)
from grpo_dual.model.loading import resolve_source
from grpo_dual.model.policy import Policy, load_policy
from grpo_dual.model.soups import Adapter

# PEFT asks transformers under the old name.
pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")


def layer(weight: list[list[float]], dtype: torch.dtype = torch.float32) -> nn.Module:
    model = nn.Module()
    model.m = nn.Linear(2, 2, bias=False, dtype=dtype)
    with torch.no_grad():
        model.m.weight.copy_(torch.tensor(weight))
    return model


def adapter(name: str, a: list[float], b: list[float], alpha: float = 1, **more: Any) -> Adapter:
    tensors = {
        f"base_model.model.{name}.lora_A.weight": torch.tensor([a]),
        f"base_model.model.{name}.lora_B.weight": torch.tensor([b]).T.contiguous(),
    }
    return Adapter(Path("x"), {"r": 1, "lora_alpha": alpha, **more}, tensors)


def test_a_change_is_added_as_worked_by_hand() -> None:
    # s B A = 2 [1; 3] [5 7] = [10 14; 30 42].
    model = layer([[1.0, 2.0], [3.0, 4.0]])
    merge(model, adapter("m", [5, 7], [1, 3], alpha=2), torch.float32)
    assert dict(model.named_parameters())["m.weight"].tolist() == [[11, 16], [33, 46]]


def test_the_sum_is_rounded_once() -> None:
    # Above 1 the steps of bf16 are 2^-7, so 1 + 2^-8 + 2^-17 is above the middle and rounds up.
    # Were the change rounded first, 2^-17 would be lost (steps of 2^-15 there), and 1 + 2^-8, a
    # tie, would round to the even 1.
    change = 2.0**-8 + 2.0**-17
    model = layer([[1.0, 1.0], [1.0, 1.0]], torch.bfloat16)
    merge(model, adapter("m", [1, 0], [change, 0]), torch.bfloat16)
    weight = dict(model.named_parameters())["m.weight"]
    assert weight.dtype is torch.bfloat16
    assert weight.tolist() == [[1 + 2.0**-7, 1.0], [1.0, 1.0]]
    # In fp32 nothing is lost, though the base was in 16 bit.
    model = layer([[1.0, 1.0], [1.0, 1.0]], torch.bfloat16)
    merge(model, adapter("m", [1, 0], [change, 0]), torch.float32)
    assert dict(model.named_parameters())["m.weight"].tolist() == [[1 + change, 1.0], [1.0, 1.0]]


@pytest.mark.parametrize(
    ("found", "says"),
    [
        (adapter("other", [1, 0], [1, 0]), "other.weight is no weight of the base model"),
        (adapter("m", [1, 0, 0], [1, 0]), r"is \(2, 3\) and the weight \(2, 2\)"),
        (adapter("m", [1, 0], [1, 0], fan_in_fan_out=True), "does not belong"),
        (adapter("m", [torch.inf, 0], [1, 0]), "m is not finite; the run had diverged"),
    ],
)
def test_what_does_not_belong_is_refused_and_nothing_moves(found: Adapter, says: str) -> None:
    model = layer([[1.0, 2.0], [3.0, 4.0]])
    with pytest.raises(CheckpointError, match=says):
        merge(model, found, torch.float32)
    assert dict(model.named_parameters())["m.weight"].tolist() == [[1, 2], [3, 4]]


def test_decoding_is_the_one_of_the_evaluation() -> None:
    sampling = SamplingConfig(
        max_new_tokens=9, min_new_tokens=2, temperature=0.7, top_k=5, repetition_penalty=1.1
    )
    greedy = Decoding(sampling, True, (5, 7), 0).generation_config().to_diff_dict()
    assert {k: v for k, v in greedy.items() if k != "transformers_version"} == {
        "do_sample": False,
        "max_new_tokens": 9,
        "eos_token_id": [5, 7],
        "pad_token_id": 0,
    }
    drawn = Decoding(sampling, False, (5,), 0).generation_config()
    assert (drawn.do_sample, drawn.temperature, drawn.top_k, drawn.top_p) == (True, 0.7, 5, 1.0)
    assert (drawn.repetition_penalty, drawn.min_new_tokens) == (1.1, 2)


def test_a_folder_is_whole_or_absent(tmp_path: Path) -> None:
    out = tmp_path / "out"

    def dies_half_way() -> None:
        with new_folder(out) as part:
            (part / "half").write_text("x")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        dies_half_way()
    assert list(tmp_path.iterdir()) == []
    out.mkdir()  # an empty one may be there
    with new_folder(out) as part:
        (part / "whole").write_text("x")
    assert [p.name for p in out.iterdir()] == ["whole"]
    with pytest.raises(CheckpointError, match="holds files already"), new_folder(out):
        raise AssertionError("must not be entered")
    (tmp_path / "file").write_text("x")
    with pytest.raises(CheckpointError, match="is a file"), new_folder(tmp_path / "file"):
        raise AssertionError("must not be entered")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "out"]


@pytest.fixture
def saved(tmp_path: Path) -> tuple[ModelConfig, Path, Policy]:
    """A model in a folder, a live adapter of it, and the policy of both."""
    folder = tiny_models.save_model(tmp_path / "base")
    config = ModelConfig(
        name=str(folder),
        dtype="float32",
        device="cpu",
        lora=LoraConfig(rank=4, alpha=8, targets=tiny_models.SEVEN),
    )
    policy = tiny_models.policy(config=config)
    (tmp_path / "adapter").mkdir()
    policy.save_adapter(tmp_path / "adapter")
    return config, tmp_path / "adapter", policy


def test_files_name_base_and_dtype(saved: tuple[ModelConfig, Path, Policy], tmp_path: Path) -> None:
    config, trained, policy = saved
    config = config.model_copy(update={"revision": "abc"})
    decoding = Decoding(SamplingConfig(), True, (2, 3), 0)
    out = tmp_path / "out"
    out.mkdir()
    write_adapter(trained, config, out, "bfloat16")
    settings = json.loads((out / "adapter_config.json").read_text())
    assert settings["base_model_name_or_path"] == config.name
    assert (settings["revision"], settings["r"]) == ("abc", 4)
    tensors = load_file(out / "adapter_model.safetensors")
    assert {t.dtype for t in tensors.values()} == {torch.bfloat16}
    assert len(tensors) == len(policy.adapter_state())
    write_spoken(config.model_copy(update={"revision": None}), out, decoding)
    assert json.loads((out / "generation_config.json").read_text())["eos_token_id"] == [2, 3]
    assert (out / "tokenizer.json").is_file()


def test_merged_in_16_bit_it_says_that_it_was_rounded(
    saved: tuple[ModelConfig, Path, Policy], tmp_path: Path
) -> None:
    config, trained, policy = saved
    decoding = Decoding(SamplingConfig(), True, (2, 3), 0)
    for dtype, noted in (("float32", 0), ("bfloat16", 1)):
        out = tmp_path / dtype
        out.mkdir()
        notes = write_merged(trained, config, out, dtype, decoding)  # pyright: ignore
        assert len(notes) == noted
        assert json.loads((out / "config.json").read_text())["dtype"] == dtype
        weights = load_file(out / "model.safetensors")
        assert {t.dtype for t in weights.values()} == {getattr(torch, dtype)}
    # PEFT merges to the same weights.
    oracle = dict(policy.model.merge_and_unload().named_parameters())
    whole = load_file(tmp_path / "float32" / "model.safetensors")
    moved = 0
    for name, weight in whole.items():
        torch.testing.assert_close(weight, oracle[name].detach(), rtol=1e-6, atol=1e-6)
        moved += not torch.equal(weight, dict(tiny_models.llama().named_parameters())[name])
    assert moved == 2 * len(tiny_models.SEVEN)


def test_a_4_bit_base_is_merged_as_the_run_computed_with_it(tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes", reason="4-bit weights need the extra 4bit")
    config = ModelConfig(
        name="embedded", dtype="float32", device="cpu", quantization="nf4", lora=LoraConfig(rank=2)
    )
    torch.manual_seed(0)
    policy = load_policy(config)
    tiny_models.randomise(policy, scale=0.05)
    for name in ("adapter", "out"):
        (tmp_path / name).mkdir()
    policy.save_adapter(tmp_path / "adapter")
    decoding = Decoding(SamplingConfig(), True, (5,), 0)
    notes = write_merged(tmp_path / "adapter", config, tmp_path / "out", "float32", decoding)
    assert len(notes) == 1
    assert "dequantised" in notes[0]
    assert "quantization_config" not in json.loads((tmp_path / "out" / "config.json").read_text())
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    ids = torch.arange(6, 60)[None]
    with torch.no_grad():
        ours, oracle = merged(input_ids=ids).logits, policy.model(input_ids=ids).logits
        plain = AutoModelForCausalLM.from_pretrained(
            resolve_source("embedded"), dtype=torch.float32
        )
        tiny = PeftModel.from_pretrained(plain, str(tmp_path / "adapter"))(input_ids=ids).logits
    torch.testing.assert_close(ours, oracle, rtol=1e-5, atol=1e-4)
    # The weights that the base was quantised from give other logits.
    assert (tiny - oracle).abs().max() > 0.1
