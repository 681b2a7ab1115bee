"""HaluEval rows (Li et al. 2023) as records: qa, dialogue, summarization and general.

A row of the first three holds a right and a hallucinated text for the same knowledge: it becomes an
``ANSWER`` record with both sides, and ``as_detection`` shows either of them. A row of ``general``
holds one text and a verdict: it becomes a ``DETECT`` record, as do the one-sided ``*_samples``
rows.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, cast

from grpo_dual.errors import DataError
from grpo_dual.records.bad_rows import BadRows, Gate, OnBadRow
from grpo_dual.records.fields import Fields, shorten, suggestion
from grpo_dual.records.normalise import block, one_line, without_final_period
from grpo_dual.records.reader import first_row, read_rows
from grpo_dual.records.strict_json import JsonFault, decode_cell
from grpo_dual.types import HaluEvalRecord, Task

SUBSETS = ("qa", "dialogue", "summarization", "general")
"""The four subsets."""

UPSTREAM_ROWS = {"qa": 10000, "dialogue": 10000, "summarization": 10000, "general": 4507}
"""Rows of each subset's ``*_data.json`` in upstream's release."""

GeneralFilter = Literal["handoff", "whole-words", "off"]

_SUFFIXES = frozenset({".jsonl", ".json", ".csv"})
_NOISE = ("incomplete", "cannot", "ai language model", "format")
_NOISE_WORDS = re.compile(r"\b(?:incomplete|cannot|ai\s+language\s+model|format)\b")


@dataclass(frozen=True, slots=True)
class Layout:
    """The fields of one kind of file."""

    name: str
    """The file's name without its suffix."""
    subset: str
    context: str | None
    """Field of the knowledge or document."""
    query: str | None
    """Field of the question, history or user query."""
    texts: tuple[str, ...]
    """The right and the hallucinated side, or the one text that is shown."""
    optional_context: bool = False

    @property
    def one_sided(self) -> bool:
        """True when a row holds one text and a verdict."""
        return len(self.texts) == 1

    @property
    def required(self) -> frozenset[str]:
        """The fields by which such a row is known."""
        context = None if self.optional_context else self.context
        verdict = "hallucination" if self.one_sided else None
        return frozenset(name for name in (context, self.query, verdict, *self.texts) if name)


LAYOUTS = (
    Layout("qa_data", "qa", "knowledge", "question", ("right_answer", "hallucinated_answer")),
    Layout(
        "dialogue_data",
        "dialogue",
        "knowledge",
        "dialogue_history",
        ("right_response", "hallucinated_response"),
    ),
    Layout(
        "summarization_data",
        "summarization",
        "document",
        None,
        ("right_summary", "hallucinated_summary"),
    ),
    Layout("general_data", "general", None, "user_query", ("chatgpt_response",)),
    Layout("qa_samples", "qa", "knowledge", "question", ("answer",), optional_context=True),
    Layout(
        "dialogue_samples",
        "dialogue",
        "knowledge",
        "dialogue_history",
        ("response",),
        optional_context=True,
    ),
    Layout("summarization_samples", "summarization", "document", None, ("summary",)),
)
"""All kinds of files, by name."""

_BY_NAME = {layout.name: layout for layout in LAYOUTS}


def parse_row(
    row: Mapping[str, object], origin: str, *, layout: Layout, number: int, source: str = "halueval"
) -> HaluEvalRecord:
    """Turn one raw row into a record, freed of the formatting that tells the sides apart.

    Args:
        row: The row as upstream writes it.
        origin: ``path:line``, named in errors.
        layout: Its kind.
        number: The row's number in its file: HaluEval has no usable ids (three rows of ``general``
            have none), so this is the key.
        source: First part of the record id.

    Returns:
        ``ANSWER`` with both sides, or ``DETECT`` with one text and its verdict; its id is
        ``source/subset/number`` (``source/qa_samples/number`` and the like for the one-sided
        files).

    Raises:
        DataError: A field is missing, of another type or empty.
    """
    fields = Fields(row, origin)
    general = layout.subset == "general"
    verdict = fields.choice("hallucination", ("yes", "no")) if layout.one_sided else None
    if general:
        _spans(fields)
    context = ""
    if layout.context and (fields.has(layout.context) or not layout.optional_context):
        context = one_line(fields.text(layout.context))
    tidy = block if general else one_line
    query = tidy(fields.text(layout.query)) if layout.query else ""
    texts = [_side(fields, key, tidy(fields.text(key))) for key in layout.texts]
    kind = layout.subset if not layout.one_sided or general else layout.name
    return HaluEvalRecord(
        record_id=f"{source}/{kind}/{number}",
        objective="hallucination",
        subset=layout.subset,
        task=Task.DETECT if layout.one_sided else Task.ANSWER,
        origin=origin,
        context=context,
        query=query,
        accepted=None if layout.one_sided else texts[0],
        rejected=None if layout.one_sided else texts[1],
        shown=texts[0] if layout.one_sided else None,
        hallucinated=None if verdict is None else verdict == "yes",
    )


