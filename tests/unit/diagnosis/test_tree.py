import pytest
from made_histories import BOTH, DEMO, Column, made, steps

from grpo_dual.config.doctoring import TreeConfig
from grpo_dual.config.schema import RunConfig
from grpo_dual.diagnosis.history import History
from grpo_dual.diagnosis.remedies import patched
from grpo_dual.diagnosis.tree import Tree, ask

F, H = BOTH

WELL: dict[str, Column] = {
    "zero_var_frac": 0.4,
    "solved_frac": 0.1,
    "evasion_answerable_rate": steps((0.5, 3), (0.1, 17)),
    "gradient_signal": 0.5,
}
"""Of one objective that has recovered: 60 % live groups, few evasions, a signal."""
WEAK = {**WELL, "evasion_answerable_rate": 0.6}
GENERAL = {"objectives.hallucination.data.subsets": {"qa": 1.0, "general": 0.5}}


def run(f: dict[str, Column], h: dict[str, Column], rows: int = 20, **changes: object) -> History:
    columns: dict[str, Column] = {}
    for suffix, own in (("f", f), ("h", h)):
        for key, values in own.items():
            column = values if values is None or isinstance(values, int | float) else values[:rows]
            columns[f"{key}_{suffix}"] = column
    return made(rows, changes=changes, **columns)


def asked(history: History, limits: TreeConfig | None = None) -> Tree:
    tree = ask(history, limits)
    assert tree is not None
    return tree


# --- the hand-off's table


def test_both_recovered():
    tree = asked(run(WELL, WELL))
    assert [b.recovered for b in tree.branches] == [True, True]
    assert tree.verdict == "all objectives have recovered: go on to 100 to 200 steps"
    assert tree.remedies == ()


def test_hallucination_weak():
    tree = asked(run(WELL, WEAK, **GENERAL))
    assert [b.recovered for b in tree.branches] == [True, False]
    assert tree.verdict.startswith("noise in the general subset dominates")
    assert [r.name for r in tree.remedies] == ["B1", "B3", "B2"]


def test_hallucination_weak_where_general_is_not_drawn():
    tree = asked(run(WELL, WEAK))  # the demo
    assert "is not drawn: contrastive pairs (B2)" in tree.verdict
    assert [r.name for r in tree.remedies] == ["B2"]


def test_both_weak():
    tree = asked(run(WEAK, WEAK))
    assert "truncation and the ambiguous/disambiguated sampling ratio (B4)" in tree.verdict
    assert [r.name for r in tree.remedies] == ["B4"]


def test_fairness_weak():
    tree = asked(run(WEAK, WELL))
    assert tree.verdict.startswith("unlikely: fairness alone is weak. Go deep into BBQ")
    assert tree.remedies == ()


def test_other_objectives_are_told_which_are_weak():
    history = made(
        20,
        objectives=("style", F),
        zero_var_frac_style=0.9,
        evasion_answerable_rate_style=0.0,
        gradient_signal_style=0.5,
        zero_var_frac_f=0.4,
        evasion_answerable_rate_f=0.0,
        gradient_signal_f=0.5,
    )
    assert asked(history).verdict == "weak: style; see the findings"


# --- when it is asked


def test_before_step_20_it_is_a_first_look():
    early = asked(run(WELL, WELL, rows=19))
    assert (early.step, early.early) == (19, True)
    whole = asked(run(WELL, WELL))
    assert (whole.step, whole.early) == (20, False)


def test_behind_step_20_nothing_counts():
    later = {**WELL, "evasion_answerable_rate": steps((0.5, 3), (0.1, 17), (0.9, 20))}
    assert asked(run(later, WELL, rows=40)) == asked(run(WELL, WELL))


def test_only_the_last_five_of_them_count():
    evasion = steps((0.5, 3), (0.9, 12), (0.1, 5))
    assert asked(run({**WELL, "evasion_answerable_rate": evasion}, WELL)).branches[0].recovered


def test_without_steps_or_evasions_it_is_not_asked():
    assert ask(made(0)) is None
    assert ask(made(20, zero_var_frac_f=0.5)) is None


# --- each criterion at its boundary


def met(own: dict[str, Column], number: int, limits: TreeConfig | None = None) -> bool:
    return asked(run({**WELL, **own}, WELL), limits).branches[0].criteria[number].met


LIVE, EVASIONS, SIGNAL, RELIABILITY = range(4)


def test_live_groups():
    # At least .3 live: at most .7 of them without spread. Halves are exact in binary.
    half = TreeConfig(live=0.5)
    assert met({"zero_var_frac": 0.5}, LIVE, half)
    assert not met({"zero_var_frac": 0.501}, LIVE, half)
    assert met({"zero_var_frac": 0.69}, LIVE)
    assert not met({"zero_var_frac": 0.71}, LIVE)
    assert not met({"zero_var_frac": None}, LIVE)


def test_solved_is_not_dead():
    solved: dict[str, Column] = {"zero_var_frac": 1.0, "gradient_signal": 0.0, "solved_frac": 0.5}
    assert met(solved, LIVE)
    assert met(solved, SIGNAL)
    dead = {**solved, "solved_frac": 0.49}
    assert not met(dead, LIVE)
    assert not met(dead, SIGNAL)
    assert asked(run({**WELL, **solved}, WELL)).branches[0].recovered


