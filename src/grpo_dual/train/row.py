"""A step's batches and updates -> its row of metrics. Every key is one of metrics/names.py."""

from collections import Counter
from collections.abc import Mapping, Sequence

import torch

from grpo_dual.judges.service import JudgeService
from grpo_dual.metrics import health, names
from grpo_dual.metrics.sinks import Cell
from grpo_dual.metrics.values import Count, Fraction, Max, Mean
from grpo_dual.rewards.judging import UNJUDGED
from grpo_dual.train.batch import ObjectiveBatch
from grpo_dual.train.health import EVADING, group_cells, token_cells
from grpo_dual.train.objectives import Objective
from grpo_dual.train.update import Update
from grpo_dual.types import Score


def step_row(
    step: int,
    batches: Sequence[ObjectiveBatch],
    updates: Sequence[Update],
    objectives: Mapping[str, Objective],
    weights: Mapping[str, float],
    seconds: Mapping[str, float],
) -> dict[str, Cell]:
    """The row of one step.

    Args:
        step: From 1.
        batches: One for each objective.
        updates: The step's optimiser updates in order; loss, norms and learning rate are the last
            one's.
        objectives: By name.
        weights: w_k.
        seconds: ``rollout``, ``reward`` and ``reference`` seconds.
    """
    last = updates[-1]
    live = sum(o.live_tokens for u in updates for o in u.objectives.values())
    clipped = sum(o.clipped for u in updates for o in u.objectives.values())
    row: dict[str, Cell] = {
        names.STEP.key: step,
        # Without a live token there is nothing to clip: 0 by construction, as it is for one update.
        names.CLIP_FRAC.key: clipped / live if live else 0.0,
        names.LOSS.key: last.loss,
        names.GRAD_NORM.key: last.grad_norm,
        names.LEARNING_RATE.key: last.learning_rate,
        names.SKIPPED_UPDATE.key: int(any(u.skipped for u in updates)),
        names.SAMPLER_RATIO.key: updates[0].ratio_mean,
        names.SAMPLER_GAP.key: updates[0].gap_max,
        names.TOKENS.key: sum(b.tokens for b in batches),
        names.ROLLOUT_SECONDS.key: seconds["rollout"],
        names.REWARD_SECONDS.key: seconds["reward"],
        names.REFERENCE_SECONDS.key: seconds["reference"],
        names.FORWARD_SECONDS.key: sum(u.forward_seconds for u in updates),
        names.UPDATE_SECONDS.key: sum(u.update_seconds for u in updates),
    }
    if len(batches) > 1:
        row[names.GRAD_COSINE.key] = last.cosine
    for batch in batches:
        row |= _objective_cells(batch, updates, objectives[batch.name], weights[batch.name])
    return row


def judge_cells(judges: JudgeService | None, batches: Sequence[ObjectiveBatch]) -> dict[str, Cell]:
    """What the judges did and cost since the last call; nothing in a run without any."""
    if judges is None:
        return {}
    tally = judges.take_tally()
    row: dict[str, Cell] = {
        names.SWAYS.of(b.name): sum(bool(s.flags) for own in b.scores for s in own) for b in batches
    }
    row |= {
        names.JUDGES_OFFLINE_GROUPS.key: tally.offline_groups,
        names.JUDGES_UNSCORED_GROUPS.key: tally.unscored_groups,
        names.JUDGES_AGREEMENT.key: Fraction(tally.agreed, tally.compared),
        names.JUDGES_BUSY_SECONDS.key: tally.busy_seconds,
        names.JUDGES_WAIT_SECONDS.key: tally.waited_seconds,
        names.JUDGES_HIDDEN_SHARE.key: tally.hidden,
    }
    for name, spent in judges.take_spent().items():
        row |= {
            names.JUDGES_VERDICTS.of(name): tally.verdicts[name],
            names.JUDGES_CACHE_HITS.of(name): tally.cache_hits[name],
            names.JUDGES_CALLS.of(name): spent.calls,
            names.JUDGES_FAILED_CALLS.of(name): spent.failed,
            names.JUDGES_INPUT_TOKENS.of(name): spent.usage.input,
            names.JUDGES_OUTPUT_TOKENS.of(name): spent.usage.output,
            names.JUDGES_USD.of(name): spent.dollars,
        }
    return row


