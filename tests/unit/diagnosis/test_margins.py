"""The statistics of the table in docs/doctor.md are those of the rules."""

import operator
import re

import pytest
from made_histories import made
from rule_cases import ACT, CASES

from faults.catalogue import CASES as FAULTS
from faults.margins import MARGINS, Margin, reached, table
from grpo_dual.diagnosis import movement_rules, reward_rules

COMPARE = {">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le}


@pytest.mark.parametrize("margin", MARGINS, ids=lambda m: m.code)
def test_what_a_rule_acts_on_is_beyond_the_threshold(margin: Margin):
    sign, bound = re.fullmatch(r"([<>]=?) (\S+)", margin.act).groups()  # type: ignore[union-attr]
    values = [
        margin.of(case.history, case.objective)
        for case in CASES
        if case.expected == margin.code
        and case.severity is ACT
        # Found by the reward table, by two judges, by the trainer's error: not by the statistic.
        and case.says not in ("by the table", "two judges", "nothing fits")
        # Half a nat, whatever the target.
        and "whatever the target" not in case.says
        # Other ways to the same cause: a leap that cost right answers, clipping, dead groups.
        and case.says != "one leap that cost right answers"
        and case.rule not in (movement_rules.clipping, reward_rules.dead_groups)
    ]
    assert values
    assert all(v is not None and COMPARE[sign](v, float(bound)) for v in values)
    # Up or down, as the sign says.
    assert margin.up is (">" in sign)


def test_the_worst_step_of_the_worse_objective_counts():
    kl = next(m for m in MARGINS if m.code == "kl-runaway")
    # Three rows above .16 = 2 targets of .08, four above .24 = 3 in the other.
    history = made(6, kl_f=(0.0, 0.16, 0.2, 0.2, 0.0, 0.0), kl_h=(0.0, 0.24, 0.24, 0.24, 0.24, 0.0))
    assert reached(kl, history) == pytest.approx(3.0, abs=1e-12)
    assert reached(kl, made(2, kl_f=0.9)) is None


def test_the_table_has_a_line_for_each():
    histories = {
        "healthy-as-shipped-0": made(4, kl_f=0.08, kl_h=0.04),
        "kl-runaway-0": made(4, kl_f=0.4),
        "kl-runaway-1": made(5, kl_f=(0.0, 0.0, 0.48, 0.48, 0.48)),
    }
    assert {name.rpartition("-")[0] for name in histories} <= set(FAULTS)
    lines = list(table(histories))
    assert len(lines) == 2 + len(MARGINS)
    line = next(x for x in lines if x.startswith("| kl-runaway"))
    assert line == "| kl-runaway | KL / target, three rows | > 4.4 | 1 | 5 to 6 | 3 to 5 |"
