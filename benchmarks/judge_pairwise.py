"""Which of (right, hallucinated) does the offline judge score higher, once the leaks are gone?

HaluEval's qa pairs can be won without reading: the right answer is a span and the hallucinated one
a sentence with a period. And the judge is handed both texts of the row, so that judging these very
texts is trivial. Therefore several conditions (what the judge knows, and how the right answer is
put) over several sets of pairs (leaks taken away), each beside the nulls that only look at form.
Ties count 1/2; intervals are percentile bootstraps over pairs.

    python benchmarks/judge_pairwise.py --data ../shared/data/halueval/qa_data.json --table

JSON on stdout; ``--table`` also prints Markdown tables on stderr.
"""

import argparse
import hashlib
import json
import math
import shlex
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from grpo_dual.judges.heuristic import judge
from grpo_dual.judges.lexical import content, words
from grpo_dual.judges.sentences import sentences
from grpo_dual.records.apportion import own_rng
from grpo_dual.records.halueval import LAYOUTS, parse_row
from grpo_dual.records.normalise import one_line, without_final_period
from grpo_dual.records.reader import iter_rows
from grpo_dual.types import HaluEvalRecord

SLACK = 3
"""Words by which two answers of matched length may differ."""

# Words before the answer -> frame; all of words that the judge lets pass, so that the frame decides
# nothing but the length.
FRAMES = {
    3: "The answer is {}.",
    4: "The correct answer is {}.",
    5: "The answer given here is {}.",
    6: "The answer to this question is {}.",
    7: "The correct answer to this question is {}.",
    8: "The answer to the question given here is {}.",
    9: "The correct answer to the question given here is {}.",
    10: "According to the context, the answer to the question is {}.",
    11: "According to the context, the correct answer to the question is {}.",
    12: "According to the context given here, the answer to the question is {}.",
    13: "According to the context given here, the correct answer to the question is {}.",
    14: "According to the text of the knowledge given, the answer to this question is {}.",
    15: "According to the text of the knowledge given here, the answer to this question is {}.",
    16: "According to the text of the knowledge given here, the correct answer to this question is "
    "{}.",
}


@dataclass(frozen=True, slots=True)
class Pair:
    """What is compared."""

    record: HaluEvalRecord
    """The row, its sides as the data has them."""
    right: str
    wrong: str


def pairs_of(path: Path, limit: int | None = None) -> list[Pair]:
    """The rows of a qa file, their texts as upstream writes them but for outer blanks.

    The package's reader takes final periods away; here they stay, as a leak to be measured.
    """
    layout = next(layout for layout in LAYOUTS if layout.name == "qa_data")
    found: list[Pair] = []
    for row in iter_rows(path):
        if limit is not None and len(found) >= limit:
            break
        record = parse_row(row.data, row.origin, layout=layout, number=row.number)
        right, wrong = str(row.data["right_answer"]), str(row.data["hallucinated_answer"])
        found.append(Pair(record, one_line(right), one_line(wrong)))
    return found


# What the judge knows.


def both_known(record: HaluEvalRecord) -> HaluEvalRecord:
    """The row as shipped, both sides in it."""
    return record


def rejected_hidden(record: HaluEvalRecord) -> HaluEvalRecord:
    """The row without its hallucinated side."""
    return replace(record, rejected=None)


def reference_free(record: HaluEvalRecord) -> HaluEvalRecord:
    """Knowledge and question only."""
    return replace(record, accepted=None, rejected=None)


def reference_free_long(record: HaluEvalRecord) -> HaluEvalRecord:
    """Knowledge and question only, under the judge's rule for summaries.

    The rule for short answers is a product with coverage of the accepted answer, so it is 0 without
    one; the rule for long texts rests on support by the knowledge and needs none.
    """
    return replace(record, accepted=None, rejected=None, subset="summarization")


def put(frame: str, answer: str) -> str:
    """The answer in its frame, whose period is the only one; as it is where there is no frame."""
    return answer if frame == "{}" else frame.format(without_final_period(answer))


