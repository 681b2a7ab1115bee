"""The pre-flight: what can be known to go wrong before step 0, from data, tokenizer and numbers.

The checks are pure functions in diagnosis/preflight_*.py; here they get what a run has. The heavy
ones see the first records that the run would draw, so a subset counts as often as it is trained.
Plug-in objectives are held to those checks that need no BBQ or HaluEval record.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import cast

from grpo_dual.advantages.combine import objective_weights
from grpo_dual.config.judging import CloudProviderConfig, JudgeConfig
from grpo_dual.config.objectives import FairnessConfig, HallucinationConfig
from grpo_dual.config.schema import RunConfig
from grpo_dual.diagnosis import (
    preflight_chat,
    preflight_data,
    preflight_means,
    preflight_prompts,
    preflight_settings,
)
from grpo_dual.diagnosis.doctor import changes, rank
from grpo_dual.diagnosis.grading import counted, must_act
from grpo_dual.diagnosis.history import History
from grpo_dual.diagnosis.page import paragraph
from grpo_dual.diagnosis.preflight_means import Bill
from grpo_dual.diagnosis.preflight_rewards import pays_for_filler
from grpo_dual.errors import JudgeError, PreflightError
from grpo_dual.judges import estimate
from grpo_dual.judges.measure import kept_ratio
from grpo_dual.judges.reach import why_not
from grpo_dual.model.loading import Spoken, load_spoken, resolve_device
from grpo_dual.prompts.chat import ChatEncoder, Tokenizer
from grpo_dual.train.objectives import Fairness, Hallucination
from grpo_dual.train.preflight_view import SAMPLE, View, view_of
from grpo_dual.train.rehearsal import foresee
from grpo_dual.train.sources import general_noise
from grpo_dual.train.wiring import Materials, Parts, build, gather
from grpo_dual.types import (
    BbqRecord,
    Finding,
    Severity,
    Task,
)

TEXTS = 2000
"""Texts of each label, at most, in which a leak is looked for."""


def preflight(
    config: RunConfig, materials: Materials, *, offline: bool = False
) -> tuple[Finding, ...]:
    """Look at a run before its model is loaded; samplers are left as they were.

    Args:
        config: The run.
        materials: Its data.
        offline: Do not ask whether the judges are there.

    Returns:
        The findings, the gravest first.

    Raises:
        GrpoDualError: The tokenizer cannot be loaded, or a user's reward fails.
    """
    spoken = load_spoken(config.model)
    # Transformers sets the special ids of a tokenizer at run time, where no checker sees them.
    tokenizer = cast("Tokenizer", spoken.tokenizer)
    encoder = ChatEncoder(tokenizer, generation_eos_ids=spoken.generation_eos_ids)
    views = {
        name: view_of(config, objective, encoder)
        for name, objective in materials.objectives.items()
    }
    found = [*preflight_chat.chat_format(encoder, tokenizer, spoken.generation_eos_ids)]
    for view in views.values():
        found += _of_objective(config, view, spoken)
    found += _settings(config, views)
    found += _judges(config, materials, offline=offline)
    return rank(_agreed(found, config))


def look(config: RunConfig, *, offline: bool = False) -> tuple[Finding, ...]:
    """The whole pre-flight of a run that will not be started; on a CUDA device, its memory too.

    Judges are neither made nor needed: a key that is not there is a finding.

    Args:
        config: The run.
        offline: Do not ask whether the judges are there.

    Raises:
        GrpoDualError: Data or model cannot be read.
    """
    unjudged = config.model_copy(update={"judge": JudgeConfig()})
    materials = gather(unjudged)
    found = preflight(config, materials, offline=offline)
    if resolve_device(config.model.device).type == "cuda":
        found = rank((*found, *memory_findings(build(unjudged, materials))))
    return found


def _agreed(found: Sequence[Finding], config: RunConfig) -> list[Finding]:
    """Objectives that ask for different limits get the one that is enough for all of them."""
    current = {
        "rollout.max_prompt_tokens": config.rollout.max_prompt_tokens,
        "rollout.sampling.max_new_tokens": config.rollout.sampling.max_new_tokens,
    }
    asked: dict[str, list[int]] = {key: [] for key in current}
    for key, values in asked.items():
        values += [value for f in found if isinstance(value := f.patch.get(key), int)]
    agreed: list[Finding] = []
    set_so = History((), (), {}, config=config.model_dump(mode="json"))
    for finding in found:
        patch = dict(finding.patch)
        for key in current.keys() & patch.keys():
            # All raise it, or all lower it: a window is either too small for the limit or not.
            patch[key] = (max if min(asked[key]) > current[key] else min)(asked[key])
        agreed.append(replace(finding, patch=changes(patch, set_so)))
    return agreed


def cleared(
    config: RunConfig, materials: Materials, tell: Callable[[str], None], *, force: bool
) -> tuple[Finding, ...]:
    """The pre-flight of a run that is about to start, before its model is loaded.

    Args:
        config: The run.
        materials: Its data.
        tell: Hears what was found.
        force: Go on all the same.

    Raises:
        PreflightError: It refuses the run.
        GrpoDualError: As for ``preflight``.
    """
    began = time.monotonic()
    findings = preflight(config, materials)
    told = counted(findings) if findings else "nothing found"
    tell(f"pre-flight: {told} ({SAMPLE} draws of each objective, {time.monotonic() - began:.1f} s)")
    return refuse(findings, tell, force=force)


def refuse(
    findings: tuple[Finding, ...], tell: Callable[[str], None], *, force: bool
) -> tuple[Finding, ...]:
    """Show findings; go on where none says act, or where the user insists.

    Raises:
        PreflightError: One of them says act.
    """
    for finding in findings:
        tell(paragraph(finding))
    if must_act(findings) and not force:
        codes = dict.fromkeys(f.code for f in findings if f.severity is Severity.ACT)
        raise PreflightError(
            f"the pre-flight refuses this run: {', '.join(codes)} (see above). Change what it "
            "says, or start nevertheless with --force; --doctor off looks at nothing"
        )
    return findings


def memory_findings(parts: Parts) -> tuple[Finding, ...]:
    """What is only known of a loaded model: does the run fit its device?"""
    fit, config = parts.memory, parts.config
    if fit is None:
        return ()
    return preflight_means.memory(
        total=fit.plan.total,
        halved=fit.plan.halved,
        available=fit.room.ours,
        device=fit.room.name,
        microbatch_prompts=config.train.microbatch_prompts,
        checkpointing=fit.checkpointing,
        rollouts=config.rollout.max_sequences if fit.plan.by_rollouts else None,
    )


def _of_objective(config: RunConfig, view: View, spoken: Spoken) -> list[Finding]:
    """What is found in an objective's data and reward."""
    name, rollout = view.objective.name, config.rollout
    longest = rollout.sampling.max_new_tokens
    window = spoken.window
    found: list[Finding] = [
        *preflight_prompts.prompt_truncation(
            name,
            view.fits,
            limit=rollout.max_prompt_tokens,
            room=None if window is None else window - longest,
        ),
        *preflight_prompts.completion_truncation(
            name,
            view.fits,
            max_new_tokens=longest,
            room=None if window is None else window - rollout.max_prompt_tokens,
        ),
        *preflight_chat.parser_mismatch(name, view.replies),
        *pays_for_filler(name, view.earned, shares=view.shares, custom_rewards=_custom(view)),
    ]
    if isinstance(view.objective, Fairness):
        assert isinstance(view.objective.config, FairnessConfig)
        items = [r for r in view.drawn if isinstance(r, BbqRecord)]
        fraction = view.objective.config.data.ambiguous_fraction
        found += preflight_data.positions(name, items)
        found += preflight_data.balance(name, items, ambiguous_fraction=fraction)
    if isinstance(view.objective, Hallucination):
        found += _halueval(view, view.objective, preferred=config.sft.pairs.steps > 0)
    return found


