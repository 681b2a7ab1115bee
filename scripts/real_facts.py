"""What sentences of encyclopedic text say of their subjects, and ways to ask for it."""

import re
from collections.abc import Sequence

SPAN = re.compile(
    r"\b(?:(?:[A-Z]\.)*[A-Z][\w'-]*(?:\.(?= [A-Z]))?"
    r"(?: (?:of|the|and|de|van) (?=[A-Z]))?(?: (?:[A-Z]\.)*[A-Z][\w'-]*)*|\d+(?:,\d{3})*)"
)
"""Names of one or more words, and numbers."""
NO_SUBJECTS = frozenset(
    "He She It They The A An This That These Those There In On At His Her Its Their When While "  # noqa: SIM905
    "After Before During As For From To By With Both Some Many Since If I You We".split()
)
DESCRIPTION = re.compile(
    r"^(.{2,60}?) (?:\([^)]*\) )?(?:is|was) an? ([^,.;]{8,90}?)(?=[,.;]| that | which | who |$)"
)
"""A subject and what it is."""
_NAME = r"(?:the )?([A-Z][\w'.-]*(?: (?:(?:of|the|and|de|van) )?[A-Z][\w'.-]*)*)"
_DATE = r"((?:[A-Z]\w+ \d{1,2},|\d{1,2} [A-Z]\w+) \d{4})"


def _either(words: str) -> str:
    return f"(?P<verb>{'|'.join(words.split())})"


_MADE = _either(
    "directed written produced created founded composed published developed performed recorded "
    "owned designed hosted released played edited built led won"
)
_PLACED = _either("located based headquartered situated set held born raised published")
_DATED = _either(
    "founded established released published opened built formed began started died premiered"
)
_ROLE = _either("member part capital president home author daughter son subsidiary")
_PROFESSION = r"(?:[A-Z][\w-]+ )?((?:[a-z-]+ ){0,2}[a-z-]+)(?=[,.;]| and | who | best )"
_PATTERNS: Sequence[tuple[str, str]] = (
    (
        f"{_MADE} by {_NAME}",
        "Who {verb} {subject}?|{subject} was {verb} by whom?|By whom was {subject} {verb}?"
        "|Which person or company {verb} {subject}?",
    ),
    (
        rf"born (?:[^()]{{0,40}}? )?{_DATE}",
        "When was {subject} born?|What is the birth date of {subject}?"
        "|{subject} was born on what date?",
    ),
    (
        r"(?:is|was) an? ([A-Z][a-z]+(?:-[A-Z][a-z]+)?) [a-z]",
        "What nationality is {subject}?|{subject} is of what nationality?"
        "|From which country is {subject}?",
    ),
    (
        rf"(?:is|was) an? {_PROFESSION}",
        "What is {subject}?|What kind of thing is {subject}?|What was the profession of {subject}?",
    ),
    (
        f"{_PLACED} in {_NAME}",
        "Where is {subject} {verb}?|In which place is {subject} {verb}?"
        "|{subject} is {verb} in what city or country?",
    ),
    (
        r"(?:is|was) an? (\d{4}) ",
        "What year is {subject} from?|In what year was {subject} released?"
        "|When did {subject} come out?",
    ),
    (
        rf"{_DATED} (?:on|in) (?:[A-Z]\w+ )?(?:\d{{1,2}}, )?(\d{{4}})",
        "In what year was {subject} {verb}?|When was {subject} {verb}?"
        "|{subject} was {verb} in which year?",
    ),
    (
        f"(?:stars|starring|featuring) {_NAME}",
        "Who starred in {subject}?|Which actor appears in {subject}?|{subject} stars whom?",
    ),
    (
        rf'(?P<verb>known as|nicknamed|called|named after|named) "?{_NAME}',
        "What is {subject} {verb}?|By what other name is {subject} known?",
    ),
    (
        f"{_ROLE} of {_NAME}",
        "{subject} is {verb} of what?|Of what is {subject} the {verb}?",
    ),
)
FACTS = tuple((re.compile(pattern), ways.split("|")) for pattern, ways in _PATTERNS)
"""The last group is the answer; ``{verb}`` of a question is the group of that name."""
