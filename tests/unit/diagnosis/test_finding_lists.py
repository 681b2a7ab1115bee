"""Findings ranked, printed, written; and the intervals they rest on."""

import dataclasses
import json
from pathlib import Path

import pytest

from grpo_dual.diagnosis.findings import (
    DOCTOR,
    append,
    counted,
    grade,
    lines,
    must_act,
    ranked,
    row,
)
from grpo_dual.diagnosis.intervals import balanced, wilson
from grpo_dual.errors import CheckpointError
from grpo_dual.types import Finding, Severity

ACT = Finding(
    code="forced-length",
    objective="fairness",
    severity=Severity.ACT,
    says="Too long.",
    evidence=("30 tokens", "median 5"),
    confidence=0.9,
    remedy="Let it stop.",
    patch={"rollout.sampling.min_new_tokens": 0, "model.gradient_checkpointing": True},
    samples=("a\nb",),
    step=7,
)
NOTE = dataclasses.replace(ACT, severity=Severity.NOTE, confidence=1.0)
WARN = dataclasses.replace(ACT, severity=Severity.WARN, confidence=0.2)
SURE = dataclasses.replace(ACT, severity=Severity.WARN, confidence=0.8)


def test_the_gravest_and_surest_come_first() -> None:
    assert ranked([NOTE, WARN, ACT, SURE]) == (ACT, SURE, WARN, NOTE)
    assert must_act([NOTE, ACT])
    assert not must_act([NOTE, WARN])
    assert counted([NOTE, WARN, ACT, SURE]) == "1 act, 2 warn, 1 note"


def test_a_share_is_graded() -> None:
    grades = [grade(share, act=0.5, warn=0.1) for share in (0.5, 0.49, 0.1, 0.09)]
    assert grades == [Severity.ACT, Severity.WARN, Severity.WARN, Severity.NOTE]


def test_lines_say_what_why_and_what_to_change() -> None:
    assert lines(ACT) == [
        "ACT forced-length (fairness) at step 7: Too long.",
        "    30 tokens",
        "    median 5",
        "    wrote: 'a\\nb'",
        "    remedy: Let it stop.",
        "    --rollout.sampling.min_new_tokens 0",
        "    --model.gradient_checkpointing true",
    ]
    bare = dataclasses.replace(ACT, objective=None, step=None, samples=(), patch={})
    assert lines(bare)[0] == "ACT forced-length: Too long."
    assert len(lines(bare)) == 4


def test_rows_are_the_finding_and_its_phase(tmp_path: Path) -> None:
    append(tmp_path, [ACT], "preflight")
    append(tmp_path, [NOTE, WARN], "run")
    read = [json.loads(line) for line in (tmp_path / DOCTOR).read_text().splitlines()]
    assert [r["phase"] for r in read] == ["preflight", "run", "run"]
    assert [r["severity"] for r in read] == ["act", "note", "warn"]
    fields = {f.name for f in dataclasses.fields(Finding)}
    assert set(read[0]) == fields | {"phase"} == set(row(ACT, "run"))
    assert read[0]["patch"] == dict(ACT.patch)
    assert read[0]["evidence"] == list(ACT.evidence)
    with pytest.raises(CheckpointError, match=r"doctor\.jsonl: cannot be written"):
        append(tmp_path / "nowhere", [ACT], "run")


def test_wilson_by_hand() -> None:
    # z = 1.96, n = 100, p = .9: denominator 1.038416, middle .919208/1.038416 = .885202,
    # half 1.96/1.038416 sqrt(.0009 + .00009604) = .059569.
    low, high = wilson(90, 100)
    assert low == pytest.approx(0.825633, abs=1e-6)
    assert high == pytest.approx(0.944771, abs=1e-6)
    assert wilson(0, 0) == (0.0, 1.0)
    assert wilson(5, 5)[1] == 1.0
    assert wilson(5, 5)[0] < 0.6


def test_balanced_accuracy_by_hand() -> None:
    # 30 of 40 and 18 of 20: (.75 + .9) / 2 = .825. With two hits and misses more: 32/44, 20/24;
    # variances .198347/44 + .138889/24 = .010295, half 1.96/2 sqrt(.010295) = .099434.
    accuracy, low, high = balanced((30, 18), (40, 20))
    assert accuracy == pytest.approx(0.825)
    assert accuracy - low == pytest.approx(0.099434, abs=1e-6)
    assert high - accuracy == pytest.approx(0.099434, abs=1e-6)
    assert balanced((20, 20), (20, 20))[1] < 0.95, "twenty right ones are not certain"
