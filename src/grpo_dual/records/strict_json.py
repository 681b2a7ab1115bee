"""JSON as its standard has it: no duplicate keys, no NaN or infinity, no half characters."""

import ast
import json
import math
import warnings
from collections.abc import Iterator
from typing import cast

_MAX_LITERAL = 1_000_000
"""Characters of a Python literal in a CSV cell; a BBQ cell has a few hundred."""


class JsonFault(ValueError):
    """A value that is complete JSON in form but must not be trusted, e.g. a duplicate key."""


class _Refused:
    """Stands in a decoded value where something was refused, so that its field can be named."""

    def __init__(self, problem: str) -> None:
        self.problem = problem


class StrictDecoder:
    """Decodes one JSON value at a time and reports what the standard library would let pass.

    Duplicate keys let the last one win, ``NaN`` and ``Infinity`` are read although they are no
    JSON, ``1e999`` becomes infinity, and an escaped half of a surrogate pair makes a text that
    cannot be encoded. All of these are faults here.
    """

    def __init__(self) -> None:
        self._faults: list[str] = []
        self._refused = False
        self._decoder = json.JSONDecoder(
            object_pairs_hook=self._object,
            parse_constant=self._constant,
            parse_float=self._float,
            parse_int=self._int,
        )

    def decode_at(self, text: str, start: int = 0) -> tuple[object, int, str | None]:
        """Decode the value that begins at ``text[start]``.

        Returns:
            The value, the index after it, and the fault found in it (None when there is none). A
            value with a fault is complete, so a reader can step over it.

        Raises:
            json.JSONDecodeError: It is no JSON, or not all of it is in ``text``.
            RecursionError: It is nested too deeply.
        """
        self._faults.clear()
        self._refused = False
        value, end = cast("tuple[object, int]", self._decoder.raw_decode(text, start))
        if self._refused:
            self._faults.extend(f"field '{where}': {bad.problem}" for where, bad in _refused(value))
        fault = self._faults[0] if self._faults else None
        if fault is None and _has_surrogates(text, start, end) and not _encodable(value):
            fault = (
                "a text holds half of a surrogate pair (\\ud800 to \\udfff); write one character"
            )
        return value, end, fault

    def _object(self, pairs: list[tuple[str, object]]) -> dict[str, object]:
        value = dict(pairs)
        if len(value) != len(pairs):
            keys = [key for key, _ in pairs]
            twice = next(key for key in keys if keys.count(key) > 1)
            self._faults.append(f"key '{twice}' stands twice in one object; keep one of them")
        return value

    def _constant(self, name: str) -> _Refused:
        return self._refuse(f"{name} is no JSON number; write a finite number or null")

    def _float(self, digits: str) -> float | _Refused:
        value = float(digits)
        return (
            value if math.isfinite(value) else self._refuse(f"{digits} is too large for a number")
        )

    def _int(self, digits: str) -> int | _Refused:
        if (
            len(digits) > 20
        ):  # Python refuses above 4300 digits, and no field here needs more than 20
            return self._refuse(f"a whole number of {len(digits)} digits is too large")
        return int(digits)

    def _refuse(self, problem: str) -> _Refused:
        self._refused = True
        return _Refused(problem)


def decode_cell(text: str) -> object:
    """Decode a structured CSV cell: JSON, or the Python literal that ``str(dict)`` writes.

    JSON is tried first; what is no JSON is read as a Python literal (constants, lists, tuples and
    dicts only, nothing is executed).

    Raises:
        JsonFault: It is neither, or has a duplicate key, or a number that is not finite.
    """
    decoder = StrictDecoder()
    stripped = text.strip()
    try:
        value, end, fault = decoder.decode_at(stripped)
    except json.JSONDecodeError:
        return _literal(stripped)
    except RecursionError:
        raise JsonFault("it is nested too deeply") from None
    if fault is not None:
        raise JsonFault(fault)
    if end != len(stripped):
        raise JsonFault(f"there is text after its JSON value, at character {end + 1}")
    return value


def _literal(text: str) -> object:
    if len(text) > _MAX_LITERAL:
        raise JsonFault(
            f"it is no JSON, and at {len(text)} characters too long for a Python literal"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "\d" in a quoted text is no news here
            tree = ast.parse(text, mode="eval")
        for node in ast.walk(tree):
            _check_literal(node)
        return ast.literal_eval(tree)
    except JsonFault:
        raise
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        raise JsonFault("it is neither JSON nor a Python literal") from None


def _check_literal(node: ast.AST) -> None:
    if isinstance(node, ast.Dict):
        keys = [key.value for key in node.keys if isinstance(key, ast.Constant)]
        for index, key in enumerate(keys):
            if key in keys[:index]:
                raise JsonFault(f"key {key!r} stands twice in one object; keep one of them")
    value = node.value if isinstance(node, ast.Constant) else None
    if isinstance(value, float) and not math.isfinite(value):
        raise JsonFault(f"{value} is no number that can be computed with")


def _refused(value: object, where: str = "") -> Iterator[tuple[str, _Refused]]:
    if isinstance(value, _Refused):
        yield where, value
    elif isinstance(value, dict):
        for key, item in cast("dict[str, object]", value).items():
            yield from _refused(item, f"{where}.{key}" if where else key)
    elif isinstance(value, list):
        for index, item in enumerate(cast("list[object]", value)):
            yield from _refused(item, f"{where}[{index}]")


def _has_surrogates(text: str, start: int, end: int) -> bool:
    return text.find("\\ud", start, end) >= 0 or text.find("\\uD", start, end) >= 0


def _encodable(value: object) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True
