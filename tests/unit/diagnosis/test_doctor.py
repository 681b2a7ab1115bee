from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_histories import BOTH, found, made, steps

from grpo_dual.diagnosis.doctor import (
    EXPLAINS,
    RULES,
    Diagnosis,
    Watch,
    borne_out,
    diagnose,
    examine,
    explanation,
    merge,
    rank,
)
from grpo_dual.diagnosis.history import Sample
from grpo_dual.diagnosis.needs import NEEDS
from grpo_dual.types import Finding, Severity

ACT, WARN, NOTE = Severity.ACT, Severity.WARN, Severity.NOTE
F, H = BOTH


def codes(findings: Any) -> list[str]:
    return [f.code for f in findings]


# --- explanations


def test_a_cause_explains_what_it_brings():
    cause, symptom = found("learning-rate", step=4), found("entropy-collapse", step=6)
    assert explanation(symptom, (symptom, cause)) is cause
    assert explanation(cause, (symptom, cause)) is None


@pytest.mark.parametrize(
    ("cause", "symptom"),
    [
        # It was found later than what it should have brought.
        (found("learning-rate", step=7), found("entropy-collapse", step=6)),
        # It brings no such thing.
        (found("kl-runaway"), found("length-hacking")),
        # A warning explains nothing.
        (found("learning-rate", severity=WARN), found("entropy-collapse")),
        # It is the other objective's.
        (found("learning-rate", H), found("entropy-collapse", F)),
    ],
)
def test_what_explains_nothing(cause: Finding, symptom: Finding):
    assert explanation(symptom, (cause, symptom)) is None


def test_one_found_at_the_same_step_explains():
    cause, symptom = found("learning-rate", step=6), found("entropy-collapse", step=6)
    assert explanation(symptom, (cause,)) is cause


def test_a_cause_of_the_whole_run_explains_every_objective():
    cause = found("wrong-chat-template", None, step=1)
    for objective in BOTH:
        assert explanation(found("parser-mismatch", objective), (cause,)) is cause
    # And one objective's explains what the whole run suffers.
    own = found("forced-length", F)
    assert explanation(found("gradient-conflict", None), (own,)) is own


def test_a_finding_of_the_pre_flight_came_before_all_others():
    before = found("data-leak", step=None)
    assert explanation(found("kl-runaway", step=1), (before,)) is before
    assert explanation(before, (found("kl-runaway", step=1),)) is None


def test_a_cause_does_not_explain_itself():
    whole, own = found("wrong-chat-template", None), found("wrong-chat-template", F)
    assert explanation(own, (whole, own)) is None


def test_a_cause_that_is_over_still_explains():
    cause = found("learning-rate", step=3, until=5)
    assert explanation(found("entropy-collapse", step=8), (cause,)) is cause


def test_of_several_causes_the_surest_is_named():
    causes = (found("length-hacking", confidence=0.6), found("forced-length", confidence=0.9))
    symptom = found("entropy-collapse")
    assert explanation(symptom, causes) is causes[1]
    assert explanation(symptom, causes[::-1]) is causes[1]


def test_of_two_that_bring_each_other_the_surer_one_is_the_cause():
    assert "template-collapse" in EXPLAINS["pays-for-filler"]
    assert "pays-for-filler" in EXPLAINS["template-collapse"]
    sure, less = (
        found("pays-for-filler", confidence=0.9),
        found("template-collapse", confidence=0.7),
    )
    assert explanation(less, (sure, less)) is sure
    assert explanation(sure, (sure, less)) is None
    # Found first is the better reason.
    first = replace(less, step=0)
    assert explanation(sure, (sure, first)) is first
    assert explanation(first, (sure, first)) is None


