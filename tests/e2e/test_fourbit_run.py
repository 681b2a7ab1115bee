"""Runs on 4-bit base weights: they learn, and a killed one goes on as if it had not been."""

from pathlib import Path
from typing import Any

import pytest
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

import short_runs
from grpo_dual.config.schema import RunConfig
from grpo_dual.model.loading import resolve_source
from grpo_dual.train.run import train
from grpo_dual.train.step import Updater
from short_runs import numbers, only_run, reproducible, rows

pytest.importorskip("bitsandbytes", reason="4-bit weights need the extra 4bit")


def fourbit(model: Path | str, out: Path, **sections: Any) -> RunConfig:
    data = short_runs.settings(Path(model), out, **sections)
    data["model"]["quantization"] = "nf4"
    return RunConfig.model_validate(data)


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")  # PEFT's own
def test_the_embedded_model_trains_in_four_bit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(fourbit("embedded", tmp_path, train={"steps": 3})) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert (
        "rollouts by the transformers engine, not in place: CUDA graphs need a CUDA device" in said
    )
    folder = only_run(tmp_path)
    found = [numbers(row) for row in rows(folder)]
    assert len(found) == 3
    assert all(row["grad_norm_f"] > 0 < row["grad_norm_h"] for row in found)
    # Sampler and trainer compute the same, in fp32; and the policy leaves its reference.
    assert all(row["sampler_gap_max"] < 1e-3 for row in found)
    assert all(abs(row["sampler_ratio_mean"] - 1) < 1e-4 for row in found)
    assert abs(found[0]["kl_f"]) < 1e-6 < found[-1]["kl_f"]
    adapter = folder / "checkpoints" / "step-00000003" / "adapter"
    tensors = load_file(adapter / "adapter_model.safetensors")
    assert len(tensors) == 4 * 7 * 2  # A and B of each layer's seven
    base = AutoModelForCausalLM.from_pretrained(resolve_source("embedded"))
    state = PeftModel.from_pretrained(base, str(adapter)).state_dict()
    assert sum(".lora_" in name for name in state) == len(tensors)


def test_a_killed_run_goes_on_in_four_bit(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sections: dict[str, Any] = {"train": {"steps": 4}, "sft": {"steps": 1, "batch_size": 4}}
    assert train(fourbit(model, tmp_path / "whole", **sections)) == 0
    original, calls = Updater.update, 0

    def dying(*args: Any, **kwargs: Any) -> object:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise KeyboardInterrupt
        return original(*args, **kwargs)

    config = fourbit(model, tmp_path / "killed", **sections)
    with monkeypatch.context() as patch:
        patch.setattr(Updater, "update", dying)
        with pytest.raises(KeyboardInterrupt):
            train(config)
    folder = only_run(tmp_path / "killed")
    assert len(rows(folder)) == 3
    assert train(config, folder) == 0
    assert reproducible(folder) == reproducible(only_run(tmp_path / "whole"))
