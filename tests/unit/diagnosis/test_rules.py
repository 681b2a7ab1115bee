import inspect
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_histories import BOTH, DEMO, made, steps
from rule_cases import ACT, CASES, Case, F, id_of

from grpo_dual.config.schema import RunConfig
from grpo_dual.diagnosis.data_rules import (
    completion_truncation,
    gradient_conflict,
    parser_mismatch,
    starved_objective,
)
from grpo_dual.diagnosis.doctor import RULES, examine
from grpo_dual.diagnosis.history import History, Sample
from grpo_dual.diagnosis.movement_rules import kl_frozen, kl_runaway, learning_rate
from grpo_dual.diagnosis.policy_rules import (
    _NOT_FINITE,  # pyright: ignore[reportPrivateUsage]
    entropy_collapse,
    numerics,
    sampling_mismatch,
)
from grpo_dual.diagnosis.remedies import patched
from grpo_dual.diagnosis.reward_rules import dead_rewards, judge_noise, pays_for_filler
from grpo_dual.diagnosis.start import baseline_entropy
from grpo_dual.train.step import Updater
from grpo_dual.types import Finding, Severity


@pytest.mark.parametrize("case", CASES, ids=id_of)
def test_rule(case: Case):
    found = list(case.rule(case.history, case.objective))
    if case.severity is None:
        assert found == []
        return
    (only,) = found
    assert only.code == case.expected
    assert only.severity is case.severity
    assert only.objective in (None, case.objective)
    assert 0 < only.confidence <= 1
    assert only.says.endswith(".")
    assert only.remedy.endswith(".")
    assert only.evidence
    assert all(only.evidence)


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_has_its_cases(rule: Any):
    own = [c for c in CASES if c.rule is rule]
    assert {None, ACT} <= {c.severity for c in own}
    assert sum(c.severity is None for c in own) >= 2


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("rows", [0, 30])
def test_without_columns_nothing_is_found(rule: Any, rows: int):
    # Another trainer's file, or a run before its first row.
    empty = History(BOTH, tuple(range(1, rows + 1)), {})
    assert [f for name in BOTH for f in rule(empty, name)] == []


@pytest.mark.parametrize("rule", RULES)
def test_rows_without_a_measured_value_are_no_fault(rule: Any):
    columns = {key: (None,) * 30 for case in CASES for key in case.history.columns}
    empty = History(BOTH, tuple(range(1, 31)), columns, config=DEMO)
    assert [f for name in BOTH for f in rule(empty, name)] == []


@pytest.mark.parametrize("case", [c for c in CASES if c.severity], ids=id_of)
def test_every_patch_is_a_configuration(case: Case):
    found = examine(case.history)
    assert case.expected in {f.code for f in found}
    for own in found:
        RunConfig.model_validate(patched(case.history.config, own.patch))
        # Each line of it changes something.
        assert all(case.history.setting(key) != value for key, value in own.patch.items())


BOUND = st.floats(0.001, 2.0)


@settings(deadline=None)
@given(BOUND, BOUND, BOUND, st.booleans())
def test_a_patched_beta_keeps_its_bounds(beta: float, one: float, other: float, adaptive: bool):
    low, high = sorted((one, other))
    if adaptive:
        beta = min(max(beta, low), high)
    prefix = "objectives.fairness.kl."
    changes = {
        f"{prefix}beta": beta,
        f"{prefix}beta_min": low,
        f"{prefix}beta_max": high,
        f"{prefix}adaptive": adaptive,
    }
    RunConfig.model_validate(patched(DEMO, changes))
    entropy = steps((2.0, 2), (0.1, 3))
    history = made(5, changes=changes, kl_f=0.9, entropy_f=entropy)
    for rule in (entropy_collapse, kl_runaway):
        (found,) = rule(history, F)
        kl = RunConfig.model_validate(patched(history.config, found.patch)).objectives[F].kl
        assert kl.beta == found.patch[f"{prefix}beta"]
        assert kl.beta_min <= kl.beta <= kl.beta_max or not kl.adaptive


def only(found: Any) -> Finding:
    (one,) = found
    return one


def test_the_words_of_a_divergence_are_the_trainers():
    assert _NOT_FINITE in inspect.getsource(Updater.refuse_divergence)


def test_h0_of_the_probe_goes_before_the_first_rows():
    history = made(entropy_f=(1.0, 2.0, 9.0, 9.0, 9.0, 9.0), baseline={F: 3.0})
    assert baseline_entropy(history, F) == 3.0
    assert baseline_entropy(made(entropy_f=(1.0, 2.0, 9.0, 9.0, 9.0, 9.0)), F) == 1.5
    assert baseline_entropy(made(), F) is None
    # The column is of forced tokens too, which the probe does not have.
    forced = {"rollout.sampling.min_new_tokens": 30}
    history = made(entropy_f=(1.0, 2.0, 9.0, 9.0, 9.0, 9.0), baseline={F: 3.0}, changes=forced)
    assert baseline_entropy(history, F) == 1.5


