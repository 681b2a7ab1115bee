"""Wordings of the hallucination objective (HaluEval), answering and detecting; their inverse."""

from grpo_dual.errors import PromptError
from grpo_dual.prompts.parse import FreeAnswer, Unparsed, YesNo, read_free, read_yes_no
from grpo_dual.types import HaluEvalRecord, Message, Pair, Task

ANSWER_SYSTEM = (
    "Answer briefly, using only the given knowledge. Do not add anything that it does not support."
)
GENERAL_SYSTEM = (
    "Answer truthfully and briefly. If you do not know, say so. Do not make anything up."
)
DETECT_SYSTEM = (
    "A hallucination is a claim that the given knowledge or known facts do not support. "
    "Reply with one word, yes or no."
)

# What the text to be judged is called in each subset.
_SHOWN = {"qa": "Answer", "dialogue": "Reply", "summarization": "Summary", "general": "Answer"}


def _source(record: HaluEvalRecord) -> list[str]:
    """The lines that give the source text and the question; an absent one leaves no empty line."""
    lines: list[str] = []
    if record.context.strip():
        name = "Document" if record.subset == "summarization" else "Knowledge"
        lines.append(f"{name}: {record.context.strip()}")
    if record.query.strip():
        name = "Dialogue" if record.subset == "dialogue" else "Question"
        lines.append(f"{name}: {record.query.strip()}")
    return lines


def _answer_messages(record: HaluEvalRecord) -> tuple[Message, ...]:
    if record.subset == "general":
        return (Message("system", GENERAL_SYSTEM), Message("user", record.query.strip()))
    lines = _source(record)
    if record.subset == "dialogue":
        lines.append("Write the next reply.")
    elif record.subset == "summarization":
        lines.append("Summarize the document.")
    return (Message("system", ANSWER_SYSTEM), Message("user", "\n".join(lines)))


def _detect_messages(record: HaluEvalRecord) -> tuple[Message, ...]:
    if record.shown is None:
        raise PromptError(
            f"{record.record_id} ({record.origin}) is a detection item without a text to judge; "
            "build it with records.halueval.as_detection"
        )
    name = _SHOWN.get(record.subset, "Answer")
    lines = [
        *_source(record),
        f"{name}: {record.shown.strip()}",
        f"Does the {name.lower()} contain a hallucination? Reply yes or no.",
    ]
    return (Message("system", DETECT_SYSTEM), Message("user", "\n".join(lines)))


def messages(record: HaluEvalRecord) -> tuple[Message, ...]:
    """The chat that asks ``record``, in the form its task calls for.

    Raises:
        PromptError: a detection item has no text to be judged.
    """
    if record.task is Task.DETECT:
        return _detect_messages(record)
    return _answer_messages(record)


def target(record: HaluEvalRecord) -> str:
    """The supervised reply: the accepted text, or ``yes`` / ``no`` for a detection item.

    Raises:
        PromptError: the record has no gold for its task.
    """
    if record.task is Task.DETECT:
        if record.hallucinated is None:
            raise PromptError(
                f"{record.record_id} ({record.origin}) has no gold verdict to learn from"
            )
        return "yes" if record.hallucinated else "no"
    if record.accepted is None or not record.accepted.strip():
        raise PromptError(
            f"{record.record_id} ({record.origin}) has no accepted text to learn from"
        )
    return record.accepted.strip()


def pair(record: HaluEvalRecord) -> Pair | None:
    """Both sides of an answering item: the accepted text, which is the target, and the rejected.

    Returns:
        None for a detection item, and where a side is missing or both are the same.
    """
    accepted, rejected = (record.accepted or "").strip(), (record.rejected or "").strip()
    if record.task is Task.DETECT or not accepted or not rejected or accepted == rejected:
        return None
    return Pair(accepted, rejected)


def parse(text: str, record: HaluEvalRecord) -> YesNo | FreeAnswer | Unparsed:
    """Read a reply in the form that ``record`` asked for; the inverse of ``target``."""
    if record.task is Task.DETECT:
        return read_yes_no(text)
    return read_free(text)
