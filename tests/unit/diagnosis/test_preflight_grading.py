"""How grave a share is, and the intervals that findings rest on."""

import dataclasses

import pytest

from grpo_dual.diagnosis.grading import counted, grade, must_act
from grpo_dual.diagnosis.intervals import balanced, wilson
from grpo_dual.types import Finding, Severity

ACT = Finding(
    code="forced-length",
    objective="fairness",
    severity=Severity.ACT,
    says="Too long.",
    evidence=("30 tokens",),
    confidence=0.9,
    remedy="Let it stop.",
)
NOTE = dataclasses.replace(ACT, severity=Severity.NOTE)
WARN = dataclasses.replace(ACT, severity=Severity.WARN)


def test_what_findings_amount_to() -> None:
    assert must_act([NOTE, ACT])
    assert not must_act([NOTE, WARN])
    assert not must_act([])
    assert counted([NOTE, WARN, ACT, WARN]) == "1 act, 2 warn, 1 note"


def test_a_share_is_graded() -> None:
    grades = [grade(share, act=0.5, warn=0.1) for share in (0.5, 0.49, 0.1, 0.09)]
    assert grades == [Severity.ACT, Severity.WARN, Severity.WARN, Severity.NOTE]


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
