"""Targets of ``eval``: what a word means, and that exactly its weights are loaded."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import short_runs
import tiny_models
from grpo_dual.config.schema import ModelConfig
from grpo_dual.config.snapshot import snapshot
from grpo_dual.errors import CheckpointError, ConfigError, ModelError
from grpo_dual.model.loading import attach_lora, load_base
from grpo_dual.model.policy import Policy
from grpo_dual.train.checkpoint import Checkpoints
from grpo_dual.train.targets import ADAPTER_CONFIG, ADAPTER_WEIGHTS, Loader, find_target


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[int, dict[str, Any]]]:
    """A run folder with checkpoints of steps 1 and 4, whose adapters are random; their states."""
    root = tmp_path_factory.mktemp("targets")
    config = short_runs.config(short_runs.save_model(root / "model"), root / "runs")
    run = root / "runs" / "one"
    snapshot(config, run)
    base, tokenizer = load_base(config.model, torch.device("cpu"))
    policy = Policy(attach_lora(base, config.model.lora), tokenizer, config.model)
    states: dict[int, dict[str, Any]] = {}
    checkpoints = Checkpoints(run / "checkpoints", keep_last=9)
    for step in (1, 4):
        torch.manual_seed(step)
        tiny_models.randomise(policy)
        states[step] = policy.adapter_state()
        tensors = {f"adapter/{name}": tensor for name, tensor in states[step].items()}
        checkpoints.save(step, tensors, {"step": step}, adapter_writer=policy.save_adapter)
    checkpoints.mark_best(1, 0.5)
    return run, states


def same(policy: Policy, state: dict[str, Any]) -> bool:
    own = policy.adapter_state()
    return own.keys() == state.keys() and all(torch.equal(own[n], state[n]) for n in state)


def test_words_and_their_steps(made: tuple[Path, dict[int, Any]]):
    run, _ = made
    steps = {text: find_target(f"{run}{text}").step for text in ("", "@1", "@4", "@best", "@last")}
    assert steps == {"": 4, "@1": 1, "@4": 4, "@best": 1, "@last": 4}
    base = find_target(f"{run}@base", device="cpu", dtype="bfloat16")
    assert (base.step, base.adapter, base.sha256, base.kind) == (None, None, None, "run")
    assert (base.model.device, base.model.dtype) == ("cpu", "bfloat16")
    assert find_target("embedded").kind == "model"
    checkpoint = find_target(str(run / "checkpoints" / "step-00000001"))
    assert checkpoint.kind == "adapter"
    assert checkpoint.sha256 == find_target(f"{run}@1").sha256


def test_checkpoints_of_a_run_share_the_base_and_leave_nothing_behind(
    made: tuple[Path, dict[int, dict[str, Any]]],
):
    run, states = made
    loader = Loader()
    last = loader.load(find_target(str(run)))
    assert same(last, states[4])
    base = loader.load(find_target(f"{run}@base"))
    assert base is last
    up = [t for name, t in base.adapter_state().items() if ".lora_B" in name]
    assert up
    assert not any(tensor.any() for tensor in up)
    assert same(loader.load(find_target(f"{run}@1")), states[1])


def test_an_adapter_gives_the_logits_of_its_checkpoint(made: tuple[Path, Any]):
    run, _ = made
    folder = run / "checkpoints" / "step-00000004" / "adapter"
    ids = torch.tensor([[1, 7, 9, 30, 12]])
    logits = [
        Loader().load(target).model(input_ids=ids).logits
        for target in (
            find_target(str(run)),
            find_target(str(folder), dtype="float32", device="cpu"),
            find_target(f"{run}@base"),
        )
    ]
    assert torch.equal(logits[0], logits[1])
    assert not torch.allclose(logits[0], logits[2])


def test_what_is_no_checkpoint_is_refused(made: tuple[Path, Any], tmp_path: Path):
    run, _ = made
    with pytest.raises(CheckpointError, match=r"no checkpoint of step 2; there are 1, 4"):
        find_target(f"{run}@2")
    with pytest.raises(CheckpointError, match="is no run folder"):
        find_target(f"{tmp_path}@2")
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    weights = copy / "checkpoints" / "step-00000004" / "tensors.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\0")
    with pytest.raises(CheckpointError, match=r"tensors.safetensors: is damaged"):
        find_target(str(copy))
    assert find_target(f"{copy}@1").step == 1
    (copy / "checkpoints" / "best.json").unlink()
    with pytest.raises(CheckpointError, match="no checkpoint was marked best; there are 1, 4"):
        find_target(f"{copy}@best")
    (copy / "config.json").write_text("{")
    with pytest.raises(ConfigError, match=r"config.json"):
        find_target(str(copy))
    (copy / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"config\.json is not there"):
        find_target(str(copy))


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"use_dora": True}, "use_dora"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"bias": "all"}, "bias all"),
        ({"peft_type": "IA3"}, "IA3"),
        ({"base_model_name_or_path": None}, "names no base model"),
    ],
)
def test_an_adapter_that_is_more_than_lora_is_refused(
    made: tuple[Path, Any], tmp_path: Path, changes: dict[str, object], named: str
):
    folder = tmp_path / "adapter"
    shutil.copytree(made[0] / "checkpoints" / "step-00000001" / "adapter", folder)
    config = json.loads((folder / ADAPTER_CONFIG).read_text())
    (folder / ADAPTER_CONFIG).write_text(json.dumps({**config, **changes}))
    with pytest.raises(ModelError, match=named):
        find_target(str(folder))


def test_an_adapter_must_fit_its_base(made: tuple[Path, Any], tmp_path: Path):
    folder = tmp_path / "adapter"
    shutil.copytree(made[0] / "checkpoints" / "step-00000001" / "adapter", folder)
    target = find_target(str(folder), dtype="float32", device="cpu")
    tensors = load_file(folder / ADAPTER_WEIGHTS)
    lost = sorted(tensors)[0]
    save_file({n: t for n, t in tensors.items() if n != lost}, folder / ADAPTER_WEIGHTS)
    # PEFT alone would draw what is lost at random and warn.
    with pytest.raises(ModelError, match="cannot be put on"):
        Loader().load(target)
    config = json.loads((folder / ADAPTER_CONFIG).read_text())
    config["base_model_name_or_path"] = "embedded"
    (folder / ADAPTER_CONFIG).write_text(json.dumps(config))
    with pytest.raises(ModelError, match="cannot be put on embedded"):
        Loader().load(find_target(str(folder), dtype="float32", device="cpu"))


def test_a_target_without_adapter_is_the_model(made: tuple[Path, Any]):
    model = made[0].parents[1] / "model"
    policy = Loader().load(find_target(str(model), dtype="float32", device="cpu"))
    plain, _ = load_base(
        ModelConfig(name=str(model), dtype="float32", device="cpu"), torch.device("cpu")
    )
    ids = torch.tensor([[1, 7, 9, 30, 12]])
    found, expected = policy.model(input_ids=ids).logits, plain(input_ids=ids).logits
    assert torch.allclose(found, expected, rtol=0, atol=1e-6)
