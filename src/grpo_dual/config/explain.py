"""What is wrong with a configuration, in words: pydantic's errors as one paragraph."""

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import UnionType
from typing import Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from grpo_dual.config.judging import PROVIDER_KINDS
from grpo_dual.config.objectives import (
    FairnessConfig,
    HallucinationConfig,
    ObjectiveConfig,
    PluginConfig,
)
from grpo_dual.config.schema import RunConfig
from grpo_dual.config.strict_yaml import KeyPath

KINDS: Mapping[str, type[ObjectiveConfig]] = {
    "fairness": FairnessConfig,
    "hallucination": HallucinationConfig,
    "plugin": PluginConfig,
}
"""Configuration class of each kind of objective."""

_PROVIDERS = ("judge", "providers")

_SHOWN = 3
"""Errors spelled out; the rest are counted."""


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that a mistyped one probably means."""
    return next(iter(difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.6)), None)


def suggest(name: str, known: Iterable[str]) -> str:
    """`` Did you mean `x`?``, or the known names when none is near and they are few, or nothing."""
    names = sorted(known)
    near = nearest(name, names)
    if near:
        return f" Did you mean `{near}`?"
    return f" Known here: {', '.join(names)}." if 0 < len(names) <= 15 else ""


def explain(
    error: ValidationError, kinds: Mapping[str, str], where: Callable[[KeyPath], str]
) -> str:
    """Turns pydantic's errors into one paragraph.

    Args:
        error: what ``RunConfig`` raised.
        kinds: kind of each objective by name; errors about the other kinds' classes are dropped
            (pydantic tries every class of the union).
        where: key path -> the place to name, e.g. ``run.yaml:7``.

    Returns:
        ``place: key: what is wrong; what to do`` for the first errors, and how many more there are.
    """
    told: list[str] = []
    for item in error.errors(include_url=False):
        loc: KeyPath = item["loc"]
        if loc[:1] == ("objectives",) and len(loc) > 2:
            if loc[2] != KINDS[kinds[str(loc[1])]].__name__:
                continue
            loc = (*loc[:2], *loc[3:])
        if loc[:2] == _PROVIDERS and len(loc) > 3:
            loc = (*loc[:3], *loc[4:])  # the tag of the union
        if loc and loc[-1] == "[key]":
            loc = loc[:-1]
        place, dotted = where(loc), ".".join(map(str, loc))
        what = _what(item["type"], loc, item["input"], item["msg"], kinds)
        same = not dotted or place == f"--{dotted.replace('_', '-')}"
        told.append(f"{place}: {what}" if same else f"{place}: {dotted}: {what}")
    more = len(told) - _SHOWN
    return " ".join(told[:_SHOWN]) + (f" There are {more} more errors." if more > 0 else "")


def _what(kind: str, loc: KeyPath, value: object, message: str, kinds: Mapping[str, str]) -> str:
    """One error: what is wrong and what to do."""
    shown = "what is there" if _may_be_a_key(loc, value) else f"`{_short(value)}`"
    if kind == "extra_forbidden":
        known = fields_at(loc[:-1], kinds)
        return f"there is no such key.{suggest(str(loc[-1]), known)}"
    if kind.startswith("union_tag"):
        return f"needs `kind`, one of {', '.join(PROVIDER_KINDS)}."
    if kind == "missing":
        return "is required and missing; add it."
    if kind == "value_error":
        return message.removeprefix("Value error, ") + "."
    if kind in ("model_type", "dict_type", "model_attributes_type"):
        return f"must be a group of `key: value` pairs, not {shown}."
    if kind in ("tuple_type", "list_type"):
        return f"must be a list such as [a, b], not {shown}."
    text = message.removeprefix("Input ").rstrip(".")
    hint = ""
    if kind == "literal_error":
        near = nearest(str(value), _quoted(message))
        hint = f" Did you mean `{near}`?" if near else ""
    elif isinstance(value, str) and kind.startswith(("int", "float", "bool")):
        hint = " Remove the quotes." if _numeric(value) else ""
    return f"{text}, not {shown}.{hint}"


def _may_be_a_key(loc: KeyPath, value: object) -> bool:
    """Texts among the judges, and groups that hold some, are not repeated; numbers are."""
    harmless = value is None or isinstance(value, bool | int | float) or _is_number(value)
    return loc[:2] == _PROVIDERS and (not harmless or "api_key" in loc)


def _is_number(value: object) -> bool:
    try:
        float(str(value))
    except ValueError:
        return False
    return True


def _short(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    text = str(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _quoted(message: str) -> list[str]:
    return message.split("'")[1::2]


def _numeric(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return text in ("true", "false")
    return True


def fields_at(loc: KeyPath, kinds: Mapping[str, str]) -> Sequence[str]:
    """Names of the fields that the model at a key path has; empty where the path is no model."""
    model: type[BaseModel] | None = RunConfig
    keys = list(loc)
    if len(keys) >= 2 and keys[0] == "objectives":
        model, keys = KINDS[kinds[str(keys[1])]], keys[2:]
    if keys[:2] == list(_PROVIDERS) and len(keys) > 2:
        # Which kind it is shows in none of the errors; what any kind has is suggested.
        return sorted({name for kind in PROVIDER_KINDS.values() for name in kind.model_fields})
    for key in keys:
        if model is None:
            return ()
        if isinstance(key, int):  # a list of models: its item class was found with the field
            continue
        field = model.model_fields.get(key)
        model = _model_in(field.annotation) if field else None
    return tuple(model.model_fields) if model else ()


def _model_in(annotation: object) -> type[BaseModel] | None:
    """The model class in ``Model``, ``tuple[Model, ...]`` or ``Model | None``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) in (tuple, list, Union, UnionType):
        for part in get_args(annotation):
            found = _model_in(part)
            if found:
                return found
    return None