def iter_halueval(
    path: Path,
    *,
    subsets: Collection[str] = SUBSETS,
    general_filter: GeneralFilter = "handoff",
    one_sided: bool = False,
    on_bad_row: OnBadRow = "error",
    bad_rows: BadRows | None = None,
) -> Iterator[HaluEvalRecord]:
    """Yield the records of a file, or of upstream's files in a folder and its subfolders.

    Args:
        path: A file (known by its name, else by the fields of its first row), or a folder with
            ``qa_data.json`` and the like (also ``.jsonl`` and ``.csv``). Other files in it are not
            read.
        subsets: Only these; all four by default. A subset without a file is an error only when it
            is not all four that are asked for.
        general_filter: See `keeps_general`.
        one_sided: Also read the ``*_samples`` files of a folder. Their rows are ``DETECT`` records
            among ``ANSWER`` pairs, so a run that asks no detection does not want them. A single
            file is always read.
        on_bad_row: Stop at a malformed row, or leave it out.
        bad_rows: Where rows left out are counted and listed; without it they are logged as a
        warning.

    Yields:
        HaluEvalRecord: Files in the order of `LAYOUTS`, rows in file order.

    Raises:
        DataError: A subset is unknown or has no file, two files hold the same rows, a file is not
            recognised, or a row is malformed (only under ``error``).
    """
    for name in subsets:
        if name not in SUBSETS:
            raise DataError(
                f"HaluEval has no subset '{name}'{suggestion(name, SUBSETS)}; the subsets are "
                f"{', '.join(SUBSETS)}"
            )
    gate = Gate(on_bad_row, bad_rows)
    for file, layout in _files_of(path, subsets, one_sided):
        for row in read_rows(file, gate):
            try:
                data = from_text(row.data, row.origin) if row.textual else row.data
                record = parse_row(data, row.origin, layout=layout, number=row.number)
            except DataError as error:
                gate.reject(row.path, row.line, error)
                continue
            if layout.subset != "general" or keeps_general(data, general_filter):
                yield record
    gate.close()


def keeps_general(row: Mapping[str, object], mode: GeneralFilter) -> bool:
    """Whether a well-formed row of ``general`` stays.

    "Hallucination" there mixes factual errors with incompleteness, disclaimers and format. ``no``
    rows stay. A ``yes`` row stays if its spans are not empty and mention none of "incomplete",
    "cannot", "ai language model" and "format".

    Args:
        row: The raw row.
        mode: ``handoff`` looks for the four as substrings of ``str(spans).lower()`` (567 of
            upstream's 815 ``yes`` rows stay; 26 fall only because "format" is in "information");
            ``whole-words`` looks for whole words; ``off`` keeps everything.

    Returns:
        True when the row stays.
    """
    if mode == "off" or row["hallucination"] == "no":
        return True
    spans = row["hallucination_spans"]
    if not spans:
        return False
    if mode == "whole-words":  # not str(spans), which would glue an escaped line break to a word
        texts = cast("Iterable[str]", spans)
        return all(_NOISE_WORDS.search(text.lower()) is None for text in texts)
    return not any(word in str(spans).lower() for word in _NOISE)


def as_detection(record: HaluEvalRecord, *, hallucinated: bool) -> HaluEvalRecord:
    """The yes/no form of a pair: show its rejected side (``hallucinated``) or its accepted one.

    Returns:
        A ``DETECT`` record without the sides; its id ends in ``/hallucinated`` or ``/right``, so
        that both forms and the pair can stand in one run.

    Raises:
        DataError: The record does not hold that side.
    """
    shown = record.rejected if hallucinated else record.accepted
    if record.task is not Task.ANSWER or shown is None:
        side = "rejected" if hallucinated else "accepted"
        raise DataError(f"{record.origin}: {record.record_id} has no {side} side to be shown")
    return replace(
        record,
        record_id=f"{record.record_id}/{'hallucinated' if hallucinated else 'right'}",
        task=Task.DETECT,
        accepted=None,
        rejected=None,
        shown=shown,
        hallucinated=hallucinated,
    )


