"""The doctor on recorded runs: every fault of tests/faults, and fifty healthy ones.

The histories were written by ``scripts/fault_suite.py --keep``; that script trains them anew.
"""

from collections.abc import Mapping
from pathlib import Path

import pytest

from faults.catalogue import CASES, FAULTS
from faults.recording import load
from faults.verdicts import FALSE_ALARMS, FIRST, FIRST_TWO, Verdict, matrix, shares, verdict
from grpo_dual.diagnosis.doctor import diagnose
from grpo_dual.diagnosis.history import History
from grpo_dual.types import Severity

RECORDED = Path(__file__).resolve().parents[2] / "faults" / "histories.json.xz"
BY_STEP = 20


@pytest.fixture(scope="module")
def histories() -> Mapping[str, History]:
    return load(RECORDED)


@pytest.fixture(scope="module")
def verdicts(histories: Mapping[str, History]) -> list[Verdict]:
    return [verdict(name, history) for name, history in histories.items()]


def test_every_fault_is_recorded_and_fifty_healthy_runs(verdicts: list[Verdict]):
    recorded = {v.name.rpartition("-")[0] for v in verdicts}
    assert {case.name for case in FAULTS} <= recorded
    assert len({case.cause for case in FAULTS}) >= 25
    assert len(FAULTS) >= 25
    assert sum(v.cause is None for v in verdicts) >= 50


def test_causes_are_named_first_or_second_and_healthy_runs_are_left_alone(
    verdicts: list[Verdict],
):
    first, two, alarms = shares(verdicts)
    assert first >= FIRST
    assert two >= FIRST_TWO
    assert alarms <= FALSE_ALARMS


def test_the_cause_is_known_by_step_20(histories: Mapping[str, History], verdicts: list[Verdict]):
    for v in verdicts:
        if v.cause is not None:
            assert max(histories[v.name].steps, default=0) <= BY_STEP
            assert v.cause in {f.code for f in v.findings if f.severity is Severity.ACT}, v.name


def test_the_page_of_the_docs_is_the_matrix_of_these_runs(verdicts: list[Verdict]):
    page = (Path(__file__).resolve().parents[3] / "docs" / "doctor.md").read_text()
    assert matrix(verdicts) in page, "paste the output of faults.verdicts.matrix()"


def test_a_healthy_run_that_solves_its_objective_is_never_called_collapsed(
    histories: Mapping[str, History],
):
    for name, history in histories.items():
        if CASES[name.rpartition("-")[0]].cause is None:
            codes = {f.code for f in diagnose(history).findings if f.severity is Severity.ACT}
            assert not codes & {"entropy-collapse", "template-collapse", "dead-rewards"}, name
