"""What the parsers of all commands share: argparse whose mistakes are errors of one paragraph."""

import argparse
import difflib
from collections.abc import Callable, Iterable, Sequence
from typing import NoReturn

from grpo_dual.errors import ConfigError


class Parser(argparse.ArgumentParser):
    """argparse, with mistakes as errors of one paragraph and flags never abbreviated."""

    def error(self, message: str) -> NoReturn:
        """See argparse."""
        stop = "" if message.endswith("?") else "."
        raise ConfigError(f"{message}{stop} See `{self.prog} --help`.")

    def refuse_extras(self, extras: Sequence[str]) -> None:
        """Name the first argument that nobody asked for, with the flag it resembles."""
        if not extras:
            return
        flag = extras[0].partition("=")[0]
        known = [option for action in self._actions for option in action.option_strings]
        what = "there is no flag" if flag.startswith("-") else "nothing is expected at"
        self.error(f"{what} `{flag}`{did_you_mean(flag, known)}")


def split_flags(
    parser: Parser, arguments: Sequence[str], *, less: Iterable[str] = ()
) -> tuple[list[str], list[str]]:
    """A command's own flags with their values, and the others, which are keys of a configuration.

    Args:
        parser: Knows its own flags.
        arguments: What stands behind the configuration file: flags and their values.
        less: Own flags that count as others here.
    """
    takes = {
        option: action.nargs != 0
        for action in parser._actions
        for option in action.option_strings
        if option not in less and option not in ("-h", "--help")
    }
    own: list[str] = []
    others: list[str] = []
    place = 0
    while place < len(arguments):
        flag, equals, _ = arguments[place].partition("=")
        if flag not in takes:
            others.append(arguments[place])
            place += 1
            continue
        width = 2 if takes[flag] and not equals else 1
        own += arguments[place : place + width]
        place += width
    return own, others


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """``, did you mean `x`?`` when one of ``known`` is near, else empty."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f", did you mean `{near[0]}`?" if near else ""


def command(name: str, description: str, run: Callable[[argparse.Namespace], int]) -> Parser:
    """The parser of one command; ``run`` gets what it has parsed."""
    parser = Parser(prog=f"grpo-dual {name}", description=description, allow_abbrev=False)
    parser.set_defaults(run=run)
    return parser


def count(text: str) -> int:
    """The type of a flag that takes a whole number from 0 on."""
    if not (text.isascii() and text.isdecimal() and len(text) <= 9):
        raise argparse.ArgumentTypeError(f"must be a whole number, not `{text}`")
    return int(text)
