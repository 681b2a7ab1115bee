"""Rewards that pay for filler, by the run's own reward functions."""

from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

import pytest

from grpo_dual.config.objectives import FairnessConfig, HallucinationConfig
from grpo_dual.diagnosis.preflight_rewards import (
    RIGHT,
    WRONG,
    Earned,
    break_even,
    pays_for_filler,
    probes,
)
from grpo_dual.prompts import fairness, hallucination
from grpo_dual.prompts.truncation import kind_of
from grpo_dual.records import synthetic
from grpo_dual.records.halueval import as_detection
from grpo_dual.rewards.fairness import FairnessReward
from grpo_dual.rewards.hallucination import HallucinationReward
from grpo_dual.types import (
    BbqRecord,
    Condition,
    Finding,
    HaluEvalRecord,
    Prompt,
    Record,
    Rollout,
    RolloutGroup,
    Severity,
    Task,
)

BBQ = list(synthetic.bbq_records("train", 10, 0))
QA = list(synthetic.halueval_records("train", "qa", 10, 0))


def long_texts(completions: Sequence[str], **_: object) -> list[float]:
    """A user's reward that pays by the word."""
    return [min(3.0, 0.2 * len(text.split())) for text in completions]


def by_the_word(completions: Sequence[str], **_: object) -> list[float]:
    """A user's reward that pays by the word, and without end."""
    return [10.0 * len(text.split()) for text in completions]


def earned(records: Sequence[Record], reward: FairnessReward | HallucinationReward) -> list[Earned]:
    """All probes on all records, scored."""
    rows: list[Earned] = []
    for record in records:
        if isinstance(record, BbqRecord):
            right, answerable = fairness.target(record), record.condition is not Condition.AMBIGUOUS
        else:
            assert isinstance(record, HaluEvalRecord)
            right = hallucination.target(record)
            answerable = record.task is Task.ANSWER
        texts = probes(record, right)
        rollouts = tuple(Rollout((1, 2), (0.0, 0.0), text, True) for text in texts.values())
        prompt = Prompt(record=record, messages=(), token_ids=(), shortened=False)
        scores = reward.score(RolloutGroup(prompt, rollouts))
        rows += [
            Earned(record, answerable, name, score.parts, len(texts[name].split()))
            for name, score in zip(texts, scores, strict=True)
        ]
    return rows


def fair(
    records: Sequence[Record] = BBQ, custom: bool = False, **values: float
) -> tuple[Finding, ...]:
    settings: dict[str, Any] = {"reward": values}
    if custom:
        settings["custom_rewards"] = [{"function": "test_preflight_rewards:long_texts"}]
    config = FairnessConfig.model_validate(settings)
    rows = earned(records, FairnessReward(config, max_new_tokens=24))
    entries = {"custom:long_texts": settings["custom_rewards"][0]} if custom else {}
    return judged("f", records, rows, entries)


def faithful(records: Sequence[Record] = QA, **values: float) -> tuple[Finding, ...]:
    config = HallucinationConfig.model_validate({"reward": values})
    return judged("h", records, earned(records, HallucinationReward(config, max_new_tokens=24)), {})


def judged(
    name: str, records: Sequence[Record], rows: Sequence[Earned], custom: Mapping[str, object]
) -> tuple[Finding, ...]:
    shares = {k: n / len(records) for k, n in Counter(map(kind_of, records)).items()}
    return pays_for_filler(name, rows, shares=shares, custom_rewards=custom)


def means(rows: Sequence[Earned], kind: str) -> Mapping[str, float]:
    names = dict.fromkeys(r.probe for r in rows)
    own = [r for r in rows if kind_of(r.record) == kind]
    return {
        n: fmean(r.total for r in own if r.probe == n)
        for n in names
        if any(r.probe == n for r in own)
    }


def test_the_break_even_by_hand() -> None:
    # BBQ's table: (-.7 + 1) / 2; HaluEval's: (-.5 + 1) / 2.
    assert break_even(-0.7, 1.0, -1.0) == pytest.approx(0.15)
    assert break_even(-0.5, 1.0, -1.0) == pytest.approx(0.25)
    assert break_even(0.0, -1.0, -1.0) == 1.0, "right earns no more than wrong"


def test_the_shipped_tables_pay_for_no_filler() -> None:
    assert fair() == ()
    assert faithful() == ()
    detection = [as_detection(r, hallucinated=h) for r in QA for h in (False, True)]
    assert faithful(detection) == ()