@pytest.mark.parametrize(
    ("start", "now", "well"),
    [
        (0.5, 0.25, True),
        (0.5, 0.26, False),
        (0.25, 0.25, False),  # not below its start
        (0.125, 0.2, False),
        (0.0, 0.0, True),  # it never evaded
        (0.0, 0.01, False),
    ],
)
def test_evasions(start: float, now: float, well: bool):
    limits = TreeConfig(evasion=0.25)
    assert met({"evasion_answerable_rate": steps((start, 3), (now, 17))}, EVASIONS, limits) is well


def test_evasions_at_the_hand_offs_fifth():
    assert met({"evasion_answerable_rate": steps((0.5, 3), (0.199, 17))}, EVASIONS)
    assert not met({"evasion_answerable_rate": steps((0.5, 3), (0.201, 17))}, EVASIONS)


def test_evasions_that_nobody_counted():
    # All items of the objective are ambiguous, say.
    assert met({"evasion_answerable_rate": None}, EVASIONS)


def test_gradient_signal():
    quarter = TreeConfig(signal=0.25)
    assert met({"gradient_signal": 0.25}, SIGNAL, quarter)
    assert not met({"gradient_signal": 0.249}, SIGNAL, quarter)
    assert met({"gradient_signal": 0.051}, SIGNAL)
    assert not met({"gradient_signal": 0.049}, SIGNAL)
    assert not met({"gradient_signal": None}, SIGNAL)


def test_reliability_of_the_gradient():
    # A half-batch cosine of .2 is 2 x .2 / 1.2 = 1/3 of the full batch.
    third = TreeConfig(reliability=1 / 3)
    assert met({"grad_half_cosine": 0.2}, RELIABILITY, third)
    assert not met({"grad_half_cosine": 0.199}, RELIABILITY, third)
    # The default .1 is a half-batch cosine of 1/19.
    assert met({"grad_half_cosine": 0.0527}, RELIABILITY)
    assert not met({"grad_half_cosine": 0.0526}, RELIABILITY)


def test_reliability_is_asked_where_it_was_measured_and_there_is_something_to_learn():
    def count(own: dict[str, Column]) -> int:
        return len(asked(run({**WELL, **own}, WELL)).branches[0].criteria)

    assert count({}) == 3
    assert count({"grad_half_cosine": 0.0}) == 4
    assert count({"grad_half_cosine": 0.0, "solved_frac": 0.9}) == 3


def test_one_criterion_suffices_to_be_weak():
    for own in (
        {"zero_var_frac": 0.9},
        {"evasion_answerable_rate": 0.5},
        {"gradient_signal": 0.0},
        {"grad_half_cosine": 0.0},
    ):
        assert not asked(run({**WELL, **own}, WELL)).branches[0].recovered


# --- remedies


CUT: dict[str, Column] = {"trunc_frac": 0.3, "ambiguous_frac": 0.8}


def remedy(name: str, **changes: object):
    own = {**GENERAL, **changes}
    history = run(WELL, WEAK, **own) if name != "B4" else run({**WEAK, **CUT}, WEAK, **own)
    return next(r for r in asked(history).remedies if r.name == name)


DATA = "objectives.hallucination.data."


def test_b1_filters_general():
    own = remedy("B1", **{f"{DATA}general_filter": "off"})
    assert own.patch == {f"{DATA}general_filter": "handoff"}
    for filtered in ("handoff", "whole-words"):
        own = remedy("B1", **{f"{DATA}general_filter": filtered})
        assert own.patch == {}
        assert "already" in own.says


def test_b2_trains_on_pairs():
    assert remedy("B2").patch == {
        "sft.pairs.steps": 50,
        "objectives.hallucination.reward.contrast": 0.2,
    }


def test_b3_halves_the_weight_of_general():
    own = remedy("B3", **{f"{DATA}subsets": {"qa": 1.0, "general": 0.5}})
    assert own.patch == {f"{DATA}subsets.general": 0.25}


def test_b4_raises_the_limit_and_draws_both_conditions():
    # 2 x 464, the demo's limit; 30 % of fairness' prompts are cut, 80 % are ambiguous.
    assert remedy("B4").patch == {
        "rollout.max_prompt_tokens": 928,
        "objectives.fairness.data.ambiguous_fraction": 0.5,
    }


def test_b4_changes_nothing_where_neither_was_measured_to_be_wrong():
    (own,) = asked(run({**WEAK, "trunc_frac": 0.0, "ambiguous_frac": 0.5}, WEAK)).remedies
    assert own.patch == {}
    assert own.says == (
        "Prompts cut: fairness 0 %, hallucination -; ambiguous among BBQ's 50 %. It is neither of "
        "them."
    )


@pytest.mark.parametrize("name", ["B1", "B2", "B3", "B4"])
def test_the_remedies_are_configurations(name: str):
    off = {f"{DATA}general_filter": "off", f"{DATA}subsets": {"qa": 1.0, "general": 0.5}}
    own = remedy(name, **off)
    assert own.patch
    RunConfig.model_validate(patched(patched(DEMO, off), own.patch))
