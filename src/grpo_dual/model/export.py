"""A trained adapter as a folder for others: an adapter for PEFT, or one model for Transformers.

Merging adds each module's change to the base weight in fp32 and rounds once:

    W' = round(W + s B A)

W is the weight as the run computed with it: in ``model.dtype``, and of a 4-bit base the dequantised
one, not the one that it was quantised from, which the adapter has never seen.
"""

import contextlib
import json
import shutil
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import AutoTokenizer, GenerationConfig

from grpo_dual.config.schema import ModelConfig, SamplingConfig
from grpo_dual.errors import CheckpointError, ModelError
from grpo_dual.model.loading import EMBEDDED, load_base, resolve_device, resolve_source
from grpo_dual.model.soups import Adapter, read_adapter

Dtype = Literal["float32", "bfloat16"]

_PREFIX = "base_model.model."
_A, _B = ".lora_A.weight", ".lora_B.weight"
_DEQUANTISED = (
    "The run's base weights were in 4 bit (NF4). This model holds them dequantised, which is what "
    "the run computed with; they are not the weights of the base model."
)
_ROUNDED = (
    "The sum of base and adapter is rounded to bfloat16, which the run's adapter was not: now and "
    "then a completion differs from the run's own."
)


@dataclass(frozen=True, slots=True)
class Decoding:
    """How the completions of a run's evaluation are drawn."""

    sampling: SamplingConfig
    greedy: bool
    """The yardstick's decode: no penalty, no forbidden EOS, no truncation."""
    eos_ids: tuple[int, ...]
    """All ids that end a completion in the run, the chat template's end of turn among them."""
    pad_id: int

    def generation_config(self) -> GenerationConfig:
        """The same for Transformers' ``generate``, and for servers that read it."""
        s = self.sampling
        shared: dict[str, Any] = {
            "max_new_tokens": s.max_new_tokens,
            "eos_token_id": list(self.eos_ids),
            "pad_token_id": self.pad_id,
        }
        if self.greedy:
            return GenerationConfig(do_sample=False, **shared)
        if s.min_new_tokens:
            shared["min_new_tokens"] = s.min_new_tokens
        return GenerationConfig(
            do_sample=True,
            temperature=s.temperature,
            top_k=s.top_k,
            top_p=s.top_p,
            repetition_penalty=s.repetition_penalty,
            **shared,
        )


@contextlib.contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """A hidden sibling to be filled, which becomes ``out`` once the block ends without error.

    Raises:
        CheckpointError: ``out`` holds something already, or the file system refuses.
    """
    refuse_full(out)
    part = out.with_name(f".{out.name}.{uuid.uuid4().hex}.part")
    try:
        part.mkdir(parents=True)
        yield part
        part.rename(out)
    except (OSError, SafetensorError) as error:
        if isinstance(error, CheckpointError | ModelError):
            raise
        raise CheckpointError(
            f"{out}: cannot be written ({error}). Check that the folder above it belongs to you "
            "and has free space, or choose another one with --out"
        ) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def refuse_full(out: Path) -> None:
    """Refuse a target that holds something already.

    Raises:
        CheckpointError: It does.
    """
    if out.is_dir() and not any(out.iterdir()):
        return
    if out.exists():
        what = "holds files already" if out.is_dir() else "is a file"
        raise CheckpointError(f"{out}: {what}; give --out a folder that is not there yet")


def write_adapter(adapter: Path, model: ModelConfig, out: Path, dtype: Dtype) -> None:
    """Write an adapter that ``PeftModel.from_pretrained(base, out)`` loads.

    Args:
        adapter: As a checkpoint holds it.
        model: Of the run; its base and revision are named in the adapter's configuration.
        out: An empty folder.
        dtype: Of the adapter's weights. PEFT computes with them in fp32 whatever it is.

    Raises:
        CheckpointError: The adapter is damaged.
    """
    found = read_adapter(adapter)
    kind: torch.dtype = getattr(torch, dtype)
    tensors = {name: tensor.to(kind).contiguous() for name, tensor in found.tensors.items()}
    save_file(tensors, out / "adapter_model.safetensors", metadata={"format": "pt"})
    settings = {
        **found.config,
        "base_model_name_or_path": resolve_source(model.name),
        "revision": model.revision,
        "inference_mode": True,
    }
    text = json.dumps(settings, indent=2, sort_keys=True) + "\n"
    (out / "adapter_config.json").write_text(text, encoding="utf-8")


