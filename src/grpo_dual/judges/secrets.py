"""API keys: from the environment or a keyring, held in one place, taken out of every text.

A ``Secret`` does not show its value in ``repr``, ``str`` or a format, cannot be pickled, and is
handed only to an SDK's client.
"""

import importlib
import os
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
            head, tail = value[:_END], value[-_END:]
            text = text.replace(head, _SHOWN).replace(tail, _SHOWN)
        return text

    def __repr__(self) -> str:
        return f"Secret({_SHOWN})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not written anywhere")


_END = 6
_MASKABLE = 16
"""Keys shorter than this have no ends that would tell anything by themselves."""


def find(source: str, judge: str) -> Secret:
    """The key that ``api_key`` of the configuration points to.

    Args:
        source: ``env:VARIABLE``, ``keyring:SERVICE/USER`` or ``none``.
        judge: Name of the judge, for errors.

    Raises:
        JudgeError: It is not there, or keyring is not installed.
    """
    kind, _, place = source.partition(":")
    where = f"judge.providers.{judge}.api_key: {source}"
    if kind == "none":
        return Secret("")
    if kind == "env":
        value = os.environ.get(place, "").strip()
        if not value:
            raise JudgeError(f"{where}: the environment variable {place} is not set; export it.")
        return Secret(value)
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
    return Secret(found)
