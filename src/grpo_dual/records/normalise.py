"""White space and final periods: the formatting that tells the two sides of HaluEval apart.

In the real rows every right summary and no hallucinated one ends in a line break, and 95 % of
hallucinated QA answers but 1.5 % of right ones end in a period. A model rewarded for telling them
apart would learn just that. So one policy holds for every side of every subset: no text ends in a
period, nor holds one between its last word and its closing quotes and brackets, and white space is
single blanks (in ``general``, where lists and code matter and no side is marked by them, lines are
kept). Stripping is chosen over adding a period because a text that ends in ``?`` or ``!`` could not
take one, and its absence would then be a sign. Question and exclamation marks are part of what is
said and stay.
"""

import re

_TAIL = re.compile(r"[\s.。…\"'”’»)\]]+\Z")
_PERIODS = re.compile(r"[\s.。…]+")
_BLANK_LINES = re.compile(r"\n{3,}")


def one_line(text: str) -> str:
    r"""Make white space of any kind single blanks, with none at the ends.

    Example: ``one_line(" a \n b ") == "a b"``.
    """
    return " ".join(text.split())


def block(text: str) -> str:
    r"""Tidy line ends and blank lines of a text whose lines matter; indentation stays.

    Example: ``block("1. a  \r\n\n\n  2. b\n") == "1. a\n\n  2. b"``.
    """
    lines = "\n".join(line.rstrip() for line in text.splitlines())
    return _BLANK_LINES.sub("\n\n", lines).strip()


def without_final_period(text: str) -> str:
    """Remove periods and ellipses after the last word, also beside closing quotes and brackets.

    Example: ``without_final_period('He sang "Hee Haw." .') == 'He sang "Hee Haw"'``.
    """
    tail = _TAIL.search(text)
    if tail is None:
        return text
    return text[: tail.start()] + _PERIODS.sub("", tail.group())
