"""For each rule a history that it asks action on, others around its thresholds, and look-alikes."""

from collections.abc import Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from made_histories import made, steps

from grpo_dual.diagnosis import data_rules, drift_rules, movement_rules, policy_rules, reward_rules
from grpo_dual.diagnosis.history import History
from grpo_dual.diagnosis.rule import Rule
from grpo_dual.errors import DataError, NumericsError
from grpo_dual.train.canary import refuse_strangers
from grpo_dual.train.drawing import draw_prompts
from grpo_dual.types import Severity

ACT, WARN = Severity.ACT, Severity.WARN
F, H = "fairness", "hallucination"
SAMPLING = "rollout.sampling."


@dataclass(frozen=True, slots=True)
class Case:
    """One history and what a rule makes of it."""

    rule: Rule
    says: str
    """What is special about it."""
    history: History
    severity: Severity | None = None
    """None: the rule finds nothing."""
    code: str = ""
    """Of the finding, where it is not the rule's name."""
    objective: str = F
    """The one that is asked about."""

    @property
    def expected(self) -> str:
        return self.code or self.rule.__name__.replace("_", "-")


def strangers() -> str:
    """The canary's own words."""
    with pytest.raises(NumericsError) as refusal:
        refuse_strangers(torch.full((64,), 0.7))
    return str(refusal.value)


def nothing_fits() -> str:
    """The words of a run whose records are all too long."""
    objective: Any = SimpleNamespace(name=F, draw=lambda _: [])
    parts: Any = SimpleNamespace(
        config=SimpleNamespace(rollout=SimpleNamespace(max_prompt_tokens=72))
    )
    with pytest.raises(DataError) as refusal:
        draw_prompts(parts, objective, 8, lambda _: None)
    return str(refusal.value)


def policy_cases() -> Iterator[Case]:
    rule = policy_rules.entropy_collapse
    # H0 is the mean of the first two rows, 2 nats: act below .5, warn below 1.
    fallen = steps((2.0, 2), (0.49, 3))
    yield Case(rule, "below a quarter of H0", made(5, entropy_f=fallen, right_frac_f=0.3), ACT)
    yield Case(rule, "a quarter", made(5, entropy_f=steps((2.0, 2), (0.5, 3))), WARN)
    yield Case(rule, "below a half", made(5, entropy_f=steps((2.0, 2), (0.99, 3))), WARN)
    yield Case(rule, "a half", made(5, entropy_f=steps((2.0, 2), (1.0, 3))))
    yield Case(rule, "two rows", made(4, entropy_f=steps((2.0, 2), (0.1, 2))))
    yield Case(rule, "solved", made(5, entropy_f=fallen, right_frac_f=0.8))
    yield Case(rule, "solved groups", made(5, entropy_f=fallen, solved_frac_f=0.5))
    yield Case(
        rule,
        "getting sure because it is getting right",
        made(8, entropy_f=steps((2.0, 2), (0.9, 6)), right_frac_f=steps((0.1, 5), (0.6, 3))),
    )
    yield Case(
        rule,
        "H0 of the probe",
        made(3, entropy_f=0.49, baseline={F: 2.0}),
        ACT,
    )
    yield Case(rule, "low from the start", made(5, entropy_f=0.2))

    rule = policy_rules.template_collapse
    yield Case(
        rule, "one evasion", made(3, template_frac_f=0.5, evasion_answerable_rate_f=0.5), ACT
    )
    yield Case(rule, "fewer alike", made(3, template_frac_f=0.49, evasion_answerable_rate_f=0.9))
    yield Case(rule, "fewer evasions", made(3, template_frac_f=0.9, evasion_answerable_rate_f=0.49))
    yield Case(
        rule,
        "a forced form of answer",
        made(6, template_frac_f=0.98, evasion_answerable_rate_f=0.03),
    )

    rule = policy_rules.forced_length
    forced = {f"{SAMPLING}min_new_tokens": 6}
    yield Case(rule, "above five", made(1, changes=forced, gen_len_f_mean=8.0), ACT)
    yield Case(rule, "five", made(changes={f"{SAMPLING}min_new_tokens": 5}, gen_len_f_mean=8.0))
    yield Case(rule, "as long by itself", made(changes=forced, gen_len_f_mean=12.1))
    yield Case(rule, "twice the minimum", made(changes=forced, gen_len_f_mean=12.0), ACT)
    yield Case(rule, "before the first row", made(0, changes=forced))

    rule = policy_rules.sampling_mismatch
    penalty = f"{SAMPLING}repetition_penalty"
    yield Case(rule, "harsh penalty", made(3, changes={penalty: 1.3}), ACT)
    yield Case(rule, "mild penalty", made(3, changes={penalty: 1.29}), WARN)
    yield Case(rule, "harsh, two rows", made(2, changes={penalty: 1.3}), WARN)
    narrow = {f"{SAMPLING}top_k": 2, f"{SAMPLING}top_p": 0.6}
    twins = {"entropy_f": 1.0, "entropy_sampling_f": 0.24}
    yield Case(rule, "nothing to choose", made(changes=narrow, **twins, duplicate_frac_f=0.81), ACT)
    yield Case(
        rule, "something to choose", made(changes=narrow, **twins, duplicate_frac_f=0.8), WARN
    )
    yield Case(
        rule,
        "a quarter of the entropy",
        made(changes=narrow, entropy_f=1.0, entropy_sampling_f=0.25, duplicate_frac_f=0.9),
        WARN,
    )
    yield Case(
        rule,
        "alike, but drawn by temperature alone",
        made(changes={f"{SAMPLING}temperature": 0.5}, **twins, duplicate_frac_f=0.9),
    )
    yield Case(rule, "a wide nucleus off", made(3, entropy_f=1.0, entropy_sampling_f=1.0))