def length_frame(right: str, wrong: str) -> str:
    """Of `FRAMES` the one that brings ``right`` nearest to the number of words of ``wrong``."""
    gap = word_count(wrong) - word_count(right)
    return FRAMES[min(max(gap, min(FRAMES)), max(FRAMES))]


Known: TypeAlias = Callable[[HaluEvalRecord], HaluEvalRecord]

FORMS: dict[str, str | None] = {
    "bare": "{}",
    "framed to the length of the hallucinated one": None,
    "in 'The answer is X.'": FRAMES[3],
    # One word of talk, which the judge was not built around.
    "in 'I think it is X.'": "I think it is {}.",
}
"""How the right answer is put, {} standing for it; None: the `length_frame` of each pair."""

JUDGES: dict[str, tuple[Known, tuple[str, ...]]] = {
    "1 as shipped": (both_known, ("bare",)),
    "2a reference-free, short rule": (reference_free, ("bare",)),
    "2b reference-free, long rule": (reference_free_long, tuple(FORMS)),
    # Not bare: that is the accepted text itself.
    "3 rejected hidden": (rejected_hidden, tuple(FORMS)[1:]),
}
"""What the judge knows, and the forms that it is measured on."""


# Which pairs, and what is done to them. The right answer is framed before.


def word_count(text: str) -> int:
    """Words between blanks."""
    return len(text.split())


def plain(text: str) -> str:
    """Without final period and capitals, so that neither tells the sides apart."""
    return without_final_period(one_line(text)).lower()


def length_matched(pair: Pair) -> bool:
    """Do the numbers of words differ by at most `SLACK`?"""
    return abs(word_count(pair.right) - word_count(pair.wrong)) <= SLACK


def right_not_shorter(pair: Pair) -> bool:
    """Has the right side at least as many words?"""
    return word_count(pair.right) >= word_count(pair.wrong)


def repeats_answer(pair: Pair) -> bool:
    """Has the hallucinated side every content word of the right one (any word, if it has none)?

    Three kinds: right after all, turned round ("is not X"), or about X and no answer.
    """
    said = words(str(pair.record.accepted))
    return set(content(said) or said) <= set(words(pair.wrong))


def punctuation_matched(pair: Pair) -> Pair:
    """Both sides `plain`."""
    return replace(pair, right=plain(pair.right), wrong=plain(pair.wrong))


def other_answers(pairs: Sequence[Pair], seed: int) -> list[str | None]:
    """For each row the right answer of another row with as many words, drawn by seed.

    Answers with the same words as the own one are left out; None where no other is left.
    """
    by_count: dict[int, list[tuple[str, list[str]]]] = defaultdict(list)
    for pair in pairs:
        by_count[word_count(pair.right)].append((pair.right, words(pair.right)))
    found: list[str | None] = []
    for pair in pairs:
        own = words(pair.right)
        choice = [text for text, said in by_count[word_count(pair.right)] if said != own]
        rng = own_rng(seed, "other answer", pair.record.record_id)
        found.append(rng.choice(choice) if choice else None)
    return found


def rival_span(pair: Pair, seed: int) -> str | None:
    """A span of the row's own knowledge that looks like the right answer and is not.

    It has as many words, begins with the same kind of letter (capital, small, digit), neither
    begins nor ends in a function word, lies within one sentence and no comma, and shares no word
    with the right answer or the question. Such a span is fully supported: only a judge that knows
    what was asked can tell it from the answer.

    Returns:
        One of them, drawn by seed; None where there is none.
    """
    width, shape = word_count(pair.right), _shape(pair.right)
    taken = set(words(pair.right)) | set(content(words(pair.record.query)))
    found = [
        span.strip("\"'.")
        for text in sentences(pair.record.context)
        for span in _windows(text.split(), width)
        if _shape(span) == shape and not taken & set(words(span)) and _ends_in_content(span)
    ]
    rng = own_rng(seed, "rival span", pair.record.record_id)
    return rng.choice(found) if found else None


