"""A finding's remedy applied: dotted keys of the resolved configuration, checked as a whole."""

from collections.abc import Mapping
from typing import cast

from pydantic import ValidationError

from grpo_dual.config.explain import explain
from grpo_dual.config.schema import RunConfig
from grpo_dual.errors import ConfigError


def patched(config: RunConfig, patch: Mapping[str, object]) -> RunConfig:
    """The configuration with other values under some keys.

    Args:
        config: A run's.
        patch: Dotted key -> new value, e.g. ``{"rollout.sampling.min_new_tokens": 0}``; a number in
            a key is a place in a list (``objectives.fairness.custom_rewards.0.weight``).

    Raises:
        ConfigError: There is no such key, or a value breaks a rule of the schema.
    """
    data: dict[str, object] = config.model_dump(mode="json")
    for key, value in patch.items():
        *path, last = key.split(".")
        _put(_group(data, path, key), last, value, key)
    kinds = {name: objective.kind for name, objective in config.objectives.items()}
    try:
        return RunConfig.model_validate(data)
    except ValidationError as error:
        raise ConfigError(explain(error, kinds, lambda _: "the patch")) from error


def _group(data: object, path: list[str], key: str) -> object:
    """What lies under the keys of ``path``."""
    for part in path:
        if isinstance(data, dict) and part in data:
            data = cast("dict[str, object]", data)[part]
        elif (
            isinstance(data, list)
            and part.isdigit()
            and int(part) < len(cast("list[object]", data))
        ):
            data = cast("list[object]", data)[int(part)]
        else:
            raise ConfigError(f"the patch: {key}: there is no `{part}` in this configuration.")
    return data


def _put(group: object, last: str, value: object, key: str) -> None:
    if not isinstance(group, dict):
        raise ConfigError(f"the patch: {key}: `{last}` is in no group of keys.")
    cast("dict[str, object]", group)[last] = value