def drift_cases() -> Iterator[Case]:
    rule = drift_rules.entropy_rise
    # H0 1 nat. Two flat rows, a jump by x, flat again: the mean moving range of n rows is
    # x / (n - 1); the EWMA behind the jump approaches 1 + x, 3 sigma of it are one sigma.
    risen = steps((1.0, 2), (1.6, 6))
    yield Case(
        rule,
        "risen, right fell",
        made(entropy_f=risen, right_frac_f=steps((0.5, 3), (0.2, 5))),
        ACT,
    )
    yield Case(rule, "risen, right as before", made(entropy_f=risen, right_frac_f=0.4), WARN)
    yield Case(rule, "risen, right unknown", made(entropy_f=risen), WARN)
    yield Case(
        rule, "exploring and finding", made(entropy_f=risen, right_frac_f=steps((0.2, 3), (0.6, 5)))
    )
    yield Case(rule, "1.5 of H0", made(entropy_f=steps((1.0, 2), (1.5, 6))))
    yield Case(rule, "two rows", made(entropy_f=steps((1.0, 6), (1.6, 2))))
    # Ten rows that swing by 2: sigma 1.8, so that the EWMA's rise of 1 is noise.
    yield Case(rule, "noise", made(entropy_f=(1.0, 1.0, 3.0, 1.0, 3.0, 1.0, 3.0, 1.6, 1.6, 1.6)))


