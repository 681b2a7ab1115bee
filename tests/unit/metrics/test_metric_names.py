"""Every key once, in a fixed order, and the page about them cannot drift."""

from pathlib import Path

import pytest

from grpo_dual.errors import ConfigError
from grpo_dual.metrics import health, names
from grpo_dual.metrics.kinds import Metric

ROOT = Path(__file__).resolve().parents[3]
BOTH = ("fairness", "hallucination")


def test_hand_off_columns_come_first_under_their_exact_names():
    assert names.columns(BOTH)[:10] == (
        "step",
        "kl_f",
        "kl_h",
        "reward_f_mean",
        "reward_h_mean",
        "clip_frac",
        "gen_len_f_mean",
        "gen_len_h_mean",
        "trunc_frac_f",
        "trunc_frac_h",
    )


def test_every_column_is_there_once_and_a_third_objective_adds_its_own():
    two, three = names.columns(BOTH), names.columns((*BOTH, "brevity"))
    assert len(set(three)) == len(three)
    assert set(two) < set(three)
    added = set(three) - set(two)
    assert {"kl_brevity", "reward_brevity_mean", "grad_norm_brevity"} <= added
    # One column per metric of an objective, those that one of the two shipped ones has apart, and
    # the one that is there with judges only.
    per_objective = [m for m in names.METRICS if isinstance(m, names.ObjectiveMetric)]
    assert len(added) == len([m for m in per_objective if m.only is None])


def test_each_judge_has_columns_of_its_own():
    none, one, two = (names.columns(BOTH, judges) for judges in ((), ("openai",), ("openai", "b")))
    per_judge = {m.of("b") for m in names.METRICS if isinstance(m, names.JudgeMetric)}
    assert set(two) - set(one) == per_judge
    assert "judges_usd_openai" in one
    assert {"judges_hidden_share", "sway_attempts_h"} <= set(one)
    assert not any(key.startswith(("judges_", "sway_")) for key in none)
    assert all(key.startswith(names.JUDGES) for key in per_judge)


def test_columns_that_make_no_sense_for_one_objective_are_left_out():
    alone = names.columns(["hallucination"])
    assert "grad_cosine" not in alone
    assert "stereotyped_frac_h" not in alone
    assert "stereotyped_frac_f" in names.columns(["fairness"])


def test_no_constant_is_missing_from_the_order():
    listed = (*vars(names).values(), *vars(health).values())
    constants = {v for v in listed if isinstance(v, Metric)}
    assert constants == set(names.METRICS)
    assert len(names.METRICS) == len({m.key for m in names.METRICS})


@pytest.mark.parametrize("objectives", [("fairness", "f"), ("a", "a")])
def test_objectives_that_would_share_columns_are_refused(objectives: tuple[str, ...]):
    with pytest.raises(ConfigError, match="share metric columns"):
        names.columns(objectives)


@pytest.mark.parametrize("name", ["a,b", "", "x y", "3d", "é"])
def test_names_that_cannot_be_columns_are_refused(name: str):
    with pytest.raises(ConfigError, match="cannot name metric columns"):
        names.columns(["fairness", name])


def test_an_objective_that_shadows_another_metric_is_refused():
    # max_{kl}: "kl_{}" of an objective "max_f" is "kl_max_f", which fairness has already.
    with pytest.raises(ConfigError, match="kl_max_f"):
        names.columns(["fairness", "max_f"])


def test_timing_columns_are_the_ones_with_the_suffix():
    timed = [m.key for m in names.METRICS if m.unit == "seconds"]
    assert timed
    assert timed == [m.key for m in names.METRICS if m.key.endswith(names.TIMING)]


def test_provider_counts_have_a_column_for_anyone():
    assert names.provider("rule").of("fairness") == "by_rule_f"
    assert names.provider("template_detector").of("hallucination") == "by_template_detector_h"
    assert names.provider("my_module:reward").of("fairness") == "by_other_f"


def test_directions_name_existing_columns():
    direction = names.better(BOTH)
    assert direction["reward_f_mean"] == "higher"
    assert direction["evasion_rate_h"] == "lower"
    assert set(direction) <= set(names.columns(BOTH))


def test_the_page_is_rendered_from_the_names():
    page = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    assert names.markdown() in page, "paste the output of grpo_dual.metrics.names.markdown()"
