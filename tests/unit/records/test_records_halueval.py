"""HaluEval rows: both sides, both forms, the filter of general, and no formatting that tells."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grpo_dual.errors import DataError
from grpo_dual.records.bad_rows import BadRows
from grpo_dual.records.halueval import (
    LAYOUTS,
    SUBSETS,
    as_answer,
    as_detection,
    iter_halueval,
    keeps_general,
    layout_of,
    parse_row,
)
from grpo_dual.records.normalise import block, one_line, without_final_period
from grpo_dual.types import HaluEvalRecord, Task

LAYOUT = {layout.name: layout for layout in LAYOUTS}

ROWS: dict[str, dict[str, Any]] = {
    "qa_data": {
        "knowledge": "Delhi is a city.The Oberoi Group is  based in Delhi.",
        "question": "Where is the Oberoi Group based?",
        "right_answer": "Delhi",
        "hallucinated_answer": "The Oberoi Group is based in Mumbai.",
    },
    "dialogue_data": {
        "knowledge": "Iron Man is starring Robert Downey Jr.",
        "dialogue_history": "[Human]: Do you like Iron Man  [Assistant]: Sure do! ",
        "right_response": " He is great. Do you? ",
        "hallucinated_response": "Tom Hanks was in it.",
    },
    "summarization_data": {
        "document": "A long text.\nIn lines.\n",
        "right_summary": "A text .\nIn lines .\n",
        "hallucinated_summary": "A short text. In verse.",
    },
    "general_data": {
        "ID": "12",
        "user_query": "Name two:\n- cats  ",
        "chatgpt_response": "1. Tom\n   a cat\n\n\n\n2. Felix. \n",
        "hallucination": "yes",
        "hallucination_spans": ["Felix"],
    },
    "qa_samples": {"question": "Who?", "answer": "Him.", "hallucination": "no"},
    "dialogue_samples": {
        "dialogue_history": "[Human]: Who? ",
        "response": "Brad Pitt.",
        "hallucination": "yes",
    },
    "summarization_samples": {"document": "Text.\n", "summary": "It.\n", "hallucination": "no"},
}


def parse(name: str, **changes: Any) -> HaluEvalRecord:
    return parse_row({**ROWS[name], **changes}, "f:3", layout=LAYOUT[name], number=3)


def lines(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


# --- rows ---------------------------------------------------------------------------------------


def test_a_qa_pair() -> None:
    assert parse("qa_data") == HaluEvalRecord(
        record_id="halueval/qa/3",
        objective="hallucination",
        subset="qa",
        task=Task.ANSWER,
        origin="f:3",
        context="Delhi is a city.The Oberoi Group is based in Delhi.",
        query="Where is the Oberoi Group based?",
        accepted="Delhi",
        rejected="The Oberoi Group is based in Mumbai",
    )


def test_a_dialogue_pair() -> None:
    record = parse("dialogue_data")
    assert record.query == "[Human]: Do you like Iron Man [Assistant]: Sure do!"
    assert (record.accepted, record.rejected) == ("He is great. Do you?", "Tom Hanks was in it")
    assert (record.record_id, record.subset) == ("halueval/dialogue/3", "dialogue")


def test_a_summary_pair() -> None:
    record = parse("summarization_data")
    assert (record.context, record.query) == ("A long text. In lines.", "")
    assert (record.accepted, record.rejected) == ("A text . In lines", "A short text. In verse")


def test_a_general_row_keeps_its_lines() -> None:
    record = parse("general_data")
    assert (record.task, record.record_id) == (Task.DETECT, "halueval/general/3")
    assert (record.context, record.query) == ("", "Name two:\n- cats")
    assert record.shown == "1. Tom\n   a cat\n\n2. Felix"
    assert record.hallucinated is True
    assert (record.accepted, record.rejected) == (None, None)


def test_one_sided_rows_have_ids_of_their_own() -> None:
    record = parse("dialogue_samples")
    assert (record.record_id, record.subset) == ("halueval/dialogue_samples/3", "dialogue")
    assert (record.task, record.shown, record.hallucinated) == (Task.DETECT, "Brad Pitt", True)
    assert record.context == ""
    assert parse("summarization_samples").hallucinated is False
    assert parse("qa_samples", knowledge="He did it.").context == "He did it."


def test_the_source_can_be_named() -> None:
    record = parse_row(ROWS["qa_data"], "o", layout=LAYOUT["qa_data"], number=9, source="world")
    assert record.record_id == "world/qa/9"


# --- both forms ---------------------------------------------------------------------------------


def test_detection_shows_one_side() -> None:
    pair = parse("qa_data")
    shown = [as_detection(pair, hallucinated=side) for side in (True, False)]
    assert [record.shown for record in shown] == [pair.rejected, pair.accepted]
    assert [record.hallucinated for record in shown] == [True, False]
    assert {record.task for record in shown} == {Task.DETECT}
    assert {record.accepted for record in shown} == {record.rejected for record in shown} == {None}
    assert {record.context for record in shown} == {pair.context}
    assert len({pair.record_id, *(record.record_id for record in shown)}) == 3


def test_general_becomes_an_answer_with_one_side() -> None:
    wrong, right = as_answer(parse("general_data")), as_answer(parse("qa_samples"))
    assert (wrong.task, wrong.shown, wrong.hallucinated) == (Task.ANSWER, None, None)
    assert (wrong.accepted, wrong.rejected) == (None, "1. Tom\n   a cat\n\n2. Felix")
    assert (right.accepted, right.rejected) == ("Him", None)
    assert wrong.record_id == "halueval/general/3/answer"


def test_what_a_record_does_not_hold_cannot_be_shown() -> None:
    with pytest.raises(DataError, match="halueval/general/3 has no accepted side"):
        as_detection(parse("general_data"), hallucinated=False)
    with pytest.raises(DataError, match="has no accepted side"):
        as_detection(as_answer(parse("general_data")), hallucinated=False)
    with pytest.raises(DataError, match="shows no text"):
        as_answer(parse("qa_data"))


# --- the filter of general ----------------------------------------------------------------------

SPANS: list[tuple[list[str], bool, bool]] = [
    # spans, kept by handoff, kept by whole-words
    ([], False, False),
    (["Felix is no cat"], True, True),
    (["Incomplete answer"], False, False),
    (["It CANNOT be"], False, False),
    (["As an AI language model, I"], False, False),
    (["an ai  language\nmodel"], True, False),  # the substring has single blanks
    (["wrong format"], False, False),
    (["more information"], False, True),  # "format" in "information"
    (["it was formatted"], False, True),
    (["incompleteness"], False, True),
    (["fine", "but incomplete."], False, False),
]


@pytest.mark.parametrize(("spans", "handoff", "whole_words"), SPANS)
def test_the_filter(spans: list[str], handoff: bool, whole_words: bool) -> None:
    row = {"hallucination": "yes", "hallucination_spans": spans}
    assert keeps_general(row, "handoff") is handoff
    assert keeps_general(row, "whole-words") is whole_words
    assert keeps_general(row, "off")


@pytest.mark.parametrize("mode", ["handoff", "whole-words", "off"])
def test_rows_without_hallucination_stay(mode: Any) -> None:
    assert keeps_general({"hallucination": "no", "hallucination_spans": ["cannot"]}, mode)


# --- formatting ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "tidy"),
    [
        ("Delhi.", "Delhi"),
        ("Delhi", "Delhi"),
        ("Washington, D.C.", "Washington, D.C"),
        ("Wait...", "Wait"),
        ("Wait …", "Wait"),
        ('"Hee Haw" .', '"Hee Haw"'),
        ('He said "no."', 'He said "no"'),
        ('He said "no".', 'He said "no"'),
        ("(He said “no.”).", "(He said “no”)"),
        ("Is it?", "Is it?"),
        ('"Is it?".', '"Is it?"'),
        ("the bosses'", "the bosses'"),
        ("F.E.A.R is 0.9 s.", "F.E.A.R is 0.9 s"),
        ("...", ""),
    ],
)
def test_final_periods(text: str, tidy: str) -> None:
    assert without_final_period(text) == tidy


@given(st.text(alphabet=" \n\t\u00a0.…\"')ab!?", max_size=20))
def test_normalising_twice_is_normalising_once(text: str) -> None:
    for tidy in (one_line, block):
        once = without_final_period(tidy(text)).strip()
        assert without_final_period(tidy(once)).strip() == once
        assert not once.rstrip("\"')").endswith((".", "…"))
    assert "\n" not in one_line(text)


@given(
    text=st.text(alphabet="ab .!?\"'", min_size=1).filter(lambda text: text.strip(" .\"'")),
    noise=st.sampled_from(["", ".", "\n", " ", ".\n", " .", "\u00a0", "..."]),
)
def test_final_noise_leaves_no_trace_on_either_side(text: str, noise: str) -> None:
    plain = parse("qa_data", right_answer=text, hallucinated_answer=text)
    noisy = parse("qa_data", right_answer=text + noise, hallucinated_answer=text)
    assert plain.accepted == plain.rejected == noisy.accepted


# --- malformed rows -----------------------------------------------------------------------------

MALFORMED: list[tuple[str, dict[str, Any], str]] = [
    ("qa_data", {"right_answer": None}, "field 'right_answer' must be text, not None"),
    ("qa_data", {"right_answer": " \n"}, "field 'right_answer' is empty"),
    ("qa_data", {"hallucinated_answer": "..."}, "'hallucinated_answer' holds nothing but periods"),
    ("qa_data", {"knowledge": ["x"]}, "field 'knowledge' must be text"),
    ("dialogue_data", {"dialogue_history": 1}, "field 'dialogue_history' must be text"),
    ("summarization_data", {"document": ""}, "field 'document' is empty"),
    ("general_data", {"hallucination": "Yes"}, "'hallucination' must be one of yes, no.*'yes'"),
    ("general_data", {"hallucination": True}, "field 'hallucination' must be text"),
    ("general_data", {"hallucination_spans": "x"}, "'hallucination_spans' must be a list"),
    ("general_data", {"hallucination_spans": [1]}, "'hallucination_spans' must hold texts only"),
    ("qa_samples", {"knowledge": ""}, "field 'knowledge' is empty"),
]


@pytest.mark.parametrize(("name", "changes", "reason"), MALFORMED)
def test_a_malformed_row_is_named(name: str, changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(DataError, match=reason) as caught:
        parse(name, **changes)
    assert str(caught.value).startswith("f:3: field ")


@pytest.mark.parametrize(
    ("name", "field"), [(name, field) for name, row in ROWS.items() for field in row]
)
def test_a_missing_field_is_named(name: str, field: str) -> None:
    row = {key: value for key, value in ROWS[name].items() if key != field}
    if field == "ID":  # three of upstream's rows have no usable one
        parse_row(row, "o", layout=LAYOUT[name], number=1)
        return
    with pytest.raises(DataError, match=f"^o: field '{field}' is missing"):
        parse_row(row, "o", layout=LAYOUT[name], number=1)


# --- files --------------------------------------------------------------------------------------


def folder(path: Path, **rows: int) -> Path:
    for name, count in rows.items():
        (path / f"{name}.json").write_text(lines([ROWS[name]] * count))
    return path


def test_a_folder_is_read_subset_by_subset(tmp_path: Path) -> None:
    folder(tmp_path, general_data=2, qa_data=3, dialogue_samples=4, dialogue_data=1)
    read = list(iter_halueval(tmp_path))
    assert [r.subset for r in read] == ["qa"] * 3 + ["dialogue"] + ["general"] * 2
    assert len({record.record_id for record in read}) == 6
    only = list(iter_halueval(tmp_path, subsets=("dialogue",), one_sided=True))
    assert [record.task for record in only] == [Task.ANSWER] + [Task.DETECT] * 4
    assert len(list(iter_halueval(tmp_path / "dialogue_samples.json"))) == 4


def test_ids_are_lines(tmp_path: Path) -> None:
    rows = [{**ROWS["general_data"], "ID": name} for name in ("", "ID", "ID", "1")]
    (tmp_path / "general_data.json").write_text(lines(rows))
    read = list(iter_halueval(tmp_path))
    assert [r.record_id for r in read] == [f"halueval/general/{line}" for line in (1, 2, 3, 4)]


@pytest.mark.parametrize("name", ROWS)
def test_a_file_is_known_by_its_name_or_by_its_fields(tmp_path: Path, name: str) -> None:
    for path in (tmp_path / f"{name}.jsonl", tmp_path / "mine.json"):
        path.write_text("nonsense\n" * (path.stem == name) + lines([ROWS[name]]))
        assert layout_of(path).name == name


def test_a_file_of_other_fields_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text('{"prompt": "x", "completion": "y"}\n')
    with pytest.raises(DataError, match="fields prompt, completion are those of no HaluEval file"):
        list(iter_halueval(path))
    path.write_text("{nonsense\n")
    with pytest.raises(DataError, match=r"none of its 1 row\(s\) can be read.*mine\.jsonl:1"):
        list(iter_halueval(path))


@pytest.mark.parametrize("encode", [json.dumps, str])
def test_csv_gives_the_same_records(tmp_path: Path, encode: Any) -> None:
    for name, row in ROWS.items():
        with (tmp_path / f"{name}.csv").open("w", newline="") as file:
            table = csv.DictWriter(file, list(row))
            table.writeheader()
            table.writerow({k: v if isinstance(v, str) else encode(v) for k, v in row.items()})
        (read,) = iter_halueval(tmp_path / f"{name}.csv")
        expected = parse_row(row, read.origin, layout=LAYOUT[name], number=1)
        assert read == expected


def test_empty_spans_in_csv_are_no_spans_and_wrong_ones_are_named(tmp_path: Path) -> None:
    path = tmp_path / "general_data.csv"
    head = "user_query,chatgpt_response,hallucination,hallucination_spans\n"
    path.write_text(head + "a,b,no,\nc,d,yes,\n")
    assert [record.query for record in iter_halueval(path)] == ["a"]  # no spans: filtered
    path.write_text(head + "a,b,no,\nc,d,yes,[oops\n")
    with pytest.raises(DataError, match=r"csv:3: column 'hallucination_spans' '\[oops': it is"):
        list(iter_halueval(path))


def test_bad_rows_are_skipped_counted_and_listed(tmp_path: Path) -> None:
    path = tmp_path / "qa_data.json"
    broken = {key: value for key, value in ROWS["qa_data"].items() if key != "question"}
    path.write_text(lines([ROWS["qa_data"], broken]) + "{\n" + lines([ROWS["qa_data"]]))
    bad = BadRows()
    read = list(iter_halueval(path, on_bad_row="skip", bad_rows=bad))
    assert [record.record_id for record in read] == ["halueval/qa/1", "halueval/qa/4"]
    assert [row.line for row in bad.listed] == [2, 3]
    assert bad.listed[0].reason.startswith("field 'question' is missing")
    with pytest.raises(DataError, match=r"qa_data\.json:2: field 'question'"):
        list(iter_halueval(path))


def test_what_a_folder_lacks_or_has_twice_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file or folder"):
        list(iter_halueval(tmp_path / "none"))
    with pytest.raises(DataError, match=r"no file qa_data\.json"):
        list(iter_halueval(tmp_path))
    folder(tmp_path, qa_data=1)
    with pytest.raises(DataError, match=r"no file general_data\.json"):
        list(iter_halueval(tmp_path, subsets=("qa", "general")))
    with pytest.raises(DataError, match="HaluEval has no subset 'summary'"):
        list(iter_halueval(tmp_path, subsets=("summary",)))
    with pytest.raises(DataError, match="holds qa, but only general is asked for"):
        list(iter_halueval(tmp_path / "qa_data.json", subsets=("general",)))
    (tmp_path / "qa_data.jsonl").write_text(lines([ROWS["qa_data"]]))
    with pytest.raises(DataError, match="both hold qa_data"):
        list(iter_halueval(tmp_path))


def test_the_subsets() -> None:
    assert SUBSETS == ("qa", "dialogue", "summarization", "general")
    assert {layout.subset for layout in LAYOUTS} == set(SUBSETS)