def movement_cases() -> Iterator[Case]:
    rule = movement_rules.learning_rate
    thrown = (0.0, 0.25, 0.0, 0.125, 0.125, 0.125)
    yield Case(rule, "up and down", made(kl_f=thrown, right_frac_f=0.3), ACT)
    yield Case(rule, "up and down, right unknown", made(kl_f=thrown), WARN)
    yield Case(rule, "smaller jumps", made(kl_f=[v * 0.99 for v in thrown], right_frac_f=0.3))
    yield Case(rule, "one jump", made(kl_f=(0.0, 0.25, 0.25, 0.125, 0.125, 0.125)))
    yield Case(rule, "only down", made(kl_f=(0.9, 0.6, 0.3, 0.0, 0.0, 0.0)))
    leap = steps((0.01, 5), (1.02, 5))
    cost = made(10, kl_f=leap, right_frac_f=steps((0.4, 5), (0.05, 5)))
    yield Case(rule, "one leap that cost right answers", cost, ACT)
    yield Case(rule, "one leap that cost none", made(10, kl_f=leap, right_frac_f=0.4))
    yield Case(
        rule,
        "KL jumps while right answers rise",
        made(
            8,
            kl_f=(0.0, 0.25, 0.0, 0.5, 0.2, 0.6, 0.3, 0.6),
            right_frac_f=steps((0.2, 3), (0.4, 5)),
        ),
    )

    rule = movement_rules.kl_runaway
    # The demo's target is .08: warn above .16, act above 4.4 x .08 = .352.
    yield Case(rule, "over 4.4 targets", made(3, kl_f=0.353), ACT)
    yield Case(rule, "below 4.4 targets", made(3, kl_f=0.351), WARN)
    yield Case(rule, "twice the target", made(3, kl_f=0.16))
    target = {"objectives.fairness.kl.target": 0.2}
    yield Case(rule, "half a nat, whatever the target", made(3, changes=target, kl_f=0.51), ACT)
    yield Case(rule, "half a nat", made(3, changes=target, kl_f=0.5), WARN)
    yield Case(rule, "beta brings it back", made(6, kl_f=steps((0.6, 5), (0.1, 1))))

    constant = {"objectives.fairness.kl.adaptive": False, "objectives.fairness.kl.beta": 0.05}
    far = {"changes": constant, "kl_f": 0.6}
    yield Case(rule, "a constant beta, nothing gained", made(6, **far, right_frac_f=0.3), ACT)
    better = steps((0.3, 5), (0.6, 5))
    yield Case(rule, "a constant beta, paid for", made(10, **far, right_frac_f=better))
    yield Case(rule, "a constant beta, solved", made(6, **far, right_frac_f=0.9))
    near = made(6, changes=constant, kl_f=0.4, right_frac_f=0.3)
    yield Case(rule, "a constant beta asks for no target", near)

    rule = movement_rules.clipping
    yield Case(rule, "a fifth", made(3, clip_frac=0.21), ACT, code="learning-rate")
    yield Case(rule, "a twentieth", made(3, clip_frac=0.06), WARN, code="learning-rate")
    yield Case(rule, "little", made(3, clip_frac=0.05))
    yield Case(rule, "asked once", made(3, clip_frac=0.5), objective=H)

    rule = movement_rules.kl_frozen
    still = {"kl_f": 0.0, "gradient_signal_f": 0.4}
    yield Case(rule, "no step at all", made(10, **still, lr=1e-12), ACT)
    yield Case(rule, "its own reference", made(10, **still, lr=1e-3), ACT)
    yield Case(rule, "nine rows", made(9, **still, lr=1e-3))
    yield Case(rule, "it moves", made(10, kl_f=1e-9, gradient_signal_f=0.4, lr=1e-3))
    yield Case(rule, "nothing to learn from", made(10, kl_f=0.0, gradient_signal_f=0.0, lr=1e-3))
    yield Case(
        rule,
        "slow at first",
        made(10, kl_f=steps((0.0, 9), (1e-6, 1)), gradient_signal_f=0.4, lr=1e-3),
    )


