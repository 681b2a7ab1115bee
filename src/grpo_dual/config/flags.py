"""Command-line flags on top of a configuration: names are checked before tyro sees them.

tyro prints its own box and exits when a flag is wrong; here every mistake becomes one paragraph.
"""

import contextlib
import io
from collections.abc import Iterator, Mapping, Sequence
from typing import cast, get_args

import tyro
from pydantic import BaseModel, ValidationError

from grpo_dual.config.explain import explain, nearest, suggest
from grpo_dual.config.schema import RunConfig
from grpo_dual.config.strict_yaml import KeyPath
from grpo_dual.errors import ConfigError


def apply_flags(config: RunConfig, flags: Sequence[str]) -> RunConfig:
    """Sets values by flags such as ``--objectives.fairness.kl.target 0.02``.

    Both ``--key value`` and ``--key=value`` work, ``-`` and ``_`` are the same, and a boolean is
    set by ``--train.packed``, ``--train.no-packed`` or ``--train.packed false``. Only keys that the
    configuration has can be set: an objective, a list entry or a plug-in's setting that is not in
    the file cannot be added by a flag. ``--help`` prints all keys and exits.

    Raises:
        ConfigError: an unknown flag, a missing or a wrong value.
    """
    args = list(flags)
    if not {"-h", "--help"} & set(args):
        args, given = _normalise(config, args)
        _refuse_wrong_values(config, given)
    complaint = io.StringIO()
    with contextlib.redirect_stderr(complaint):
        try:
            return tyro.cli(
                RunConfig,
                prog="grpo-dual train CONFIG.yaml",
                default=config,
                args=args,
                config=(tyro.conf.AvoidSubcommands,),
            )
        except SystemExit as stop:
            if not stop.code:
                raise
    raise ConfigError(f"The flags cannot be applied: {_unboxed(complaint.getvalue())}.")


def keys_of(
    value: object, prefix: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], object]]:
    """Every settable key of a configuration with its value, as (path, value)."""
    items: Iterator[tuple[str, object]] | None = None
    if isinstance(value, BaseModel):
        items = ((name, getattr(value, name)) for name in type(value).model_fields)
    elif isinstance(value, Mapping):
        items = ((str(k), v) for k, v in cast("Mapping[object, object]", value).items())
    elif isinstance(value, tuple):
        entries = cast("tuple[object, ...]", value)
        if any(isinstance(entry, BaseModel) for entry in entries):
            items = ((str(i), entry) for i, entry in enumerate(entries))
        elif not entries and prefix[-1:] == ("custom_rewards",):
            return  # structure: entries are added in the file
    if items is None:
        yield prefix, value
        return
    for name, inner in items:
        yield from keys_of(inner, (*prefix, name))


def _spelling(path: tuple[str, ...]) -> str:
    return ".".join(path).replace("_", "-")


def _or_auto(config: RunConfig, path: tuple[str, ...]) -> bool:
    """Is a key true, false or a word?"""
    group: object = config
    for key in path[:-1]:
        if isinstance(group, BaseModel):
            group = getattr(group, key)
    if not isinstance(group, BaseModel) or path[-1] not in type(group).model_fields:
        return False
    return any(word is True for word in get_args(type(group).model_fields[path[-1]].annotation))


Given = tuple[tuple[str, ...], list[str] | list[bool]]
"""A flag's key, and the values that follow it."""


def _normalise(config: RunConfig, args: list[str]) -> tuple[list[str], list[Given]]:
    """Checks flag names; returns tyro's spelling and (path, values) of each flag."""
    known = {_spelling(path): (path, value) for path, value in keys_of(config)}
    or_auto = {name for name, (path, _) in known.items() if _or_auto(config, path)}
    switches = or_auto | {name for name, (_, value) in known.items() if isinstance(value, bool)}
    spelled: list[str] = []
    given: list[Given] = []
    index = 0
    while index < len(args):
        flag, equals, inline = args[index].partition("=")
        index += 1
        if not flag.startswith("--") or flag == "--":
            raise ConfigError(
                f"`{flag}` stands where a flag is expected; flags look like `--train.steps 100`."
            )
        values = [inline] if equals else []
        while not equals and index < len(args) and not args[index].startswith("--"):
            values.append(args[index])
            index += 1
        name = flag[2:].replace("_", "-")
        positive = ".".join([*name.split(".")[:-1], name.split(".")[-1].removeprefix("no-")])
        if name not in known and positive in switches:
            if values:
                raise ConfigError(f"{flag} takes no value, but `{' '.join(values)}` follows it.")
            name, values = positive, ["false"]
        if name not in known:
            raise ConfigError(_unknown(flag, name, known))
        path, value = known[name]
        if name in switches and (name not in or_auto or _is_boolean(values)):
            on = _boolean(flag, values)
            own = _spelling((*path[:-1], path[-1] if on else f"no-{path[-1]}"))
            spelled.extend([f"--{name}", str(on)] if name in or_auto else [f"--{own}"])
            given.append((path, [on]))
            continue
        if not values:
            raise ConfigError(f"{flag} needs a value, e.g. `{flag} {_example(value)}`.")
        spelled.extend([f"--{name}", *values])
        given.append((path, values))
    return spelled, given


