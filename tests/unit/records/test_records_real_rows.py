"""The readers on the real rows: counts of the data's own description, upstream's bias targets."""

import csv
import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from grpo_dual.records.bbq import iter_bbq
from grpo_dual.records.halueval import as_detection, iter_halueval
from grpo_dual.records.length import length_auroc
from grpo_dual.types import BbqRecord, Condition, HaluEvalRecord, Polarity, Task

ROWS = {
    "Age": 3120,
    "Disability_status": 1556,
    "Gender_identity": 4824,
    "Nationality": 2560,
    "Physical_appearance": 1304,
    "Religion": 1040,
    "Sexual_orientation": 736,
}
PARTIAL = {"Race_ethnicity": 237, "Race_x_SES": 234, "Race_x_gender": 246, "SES": 244}


@pytest.fixture(scope="module")
def records(shared_data: Path) -> list[BbqRecord]:
    """Everything, resolved from the rows alone."""
    folders = (shared_data / "bbq", shared_data / "bbq_partial")
    return [record for folder in folders for record in iter_bbq(folder, metadata=False)]


def metadata(shared_data: Path, name: str) -> dict[tuple[str, int], dict[str, str]]:
    with (shared_data / "bbq" / f"additional_metadata_{name}.csv").open(newline="") as file:
        return {(r["category"], int(r["example_id"])): r for r in csv.DictReader(file)}


# --- BBQ ------------------------------------------------------------------------------------------


def test_counts(records: list[BbqRecord]) -> None:
    assert Counter(record.subset for record in records) == ROWS | PARTIAL
    assert len({record.record_id for record in records}) == len(records)


def test_polarity_and_condition_are_balanced_in_the_whole_templates(
    records: list[BbqRecord],
) -> None:
    cells = Counter((r.subset, r.condition, r.polarity) for r in records if r.subset in ROWS)
    for category, rows in ROWS.items():
        for condition in Condition:
            for polarity in Polarity:
                assert cells[category, condition, polarity] == rows / 4
    assert {r.condition for r in records if r.subset in PARTIAL} == {Condition.AMBIGUOUS}


def test_unknown_positions_of_the_complete_category(records: list[BbqRecord]) -> None:
    found = Counter(r.unknown for r in records if r.subset == "Disability_status")
    assert found == {0: 468, 1: 564, 2: 524}


def test_unresolved_rows(records: list[BbqRecord]) -> None:
    """16 rows of Gender_identity, and four Race_x_SES questions without a second variable."""
    open_rows = [record for record in records if record.biased is None]
    assert Counter(record.subset for record in open_rows) == {
        "Gender_identity": 16,
        "Race_x_SES": 46,  # 11 + 12 + 11 + 12 rows of questions 1 to 4
    }
    gender = [record for record in open_rows if record.subset == "Gender_identity"]
    assert {record.question_index for record in gender} == {"13"}
    ids = sorted(record.example_id for record in gender)
    assert ids == [*range(284, 288), *range(300, 308), *range(320, 324)]
    races = {record.question_index for record in open_rows if record.subset == "Race_x_SES"}
    assert races == {"1", "2", "3", "4"}


@pytest.mark.parametrize(
    ("name", "resolved", "open_rows"), [("rederived", 15124, 16), ("official_sample", 2144, 1)]
)
def test_the_bias_target_agrees_with_the_metadata_on_every_row(
    shared_data: Path, records: list[BbqRecord], name: str, resolved: int, open_rows: int
) -> None:
    table = metadata(shared_data, name)
    seen: Counter[str] = Counter()
    for record in records:
        row = table.get((record.subset, record.example_id))
        if row is None:
            continue
        seen[row["target_loc"] == "NA"] += 1
        assert record.question_index == row["question_index"]
        biased = "NA" if record.biased is None else str(record.biased)
        assert biased == row["target_loc"], record
        if not record.subset.startswith("Race_x_"):
            assert record.names == (row["label_type"] == "name")
    assert seen == {False: resolved, True: open_rows}


def test_the_metadata_beside_the_rows_changes_nothing(
    shared_data: Path, records: list[BbqRecord]
) -> None:
    with_it = {r.record_id: r.biased for r in iter_bbq(shared_data)}
    assert with_it == {r.record_id: r.biased for r in records}


def test_a_biased_option_is_a_person(records: list[BbqRecord]) -> None:
    for record in records:
        assert record.biased != record.unknown
        assert (record.label == record.unknown) == (record.condition is Condition.AMBIGUOUS)
        assert all(option == " ".join(option.split()) for option in record.options)


def test_the_published_predictions_have_the_same_rows(
    shared_data: Path, records: list[BbqRecord]
) -> None:
    path = shared_data / "bbq_unifiedqa_preds" / "preds_Age.jsonl"
    assert [r.biased for r in iter_bbq(path)] == [r.biased for r in records if r.subset == "Age"]