def numerics_cases() -> Iterator[Case]:
    rule = policy_rules.numerics
    half = {"model.dtype": "bfloat16"}
    yield Case(
        rule, "three left out", made(changes=half, skipped_update=steps((1, 3), (0, 3))), ACT
    )
    yield Case(rule, "two left out", made(skipped_update=steps((1, 2), (0, 4))), WARN)
    yield Case(rule, "one left out", made(skipped_update=steps((1, 1), (0, 5))))
    yield Case(
        rule, "stopped", made(3, ended="loss (nan) or gradient norm (1.0) was not finite in 3"), ACT
    )
    yield Case(rule, "a coarse head", made(3, sampler_gap_max=0.021), ACT)
    yield Case(rule, "a fine head", made(3, sampler_gap_max=0.02))
    yield Case(rule, "16 bit are coarse", made(3, changes=half, sampler_gap_max=0.1))
    yield Case(rule, "asked once", made(skipped_update=1.0), objective=H)
    nan = float("nan")
    yield Case(rule, "KL is not a number", made(3, kl_h=nan), ACT)
    yield Case(rule, "for two rows", made(3, kl_h=(0.1, nan, nan)))
    yield Case(rule, "the loss overflows", made(3, loss=float("inf")), ACT)
    yield Case(rule, "a negative mean of k3", made(3, kl_f=-0.01), ACT)

    rule = policy_rules.stale_adapter
    yield Case(rule, "rollouts of another policy", made(4, ended=strangers()), ACT)
    yield Case(rule, "from the start", made(0, ended=strangers()), ACT, code="sampling-mismatch")
    yield Case(rule, "another end", made(4, ended="the judge's budget is spent"))
    yield Case(rule, "asked once", made(4, ended=strangers()), objective=H)
    yield Case(rule, "a gap that the canary allows", made(4, sampler_gap_max=0.3))


def reward_cases() -> Iterator[Case]:
    rule = reward_rules.dead_rewards
    flat = {"objectives.fairness.reward.right": 0.0, "objectives.fairness.reward.wrong": 0.0}
    dead = {"part_std_f": 0.0, "duplicate_frac_f": 0.3}
    yield Case(
        rule, "right and wrong earn the same", made(3, changes=flat, **dead, right_frac_f=0.5), ACT
    )
    yield Case(rule, "a hair's breadth", made(3, part_std_f=1e-6, right_frac_f=0.5))
    yield Case(rule, "all right", made(3, **dead, right_frac_f=0.98))
    yield Case(rule, "all wrong", made(3, **dead, right_frac_f=0.02))
    yield Case(rule, "all copies", made(3, part_std_f=0.0, duplicate_frac_f=0.91, right_frac_f=0.5))

    rule = reward_rules.dead_groups
    dull = {"code": "dead-rewards"}
    yield Case(rule, "nothing is right", made(5, dead_frac_f=1.0, right_frac_f=0.0), ACT, **dull)
    one_text = made(5, dead_frac_f=0.81, right_frac_f=0.3, duplicate_frac_f=1.0)
    yield Case(rule, "one text a group", one_text, ACT, **dull)
    yield Case(rule, "four in five", made(5, dead_frac_f=0.8, right_frac_f=0.3), WARN, **dull)
    yield Case(rule, "half", made(5, dead_frac_f=0.5))
    yield Case(rule, "four rows", made(4, dead_frac_f=1.0))
    yield Case(rule, "solved groups are not dead", made(5, dead_frac_f=0.0, solved_frac_f=1.0))

    rule = reward_rules.cancelling_rewards
    yield Case(rule, "the sum is flat", made(3, part_std_f=1.0, reward_std_f=0.09), ACT)
    yield Case(rule, "a tenth is left", made(3, part_std_f=1.0, reward_std_f=0.11))
    yield Case(rule, "parts that hardly spread", made(3, part_std_f=0.1, reward_std_f=0.0))
    yield Case(rule, "parts that agree", made(3, part_std_f=1.0, reward_std_f=1.6))

    rule = reward_rules.judge_outage
    # Of 3 x 15 scored and 15 lost completions 15 / 60 are lost.
    yield Case(rule, "a quarter is lost", made(3, judge_failures_f=5, by_rule_f=15), ACT)
    yield Case(rule, "14 of 59", made(3, judge_failures_f=(4, 5, 5), by_rule_f=15), WARN)
    yield Case(rule, "5 of 50", made(3, judge_failures_f=(1, 2, 2), by_rule_f=15), WARN)
    yield Case(rule, "4 of 49", made(3, judge_failures_f=(1, 1, 2), by_rule_f=15))
    yield Case(
        rule,
        "no opinion is no failure",
        made(3, judge_failures_f=0, unscored_count_f=20, by_heuristic_f=15),
    )
    yield Case(rule, "it is over", made(6, judge_failures_f=steps((9, 3), (0, 3)), by_other_f=15))

    rule = reward_rules.judge_noise
    yield Case(rule, "equal texts, unequal pay", made(3, verdict_conflict_f=0.051), ACT)
    yield Case(rule, "one pair in twenty", made(3, verdict_conflict_f=0.0499))
    yield Case(rule, "two rows", made(2, verdict_conflict_f=0.5))
    yield Case(rule, "two judges", made(3, judges_agreement=0.69), ACT)
    yield Case(rule, "two judges that agree", made(3, judges_agreement=0.701))
    yield Case(
        rule, "no two texts are equal", made(6, verdict_conflict_f=None, duplicate_frac_f=0.0)
    )


