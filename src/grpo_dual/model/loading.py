"""From a name to a frozen base model, a tokenizer and an adapter; unsafe ones are refused."""

import json
import warnings
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig as PeftLoraConfig
from peft import PeftModel, get_peft_model
from safetensors import SafetensorError
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.tokenization_utils_base import VERY_LARGE_INTEGER

from grpo_dual.config.schema import LoraConfig, ModelConfig
from grpo_dual.errors import ModelError
from grpo_dual.model import fourbit

EMBEDDED = "embedded"
TRAINED = "default"
"""PEFT's name of the trained adapter; ``default`` is saved into the folder's root."""
_UNLOADABLE = (OSError, ValueError, RuntimeError, ImportError, KeyError, SafetensorError)
"""What the libraries raise on a name or folder that they cannot load."""


def resolve_device(name: str) -> torch.device:
    """``auto`` is cuda when there is one, else cpu.

    Raises:
        ModelError: the name is not a device, or this machine does not have it.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ModelError(
            f"model.device: {name!r} is not a device; use auto, cpu, cuda or cuda:<number>"
        ) from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ModelError(
            f"model.device: {name!r} was asked for, but PyTorch sees {torch.cuda.device_count()} "
            "CUDA devices here; use auto or cpu, or install a PyTorch built for your GPU"
        )
    return device


def resolve_source(name: str) -> str:
    """The folder or hub name behind ``model.name``.

    Raises:
        ModelError: a folder is meant but is absent, has no config.json, or no safetensors weights.
    """
    folder = (
        Path(str(files("grpo_dual") / "assets" / "tiny"))
        if name == EMBEDDED
        else Path(name).expanduser()
    )
    if folder.is_dir():
        _check_folder(folder, name)
        return str(folder)
    if name == EMBEDDED or folder.exists() or _looks_like_path(name):
        raise ModelError(
            f"model.name: there is no model folder at {folder}. Give a folder with config.json, "
            "*.safetensors and tokenizer files, a hub name such as "
            f"meta-llama/Meta-Llama-3-8B-Instruct, or {EMBEDDED!r}"
        )
    return name


def _looks_like_path(name: str) -> bool:
    return name.startswith((".", "/", "~")) or name.count("/") > 1 or "\\" in name or not name


def _check_folder(folder: Path, name: str) -> None:
    config = folder / "config.json"
    if not config.is_file():
        raise ModelError(
            f"model.name: {folder} has no config.json, so it is not a Transformers model folder"
        )
    if not any(folder.glob("*.safetensors")):
        pickled = sorted(p.name for p in (*folder.glob("*.bin"), *folder.glob("*.pt*")))
        found = (
            f"it has {', '.join(pickled[:3])}, pickled weights, which can run code when they are "
            "read"
            if pickled
            else "it has no weights at all"
        )
        raise ModelError(
            f"model.name: {folder} has no *.safetensors weights; {found}. Convert them with "
            "save_pretrained on a machine that trusts them"
        )
    try:
        json.loads(config.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ModelError(f"model.name: {config} of {name!r} is not valid JSON: {error}") from error


@dataclass(frozen=True, slots=True)
class Spoken:
    """How a model is spoken to, known without its weights."""

    tokenizer: PreTrainedTokenizerBase
    generation_eos_ids: tuple[int, ...]
    """EOS ids of its generation config."""
    window: int | None
    """Positions that it was built for; None where its configuration does not say."""


def load_spoken(config: ModelConfig) -> Spoken:
    """Tokenizer, EOS ids and window of a model; no weights are read.

    Raises:
        ModelError: they cannot be found or trusted; the text says which and what to do.
    """
    source, shared = resolve_source(config.name), _shared(config)
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, **shared)
        model = AutoConfig.from_pretrained(source, **shared)
        generation = _generation_config(source, config.revision, model)
    except _UNLOADABLE as error:
        raise ModelError(_explain(source, config, error)) from error
    # What is too long is measured here on purpose: without this Transformers warns of it.
    tokenizer.model_max_length = VERY_LARGE_INTEGER
    window = getattr(model.get_text_config(), "max_position_embeddings", None)
    return Spoken(tokenizer, eos_ids(generation), None if window is None else int(window))


def _generation_config(
    source: str, revision: str | None, model: PreTrainedConfig
) -> GenerationConfig:
    """Its own, or what Transformers makes of the model's configuration, as when it is loaded."""
    try:
        return GenerationConfig.from_pretrained(source, revision=revision or "main")
    except OSError:  # the file is not there
        return GenerationConfig.from_model_config(model)


def eos_ids(config: GenerationConfig | None) -> tuple[int, ...]:
    """The EOS ids that a generation config names: none, one or several."""
    eos = None if config is None else config.eos_token_id
    if eos is None:
        return ()
    return (eos,) if isinstance(eos, int) else tuple(eos)


def _shared(config: ModelConfig) -> dict[str, Any]:
    return {"revision": config.revision, "trust_remote_code": config.trust_remote_code}


