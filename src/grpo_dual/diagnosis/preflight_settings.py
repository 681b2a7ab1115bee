"""Before step 0: numbers of the configuration that are known to hurt."""

from collections.abc import Mapping, Sequence

from grpo_dual.config.objectives import KlConfig
from grpo_dual.config.schema import SamplingConfig
from grpo_dual.types import Finding, Severity

_FORCED = 5
"""Forced tokens from which on filler has been taught: 30 collapsed a run of the hand-off."""
_SHORTER = 0.1
"""Share of right answers shorter than what is forced, from which that matters."""
_COOL, _HOT = 0.7, 1.3
_FROZEN, _BOILING = 0.2, 2.0
_LIVE = 2.0
"""Live groups that an objective should have in a step."""
_FEW = 0.05
"""Share of the loss below which an objective hardly moves the policy."""
_LARGE_RATE, _SMALL_RATE = 5e-3, 1e-7


def forced_length(min_new_tokens: int, answers: Mapping[str, Sequence[int]]) -> tuple[Finding, ...]:
    """Is the policy made to write on behind its answer?

    Args:
        min_new_tokens: EOS is forbidden before so many.
        answers: Lengths of right answers in tokens, without the end of turn, by objective.
    """
    shorter = {
        name: sum(n < min_new_tokens for n in lengths) / len(lengths)
        for name, lengths in answers.items()
        if lengths
    }
    worst = max(shorter, key=lambda name: shorter[name], default=None)
    share = 0.0 if worst is None else shorter[worst]
    if min_new_tokens <= _FORCED and share < _SHORTER:
        return ()
    act = min_new_tokens > _FORCED and (share >= _SHORTER or worst is None)
    told = [
        f"{name}: {part:.0%} of {len(answers[name])} right answers are shorter, median "
        f"{sorted(answers[name])[len(answers[name]) // 2]} tokens"
        for name, part in shorter.items()
    ]
    return (
        Finding(
            code="forced-length",
            objective=None,
            severity=Severity.ACT if act else Severity.WARN,
            says=(
                f"Every completion is forced to {min_new_tokens} tokens, {share:.0%} of the right "
                "answers are shorter: what stands behind the answer is filler, and is trained as "
                "if it were the answer."
            ),
            evidence=(
                f"rollout.sampling.min_new_tokens {min_new_tokens}; 30 collapsed a run, more than "
                f"{_FORCED} has been seen to teach filler",
                *told,
            ),
            confidence=0.95 if act else 0.7,
            remedy="Let the policy stop where its answer ends.",
            patch={"rollout.sampling.min_new_tokens": 0},
        ),
    )


def sampling_mismatch(sampling: SamplingConfig) -> tuple[Finding, ...]:
    """Are completions drawn from another distribution than the model's own?"""
    truncated = {
        key: value
        for key, value, off in (
            ("top_k", sampling.top_k, 0),
            ("top_p", sampling.top_p, 1.0),
            ("repetition_penalty", sampling.repetition_penalty, 1.0),
        )
        if value != off
    }
    found: list[Finding] = []
    if truncated:
        penalised = "repetition_penalty" in truncated
        off = {"top_k": 0, "top_p": 1.0, "repetition_penalty": 1.0}
        found.append(
            Finding(
                code="sampling-mismatch",
                objective=None,
                severity=Severity.WARN if penalised else Severity.NOTE,
                says=(
                    "Completions are drawn from a processed distribution: the ratio is replayed "
                    "exactly, but that costs time, and entropy and KL are the processed policy's, "
                    "not the model's."
                ),
                evidence=(
                    ", ".join(f"{key} {value}" for key, value in truncated.items()),
                    *(
                        (
                            "a repetition penalty lowers every token of the prompt: the words of "
                            "the options, and the end of turn, which stands in it",
                        )
                        if penalised
                        else ()
                    ),
                ),
                confidence=0.9 if penalised else 0.6,
                remedy="Sample by temperature alone; length and repetition belong to the reward.",
                patch={f"rollout.sampling.{key}": off[key] for key in truncated},
            )
        )
    t = sampling.temperature
    if not _COOL <= t <= _HOT:
        found.append(
            Finding(
                code="sampling-mismatch",
                objective=None,
                severity=Severity.WARN if _FROZEN <= t <= _BOILING else Severity.ACT,
                says=(
                    "The temperature is so low that a prompt's completions are alike, and groups "
                    "that are alike teach nothing."
                    if t < 1
                    else "The temperature is so high that completions are noise."
                ),
                evidence=(f"temperature {t:g}; {_COOL:g} to {_HOT:g} is usual",),
                confidence=0.7,
                remedy="Sample near the model's own distribution.",
                patch={"rollout.sampling.temperature": 1.0},
            )
        )
    return tuple(found)


