"""The doctor on runs of a 36 M Llama on real rows, on which no threshold was set.

Twice twelve runs of ``scripts/real_evidence.py`` (people held out): both objectives, either alone,
both pooled, three seeds each; all learn. Those called ``biased-`` start from a model whose bias no
supervised step has taken away. Of their completions nothing is kept.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from faults.recording import load
from grpo_dual.diagnosis.bands import bands
from grpo_dual.diagnosis.doctor import Watch, diagnose, examine
from grpo_dual.diagnosis.history import History
from grpo_dual.diagnosis.tree import ask
from grpo_dual.metrics import health, names
from grpo_dual.types import Severity

RECORDED = Path(__file__).resolve().parents[2] / "faults" / "real_runs.json.xz"


@pytest.fixture(scope="module")
def runs() -> Mapping[str, History]:
    return load(RECORDED)


def test_nothing_is_to_be_acted_on_at_any_step(runs: Mapping[str, History]):
    assert len(runs) == 24
    alarms = {
        name: [f.code for f in diagnose(history).findings if f.severity is Severity.ACT]
        for name, history in runs.items()
    }
    assert not {name: codes for name, codes in alarms.items() if codes}


def test_all_rules_are_asked_of_what_is_trained_alone(runs: Mapping[str, History]):
    history = runs["hallucination-1"]
    watch = Watch()
    watch.see(history)
    assert watch.diagnosis.idle == ("fairness",)
    tree = ask(history)
    assert tree is not None
    assert [branch.objective for branch in tree.branches] == ["hallucination"]
    assert {band.objective for band in bands(history)} == {"hallucination"}


def test_an_evasion_beside_wrong_answers_is_no_filler_while_evasions_fade(
    runs: Mapping[str, History],
):
    """At step 94 evasions earn .30 more than the rest of their groups; they are 7 %, once 47 %."""
    history = runs["both-1"].until(94)
    pay = history.of(health.EVASION_PAY, "fairness").last(5)
    assert pay == pytest.approx(0.3)
    assert "pays-for-filler" not in {f.code for f in examine(history)}
    key = names.EVASION_ANSWERABLE.of("fairness")
    spread = tuple(0.4 for _ in history.steps)
    stays = replace(history, columns={**history.columns, key: spread})
    assert "pays-for-filler" in {f.code for f in examine(stays)}