def write_merged(
    adapter: Path, model: ModelConfig, out: Path, dtype: Dtype, decoding: Decoding
) -> tuple[str, ...]:
    """Write base and adapter as one model that Transformers loads alone.

    Args:
        adapter: As a checkpoint holds it.
        model: Of the run.
        out: An empty folder.
        dtype: Of all weights.
        decoding: Becomes the model's generation config.

    Returns:
        What differs from the run's own policy, to be told to whoever uses it.

    Raises:
        CheckpointError: The adapter is damaged, or not one of this base.
        ModelError, ConfigError: The base cannot be loaded.
    """
    found = read_adapter(adapter)
    fourbit = model.quantization != "none"
    device = resolve_device(model.device) if fourbit else torch.device("cpu")
    base, _ = load_base(model, device)
    notes: list[str] = []
    if fourbit:
        base.dequantize(dtype=getattr(torch, model.dtype))
        notes.append(_DEQUANTISED)
    kind: torch.dtype = getattr(torch, dtype)
    merge(base, found, kind)
    if dtype == "bfloat16":
        notes.append(_ROUNDED)
    base.generation_config = decoding.generation_config()
    base.save_pretrained(str(out))
    return tuple(notes)


def merge(base: nn.Module, adapter: Adapter, dtype: torch.dtype) -> None:
    """Add an adapter to the weights of its base, in place, in fp32, and round all to ``dtype``.

    One weight after another: beside the model, no more than one matrix is held in fp32.

    Args:
        base: The bare model; it ends on the CPU.
        adapter: Plain LoRA on linear layers ``[out, in]``.
        dtype: Of the result.

    Raises:
        CheckpointError: A module is absent or of another shape, or the adapter is not finite;
            nothing has been changed then.
    """
    names = [n.removesuffix(_A) for n in adapter.tensors if n.endswith(_A)]
    weights = dict(base.named_parameters())
    found: list[tuple[nn.Parameter, Tensor, Tensor]] = []
    for name in names:
        own, a, b = _own(name), adapter.tensors[name + _A], adapter.tensors[name + _B]
        if own not in weights:
            raise CheckpointError(
                f"{adapter.folder}: {own} is no weight of the base model; the adapter belongs to "
                "another one"
            )
        shape = (b.shape[0], a.shape[1])
        if adapter.config.get("fan_in_fan_out") or weights[own].shape != shape:
            raise CheckpointError(
                f"{adapter.folder}: the change of {own} is {shape} and the weight "
                f"{tuple(weights[own].shape)}; the adapter does not belong to this base model"
            )
        if not bool(a.isfinite().all() and b.isfinite().all()):
            raise CheckpointError(f"{adapter.folder}: {name} is not finite; the run had diverged")
        found.append((weights[own], a, b))
    for weight, a, b in found:
        change = adapter.scale * (b.float() @ a.float())
        weight.data = (weight.detach().cpu().float() + change).to(dtype)
    base.to(device="cpu", dtype=dtype)


def _own(name: str) -> str:
    """The base model's name of a weight, from PEFT's name of its module."""
    return f"{name.removeprefix(_PREFIX)}.weight"


def write_spoken(model: ModelConfig, out: Path, decoding: Decoding) -> None:
    """Write how the model is spoken to: tokenizer, chat template, generation config.

    Raises:
        ModelError: The base's tokenizer cannot be loaded.
    """
    source = resolve_source(model.name)
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            source, revision=model.revision, trust_remote_code=model.trust_remote_code
        )
    except (OSError, ValueError) as error:
        raise ModelError(
            f"model.name: the tokenizer of {source} could not be loaded ({error})"
        ) from error
    tokenizer.save_pretrained(str(out))
    decoding.generation_config().save_pretrained(str(out))


def is_public(model: ModelConfig) -> bool:
    """Can others have the base by its name? A folder of one's own is on no hub."""
    return model.name != EMBEDDED and not Path(resolve_source(model.name)).is_dir()