_TRUE = ((), ("true",), ("1",))
_FALSE = (("false",), ("0",))


def _is_boolean(values: list[str]) -> bool:
    return tuple(value.lower() for value in values) in (*_TRUE, *_FALSE)


def _boolean(flag: str, values: list[str]) -> bool:
    words = tuple(value.lower() for value in values)
    if words in _TRUE:
        return True
    if words in _FALSE:
        return False
    raise ConfigError(f"{flag} is true or false, not `{' '.join(values)}`.")


def _example(value: object) -> str:
    if isinstance(value, tuple):
        return " ".join(map(str, cast("tuple[object, ...]", value))) or "NAME"
    return str(value)


def _unknown(flag: str, name: str, known: Mapping[str, object]) -> str:
    """Names the flag, and the nearest key, searching first where the flag's parents point to."""
    if any(key.startswith(name + ".") for key in known):
        inner = sorted(key for key in known if key.startswith(name + "."))
        return f"{flag} is a group of keys, not a value; set one of them, e.g. `--{inner[0]}`."
    parts = name.split(".")
    siblings: set[str] = set()
    depth = 0
    for depth in range(len(parts)):  # the first part of the path that does not exist is the typo
        stem = "".join(part + "." for part in parts[:depth])
        siblings = {key[len(stem) :].split(".")[0] for key in known if key.startswith(stem)}
        if parts[depth] not in siblings:
            break
    near = nearest(parts[depth], siblings)
    better = ".".join([*parts[:depth], near or "", *parts[depth + 1 :]])
    namesakes = [key for key in known if key.split(".")[-1] == parts[-1]]
    guesses = [better] if better in known else namesakes[:3] if depth == 0 else []
    if guesses:
        shown = " or ".join(f"`--{guess}`" for guess in guesses)
        return f"There is no flag {flag}. Did you mean {shown}?"
    if depth == 0:
        return f"There is no flag {flag}.{suggest(parts[0], siblings)}"
    parent = ".".join(parts[:depth])
    return (
        f"There is no flag {flag}: {parent} has no `{parts[depth]}`."
        f"{suggest(parts[depth], siblings)}"
    )


def _refuse_wrong_values(config: RunConfig, given: Sequence[Given]) -> None:
    """Validates the values by pydantic, so that the error can name the flag and the rule."""
    data: dict[str, object] = config.model_dump()
    flags: dict[KeyPath, str] = {}
    for path, values in given:
        target = data
        for key in path[:-1]:
            target = _child(target, key)
        current = target[path[-1]]
        value: object = tuple(values) if isinstance(current, tuple) else values[0]
        if len(values) > 1 and not isinstance(current, tuple):
            told = " ".join(map(str, values))
            raise ConfigError(f"--{_spelling(path)} takes one value, but `{told}` was given.")
        target[path[-1]] = None if value == "None" else value
        located: KeyPath = tuple(int(key) if key.isdigit() else key for key in path)
        for depth in range(1, len(located) + 1):  # a rule about a group names the flag inside it
            flags[located[:depth]] = f"--{_spelling(path)}"
    kinds = {name: objective.kind for name, objective in config.objectives.items()}
    try:
        RunConfig.model_validate(data)
    except ValidationError as error:

        def where(key: KeyPath) -> str:
            while key and key not in flags:
                key = key[:-1]
            return flags[key] if key else "the flags"

        raise ConfigError(explain(error, kinds, where)) from error


def _child(value: object, key: str) -> dict[str, object]:
    """The group under a key of a group, or at an index of a list of groups."""
    if isinstance(value, tuple):
        return cast("tuple[dict[str, object], ...]", value)[int(key)]
    return cast("dict[str, dict[str, object]]", value)[key]


def _unboxed(text: str) -> str:
    """Tyro's message without its box, as one line."""
    words = "".join(" " if char in "╭╮╰╯│─" else char for char in text).split()
    return " ".join(words).rstrip(".")
