"""Rows from JSON lines, a JSON array or CSV, one at a time.

A file is never held whole: memory follows the longest row, not the file. What the file is is read
from its first character, because upstream's ``.json`` files are JSON lines: ``[`` begins an array,
``{`` begins JSON lines, and a name that ends in ``.csv`` is comma-separated values with a header.
All three must be UTF-8; a byte order mark is tolerated.

A fault that concerns one row (a duplicate key, a missing cell, bytes that are no UTF-8 in a line)
may be skipped. A fault after which the next row cannot be found (a truncated array, an unclosed
quote) never is.
"""

import csv
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from grpo_dual.errors import DataError
from grpo_dual.records.array import array_rows
from grpo_dual.records.bad_rows import BadRows, Gate, OnBadRow
from grpo_dual.records.fields import shorten
from grpo_dual.records.strict_json import StrictDecoder

_BOM = b"\xef\xbb\xbf"
_MAX_LINE = 64 * 2**20
"""Bytes of one line of JSON lines or CSV. A file without line breaks must not be read whole."""

_LOOKS_LIKE = (
    (b"\xff\xfe", "UTF-16 text; save it as UTF-8"),
    (b"\xfe\xff", "UTF-16 text; save it as UTF-8"),
    (b"\x1f\x8b", "a gzip archive; unpack it first"),
    (b"PK\x03\x04", "a zip archive; unpack it first"),
    (b"PAR1", "a Parquet file; convert it to JSON lines first"),
    (b"version https://git-lfs", "a Git LFS pointer, not the file itself; fetch the real file"),
    (b"<", "HTML or XML, perhaps a web page saved in place of the file; download it again"),
)