def _objective_cells(
    batch: ObjectiveBatch, updates: Sequence[Update], objective: Objective, weight: float
) -> dict[str, Cell]:
    first, last = (u.objectives[batch.name] for u in (updates[0], updates[-1]))
    name = batch.name
    cells: dict[str, Cell] = {
        # KL, entropy and probability are those of the policy that the step began with: they belong
        # to the completions of this row.
        names.KL.of(name): first.kl,
        names.KL_MAX.of(name): first.kl_max,
        names.KL_MODEL.of(name): first.tokens.kl_model,
        names.ENTROPY.of(name): first.tokens.entropy,
        names.MAX_PROB.of(name): first.tokens.max_prob,
        names.BETA.of(name): last.beta,
        names.WEIGHT.of(name): weight,
        names.OBJECTIVE_GRAD_NORM.of(name): last.grad_norm,
    }
    ratio_max = Max.of(u.objectives[name].ratio_max.value for u in updates)
    return (
        cells
        | _reward_cells(batch)
        | _behaviour_cells(batch, objective)
        | {health.RATIO_MAX.of(name): ratio_max}
        | token_cells(name, first)
        | group_cells(batch, objective)
    )


def _reward_cells(batch: ObjectiveBatch) -> dict[str, Cell]:
    name, advantages = batch.name, batch.advantages
    comparable_P = advantages.live_P | advantages.dead_P
    lengths_PK = torch.tensor([[len(r.token_ids) for r in g.rollouts] for g in batch.groups])
    advantages_PK = advantages.advantages_PK.double()
    absolute = float((advantages_PK.abs() * lengths_PK)[advantages.counted_PK].sum())
    carrying = int(lengths_PK[advantages_PK != 0].sum())
    scores = [s for row in batch.scores for s in row]
    return {
        names.REWARD_MEAN.of(name): Mean.of(s.total for s in scores),
        names.REWARD_STD.of(name): Mean.of(advantages.std_P[comparable_P].tolist()),
        names.ZERO_VARIANCE_FRAC.of(name): _fraction(advantages.dead_P, comparable_P),
        names.SOLVED_FRAC.of(name): _fraction(batch.classes.solved_P, comparable_P),
        names.LIVE_TOKEN_FRAC.of(name): Fraction(carrying, batch.tokens),
        names.GRADIENT_SIGNAL.of(name): Mean(absolute, batch.tokens),
        names.UNSCORED.of(name): Count(sum(s.total is None for s in scores)),
        names.JUDGE_FAILURES.of(name): Count(
            sum(s.total is None and s.verdict != UNJUDGED for s in scores)
        ),
        **_provider_cells(name, scores),
    }


def _behaviour_cells(batch: ObjectiveBatch, objective: Objective) -> dict[str, Cell]:
    name = batch.name
    judged = [
        (group, score)
        for group, row in zip(batch.groups, batch.scores, strict=True)
        for score in row
        if score.total is not None
    ]
    answerable = [s for g, s in judged if objective.answerable(g.prompt.record)]
    rollouts = [r for g in batch.groups for r in g.rollouts]
    cells: dict[str, Cell] = {
        names.GEN_LEN.of(name): Mean.of(len(r.token_ids) for r in rollouts),
        names.TRUNC_FRAC.of(name): Fraction.of(g.prompt.shortened for g in batch.groups),
        names.COMPLETION_TRUNC_FRAC.of(name): Fraction.of(not r.finished for r in rollouts),
        names.EVASION_RATE.of(name): Fraction.of(s.verdict in EVADING for _, s in judged),
        names.EVASION_ANSWERABLE.of(name): Fraction.of(s.verdict in EVADING for s in answerable),
    }
    if name == names.STEREOTYPED_FRAC.only:
        cells[names.STEREOTYPED_FRAC.of(name)] = Fraction.of(
            s.verdict == "stereotyped" for _, s in judged
        )
    return cells


def _provider_cells(name: str, scores: Sequence[Score]) -> dict[str, Cell]:
    counts = Counter(names.provider(s.provider) for s in scores if s.total is not None)
    known = (names.BY_RULE, names.BY_HEURISTIC, names.BY_TEMPLATE, names.BY_OTHER)
    return {metric.of(name): Count(counts[metric]) for metric in known}


def _fraction(hits_P: torch.Tensor, among_P: torch.Tensor) -> Fraction:
    return Fraction(int((hits_P & among_P).sum()), int(among_P.sum()))
