"""What can be evaluated, from the words of a command to weights: runs, adapters, models.

Nothing is written: a run folder stays as it is.
"""

import hashlib
import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

import torch
from peft import PeftModel
from safetensors import SafetensorError, safe_open

from grpo_dual.config.load import load_config
from grpo_dual.config.schema import LoraConfig, ModelConfig, RunConfig
from grpo_dual.errors import CheckpointError, ModelError
from grpo_dual.model.loading import TRAINED, load_base, resolve_device, resolve_source
from grpo_dual.model.policy import Policy, load_policy
from grpo_dual.train.checkpoint import ADAPTER, TENSORS, Checkpoints, verify

CONFIG = "config.json"
ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
_ADAPTER_TENSORS = "adapter/"
_NO_PLAIN_LORA = ("use_dora", "modules_to_save", "trainable_token_indices", "target_parameters")
"""Settings of PEFT with which an adapter is more than B A on linear layers."""


@dataclass(frozen=True, slots=True)
class Target:
    """A policy to be evaluated; its weights are not read yet."""

    name: str
    """As it was typed."""
    kind: Literal["run", "adapter", "model"]
    model: ModelConfig
    folder: Path | None = None
    """The run or adapter folder."""
    config: RunConfig | None = None
    """A run's own configuration."""
    step: int | None = None
    """A run's checkpoint; None where none is loaded."""
    adapter: Path | None = None
    """The folder of the adapter; None for a model without one."""
    sha256: str | None = None
    """Of the adapter's weight file."""


def find_target(text: str, *, device: str | None = None, dtype: str | None = None) -> Target:
    """What a word of the command means.

    Args:
        text: A run folder, ``RUN@STEP``, ``RUN@best`` or ``RUN@base``; an adapter folder; a model's
            folder or hub name, or ``embedded``.
        device: In place of the configuration's.
        dtype: Of the base weights, in place of the configuration's.

    Raises:
        CheckpointError: A run has no such checkpoint, or it is damaged.
        ModelError: An adapter without base, not plain LoRA, or a folder that holds no model.
        ConfigError: A run's configuration cannot be read.
    """
    changes = {k: v for k, v in (("device", device), ("dtype", dtype)) if v is not None}
    head, at, which = text.rpartition("@")
    if at and not Path(text).exists():
        if not is_run_folder(Path(head)):
            raise CheckpointError(
                f"{text}: {head} is no run folder, so no checkpoint of it can be picked by "
                f"@{which}; give the folder that the run printed when it started"
            )
        return _run(text, Path(head), which, changes)
    folder = Path(text)
    if is_run_folder(folder):
        return _run(text, folder, "last", changes)
    if (folder / ADAPTER_CONFIG).is_file():
        return _adapter(text, folder, changes)
    if (folder / "manifest.json").is_file() and (folder / ADAPTER).is_dir():
        return _adapter(text, folder / ADAPTER, changes)
    resolve_source(text)  # refuses a folder that holds no model
    model = ModelConfig(name=text, lora=LoraConfig(rank=1, alpha=1), reference="base")
    return Target(text, "model", model.model_copy(update=changes))


def is_run_folder(folder: Path) -> bool:
    """Is it a run's folder? Its config.json has objectives; a model's has none."""
    try:
        found = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return (folder / "checkpoints").is_dir()
    return isinstance(found, dict) and "objectives" in found


def _run(text: str, folder: Path, which: str, changes: dict[str, str]) -> Target:
    if not (folder / CONFIG).is_file():
        raise CheckpointError(
            f"{folder}: is no run folder ({CONFIG} is not there). Give the folder that the run "
            "printed when it started"
        )
    config = load_config(folder / CONFIG)
    model = config.model.model_copy(update=changes)
    if which == "base":
        return Target(text, "run", model, folder, config)
    path, step = _checkpoint(folder, which)
    verify(path)
    adapter = path / ADAPTER
    return Target(text, "run", model, folder, config, step, adapter, _sha256(adapter))


def _checkpoint(folder: Path, which: str) -> tuple[Path, int]:
    checkpoints = Checkpoints(folder / "checkpoints")
    steps = checkpoints.steps()
    if not steps:
        raise CheckpointError(
            f"{folder}: holds no checkpoint; resume the run (grpo-dual train --resume {folder}), "
            f"or evaluate its model without adapter: {folder}@base"
        )
    known = ", ".join(map(str, steps))
    if which == "last":
        step = steps[-1]
    elif which == "best":
        best = checkpoints.best()
        if best is None:
            raise CheckpointError(f"{folder}: no checkpoint was marked best; there are {known}")
        step = best[0]
    elif which.isascii() and which.isdecimal():
        step = int(which)
    else:
        raise CheckpointError(
            f"{folder}@{which}: behind the @ stands a step ({known}), best, last or base"
        )
    if step not in steps:
        raise CheckpointError(f"{folder}: holds no checkpoint of step {step}; there are {known}")
    return checkpoints.path(step), step


