"""What a rival is given: a model's folder without weights, the settings, the command to install."""

import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoTokenizer

ROOT = Path(__file__).resolve().parents[3]
sys.path.append(str(ROOT / "benchmarks"))

import measure  # noqa: E402
import rivals  # noqa: E402
import shapes  # noqa: E402

CPU = torch.device("cpu")
WORK = shapes.Work((5, 9), 4, 3)


def test_a_folder_without_weights_is_a_checkpoint_but_for_them(tmp_path: Path) -> None:
    model = shapes.model("tiny", CPU).bfloat16()
    tokenizer = shapes.words(2048)
    rivals.save_without_weights(model, tokenizer, tmp_path)
    config = AutoConfig.from_pretrained(tmp_path)
    assert (config.architectures, config.dtype) == (["LlamaForCausalLM"], torch.bfloat16)
    assert config.num_hidden_layers == model.config.num_hidden_layers
    assert AutoTokenizer.from_pretrained(tmp_path)("t7 t2047").input_ids == [7, 2047]
    assert model.name_or_path == str(tmp_path)
    assert not [*tmp_path.glob("*.safetensors")]


@pytest.mark.parametrize(
    ("rollouts", "vllm", "corrected"),
    [("transformers", False, True), ("vllm", True, True), ("vllm-uncorrected", True, False)],
)
def test_settings_of_a_rival(rollouts: rivals.Rollouts, vllm: bool, corrected: bool) -> None:
    found = rivals.settings(WORK, CPU, "out", 12, 4, False, rollouts)
    assert found["use_vllm"] is vllm
    assert found["vllm_importance_sampling_correction"] is corrected
    # 2 prompts x 4 completions in passes of 4: two, of one step.
    assert (found["per_device_train_batch_size"], found["gradient_accumulation_steps"]) == (4, 2)
    assert found["logging_steps"] == found["max_steps"] == 12


@pytest.mark.parametrize(
    ("package", "extra"), [("trl", "grpo-dual[rivals]"), ("vllm", "trl[vllm]")]
)
def test_a_rival_that_is_not_installed_names_the_command(
    monkeypatch: pytest.MonkeyPatch, package: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(SystemExit, match=f'{package} is not installed: pip install "') as caught:
        rivals.needed(package)
    assert extra in str(caught.value)


def test_what_a_rival_lacks_itself_is_not_taken_for_the_rival(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "broken_rival.py").write_text("import nothing_of_this_name\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="nothing_of_this_name"):
        rivals.needed("broken_rival")


def test_a_timed_call_is_the_same_call() -> None:
    parts = measure.Parts(CPU)
    add = parts.timed("sum", lambda *given, by: sum(given) * by)
    assert (add(1, 2, by=3), add(4, by=1)) == (9, 4)
    assert len(parts.seconds["sum"]) == 2
