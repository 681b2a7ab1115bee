"""What a rival is given: a model's folder without weights, the settings, the command to install."""

import contextlib
import sys
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoTokenizer

ROOT = Path(__file__).resolve().parents[3]
sys.path.append(str(ROOT / "benchmarks"))

import measure  # noqa: E402
import rivals  # noqa: E402
import shapes  # noqa: E402
import step  # noqa: E402

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
    assert not {*tmp_path.rglob("*.safetensors"), *tmp_path.rglob("*.bin")}


@pytest.mark.parametrize(
    ("rival", "vllm", "corrected"),
    [("trl", False, True), ("trl-vllm", True, True), ("trl-vllm-uncorrected", True, False)],
)
def test_settings_of_a_rival(rival: rivals.Trl, vllm: bool, corrected: bool) -> None:
    found = rivals.settings(rival, WORK, steps=12, batch=4, checkpointing=False)
    assert found["use_vllm"] is vllm
    assert found["vllm_importance_sampling_correction"] is corrected
    # 2 prompts x 4 completions in passes of 4: two, of one step.
    assert (found["per_device_train_batch_size"], found["gradient_accumulation_steps"]) == (4, 2)
    assert found["logging_steps"] == found["max_steps"] == 12


def test_a_rival_is_not_given_fewer_sequences() -> None:
    with pytest.raises(SystemExit, match="passes of 3 sequences do not divide 8: --rival-batch"):
        rivals.settings("trl", WORK, steps=1, batch=3, checkpointing=False)


@pytest.mark.parametrize(
    ("rival", "package", "extra"),
    [("trl", "trl", "grpo-dual[rivals]"), ("trl-vllm", "vllm", "trl[vllm]")],
)
def test_a_rival_that_is_not_installed_is_missed_before_anything_runs(
    monkeypatch: pytest.MonkeyPatch, rival: str, package: str, extra: str
) -> None:
    for name in ("trl", "vllm"):
        module = ModuleType(name)
        module.__spec__ = ModuleSpec(name, None)
        monkeypatch.setitem(sys.modules, name, None if name == package else module)
    monkeypatch.setattr(sys, "argv", ["step.py", "--rival", rival])
    monkeypatch.setattr(measure, "alone", lambda *_: pytest.fail("something ran"))
    with pytest.raises(SystemExit) as caught:
        step.main()
    assert caught.value.code == f'{package} is not installed: pip install "{extra}"'


def test_vllm_is_made_without_reading_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    vllm, trl = ModuleType("vllm"), ModuleType("trl")
    vllm.__spec__ = ModuleSpec("vllm", None)
    vllm.LLM = dict  # type: ignore[attr-defined]
    generation, theirs = ModuleType("trl.generation"), ModuleType("trl.generation.vllm_generation")
    trl.generation, generation.vllm_generation = generation, theirs  # type: ignore[attr-defined]
    theirs.LLM = dict  # type: ignore[attr-defined]
    for module in (vllm, trl, generation, theirs):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    with rivals.vllm_without_weights():
        assert theirs.LLM(seed=1) == {"seed": 1, "load_format": "dummy"}  # type: ignore[attr-defined]
    assert theirs.LLM is dict  # type: ignore[attr-defined]


class Trainer:
    """Calls what TRL's calls, in its order."""

    def __init__(self, callbacks: list[Any], steps: int) -> None:
        self.callbacks, self.steps = callbacks, steps
        self.args = SimpleNamespace(per_device_train_batch_size=4)
        self.state = SimpleNamespace(log_history=[{"grad_norm": 0.5, "loss": 0.0}, {"train": 1}])
        self.vllm_generation = SimpleNamespace(sync_weights=lambda: None)

    def _generate(self) -> None:
        self.vllm_generation.sync_weights()

    def train(self) -> None:
        for _ in range(self.steps):
            for callback in self.callbacks:
                callback.on_step_begin()
            self._generate()
            for callback in self.callbacks:
                callback.on_step_end()


def test_a_rivals_first_steps_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    @contextlib.contextmanager
    def made(rival: str, *_: Any, steps: int, callbacks: list[Any], **__: Any) -> Iterator[Trainer]:
        assert rival == "trl-vllm"
        yield Trainer(callbacks, steps)

    monkeypatch.setattr(rivals, "trl_trainer", made)
    monkeypatch.setattr(rivals, "versions", lambda rival: {rival: "0"})
    monkeypatch.setattr(sys, "argv", ["step.py", "--warmup", "2", "--rival-steps", "3"])
    found = step.CONTESTANTS["trl-vllm"](step.parse(), CPU)
    counts = {name: len(values) for name, values in found["seconds"].items()}
    assert counts == {"step": 3, "rollout": 3, "weights": 3}
    inside = zip(*(found["seconds"][n] for n in ("weights", "rollout", "step")), strict=True)
    assert all(weights < rollout < whole for weights, rollout, whole in inside)
    assert (found["grad_norm"], found["logged"]["loss"], found["batch"]) == (0.5, 0.0, 4)
    assert found["versions"] == {"trl-vllm": "0"}


def test_a_timed_call_is_the_same_call() -> None:
    parts = measure.Parts(CPU)
    add = parts.timed("sum", lambda *given, by: sum(given) * by)
    assert (add(1, 2, by=3), add(4, by=1)) == (9, 4)
    assert len(parts.seconds["sum"]) == 2
