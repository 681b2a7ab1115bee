"""BBQ files and folders: formats, bad rows, and upstream's metadata beside the rows."""

import csv
import json
import logging
from pathlib import Path
from typing import Any

import pytest
from bbq_rows import AGE, known, other_way, row

from grpo_dual.errors import DataError
from grpo_dual.records.bad_rows import BadRows
from grpo_dual.records.bbq import iter_bbq

# --- files --------------------------------------------------------------------------------------


def many(count: int, **changes: Any) -> list[dict[str, Any]]:
    return [row(example_id=index, **changes) for index in range(count)]


def as_lines(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(made) + "\n" for made in rows)


def as_csv(path: Path, rows: list[dict[str, Any]], encode: Any) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        for made in rows:
            structured = {
                key: encode(value) for key, value in made.items() if isinstance(value, dict)
            }
            table.writerow({**made, **structured})
    return path


def test_all_formats_give_the_same_records(tmp_path: Path) -> None:
    rows = many(5)
    lines, array = tmp_path / "a.jsonl", tmp_path / "a.json"
    lines.write_text(as_lines(rows))
    array.write_text(json.dumps(rows, indent=1))
    files = [
        lines,
        array,
        as_csv(tmp_path / "json.csv", rows, json.dumps),
        as_csv(tmp_path / "python.csv", rows, str),
    ]
    read = [
        [(r.record_id, r.options, r.label, r.unknown, r.biased, r.context) for r in iter_bbq(file)]
        for file in files
    ]
    assert len(read[0]) == 5
    assert read[1:] == read[:1] * 3


@pytest.mark.parametrize(
    ("column", "cell", "reason"),
    [
        ("answer_info", "{'ans0': nonsense}", "column 'answer_info'.*neither JSON nor a Python"),
        ("answer_info", "{'a': 1, 'a': 2}", "'a' stands twice"),
        ("additional_metadata", "", "column 'additional_metadata'.*neither"),
        ("label", "two", "field 'label' must be a whole number from 0 to 2, not 'two'"),
        ("label", "2.0", "field 'label'"),
        ("example_id", "", "field 'example_id'"),
    ],
)
def test_a_wrong_cell_is_named(tmp_path: Path, column: str, cell: str, reason: str) -> None:
    rows = [*many(2), row(**{"example_id": 2, column: cell})]
    path = as_csv(tmp_path / "x.csv", rows, json.dumps)
    with pytest.raises(DataError, match=reason) as caught:
        list(iter_bbq(path))
    assert str(caught.value).startswith(f"{path}:4: ")
    bad = BadRows()
    assert len(list(iter_bbq(path, on_bad_row="skip", bad_rows=bad))) == 2
    assert [(bad_row.line, bad.count) for bad_row in bad.listed] == [(4, 1)]


def test_a_folder_is_read_category_by_category(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "SES.jsonl").write_text(as_lines(many(2, category="SES")))
    (tmp_path / "Religion.json").write_text(json.dumps(many(3, category="Religion")))
    as_csv(tmp_path / "Age.csv", many(4), str)
    (tmp_path / "preds_Age.jsonl").write_text(as_lines(many(9)))
    (tmp_path / "notes.txt").write_text("nothing")
    subsets = [record.subset for record in iter_bbq(tmp_path)]
    assert subsets == ["Age"] * 4 + ["Religion"] * 3 + ["SES"] * 2
    assert [r.subset for r in iter_bbq(tmp_path, categories=["SES"])] == ["SES"] * 2


def test_one_file_of_many_categories(tmp_path: Path) -> None:
    path = tmp_path / "all.jsonl"
    path.write_text(as_lines(many(2) + many(3, category="Religion")))
    assert len(list(iter_bbq(path))) == 5
    assert {r.subset for r in iter_bbq(path, categories=("Religion",))} == {"Religion"}


def test_what_a_folder_lacks_or_has_twice_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file or folder"):
        list(iter_bbq(tmp_path / "none"))
    with pytest.raises(DataError, match=r"no file Age\.jsonl"):
        list(iter_bbq(tmp_path))
    (tmp_path / "Age.jsonl").write_text(as_lines(many(1)))
    with pytest.raises(DataError, match=r"no file SES\.jsonl.*the categories there are Age"):
        list(iter_bbq(tmp_path, categories=["Age", "SES"]))
    with pytest.raises(DataError, match="BBQ has no category 'age'; did you mean 'Age'"):
        list(iter_bbq(tmp_path, categories=["age"]))
    (tmp_path / "Age.json").write_text(json.dumps(many(1)))
    with pytest.raises(DataError, match=r"Age\.json and .*Age\.jsonl both hold category Age"):
        list(iter_bbq(tmp_path))


def test_a_repeated_id_is_a_bad_row(tmp_path: Path) -> None:
    path = tmp_path / "Age.jsonl"
    # 0 and 5000 lie in different words of the id table; category Religion has ids of its own
    ids = [0, 5000, 2**40, 0, 5000]
    path.write_text(as_lines([row(example_id=index) for index in ids]))
    with pytest.raises(DataError, match=r"Age\.jsonl:4: field 'example_id' 0 of category Age"):
        list(iter_bbq(path))
    bad = BadRows()
    kept = list(iter_bbq(path, on_bad_row="skip", bad_rows=bad))
    assert [record.example_id for record in kept] == [0, 5000, 2**40]
    assert [bad_row.line for bad_row in bad.listed] == [4, 5]


