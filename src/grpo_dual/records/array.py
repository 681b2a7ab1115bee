"""The elements of a JSON array, one at a time, from a stream."""

import codecs
import json
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from grpo_dual.errors import DataError
from grpo_dual.records.strict_json import StrictDecoder

_CHUNK = 64 * 2**10
"""Bytes read at once; doubled while an element does not end, so a long one costs linear time."""
_MAX_ELEMENT = 64 * 2**20
"""Characters of one element. Without a bound an unclosed brace would read the whole file."""
_SPACE = " \t\r\n"


class _Window:
    """What has been read and not yet parsed, and where in the file it begins."""

    def __init__(self, path: Path, stream: BinaryIO) -> None:
        self.path = path
        self.text = ""
        self.at = 0
        self.ended = False
        self._line = 1
        self._column = 1
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder("utf-8")("strict")
        self._lines_read = 1

    def more(self) -> bool:
        """Read on; False at the end of the file."""
        if self.ended:
            return False
        pending = len(self.text) - self.at
        if pending > _MAX_ELEMENT:
            raise self.fault(
                self.at, f"the row that begins here is longer than {_MAX_ELEMENT} characters"
            )
        raw = self._stream.read(max(_CHUNK, pending))
        self.ended = not raw
        try:
            text = self._decoder.decode(raw, final=self.ended)
        except UnicodeDecodeError as error:
            line = self._lines_read + error.object[: error.start].count(b"\n")
            wrong = error.object[error.start]
            raise DataError(
                f"{self.path}:{line}: byte 0x{wrong:02x} is no UTF-8; save the file as UTF-8 (in "
                "an array it "
                "cannot be skipped)"
            ) from error
        self._lines_read += raw.count(b"\n")
        self.text = self.text[self.at :] + text
        self.at = 0
        return not self.ended or bool(text)

    def move(self, end: int) -> None:
        """Go on to ``text[end]``, keeping count of lines and columns."""
        self._line, self._column = self.place(end)
        self.at = end

    def place(self, index: int) -> tuple[int, int]:
        """Line and column of ``text[index]``, both from 1."""
        lines = self.text.count("\n", self.at, index)
        if not lines:
            return self._line, self._column + index - self.at
        return self._line + lines, index - self.text.rfind("\n", self.at, index)

    def next_sign(self) -> str:
        """The next character that is no white space, not consumed; empty at the end of the file."""
        while True:
            end = self.at
            while end < len(self.text) and self.text[end] in _SPACE:
                end += 1
            self.move(end)
            if end < len(self.text):
                return self.text[end]
            if not self.more():
                return ""

    def fault(self, index: int, problem: str) -> DataError:
        line, column = self.place(min(index, len(self.text)))
        return DataError(f"{self.path}:{line}: column {column}: {problem}")


def array_rows(path: Path, stream: BinaryIO) -> Iterator[tuple[int, object, str | None]]:
    """Yield the elements of the array that a stream holds.

    Args:
        path: Named in errors.
        stream: UTF-8 bytes; the first sign is the opening bracket.

    Yields:
        The line on which the element begins, its value, and the fault found in it, if any.

    Raises:
        DataError: The array is truncated or is no JSON. What follows cannot be found then, so this
            is never skipped.
    """
    window = _Window(path, stream)
    decoder = StrictDecoder()
    window.next_sign()
    window.move(window.at + 1)
    sign = window.next_sign()
    while sign != "]":
        line, _ = window.place(window.at)
        value, fault = _element(window, decoder)
        yield line, value, fault
        sign = window.next_sign()
        if sign == ",":
            window.move(window.at + 1)
            sign = window.next_sign()
            if sign == "]":
                raise window.fault(window.at, "a comma before the closing ']'; remove it")
        elif sign != "]":
            problem = f"expected ',' or ']' after a row, not {sign!r}" if sign else _TRUNCATED
            raise window.fault(window.at, problem)
    window.move(window.at + 1)
    if window.next_sign():
        raise window.fault(window.at, "text after the array; a file holds one array or JSON lines")


_TRUNCATED = "the file ends inside the array; it is truncated, fetch or write it again"


def _element(window: _Window, decoder: StrictDecoder) -> tuple[object, str | None]:
    while True:
        try:
            value, end, fault = decoder.decode_at(window.text, window.at)
        except json.JSONDecodeError as error:
            if _may_go_on(error, len(window.text)) and window.more():
                continue
            cut = _may_go_on(error, len(window.text))
            raise window.fault(
                window.at if cut else error.pos,
                _TRUNCATED if cut else f"{error.msg}; correct the JSON here",
            ) from error
        except RecursionError as error:
            raise window.fault(
                window.at, "the row is nested too deeply; it must be a flat object"
            ) from error
        # A number at the very end of what was read may have more digits.
        if end == len(window.text) and window.more():
            continue
        window.move(end)
        return value, fault


def _may_go_on(error: json.JSONDecodeError, length: int) -> bool:
    """True when the text may merely have ended too early for the decoder.

    The decoder reports an unfinished string at its opening quote, and an unfinished word or escape
    within a few characters of the end; anything else is wrong however the text goes on.
    """
    return error.msg.startswith("Unterminated string") or error.pos + 16 > length
