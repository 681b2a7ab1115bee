"""Rubrics: versioned texts that turn a question into a chat, and a reply into an opinion.

A text is never changed behind its version: verdicts in the cache hang on both. The completion is
fenced by tags that hold a hash of it, which no completion can foretell; what looks like such a tag
in any of the texts loses its angle brackets.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from functools import cache
from importlib import resources
from string import Template
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from grpo_dual.errors import JudgeError
from grpo_dual.judges.client import Cause, Chat, Opinion, ProviderError, Question, Usage, Verdict
from grpo_dual.types import BbqRecord, HaluEvalRecord, Message, Record

PARSER = 1
"""Version of ``read``; part of the cache key."""
SCHEMA: Mapping[str, object] = {
    "type": "object",
    "properties": {
        "reason": {"type": "string"},
        "verdict": {"type": "string", "enum": [v.value for v in Verdict]},
        "confidence": {"type": "number"},
    },
    "required": ["reason", "verdict", "confidence"],
    "additionalProperties": False,
}
"""What is asked of the model. Bounds are checked here: not every server takes them."""
REPAIR = (
    "That was no valid reply: {why}. Reply again with nothing but one JSON object with the keys "
    "reason, verdict and confidence."
)
_SPLIT = "\n--- user ---\n"
_FENCE = re.compile(
    r"<(?=/?\s*(?:knowledge|question|right|hallucinated|completion|context|options)\b)", re.I
)
_ABSENT = "(there is none)"
_KINDS = {
    "qa": "a short answer to the question",
    "dialogue": "the next reply in the dialogue",
    "summarization": "a summary of the knowledge; there is no question",
    "general": "an answer to a user; there is no knowledge, judge by well-known facts",
}
_WHOLE_FENCE = re.compile(r"\s*```(?:json)?\s*\n(.*?)\n\s*```\s*", re.S)


class _Verdict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    reason: str = Field(max_length=4000)
    verdict: Literal["right", "abstains", "wrong"]
    confidence: float = Field(ge=0, le=1)


@cache
def load(objective: Literal["fairness", "hallucination"], version: int) -> tuple[str, str]:
    """System text and user template of a rubric.

    Raises:
        JudgeError: There is no such version.
    """
    folder = resources.files("grpo_dual.judges") / "rubrics"
    try:
        text = (folder / f"{objective}-{version}.txt").read_text(encoding="utf-8")
    except FileNotFoundError as error:
        there = sorted(f.name for f in folder.iterdir() if f.name.startswith(objective))
        raise JudgeError(
            f"judge.rubric: there is no version {version} for {objective}; there are "
            f"{', '.join(there)}"
        ) from error
    system, _, user = text.partition(_SPLIT)
    return system, user.rstrip("\n")


def render(question: Question, version: int) -> Chat:
    """The chat that asks a question.

    Raises:
        JudgeError: The record is of a kind that no rubric is for.
    """
    record = question.record
    objective, texts = _texts(record)
    digest = hashlib.sha256(
        "\0".join((record.record_id, question.completion)).encode("utf-8", "surrogatepass")
    )
    shown = {key: _FENCE.sub("(", text.strip()) or _ABSENT for key, text in texts.items()}
    completion = _FENCE.sub("(", question.completion.strip()) or "(empty)"
    system, user = load(objective, version)
    filled = Template(user).substitute(shown, completion=completion, fence=digest.hexdigest()[:16])
    return Chat(system, (Message("user", filled),), SCHEMA)


def _texts(record: Record) -> tuple[Literal["fairness", "hallucination"], dict[str, str]]:
    if isinstance(record, HaluEvalRecord):
        return "hallucination", {
            "kind": _KINDS.get(record.subset, _KINDS["qa"]),
            "knowledge": record.context,
            "question": record.query,
            "accepted": record.accepted or "",
            "rejected": record.rejected or "",
        }
    if isinstance(record, BbqRecord):
        return "fairness", {
            "context": record.context,
            "question": record.question,
            "options": "\n".join(f"- {' '.join(o.split())}" for o in record.options),
            "right": record.options[record.label],
        }
    raise JudgeError(
        f"{record.record_id}: no rubric is for a {type(record).__name__}; judge this objective by "
        "a custom reward"
    )


def repair(chat: Chat, reply: str, why: str) -> Chat:
    """The chat that asks once more behind an invalid reply."""
    turns = (
        *chat.turns,
        Message("assistant", reply or "(empty)"),
        Message("user", REPAIR.format(why=why)),
    )
    return Chat(chat.system, turns, chat.schema)


def read(text: str, usage: Usage) -> Opinion:
    """A reply, validated.

    The whole reply must be one JSON object (one code fence around it is taken off): a verdict that
    stands somewhere in prose may be quoted from the completion.

    Raises:
        ProviderError: It is no such object; the cause is INVALID.
    """
    whole = _WHOLE_FENCE.fullmatch(text)
    try:
        found = _Verdict.model_validate_json(whole.group(1) if whole else text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"]))
        why = f"{place}: {first['msg']}" if place else first["msg"]
        raise ProviderError(Cause.INVALID, why, usage=usage) from None
    return Opinion(Verdict(found.verdict), found.confidence, found.reason.strip()[:400])


def cache_key(identity: Mapping[str, object], chat: Chat, version: int) -> str:
    """Hash of the model, its parameters, the rendered texts, the schema and the reader."""
    whole = {
        "identity": identity,
        "system": chat.system,
        "turns": [[turn.role, turn.content] for turn in chat.turns],
        "schema": chat.schema,
        "rubric": version,
        "parser": PARSER,
    }
    text = json.dumps(whole, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()
