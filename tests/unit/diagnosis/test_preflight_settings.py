"""Numbers of a configuration that hurt, and those that do not."""

import pytest

from grpo_dual.config.objectives import KlConfig
from grpo_dual.config.schema import SamplingConfig
from grpo_dual.diagnosis.preflight_settings import (
    forced_length,
    learning_rate,
    leash,
    sampling_mismatch,
    starved_objective,
)
from grpo_dual.types import Severity

SHORT = {"fairness": [3, 5, 5, 6], "hallucination": [20, 30, 40, 50]}


@pytest.mark.parametrize(
    ("forced", "severity"),
    [
        (0, None),
        (3, None),  # none is shorter
        (4, Severity.WARN),  # one in four is
        (5, Severity.WARN),
        (6, Severity.ACT),
        (30, Severity.ACT),
    ],
)
def test_forced_tokens_against_right_answers(forced: int, severity: Severity | None) -> None:
    found = forced_length(forced, SHORT)
    assert [f.severity for f in found] == ([] if severity is None else [severity])
    for one in found:
        assert one.code == "forced-length"
        assert one.patch == {"rollout.sampling.min_new_tokens": 0}


def test_forced_tokens_say_whose_answers_are_shorter() -> None:
    (found,) = forced_length(30, SHORT)
    assert "100% of the right answers are shorter" in found.says
    assert found.evidence[1:] == (
        "fairness: 100% of 4 right answers are shorter, median 5 tokens",
        "hallucination: 25% of 4 right answers are shorter, median 40 tokens",
    )


def test_forced_tokens_that_all_answers_have_anyway() -> None:
    (found,) = forced_length(10, {"h": [20, 30]})
    assert found.severity is Severity.WARN
    (found,) = forced_length(10, {"plugin": []})
    assert found.severity is Severity.ACT, "nothing is known of its answers"


def test_plain_sampling_is_sound() -> None:
    assert sampling_mismatch(SamplingConfig()) == ()
    assert sampling_mismatch(SamplingConfig(temperature=0.9)) == ()


def test_truncated_sampling() -> None:
    (found,) = sampling_mismatch(SamplingConfig(top_k=100, top_p=0.9))
    assert (found.code, found.severity) == ("sampling-mismatch", Severity.NOTE)
    assert found.evidence == ("top_k 100, top_p 0.9",)
    assert found.patch == {"rollout.sampling.top_k": 0, "rollout.sampling.top_p": 1.0}
    (found,) = sampling_mismatch(SamplingConfig(repetition_penalty=1.18))
    assert found.severity is Severity.WARN
    assert "end of turn" in found.evidence[1]


@pytest.mark.parametrize(
    ("temperature", "severity"),
    [
        (0.1, Severity.ACT),
        (0.5, Severity.WARN),
        (0.7, None),
        (1.3, None),
        (1.5, Severity.WARN),
        (3.0, Severity.ACT),
    ],
)
def test_temperatures(temperature: float, severity: Severity | None) -> None:
    found = sampling_mismatch(SamplingConfig(temperature=temperature))
    assert [f.severity for f in found] == ([] if severity is None else [severity])


def starved(
    weights: dict[str, float], prompts: int = 8, group_size: int = 8
) -> list[tuple[str, Severity]]:
    total = sum(weights.values())
    found = starved_objective(
        {name: w / total for name, w in weights.items()},
        dict.fromkeys(weights, prompts),
        group_size,
        {name: (w, 1.0) for name, w in weights.items()},
    )
    return [(f.objective or "", f.severity) for f in found if f.code == "starved-objective"]


def test_shares_of_the_loss() -> None:
    assert starved({"f": 1.0, "h": 1.0}) == []
    assert starved({"f": 1.0, "h": 0.06}) == []
    assert starved({"f": 1.0, "h": 0.05}) == [("h", Severity.WARN)]
    assert starved({"f": 1.0, "h": 0.0}) == []  # watched on purpose
    assert starved({"f": 1.0}) == []
    (found,) = starved_objective(
        {"f": 0.99, "h": 0.01}, {"f": 8, "h": 8}, 8, {"f": (1.0, 0.7), "h": (0.01, 0.5)}
    )
    assert found.patch == {"objectives.h.weight": 1.4}, "0.7 / 0.5: then both weigh alike"


def test_live_groups_by_hand() -> None:
    # K = 4: 2/5 of the groups are alike. 4 prompts: 2.4 live ones; 2 prompts: 1.2.
    assert starved({"f": 1.0}, prompts=4, group_size=4) == []
    (found,) = starved_objective({"f": 1.0}, {"f": 2}, 4, {"f": (1.0, 1.0)})
    assert found.says.startswith("About 1.2 groups")
    assert "40% of such groups are alike" in found.evidence[0]
    # Even K = 16 leaves 2 (1 - 2/17) = 1.76.
    assert found.patch == {"objectives.f.prompts_per_step": 4}
    (found,) = starved_objective({"f": 1.0}, {"f": 3}, 4, {"f": (1.0, 1.0)})
    assert found.patch == {"rollout.group_size": 8}, "3 (1 - 2/9) = 2.33"


def test_learning_rates() -> None:
    key = "train.optimizer.learning_rate"
    assert learning_rate({key: 1e-3, "sft.learning_rate": 5e-3}) == ()
    (found,) = learning_rate({key: 6e-3})
    assert (found.code, found.severity) == ("learning-rate", Severity.WARN)
    assert found.patch == {key: 1e-3}
    (found,) = learning_rate({key: 1e-5, "sft.learning_rate": 1e-9})
    assert found.patch == {"sft.learning_rate": 1e-5}


def leashed(kl: KlConfig, reference: str = "adapter", sft_steps: int = 0):
    return leash({"f": kl}, reference=reference, sft_steps=sft_steps)


def test_what_holds_the_policy() -> None:
    assert leashed(KlConfig()) == ()
    assert leashed(KlConfig(beta=0.0, beta_min=0.0, adaptive=False))[0].severity is Severity.NOTE
    (stuck,) = leashed(KlConfig(beta=0.0, beta_min=0.0))
    assert stuck.severity is Severity.WARN
    assert "multiplies" in stuck.says
    assert stuck.patch == {"objectives.f.kl.beta": 0.03}


def test_a_reference_from_before_sft() -> None:
    assert leashed(KlConfig(), "base") == ()
    assert leashed(KlConfig(), "adapter", 50) == ()
    (found,) = leashed(KlConfig(), "base", 50)
    assert found.severity is Severity.WARN
    assert found.patch == {"model.reference": "adapter"}
