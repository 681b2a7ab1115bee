"""Counts of what lies under a path."""

import json
from pathlib import Path
from typing import Any

import pytest

from grpo_dual.cli.data import stats
from grpo_dual.errors import DataError
from grpo_dual.records.stats import length_baseline, survey
from grpo_dual.types import HaluEvalRecord, Task


def bbq_row(index: int, **changes: Any) -> dict[str, Any]:
    return {
        "example_id": index,
        "question_index": "30",
        "question_polarity": "neg",
        "context_condition": "ambig",
        "category": "Gender_identity",
        "answer_info": {"ans0": ["A", "F"], "ans1": ["B", "M"], "ans2": ["?", "unknown"]},
        "additional_metadata": {"stereotyped_groups": ["F"]},
        "context": "A met B.",
        "question": "Who?",
        "ans0": "A",
        "ans1": "B",
        "ans2": "Unknown",
        "label": 2,
        **changes,
    }


def qa_row(right: str, hallucinated: str) -> dict[str, Any]:
    return {
        "knowledge": "k",
        "question": "q",
        "right_answer": right,
        "hallucinated_answer": hallucinated,
    }


def general_row(text: str, hallucination: str, *spans: str) -> dict[str, Any]:
    return {
        "ID": "",
        "user_query": "q",
        "chatgpt_response": text,
        "hallucination": hallucination,
        "hallucination_spans": spans,
    }


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write(
        tmp_path / "bbq" / "Gender_identity.jsonl",
        [
            bbq_row(0),
            bbq_row(1, question_polarity="nonneg", question_index="2"),
            bbq_row(2, context_condition="disambig", label=0),
            bbq_row(3, additional_metadata={"stereotyped_groups": []}),
        ],
    )
    # lengths: right 1, 3, 3; hallucinated 4, 3, 2: one win, one tie
    rows = [qa_row("a", "abcd."), qa_row("abc", "abd"), qa_row("abc.", "ab.")]
    write(tmp_path / "halueval" / "qa_data.json", rows)
    general = [
        general_row("a", "no"),
        general_row("ab", "yes", "wrong"),
        general_row("ab", "yes", "information"),
        general_row("ab", "yes"),
    ]
    write(tmp_path / "halueval" / "general_data.json", general)
    write(tmp_path / "other" / "preds_Age.jsonl", [bbq_row(0)])
    (tmp_path / "bbq" / "additional_metadata.csv").write_text(
        "category,example_id,target_loc\n,0,NA\n"
    )
    return tmp_path


def test_bbq_counts(data: Path) -> None:
    (count,) = survey(data).bbq
    assert count.file == str(data / "bbq" / "Gender_identity.jsonl")
    assert (count.category, count.rows, count.upstream_rows) == ("Gender_identity", 4, 5672)
    assert (count.ambiguous, count.disambiguated) == (3, 1)
    assert (count.negative, count.nonnegative) == (3, 1)
    assert (count.labels, count.unknown_positions) == ((1, 0, 3), (0, 0, 4))
    assert (count.resolved, count.unresolved) == (3, 1)
    assert (count.names, count.templates) == (3, 2)


def test_halueval_counts(data: Path) -> None:
    qa, general = survey(data).halueval
    assert (qa.kind, qa.rows, qa.upstream_rows) == ("qa_data", 3, 10000)
    assert (qa.right, qa.hallucinated, qa.kept) == (3, 3, None)
    assert (qa.length.shorter_wins, qa.length.ties) == (1 / 3, 1 / 3)
    # of 9 (hallucinated, right) pairs: 4 beats 1 3 3; 3 beats 1, ties 3 3; 2 beats 1: 5 + 2/2
    assert qa.length.auroc == pytest.approx(6 / 9)
    assert (general.rows, general.right, general.hallucinated) == (4, 1, 3)
    assert general.kept == {"handoff": 2, "whole-words": 3}
    assert general.kept_hallucinated == {"handoff": 1, "whole-words": 2}
    assert (general.length.shorter_wins, general.length.auroc) == (None, 1.0)