def more_reward_cases() -> Iterator[Case]:
    rule = reward_rules.pays_for_filler
    yield Case(rule, "evading leads", made(3, evasion_pay_f=0.06, right_frac_f=0.1), ACT)
    yield Case(rule, "hardly", made(3, evasion_pay_f=0.0499, right_frac_f=0.1))
    yield Case(rule, "two rows", made(2, evasion_pay_f=0.5, right_frac_f=0.5))
    yield Case(
        rule,
        "evading beats only wrong answers, as the table means it to",
        made(6, evasion_pay_f=0.3, right_frac_f=0.05),
    )
    table = "objectives.fairness.reward.disambiguated_unknown"
    yield Case(rule, "by the table", made(3, changes={table: 1.0}, evasion_pay_f=-0.2), ACT)
    yield Case(rule, "nearly, by the table", made(3, changes={table: 0.99}, evasion_pay_f=-0.2))
    yield Case(
        rule,
        "by a custom reward",
        made(
            5,
            changes={
                "objectives.hallucination.custom_rewards": [{"function": "a:b", "weight": 1.0}]
            },
            evasion_pay_h=0.4,
            right_frac_h=0.3,
        ),
        ACT,
        objective=H,
    )

    rule = reward_rules.length_hacking
    grown = steps((10.0, 3), (12.6, 3))
    yield Case(rule, "longer, paid, no better", made(gen_len_f_mean=grown, length_cor_f=0.41), ACT)
    yield Case(rule, "less paid", made(gen_len_f_mean=grown, length_cor_f=0.4))
    yield Case(
        rule,
        "a quarter longer",
        made(gen_len_f_mean=steps((10.0, 3), (12.5, 3)), length_cor_f=0.41),
    )
    yield Case(rule, "paid, not longer yet", made(gen_len_f_mean=10.0, length_cor_f=0.51), WARN)
    yield Case(rule, "five rows", made(5, gen_len_f_mean=grown[1:], length_cor_f=0.6))
    yield Case(
        rule,
        "longer because that is better",
        made(8, gen_len_f_mean=steps((10.0, 3), (20.0, 5)), length_cor_f=0.7,
             right_frac_f=steps((0.2, 3), (0.4, 5))),
    )  # fmt: skip
    yield Case(
        rule,
        "forced to be long",
        made(changes={f"{SAMPLING}min_new_tokens": 6}, gen_len_f_mean=grown, length_cor_f=0.6),
    )

    rule = reward_rules.reward_hacking
    rising = {"reward_f_mean": steps((0.0, 5), (0.2, 5)), "other_cov_f": 0.3, "task_cov_f": 0.1}
    yield Case(
        rule, "right falls", made(10, **rising, right_frac_f=steps((0.5, 5), (0.34, 5))), ACT
    )
    yield Case(rule, "a little", made(10, **rising, right_frac_f=steps((0.5, 5), (0.36, 5))), WARN)
    yield Case(rule, "hardly", made(10, **rising, right_frac_f=steps((0.5, 5), (0.41, 5))))
    yield Case(rule, "nine rows", made(9, reward_f_mean=steps((0.0, 5), (0.2, 4)),
                                       right_frac_f=steps((0.5, 5), (0.1, 4))))  # fmt: skip
    yield Case(rule, "both rise", made(10, **rising, right_frac_f=steps((0.3, 5), (0.5, 5))))
    yield Case(
        rule,
        "no reward for it",
        made(10, reward_f_mean=0.5, right_frac_f=steps((0.5, 5), (0.1, 5))),
    )
    held_out = {0: {F: {"axis": 0.6}}, 10: {F: {"axis": 0.54}}}
    yield Case(rule, "held out", made(10, **rising, right_frac_f=0.5, evaluations=held_out), WARN)
    held_out = {0: {F: {"axis": 0.6}}, 10: {F: {"axis": 0.56}}}
    yield Case(rule, "steady", made(10, **rising, right_frac_f=0.5, evaluations=held_out))