def _windows(tokens: list[str], width: int) -> Iterator[str]:
    """Runs of so many words in which only the last may end in punctuation."""
    for start in range(len(tokens) - width + 1):
        run = tokens[start : start + width]
        text = " ".join(run).rstrip(".,;:")
        if len(text.split()) == width and not any(mark in text for mark in ",;:()"):
            yield text


def _ends_in_content(span: str) -> bool:
    return all(content(words(token)) for token in (span.split()[0], span.split()[-1]))


def _shape(text: str) -> str:
    first = next((c for c in text if c.isalnum()), "")
    return "digit" if first.isdigit() else "capital" if first.isupper() else "small"


def pair_sets(pairs: Sequence[Pair], frame: str | None, seed: int) -> dict[str, list[Pair]]:
    """The sets of pairs with the right answer in a frame (one of `FORMS`), by name.

    Against another row's answer or a span of the knowledge both sides get the same frame.
    """
    frames = [frame or length_frame(pair.right, pair.wrong) for pair in pairs]
    framed = [replace(p, right=put(f, p.right)) for p, f in zip(pairs, frames, strict=True)]

    def against(wrongs: Sequence[str | None]) -> list[Pair]:
        return [
            replace(pair, wrong=put(own, wrong))
            for pair, own, wrong in zip(framed, frames, wrongs, strict=True)
            if wrong is not None
        ]

    near = [pair for pair in framed if length_matched(pair)]
    return {
        "all pairs": framed,
        "length matched": near,
        "shorter right removed": [pair for pair in framed if right_not_shorter(pair)],
        "punctuation matched": [punctuation_matched(pair) for pair in framed],
        "both matched": [punctuation_matched(pair) for pair in near],
        "hallucination repeats the answer": [pair for pair in framed if repeats_answer(pair)],
        "another row's right answer": against(other_answers(pairs, seed)),
        "rival span of the knowledge": against([rival_span(pair, seed) for pair in pairs]),
    }


# Scoring.


def preference(right: float, wrong: float) -> float:
    """1 where the right side scores higher, 1/2 for a tie, else 0."""
    return (right > wrong) + 0.5 * (right == wrong)


def shorter(pair: Pair) -> float:
    """Null: fewer words win."""
    return preference(-word_count(pair.right), -word_count(pair.wrong))


def fewer_characters(pair: Pair) -> float:
    """Null: fewer characters win; what is left of length where words are matched."""
    return preference(-len(pair.right), -len(pair.wrong))


def no_period(pair: Pair) -> float:
    """Null: the side that does not end in a period wins."""
    return preference(not pair.right.endswith("."), not pair.wrong.endswith("."))


def coin(pair: Pair, seed: int) -> float:
    """Null: a fair coin for each row."""
    return float(own_rng(seed, "coin", pair.record.record_id).random() < 0.5)


def judged(pair: Pair, known: Known) -> float | None:
    """The judge's preference; None where it has no opinion on a side."""
    shown = known(pair.record)
    right, wrong = judge(shown, pair.right).score, judge(shown, pair.wrong).score
    return None if right is None or wrong is None else preference(right, wrong)


def summary(
    outcomes: Sequence[float | None], *, seed: int = 0, draws: int = 1000
) -> dict[str, object]:
    """Accuracy in percent, ties at 1/2, with its 95 % percentile bootstrap interval.

    Args:
        outcomes: 1, 1/2 or 0 of each pair, None where it was not scored.
        seed: Of the bootstrap.
        draws: Of the bootstrap.

    Returns:
        ``n`` scored pairs, ``unscored``, ``accuracy``, ``ties`` (percent), ``interval``; the last
        three None where nothing was scored.
    """
    scored = [outcome for outcome in outcomes if outcome is not None]
    count, lost = len(scored), len(outcomes) - len(scored)
    if not scored:
        return {"n": 0, "unscored": lost, "accuracy": None, "ties": None, "interval": None}
    # Drawing n outcomes with replacement is drawing how many of them are wins, ties and losses.
    shares = [sum(outcome == value for outcome in scored) / count for value in (1.0, 0.5, 0.0)]
    drawn = np.random.default_rng(seed).multinomial(count, shares, size=draws)
    low, high = np.percentile(drawn @ np.array([1.0, 0.5, 0.0]) / count, [2.5, 97.5])
    return {
        "n": count,
        "unscored": lost,
        "accuracy": round(100 * math.fsum(scored) / count, 1),
        "ties": round(100 * shares[1], 1),
        "interval": [round(100 * float(low), 1), round(100 * float(high), 1)],
    }