def test_causes_in_a_ring_have_a_first():
    # wrong-chat-template -> template-collapse -> length-hacking -> completion-truncation -> it
    ring = ("wrong-chat-template", "template-collapse", "length-hacking", "completion-truncation")
    for code, brought in zip(ring, (*ring[1:], ring[0]), strict=True):
        assert brought in EXPLAINS[code]
    # Found at the same step, only the surest explains: completions are cut, so the rest is noise.
    sure = {code: 0.95 - 0.05 * place for place, code in enumerate(ring[::-1])}
    listed = [found(code, confidence=sure[code]) for code in ring]
    explained = {f.code: getattr(explanation(f, listed), "code", None) for f in listed}
    assert explained["completion-truncation"] is None
    assert explained["wrong-chat-template"] == "completion-truncation"


def test_the_table_speaks_of_causes_that_there_are():
    # The pre-flight finds two of them.
    known = {*NEEDS, "data-leak", "unknown-position"}
    assert set(EXPLAINS) <= known
    assert {code for brought in EXPLAINS.values() for code in brought} <= known


FINDINGS = st.builds(
    found,
    code=st.sampled_from(sorted(NEEDS)),
    objective=st.sampled_from((F, H, None)),
    severity=st.sampled_from(tuple(Severity)),
    confidence=st.sampled_from((0.5, 0.7, 0.9)),
    step=st.sampled_from((None, 0, 1, 2)),
    until=st.sampled_from((None, 3)),
)


@settings(deadline=None)
@given(st.lists(FINDINGS, min_size=1, max_size=8).map(merge))
def test_something_is_always_a_cause_and_leads(findings: list[Finding]):
    ranked = rank(findings)
    assert sorted(map(repr, ranked)) == sorted(map(repr, findings))
    explained = [explanation(f, ranked) is not None for f in ranked]
    assert explained == sorted(explained)
    assert not explained[0]


# --- ranking


def test_ranked_by_severity_then_confidence_then_name():
    a = found("judge-outage", severity=WARN, confidence=0.9)
    b = found("starved-objective", confidence=0.6)
    c = found("numerics", confidence=0.8)
    d = found("kl-frozen", confidence=0.8)
    e = found("prompt-truncation", severity=NOTE, confidence=1.0)
    assert codes(rank((e, a, b, c, d))) == [
        "kl-frozen",
        "numerics",
        "starved-objective",
        "judge-outage",
        "prompt-truncation",
    ]


def test_what_a_cause_brings_stands_behind_every_cause():
    cause = found("learning-rate", confidence=0.6, step=2)
    symptom = found("entropy-collapse", confidence=0.9, step=3)
    other = found("starved-objective", severity=WARN, confidence=0.5)
    assert codes(rank((symptom, other, cause))) == [
        "learning-rate",
        "starved-objective",
        "entropy-collapse",
    ]


def test_what_is_over_counts_four_fifths():
    over = found("kl-frozen", confidence=0.9, until=4)  # .72
    holds = found("numerics", confidence=0.75)
    assert codes(rank((over, holds))) == ["numerics", "kl-frozen"]
    assert codes(rank((over, replace(holds, confidence=0.7)))) == ["kl-frozen", "numerics"]


# --- merging


def test_the_graver_of_two_with_the_evidence_of_both():
    before = found("prompt-truncation", severity=WARN, confidence=0.9, step=None,
                   evidence=("12 % lose their answer", "same"))  # fmt: skip
    later = found("prompt-truncation", confidence=0.7, step=3, evidence=("same", "30 % are cut"),
                  samples=("cut te",), patch={"rollout.max_prompt_tokens": 480})  # fmt: skip
    (one,) = merge((before, later))
    assert one.severity is ACT
    assert one.confidence == 0.7
    assert one.evidence == ("12 % lose their answer", "same", "30 % are cut")
    assert one.samples == ("cut te",)
    assert one.patch == later.patch
    # It was known before the first step, and holds.
    assert (one.step, one.until) == (None, None)


def test_the_surer_of_two_as_grave():
    listed = [found(confidence=0.5), found(confidence=0.8), found(confidence=0.6)]
    (one,) = merge(listed)
    assert one.confidence == 0.8