def data_cases() -> Iterator[Case]:
    rule = data_rules.prompt_truncation
    yield Case(rule, "over a quarter", made(3, trunc_frac_f=0.26), ACT)
    yield Case(rule, "a quarter", made(3, trunc_frac_f=0.25), WARN)
    yield Case(rule, "a tenth", made(3, trunc_frac_f=0.1))
    yield Case(
        rule, "a long one now and then", made(6, trunc_frac_f=(0.3, 0.0, 0.3, 0.3, 0.0, 0.3))
    )
    yield Case(rule, "nothing fits", made(0, ended=nothing_fits()), ACT)
    yield Case(rule, "nothing of the other fits", made(0, ended=nothing_fits()), objective=H)
    other = nothing_fits().replace(F, f"{F}_too")
    yield Case(rule, "an objective with a longer name", made(0, ended=other))

    rule = data_rules.completion_truncation
    yield Case(rule, "over a quarter", made(3, completion_trunc_frac_f=0.26), ACT)
    yield Case(rule, "a quarter", made(3, completion_trunc_frac_f=0.25), WARN)
    yield Case(rule, "a tenth", made(3, completion_trunc_frac_f=0.1))
    yield Case(rule, "learns to stop", made(6, completion_trunc_frac_f=steps((0.6, 5), (0.05, 1))))

    rule = data_rules.parser_mismatch
    yield Case(rule, "half unread", made(3, unparsed_frac_f=0.5), ACT)
    yield Case(rule, "less", made(3, unparsed_frac_f=0.49))
    yield Case(rule, "learns the form", made(6, unparsed_frac_f=steps((0.9, 4), (0.2, 2))))

    rule = data_rules.wrong_chat_template
    yield Case(rule, "hardly anything right", made(1, right_frac_f=0.1, right_frac_h=0.0), ACT)
    yield Case(rule, "a little right", made(1, right_frac_f=0.11, right_frac_h=0.0))
    yield Case(rule, "not measured", made(1, right_frac_f=0.0))
    yield Case(rule, "a hard objective", made(1, right_frac_f=0.0, right_frac_h=0.4))
    yield Case(rule, "alone", made(1, objectives=(F,), right_frac_f=0.0))
    yield Case(
        rule, "one evasion", made(1, right_frac_f=0.0, right_frac_h=0.0, template_frac_f=0.5)
    )
    yield Case(
        rule,
        "forced to be long",
        made(1, changes={f"{SAMPLING}min_new_tokens": 6}, right_frac_f=0.0, right_frac_h=0.0),
    )
    declines = made(1, right_frac_f=0.0, right_frac_h=0.0, evasion_answerable_rate_f=0.5)
    yield Case(rule, "evasions in many words", declines)

    rule = data_rules.condition_imbalance
    # 3 rows of 8 prompts: chance reaches .5 + 3 sqrt(.25 / 24) = .806
    yield Case(rule, "nearly all ambiguous", made(3, ambiguous_frac_f=0.86), ACT)
    yield Case(rule, "nearly none", made(3, ambiguous_frac_f=0.14), ACT)
    yield Case(rule, "85 of 100", made(3, ambiguous_frac_f=0.85))
    yield Case(rule, "two rows", made(2, ambiguous_frac_f=1.0))
    # 3 rows of 1 prompt: .5 + 3 sqrt(.25 / 3) = 1.366
    one = {"objectives.fairness.prompts_per_step": 1}
    yield Case(rule, "few prompts, by chance", made(3, changes=one, ambiguous_frac_f=1.0))

    rule = data_rules.noisy_general
    off = {"objectives.hallucination.data.general_filter": "off"}
    yield Case(
        rule, "a quarter, unfiltered", made(changes=off, general_frac_h=0.25), ACT, objective=H
    )
    yield Case(rule, "less", made(changes=off, general_frac_h=0.24), WARN, objective=H)
    yield Case(rule, "hardly any", made(changes=off, general_frac_h=0.04), objective=H)
    yield Case(rule, "filtered", made(general_frac_h=0.6), objective=H)


