"""API keys: from the environment or a keyring, held in one place, taken out of every text.

A ``Secret`` does not show its value in ``repr``, ``str`` or a format, cannot be pickled, and is
handed only to an SDK's client.
"""

import importlib
import os
import re
from typing import NoReturn, cast

from grpo_dual.errors import JudgeError

_SHOWN = "[secret]"


class Secret:
    """A key whose value is only had by ``reveal``."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        """Keep it."""
        self._value = value

    def reveal(self) -> str:
        """The value; for an SDK's client and nothing else."""
        return self._value

    def redact(self, text: str) -> str:
        """``text`` without the value, and without its longer parts, as servers echo them."""
        value = self._value
        if not value:
            return text
        text = text.replace(value, _SHOWN)
        if len(value) >= _MASKABLE:
            # "Incorrect API key provided: sk-abcd****wxyz": the ends alone are still a secret.
            text = _MASKED.sub(self._unmasked, text)
            for length in range(len(value) - 1, _END - 1, -1):
                head, tail = value[:length], value[-length:]
                text = text.replace(head, _SHOWN).replace(tail, _SHOWN)
        return text

    def _unmasked(self, masked: re.Match[str]) -> str:
        """Nothing, where either side of the mask is an end of the value."""
        value, (head, tail) = self._value, masked.groups()
        mine = any(
            head.endswith(value[:n]) or tail.startswith(value[-n:])
            for n in range(_LEAST_END, len(value))
        )
        return _SHOWN if mine else masked[0]

    def __repr__(self) -> str:
        return f"Secret({_SHOWN})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not written anywhere")


_END = 6
_LEAST_END = 3
"""Signs of a key that are told apart from chance beside a mask."""
_MASKED = re.compile(r"([\w-]{0,200})(?:[*•…]+|\.{3,})([\w-]{0,200})")
_MASKABLE = 16
"""Keys shorter than this have no ends that would tell anything by themselves."""


def find(source: str, judge: str) -> Secret:
    """The key that ``api_key`` of the configuration points to.

    Args:
        source: ``env:VARIABLE``, ``keyring:SERVICE/USER`` or ``none``.
        judge: Name of the judge, for errors.

    Raises:
        JudgeError: It is not there, is no key, or keyring is not installed.
    """
    kind, _, place = source.partition(":")
    where = f"judge.providers.{judge}.api_key: {source}"
    if kind == "none":
        return Secret("")
    if kind == "env":
        value = os.environ.get(place, "").strip()
        if not value:
            raise JudgeError(f"{where}: the environment variable {place} is not set; export it.")
        return _checked(value, where)
    try:
        keyring = importlib.import_module("keyring")
    except ImportError as error:
        raise JudgeError(
            f'{where}: keyring is not installed: pip install "grpo-dual[keyring]"'
        ) from error
    service, _, user = place.partition("/")
    try:
        found = cast("str | None", keyring.get_password(service, user))
    except keyring.errors.KeyringError as error:
        raise JudgeError(f"{where}: the keyring cannot be read ({error})") from error
    if not found:
        raise JudgeError(
            f"{where}: the keyring has no such entry; add it: keyring set {service} {user}"
        )
    return _checked(found.strip(), where)


def _checked(value: str, where: str) -> Secret:
    """A value that can stand in a header; an SDK's error on another one would show it."""
    if not re.fullmatch(r"[!-~]+", value):
        raise JudgeError(
            f"{where}: what stands there is no key: it holds blanks, line ends or signs beyond "
            "ASCII. Store the key alone."
        )
    return Secret(value)