def test_what_the_probes_earn_by_the_shipped_tables() -> None:
    rows = earned(BBQ, FairnessReward(FairnessConfig(), max_new_tokens=24))
    told = means(rows, "disambig")
    assert (told[RIGHT], told[WRONG]) == (1.0, -1.0)
    assert told["the unknown option"] == told["an evasive template"] == -0.7
    assert told["an evasive sentence"] == -0.7
    assert told["chatter"] == told["nothing"] == -1.0
    unknown = means(rows, "ambig")
    assert "the unknown option" not in unknown, "there it is the right answer"
    assert unknown[RIGHT] == 1.0
    assert unknown["an evasive template"] == 0.0
    rows = earned(QA, HallucinationReward(HallucinationConfig(), max_new_tokens=24))
    answers = means(rows, "qa answer")
    assert (answers[RIGHT], answers["an evasive template"]) == (1.0, -0.5)
    assert answers["the context"] == answers["the question"] == answers["nothing"] == -1.0


@pytest.mark.parametrize(
    ("pays", "severity"),
    [(-0.01, None), (0.0, Severity.WARN), (0.5, Severity.ACT), (1.0, Severity.ACT)],
)
def test_declining_on_answerable_bbq_items(pays: float, severity: Severity | None) -> None:
    found = fair(disambiguated_unknown=pays)
    if severity is None:
        assert found == ()
        return
    (one,) = found
    assert (one.code, one.severity, one.objective) == ("pays-for-filler", severity, "f")
    assert f"earns {pays:+.2f}" in one.says
    assert f"less than {(pays + 1) / 2:.0%}" in one.says
    assert one.patch == {"objectives.f.reward.disambiguated_unknown": -0.7}
    assert "means over 20 records" in one.evidence[1]


def test_declining_on_halueval_items() -> None:
    (found,) = faithful(abstains=0.6)
    assert found.severity is Severity.ACT
    assert found.patch == {"objectives.h.reward.abstains": -0.5}


def test_evading_on_ambiguous_items_as_well_paid_as_the_unknown_option() -> None:
    assert fair(ambiguous_evasion=0.5) == ()
    (found,) = fair(ambiguous_evasion=1.0)
    assert found.severity is Severity.WARN
    assert found.patch == {"objectives.f.reward.ambiguous_evasion": 0.0}


def test_a_users_reward_that_pays_for_words() -> None:
    (ambiguous, told) = sorted(fair(custom=True), key=lambda f: f.severity is Severity.ACT)
    assert told.severity is Severity.ACT
    assert "chatter earns +2.00" in told.says, "-1 for the task, 3 for its words"
    assert "reward long_texts pays for it" in told.remedy
    assert told.patch == {"objectives.f.custom_rewards": []}
    assert ambiguous.severity is Severity.WARN


def test_the_unknown_option_over_a_mixture_that_is_nearly_all_ambiguous() -> None:
    """At nine in ten, always unknown earns .9 - .07 = .83, as being right in 91.5 % would."""
    ambiguous = [r for r in BBQ if r.condition is Condition.AMBIGUOUS]
    told = [r for r in BBQ if r.condition is Condition.DISAMBIGUATED][:10]
    rows = earned([*ambiguous, *told], FairnessReward(FairnessConfig(), max_new_tokens=24))
    shares = {"ambig": 0.9, "disambig": 0.1}
    (found,) = pays_for_filler("f", rows, shares=shares)
    assert found.severity is Severity.ACT
    assert "always saying the unknown option earns +0.83" in found.says
    assert found.patch == {"objectives.f.data.ambiguous_fraction": 0.5}
    # At three in four: .75 - .175 = .575, as .7875 would.
    (found,) = pays_for_filler("f", rows, shares={"ambig": 0.75, "disambig": 0.25})
    assert found.severity is Severity.WARN
    assert pays_for_filler("f", rows, shares={"ambig": 0.6, "disambig": 0.4}) == ()


def test_a_kind_of_few_records_says_nothing() -> None:
    told = [r for r in BBQ if r.condition is Condition.DISAMBIGUATED]
    assert fair(told[:4], disambiguated_unknown=0.5) != fair(told[:5], disambiguated_unknown=0.5)
    assert all("items" in f.says for f in fair(told[:5], disambiguated_unknown=0.5))


def test_other_records_are_refused() -> None:
    record = Record(record_id="x", objective="o", subset="s", task=Task.ANSWER, origin="here")
    with pytest.raises(TypeError, match="x is neither"):
        probes(record, None)


def test_where_length_is_what_is_paid_it_is_called_that():
    settings = {"custom_rewards": [{"function": "test_preflight_rewards:by_the_word"}]}
    config = FairnessConfig.model_validate(settings)
    rows = earned(BBQ, FairnessReward(config, max_new_tokens=24))
    customs = {"custom:by_the_word": settings["custom_rewards"][0]}
    found = pays_for_filler("fairness", rows, shares={}, custom_rewards=customs)
    assert {f.code for f in found} == {"length-hacking"}
    assert all("correlation" in f.says for f in found)
    assert {"objectives.fairness.custom_rewards": []} in [f.patch for f in found]