def as_answer(record: HaluEvalRecord) -> HaluEvalRecord:
    """The free-answer form of a one-sided record: what was shown becomes the side that it is.

    Returns:
        An ``ANSWER`` record; the text is ``rejected`` when it is hallucinated, else ``accepted``,
        and the other side is None. Its id ends in ``/answer``.

    Raises:
        DataError: The record shows no text.
    """
    if record.task is not Task.DETECT or record.shown is None:
        raise DataError(
            f"{record.origin}: {record.record_id} shows no text that could become an answer"
        )
    return replace(
        record,
        record_id=f"{record.record_id}/answer",
        task=Task.ANSWER,
        accepted=None if record.hallucinated else record.shown,
        rejected=record.shown if record.hallucinated else None,
        shown=None,
        hallucinated=None,
    )


def layout_of(file: Path) -> Layout:
    """The kind of one file, by its name, else by the fields of its first readable row.

    Raises:
        DataError: Neither tells.
    """
    if file.stem in _BY_NAME:
        return _BY_NAME[file.stem]
    row = first_row(file)
    for layout in LAYOUTS:
        if layout.required <= row.data.keys():
            return layout
    raise DataError(
        f"{row.origin}: the fields {', '.join(list(row.data)[:12])} are those of no HaluEval file; "
        "the names that "
        f"are known without looking are {', '.join(_BY_NAME)}"
    )


def layout_files(folder: Path) -> dict[str, list[Path]]:
    """The files in a folder and its subfolders that are named as upstream names them, by that name.

    Raises:
        DataError: The folder does not exist.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; check the path")
    paths = sorted(file for file in folder.rglob("*") if file.suffix.lower() in _SUFFIXES)
    found = {
        name: [file for file in paths if file.stem == name and file.is_file()] for name in _BY_NAME
    }
    return {name: files for name, files in found.items() if files}


def from_text(row: Mapping[str, object], origin: str) -> dict[str, object]:
    """Give the texts of a CSV row their JSON types.

    ``hallucination_spans`` holds JSON or a Python literal.

    Raises:
        DataError: The column is neither.
    """
    typed = dict(row)
    cell = typed.get("hallucination_spans")
    if isinstance(cell, str):
        try:
            typed["hallucination_spans"] = decode_cell(cell) if cell.strip() else []
        except JsonFault as error:
            raise DataError(
                f"{origin}: column 'hallucination_spans' {shorten(cell)}: {error}"
            ) from error
    return typed


def _files_of(path: Path, subsets: Collection[str], one_sided: bool) -> list[tuple[Path, Layout]]:
    if not path.exists():
        raise DataError(f"{path}: no such file or folder; check the path, or fetch the data first")
    if not path.is_dir():
        layout = layout_of(path)
        if layout.subset not in subsets:
            raise DataError(
                f"{path}: holds {layout.subset}, but only {', '.join(subsets)} is asked for"
            )
        return [(path, layout)]
    chosen: list[tuple[Path, Layout]] = []
    for name, files in layout_files(path).items():
        layout = _BY_NAME[name]
        extra = layout.one_sided and layout.subset != "general"
        if layout.subset not in subsets or (extra and not one_sided):
            continue
        if len(files) > 1:
            raise DataError(
                f"{path}: {' and '.join(map(str, files))} both hold {name}; name the folder or "
                "file that is meant"
            )
        chosen.append((files[0], layout))
    missing = [name for name in subsets if all(layout.subset != name for _, layout in chosen)]
    if missing and (not chosen or set(subsets) != set(SUBSETS)):
        raise DataError(f"{path}: no file {missing[0]}_data.json (or .jsonl, .csv) in this folder")
    return chosen


def _side(fields: Fields, key: str, text: str) -> str:
    side = without_final_period(text)
    if not side:
        raise fields.fault(key, "holds nothing but periods; it must hold text")
    return side


def _spans(fields: Fields) -> None:
    if fields.text("hallucination") == "yes" or fields.has("hallucination_spans"):
        fields.texts("hallucination_spans")