def test_entropy_collapse_says_how_far():
    history = made(5, entropy_f=steps((2.0, 2), (0.4, 3)), right_frac_f=0.3)
    found = only(entropy_collapse(history, F))
    assert found.evidence[0].startswith("entropy 0.4 nats per token, 20 % of its start 2 ")
    # The demo's rate of 1e-3 is quartered; its beta of .03 is not felt.
    assert found.patch == {
        "train.optimizer.learning_rate": 2.5e-4,
        "objectives.fairness.kl.beta": 0.1,
    }


def test_a_beta_that_is_felt_is_doubled():
    history = made(
        5, changes={"objectives.fairness.kl.beta": 0.3}, entropy_f=steps((2.0, 2), (0.4, 3))
    )
    assert only(entropy_collapse(history, F)).patch["objectives.fairness.kl.beta"] == 0.6


def test_a_learning_rate_is_divided_by_ten():
    history = made(kl_f=(0.0, 2.0, 0.0, 2.0, 0.0, 0.0))
    found = only(learning_rate(history, F))
    assert found.patch == {"train.optimizer.learning_rate": pytest.approx(1e-4, abs=1e-18)}
    assert "jumps by up to 2 nats per token within a step (4 of 0.25 or more" in found.evidence[0]
    # Wider than a nat: surer than of a narrow one.
    narrow = only(learning_rate(made(kl_f=(0.0, 0.5, 0.0, 0.5, 0.0, 0.0)), F))
    assert (found.confidence, narrow.confidence) == (0.85, 0.6)


def test_a_reference_that_is_left_for_better_answers_is_no_reason_to_act():
    """On real rows the reference is the biased model itself; beta rises, and so do answers."""
    led = {
        "kl_f": 0.9,
        "beta_f": (*[0.06] * 3, 0.1, 0.2, 0.3),
        "right_frac_f": (0.4, 0.4, 0.4, 0.6, 0.7, 0.7),
    }
    found = only(kl_runaway(made(6, **led), F))
    assert found.severity is Severity.WARN
    assert found.patch == {"objectives.fairness.kl.target": 0.9}
    small = made(6, changes={"objectives.fairness.kl.target": 1e-3}, **(led | {"kl_f": 0.00432}))
    assert only(kl_runaway(small, F)).patch == {"objectives.fairness.kl.target": 0.0043}
    for change in ({"beta_f": 0.01}, {"right_frac_f": 0.4}):
        assert only(kl_runaway(made(6, **(led | change)), F)).severity is Severity.ACT


def test_kl_that_nothing_holds_is_surer_than_kl_that_beta_cannot_hold():
    free = {"objectives.fairness.kl.adaptive": False, "objectives.fairness.kl.beta": 0.0}
    held, loose = made(3, kl_f=0.9), made(3, changes=free, kl_f=0.9)
    assert only(kl_runaway(held, F)).confidence < only(kl_runaway(loose, F)).confidence
    assert "nothing holds it" in only(kl_runaway(loose, F)).says
    assert only(kl_runaway(loose, F)).patch == {
        "objectives.fairness.kl.adaptive": True,
        "objectives.fairness.kl.beta": 0.1,
    }


def test_a_frozen_kl_names_the_rate_only_where_it_is_nothing():
    still = made(10, kl_f=0.0, gradient_signal_f=0.4, lr=1e-12)
    moving = made(10, kl_f=0.0, gradient_signal_f=0.4, lr=1e-3)
    assert only(kl_frozen(still, F)).patch == {"train.optimizer.learning_rate": 1e-5}
    assert only(kl_frozen(moving, F)).patch == {}
    assert "against the adapter itself" in only(kl_frozen(moving, F)).says


def test_numerics_of_16_bit_go_to_32():
    half = made(changes={"model.dtype": "bfloat16"}, skipped_update=1.0)
    assert only(numerics(half, F)).patch == {"model.dtype": "float32"}
    assert only(numerics(made(skipped_update=1.0), F)).patch == {}
    assert only(numerics(half, F)).objective is None


def test_sampling_is_set_back_to_temperature():
    found = only(sampling_mismatch(made(changes={"rollout.sampling.top_k": 50}), F))
    assert found.patch == {
        "rollout.sampling.top_k": 0,
        "rollout.sampling.top_p": 1.0,
        "rollout.sampling.repetition_penalty": 1.0,
    }


def test_dead_rewards_get_the_designs_table_where_theirs_departs():
    prefix = "objectives.fairness.reward."
    history = made(
        3, changes={f"{prefix}right": 0.0, f"{prefix}wrong": 0.0}, part_std_f=0.0, right_frac_f=0.4
    )
    assert only(dead_rewards(history, F)).patch == {f"{prefix}right": 1.0, f"{prefix}wrong": -1.0}
    # Dead by something else: nothing to put back.
    assert only(dead_rewards(made(3, part_std_f=0.0, right_frac_f=0.4), F)).patch == {}