def _adapter(text: str, folder: Path, changes: dict[str, str]) -> Target:
    where = folder / ADAPTER_CONFIG
    try:
        found = cast("dict[str, object]", json.loads(where.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise ModelError(f"{where}: cannot be read ({error})") from error
    base = found.get("base_model_name_or_path")
    if not isinstance(base, str) or not base:
        raise ModelError(
            f"{where}: names no base model (base_model_name_or_path); write the model's folder or "
            "hub name there"
        )
    used = [key for key in _NO_PLAIN_LORA if found.get(key)]
    if found.get("peft_type") != "LORA" or found.get("bias", "none") != "none" or used:
        what = ", ".join(used) or f"{found.get('peft_type')}, bias {found.get('bias')}"
        raise ModelError(
            f"{folder}: is no plain LoRA adapter ({what}); merge it into its base and give the "
            "merged model"
        )
    if not (folder / ADAPTER_WEIGHTS).is_file():
        raise ModelError(
            f"{folder}: has no {ADAPTER_WEIGHTS}; pickled weights are not read, save the adapter "
            "with safetensors"
        )
    rank, alpha = int(str(found.get("r", 8))), float(str(found.get("lora_alpha", 8)))
    revision = found.get("revision")
    model = ModelConfig(
        name=base,
        revision=revision if isinstance(revision, str) else None,
        lora=LoraConfig(rank=rank, alpha=alpha),
        reference="base",
    )
    model = model.model_copy(update=changes)
    return Target(text, "adapter", model, folder, adapter=folder, sha256=_sha256(folder))


def _sha256(adapter: Path) -> str:
    path = adapter / ADAPTER_WEIGHTS
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror or error})") from error


class Loader:
    """Loads targets one after another; checkpoints of one run share the base weights."""

    def __init__(self) -> None:
        self._policy: Policy | None = None
        self._fresh: dict[str, torch.Tensor] = {}

    def load(self, target: Target) -> Policy:
        """The policy of a target, on its device. The one that was loaded before is then void.

        Raises:
            ModelError: The model or adapter cannot be loaded, or they do not fit each other.
            CheckpointError: The checkpoint's tensors cannot be read.
        """
        if target.kind == "adapter":
            self._policy = None
            return _with_adapter(target)
        if self._policy is None or self._policy.config != target.model:
            self._policy = None
            torch.manual_seed(0)  # the fresh adapter's A; its B is 0, so it changes nothing
            self._policy = load_policy(target.model)
            self._fresh = self._policy.adapter_state()
        state = self._fresh if target.adapter is None else adapter_state(target.adapter.parent)
        self._policy.load_adapter_state(state)
        return self._policy


def adapter_state(checkpoint: Path) -> dict[str, torch.Tensor]:
    """The trained adapter among a checkpoint's tensors; the optimizer's are not read.

    Raises:
        CheckpointError: They cannot be read.
    """
    path = checkpoint / TENSORS
    try:
        with safe_open(path, framework="pt") as file:
            keys = file.keys()
            names = [name for name in keys if name.startswith(_ADAPTER_TENSORS)]
            return {n.removeprefix(_ADAPTER_TENSORS): file.get_tensor(n) for n in names}
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: cannot be read ({error})") from error


def _with_adapter(target: Target) -> Policy:
    base, tokenizer = load_base(target.model, resolve_device(target.model.device))
    try:
        with warnings.catch_warnings():
            # PEFT 0.21 reads a property that newer Transformers call deprecated.
            warnings.filterwarnings("ignore", ".*is_gradient_checkpointing.*", FutureWarning)
            # Else PEFT draws at random what the file does not hold.
            warnings.filterwarnings("error", ".*missing adapter keys.*", UserWarning)
            wrapped = PeftModel.from_pretrained(
                base, str(target.adapter), adapter_name=TRAINED, is_trainable=True
            )
    except (OSError, ValueError, RuntimeError, KeyError, UserWarning, SafetensorError) as error:
        raise ModelError(
            f"{target.folder}: the adapter cannot be put on {target.model.name} "
            f"({type(error).__name__}: {' '.join(str(error).split())[:400]}); is that the model "
            "that it was trained on?"
        ) from error
    return Policy(wrapped, tokenizer, target.model)
