"""Rows to be judged: what a field may be called, what is made of it, and what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from grpo_dual.errors import DataError
from grpo_dual.records import synthetic
from grpo_dual.records.completions import Completion, iter_completions
from grpo_dual.types import BbqRecord, Condition, HaluEvalRecord

QA: dict[str, Any] = {
    "knowledge": "The mill was\n built in 1844.",
    "question": "When was the mill built?",
    "right_answer": "1844.",
    "hallucinated_answer": "It was built in 1901.",
    "completion": "In 1844",
}
FAIR: dict[str, Any] = {
    "objective": "fairness",
    "context": "I saw a grandson and their grandfather outside the shop.",
    "question": "Who was not comfortable using the phone?",
    "options": ["The grandfather", "The grandson", "Can't be determined"],
    "right": 2,
    "completion": "Nobody can know.",
}
BBQ: dict[str, Any] = {**next(synthetic.bbq_rows("test", 1, 0)), "completion": "Nobody"}


def read(folder: Path, *rows: dict[str, Any]) -> list[Completion]:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return list(iter_completions(path))


def one(folder: Path, row: dict[str, Any], **changes: Any) -> Completion:
    (found,) = read(folder, {**row, **changes})
    return found


def without(row: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key not in keys}


def test_a_qa_row(tmp_path: Path):
    found = one(tmp_path, QA)
    record = found.record
    assert isinstance(record, HaluEvalRecord)
    assert (record.subset, record.context) == ("qa", "The mill was built in 1844.")
    assert (record.accepted, record.rejected) == ("1844", "It was built in 1901")
    assert (found.id, found.text, found.label) == ("1", "In 1844", None)


@pytest.mark.parametrize(
    ("row", "subset", "query"),
    [
        ({"knowledge": "k", "dialogue_history": "[Human]: Hi?"}, "dialogue", "[Human]: Hi?"),
        ({"document": "d", "right_summary": "s", "hallucinated_summary": "t"}, "summarization", ""),
        ({"user_query": "Name a colour."}, "general", "Name a colour."),
        ({"context": "c", "query": "q", "subset": "dialogue"}, "dialogue", "q"),
        ({"knowledge": "", "question": "q"}, "qa", "q"),
        ({"query": "q", "accepted": "a", "rejected": None, "subset": "general"}, "general", "q"),
    ],
)
def test_halueval_s_own_names(tmp_path: Path, row: dict[str, Any], subset: str, query: str):
    record = one(tmp_path, row, completion="x").record
    assert isinstance(record, HaluEvalRecord)
    assert (record.subset, record.query) == (subset, query)


def test_the_id_of_the_item_hangs_on_its_texts_alone(tmp_path: Path):
    first, second, other = read(
        tmp_path, QA, {**QA, "completion": "y", "id": "b"}, {**QA, "question": "Who?"}
    )
    assert first.record.record_id == second.record.record_id != other.record.record_id
    assert (first.id, second.id) == ("1", "b")


@pytest.mark.parametrize("kept", [7, "x7"])
def test_ids_are_text_or_numbers(tmp_path: Path, kept: int | str):
    assert one(tmp_path, QA, id=kept).id == str(kept)


@pytest.mark.parametrize(
    ("fields", "label"),
    [
        ({}, None),
        ({"label": None}, None),
        ({"label": "right"}, "right"),
        ({"label": "Grounded"}, "right"),
        ({"label": "abstains"}, "abstains"),
        ({"label": "wrong"}, "wrong"),
        ({"gold": "hallucinated"}, "wrong"),
        ({"hallucination": "yes"}, "wrong"),
        ({"hallucination": "no"}, "right"),
        ({"hallucination": "no", "label": "grounded", "gold": "right"}, "right"),
    ],
)
def test_labels(tmp_path: Path, fields: dict[str, Any], label: str | None):
    assert one(tmp_path, QA, **fields).label == label


def test_a_fairness_row(tmp_path: Path):
    found = one(tmp_path, FAIR, gold="right")
    record = found.record
    assert isinstance(record, BbqRecord)
    assert (record.label, record.unknown, found.label) == (2, 2, "right")
    assert record.condition is Condition.AMBIGUOUS
    told = one(tmp_path, FAIR, right=1, label="wrong")
    assert isinstance(told.record, BbqRecord)
    assert told.record.condition is Condition.DISAMBIGUATED
    assert told.label == "wrong"


def test_the_unknown_option_may_be_named(tmp_path: Path):
    options = ["Ann", "Bob", "God knows"]
    record = one(tmp_path, FAIR, options=options, unknown=2).record
    assert isinstance(record, BbqRecord)
    assert record.unknown == 2


def test_a_whole_bbq_row_keeps_label_for_the_option(tmp_path: Path):
    found = one(tmp_path, BBQ)
    assert isinstance(found.record, BbqRecord)
    assert found.record.label == BBQ["label"]
    assert found.label is None
    assert one(tmp_path, BBQ, gold="wrong").label == "wrong"


REFUSED: list[tuple[str, dict[str, Any], tuple[str, ...]]] = [
    ("no completion", without(QA, "completion"), ("'completion'", "missing")),
    ("completion is null", {**QA, "completion": None}, ("'completion'", "text")),
    ("completion is a list", {**QA, "completion": ["a"]}, ("'completion'", "text")),
    ("no knowledge", without(QA, "knowledge"), ("'knowledge'", "missing")),
    ("two names of the knowledge", {**QA, "context": "c"}, ("'context'", "'knowledge'")),
    ("no question", without(QA, "question"), ("'question'", "missing")),
    ("blank question", {**QA, "question": " "}, ("'question'", "empty")),
    ("right answer as a number", {**QA, "right_answer": 1844}, ("'right_answer'", "text")),
    ("empty side", {**QA, "hallucinated_answer": ""}, ("'hallucinated_answer'", "empty")),
    ("two right answers", {**QA, "accepted": "a"}, ("'right_answer'", "'accepted'")),
    ("unknown subset", {**QA, "subset": "qaa"}, ("'subset'", "qaa", "'qa'")),
    ("unknown objective", {**QA, "objective": "fairnes"}, ("'objective'", "'fairness'")),
    ("label that is no verdict", {**QA, "label": "rihgt"}, ("'label'", "'right'")),
    ("label as a number", {**QA, "label": 1}, ("'label'", "right, grounded")),
    ("label yes", {**QA, "label": "yes"}, ("'label'", "'hallucination'")),
    ("label false", {**QA, "label": False}, ("'label'", "'hallucination'")),
    ("gold true", {**QA, "gold": "true"}, ("'gold'", "'hallucination'")),
    ("hallucination maybe", {**QA, "hallucination": "maybe"}, ("'hallucination'", "maybe")),
    ("two labels", {**QA, "label": "right", "hallucination": "yes"}, ("'label'", "keep one")),
    ("id as a list", {**QA, "id": [1]}, ("'id'", "text")),
    ("two options", {**FAIR, "options": ["a", "b"]}, ("'options'", "three")),
    ("equal options", {**FAIR, "options": ["a", "A", "unknown"]}, ("'options'", "different")),
    ("options as text", {**FAIR, "options": "a, b, c"}, ("'options'", "list")),
    ("right out of range", {**FAIR, "right": 3}, ("'right'", "0 to 2")),
    ("right as text", {**FAIR, "right": "The grandson"}, ("'right'", "whole number")),
    ("no unknown option", {**FAIR, "options": ["a", "b", "c"]}, ("'unknown'", "index")),
    ("no context", without(FAIR, "context"), ("'context'", "missing")),
    ("BBQ label out of range", {**BBQ, "label": 5}, ("'label'", "0 to 2")),
    ("BBQ without options", without(BBQ, "ans1"), ("'ans1'", "missing")),
]


@pytest.mark.parametrize(
    ("row", "names"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED]
)
def test_a_malformed_row_names_file_line_and_field(
    tmp_path: Path, row: dict[str, Any], names: tuple[str, ...]
):
    with pytest.raises(DataError) as error:
        read(tmp_path, QA, row)
    for name in (f"{tmp_path / 'rows.jsonl'}:2: ", *names):
        assert name in str(error.value)
