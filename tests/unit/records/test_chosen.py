"""Rows of chosen completions: read back as written, and faults told with file and line."""

import json
from pathlib import Path
from typing import Any

import pytest

from grpo_dual.errors import DataError
from grpo_dual.records.chosen import iter_chosen, row_of
from grpo_dual.types import Message

CHAT = (Message("system", "Be brief."), Message("user", "Who?"))


def row(**changes: Any) -> dict[str, object]:
    return {**row_of("fairness", "bbq/Age/1", CHAT, "Nobody", 0.75, {"gold": 1.0}), **changes}


def write(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return path


def test_what_is_written_is_read_back(tmp_path: Path):
    path = write(tmp_path / "kept.jsonl", row(), row(reward=1))
    first, second = iter_chosen(path)
    assert (first.objective, first.record_id, first.messages) == ("fairness", "bbq/Age/1", CHAT)
    assert (first.completion, first.reward, second.reward) == ("Nobody", 0.75, 1.0)
    assert second.origin == f"{path}:2"


def without(key: str) -> dict[str, object]:
    return {name: value for name, value in row().items() if name != key}


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (without("completion"), "field 'completion' is missing"),
        (row(completion=" "), "field 'completion' is empty"),
        (row(reward=None), "field 'reward' must be a number, not None"),
        (row(reward=True), "field 'reward' must be a number"),
        (row(reward="1"), "field 'reward' must be a number"),
        (row(messages=[]), "field 'messages' must be a list of turns"),
        (row(messages="Who?"), "field 'messages' must be a list of turns"),
        (row(messages=["Who?"]), "field 'messages' must hold objects only"),
        (row(messages=[{"role": "usr", "content": "x"}]), "did you mean 'user'?"),
        (row(messages=[{"role": "user"}]), r"field 'messages\[0\].content' is missing"),
        (
            row(messages=[{"role": "assistant", "content": "x"}]),
            "must end with a user turn, not assistant's",
        ),
        (without("objective"), "field 'objective' is missing"),
        (without("record_id"), "field 'record_id' is missing"),
    ],
)
def test_faults_name_file_line_and_field(bad: object, says: str, tmp_path: Path):
    path = write(tmp_path / "kept.jsonl", row(), bad)
    with pytest.raises(DataError, match=f"kept.jsonl:2: .*{says}"):
        list(iter_chosen(path))


def test_a_number_that_is_none_is_refused(tmp_path: Path):
    path = tmp_path / "kept.jsonl"
    path.write_text(json.dumps(row()).replace("0.75", "NaN") + "\n")
    with pytest.raises(DataError, match=r"kept.jsonl:1: "):
        list(iter_chosen(path))
