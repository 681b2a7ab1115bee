"""The synthetic world's own gold: what a completion claims, read with the world's grammar.

It shares no code with the reward's judge. Every statement of the world has one form: subject, verb,
object. Reading is strict: what it cannot read in full is never grounded, so a right answer in a
wording that is not the world's counts as hallucinated, and a wrong one cannot hide in a wording.
"""

import re
from typing import Final, Literal, NamedTuple, TypeAlias

from grpo_dual.evaluation.evasion import is_evasive
from grpo_dual.records.vocabulary import FACT_VERBS
from grpo_dual.types import HaluEvalRecord

Outcome: TypeAlias = Literal["grounded", "abstains", "hallucinated"]

# "was visited by Dorvin" and "not mentioned in" state nothing of the world's form.
_STATEMENT: Final = re.compile(
    rf"\b(?!(?:not|is|are|was|were|be|been)\b)(\w+) ({'|'.join(FACT_VERBS)}) (\w+)"
)
_LEAD: Final = re.compile(
    r"^(?:so,? |yes,? )?(?:(?:the )?answer(?: is|:)(?: that)?|it (?:is|was)) "
)
_EMPTY_TALK: Final = re.compile(r"(?:[\s.,;:!|'\"]|\b(?:and|also|but|while|yes)\b)*")
"""What may stand between statements without adding or taking back anything."""


class Claim(NamedTuple):
    """A statement: "Dorvin visited Kelford", casefolded."""

    subject: str
    verb: str
    value: str


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())


def _in_order(plain: str) -> tuple[list[Claim], str]:
    """The statements of a casefolded text as they come, and the text with | in their place."""
    found = [Claim(*m.groups()) for m in _STATEMENT.finditer(plain)]
    return found, _STATEMENT.sub("|", plain)


def claims(text: str) -> tuple[Claim, ...]:
    """All statements of the world's grammar in a text, in order, casefolded, with repetitions."""
    return tuple(_in_order(_plain(text))[0])


def _only_states(rest: str, record: HaluEvalRecord) -> bool:
    """Is what remains beside the statements empty talk, or another sentence of the passage?"""
    context = _in_order(_plain(record.context))[1]
    for filler in (part.strip() for part in context.split(".")):
        if filler.strip("| "):
            rest = rest.replace(filler, "|", 1)
    return _EMPTY_TALK.fullmatch(_LEAD.sub("", rest)) is not None


def judge_by_gold(record: HaluEvalRecord, completion: str) -> Outcome:
    """Judge an answer by what the passage states.

    ``grounded``: every word of it belongs to sentences of the passage, none of them said twice and
    not all of the passage, and, where there is a question, the accepted statement comes first; or
    it is the accepted value alone ("Kelford", "The answer is Kelford."). ``abstains``: it declines,
    and states nothing that the passage does not. Anything else, empty text included, is
    ``hallucinated``.

    Args:
        record: An ANSWER record of the synthetic world.
        completion: The model's text.

    Returns:
        The outcome.

    Raises:
        ValueError: The record is not of the synthetic world, so it has no gold here.
    """
    known = frozenset(claims(record.context))
    wanted = claims(record.accepted or "")
    if len(wanted) != 1 or not known.issuperset(wanted):
        raise ValueError(f"{record.record_id}: its accepted text is no statement of its passage")
    plain = _plain(completion)
    stated, rest = _in_order(plain)
    if not known.issuperset(stated):
        return "hallucinated"
    if is_evasive(completion):
        return "abstains"
    if not stated:
        named = bool(record.query) and _LEAD.sub("", plain).rstrip(".!") == wanted[0].value
        return "grounded" if named else "hallucinated"
    repeats_or_pastes = len(set(stated)) < len(stated) or known.issubset(stated)
    answers = stated[0] == wanted[0] or not record.query
    if answers and not repeats_or_pastes and _only_states(rest, record):
        return "grounded"
    return "hallucinated"
