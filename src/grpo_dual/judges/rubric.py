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
    r"<(?=\s*/?\s*(?:knowledge|question|right|hallucinated|completion|context|options)\b)", re.I
)
_ABSENT = "(there is none)"
_KINDS = {
    "qa": "a short answer to the question",
    "dialogue": "the next reply in the dialogue",
    "summarization": "a summary of the knowledge; there is no question",
    "general": "an answer to a user; there is no knowledge, judge by well-known facts",
}
_FENCE_HEAD = re.compile(r"```(?:json)?[ \t\r]*\n")
_WHY = 200
"""Characters of what is wrong with a reply; it may quote the reply."""


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


def check(version: int) -> None:
    """Find out early whether there is such a version.

    Raises:
        JudgeError: There is none.
    """
    load("fairness", version)
    load("hallucination", version)


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
    shown = {key: _plain(text) or _ABSENT for key, text in texts.items()}
    completion = _plain(question.completion) or "(empty)"
    system, user = load(objective, version)
    filled = Template(user).substitute(shown, completion=completion, fence=digest.hexdigest()[:16])
    return Chat(system, (Message("user", filled),), SCHEMA)


def _plain(text: str) -> str:
    """Without what looks like a fence, and without halves of characters, which nobody can send."""
    return _FENCE.sub("(", text.strip()).encode("utf-8", "replace").decode()


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
        Message("assistant", reply.encode("utf-8", "replace").decode() or "(empty)"),
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
    bare = _unfenced(text.strip())
    try:
        found = _Verdict.model_validate_json(bare)
        json.loads(bare, object_pairs_hook=_each_once)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"]))
        why = f"{place[:_WHY]}: {first['msg']}" if place else first["msg"]
        raise ProviderError(Cause.INVALID, why, usage=usage) from None
    except ValueError as error:
        raise ProviderError(Cause.INVALID, str(error), usage=usage) from None
    return Opinion(Verdict(found.verdict), found.confidence, found.reason.strip()[:400])


def _unfenced(text: str) -> str:
    """What stands in the one code fence around all of it, if there is one."""
    head = _FENCE_HEAD.match(text)
    if head is None or not text.endswith("```"):
        return text
    return text[head.end() : -len("```")]


def _each_once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """An object of JSON; of two verdicts in it nobody knows which one is meant."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands there twice")
    return found


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
