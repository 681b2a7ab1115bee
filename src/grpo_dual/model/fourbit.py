"""NF4 base weights (QLoRA, 2305.14314) through bitsandbytes, and what must be right for them.

A weight is one of 16 quantiles of a normal distribution, scaled by the largest absolute value of
its block of 64; the scales are kept in 8 bit, in blocks of 256 with a scale each in 32 bit. Layers
are dequantised to the model's dtype for every product; only the adapter is trained.
"""

import importlib
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch
from packaging.version import Version
from torch import nn
from transformers import BitsAndBytesConfig

from grpo_dual.errors import ConfigError, ModelError

MIN_VERSION = "0.50"
_BLOCK = 64
_SCALES = 256
_KEY = "model.quantization: nf4"


def nf4_bytes(weights: int) -> int:
    """Bytes of a doubly quantised matrix.

    Half a byte a weight, one for each block's scale and 4 for the scale of 256 of those:
    1/2 + 1/64 + 4/16384 = .5159 bytes (4.127 bits, as 2305.14314, section 3, counts them). Beside
    them the 16 quantiles, the 256 of the scales' code and their mean, in fp32.

    Args:
        weights: Of the matrix.
    """
    blocks = -(-weights // _BLOCK)
    return -(-weights // 2) + blocks + 4 * (-(-blocks // _SCALES) + 16 + 256 + 1)


def quantization(dtype: torch.dtype, device: torch.device) -> BitsAndBytesConfig:
    """What Transformers wants to know to quantise while it loads.

    Args:
        dtype: That layers are computed in.
        device: That they will be on; a small product is tried there.

    Raises:
        ConfigError: bitsandbytes is not installed, too old, or cannot do it on the device.
    """
    try:
        found = version("bitsandbytes")
    except PackageNotFoundError as error:
        raise ConfigError(
            f"{_KEY} needs bitsandbytes, which is not installed; "
            "pip install 'grpo-dual[4bit]', or set model.quantization: none"
        ) from error
    if Version(found) < Version(MIN_VERSION):
        raise ConfigError(
            f"{_KEY} needs bitsandbytes {MIN_VERSION} or newer, and {found} is installed; "
            "pip install --upgrade 'grpo-dual[4bit]'"
        )
    _try(dtype, device, found)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )


def _try(dtype: torch.dtype, device: torch.device, found: str) -> None:
    """Quantise a matrix, multiply by it and go back through it, as training will."""
    try:
        layer = importlib.import_module("bitsandbytes").nn.Linear4bit(
            _BLOCK, _BLOCK, bias=False, compute_dtype=dtype, quant_type="nf4"
        )
        _keep_layout(layer)
        layer = layer.to(device)
        x = torch.ones(2, _BLOCK, dtype=dtype, device=device, requires_grad=True)
        layer(x).sum().backward()
    except (RuntimeError, NotImplementedError, ImportError, OSError, AttributeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ConfigError(
            f"{_KEY} does not work on {device} with bitsandbytes {found} "
            f"({type(error).__name__}: {reason}); use a device that it supports, update it, or set "
            "model.quantization: none"
        ) from error


def prepare(model: nn.Module, source: str) -> None:
    """Look at what was loaded, and keep its layout.

    Raises:
        ModelError: Nothing of the model is in 4 bit.
    """
    layers = [module for module in model.modules() if is_fourbit(module)]
    if not layers:
        raise ModelError(
            f"{_KEY}: no layer of {source} could be quantised; bitsandbytes quantises plain linear "
            "layers only. Set model.quantization: none"
        )
    for layer in layers:
        _keep_layout(layer)


def _keep_layout(layer: Any) -> None:
    # On a CPU with AVX512-BF16 a pass without gradient would re-lay the weights in place, round
    # their scales to bf16 and compute in bf16 ever after, without a gradient to the input.
    layer.support_avx512bf16_for_cpu = False


def is_fourbit(module: nn.Module) -> bool:
    """Is it a linear layer whose weight is kept in 4 bit?"""
    # By name: bitsandbytes need not be installed. A PEFT layer shows its base's weight as its own.
    return isinstance(module, nn.Linear) and type(module.weight).__name__ == "Params4bit"


def stored_bytes(model: nn.Module) -> int:
    """Bytes of a model's frozen parameters; with 4-bit layers also a dequantised one, the largest.

    A 4-bit layer is dequantised for its product, forward and backward, one at a time.
    """
    total, largest = 0, 0
    fourbit = {id(m.weight): m for m in model.modules() if is_fourbit(m)}
    for parameter in model.parameters():
        if id(parameter) in fourbit:
            layer: Any = fourbit[id(parameter)]
            weights = layer.in_features * layer.out_features
            total += nf4_bytes(weights)
            largest = max(largest, weights * layer.compute_dtype.itemsize)
        elif not parameter.requires_grad:
            total += parameter.numel() * parameter.element_size()
    return total + largest
