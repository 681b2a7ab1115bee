"""Completions chosen to be learnt from: one JSON line each, written by `select`, read by SFT.

A row holds the chat, the completion, what it earned and where it is from. What is wrong with a row
is told with file and line, so that files of one's own making work as well.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from grpo_dual.records.fields import Fields, shorten
from grpo_dual.records.reader import Row, iter_rows
from grpo_dual.types import Message

_ROLES = ("system", "user", "assistant")


@dataclass(frozen=True, slots=True)
class Chosen:
    """A completion to be learnt."""

    objective: str
    record_id: str
    messages: tuple[Message, ...]
    """The chat that it replies to; its last turn is the user's."""
    completion: str
    reward: float
    """What it was selected by."""
    origin: str
    """``path:line``."""


def row_of(
    objective: str,
    record_id: str,
    messages: tuple[Message, ...],
    completion: str,
    reward: float,
    more: Mapping[str, object],
) -> dict[str, object]:
    """The row of a completion, as `iter_chosen` reads it back.

    Args:
        objective: That it belongs to.
        record_id: The record that was asked.
        messages: The chat.
        completion: Its text.
        reward: What it was selected by.
        more: Scores and provenance for people, JSON-able; not read back.
    """
    chat = [{"role": m.role, "content": m.content} for m in messages]
    return {
        "objective": objective,
        "record_id": record_id,
        "messages": chat,
        "completion": completion,
        "reward": reward,
        **more,
    }


def iter_chosen(path: Path) -> Iterator[Chosen]:
    """Yield the rows of a file, which is read as a stream.

    Args:
        path: JSON lines or a JSON array.

    Yields:
        Chosen: In file order.

    Raises:
        DataError: The file cannot be read, or a row is malformed; file, line and field are named.
    """
    for row in iter_rows(path):
        yield _chosen(row)


def _chosen(row: Row) -> Chosen:
    fields = Fields(row.data, row.origin)
    return Chosen(
        objective=fields.text("objective"),
        record_id=fields.text("record_id"),
        messages=_messages(fields, row.origin),
        completion=fields.text("completion"),
        reward=_number(fields, "reward"),
        origin=row.origin,
    )


def _messages(fields: Fields, origin: str) -> tuple[Message, ...]:
    value = fields.value("messages")
    turns = cast("list[object]", value) if isinstance(value, list) else []
    if not turns:
        raise fields.fault(
            "messages", f"must be a list of turns, not {shorten(fields.value('messages'))}"
        )
    found: list[Message] = []
    for place, turn in enumerate(turns):
        if not isinstance(turn, Mapping):
            raise fields.fault("messages", f"must hold objects only, not {shorten(turn)}")
        own = Fields(cast("Mapping[str, object]", turn), origin, f"messages[{place}].")
        found.append(Message(own.choice("role", _ROLES), own.text("content")))
    if found[-1].role != "user":
        raise fields.fault("messages", f"must end with a user turn, not {found[-1].role}'s")
    return tuple(found)


def _number(fields: Fields, key: str) -> float:
    value = fields.value(key)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise fields.fault(key, f"must be a number, not {shorten(value)}")
    return float(value)
