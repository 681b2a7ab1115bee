"""Other words for a text's own, each the same one wherever it stands."""

import random
import re
from collections.abc import Callable, Sequence
from typing import Protocol

from real_facts import NO_SUBJECTS

CAPITALISED = re.compile(r"(?<![\w'])[A-Z][\w'-]+")
_DIGITS = re.compile(r"(?<![\w,.])\d+(?![\w])")
LOWER = re.compile(r"(?<![\w'-])[a-z]{4,}(?![\w'-])")
_QUESTION_WORDS = frozenset(
    "What Which Who Whom Whose When Where How Why Is Are Was Were Did Does Do Can Could Has Have "  # noqa: SIM905
    "Of By Not No Yes January February March April May June July August September October November "
    "December what which whom whose when where were does have many year that this with "
    "from name known".split()
)


class Supply(Protocol):
    """Where words come from."""

    @property
    def capitalised(self) -> Sequence[str]:
        """Single words of names."""
        ...

    @property
    def words(self) -> Sequence[str]:
        """Other words, of four letters or more."""
        ...


def substitution(
    rng: random.Random, supply: Supply, *, names: float, words: float
) -> Callable[[str], str]:
    """A change of texts that replaces a word by the same one wherever it stands.

    ``names`` and ``words`` are the shares of those that are replaced; numbers go with names and
    keep their length.
    """
    drawn: dict[str, str] = {}

    def other(match: re.Match[str]) -> str:
        word = match[0]
        if word in drawn or word in NO_SUBJECTS or word in _QUESTION_WORDS:
            return drawn.get(word, word)
        if word[0].isdigit():
            drawn[word] = other_number(rng, word) if rng.random() < names else word
        elif word[0].isupper():
            drawn[word] = rng.choice(supply.capitalised) if rng.random() < names else word
        else:
            drawn[word] = rng.choice(supply.words) if rng.random() < words else word
        return drawn[word]

    def change(text: str) -> str:
        for pattern in (CAPITALISED, _DIGITS, LOWER):
            text = pattern.sub(other, text)
        return text

    return change


def other_number(rng: random.Random, text: str) -> str:
    """Other digits, as many; the first is no 0."""
    rest = (str(rng.randrange(10)) if c.isdigit() else c for c in text[1:])
    return str(rng.randrange(1, 10)) + "".join(rest)
