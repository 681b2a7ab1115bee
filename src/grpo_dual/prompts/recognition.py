"""HaluEval's recognition task as its paper asks it (Li et al. 2305.11747, evaluation/evaluate.py).

The prompt family and layout are upstream's: a system line that wants Yes or No, an instruction that
names the kinds of hallucination with an example each, then ``#Question#: ... #Answer#: ...`` (qa),
``#Dialogue History#: ... #Response#: ...`` or ``#Document#: ... #Summary#: ...`` and
``#Your Judgement#: ``. Upstream shows no knowledge in qa and dialogue. Instruction and examples are
written for this project, so accuracies are near the published ones in kind, not in wording;
``general`` has no task upstream and is asked like qa. Yes means hallucinated.
"""

from dataclasses import dataclass

from grpo_dual.errors import PromptError
from grpo_dual.prompts.parse import Unparsed, YesNo
from grpo_dual.types import HaluEvalRecord, Message, Task


@dataclass(frozen=True, slots=True)
class _Shot:
    """A solved example: the text asked about, the text judged, and whether it hallucinates."""

    query: str
    shown: str
    yes: bool


@dataclass(frozen=True, slots=True)
class _Family:
    """How one subset is asked."""

    judge: str
    what: str
    """What is judged, e.g. ``answer``."""
    query: str
    """Heading of what it belongs to, e.g. ``Question``."""
    shown: str
    """Its own heading, e.g. ``Answer``."""
    kinds: tuple[tuple[str, _Shot], ...]
    """What a hallucination may be, with an example of each."""


_QA = _Family(
    "an answer judge",
    "answer",
    "Question",
    "Answer",
    (
        (
            "Look for an answer that misreads what the question asks for.",
            _Shot("In which country is the city of Porto?", "Porto is in Portugal.", False),
        ),
        (
            "Look for a contradiction between the answer and what is known of the world.",
            _Shot("Which planet is nearest to the sun?", "Venus is nearest to the sun.", True),
        ),
        (
            "Look for an answer so general, or so narrow, that it does not answer the question.",
            _Shot("What instrument did Clara Schumann play?", "She was some musician.", True),
        ),
        (
            "Look for an answer that does not follow from the facts.",
            _Shot("Which river is longer, the Nile or the Thames?", "The Nile", False),
        ),
    ),
)

_DIALOGUE = _Family(
    "a response judge",
    "response",
    "Dialogue History",
    "Response",
    (
        (
            "Look for a true name or fact that has been exchanged for a similar one.",
            _Shot(
                "[Human]: Who wrote the novel Emma? [Assistant]: Do you like novels? "
                "[Human]: Yes. Who is the author?",
                "It is by Charlotte Bronte.",
                True,
            ),
        ),
        (
            "Look for a name or fact that has been exchanged for one of another kind.",
            _Shot(
                "[Human]: What colour are ripe lemons?",
                "They are yellow. Do you want to bake with them?",
                False,
            ),
        ),
        (
            "Look for a kind of thing that stands where one of its members is true.",
            _Shot(
                "[Human]: What does a baker make? [Assistant]: Bread, above all. "
                "[Human]: And what is bread made of?",
                "Of flour, water, salt and often yeast.",
                False,
            ),
        ),
    ),
)

_SUMMARY = _Family(
    "a summary judge",
    "summary",
    "Document",
    "Summary",
    (
        (
            "Look for a statement that is made up and that the document does not hold.",
            _Shot(
                "The library in Mill Street will close in June, since its roof leaks. "
                "Its books go to the town hall.",
                "The library in Mill Street closes in June because of its roof.",
                False,
            ),
        ),
        (
            "Look for a statement that cannot be checked in the document.",
            _Shot(
                "Two goats left a farm near Ulm on Friday and were found on a bus.",
                "Two goats were found on a bus; their owner had been careless before.",
                True,
            ),
        ),
        (
            "Look for a statement that contradicts the document.",
            _Shot(
                "The bridge was opened in 1931 and rebuilt in 1958 after a flood.",
                "The bridge was opened in 1958.",
                True,
            ),
        ),
    ),
)

_FAMILIES = {"qa": _QA, "dialogue": _DIALOGUE, "summarization": _SUMMARY, "general": _QA}
_JUDGEMENT = "#Your Judgement#: "


def recognition_messages(record: HaluEvalRecord, *, knowledge: bool = False) -> tuple[Message, ...]:
    """The chat that asks whether a shown text is hallucinated, as the paper asks it.

    Args:
        record: A DETECT item.
        knowledge: Also show the knowledge of qa and dialogue, under ``#Knowledge#``; upstream does
            not. A document is always shown.

    Raises:
        PromptError: The item shows no text, is of an unknown subset, or is to be shown with
            knowledge and has none.
    """
    if record.task is not Task.DETECT or record.shown is None:
        raise PromptError(
            f"{record.record_id} ({record.origin}) shows no text to judge; build it with "
            "records.halueval.as_detection"
        )
    family = _FAMILIES.get(record.subset)
    if family is None:
        raise PromptError(
            f"{record.record_id} ({record.origin}): HaluEval has no recognition task for subset "
            f"'{record.subset}'; it has {', '.join(_FAMILIES)}"
        )
    system = (
        f"You are {family.judge}. You MUST determine if the provided {family.what} contains "
        'non-factual or hallucinated information. The answer you give MUST be "Yes" or "No".'
    )
    user = f"{_instruction(family)}\n\n{_item(family, record, knowledge)}"
    return (Message("system", system), Message("user", user))


def read_as_upstream(text: str) -> YesNo | Unparsed:
    """The verdict as evaluate.py reads it: "Yes" or "No" anywhere in the reply, not both.

    Case matters and substrings count: "Not at all" is a No, "yes" is nothing. Kept for comparison
    with published numbers; ``prompts.parse.read_yes_no`` reads strictly.
    """
    plain = text.replace(".", "")
    yes, no = "Yes" in plain, "No" in plain
    if yes == no:
        return Unparsed("says both Yes and No" if yes else "says neither Yes nor No")
    return YesNo(yes)


def _instruction(family: _Family) -> str:
    parts = [
        f"You judge whether a given {family.what} contains non-factual or hallucinated "
        "information, by the following kinds of hallucination and by what is known of the world."
    ]
    for kind, shot in family.kinds:
        verdict = "Yes" if shot.yes else "No"
        parts.append(
            f"{kind}\n#{family.query}#: {shot.query}\n#{family.shown}#: {shot.shown}\n"
            f"{_JUDGEMENT}{verdict}"
        )
    parts.append(f'Judge the next {family.what}. Your judgement MUST be "Yes" or "No".')
    return "\n\n".join(parts)


def _item(family: _Family, record: HaluEvalRecord, knowledge: bool) -> str:
    document = record.subset == "summarization"
    query = (record.context if document else record.query).strip()
    lines = [f"#{family.query}#: {query}", f"#{family.shown}#: {(record.shown or '').strip()}"]
    if knowledge and not document:
        if not record.context.strip():
            raise PromptError(
                f"{record.record_id} ({record.origin}) has no knowledge to be shown; ask it "
                "without knowledge"
            )
        lines.insert(0, f"#Knowledge#: {record.context.strip()}")
    return "\n".join([*lines, _JUDGEMENT])
