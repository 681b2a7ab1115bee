"""YAML file -> ``RunConfig`` -> flags on top. Every mistake is a ``ConfigError`` of one paragraph.

Relative paths in the file (``data.path``, ``out``, a model folder) are relative to the current
directory, as flags are, not to the file's folder.
"""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

from pydantic import ValidationError

from grpo_dual.config.explain import KINDS, explain, fields_at, nearest, suggest
from grpo_dual.config.judging import PROVIDER_KINDS
from grpo_dual.config.schema import RunConfig
from grpo_dual.config.strict_yaml import Document, read
from grpo_dual.errors import ConfigError

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")


def load_config(path: Path, overrides: Sequence[str] = ()) -> RunConfig:
    """Loads a run's configuration.

    Args:
        path: YAML file. Keys that it leaves out have the schema's defaults; when it names
            ``objectives``, exactly those are trained.
        overrides: flags, e.g. ``["--objectives.fairness.kl.target", "0.02"]``.

    Raises:
        ConfigError: names file and line, or the flag, the full key, and what to do.
    """
    config = validate(read(path))
    if not overrides:
        return config
    from grpo_dual.config.flags import apply_flags  # tyro is slow to import

    return apply_flags(config, overrides)


def validate(document: Document) -> RunConfig:
    """Checks a parsed file against the schema.

    Values must have their own type: a quoted number or ``true`` where a number belongs is refused.

    Raises:
        ConfigError: names file, line, key and what to do.
    """
    data = dict(document.data)
    kinds: dict[str, str] = {}
    if "objectives" in data:
        data["objectives"], kinds = _objectives(document, data["objectives"])
    if isinstance(data.get("judge"), dict):
        data["judge"] = _judge(cast("dict[str, object]", data["judge"]))
    for key in data:
        if key not in RunConfig.model_fields:
            raise ConfigError(
                f"{document.where((key,))}: {key}: there is no such key."
                f"{suggest(key, fields_at((), kinds))}"
            )
    try:
        # JSON mode: lists become tuples and text a path, and nothing else is converted.
        return RunConfig.model_validate_json(json.dumps(data, allow_nan=False), strict=True)
    except ValidationError as error:
        raise ConfigError(explain(error, kinds, document.where)) from error


def _objectives(document: Document, value: object) -> tuple[dict[str, object], dict[str, str]]:
    """Fills in ``kind`` where the name says it; returns the objectives and the kind of each."""
    place = document.where(("objectives",))
    if not isinstance(value, dict) or not value:
        raise ConfigError(
            f"{place}: objectives: must name at least one objective, e.g. `fairness: {{}}`."
        )
    filled: dict[str, object] = {}
    kinds: dict[str, str] = {}
    for name, entry in cast("Mapping[str, object]", value).items():
        place, key = document.where(("objectives", name)), f"objectives.{name}"
        if not _NAME.fullmatch(name):
            raise ConfigError(
                f"{place}: {key}: `{name}` cannot name an objective; use letters, digits, - and _."
            )
        body: object = {} if entry is None else entry
        if not isinstance(body, dict):
            raise ConfigError(f"{place}: {key}: must be a group of `key: value` pairs.")
        keys = cast("dict[str, object]", body)
        kind = keys.get("kind", name)
        if not isinstance(kind, str) or kind not in KINDS:
            raise ConfigError(f"{place}: {key}: {_no_kind(name, keys)}")
        if kind == "plugin" and "kind" not in keys:
            raise ConfigError(
                f"{place}: {key}: give the objective a name of its own and `kind: plugin`."
            )
        kinds[name] = kind
        filled[name] = {**keys, "kind": kind}
    return filled, kinds


def _judge(judge: Mapping[str, object]) -> dict[str, object]:
    """Fills in the ``kind`` of providers that are called by it, e.g. ``openai: {model: ...}``."""
    providers = judge.get("providers")
    if not isinstance(providers, dict):
        return dict(judge)
    filled: dict[str, object] = {}
    for name, entry in cast("Mapping[str, object]", providers).items():
        body: object = {} if entry is None else entry
        if isinstance(body, dict) and name in PROVIDER_KINDS:
            body = {"kind": name, **cast("dict[str, object]", body)}
        filled[name] = body
    return {**judge, "providers": filled}


def _no_kind(name: str, keys: Mapping[str, object]) -> str:
    """Why an objective has no kind: a mistyped kind, or a new name without one."""
    if "kind" in keys:
        return f"`{keys['kind']}` is no kind of objective.{suggest(str(keys['kind']), KINDS)}"
    near = nearest(name, ("fairness", "hallucination"))
    return (
        "there is no such objective."
        + (f" Did you mean `{near}`?" if near else "")
        + " An objective of another name needs `kind: fairness`, `hallucination` or `plugin`."
    )
