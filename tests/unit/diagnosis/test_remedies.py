import copy
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_histories import BOTH, DEMO, found, made
from pydantic import ValidationError

from grpo_dual.config.doctoring import DoctorConfig, TreeConfig
from grpo_dual.config.schema import RunConfig
from grpo_dual.diagnosis.doctor import diagnose, rank
from grpo_dual.diagnosis.needs import NEEDS
from grpo_dual.diagnosis.remedies import AFRESH, Prescription, patched, prescribe
from grpo_dual.types import Finding, Severity

F, H = BOTH
SLOWER = {"train.optimizer.learning_rate": 1e-4}
LOOSE = {"objectives.fairness.kl.beta": 0.1}


def prescription(*findings: Finding, **changes: Any) -> Prescription | None:
    settings: dict[str, Any] = {
        "allowed": DoctorConfig().allow,
        "step": 12,
        "checkpoints": (0, 5, 10),
    }
    return prescribe(rank(findings), **(settings | changes))


def rate(**changes: Any) -> Finding:
    return replace(found("learning-rate", step=9, patch=SLOWER), **changes)


def test_the_first_cause_is_treated():
    own = prescription(rate())
    # Certain at 9, so it began within 7 to 9; the last checkpoint not behind 6 is that of 5.
    assert own == Prescription((rate(),), SLOWER, at=12, back_to=5)


@pytest.mark.parametrize(
    ("step", "back_to"),
    [(13, 10), (12, 5), (8, 5), (7, 0), (3, 0), (1, 0), (None, 0)],
)
def test_it_goes_back_to_the_last_checkpoint_before_the_trouble(step: int | None, back_to: int):
    own = prescription(rate(step=step))
    assert own is not None
    assert own.back_to == back_to


def test_without_a_checkpoint_it_begins_afresh():
    own = prescription(rate(), checkpoints=())
    assert own is not None
    assert own.back_to == AFRESH


@settings(deadline=None)
@given(st.integers(1, 100), st.lists(st.integers(0, 100)))
def test_it_never_goes_back_to_a_checkpoint_of_the_trouble(step: int, checkpoints: list[int]):
    own = prescription(rate(step=step), step=step, checkpoints=checkpoints)
    assert own is not None
    assert own.back_to <= max(0, step - 3)
    assert own.back_to in (AFRESH, *checkpoints)
    assert not [c for c in checkpoints if own.back_to < c <= step - 3]


@pytest.mark.parametrize(
    "untreated",
    [
        rate(severity=Severity.WARN),
        rate(until=11),  # over
        rate(patch={}),  # no key mends it
        rate(code="gradient-conflict", objective=None),  # not allowed
        rate(code="judge-outage"),
    ],
)
def test_what_is_not_treated(untreated: Finding):
    assert prescription(untreated) is None
    # It stands in nobody's way.
    other = found("kl-frozen", confidence=0.1, patch=SLOWER)
    own = prescription(untreated, other)
    assert own is not None
    assert own.findings == (other,)


def test_a_remedy_that_did_not_help_is_not_tried_again():
    assert prescription(rate(), tried=("learning-rate",)) is None
    own = prescription(rate(), found("kl-frozen", patch=LOOSE), tried=("learning-rate",))
    assert own is not None
    assert own.patch == LOOSE


def test_a_symptom_is_not_treated():
    symptom = found("entropy-collapse", step=9, confidence=0.9, patch=LOOSE)
    own = prescription(rate(), symptom)
    assert own is not None
    assert own.patch == SLOWER
    # Not even where its cause may not be.
    assert prescription(rate(), symptom, allowed=("entropy-collapse",)) is None
    assert prescription(rate(), symptom, tried=("learning-rate",)) is None


def test_the_same_cause_in_both_objectives_is_one_remedy():
    f = found("kl-runaway", F, step=9, patch={"objectives.fairness.kl.beta": 0.1})
    h = found("kl-runaway", H, step=13, confidence=0.9,
              patch={"objectives.hallucination.kl.beta": 0.2})  # fmt: skip
    over = found("kl-runaway", "style", until=8, patch={"objectives.style.kl.beta": 0.3})
    own = prescription(f, h, over, step=13)
    assert own is not None
    assert own.findings == (h, f)  # the surer one is the reason
    assert own.patch == {
        "objectives.fairness.kl.beta": 0.1,
        "objectives.hallucination.kl.beta": 0.2,
    }
    assert own.back_to == 5  # before the earlier one


def test_custom_rewards_are_never_touched():
    own = "objectives.fairness.custom_rewards"
    filler = found("pays-for-filler", patch={own: []})
    assert prescription(filler) is None
    table = {"objectives.fairness.reward.disambiguated_unknown": -0.7}
    both = prescription(replace(filler, patch={own: [], **table}))
    assert both is not None
    assert both.patch == table


def test_no_rule_of_the_allow_list_gets_round_that():
    custom = [{"function": "a:b", "weight": 1.0}]
    changes = {f"objectives.{o}.custom_rewards": custom for o in BOTH}
    run = made(12, changes=changes, evasion_pay_f=0.5, right_frac_f=0.5, verdict_conflict_f=0.3,
               part_std_f=1.0, reward_std_f=0.0)  # fmt: skip
    findings = diagnose(run).findings
    assert {f.code for f in findings} == {"pays-for-filler", "judge-noise", "cancelling-rewards"}
    assert all(f.patch == {"objectives.fairness.custom_rewards": []} for f in findings)
    assert prescribe(findings, allowed=tuple(NEEDS), step=12, checkpoints=(0,)) is None


def test_nothing_found_nothing_done():
    assert prescription() is None


# --- applying


def test_a_patch_changes_a_copy():
    before = copy.deepcopy(DEMO)
    after = patched(DEMO, {"objectives.fairness.kl.beta": 0.5, "train.steps": 7})
    assert before == DEMO
    assert after["objectives"]["fairness"]["kl"]["beta"] == 0.5  # type: ignore[index]
    assert after["train"]["steps"] == 7  # type: ignore[index]
    assert patched(after, {"objectives.fairness.kl.beta": 0.03, "train.steps": 60}) == DEMO


def test_a_patch_makes_the_groups_it_needs():
    assert patched({}, {"a.b.c": 1, "a.d": 2}) == {"a": {"b": {"c": 1}, "d": 2}}


# --- the configuration


def test_what_may_be_done_by_default():
    config = RunConfig().doctor
    assert config == DoctorConfig()
    assert config.mode == "warn"
    assert config.max_acts == 3
    # The pre-flight finds two of them.
    assert set(config.allow) <= {*NEEDS, "data-leak", "unknown-position"}
    # What only a person can mend.
    left = {"judge-outage", "judge-noise", "gradient-conflict", "stale-adapter", "numerics"}
    assert not left & set(config.allow)


def test_when_an_objective_has_recovered_by_default():
    limits = TreeConfig()
    assert (limits.live, limits.solved, limits.evasion) == (0.3, 0.5, 0.2)
    assert (limits.signal, limits.reliability) == (0.05, 0.1)


@pytest.mark.parametrize(
    "doctor",
    [
        {"mode": "cure"},
        {"max_acts": -1},
        {"tree": {"live": 1.5}},
        {"tree": {"evasion": -0.1}},
        {"tree": {"signal": float("nan")}},
        {"limits": {}},
    ],
)
def test_settings_that_are_none(doctor: dict[str, object]):
    with pytest.raises(ValidationError):
        DoctorConfig.model_validate(doctor)
