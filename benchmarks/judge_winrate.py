"""Win rate of the offline judge against seven kinds of bad answer, on real HaluEval qa rows.

Prints JSON. For every question three good forms of the right answer stand against each kind of bad
answer; a win is a strictly higher score. ``mean`` is over the forms, ``worst`` is the form that
wins least. ``percent_passed`` is the share that the judge calls grounded.

    python benchmarks/judge_winrate.py --data ../shared/data/halueval/qa_data.json

``--summaries`` adds the one-sided summaries (``summarization_samples.jsonl``), each judged by its
document alone: the area under the ROC curve and the shares that pass.
"""

import argparse
import dataclasses
import json
import re
from collections.abc import Iterator
from pathlib import Path

from grpo_dual.judges.heuristic import THRESHOLD, Verdict, judge
from grpo_dual.types import HaluEvalRecord, Task

FORMS = {
    "bare": "{answer}",
    "sentence": "The answer is {answer}.",
    "question in it": "The answer to the question {question} is {answer}.",
}


def records(path: Path, limit: int | None) -> Iterator[HaluEvalRecord]:
    """The qa rows, blanks and final periods trimmed."""
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if limit is not None and number > limit:
                return
            row = json.loads(line)
            yield HaluEvalRecord(
                record_id=f"halueval/qa/{number}",
                objective="hallucination",
                subset="qa",
                task=Task.ANSWER,
                origin=f"{path}:{number}",
                context=row["knowledge"].strip(),
                query=row["question"].strip(),
                accepted=row["right_answer"].strip(),
                rejected=row["hallucinated_answer"].strip(),
            )


def sentence_without(record: HaluEvalRecord) -> str | None:
    """The first sentence of the knowledge that does not hold the right answer."""
    for sentence in re.split(r"(?<=[a-z0-9)\"][.!?])\s*", record.context):
        long_enough = len(sentence.split()) > 3
        if long_enough and (record.accepted or "").casefold() not in sentence.casefold():
            return sentence
    return None


def bad_answers(record: HaluEvalRecord, other: str) -> dict[str, tuple[HaluEvalRecord, str | None]]:
    """Kind -> (what the judge is shown, the answer).

    ``unseen hallucination`` hides the rejected side from the judge, so that it stands for any other
    hallucination than the one in the data.
    """
    wrong, right = str(record.rejected), str(record.accepted)
    blind = dataclasses.replace(record, rejected=None)
    return {
        "unseen hallucination": (blind, wrong),
        "knowledge sentence without the answer": (record, sentence_without(record)),
        "I don't know.": (record, "I don't know."),
        "whole knowledge pasted": (record, record.context),
        "wrong Or right.": (record, f"{wrong.rstrip('.')} Or {right}."),
        "question echoed": (record, record.query),
        "empty": (record, ""),
        "the data's hallucination": (record, wrong),
        "another row's right answer": (blind, other),
        "wrong, right": (record, f"{wrong.rstrip('.')}, {right}"),
        "right, wrong": (record, f"{right}, {wrong.rstrip('.')}"),
        "not right": (record, f"It is not {right}."),
    }


def rank(record: HaluEvalRecord, text: str, threshold: float) -> tuple[float, bool]:
    """(score, called grounded)."""
    judged = judge(record, text, threshold=threshold)
    return judged.score if judged.score is not None else 0.0, judged.verdict is Verdict.GROUNDED


def percent(values: list[bool]) -> float:
    """Share of True, in percent."""
    return round(100 * sum(values) / len(values), 1)


def measure(rows: list[HaluEvalRecord], threshold: float) -> dict[str, object]:
    """The table: per bad kind the percentage won, mean and worst form, and how often it passes."""
    wins: dict[str, dict[str, list[bool]]] = {}
    passes: dict[str, list[bool]] = {}
    for index, record in enumerate(rows):
        other = str(rows[(index + len(rows) // 2) % len(rows)].accepted)
        good: dict[tuple[str, bool], float] = {}
        for form, template in FORMS.items():
            text = template.format(answer=record.accepted, question=record.query)
            for blind in (False, True):
                shown = dataclasses.replace(record, rejected=None) if blind else record
                good[form, blind], passed = rank(shown, text, threshold)
                if not blind:
                    passes.setdefault(f"good: {form}", []).append(passed)
        for kind, (shown, text) in bad_answers(record, other).items():
            if text is None:
                continue
            score, passed = rank(shown, text, threshold)
            passes.setdefault(kind, []).append(passed)
            for form in FORMS:
                won = good[form, shown.rejected is None] > score
                wins.setdefault(kind, {}).setdefault(form, []).append(won)
    won = {
        kind: {
            "mean": round(sum(percent(v) for v in forms.values()) / len(forms), 1),
            "worst": min(percent(v) for v in forms.values()),
            "pairs": len(next(iter(forms.values()))),
        }
        for kind, forms in wins.items()
    }
    return {
        "rows": len(rows),
        "threshold": threshold,
        "percent_won": won,
        "percent_passed": {kind: percent(values) for kind, values in passes.items()},
    }


def measure_summaries(path: Path, threshold: float) -> dict[str, object]:
    """One-sided summaries: does the score rank right ones above hallucinated ones?"""
    scores: dict[str, list[float]] = {"yes": [], "no": []}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        row = json.loads(line)
        record = HaluEvalRecord(
            record_id=f"halueval/summarization/{number}",
            objective="hallucination",
            subset="summarization",
            task=Task.ANSWER,
            origin=f"{path}:{number}",
            context=row["document"].strip(),
            query="",
            accepted=None,
            rejected=None,
        )
        scores[row["hallucination"]].append(rank(record, row["summary"], threshold)[0])
    right, wrong = scores["no"], scores["yes"]
    wins = sum((good > bad) + 0.5 * (good == bad) for good in right for bad in wrong)
    return {
        "right": len(right),
        "hallucinated": len(wrong),
        "auroc": round(100 * wins / (len(right) * len(wrong)), 1),
        "percent_passed": {
            "right": percent([score >= threshold for score in right]),
            "hallucinated": percent([score >= threshold for score in wrong]),
        },
    }


def main() -> None:
    """Parse arguments, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="HaluEval qa_data.json")
    parser.add_argument("--summaries", type=Path, help="HaluEval summarization_samples.jsonl")
    parser.add_argument("--limit", type=int, default=None, help="first rows only")
    parser.add_argument("--threshold", type=float, default=THRESHOLD)
    options = parser.parse_args()
    rows = list(records(options.data, options.limit))
    result = measure(rows, options.threshold)
    if options.summaries is not None:
        result["summaries"] = measure_summaries(options.summaries, options.threshold)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