def _custom(view: View) -> dict[str, object]:
    """The user's rewards: part of the scores -> entry of the configuration; both in its order."""
    parts = [p for p in (view.earned[0].parts if view.earned else ()) if p.startswith("custom:")]
    entries = (reward.model_dump(mode="json") for reward in view.objective.config.custom_rewards)
    return dict(zip(parts, entries, strict=bool(parts)))


def _halueval(view: View, objective: Hallucination, *, preferred: bool) -> list[Finding]:
    """Leaks and noise of HaluEval, over all records that can be drawn."""
    assert isinstance(objective.config, HallucinationConfig)
    data, shares = objective.config.data, view.shares
    found: list[Finding] = []
    records = objective.train_records
    for subset in dict.fromkeys(r.subset for r in records):
        own = [r for r in records if r.subset == subset]
        shown = [(r.shown or "", r.hallucinated is True) for r in own if r.task is Task.DETECT]
        sides = [
            side
            for r in own
            if r.task is Task.ANSWER and r.accepted and r.rejected
            for side in ((r.accepted, False), (r.rejected, True))
        ]
        found += preflight_data.data_leak(
            objective.name,
            subset,
            _thinned(shown),
            form="detection items",
            share=shares.get(f"{subset} {Task.DETECT}", 0.0),
            matched=data.length_matched,
        )
        if not shown:
            found += preflight_data.data_leak(
                objective.name,
                subset,
                _thinned(sides),
                form="pairs",
                preferred=preferred,
                share=shares.get(f"{subset} {Task.ANSWER}", 0.0),
                matched=data.length_matched,
            )
    share = sum(shares.get(f"general {task}", 0.0) for task in (Task.DETECT, Task.ANSWER))
    if data.general_filter == "off" and share:
        hallucinated, noisy = general_noise(data)
        found += preflight_data.noisy_general(
            objective.name, share=share, hallucinated=hallucinated, noisy=noisy
        )
    return found


