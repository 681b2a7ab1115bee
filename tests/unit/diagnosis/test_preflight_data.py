"""What data give away: cues, positions, balance, noise. Each with a healthy counterpart."""

import dataclasses
import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from grpo_dual.diagnosis.preflight_data import (
    CUES,
    Text,
    balance,
    data_leak,
    noisy_general,
    positions,
    told_by,
)
from grpo_dual.records import synthetic
from grpo_dual.records.halueval import as_detection, iter_halueval
from grpo_dual.types import BbqRecord, Condition, Polarity, Severity

PERIOD, ENDING, BREAK, LENGTH, WORDS = CUES
BBQ = list(synthetic.bbq_records("train", 100, 0))


def leak(texts: Sequence[Text], **changes: object):
    arguments = {"form": "detection items", "share": 0.5, "matched": False, **changes}
    return data_leak("h", "qa", texts, **arguments)  # type: ignore[arg-type]


def test_a_threshold_by_hand() -> None:
    """Halves a: wrong 6, 8, right 2, 4; b: wrong 7, 3, right 1, 5.

    On a every threshold from 4 to 5 is perfect; the one taken is 4. It gets 7 right and 3 wrong on
    b's wrong texts, 1 right and 5 wrong on its right ones. On b, thresholds 1 and 5 separate by a
    half each, of which the higher is taken; it is perfect on a. 3 of 4 and 3 of 4: .75.
    """
    texts = [("x" * n, True) for n in (6, 7, 8, 3)] + [("x" * n, False) for n in (2, 1, 4, 5)]
    told = told_by(LENGTH, texts)
    assert told.accuracy == pytest.approx(0.75)
    assert told.low < 0.75 < told.high
    # Over all of them, 5 is the best: 6, 7, 8 of the wrong ones lie above it, no right one does.
    assert (told.threshold, told.wrong_above) == (5, True)
    assert told.text().startswith("`more than 5 characters means wrong` is right in 75.0% [")


def test_noise_is_no_leak_though_some_threshold_always_looks_good() -> None:
    draw = random.Random(0)
    texts = [("x" * draw.randint(1, 200), place % 2 == 0) for place in range(200)]
    assert told_by(LENGTH, texts).low < 0.5
    assert leak(texts) == ()


@pytest.mark.parametrize(
    ("right", "wrong", "cue"),
    [
        ("Delft", "Delft.", "a final period"),
        ("Delft", "Delft!", "a final . ! or ?"),
        ("Delft\n", "Delft", "a final line break"),
        ("Del", "Delft", "the length"),
    ],
)
def test_a_cue_that_tells(right: str, wrong: str, cue: str) -> None:
    texts = [(right, False), (wrong, True)] * 50
    (found,) = leak(texts)
    assert (found.code, found.severity) == ("data-leak", Severity.ACT)
    told = {cue.name: told_by(cue, texts) for cue in CUES}[cue]
    assert told.accuracy == 1.0
    assert told.text() in found.evidence


def mixed(share: float, count: int = 400) -> list[Text]:
    """Wrong texts are the longer ones in so many cases."""
    texts: list[Text] = []
    for place in range(count):
        tells = place < share * count
        texts += [("x", not tells), ("xx", tells)]
    # In an order in which the halves are alike.
    random.Random(1).shuffle(texts)
    return texts


@pytest.mark.parametrize(
    ("share", "severity"), [(0.9, Severity.ACT), (0.72, Severity.WARN), (0.62, Severity.NOTE)]
)
def test_the_larger_the_leak_the_graver(share: float, severity: Severity) -> None:
    (found,) = leak(mixed(share))
    assert found.severity is severity
    assert found.patch == {"objectives.h.data.length_matched": True}
    assert leak(mixed(0.5)) == ()


def test_what_is_seldom_drawn_does_not_stop_a_run() -> None:
    (found,) = leak(mixed(0.9), share=0.1)
    assert found.severity is Severity.WARN


def test_pairs_of_which_one_side_is_seen_are_worth_a_note() -> None:
    (found,) = leak(mixed(0.9), form="pairs")
    assert (found.severity, found.patch) == (Severity.NOTE, {})
    assert leak(mixed(0.72), form="pairs") == ()
    (found,) = leak(mixed(0.9), form="pairs", preferred=True)
    assert found.severity is Severity.WARN


def test_matched_lengths_cannot_be_matched_again() -> None:
    (found,) = leak(mixed(0.9), matched=True)
    assert found.patch == {}


def test_too_few_texts_say_nothing() -> None:
    assert leak([("Delft", False), ("Delft.", True)] * 19) == ()
    assert leak([("Delft.", True)] * 100) == ()


def test_the_embedded_world_does_not_leak() -> None:
    for subset in ("qa", "dialogue", "summarization"):
        records = synthetic.halueval_records("train", subset, 300, 0)
        texts = [
            (shown.shown or "", h)
            for r in records
            for h in (False, True)
            for shown in (as_detection(r, hallucinated=h),)
        ]
        assert leak(texts) == ()