def balance_cases() -> Iterator[Case]:
    rule = data_rules.starved_objective
    yield Case(rule, "by weight", made(3, weight_f=0.099), ACT)
    yield Case(rule, "a tenth", made(3, weight_f=0.1))
    few = {
        "objectives.fairness.prompts_per_step": 1,
        "objectives.hallucination.prompts_per_step": 24,
    }
    yield Case(rule, "by prompts", made(3, changes=few, weight_f=0.5), ACT)
    short = {"gen_len_f_mean": 2.0, "gen_len_h_mean": 22.0}
    yield Case(rule, "short answers", made(3, weight_f=0.5, **short), WARN)
    yield Case(
        rule,
        "short answers, as in BBQ",
        made(3, weight_f=0.5, gen_len_f_mean=3.0, gen_len_h_mean=20.0),
    )
    yield Case(rule, "two rows", made(2, weight_f=0.01))
    yield Case(rule, "alone", made(3, objectives=(F,), weight_f=0.01))
    # Of three each should have a third: below .1 x 2 / 3 it starves.
    three = (F, H, "style")
    yield Case(rule, "one of three", made(3, objectives=three, weight_f=0.07))
    yield Case(rule, "less of three", made(3, objectives=three, weight_f=0.066), ACT)

    rule = data_rules.gradient_conflict
    # Half-batch cosines of .5 are reliabilities of 2/3: -.21 / (2/3) = -.315
    halves = {"grad_half_cosine_f": 0.5, "grad_half_cosine_h": 0.5}
    yield Case(rule, "apart", made(5, grad_cosine=-0.21, **halves), ACT)
    yield Case(rule, "a little", made(5, grad_cosine=-0.2, **halves))
    yield Case(rule, "four rows", made(4, grad_cosine=-0.5, **halves))
    yield Case(rule, "settled for four", made(8, grad_cosine=steps((0.9, 4), (-0.9, 4)), **halves))
    # .05 of half a batch is .1 / 1.05 = .095 of the whole: below .1
    noise = {"grad_half_cosine_f": 0.05, "grad_half_cosine_h": 0.5}
    yield Case(rule, "noise", made(10, grad_cosine=-0.3, **noise))
    yield Case(
        rule,
        "all noise",
        made(10, grad_cosine=-0.3, grad_half_cosine_f=-0.1, grad_half_cosine_h=0.5),
    )
    yield Case(rule, "without halves", made(10, grad_cosine=-0.6))
    yield Case(rule, "asked once", made(5, grad_cosine=-0.21, **halves), objective=H)


CASES = (
    *policy_cases(),
    *drift_cases(),
    *movement_cases(),
    *numerics_cases(),
    *reward_cases(),
    *more_reward_cases(),
    *data_cases(),
    *balance_cases(),
)


def name(case: Case) -> str:
    """As a test is called."""
    return f"{case.rule.__name__}-{case.says.replace(' ', '_')}"


def id_of(value: object) -> str:
    """Of a parametrised case."""
    return name(cast("Case", value))
