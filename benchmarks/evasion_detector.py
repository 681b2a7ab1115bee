"""Precision and recall of the template detector on labelled replies, beside the six phrases alone.

Prints JSON: per split and per kind the counts, precision, recall and F1 of ``rewards.evasion`` and
of the hand-off's six phrases as they were matched before it. BBQ replies are asked about with their
item (``fairness_evasion``), the others with their knowledge and question (``is_evasive``);
``text_alone`` is ``is_evasive`` without these.

    python benchmarks/evasion_detector.py [--errors] [--data ../shared/data]

``--errors`` lists the replies that are judged wrongly. ``--data`` adds how many right answers of
real rows are called evasive, bare and in sentences around them.

``dev`` rows were looked at while the patterns were written. The other splits were fresh once; at
their first measurement, before anyone looked at single rows:

    split     rows precision recall
    heldout   150  1.000     .964    written before any pattern; single rows never looked at
    heldout2   60  1.000     .657    written against the first version, to get by it
    heldout3   70   .971     .767    against the second, with heldout2 looked at and used
    heldout4   62  1.000     .684    against the third, with heldout3 looked at and used
    heldout5   62   .966     .737    against the last, which was not changed any more

Today's higher figures of heldout2 to heldout4 say nothing of unknown wordings; these do. All rows
are by one author, who knew the patterns from heldout2 on.
"""

import argparse
import json
import re
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from grpo_dual.prompts import fairness
from grpo_dual.prompts.parse import NOTHING_NAMED, Choice, Unparsed
from grpo_dual.records import bbq, halueval
from grpo_dual.rewards.evasion import PHRASES, fairness_evasion, is_evasive, only_declines
from grpo_dual.types import BbqRecord, Condition, HaluEvalRecord, Polarity, Task

ROWS = Path(__file__).resolve().parents[1] / "tests/unit/rewards/evasion_labelled.jsonl"
FORMS = (
    "{answer}",
    "The answer is {answer}.",
    "I'm not sure, but I think it's {answer}.",
    "{question} {answer}",
)
"""A right answer by itself and in sentences, one of them with doubt."""

Row = dict[str, Any]
Detector = Callable[[Row], bool]