def test_real_qa_is_told_by_length_as_its_authors_were_told(shared_data: Path) -> None:
    """`Pick the shorter` wins 97.4 % of pairs; one threshold for all texts gets less."""
    records = list(iter_halueval(shared_data / "halueval" / "qa_data.json"))
    texts = [(t or "", h) for r in records for t, h in ((r.accepted, False), (r.rejected, True))]
    (found,) = leak(texts)
    assert found.severity is Severity.ACT
    assert "more than 4 words means wrong" in found.evidence[0]
    told = told_by(WORDS, texts)
    assert told.accuracy == pytest.approx(0.945, abs=0.005)
    # The final periods that 95 % of the hallucinated sides had are taken away by the reader.
    assert told_by(PERIOD, texts).high < 0.55


def with_unknown_at(place: int) -> list[BbqRecord]:
    """The same items, the unknown option moved to one place."""
    moved: list[BbqRecord] = []
    for record in BBQ:
        options = list(record.options)
        options[record.unknown], options[place] = options[place], options[record.unknown]
        swap = {record.unknown: place, place: record.unknown}
        moved.append(
            dataclasses.replace(
                record,
                options=tuple(options),
                unknown=place,
                label=swap.get(record.label, record.label),
            )
        )
    return moved


def test_the_place_of_the_unknown_option() -> None:
    assert positions("f", BBQ) == ()
    (found,) = positions("f", with_unknown_at(2))
    assert (found.code, found.severity) == ("unknown-position", Severity.ACT)
    assert "option is (c) in 400 of 400 drawn items, 100%" in found.evidence[0]
    mostly = [*with_unknown_at(1)[:280], *BBQ[280:]]
    (found,) = positions("f", mostly)
    assert found.severity is Severity.WARN
    assert positions("f", with_unknown_at(2)[:39]) == (), "39 items are few"


def test_the_place_of_the_right_option() -> None:
    fixed = [
        r if r.condition is Condition.AMBIGUOUS else dataclasses.replace(r, label=0) for r in BBQ
    ]
    (found,) = positions("f", fixed)
    assert found.says.startswith("The right option of disambiguated items stands in one place")


def test_balance_of_the_embedded_world() -> None:
    assert balance("f", BBQ, ambiguous_fraction=0.5) == ()
    assert balance("f", BBQ[:39], ambiguous_fraction=0.5) == ()


def of(condition: Condition, count: int) -> list[BbqRecord]:
    return [r for r in BBQ if r.condition is condition][:count]


@pytest.mark.parametrize(
    ("ambiguous", "told", "severity"),
    [(160, 40, Severity.WARN), (200, 0, Severity.ACT), (40, 160, Severity.WARN)],
)
def test_one_condition_nearly_alone(ambiguous: int, told: int, severity: Severity) -> None:
    items = [*of(Condition.AMBIGUOUS, ambiguous), *of(Condition.DISAMBIGUATED, told)]
    (found,) = balance("f", items, ambiguous_fraction=0.5)
    assert (found.code, found.severity) == ("condition-imbalance", severity)
    assert found.patch == {}, "it was not asked for: rows are missing"
    share = ambiguous / (ambiguous + told)
    (found,) = balance("f", items, ambiguous_fraction=share)
    assert found.patch == {"objectives.f.data.ambiguous_fraction": 0.5}


def test_one_polarity_nearly_alone() -> None:
    negative = [r for r in BBQ if r.polarity is Polarity.NEGATIVE]
    (found,) = balance("f", negative, ambiguous_fraction=0.5)
    assert found.severity is Severity.ACT
    assert found.evidence == (
        f"100% of {len(negative)} drawn items have negative questions; balanced is 50 %",
    )


def test_answers_that_always_side_with_the_stereotype() -> None:
    sided = [r for r in BBQ if r.condition is Condition.AMBIGUOUS or r.label == r.biased]
    (found,) = balance("f", sided, ambiguous_fraction=0.5)
    assert found.severity is Severity.ACT
    assert "stereotype-consistent answers" in found.evidence[0]
    against = [r for r in BBQ if r.condition is Condition.AMBIGUOUS or r.label != r.biased]
    (found,) = balance("f", against, ambiguous_fraction=0.5)
    assert "answers against the stereotype" in found.evidence[0]


def test_noise_of_general() -> None:
    (found,) = noisy_general("h", share=0.1, hallucinated=815, noisy=219)
    assert (found.code, found.severity) == ("noisy-general", Severity.WARN)
    assert "219 of 815 hallucinated rows (27%)" in found.evidence[0]
    assert found.patch == {"objectives.h.data.general_filter": "whole-words"}
    assert noisy_general("h", share=0.0, hallucinated=815, noisy=219) == ()
    assert noisy_general("h", share=0.1, hallucinated=815, noisy=0) == ()