def sha256(path: Path) -> str:
    """Checksum of a data file, for provenance: 64 hex digits.

    Raises:
        DataError: It cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error


@dataclass(frozen=True, slots=True)
class Row:
    """One raw row."""

    path: Path
    line: int
    """Line on which it begins, from 1."""
    data: dict[str, object]
    number: int
    """Its key in the file: the line in JSON lines, else its position from 1. Bad rows are counted
    too, so a row keeps its number whatever is skipped."""
    textual: bool = False
    """True for CSV: every value is text, whatever it stands for."""

    @property
    def origin(self) -> str:
        """``path:line``."""
        return f"{self.path}:{self.line}"


def iter_rows(
    path: Path, *, on_bad_row: OnBadRow = "error", bad_rows: BadRows | None = None
) -> Iterator[Row]:
    """Yield the rows of one file in order, reading it as a stream.

    Args:
        path: A file of JSON lines, one JSON array of objects, or CSV with a header row.
        on_bad_row: Stop at a malformed row, or leave it out.
        bad_rows: Where rows left out are counted and listed; without it they are logged as a
        warning.

    Yields:
        Row: Its values are whatever the JSON says, and texts only for CSV.

    Raises:
        DataError: The file cannot be opened, is empty or is of another format; a row is malformed
            (only under ``error``); or the rest of the file cannot be read.
    """
    gate = Gate(on_bad_row, bad_rows)
    yield from read_rows(path, gate)
    gate.close()


def read_rows(path: Path, gate: Gate) -> Iterator[Row]:
    """As `iter_rows`, under a policy that the caller shares between reading and parsing."""
    try:
        with path.open("rb") as stream:
            yield from _rows(path, stream, gate)
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror or error}); check the path"
        ) from error


def first_row(path: Path) -> Row:
    """The first row that can be read, for recognising a file by its fields.

    Raises:
        DataError: No row can be read.
    """
    bad = BadRows()
    for row in iter_rows(path, on_bad_row="skip", bad_rows=bad):
        return row
    reason = f" The first: {bad.listed[0]}" if bad.listed else ""
    raise DataError(f"{path}: none of its {bad.count} row(s) can be read.{reason}")


def _rows(path: Path, stream: BinaryIO, gate: Gate) -> Iterator[Row]:
    start = stream.read(4096)
    for magic, what in _LOOKS_LIKE:
        if start.startswith(magic):
            raise DataError(f"{path}: this is {what}")
    offset = len(_BOM) if start.startswith(_BOM) else 0
    first = start[offset:].lstrip()[:1]
    while not first and start:  # nothing but white space so far
        start = stream.read(4096)
        first = start.lstrip()[:1]
    if not first:
        raise DataError(f"{path}: the file is empty; fetch or write it again")
    stream.seek(offset)
    if path.suffix.lower() == ".csv":
        rows = _csv_rows(path, stream, gate)
    elif first == b"[":
        rows = _array_rows(path, stream, gate)
    elif first == b"{":
        rows = _json_lines(path, stream, gate)
    else:
        raise DataError(
            f"{path}:1: begins with {shorten(first.decode('latin-1'))}; expected "
            f"'{{' (JSON lines), '[' (a JSON "
            "array), or a name ending in .csv. Convert the file or correct the path"
        )
    found, bad_before = False, gate.bad_rows.count
    for row in rows:
        found = True
        yield row
    if not found and gate.bad_rows.count == bad_before:
        raise DataError(f"{path}: the file holds no rows; fetch or write it again")


def _lines(path: Path, stream: BinaryIO) -> Iterator[bytes]:
    number = 0
    while line := stream.readline(_MAX_LINE):
        number += 1
        if len(line) == _MAX_LINE and not line.endswith(b"\n"):
            raise DataError(
                f"{path}:{number}: the line is longer than {_MAX_LINE // 2**20} MiB; write one row "
                "per line"
            )
        yield line


def _json_lines(path: Path, stream: BinaryIO, gate: Gate) -> Iterator[Row]:
    decoder = StrictDecoder()
    for line, raw in enumerate(_lines(path, stream), start=1):
        if not raw.strip():
            continue
        try:
            data = _json_object(decoder, raw, f"{path}:{line}")
        except DataError as error:
            gate.reject(path, line, error)
            continue
        yield Row(path, line, data, number=line)


def _json_object(decoder: StrictDecoder, raw: bytes, origin: str) -> dict[str, object]:
    try:
        text = raw.decode("utf-8").strip()
    except UnicodeDecodeError as error:
        raise DataError(
            f"{origin}: byte {error.start + 1} (0x{raw[error.start]:02x}) is no UTF-8; save the "
            "file as UTF-8"
        ) from error
    try:
        value, end, fault = decoder.decode_at(text)
    except json.JSONDecodeError as error:
        raise DataError(
            f"{origin}: column {error.pos + 1}: {error.msg}; a row must be one whole JSON object "
            "on one line "
            "(is the file truncated, or is one object spread over lines?)"
        ) from error
    except RecursionError as error:
        raise DataError(
            f"{origin}: the row is nested too deeply; it must be a flat object"
        ) from error
    if end != len(text):
        raise DataError(
            f"{origin}: column {end + 1}: text after the row's object; one object per line"
        )
    if fault is not None:
        raise DataError(f"{origin}: {fault}")
    if not isinstance(value, dict):
        raise DataError(f"{origin}: the row must be an object, not {shorten(value)}")
    return cast("dict[str, object]", value)


def _array_rows(path: Path, stream: BinaryIO, gate: Gate) -> Iterator[Row]:
    for number, (line, value, fault) in enumerate(array_rows(path, stream), start=1):
        origin = f"{path}:{line}: row {number} of the array"
        if fault is not None:
            gate.reject(path, line, DataError(f"{origin}: {fault}"))
        elif not isinstance(value, dict):
            gate.reject(path, line, DataError(f"{origin} must be an object, not {shorten(value)}"))
        else:
            yield Row(path, line, cast("dict[str, object]", value), number)


def _csv_rows(path: Path, stream: BinaryIO, gate: Gate) -> Iterator[Row]:
    # Bytes that are no UTF-8 pass as surrogates, so that the row they spoil can be named or
    # skipped.
    texts = (raw.decode("utf-8", "surrogateescape") for raw in _lines(path, stream))
    cells = csv.reader(texts, strict=True)
    header: list[str] | None = None
    number = 0
    while True:
        line = cells.line_num + 1
        try:
            row = next(cells, None)
        except csv.Error as error:
            raise DataError(
                f"{path}:{line}: {error}; the row that begins here is no valid CSV (an unclosed "
                "quote swallows "
                'all that follows, so it cannot be skipped). Quote with " and double it inside'
            ) from error
        if row is None:
            return
        if not row:
            continue
        if header is None:
            header = _csv_header(path, line, row)
            continue
        number += 1
        try:
            data = _csv_object(f"{path}:{line}", header, row)
        except DataError as error:
            gate.reject(path, line, error)
            continue
        yield Row(path, line, data, number, textual=True)


def _csv_header(path: Path, line: int, names: list[str]) -> list[str]:
    origin = f"{path}:{line}"
    if not "".join(names).isprintable():
        raise DataError(f"{origin}: the header is no UTF-8 text; save the file as UTF-8")
    names = [name.strip() for name in names]
    for name in names:
        if names.count(name) > 1:
            raise DataError(
                f"{origin}: column '{name}' stands twice in the header; keep one of them"
            )
    if len(names) == 1 and any(sign in names[0] for sign in ";\t|"):
        raise DataError(
            f"{origin}: the header is not separated by commas; save the file with commas"
        )
    return names


def _csv_object(origin: str, header: list[str], row: list[str]) -> dict[str, object]:
    if len(row) != len(header):
        raise DataError(
            f"{origin}: {len(row)} cells where the header names {len(header)} columns "
            f"({', '.join(header[:12])}); complete the row, or quote the cell that holds a comma"
        )
    for name, cell in zip(header, row, strict=True):
        try:
            cell.encode()
        except UnicodeEncodeError:
            raise DataError(
                f"{origin}: column '{name}' holds bytes that are no UTF-8; save the file as UTF-8"
            ) from None
    # A nameless column is the row index that pandas writes.
    return {name: cell for name, cell in zip(header, row, strict=True) if name}
