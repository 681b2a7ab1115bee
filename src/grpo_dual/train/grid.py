"""A grid of objective weights, seeds and other keys: one resolved configuration for each cell."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from grpo_dual.config.flags import apply_flags
from grpo_dual.config.schema import RunConfig
from grpo_dual.errors import ConfigError

PAIR = ("fairness", "hallucination")
"""The objectives whose weights are swept."""
SEED = "train.seed"
_SWEEPS_OWN = ("name", "out", SEED)
"""Keys that no ``--grid`` may hold."""


@dataclass(frozen=True, slots=True)
class Axes:
    """What is varied."""

    weights: tuple[tuple[float, float], ...] = ()
    """Of fairness and hallucination; none: as configured."""
    seeds: tuple[int, ...] = ()
    """None: the configured one."""
    grid: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """Keys with their values, as flags have them."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One run of a sweep."""

    name: str
    """Its folder in that of the sweep."""
    config: RunConfig
    values: Mapping[str, str]
    """Key -> value of what is its own, as flags have them."""


def cells(config: RunConfig, axes: Axes, folder: Path) -> list[Cell]:
    """All cells; those of one seed follow each other, so that a sweep cut short has whole fronts.

    Args:
        config: What they have in common.
        axes: What they differ in.
        folder: The sweep's.

    Raises:
        ConfigError: An axis names no key, has a wrong value or one twice, or there is none.
    """
    varied = [*_weights(config, axes), *_grid(axes)]
    seeds = [(("seed" + str(seed), {SEED: str(seed)})) for seed in axes.seeds]
    if not varied and not seeds:
        raise ConfigError("a sweep needs --weights, --seeds or --grid: there is nothing to vary.")
    made: list[Cell] = []
    for places in product(*([seeds] if seeds else []), *varied):
        # The seed leads the order, and ends the name.
        ordered = [*places[1:], places[0]] if seeds else [*places]
        name = "_".join(part for part, _ in ordered)
        values = {key: value for _, own in ordered for key, value in own.items()}
        flags = [word for key, value in values.items() for word in (f"--{key}", *value.split())]
        resolved = apply_flags(config, flags)
        resolved = resolved.model_copy(update={"name": name, "out": folder / name})
        made.append(Cell(name, resolved, values))
    names = [cell.name for cell in made]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigError(f"the grid has {twice[0]} twice: give each value of an axis once.")
    return made


Place = tuple[str, dict[str, str]]
"""A value of an axis: its part of the cell's name, and the keys that it sets."""


def _weights(config: RunConfig, axes: Axes) -> list[list[Place]]:
    if not axes.weights:
        return []
    lacking = [name for name in PAIR if name not in config.objectives]
    if lacking:
        raise ConfigError(
            f"--weights: the configuration has no objective {lacking[0]}; vary the weights of "
            "others by --grid objectives.NAME.weight=V,V"
        )
    keys = [f"objectives.{name}.weight" for name in PAIR]
    return [
        [
            (f"f{f!r}-h{h!r}", dict(zip(keys, (repr(f), repr(h)), strict=True)))
            for f, h in axes.weights
        ]
    ]


def _grid(axes: Axes) -> list[list[Place]]:
    keys = [key for key, _ in axes.grid]
    for key in keys:
        if key in _SWEEPS_OWN or keys.count(key) > 1:
            raise ConfigError(
                f"--grid {key}: "
                + ("seeds are given by --seeds" if key == SEED else "it cannot be an axis")
                + (" twice" if key not in _SWEEPS_OWN else "")
            )
    last = [key.rpartition(".")[2] for key in keys]
    return [
        [(f"{_short(key, last)}{_plain(value)}", {key: value}) for value in values]
        for key, values in axes.grid
    ]


def _short(key: str, last: Sequence[str]) -> str:
    """The last word of a key where that is enough, in a form that a folder's name may hold."""
    word = key.rpartition(".")[2]
    return word if last.count(word) == 1 else _plain(key)


def _plain(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9.+-]+", "-", text)
