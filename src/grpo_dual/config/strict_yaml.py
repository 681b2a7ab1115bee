"""YAML for configuration files, without the four surprises of PyYAML's defaults.

Duplicate keys are refused (PyYAML lets the last one win), ``1e-6`` is a number (PyYAML reads a
string), ``off``, ``on``, ``yes`` and ``no`` are strings (only true and false are booleans), and
numbers with a leading zero, NaN and infinities are refused. Every error names file and line.
"""

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from grpo_dual.errors import ConfigError

KeyPath = tuple[str | int, ...]
"""Where a value stands: mapping keys and list indices from the root."""


@dataclass(frozen=True, slots=True)
class Document:
    """A parsed file: its data and, for every key path, the line (from 1) on which it starts."""

    path: Path
    data: dict[str, object]
    lines: dict[KeyPath, int]

    def where(self, key: KeyPath) -> str:
        """``file:line`` of a key path, or of its nearest parent that the file holds."""
        while key and key not in self.lines:
            key = key[:-1]
        return f"{self.path}:{self.lines[key]}" if key else str(self.path)


class _Loader(yaml.SafeLoader):
    """SafeLoader with the scalar rules of YAML 1.2's core schema."""


_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("tag:yaml.org,2002:bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("tag:yaml.org,2002:null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("tag:yaml.org,2002:int", r"[-+]?[0-9]+", "-+0123456789"),
    (
        "tag:yaml.org,2002:float",
        r"[-+]?(?:\.[0-9]+|[0-9]+\.[0-9]*)(?:[eE][-+]?[0-9]+)?|[-+]?[0-9]+[eE][-+]?[0-9]+"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        "-+.0123456789",
    ),
    ("tag:yaml.org,2002:merge", r"<<", "<"),
):
    _Loader.add_implicit_resolver(  # pyright: ignore[reportUnknownMemberType]
        _tag, re.compile(rf"^(?:{_pattern})$"), list(_first)
    )

_SPECIAL = re.compile(r"[-+]?\.(?:inf|nan)", re.IGNORECASE)
_LEADING_ZERO = re.compile(r"[-+]?0[0-9]+")


def read(path: Path) -> Document:
    """Reads one YAML mapping from a UTF-8 file.

    Raises:
        ConfigError: the file is absent, unreadable, not UTF-8, not YAML, empty, not a mapping, or
            breaks one of the rules above.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: there is no such configuration file.") from error
    except IsADirectoryError as error:
        raise ConfigError(f"{path}: is a folder; name the YAML file in it.") from error
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path}: is not UTF-8 text (byte {error.start}); save the file as UTF-8."
        ) from error
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or error}.") from error
    return parse(text, path)


def parse(text: str, path: Path) -> Document:
    """Parses YAML text; ``path`` is only named in errors.

    Raises:
        ConfigError: see ``read``.
    """
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            raise ConfigError(f"{path}: is empty; a run needs at least `model:` or `objectives:`.")
        if not isinstance(node, MappingNode):
            raise ConfigError(f"{path}:1: must hold `key: value` pairs at the top level.")
        lines: dict[KeyPath, int] = {}
        _check(node, path, (), lines, (node,))
        data = cast("object", loader.construct_document(node))  # pyright: ignore[reportUnknownMemberType]
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f":{mark.line + 1}" if mark else ""
        raise ConfigError(f"{path}{line}: is not valid YAML: {error.problem}.") from error
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"{path}: is not valid YAML: {reason}.") from error
    except RecursionError as error:
        raise ConfigError(f"{path}: is nested too deeply to be a configuration.") from error
    return Document(path, cast("dict[str, object]", data), lines)


def _check(
    node: Node, path: Path, key: KeyPath, lines: dict[KeyPath, int], parents: tuple[Node, ...]
) -> None:
    """Walks the node tree, notes lines, and refuses what the rules refuse."""
    if isinstance(node, MappingNode):
        for key_node, value_node in node.value:
            name = _key_name(key_node, path)
            line = key_node.start_mark.line + 1
            if (*key, name) in lines:
                dotted = ".".join(map(str, (*key, name)))
                raise ConfigError(
                    f"{path}:{line}: key `{dotted}` is given twice (first on line "
                    f"{lines[(*key, name)]}); keep one of them."
                )
            lines[(*key, name)] = line
            _descend(value_node, path, (*key, name), lines, parents)
    elif isinstance(node, SequenceNode):
        for index, item in enumerate(node.value):
            lines[(*key, index)] = item.start_mark.line + 1
            _descend(item, path, (*key, index), lines, parents)
    elif isinstance(node, ScalarNode):
        _check_number(node, path, key)


def _descend(
    node: Node, path: Path, key: KeyPath, lines: dict[KeyPath, int], parents: tuple[Node, ...]
) -> None:
    if any(node is parent for parent in parents):
        line = lines[key]
        raise ConfigError(f"{path}:{line}: an alias refers to the value that contains it.")
    _check(node, path, key, lines, (*parents, node))


def _key_name(node: Node, path: Path) -> str:
    if isinstance(node, ScalarNode) and node.tag in (
        "tag:yaml.org,2002:str",
        "tag:yaml.org,2002:merge",
    ):
        return str(node.value)
    shown = f"`{node.value}`" if isinstance(node, ScalarNode) else "a list or mapping"
    raise ConfigError(
        f"{path}:{node.start_mark.line + 1}: {shown} cannot be a key; keys are plain words "
        "(put quotes around one that reads as a number or true/false)."
    )


def _check_number(node: ScalarNode, path: Path, key: KeyPath) -> None:
    value = str(node.value)
    dotted = ".".join(map(str, key))
    where = f"{path}:{node.start_mark.line + 1}: {dotted}"
    if node.tag == "tag:yaml.org,2002:int" and _LEADING_ZERO.fullmatch(value):
        raise ConfigError(
            f"{where}: `{value}` has a leading zero, which some readers take as octal; write "
            f"{int(value)}, or put quotes around it if it is a name."
        )
    if node.tag == "tag:yaml.org,2002:float" and (
        _SPECIAL.fullmatch(value) or not math.isfinite(float(value))
    ):
        raise ConfigError(f"{where}: `{value}` is not a finite number; give a finite one.")