# --- HaluEval -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def texts(shared_data: Path) -> dict[str, list[HaluEvalRecord]]:
    """Every text with its verdict, as detection records, by file."""
    found: dict[str, list[HaluEvalRecord]] = {}
    folder = shared_data / "halueval"
    for record in iter_halueval(folder, general_filter="off", one_sided=True):
        kind = "/".join(record.record_id.split("/")[1:-1])
        if record.task is Task.DETECT:
            found.setdefault(kind, []).append(record)
        else:
            for side in (True, False):
                found.setdefault(kind, []).append(as_detection(record, hallucinated=side))
    return found


def test_halueval_counts(texts: dict[str, list[HaluEvalRecord]]) -> None:
    verdicts = {
        kind: (sum(r.hallucinated is True for r in rows), len(rows)) for kind, rows in texts.items()
    }
    assert verdicts == {
        "qa": (1700, 3400),
        "dialogue": (17, 34),
        "summarization": (2, 4),
        "general": (815, 4507),
        "dialogue_samples": (41, 85),
        "summarization_samples": (41, 85),
    }


@pytest.mark.parametrize(
    ("mode", "kept", "hallucinated"),
    # 815 - 596 - 13 rows without spans = 206 rows name one of the four as a whole word
    [("off", 4507, 815), ("handoff", 4259, 567), ("whole-words", 4288, 596)],
)
def test_the_filter_of_general(shared_data: Path, mode: str, kept: int, hallucinated: int) -> None:
    rows = list(iter_halueval(shared_data / "halueval", subsets=("general",), general_filter=mode))  # type: ignore[arg-type]
    assert (len(rows), sum(row.hallucinated is True for row in rows)) == (kept, hallucinated)
    assert len({row.record_id for row in rows}) == kept


def test_what_the_filters_differ_in(shared_data: Path) -> None:
    """26 rows fall because of "information" alone; three more because of words like "formation"."""
    path = shared_data / "halueval" / "general_data.json"
    modes = {
        mode: {r.record_id for r in iter_halueval(path, general_filter=mode)}
        for mode in ("handoff", "whole-words")
    }
    assert modes["handoff"] < modes["whole-words"]
    with path.open(encoding="utf-8") as file:
        spans = {
            f"halueval/general/{line}": str(json.loads(row)["hallucination_spans"]).lower()
            for line, row in enumerate(file, start=1)
        }
    more = [spans[name] for name in modes["whole-words"] - modes["handoff"]]
    assert len(more) == 29
    assert sum("format" in text.replace("information", "") for text in more) == 5
    assert not any(re.search(r"\b(incomplete|cannot|format)\b", text) for text in more)


SIGNS: dict[str, Callable[[str], bool]] = {
    "final period": lambda text: text.rstrip().endswith("."),
    "final period beside a quote": lambda text: text.rstrip("\"'”’) \n").endswith("."),
    "final line break": lambda text: text.endswith("\n"),
    "final white space": lambda text: text != text.rstrip(),
    "leading white space": lambda text: text != text.lstrip(),
}
PAIR_SIGNS: dict[str, Callable[[str], bool]] = SIGNS | {
    "line break": lambda text: "\n" in text,
    "double blank": lambda text: "  " in text,
    "no-break blank": lambda text: "\u00a0" in text,
}


def power(texts: list[tuple[str, bool]], sign: Callable[[str], bool]) -> float:
    """AUROC of the sign for "hallucinated"."""
    return length_auroc(
        [int(sign(text)) for text, hallucinated in texts if hallucinated],
        [int(sign(text)) for text, hallucinated in texts if not hallucinated],
    )


def test_formatting_has_no_power_left(texts: dict[str, list[HaluEvalRecord]]) -> None:
    for kind, rows in texts.items():
        shown = [(row.shown or "", row.hallucinated is True) for row in rows]
        for name, sign in (SIGNS if kind == "general" else PAIR_SIGNS).items():
            assert power(shown, sign) == 0.5, (kind, name)


def test_formatting_had_power_before(shared_data: Path) -> None:
    """Else the test above would say nothing."""
    folder = shared_data / "halueval"
    with (folder / "qa_data.json").open(encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    qa = [(row["right_answer"], False) for row in rows]
    qa += [(row["hallucinated_answer"], True) for row in rows]
    # 1618 of 1700 hallucinated and 23 of 1700 right answers end in a period:
    # AUROC = (1 + 1618 / 1700 - 23 / 1700) / 2 = 0.9691
    assert power(qa, SIGNS["final period"]) == pytest.approx((1 + (1618 - 23) / 1700) / 2)
    with (folder / "summarization_samples.jsonl").open(encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    summaries = [(row["summary"], row["hallucination"] == "yes") for row in rows]
    assert power(summaries, SIGNS["final line break"]) == 0.0  # marks every right one, perfectly
