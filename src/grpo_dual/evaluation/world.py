"""The synthetic world's own gold: what a completion claims, read with the world's grammar.

It shares no code with the reward's judge. Every statement of the world has one of three forms (Fact); a
completion is grounded when all it states is stated by the passage and it answers the question.
"""

import re
from typing import Final, Literal, TypeAlias

from grpo_dual.records.synthetic import Fact
from grpo_dual.records.vocabulary import EVASIONS, PLACE_VERBS, THING_VERBS, WHO_VERBS
from grpo_dual.types import HaluEvalRecord

Outcome: TypeAlias = Literal["grounded", "abstains", "hallucinated"]

_VERBS: Final = {
    kind: "|".join(verbs["train"] + verbs["test"])
    for kind, verbs in (("place", PLACE_VERBS), ("thing", THING_VERBS), ("who", WHO_VERBS))
}
_FORMS: Final = (
    ("place", re.compile(rf"(\w+) was ({_VERBS['place']}) in (\w+)")),
    ("thing", re.compile(rf"(\w+) has ({_VERBS['thing']}) an? (\w+)")),
    ("who", re.compile(rf"(\w+) ({_VERBS['who']}) the (\w+)")),
)
_EVASION: Final = re.compile(
    "|".join(re.escape(e.rstrip(".").casefold()) for e in EVASIONS) + r"|\bi (do not|don't) know\b"
)


def claims(text: str) -> frozenset[Fact]:
    """All statements of the world's grammar in a text."""
    return frozenset(
        Fact(kind, *match) for kind, form in _FORMS for match in form.findall(text)
    )


def is_evasive(text: str) -> bool:
    """True when a text contains one of the world's evasive sentences."""
    return _EVASION.search(text.casefold()) is not None


def judge_by_gold(record: HaluEvalRecord, completion: str) -> Outcome:
    """Judge an answer by what the passage states.

    ``grounded``: it states something, everything it states is in the passage, and, where there is a question,
    the accepted statement is among it (or it is exactly the accepted value). ``abstains``: it states nothing
    and is one of the world's evasive sentences. Anything else is ``hallucinated``.

    Args:
        record: An ANSWER record of the synthetic world.
        completion: The model's text.

    Returns:
        The outcome.

    Raises:
        ValueError: The record is not of the synthetic world, so it has no gold here.
    """
    known = claims(record.context)
    wanted = claims(record.accepted or "")
    if not known or not wanted:
        raise ValueError(f"{record.record_id}: not a statement of the synthetic world")
    stated = claims(completion)
    if not stated:
        bare = completion.strip().rstrip(".").casefold()
        target = next(iter(wanted))
        value = target.subject if target.kind == "who" else target.value
        if record.query and bare == value.casefold():
            return "grounded"
        return "abstains" if is_evasive(completion) else "hallucinated"
    answers = bool(stated & wanted) or not record.query
    return "grounded" if stated <= known and answers else "hallucinated"