def starved_objective(
    weights: Mapping[str, float],
    prompts: Mapping[str, int],
    group_size: int,
    scales: Mapping[str, tuple[float, float]],
) -> tuple[Finding, ...]:
    """Does an objective have a say, and groups to speak by?

    Args:
        weights: w_k, which sum to 1.
        prompts: Prompts of each objective in a step.
        group_size: K.
        scales: Configured weight and reward scale of each objective.
    """
    found: list[Finding] = []
    for name, weight in weights.items():
        if scales[name][0] == 0:
            continue  # it is only watched, on purpose
        if weight < _FEW:
            others = [w * s for other, (w, s) in scales.items() if other != name]
            equal = round(sum(others) / len(others) / scales[name][1], 3) if others else 1.0
            found.append(
                Finding(
                    code="starved-objective",
                    objective=name,
                    severity=Severity.WARN,
                    says=f"{name} has {weight:.1%} of the loss: it is sampled, and hardly trained.",
                    evidence=(
                        f"weight {scales[name][0]:g} x reward_scale {scales[name][1]:g} of all "
                        f"objectives' {sum(w * s for w, s in scales.values()):g}",
                    ),
                    confidence=0.9,
                    remedy="Give it a weight, or take it out of the configuration.",
                    patch={f"objectives.{name}.weight": equal},
                )
            )
        # A prompt answered right with probability p gives a live group unless all K are alike:
        # p^K + (1-p)^K, which is 2 / (K + 1) in the mean over p.
        dead = 2 / (group_size + 1)
        live = prompts[name] * (1 - dead)
        if live < _LIVE:
            wanted = next(
                (
                    k
                    for k in (4, 8, 16)
                    if k > group_size and prompts[name] * (1 - 2 / (k + 1)) >= 2
                ),
                None,
            )
            patch: dict[str, object] = (
                {"rollout.group_size": wanted}
                if wanted is not None
                else {f"objectives.{name}.prompts_per_step": 4}
            )
            found.append(
                Finding(
                    code="starved-objective",
                    objective=name,
                    severity=Severity.WARN,
                    says=(
                        f"About {live:.1f} groups of {name} in a step can be expected to teach "
                        "anything: its gradient will be mostly noise."
                    ),
                    evidence=(
                        f"{prompts[name]} prompts, {group_size} completions each; "
                        f"{dead:.0%} of such groups are alike when all difficulties are as likely",
                    ),
                    confidence=0.6,
                    remedy="Draw more completions for each prompt, or more prompts.",
                    patch=patch,
                )
            )
    return tuple(found)


def learning_rate(rates: Mapping[str, float]) -> tuple[Finding, ...]:
    """Are learning rates such as an adapter can bear?

    Args:
        rates: Configuration key -> rate.
    """
    found: list[Finding] = []
    for key, rate in rates.items():
        if _SMALL_RATE <= rate <= _LARGE_RATE:
            continue
        high = rate > _LARGE_RATE
        found.append(
            Finding(
                code="learning-rate",
                objective=None,
                severity=Severity.WARN,
                says=(
                    "The learning rate is more than an adapter can bear."
                    if high
                    else "The learning rate is so small that the policy will not move."
                ),
                evidence=(
                    f"{key} {rate:g}; LoRA usually takes 1e-6 to 1e-4 by reinforcement, to 2e-4 "
                    "supervised; small models more",
                ),
                confidence=0.8,
                remedy="Lower it." if high else "Raise it.",
                patch={key: 1e-3 if high else 1e-5},
            )
        )
    return tuple(found)


def leash(kls: Mapping[str, KlConfig], *, reference: str, sft_steps: int) -> tuple[Finding, ...]:
    """Is the policy held to its reference, and to the right one?

    Args:
        kls: KL branch of each objective.
        reference: ``model.reference``.
        sft_steps: Supervised steps before.
    """
    found: list[Finding] = []
    for name, kl in kls.items():
        if kl.beta > 0:
            continue
        # A controller multiplies: 0 stays 0 unless beta_min lifts it.
        stuck = kl.adaptive and kl.beta_min == 0
        if kl.adaptive and not stuck:
            continue
        found.append(
            Finding(
                code="learning-rate",
                objective=name,
                severity=Severity.WARN if stuck else Severity.NOTE,
                says=(
                    f"The KL controller of {name} starts at beta 0 and multiplies: it stays there."
                    if stuck
                    else f"Nothing holds {name} to its reference: beta is 0 and not adaptive."
                ),
                evidence=(f"kl.beta 0, kl.adaptive {str(kl.adaptive).lower()}",),
                confidence=0.9 if stuck else 0.5,
                remedy="Give beta a value above 0, unless drift is wanted.",
                patch={f"objectives.{name}.kl.beta": 0.03},
            )
        )
    if reference == "base" and sft_steps:
        found.append(
            Finding(
                code="learning-rate",
                objective=None,
                severity=Severity.WARN,
                says=(
                    "KL is measured against the bare base model though SFT comes first: it starts "
                    "above 0 and pulls back what SFT has taught."
                ),
                evidence=(f"model.reference base, sft.steps {sft_steps}",),
                confidence=0.9,
                remedy="Measure it against the adapter as SFT leaves it.",
                patch={"model.reference": "adapter"},
            )
        )
    return tuple(found)