def measure(pairs: Sequence[Pair], *, seed: int = 0, draws: int = 1000) -> list[dict[str, Any]]:
    """One row for each form and set of pairs: the nulls and the judges on the same pairs."""
    rows: list[dict[str, Any]] = []
    for form, frame in FORMS.items():
        for name, chosen in pair_sets(pairs, frame, seed).items():
            nulls: dict[str, list[float | None]] = {
                "shorter wins": [shorter(pair) for pair in chosen],
                "fewer characters win": [fewer_characters(pair) for pair in chosen],
                "ends without a period wins": [no_period(pair) for pair in chosen],
                "random": [coin(pair, seed) for pair in chosen],
            }
            judges = {
                judge_name: [judged(pair, known) for pair in chosen]
                for judge_name, (known, forms) in JUDGES.items()
                if form in forms
            }
            rows.append(
                {
                    "right answer": form,
                    "pairs": name,
                    "n": len(chosen),
                    "nulls": {k: summary(v, seed=seed, draws=draws) for k, v in nulls.items()},
                    "judges": {k: summary(v, seed=seed, draws=draws) for k, v in judges.items()},
                }
            )
    return rows


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as one Markdown table for each form: accuracy (interval; ties), all in percent."""
    lines: list[str] = []
    for form in dict.fromkeys(row["right answer"] for row in rows):
        group = [row for row in rows if row["right answer"] == form]
        head = ["pairs", "n", *group[0]["nulls"], *group[0]["judges"]]
        lines += [f"\nThe right answer {form}:\n", _line(head), "|---" * len(head) + "|"]
        for row in group:
            nulls = [null["accuracy"] for null in row["nulls"].values()]
            judges = [_cell(cell) for cell in row["judges"].values()]
            lines.append(_line([row["pairs"], row["n"], *nulls, *judges]))
    return "\n".join(lines)


def _cell(cell: dict[str, Any]) -> str:
    if cell["accuracy"] is None:
        return "none scored"
    low, high = cell["interval"]
    return f"**{cell['accuracy']}** ({low}-{high}; {cell['ties']})"


def _line(cells: Sequence[object]) -> str:
    return "| " + " | ".join(map(str, cells)) + " |"


def main() -> None:
    """Parse arguments, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="HaluEval qa_data.json")
    parser.add_argument("--limit", type=int, default=None, help="first rows only")
    parser.add_argument("--seed", type=int, default=0, help="of bootstrap, draws and coin")
    parser.add_argument("--draws", type=int, default=1000, help="bootstrap draws")
    parser.add_argument("--table", action="store_true", help="also as Markdown on stderr")
    options = parser.parse_args()
    pairs = pairs_of(options.data, options.limit)
    rows = measure(pairs, seed=options.seed, draws=options.draws)
    result = {
        "command": shlex.join(["python", *sys.argv]),
        "data_sha256": hashlib.sha256(options.data.read_bytes()).hexdigest(),
        "pairs": len(pairs),
        "slack_words": SLACK,
        "bootstrap": {"draws": options.draws, "seed": options.seed, "level": 0.95},
        "results": rows,
    }
    print(json.dumps(result, indent=2))
    if options.table:
        print(table(rows), file=sys.stderr)


if __name__ == "__main__":
    main()
