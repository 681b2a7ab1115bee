"""Optimizer and random generators as tensors and JSON, and back to the same bits."""

import json
import random
from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

from grpo_dual.errors import CheckpointError

_OPTIMIZER = "optimizer/"
_RNG = "rng/"


def optimizer_tensors(
    optimizer: Optimizer, names: Mapping[str, Parameter]
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """State of an optimizer whose per-parameter state is tensors (AdamW), keyed by parameter name.

    Args:
        optimizer: AdamW over (a part of) ``names``.
        names: Parameters by name, e.g. ``dict(policy.trainable_parameters())``.

    Returns:
        Tensors under ``optimizer/<parameter>/<exp_avg|exp_avg_sq|step>`` (not copied), and the
        param groups with their hyperparameters as JSON.

    Raises:
        TypeError: A hyperparameter or state is neither JSON nor a tensor.
        ValueError: The optimizer holds a parameter that ``names`` lacks.
    """
    by_id = {id(parameter): name for name, parameter in names.items()}
    tensors: dict[str, Tensor] = {}
    groups: list[dict[str, Any]] = []
    for group in optimizer.param_groups:
        unnamed = [p for p in group["params"] if id(p) not in by_id]
        if unnamed:
            raise ValueError(f"{len(unnamed)} parameters of the optimizer have no name")
        members = [by_id[id(p)] for p in group["params"]]
        settings = {key: value for key, value in group.items() if key != "params"}
        json.dumps(settings, allow_nan=False)  # Refuses here, by type, what could not be saved.
        groups.append({**settings, "params": members})
        for name, parameter in zip(members, group["params"], strict=True):
            for key, value in optimizer.state.get(parameter, {}).items():
                if not isinstance(value, Tensor):
                    raise TypeError(f"optimizer state {key} of {name} is no tensor")
                tensors[f"{_OPTIMIZER}{name}/{key}"] = value
    return tensors, {"groups": groups}


def load_optimizer(
    optimizer: Optimizer,
    names: Mapping[str, Parameter],
    tensors: Mapping[str, Tensor],
    state: Mapping[str, Any],
) -> None:
    """Put the saved state into a freshly built optimizer over the same parameters.

    Args:
        optimizer: Built like the saved one; its hyperparameters are replaced by the saved ones.
        names: Parameters by name.
        tensors: From ``optimizer_tensors``; those without its prefix are ignored.
        state: From ``optimizer_tensors``.

    Raises:
        CheckpointError: The parameters are not the saved ones, in name, order or shape. The
            optimizer is then unchanged.
    """
    by_id = {id(parameter): name for name, parameter in names.items()}
    saved_groups = cast("list[dict[str, Any]]", state["groups"])
    ours = [[by_id[id(p)] for p in group["params"]] for group in optimizer.param_groups]
    theirs = [group["params"] for group in saved_groups]
    if ours != theirs:
        flat = [{name for group in groups for name in group} for groups in (ours, theirs)]
        odd = sorted(flat[0] ^ flat[1]) or ["the order"]
        raise CheckpointError(
            f"the checkpoint's optimizer is of other parameters ({odd[0]} differs, {len(odd)} in "
            "all). Resume with the model and LoRA settings the run was started with."
        )
    index = {name: i for i, name in enumerate(name for group in ours for name in group)}
    entries: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith(_OPTIMIZER):
            name, _, field = key.removeprefix(_OPTIMIZER).rpartition("/")
            if name not in index or (value.dim() and value.shape != names[name].shape):
                raise CheckpointError(
                    f"the checkpoint's {key} has shape {tuple(value.shape)}, which fits no "
                    "parameter of this model. Resume with the model the run was started with."
                )
            entries.setdefault(index[name], {})[field] = value.clone()
    groups = [
        {
            **{k: _like(group.get(k), v) for k, v in saved.items()},
            "params": [index[name] for name in saved["params"]],
        }
        for group, saved in zip(optimizer.param_groups, saved_groups, strict=True)
    ]
    optimizer.load_state_dict({"state": entries, "param_groups": groups})


def _like(ours: object, saved: object) -> object:
    """JSON has lists only; betas are a tuple."""
    return tuple(cast("list[object]", saved)) if isinstance(ours, tuple) else saved


def rng_state() -> tuple[dict[str, Tensor], dict[str, Any]]:
    """States of the global generators of Python, numpy, torch's CPU and every CUDA device in use.

    Returns:
        Tensors under ``rng/``, and JSON.
    """
    version, words, gauss = random.getstate()
    # 32-bit words, in a signed type that every reader of safetensors knows.
    tensors = {f"{_RNG}python": torch.tensor(words, dtype=torch.int64)}
    kind, keys, position, has_gauss, cached = np.random.get_state()  # noqa: NPY002 see seed.py
    tensors[f"{_RNG}numpy"] = torch.tensor(cast("Any", keys).astype(np.int64))
    tensors[f"{_RNG}torch"] = torch.get_rng_state()
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        for i, device in enumerate(torch.cuda.get_rng_state_all()):
            tensors[f"{_RNG}cuda/{i}"] = device
    state = {
        "python": {"version": version, "gauss": gauss},
        "numpy": [kind, int(position), int(has_gauss), float(cached)],
    }
    return tensors, state


def restore_rng(tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
    """Put back what ``rng_state`` gave.

    Raises:
        CheckpointError: The checkpoint has the state of CUDA devices that are not here.
    """
    cuda = {
        int(key.rpartition("/")[2]): value
        for key, value in tensors.items()
        if key.startswith(f"{_RNG}cuda/")
    }
    here = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if len(cuda) > here:
        raise CheckpointError(
            f"the checkpoint has random states of {len(cuda)} CUDA devices and {here} are here, so "
            "the run could not go on with the same numbers. Resume on a machine like the first one."
        )
    words = tuple(tensors[f"{_RNG}python"].tolist())
    random.setstate((state["python"]["version"], words, state["python"]["gauss"]))
    kind, position, has_gauss, cached = state["numpy"]
    keys = tensors[f"{_RNG}numpy"].numpy().astype(np.uint32)
    np.random.set_state((kind, keys, position, has_gauss, cached))  # noqa: NPY002 see seed.py
    torch.set_rng_state(tensors[f"{_RNG}torch"])
    for i, value in cuda.items():
        torch.cuda.set_rng_state(value, i)
