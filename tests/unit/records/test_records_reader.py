"""The reader: three formats, one result; every fault named; memory that follows the row."""

import csv
import json
import logging
import math
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from grpo_dual.errors import DataError
from grpo_dual.records.bad_rows import BadRows
from grpo_dual.records.reader import iter_rows
from grpo_dual.records.strict_json import JsonFault, decode_cell

ROWS: list[dict[str, Any]] = [
    {"a": 1, "b": 'quotes " and \\ and }'},
    {"a": 2, "b": "ünïcödé 😀\nline"},
    {"a": 3, "b": {"c": [1, 2.5, None, True]}},
]


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def read(path: Path) -> list[dict[str, object]]:
    return [row.data for row in iter_rows(path)]


def lines(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


# --- the three formats --------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["x.jsonl", "x.json", "x"])
@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
def test_json_lines_under_any_name(tmp_path: Path, name: str, bom: bytes) -> None:
    assert read(write(tmp_path / name, bom + lines(ROWS).encode())) == ROWS


@pytest.mark.parametrize("name", ["x.jsonl", "x.json"])
@pytest.mark.parametrize("indent", [None, 0, 2])
@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
def test_json_array_under_any_name(
    tmp_path: Path, name: str, indent: int | None, bom: bytes
) -> None:
    text = json.dumps(ROWS, ensure_ascii=False, indent=indent)
    assert read(write(tmp_path / name, bom + text.encode())) == ROWS


def test_numbers_and_lines(tmp_path: Path) -> None:
    content = '\n{"a": 1}\n\n{"a": 2}\n'
    rows = list(iter_rows(write(tmp_path / "x.jsonl", content)))
    assert [(row.line, row.number) for row in rows] == [(2, 2), (4, 4)]
    assert rows[0].origin == f"{tmp_path}/x.jsonl:2"
    # [ on line 1, the first object on line 2, the second spread over lines 3 to 5
    array = '[\n{"a": 1},\n{\n"a": 2\n}, {"a": 3}]'
    rows = list(iter_rows(write(tmp_path / "x.json", array)))
    assert [(row.line, row.number) for row in rows] == [(2, 1), (3, 2), (5, 3)]
    table = 'a,b\n1,"two\nlines"\n2,x\n'
    rows = list(iter_rows(write(tmp_path / "x.csv", table)))
    assert [(row.line, row.number, row.textual) for row in rows] == [(2, 1, True), (4, 2, True)]
    assert rows[0].data == {"a": "1", "b": "two\nlines"}


def test_csv_with_bom_carriage_returns_and_the_index_column_of_pandas(tmp_path: Path) -> None:
    content = b'\xef\xbb\xbf,a,b\r\n0,1,"x ""y"" , z"\r\n\r\n1,2,\r\n'
    assert read(write(tmp_path / "x.csv", content)) == [
        {"a": "1", "b": 'x "y" , z'},
        {"a": "2", "b": ""},
    ]


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(
        st.dictionaries(st.text(max_size=4), st.text() | st.integers(-999, 999), max_size=4),
        min_size=1,
        max_size=8,
    ),
    chunk=st.integers(1, 40),
    indent=st.sampled_from([None, 1]),
    ascii_only=st.booleans(),
)
def test_an_array_reads_alike_wherever_the_chunks_fall(
    tmp_path: Path,
    rows: list[dict[str, Any]],
    chunk: int,
    indent: int | None,
    ascii_only: bool,
) -> None:
    text = json.dumps(rows, indent=indent, ensure_ascii=ascii_only)
    path = write(tmp_path / "x.json", text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("grpo_dual.records.array._CHUNK", chunk)
        assert read(path) == rows


def test_a_number_cut_by_a_chunk_is_read_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("grpo_dual.records.array._CHUNK", 3)
    bad = BadRows()
    path = write(tmp_path / "x.json", '[123456, {"a": 123456}]')
    rows = list(iter_rows(path, on_bad_row="skip", bad_rows=bad))
    assert [row.data for row in rows] == [{"a": 123456}]
    assert "must be an object, not 123456" in bad.listed[0].reason


def test_rows_come_before_the_file_is_read_to_its_end(tmp_path: Path) -> None:
    for name, content in {
        "x.jsonl": lines(ROWS) + '{"a": ',
        "x.json": json.dumps(ROWS)[:-1] + ', {"a": ',
        "x.csv": 'a,b\n1,2\n3,"4',
    }.items():
        rows = iter_rows(write(tmp_path / name, content))
        assert next(rows).number == 1
        with pytest.raises(DataError, match=name):
            list(rows)


# --- memory -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["big.jsonl", "big.json", "big.csv"])
def test_thirty_megabytes_need_less_than_five(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    row = {"knowledge": "word " * 400, "question": "Who?", "right_answer": 'A "B"'}
    count = 14_600  # 2 066 bytes a row as JSON
    text = json.dumps(row)
    with path.open("w", newline="") as file:
        if name.endswith(".csv"):
            table = csv.DictWriter(file, list(row))
            table.writeheader()
            table.writerows(row for _ in range(count))
        elif name.endswith(".jsonl"):
            file.writelines(text + "\n" for _ in range(count))
        else:  # on a single line, so that reading by lines would hold all of it
            file.write("[" + text)
            file.writelines(", " + text for _ in range(count - 1))
            file.write("]")
    assert path.stat().st_size > 29e6
    tracemalloc.start()
    try:
        assert sum(1 for _ in iter_rows(path)) == count
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 5e6


# --- faults of one row: named, or skipped and listed --------------------------------------------

ROW_FAULTS = {
    "cut.jsonl": ('{"a": 1}\n{"a": 2, "b"\n{"a": 3}\n', 2, "column 13.*delimiter"),
    "half.jsonl": ('{"a": 1}\n{"a": "x\n{"a": 3}\n', 2, "column 7.*Unterminated string"),
    "latin.jsonl": (b'{"a": 1}\n{"a": "\xe9"}\n{"a": 3}\n', 2, r"byte 8 \(0xe9\) is no UTF-8"),
    "twice.jsonl": ('{"a": 1}\n{"a": 2, "a": 2}\n{"a": 3}\n', 2, "key 'a' stands twice"),
    "inner.jsonl": ('{"a": 1}\n{"a": {"b": 1, "b": 1}}\n{"a": 3}\n', 2, "key 'b' stands twice"),
    "nan.jsonl": ('{"a": 1}\n{"a": {"b": [1, NaN]}}\n{"a": 3}\n', 2, r"field 'a\.b\[1\]': NaN"),
    "inf.jsonl": ('{"a": 1}\n{"a": -Infinity}\n{"a": 3}\n', 2, "field 'a': -Infinity"),
    "huge.jsonl": ('{"a": 1}\n{"a": 1e999}\n{"a": 3}\n', 2, "field 'a': 1e999 is too large"),
    "digits.jsonl": ('{"a": 1}\n{"a": ' + "9" * 5000 + '}\n{"a": 3}\n', 2, "5000 digits"),
    "list.jsonl": ('{"a": 1}\n[1, 2]\n{"a": 3}\n', 2, r"must be an object, not \[1, 2\]"),
    "null.jsonl": ('{"a": 1}\nnull\n{"a": 3}\n', 2, "must be an object, not None"),
    "two.jsonl": ('{"a": 1}\n{"a": 2} {"a": 2}\n{"a": 3}\n', 2, "column 9: text after"),
    "half-pair.jsonl": ('{"a": 1}\n{"a": "\\ud83d"}\n{"a": 3}\n', 2, "surrogate"),
    "deep.jsonl": ('{"a": 1}\n' + '{"a":' * 200_000 + '\n{"a": 3}\n', 2, "nested too deeply"),
    "word.json": ('[{"a": 1},\n"x",\n{"a": 3}]', 2, "row 2 of the array must be an object"),
    "twice.json": ('[{"a": 1},\n{"a": 2, "a": 2},\n{"a": 3}]', 2, "key 'a' stands twice"),
    "nan.json": ('[{"a": 1},\n{"b": NaN},\n{"a": 3}]', 2, "field 'b': NaN"),
    "short.csv": ("a,b\n1,x\n2\n3,x\n", 3, "1 cells where the header names 2 columns"),
    "long.csv": ("a,b\n1,x\n2,x,y\n3,x\n", 3, "3 cells where the header names 2 columns"),
    "latin.csv": (b"a,b\n1,x\n2,\xe9\n3,x\n", 3, "column 'b' holds bytes that are no UTF-8"),
}


@pytest.mark.parametrize("name", ROW_FAULTS)
def test_a_faulty_row_is_named(tmp_path: Path, name: str) -> None:
    content, line, reason = ROW_FAULTS[name]
    path = write(tmp_path / name, content)
    with pytest.raises(DataError, match=reason) as caught:
        list(iter_rows(path))
    assert str(caught.value).startswith(f"{path}:{line}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ROW_FAULTS)
def test_a_faulty_row_is_skipped_counted_and_listed(tmp_path: Path, name: str) -> None:
    content, line, _ = ROW_FAULTS[name]
    path = write(tmp_path / name, content)
    bad = BadRows()
    rows = list(iter_rows(path, on_bad_row="skip", bad_rows=bad))
    assert [str(row.data["a"]) for row in rows] == ["1", "3"]
    assert [(row.path, row.line) for row in bad.listed] == [(path, line)]
    assert not bad.listed[0].reason.startswith(str(path))
    assert bad.summary().startswith(f"1 malformed row(s) left out:\n  {path}:{line}: ")


def test_rows_keep_their_number_when_others_are_skipped(tmp_path: Path) -> None:
    path = write(tmp_path / "x.json", '[{"a": 1}, 2, {"a": 3}]')
    rows = list(iter_rows(path, on_bad_row="skip", bad_rows=BadRows()))
    assert [row.number for row in rows] == [1, 3]


def test_rows_skipped_without_a_collector_are_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(tmp_path / "x.jsonl", '{"a": 1}\nnonsense\n')
    with caplog.at_level(logging.WARNING):
        list(iter_rows(path, on_bad_row="skip"))
    assert f"{path}:2" in caplog.text


def test_a_thousand_bad_rows_are_listed_and_all_are_counted(tmp_path: Path) -> None:
    path = write(tmp_path / "x.jsonl", '{"a": 1}\n' + "1\n" * 1500)
    bad = BadRows()
    assert len(list(iter_rows(path, on_bad_row="skip", bad_rows=bad))) == 1
    assert (bad.count, len(bad), len(bad.listed)) == (1500, 1500, 1000)
    assert bad.summary(limit=2).endswith("... and 1498 more")


# --- faults after which nothing can be found: never skipped -------------------------------------

FILE_FAULTS = {
    "empty.jsonl": ("", "the file is empty"),
    "bom.jsonl": (b"\xef\xbb\xbf", "the file is empty"),
    "blank.jsonl": (" \n\n" * 3000, "the file is empty"),
    "none.json": ("[ ]", "holds no rows"),
    "header.csv": ("a,b\n", "holds no rows"),
    "cut.json": ('[{"a": 1},\n{"a": "x', ":2: column 1: the file ends inside the array"),
    "cut-after.json": ('[{"a": 1},\n', "the file ends inside the array"),
    "cut-comma.json": ('[{"a": 1}', "the file ends inside the array"),
    "comma.json": ('[{"a": 1},\n]', ":2: column 1: a comma before"),
    "no-comma.json": ('[{"a": 1}\n{"a": 2}]', ":2: column 1: expected ',' or ']'"),
    "wrong.json": ('[{"a": 1},\n  {a: 2}, ' + '{"a": 3}, ' * 50 + "]", ":2: column 4: "),
    "after.json": ('[{"a": 1}]\nx', ":2: column 1: text after the array"),
    "latin.json": (b'[{"a": 1},\n{"a": "\xe9"}]', ":2: byte 0xe9 is no UTF-8"),
    "half-sign.json": (b'[{"a": 1}]\n\xc3', ":2: byte 0xc3 is no UTF-8"),
    "deep.json": ("[" * 200_000, "nested too deeply"),
    "quote.csv": ('a,b\n1,"x\n2,y\n', ":2: unexpected end of data"),
    "after-quote.csv": ('a,b\n1,"x"y\n', ":2: .*expected after"),
    "columns.csv": ("a,b,a\n1,2,3\n", ":1: column 'a' stands twice"),
    "semicolon.csv": ("a;b\n1;2\n", "not separated by commas"),
    "latin-header.csv": (b"\xe9,b\n1,2\n", "header is no UTF-8"),
    "utf16.jsonl": ('{"a": 1}\n'.encode("utf-16"), "UTF-16"),
    "gzip.jsonl": (b"\x1f\x8b\x08\x00", "gzip"),
    "parquet.json": (b"PAR1\x00", "Parquet"),
    "lfs.jsonl": ("version https://git-lfs.github.com/spec/v1\noid", "Git LFS pointer"),
    "page.json": ("<!DOCTYPE html>", "HTML"),
    "text.jsonl": ("hello\n", "begins with 'h'"),
    "number.json": ("12", "begins with '1'"),
}


@pytest.mark.parametrize("policy", ["error", "skip"])
@pytest.mark.parametrize("name", FILE_FAULTS)
def test_a_file_that_cannot_be_read_on_is_refused(tmp_path: Path, name: str, policy: Any) -> None:
    content, reason = FILE_FAULTS[name]
    path = write(tmp_path / name, content)
    with pytest.raises(DataError, match=reason) as caught:
        list(iter_rows(path, on_bad_row=policy, bad_rows=BadRows()))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.jsonl: cannot be read"):
        list(iter_rows(tmp_path / "none.jsonl"))
    with pytest.raises(DataError, match="cannot be read"):
        list(iter_rows(tmp_path))


def test_a_file_without_line_breaks_is_not_read_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("grpo_dual.records.reader._MAX_LINE", 64)
    path = write(tmp_path / "x.jsonl", '{"a": 1}\n{"a": "' + "x" * 100 + '"}')
    with pytest.raises(DataError, match=r"x\.jsonl:2: the line is longer"):
        list(iter_rows(path))
    monkeypatch.setattr("grpo_dual.records.array._CHUNK", 8)
    monkeypatch.setattr("grpo_dual.records.array._MAX_ELEMENT", 64)
    path = write(tmp_path / "x.json", '[{"a": 1},\n{"a": "' + "x" * 1000)
    with pytest.raises(DataError, match=r"x\.json:2: column 1: the row that begins here is longer"):
        list(iter_rows(path))


# --- structured CSV cells -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        ('{"a": ["x", null]}', {"a": ["x", None]}),
        ("{'a': ['it\\'s', None, True]}", {"a": ["it's", None, True]}),
        (" ['a'] ", ["a"]),
        ("{'a': '\\d'}", {"a": "\\d"}),
    ],
)
def test_a_cell_is_json_or_a_python_literal(cell: str, value: object) -> None:
    assert decode_cell(cell) == value


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        ("", "neither"),
        ("{'a': open('x')}", "neither"),
        ("array(['a'], dtype=object)", "neither"),
        ("{'a': 1, 'a': 2}", "'a' stands twice"),
        ('{"a": 1, "a": 2}', "'a' stands twice"),
        ('{"a": NaN}', "NaN"),
        ('{"a": 1} x', "text after"),
        ("[" * 100_000, "nested|neither"),
        ("'" + "x" * 1_000_001 + "'", "too long"),
    ],
)
def test_a_cell_that_is_neither_is_refused(cell: str, reason: str) -> None:
    with pytest.raises(JsonFault, match=reason):
        decode_cell(cell)


def test_a_literal_cannot_smuggle_in_infinity() -> None:
    # 1e999 is no JSON fault alone: as a Python literal it would become inf.
    with pytest.raises(JsonFault):
        decode_cell("{'a': 1e999}")
    assert math.isfinite(decode_cell("{'a': 1e9}")["a"])  # type: ignore[index]