def test_what_is_not_read_is_said(data: Path) -> None:
    found = survey(data)
    assert found.not_read == (str(data / "other" / "preds_Age.jsonl"),)
    assert found.metadata == (str(data / "bbq" / "additional_metadata.csv"),)


def test_single_files(data: Path) -> None:
    assert [c.rows for c in survey(data / "other" / "preds_Age.jsonl").bbq] == [1]
    assert [c.rows for c in survey(data / "halueval" / "qa_data.json").halueval] == [3]
    assert survey(data / "halueval" / "qa_data.json").bbq == ()


def test_nothing_found(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no BBQ file .* and no HaluEval file"):
        survey(tmp_path)
    with pytest.raises(DataError, match="no such file or folder"):
        survey(tmp_path / "none")


def test_bad_rows_are_counted_once(data: Path) -> None:
    for name in ("bbq/Gender_identity.jsonl", "halueval/general_data.json"):
        with (data / name).open("a") as file:
            file.write("{}\n")
    with pytest.raises(DataError, match=r"Gender_identity\.jsonl:5: field 'category' is missing"):
        survey(data)
    found = survey(data, on_bad_row="skip")
    assert [(row.path.name, row.line) for row in found.bad_rows.listed] == [
        ("Gender_identity.jsonl", 5),
        ("general_data.json", 5),
    ]
    assert found.bad_rows.count == 2


def test_no_texts_no_baseline() -> None:
    baseline = length_baseline([])
    assert (baseline.shorter_wins, baseline.ties, baseline.auroc) == (None, None, None)
    alone = HaluEvalRecord(
        record_id="x",
        objective="hallucination",
        subset="general",
        task=Task.DETECT,
        origin="x",
        context="",
        query="q",
        accepted=None,
        rejected=None,
        shown="text",
        hallucinated=True,
    )
    assert length_baseline([alone]).auroc is None


def test_the_table(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stats(data)
    out = capsys.readouterr().out
    assert "\x1b" not in out  # plain where it is no terminal
    lines = {line.split()[0]: line.split() for line in out.splitlines() if line.strip()}
    cells = "4 5672 2 3 1 3 1 1/0/3 0/0/4 3 1 3"
    assert " ".join(lines["bbq/Gender_identity.jsonl"][2:]) == cells
    assert lines["total"][1:3] == ["4", "5672"]
    assert "4 -> 2 (yes 3 -> 1)" in out
    assert "partial: bbq/Gender_identity.jsonl has 4 of upstream's 5672 rows (0%)" in out
    assert "not read (named after no category or subset): other/preds_Age.jsonl" in out


def test_a_skipped_row_is_printed(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = data / "halueval" / "qa_data.json"
    path.write_text(path.read_text() + '{"knowledge": "[bold]"}\n')
    stats(path, on_bad_row="skip")
    out = capsys.readouterr().out
    assert "1 malformed row(s) left out:" in out
    assert f"{path}:4: field 'question' is missing; the row has: knowledge" in out


def test_json(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stats(data, json=True)
    found = json.loads(capsys.readouterr().out)
    assert found["bbq"][0]["unknown_positions"] == [0, 0, 4]
    assert found["halueval"][1]["kept"] == {"handoff": 2, "whole-words": 3}
    assert found["bad_rows"] == {"count": 0, "listed": []}


def test_the_real_rows(shared_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = survey(shared_data)
    assert {c.category: c.rows for c in found.bbq}["Disability_status"] == 1556
    assert sum(c.rows for c in found.bbq) == 15140 + 961  # whole templates, and the partial files
    general = next(c for c in found.halueval if c.kind == "general_data")
    assert (general.rows, general.kept) == (4507, {"handoff": 4259, "whole-words": 4288})
    qa = next(c for c in found.halueval if c.kind == "qa_data")
    assert qa.length.shorter_wins == pytest.approx(0.969, abs=5e-4)
    assert len(found.metadata) == 2
    stats(shared_data)
    out = capsys.readouterr().out
    assert "4507 -> 4259 (yes 815 -> 567)" in out
    assert "bbq_partial/SES.jsonl has 244 of upstream's 6864 rows (4%), ambiguous rows only" in out