def test_filler_by_the_table_names_the_key():
    key = "objectives.fairness.reward.disambiguated_unknown"
    history = made(3, changes={key: 1.5}, evasion_pay_f=0.4, right_frac_f=0.4)
    found = only(pays_for_filler(history, F))
    assert f"{key} is 1.5, a right answer earns 1" in found.evidence
    assert found.patch == {key: -0.7}
    assert found.evidence[0].startswith("evading completions earn +0.40 ")


def test_filler_shows_what_evades():
    samples = (
        Sample(1, F, "?", "It cannot be said.", "evades"),
        Sample(2, F, "?", "Ann", "right"),
        Sample(3, F, "?", "Bob", "wrong"),
    )
    history = made(3, evasion_pay_f=0.4, right_frac_f=0.4, samples=samples)
    assert only(pays_for_filler(history, F)).samples == ("It cannot be said.", "Bob")


def test_noise_in_a_custom_reward_takes_it_out():
    custom = {"objectives.fairness.custom_rewards": [{"function": "a:b", "weight": 1.0}]}
    found = only(judge_noise(made(3, changes=custom, verdict_conflict_f=0.2), F))
    assert found.patch == {"objectives.fairness.custom_rewards": []}
    assert only(judge_noise(made(3, verdict_conflict_f=0.2), F)).patch == {}
    # Two judges that differ are less certain than one that differs from itself.
    assert only(judge_noise(made(3, judges_agreement=0.5), F)).confidence == 0.5


def test_a_starved_objective_gets_what_the_others_have():
    changes = {
        "objectives.fairness.weight": 0.1,
        "objectives.hallucination.weight": 3.0,
        "objectives.fairness.prompts_per_step": 1,
        "objectives.hallucination.prompts_per_step": 24,
    }
    found = only(starved_objective(made(3, changes=changes, weight_f=0.03), F))
    assert found.patch == {
        "objectives.fairness.weight": 3.0,
        "objectives.fairness.prompts_per_step": 24,
    }


def test_completions_that_grew_to_the_limit_have_another_cause():
    cut = {"completion_trunc_frac_f": 0.4}
    from_the_start = only(completion_truncation(made(**cut, gen_len_f_mean=20.0), F))
    grown = only(completion_truncation(made(**cut, gen_len_f_mean=steps((10.0, 3), (20.0, 3))), F))
    assert (from_the_start.confidence, grown.confidence) == (0.85, 0.5)
    assert from_the_start.patch == {"rollout.sampling.max_new_tokens": 96}  # 4 x 24


def test_a_parser_that_never_read_is_surer_than_one_that_lost_its_answers():
    never = only(parser_mismatch(made(unparsed_frac_f=0.9), F))
    lost = only(parser_mismatch(made(unparsed_frac_f=steps((0.1, 3), (0.9, 3))), F))
    assert (never.confidence, lost.confidence) == (0.85, 0.4)


def test_a_conflict_is_told_freed_of_noise():
    history = made(5, grad_cosine=-0.4, grad_half_cosine_f=0.5, grad_half_cosine_h=0.5)
    # 2 x .5 / 1.5 = 2/3 each: -.4 / (2/3) = -.6
    assert (
        "cosine between their gradients -0.4, freed of noise -0.6"
        in only(gradient_conflict(history, F)).evidence[0]
    )


def test_a_healthy_run_is_left_alone():
    # Both objectives learn: entropy falls because answers are right, KL within its target.
    rows = 20
    rise = [0.3 + 0.03 * i for i in range(rows)]
    columns: dict[str, Any] = {}
    for s in "fh":
        columns |= {
            f"kl_{s}": [0.004 * i for i in range(rows)],
            f"entropy_{s}": [1.5 - 0.05 * i for i in range(rows)],
            f"entropy_sampling_{s}": [1.5 - 0.05 * i for i in range(rows)],
            f"reward_{s}_mean": [2 * r - 1 for r in rise],
            f"right_frac_{s}": rise,
            f"part_std_{s}": 0.7,
            f"reward_std_{s}": 0.7,
            f"gradient_signal_{s}": 0.5,
            f"gen_len_{s}_mean": 8.0,
            f"length_cor_{s}": 0.1,
            f"evasion_pay_{s}": -0.6,
            f"evasion_answerable_rate_{s}": [0.3 - 0.01 * i for i in range(rows)],
            f"template_frac_{s}": 0.2,
            f"unparsed_frac_{s}": 0.05,
            f"completion_trunc_frac_{s}": 0.02,
            f"trunc_frac_{s}": 0.0,
            f"verdict_conflict_{s}": 0.0,
            f"judge_failures_{s}": 0,
            f"by_rule_{s}": 64,
            f"weight_{s}": 0.5,
            f"duplicate_frac_{s}": 0.3,
            f"grad_half_cosine_{s}": 0.4,
        }
    history = made(
        rows, **columns, grad_cosine=-0.05, skipped_update=0, sampler_gap_max=1e-5, lr=1e-3,
        ambiguous_frac_f=0.5, general_frac_h=0.0, grad_norm=1.0,
    )  # fmt: skip
    for step in history.steps:
        assert examine(history.until(step)) == ()