def test_merged_it_begins_with_the_first_and_is_over_with_the_last():
    (one,) = merge((found(step=5, until=9), found(step=3, until=7)))
    assert (one.step, one.until) == (3, 9)
    (one,) = merge((found(step=None), found(step=3, until=7)))
    assert (one.step, one.until) == (None, None)


def test_other_objectives_and_codes_stay_apart():
    listed = [found(objective=F), found(objective=H), found(objective=None), found("numerics")]
    assert merge(listed) == listed


# --- the watch


def history():
    """Numerics warns from step 2 on and asks for action at 4, as the learning rate does."""
    return made(
        8,
        skipped_update=(1, 1, 0, 1, 0, 0, 0, 0),
        kl_f=(0.0, 0.4, 0.4, 0.1, 0.4, 0.4, 0.1, 0.1),
        right_frac_f=0.3,
        samples=tuple(Sample(s, F, "?", f"text {s}") for s in range(1, 9)),
    )


def seen(watch: Watch, code: str) -> Finding | None:
    return next((f for f in watch.diagnosis.findings if f.code == code), None)


def test_only_what_is_new_or_graver_is_told():
    watch, run = Watch(), history()
    told = {step: watch.see(run.until(step)) for step in run.steps}
    assert {step: [(f.code, f.severity) for f in new] for step, new in told.items() if new} == {
        2: [("numerics", WARN)],
        4: [("numerics", ACT), ("learning-rate", ACT)],
    }
    # The step at which it was first certain, not the one at which it grew.
    assert {f.code: f.step for f in told[4]} == {"numerics": 2, "learning-rate": 4}


def test_step_and_until():
    watch, run = Watch(), made(8, kl_f=steps((0.3, 4), (0.0, 1), (0.1, 3)))
    for step in run.steps:
        watch.see(run.until(step))
        runaway = seen(watch, "kl-runaway")
        if step < 3:
            assert runaway is None
        elif step < 5:
            assert runaway is not None
            assert (runaway.step, runaway.until) == (3, None)
        else:
            # It held last at 4, and is over since.
            assert runaway is not None
            assert (runaway.step, runaway.until) == (3, 4)
            assert runaway not in watch.diagnosis.present


def test_what_comes_back_keeps_its_first_step():
    run = made(9, kl_f=steps((0.2, 3), (0.0, 1), (0.2, 5)))
    (runaway,) = [f for f in diagnose(run).findings if f.code == "kl-runaway"]
    assert (runaway.step, runaway.until) == (3, None)


def test_severity_evidence_and_samples_are_of_the_gravest_step():
    # KL .4 is above 4.4 x .08 for three rows, then above twice the target only.
    run = made(
        8,
        kl_f=steps((0.4, 3), (0.3, 5)),
        samples=tuple(Sample(s, F, "?", f"text {s}") for s in range(1, 9)),
    )
    (runaway,) = diagnose(run).findings
    assert runaway.severity is ACT
    assert runaway.evidence[0].startswith("KL 0.4 ")
    assert runaway.samples == ("text 3", "text 2")
    assert (runaway.step, runaway.until) == (3, None)


def test_as_grave_as_before_it_is_renewed():
    (runaway,) = diagnose(made(6, kl_f=(0.4, 0.4, 0.4, 0.5, 0.6, 0.7))).findings
    assert runaway.evidence[0].startswith("KL 0.6 ")  # the mean of the last three


def test_a_diagnosis_is_that_of_the_watch():
    run, watch = history(), Watch()
    for step in run.steps:
        watch.see(run.until(step))
    assert diagnose(run) == watch.diagnosis
    assert {f.code for f in diagnose(run).findings} == {"numerics", "learning-rate"}