def load_base(
    config: ModelConfig, device: torch.device
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The frozen base model in eval mode on its device, and its tokenizer.

    SDPA is the only attention: with others a packed row's boolean mask is silently added as 0/1.

    Raises:
        ModelError: it cannot be found, trusted or used; the text says which and what to do.
        ConfigError: 4-bit weights were asked for, and this machine cannot have them.
    """
    source, shared = resolve_source(config.name), _shared(config)
    dtype: torch.dtype = getattr(torch, config.dtype)
    how: dict[str, Any] = {}
    if config.quantization != "none":
        how["quantization_config"] = fourbit.quantization(dtype, device)
        # Weight by weight onto its device, so that the model is never whole in 16 bit anywhere.
        how["device_map"] = {"": _place(device)}
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, **shared)
        _refuse_quantised(source, AutoConfig.from_pretrained(source, **shared))
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            source,
            dtype=dtype,
            attn_implementation="sdpa",
            use_safetensors=True,
            output_loading_info=True,
            **shared,
            **how,
        )
    except ModelError:
        raise
    except _UNLOADABLE as error:
        raise ModelError(_explain(source, config, error)) from error
    model, info = loaded
    _check_weights(source, info)
    rows = model.get_input_embeddings().weight.shape[0]
    if len(tokenizer) > rows:
        raise ModelError(
            f"model.name: the tokenizer of {source} has {len(tokenizer)} ids but the model embeds "
            f"only {rows}; they do not belong together"
        )
    model.requires_grad_(False)
    if config.quantization == "none":
        return model.to(device).eval(), tokenizer
    fourbit.prepare(model, source)
    return model.eval(), tokenizer


def _place(device: torch.device) -> int | str:
    """A device as a device map names it."""
    if device.type != "cuda":
        return str(device)
    return torch.cuda.current_device() if device.index is None else device.index


def _refuse_quantised(source: str, config: Any) -> None:
    stored = getattr(config, "quantization_config", None)
    if stored is not None:
        method = stored.get("quant_method") if isinstance(stored, dict) else None
        raise ModelError(
            f"model.name: the weights of {source} are quantised already ({method or 'unknown'}), "
            "which is not supported; choose the 16-bit model that they were made of, and "
            "model.quantization: nf4 if it must be small"
        )


def _explain(source: str, config: ModelConfig, error: Exception) -> str:
    reason = " ".join(str(error).split())
    if "trust_remote_code" in reason and not config.trust_remote_code:
        return (
            f"model.name: {source} comes with Python code of its own, which is not run unless "
            "asked for. Read that code, then set model.trust_remote_code: true, or choose a model "
            "that Transformers supports itself"
        )
    kind = "folder" if Path(source).is_dir() else "hub name"
    return (
        f"model.name: {kind} {source} could not be loaded ({type(error).__name__}: "
        f"{reason[:600]}). Check the name, model.revision, your access to it and the network; "
        "weights must be safetensors"
    )


def _check_weights(source: str, info: dict[str, Any]) -> None:
    """Refuse weights with holes: Transformers would fill them at random and only warn."""
    missing = sorted(info.get("missing_keys", ()))
    mismatched = sorted(str(key) for key in info.get("mismatched_keys", ()))
    if missing or mismatched:
        raise ModelError(
            f"model.name: the weights of {source} do not fit its config.json; missing: "
            f"{', '.join(missing[:5]) or 'none'} ({len(missing)}), wrong shape: "
            f"{', '.join(mismatched[:5]) or 'none'} ({len(mismatched)}). The download may be "
            "incomplete"
        )


def attach_lora(model: PreTrainedModel, config: LoraConfig) -> PeftModel:
    """Wrap the model with a fresh LoRA adapter in fp32; B = 0, so the policy starts as the base.

    Args:
        model: frozen base model; its linear layers are replaced in place.
        config: rank, alpha, dropout (active in SFT only) and targets.

    Returns:
        The PEFT model, in eval mode.

    Raises:
        ModelError: a target name matches no linear layer, or names the output head.
    """
    targets = _targets(model, config.targets)
    peft_config = PeftLoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,  # pyright: ignore[reportArgumentType]  # any number works
        lora_dropout=config.dropout,
        target_modules=targets,
        bias="none",
        task_type="CAUSAL_LM",
    )
    with warnings.catch_warnings():
        # PEFT 0.21 reads a property that newer Transformers call deprecated.
        warnings.filterwarnings("ignore", ".*is_gradient_checkpointing.*", FutureWarning)
        wrapped = get_peft_model(model, peft_config, adapter_name=TRAINED)
    assert isinstance(wrapped, PeftModel)
    return wrapped.eval()


def _targets(model: PreTrainedModel, targets: tuple[str, ...]) -> str | list[str]:
    if targets == ("all-linear",):
        return "all-linear"
    head = model.get_output_embeddings()
    linear = {name: m for name, m in model.named_modules() if isinstance(m, nn.Linear)}
    known = sorted({name.rsplit(".", 1)[-1] for name, m in linear.items() if m is not head})
    for target in targets:
        matched = [m for name, m in linear.items() if name == target or name.endswith(f".{target}")]
        if not matched:
            raise ModelError(
                f"model.lora.targets: {target!r} is not a linear layer of this model; choose from "
                f"{', '.join(known)}, or all-linear alone"
            )
        if any(m is head for m in matched):
            raise ModelError(
                f"model.lora.targets: {target!r} is the output head, which stays frozen; choose "
                f"from {', '.join(known)}"
            )
    return list(targets)