def _thinned(texts: Sequence[tuple[str, bool]]) -> list[tuple[str, bool]]:
    """At most ``TEXTS`` of each label, evenly taken."""
    kept: list[tuple[str, bool]] = []
    for label in (True, False):
        own = [t for t in texts if t[1] is label]
        kept += own[:: -(-len(own) // TEXTS) or 1]
    return kept


def _settings(config: RunConfig, views: Mapping[str, View]) -> list[Finding]:
    """What is found in the numbers."""
    sampling, objectives = config.rollout.sampling, config.objectives
    scales = {name: (o.weight, o.reward_scale) for name, o in objectives.items()}
    rates = {"train.optimizer.learning_rate": config.train.optimizer.learning_rate}
    if config.sft.steps:
        rates["sft.learning_rate"] = config.sft.learning_rate
    if config.sft.pairs.steps:
        rates["sft.pairs.learning_rate"] = config.sft.pairs.learning_rate
    return [
        *preflight_settings.forced_length(
            sampling.min_new_tokens,
            {
                name: [f.reply_tokens - 1 for f in view.fits if f.reply_tokens is not None]
                for name, view in views.items()
            },
        ),
        *preflight_settings.sampling_mismatch(sampling),
        *preflight_settings.starved_objective(
            objective_weights(
                {name: weight for name, (weight, _) in scales.items()},
                {name: scale for name, (_, scale) in scales.items()},
            ),
            {name: o.prompts_per_step for name, o in objectives.items()},
            config.rollout.group_size,
            scales,
        ),
        *preflight_settings.learning_rate(rates),
        *preflight_settings.leash(
            {name: o.kl for name, o in objectives.items()},
            reference=config.model.reference,
            sft_steps=config.sft.steps + config.sft.pairs.steps,
        ),
    ]


def _reached(config: RunConfig, cloud: Mapping[str, CloudProviderConfig]) -> list[Finding]:
    reached: dict[str, str | None] = {}
    unusable: list[str] = []
    for name, provider in cloud.items():
        try:
            reached[name] = why_not(name, provider)
        except JudgeError as error:
            reached[name] = str(error)
            unusable.append(name)
    return [
        *preflight_means.judge_unreachable(
            reached,
            outage=config.judge.outage.action,
            judges=len(config.judge.providers),
            unusable=unusable,
        )
    ]


def _judges(config: RunConfig, materials: Materials, *, offline: bool) -> list[Finding]:
    """Can the judges be had, and what may they take? Nothing is paid for the answer."""
    cloud = {
        name: provider
        for name, provider in config.judge.providers.items()
        if isinstance(provider, CloudProviderConfig)
    }
    if not cloud:
        return []
    found = [] if offline else _reached(config, cloud)
    bounds = foresee(config, materials.objectives).bounds
    ratios = {name: kept_ratio(config.judge, name) or estimate.Ratio() for name in cloud}
    steps = [
        [
            estimate.amount(estimate.most([bounds[name][step]]), ratios[name], provider.price)
            for name, provider in cloud.items()
        ]
        for step in range(config.train.steps)
    ]
    wholes = {
        name: estimate.summed([step[place] for step in steps]) for place, name in enumerate(cloud)
    }
    found += preflight_means.judge_cost(
        [Bill(name, whole.calls, whole.tokens, whole.usd) for name, whole in wholes.items()],
        steps=config.train.steps,
        ends=estimate.exhausted(config.judge.budget, steps),
    )
    return found