def test_a_row_in_the_wrong_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "Age.jsonl"
    path.write_text(as_lines(many(1, category="SES")))
    with pytest.raises(DataError, match="field 'category' is SES in a file named after Age"):
        list(iter_bbq(path))


# --- metadata files -----------------------------------------------------------------------------

UNKNOWN_PAIR = known("Race_x_SES", ["Black"], ("a", "lowSES-Black"), ("b", "lowSES-White"), "1")


def beside(tmp_path: Path, *targets: str, name: str = "additional_metadata.csv") -> Path:
    (tmp_path / "data").mkdir(exist_ok=True)
    data = tmp_path / "data" / "Race_x_SES.jsonl"
    data.write_text(json.dumps(UNKNOWN_PAIR) + "\n")
    rows = [f'Race_x_SES,1,7,{target},label,"Match Race\n Match SES"\n' for target in targets]
    header = "category,question_index,example_id,target_loc,label_type,full_cond\n"
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text(header + "".join(rows))
    return data


@pytest.mark.parametrize(
    "name",
    [
        "data/additional_metadata.csv",
        "data/additional_metadata_official_sample.csv",
        "supplemental/additional_metadata.csv",
        "analysis_scripts/additional_metadata.csv",
    ],
)
def test_metadata_is_found_and_used(tmp_path: Path, name: str) -> None:
    data = beside(tmp_path, "1", "1", "NA", name=name)
    assert [r.biased for r in iter_bbq(data)] == [1]
    assert [r.biased for r in iter_bbq(data.parent)] == [1]
    assert [r.biased for r in iter_bbq(data, metadata=False)] == [None]


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("3", r"metadata\.csv:2: column 'target_loc' is '3'; expected 0, 1, 2 or NA"),
        ("2", "target_loc of the metadata is 2, the unknown option"),
    ],
)
@pytest.mark.parametrize("policy", ["error", "skip"])
def test_wrong_metadata_is_never_skipped(
    tmp_path: Path, target: str, reason: str, policy: Any
) -> None:
    data = beside(tmp_path, target, name="data/additional_metadata.csv")
    with pytest.raises(DataError, match=reason):
        list(iter_bbq(data, on_bad_row=policy, bad_rows=BadRows()))


def test_metadata_that_contradicts_itself_says_nothing(tmp_path: Path) -> None:
    data = beside(tmp_path, "1", "0", "1", name="data/additional_metadata.csv")
    assert [r.biased for r in iter_bbq(data)] == [None]


def test_metadata_as_a_data_frame_writes_it(tmp_path: Path) -> None:
    data = beside(tmp_path, "1.0", name="data/additional_metadata.csv")
    assert [r.biased for r in iter_bbq(data)] == [1]


def contradicted(tmp_path: Path, rows: int, wrong: int) -> Path:
    """Age rows whose own target is 0, of which the first ones are listed with 1."""
    path = tmp_path / "Age.jsonl"
    path.write_text(as_lines(many(rows)))
    lines = [f"Age,{index},{int(index < wrong)}\n" for index in range(rows)]
    metadata = tmp_path / "additional_metadata.csv"
    metadata.write_text("category,example_id,target_loc\n" + "".join(lines))
    return path


def test_a_lone_contradiction_leaves_its_row_without_a_target(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = contradicted(tmp_path, rows=40, wrong=2)  # 2 of 40 is one in twenty, not more
    with caplog.at_level(logging.WARNING):
        assert [r.biased for r in iter_bbq(path)] == [None] * 2 + [0] * 38
    assert "2 row(s) have no bias target because the metadata contradicts them" in caplog.text
    assert f"{path}:1: target_loc of the metadata is 1, but the row itself says 0" in caplog.text


def test_metadata_that_contradicts_many_rows_is_refused(tmp_path: Path) -> None:
    path = contradicted(tmp_path, rows=40, wrong=3)
    with pytest.raises(DataError, match="so it is in 3 of 40 rows compared"):
        list(iter_bbq(path))
    path = contradicted(tmp_path, rows=100, wrong=100)
    with pytest.raises(DataError, match="so it is in 20 of 20 rows"):  # not only after the last
        list(iter_bbq(path))


def test_metadata_without_its_columns_is_named(tmp_path: Path) -> None:
    data = beside(tmp_path)
    (data.parent / "additional_metadata.csv").write_text("category,example_id\nAge,1\n")
    with pytest.raises(DataError, match=r"metadata\.csv:2: column 'target_loc' is missing"):
        list(iter_bbq(data))


def test_metadata_with_unflipped_targets_is_recognised(tmp_path: Path) -> None:
    # Before July 2022 target_loc was the stereotyped option under nonneg too: here 0 instead of 1.
    path = tmp_path / "Age.jsonl"
    path.write_text(json.dumps(other_way(AGE)) + "\n")
    metadata = tmp_path / "additional_metadata.csv"
    metadata.write_text("category,example_id,target_loc\nAge,7,0\n")
    with pytest.raises(DataError, match="before July 2022"):
        list(iter_bbq(path))
    metadata.write_text("category,example_id,target_loc\nAge,7,1\n")
    assert [r.biased for r in iter_bbq(path)] == [1]
