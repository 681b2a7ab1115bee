"""Predictions of others: which option an answer names, and which row it belongs to."""

import json
from pathlib import Path

import pytest

from grpo_dual.errors import DataError
from grpo_dual.records import synthetic
from grpo_dual.records.predictions import (
    Items,
    by_name,
    chosen,
    not_predicted,
    read_items,
    read_predictions,
)
from grpo_dual.types import BbqRecord

ROWS = list(synthetic.bbq_rows("train", 4, 0))
RECORD = next(iter(synthetic.bbq_records("train", 1, 0)))


def write(path: Path, rows: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize(
    ("answer", "index"),
    [
        (0, 0),
        (2, 2),
        (3, None),
        (-1, None),
        (True, None),
        (1.0, 1),
        ("2.0", 2),
        (1.5, None),
        (float("nan"), None),
        (None, None),
        ("1", 1),
        ("", None),
        ("banana", None),
        ("a", None),
    ],
)
def test_an_answer_is_an_index_or_nothing(answer: object, index: int | None) -> None:
    assert chosen(answer, RECORD) == index


def test_an_answer_is_an_options_text_in_any_case_with_or_without_its_period() -> None:
    for index, option in enumerate(RECORD.options):
        for answer in (option, option.lower(), option.upper() + ".", f"  {option}\n"):
            assert chosen(answer, RECORD) == index
        assert chosen(f"{option} or so", RECORD) is None


def test_whole_rows_need_no_other_file(tmp_path: Path) -> None:
    path = write(tmp_path / "p.jsonl", [{**row, "pred": row["ans1"]} for row in ROWS])
    found = read_predictions(path, "pred")
    assert [p.index for p in found] == [1] * 16
    assert [p.record.label for p in found] == [row["label"] for row in ROWS]


def items() -> Items:
    records = synthetic.bbq_records("train", 4, 0)
    return {(r.subset, r.example_id): r for r in records}


def test_keys_are_joined_and_the_files_options_count(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [
        {"category": row["category"], "example_id": row["example_id"], "pred": 2, "ans2": "stale"}
        for row in ROWS[:6]
    ]
    found = read_predictions(write(tmp_path / "p.jsonl", rows), "pred", items())
    assert [p.record.options[2] for p in found] == [row["ans2"] for row in ROWS[:6]]
    # 4 blocks of 4 rows, one block a category: the first is whole, the second half.
    left = not_predicted(items(), found)
    assert left == {"SES": 2, "Physical_appearance": 4, "Disability_status": 4}


def test_csv_is_read_too(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    path.write_text(f"category,example_id,pred\nAge,0,{ROWS[0]['ans0']}\nAge,1,2\n")
    assert [p.index for p in read_predictions(path, "pred", items())] == [0, 2]


def test_items_with_names_stand_apart() -> None:
    def of(names: bool) -> BbqRecord:
        return synthetic.bbq.parse_row(
            {**ROWS[0], "question_index": "26" if names else "25"}, "t:1"
        )

    from grpo_dual.records.predictions import Prediction

    grouped = by_name([Prediction(of(True), 0), Prediction(of(False), 1)])
    assert list(grouped) == ["Age", "Age (names)"]


@pytest.mark.parametrize(
    ("row", "names"),
    [
        ({"category": "Age", "example_id": 0}, ("p.jsonl:1", "'pred'", "--field")),
        ({"category": "Age", "example_id": 99, "pred": 0}, ("p.jsonl:1", "99", "--data")),
        ({"category": "age", "example_id": 0, "pred": 0}, ("p.jsonl:1", "category")),
        ({"example_id": 0, "pred": 0}, ("p.jsonl:1", "category")),
        ({"category": "Age", "example_id": "x", "pred": 0}, ("p.jsonl:1", "example_id")),
    ],
)
def test_a_row_that_fits_nowhere_is_named(
    tmp_path: Path, row: dict[str, object], names: tuple[str, ...]
) -> None:
    with pytest.raises(DataError) as error:
        read_predictions(write(tmp_path / "p.jsonl", [row]), "pred", items())
    assert all(name in str(error.value) for name in names)


def test_a_row_predicted_twice_is_refused_with_both_lines(tmp_path: Path) -> None:
    row: dict[str, object] = {"category": "Age", "example_id": 0, "pred": 0}
    with pytest.raises(DataError, match=r"p\.jsonl:2.*p\.jsonl:1"):
        read_predictions(write(tmp_path / "p.jsonl", [row, {**row, "pred": 1}]), "pred", items())


def test_keys_alone_ask_for_the_bbq_files(tmp_path: Path) -> None:
    row: dict[str, object] = {"category": "Age", "example_id": 0, "pred": 0}
    with pytest.raises(DataError, match="--data"):
        read_predictions(write(tmp_path / "p.jsonl", [row]), "pred")


def test_the_published_predictions_name_an_option_but_for_three(shared_data: Path) -> None:
    found = read_items(shared_data / "bbq")
    unparsed = {
        (category, field): sum(
            p.index is None
            for p in read_predictions(
                shared_data / "bbq_unifiedqa_preds" / f"preds_{category}.jsonl",
                f"unifiedqa-t5-11b_pred_{field}",
                found,
            )
        )
        for category in ("Age", "Religion")
        for field in ("race", "qonly", "arc")
    }
    # The data's README: all name one option but 3 of Age, 2 of qonly and 1 of arc.
    assert unparsed.pop(("Age", "qonly")) == 2
    assert unparsed.pop(("Age", "arc")) == 1
    assert set(unparsed.values()) == {0}
