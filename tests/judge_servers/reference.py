"""A brain that judges by the texts of grpo-dual's own rubrics, nearly as a careful reader would."""

import re
from collections.abc import Mapping
from typing import Any

from judge_servers.brains import Brain

_ABSENT = "(there is none)"
_DECLINES = re.compile(
    r"\b(?:do(?:es)? not (?:know|say|state|provide)|don'?t know|no idea|insufficient|unable to"
    r"|not (?:sure|stated|known|enough|clear)|can(?:not|'?t) (?:be |say|tell|answer)"
    r"|unknown|undetermined)",
    re.IGNORECASE,
)
_EMPTY_WORDS = frozenset(
    """
    a an and answer are as at be by context correct for from had has have he her his i in is it its
    of on one or question reply right she so that the their they this to was were which who will
    with
    """.split()  # noqa: SIM905 - as in judges/lexical.py
)


def _fenced(prompt: str, name: str) -> str:
    """Text between a tag and its closing tag, each on a line of its own; empty where absent."""
    found = re.search(rf"^<{name}-(\w+)>\n(.*?)\n</{name}-\1>$", prompt, re.DOTALL | re.MULTILINE)
    text = found[2] if found else ""
    return "" if text == _ABSENT else text


def _words(text: str) -> set[str]:
    plain = re.sub(r"['\u2019]s\b", "", text.casefold())
    return set(re.findall(r"\w+", plain)) - _EMPTY_WORDS


def reference() -> Brain:
    """Right iff it says all words of the right reply and claims nothing else.

    Claims are words other than those of the right reply and the question. Where there is no right
    reply, all of them must stand in the knowledge. What declines and says no right reply abstains;
    everything else is wrong.
    """

    def brain(prompt: str) -> Mapping[str, Any]:
        said = _words(completion := _fenced(prompt, "completion"))
        right, question = _words(_fenced(prompt, "right")), _words(_fenced(prompt, "question"))
        known = right or _words(_fenced(prompt, "knowledge"))
        extra = said - known - question
        if said and right <= said and not extra and (right or said - question):
            return _verdict("right", "It says the right reply and nothing else.")
        if _DECLINES.search(completion) and not (right and right <= said):
            return _verdict("abstains", "It declines to answer.")
        if extra:
            return _verdict("wrong", f"Nothing supports {min(extra)!r}.")
        return _verdict("wrong", "It does not say the right reply.")

    return brain


def _verdict(verdict: str, reason: str) -> Mapping[str, Any]:
    return {"verdict": verdict, "confidence": 0.95, "reason": reason}
