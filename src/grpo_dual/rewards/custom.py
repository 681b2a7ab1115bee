"""The user's own rewards: any callable with TRL's signature, named ``module:function``.

It is called once a group, with everything by keyword, as TRL does:

    f(prompts: list[str], completions: list[str], **columns) -> list[float | None]

``columns`` holds, one entry per completion: ``completion_ids`` (token ids), ``messages`` (the chat
as role/content dictionaries) and every field of the record (``record_id``, ``subset``, ``context``,
``options``, ...). ``prompts`` is the text of the last user turn. None means "no opinion": that
completion is left unscored, it is never taken for 0.
"""

import importlib
import inspect
import math
import numbers
import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import cast

from grpo_dual.config.objectives import CustomReward
from grpo_dual.errors import RewardError
from grpo_dual.types import RolloutGroup


@contextmanager
def current_directory_importable() -> Generator[None, None, None]:
    """Inside, modules of the current directory can be imported, as ``python -m`` does."""
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        yield
    finally:
        sys.path.remove(here)


def load_function(spec: str) -> Callable[..., object]:
    """Import ``module:function``, from the current directory too.

    Raises:
        RewardError: not of that form, not to be imported, absent, not callable, or a coroutine.
    """
    module_name, _, attribute = spec.partition(":")
    if not module_name or not attribute:
        raise RewardError(f"custom reward {spec!r} is not of the form module:function")
    try:
        with current_directory_importable():
            found: object = importlib.import_module(module_name)
    except Exception as error:  # the module is the user's: importing it may raise anything
        raise RewardError(
            f"custom reward {spec}: importing {module_name} failed with "
            f"{type(error).__name__}: {error}"
        ) from error
    for name in attribute.split("."):
        if not hasattr(found, name):
            raise RewardError(f"custom reward {spec}: {module_name} has no {attribute}")
        found = getattr(found, name)
    if not callable(found):
        raise RewardError(f"custom reward {spec}: {attribute} is not callable")
    if inspect.iscoroutinefunction(found):
        raise RewardError(f"custom reward {spec}: {attribute} is a coroutine; make it a function")
    return found


def columns(group: RolloutGroup) -> dict[str, list[object]]:
    """The keyword arguments of a reward function for one group, one entry per completion."""
    count = len(group.rollouts)
    record = group.prompt.record
    chat = [{"role": m.role, "content": m.content} for m in group.prompt.messages]
    users = [m.content for m in group.prompt.messages if m.role == "user"]
    return {
        **{f.name: [getattr(record, f.name)] * count for f in fields(record)},
        "prompts": [users[-1] if users else ""] * count,
        "completions": [rollout.text for rollout in group.rollouts],
        "completion_ids": [list(rollout.token_ids) for rollout in group.rollouts],
        "messages": [chat] * count,
    }


class CustomFunction:
    """A loaded reward function with its weight and the name of its part."""

    def __init__(self, config: CustomReward) -> None:
        self.spec = config.function
        self.weight = config.weight
        self.part = f"custom:{config.function.partition(':')[2]}"
        self._function = load_function(config.function)

    def values(self, group: RolloutGroup) -> list[float | None]:
        """Its weighted value for each completion; None where it has no opinion.

        Raises:
            RewardError: it raised (chained), or did not return one finite float or None each.
        """
        try:
            result = self._function(**columns(group))
        except Exception as error:  # the function is the user's: it may raise anything
            raise RewardError(
                f"custom reward {self.spec} raised {type(error).__name__}: {error} "
                f"(on {group.prompt.record.record_id})"
            ) from error
        if isinstance(result, str) or not isinstance(result, Sequence):
            raise RewardError(
                f"custom reward {self.spec} returned {type(result).__name__}, not a list with one "
                "float or None per completion"
            )
        values = cast("Sequence[object]", result)
        if len(values) != len(group.rollouts):
            raise RewardError(
                f"custom reward {self.spec} returned {len(values)} values for "
                f"{len(group.rollouts)} completions"
            )
        return [self._checked(value) for value in values]

    def _checked(self, value: object) -> float | None:
        if value is None:
            return None
        if not isinstance(value, numbers.Real) or not math.isfinite(value):
            raise RewardError(
                f"custom reward {self.spec} returned {value!r}; every value must be a finite "
                "float, or None where it has no opinion"
            )
        return self.weight * float(value)


def load_all(configs: Sequence[CustomReward]) -> tuple[CustomFunction, ...]:
    """Load the functions; parts that would share a name are named by module and function.

    Raises:
        RewardError: one cannot be loaded, or one is listed twice.
    """
    loaded = tuple(CustomFunction(config) for config in configs)
    specs = [function.spec for function in loaded]
    parts = [function.part for function in loaded]
    for function in loaded:
        if specs.count(function.spec) > 1:
            raise RewardError(f"custom reward {function.spec} is listed twice; add up its weights")
        if parts.count(function.part) > 1:
            function.part = f"custom:{function.spec}"
    return loaded
