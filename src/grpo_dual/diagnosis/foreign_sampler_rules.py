"""Sampler and trainer that disagree, on a trainer's log from elsewhere."""

from collections.abc import Iterator

from grpo_dual.diagnosis.control import in_a_row
from grpo_dual.diagnosis.foreign import SETTINGS, TRL
from grpo_dual.diagnosis.history import History, Series
from grpo_dual.diagnosis.rule import finding, percent, show
from grpo_dual.metrics import names
from grpo_dual.types import Finding, Severity

_RATIO_WARN = 0.9, 1.1
_RATIO_ACT = 0.5, 2.0
"""Bounds of the mean ratio of trainer's to sampler's probability; verl's docs, rollout_corr.md."""
_GAP = 0.1
"""Nats per token, mean difference of the two log-probs; verl's docs, rollout_corr.md."""
_PROBABILITY = 0.01
"""Mean difference of the two probabilities; verl's docs, faq.rst: below .005 is normal."""
_GREW = 3.0
"""Times its start: a gap that grows is a sampler that stays behind."""


def sampling_mismatch(history: History, objective: str) -> Iterator[Finding]:
    """What is sampled is not what is trained."""
    trl = history.source == TRL
    ratio = history.column(
        "sampling/importance_sampling_ratio/mean" if trl else "rollout_corr/rollout_is_mean"
    )
    gap = history.column("sampling/sampling_logp_difference/mean" if trl else "rollout_corr/kl")
    difference = history.column("training/rollout_probs_diff_mean")
    far = in_a_row(ratio, lambda r: not _RATIO_WARN[0] <= r <= _RATIO_WARN[1])
    wide = in_a_row(gap, lambda g: abs(g) > _GAP)
    apart = in_a_row(difference, lambda d: d > _PROBABILITY)
    if not (far or wide or apart):
        return
    harsh = in_a_row(ratio, lambda r: not _RATIO_ACT[0] <= r <= _RATIO_ACT[1])
    lost = ratio.last(3) or 0.0
    stale = wide and (gap.last(3) or 0.0) > _GREW * abs(gap.first(3) or 0.0)
    yield finding(
        "sampling-mismatch",
        objective,
        Severity.ACT if harsh else Severity.WARN,
        "Completions are not drawn from the policy that is trained"
        + (
            ": the gap grows, as it does where the sampler keeps old weights."
            if stale
            else f": of the policy gradient {percent(lost)} is left."
            if far and lost < 1
            else "."
        ),
        list(_evidence(history, ratio, gap, difference)),
        "Check that the sampler gets the new weights after each update."
        if stale
        else f"Sample without truncation and penalties ({SETTINGS[history.source]['truncation']}): "
        "under top-k and top-p the ratio is the mass that they leave (trl#6789). If it is so "
        "already, compare the precision of sampler and trainer.",
        confidence=0.75 if harsh or stale else 0.5,
    )


def _evidence(history: History, ratio: Series, gap: Series, difference: Series) -> Iterator[str]:
    if ratio:
        yield (
            f"mean ratio of the trainer's to the sampler's probability {show(ratio.last(3))}, at "
            f"the start {show(ratio.first(3))} (warn outside {_RATIO_WARN[0]} to {_RATIO_WARN[1]}, "
            f"act outside {_RATIO_ACT[0]} to {_RATIO_ACT[1]})"
        )
    if gap:
        largest = history.run(names.SAMPLER_GAP).last(3)
        yield (
            f"their log-probs differ by {show(gap.last(3))} nats per token, at the start "
            f"{show(gap.first(3))} (warn above {_GAP})"
            + ("" if largest is None else f"; by {show(largest)} at most")
        )
    if difference:
        yield (
            f"their probabilities differ by {show(difference.last(3))} on average (warn above "
            f"{_PROBABILITY})"
        )


RULES = (sampling_mismatch,)