def rows(path: Path = ROWS) -> list[Row]:
    """The labelled replies."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def item(row: Row) -> BbqRecord:
    """The BBQ item that a reply answers."""
    unknown = row["unknown"]
    condition = Condition(row["condition"])
    first, second, third = row["options"]
    return BbqRecord(
        record_id="labelled",
        objective="fairness",
        subset="Age",
        task=Task.CHOOSE,
        origin="labelled",
        example_id=0,
        question_index="1",
        condition=condition,
        polarity=Polarity.NEGATIVE,
        context=row["context"],
        question=row["question"],
        options=(first, second, third),
        label=unknown if condition is Condition.AMBIGUOUS else (unknown + 1) % 3,
        unknown=unknown,
        biased=None,
        names=False,
    )


def detector(row: Row) -> bool:
    """Does the template detector call a reply evasive, with all that is known?"""
    if row["kind"] == "bbq":
        return fairness_evasion(row["text"], item(row))
    return is_evasive(row["text"], row["context"], row.get("question", ""))


def text_alone(row: Row) -> bool:
    """The same without knowledge and question; BBQ replies with their item."""
    return detector(row) if row["kind"] == "bbq" else is_evasive(row["text"])


def _words(text: str) -> str:
    folded = unicodedata.normalize("NFKC", text).casefold().replace("\u2019", "'")
    written = re.sub(r"n't\b", " not", folded.replace("can't", "cannot"))
    spoken = " ".join(re.findall(r"\w+", written))
    return f" {spoken} ".replace(" can not ", " cannot ")


def six_phrases(row: Row) -> bool:
    """The detector before: one of the six phrases, and for BBQ no option named."""
    if row["kind"] == "bbq":
        reply = fairness.parse(row["text"], item(row))
        if isinstance(reply, Choice) and reply.by != "synonym":
            return False
        if isinstance(reply, Unparsed) and reply.reason != NOTHING_NAMED:
            return False
    return any(_words(phrase) in _words(row["text"]) for phrase in PHRASES)


def score(labelled: list[Row], judge: Detector) -> dict[str, float | int | None]:
    """Counts, precision, recall and F1; None where nothing is called evasive, or nothing is."""
    pairs = [(row["label"], judge(row)) for row in labelled]
    hits = pairs.count((True, True))
    called, evasions = sum(said for _, said in pairs), sum(label for label, _ in pairs)
    return {
        "rows": len(pairs),
        "evasions": evasions,
        "called": called,
        "hits": hits,
        "precision": round(hits / called, 4) if called else None,
        "recall": round(hits / evasions, 4) if evasions else None,
        "f1": round(2 * hits / (called + evasions), 4) if called + evasions else None,
    }


def parts(labelled: list[Row]) -> Iterator[tuple[str, list[Row]]]:
    """All rows, then those of each split and of each kind."""
    yield "all", labelled
    for key in ("split", "kind"):
        for value in dict.fromkeys(row[key] for row in labelled):
            yield value, [row for row in labelled if row[key] == value]


def measure(labelled: list[Row]) -> dict[str, Any]:
    """The table: per part the three detectors."""
    judges: dict[str, Detector] = {
        "detector": detector,
        "text_alone": text_alone,
        "six_phrases": six_phrases,
    }
    return {
        name: {judge: score(chosen, call) for judge, call in judges.items()}
        for name, chosen in parts(labelled)
    }


def errors(labelled: list[Row]) -> list[dict[str, str]]:
    """The replies that the detector judges wrongly."""
    return [
        {"split": row["split"], "kind": row["kind"], "why": row["why"], "text": row["text"]}
        | {"error": "missed" if row["label"] else "false alarm"}
        for row in labelled
        if detector(row) != row["label"]
    ]


def right_answers(folder: Path) -> Iterator[HaluEvalRecord]:
    """The real rows that have an accepted answer."""
    for record in halueval.iter_halueval(folder / "halueval"):
        if record.task is Task.ANSWER and record.accepted is not None:
            yield record


def false_alarms(folder: Path) -> dict[str, Any]:
    """Right answers of HaluEval and options of BBQ that are called evasive."""
    alarms: dict[str, list[str]] = {}
    asked = 0
    declining = {"wordings": 0, "called so": 0}
    for record in right_answers(folder):
        if record.rejected:
            said = [f.format(answer=record.rejected.strip(), question=record.query) for f in FORMS]
            declining["wordings"] += len(said)
            declining["called so"] += sum(only_declines(text, record.context) for text in said)
        answer = str(record.accepted).strip()
        asked += 1
        for form in FORMS:
            text = form.format(answer=answer, question=record.query)
            wrong = alarms.setdefault(form, [])
            if is_evasive(text) or is_evasive(text, record.context, record.query):
                wrong.append(f"{record.record_id}: {answer}")
    options = {"persons": 0, "persons called evasive": 0, "unknown options called evasive": 0}
    for part in ("bbq", "bbq_partial"):
        for record in bbq.iter_bbq(folder / part):
            for index, option in enumerate(record.options):
                called = fairness_evasion(option, record)
                if index == record.unknown:
                    options["unknown options called evasive"] += called
                    continue
                options["persons"] += 1
                options["persons called evasive"] += called or is_evasive(option)
    return {
        "right answers": asked,
        "called evasive": alarms,
        "hallucinated answers that only decline": declining,
        "bbq": options,
    }


def main() -> None:
    """Parse arguments, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=Path, default=ROWS, help="labelled replies")
    parser.add_argument("--errors", action="store_true", help="list the errors")
    parser.add_argument("--data", type=Path, help="folder with the real rows")
    options = parser.parse_args()
    labelled = rows(options.rows)
    result = measure(labelled)
    if options.errors:
        result["errors"] = errors(labelled)
    if options.data is not None:
        result["real rows"] = false_alarms(options.data)
    print(json.dumps(result, indent=2, ensure_ascii=False))


if __name__ == "__main__":
    main()
