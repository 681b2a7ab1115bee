"""LoRA soups: a weighted sum of adapters as one adapter, exactly.

Rewarded soups (Rame et al. 2023) interpolate single-objective policies. The sum of their changes

    delta W = sum_k w_k * s_k * B_k A_k

is one LoRA of rank sum r_k: A stacks the A_k, B holds the w_k s_k B_k side by side. Averaging A
and B each would add cross terms B_j A_k.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from grpo_dual.errors import CheckpointError

_CONFIG, _WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_A, _B = ".lora_A.weight", ".lora_B.weight"

_PLAIN = ("rank_pattern", "alpha_pattern", "use_dora", "modules_to_save", "layers_to_transform")
"""Settings with which a module's change is not s * B A with one s."""


@dataclass(frozen=True, slots=True)
class Adapter:
    """A LoRA adapter as PEFT writes it."""

    folder: Path
    config: Mapping[str, object]
    tensors: Mapping[str, Tensor]
    """``NAME.lora_A.weight`` [r, in] and ``NAME.lora_B.weight`` [out, r]."""

    @property
    def scale(self) -> float:
        """The factor of B A: alpha / r, or alpha / sqrt(r) for rank-stabilised LoRA."""
        rank, alpha = float(str(self.config["r"])), float(str(self.config["lora_alpha"]))
        return alpha / (rank**0.5 if self.config.get("use_rslora") else rank)


def read_adapter(folder: Path) -> Adapter:
    """Read an adapter folder, such as ``checkpoints/step-00000060/adapter`` of a run.

    Raises:
        CheckpointError: It is not there, is damaged, or is no plain LoRA.
    """
    try:
        config: dict[str, object] = json.loads((folder / _CONFIG).read_text(encoding="utf-8"))
        tensors = load_file(folder / _WEIGHTS)
    except (OSError, ValueError, SafetensorError) as error:
        raise CheckpointError(
            f"{folder}: no adapter can be read there ({error}). Give a folder with {_CONFIG} and "
            f"{_WEIGHTS}, e.g. RUN/checkpoints/step-.../adapter"
        ) from error
    if config.get("peft_type") != "LORA" or config.get("bias", "none") != "none":
        raise CheckpointError(f"{folder / _CONFIG}: only LoRA without bias can be added up")
    used = [key for key in _PLAIN if config.get(key)]
    other = [name for name in tensors if not name.endswith((_A, _B))]
    if used or other:
        raise CheckpointError(
            f"{folder}: only plain LoRA on linear layers can be added up, this one has "
            f"{', '.join([*used, *other][:3])}"
        )
    return Adapter(folder, config, tensors)


def soup(parts: Sequence[tuple[Adapter, float]]) -> tuple[dict[str, object], dict[str, Tensor]]:
    """Add adapters up.

    Args:
        parts: Adapters of one base model on the same modules, each with its weight. Weights are
            taken as they are: they need not sum to 1.

    Returns:
        PEFT's configuration and the tensors in fp32; the rank is the sum of the ranks.

    Raises:
        CheckpointError: They differ in the base model or in the modules.
    """
    first = parts[0][0]
    for adapter, _ in parts[1:]:
        for what, own, others in (
            ("modules", set(first.tensors), set(adapter.tensors)),
            *(
                (key, first.config.get(key), adapter.config.get(key))
                for key in ("base_model_name_or_path", "fan_in_fan_out")
            ),
        ):
            if own != others:
                raise CheckpointError(
                    f"{adapter.folder}: its {what} differ from those of {first.folder}; only "
                    "adapters of one base model on the same modules can be added up"
                )
    tensors: dict[str, Tensor] = {}
    for name in first.tensors:
        if name.endswith(_A):
            tensors[name] = torch.cat([a.tensors[name].float() for a, _ in parts], dim=0)
        else:
            scaled = [weight * a.scale * a.tensors[name].float() for a, weight in parts]
            tensors[name] = torch.cat(scaled, dim=1)
    rank = sum(int(str(adapter.config["r"])) for adapter, _ in parts)
    config = {**first.config, "r": rank, "lora_alpha": rank, "use_rslora": False}
    return config, tensors


def write_soup(parts: Sequence[tuple[Path, float]], out: Path) -> int:
    """Read adapters, add them up and write the sum as a folder that PEFT loads.

    Args:
        parts: Adapter folders with their weights.
        out: A folder that does not exist yet.

    Returns:
        The rank of the sum.

    Raises:
        CheckpointError: An adapter is not right, ``out`` exists, or it cannot be written.
    """
    config, tensors = soup([(read_adapter(folder), weight) for folder, weight in parts])
    part = out.with_name(f".{out.name}.part")
    try:
        if out.exists():
            raise FileExistsError(17, "it exists already")
        part.mkdir(parents=True)
        save_file(tensors, part / _WEIGHTS, metadata={"format": "pt"})
        (part / _CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        part.rename(out)
    except OSError as error:
        shutil.rmtree(part, ignore_errors=True)
        raise CheckpointError(
            f"{out}: cannot be written: {error.strerror}. Give --out a folder that is not there yet"
        ) from error
    return int(str(config["r"]))