def test_the_pre_flights_findings_hold_throughout():
    before = found("data-leak", step=None, confidence=0.9)
    run = made(3, kl_f=0.9)
    diagnosis = diagnose(replace(run, before=(before,)))
    assert codes(diagnosis.findings) == ["data-leak", "kl-runaway"]
    assert diagnosis.present == diagnosis.findings
    assert explanation(diagnosis.findings[1], diagnosis.findings) == before
    # What both found is one finding.
    early = (found("prompt-truncation", step=None),)
    both = diagnose(replace(made(3, trunc_frac_f=0.9), before=early))
    assert codes(both.findings) == ["prompt-truncation"]
    assert both.findings[0].step is None


def early(severity: Severity, code: str = "pays-for-filler") -> Finding:
    return found(code, severity=severity, step=None)


def by_step(steps: int, *before: Finding, **columns: Any) -> Diagnosis:
    return diagnose(replace(made(steps, **columns), before=before))


def test_a_warning_of_the_pre_flight_is_a_prediction_that_twenty_steps_test():
    # Nineteen rows are not the test: it holds. From row 20 on only the rule's word counts.
    assert by_step(19, early(WARN), kl_f=0.01).present == (early(WARN),)
    tested = by_step(20, early(WARN), kl_f=0.01)
    assert tested.present == ()
    (laid_aside,) = tested.findings
    assert (laid_aside.step, laid_aside.until) == (None, 0)
    assert not borne_out(laid_aside)
    assert tested.worst is None


def test_what_asked_for_action_before_the_run_holds_throughout():
    (forced,) = by_step(20, early(ACT), kl_f=0.01).present
    assert forced.until is None
    assert borne_out(forced)


def test_what_no_rule_of_the_run_looks_for_is_not_tested_by_it():
    for code in ("memory", "judge-cost"):
        assert code not in NEEDS
        assert by_step(20, early(WARN, code), kl_f=0.01).present == (early(WARN, code),)


def test_a_prediction_that_came_true_ends_with_what_it_predicted():
    warned = early(WARN, "kl-runaway")
    (holds,) = by_step(20, warned, kl_f=0.4).present
    assert (holds.step, holds.until, holds.severity) == (None, None, ACT)
    (over,) = by_step(20, warned, kl_f=steps((0.4, 12), (0.0, 8))).findings
    assert (over.step, over.until) == (None, 12)
    assert borne_out(over)


def test_a_run_that_stopped_before_its_first_row():
    words = "objectives.fairness: 20 draws gave 0 of 8 prompts; raise rollout.max_prompt_tokens"
    (only,) = diagnose(made(0, ended=words)).present
    assert (only.code, only.step) == ("prompt-truncation", 0)


def test_the_worst_of_what_holds():
    assert Diagnosis(()).worst is None
    assert Diagnosis((found(until=3), found(severity=WARN))).worst is WARN
    assert Diagnosis((found(severity=NOTE), found("numerics"))).worst is ACT
    assert Diagnosis((found(until=3),)).worst is None


# --- examination


def test_examination_asks_every_rule_about_every_objective():
    run = made(3, kl_f=0.9, kl_h=0.9, skipped_update=1.0)
    assert {(f.code, f.objective) for f in examine(run)} == {
        ("kl-runaway", F),
        ("kl-runaway", H),
        ("numerics", None),
    }
    assert len(RULES) == 27


def test_a_patch_holds_only_what_it_changes():
    dead = {"part_std_f": 1.0, "reward_std_f": 0.0}
    (only,) = examine(made(3, **dead))
    assert (only.code, only.patch) == ("cancelling-rewards", {})  # there is nothing to take out
    custom = [{"function": "a:b", "weight": 1.0}]
    (only,) = examine(made(3, changes={"objectives.fairness.custom_rewards": custom}, **dead))
    assert only.patch == {"objectives.fairness.custom_rewards": []}


def test_without_a_configuration_there_is_no_patch():
    run = replace(made(3, kl_f=0.9), config={})
    (only,) = examine(run)
    assert (only.code, only.patch) == ("kl-runaway", {})
    assert only.remedy
