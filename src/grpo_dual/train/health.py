"""A step's scored groups -> the cells that the doctor reads (metrics/health.py)."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import combinations

import torch

from grpo_dual.metrics import health
from grpo_dual.metrics.sinks import Cell
from grpo_dual.metrics.texts import distinct_2, duplicate_pairs, template_share
from grpo_dual.metrics.values import Fraction, Mean
from grpo_dual.train.batch import ObjectiveBatch
from grpo_dual.train.objectives import Objective
from grpo_dual.train.update import ObjectiveUpdate
from grpo_dual.types import SHAPING, BbqRecord, Condition, RolloutGroup, Score

EVADING = frozenset({"evades", "abstains"})
"""Verdicts of a completion that does not answer."""
RIGHT = frozenset({"right", "grounded"})
"""Verdicts of a completion that is as it should be."""


def token_cells(name: str, first: ObjectiveUpdate) -> dict[str, Cell]:
    """Of the policy that the step began with, on its completion tokens."""
    tokens = first.tokens
    return {
        health.ENTROPY_SAMPLING.of(name): tokens.entropy_sampling,
        health.MAX_PROB_FIRST.of(name): tokens.max_prob_first,
        health.MAX_PROB_START.of(name): tokens.max_prob_start,
        health.MAX_PROB_LATER.of(name): tokens.max_prob_later,
        health.KL_SEQUENCE_MAX.of(name): tokens.kl_sequence_max,
        health.HALF_COSINE.of(name): first.half_cosine,
    }


def group_cells(batch: ObjectiveBatch, objective: Objective) -> dict[str, Cell]:
    """Of completions, rewards and advantages."""
    return _spread_cells(batch) | _part_cells(batch) | _text_cells(batch, objective)


def _spread_cells(batch: ObjectiveBatch) -> dict[str, Cell]:
    name, advantages = batch.name, batch.advantages
    comparable_P = advantages.live_P | advantages.dead_P
    dead_P = advantages.dead_P & ~batch.classes.solved_P
    totals = [[s.total for s in row if s.total is not None] for row in batch.scores]
    compared = [row for row in totals if len(row) > 1]
    pooled = [v for row in compared for v in row]
    counts = Counter(pooled)
    expected = Mean.of(
        sum((n / len(pooled)) ** len(row) for n in counts.values()) for row in compared
    )
    whole = _variance(pooled)
    within = Mean.of(_variance(row) for row in compared).value
    return {
        health.DEAD_FRAC.of(name): Fraction(
            int((dead_P & comparable_P).sum()), int(comparable_P.sum())
        ),
        health.ZERO_VARIANCE_EXPECTED.of(name): expected,
        health.REWARD_SPREAD.of(name): within / whole if within is not None and whole else None,
        health.PART_STD.of(name): Mean.of(_largest_part_std(row) for row in batch.scores),
    }


def _largest_part_std(scores: Sequence[Score]) -> float | None:
    parts = [s.parts for s in scores if s.total is not None]
    if len(parts) < 2:
        return None
    names = {name for own in parts for name in own}
    return max(math.sqrt(_variance([own.get(n, 0.0) for own in parts]) or 0.0) for n in names)


def _part_cells(batch: ObjectiveBatch) -> dict[str, Cell]:
    """Covariances within groups (ddof 1), over the groups with two scored completions."""
    name = batch.name
    by_part: dict[str, list[float]] = {"task": [], "shaping": [], "other": []}
    lengths: list[float] = []
    pairs: list[float] = []
    for group, scores, row in zip(
        batch.groups, batch.scores, batch.advantages.advantages_PK.tolist(), strict=True
    ):
        scored = [i for i, s in enumerate(scores) if s.total is not None]
        if len(scored) < 2:
            continue
        own = [row[i] for i in scored]
        for part, values in by_part.items():
            values.append(_covariance([_part(scores[i], part) for i in scored], own))
        if any(own):
            size = [float(len(group.rollouts[i].token_ids)) for i in scored]
            lengths += _standardised(size)
            pairs += _standardised(own)
    return {
        health.TASK_COV.of(name): Mean.of(by_part["task"]),
        health.SHAPING_COV.of(name): Mean.of(by_part["shaping"]),
        health.OTHER_COV.of(name): Mean.of(by_part["other"]),
        health.LENGTH_COR.of(name): Mean.of(a * b for a, b in zip(lengths, pairs, strict=True))
        if any(lengths)
        else None,
    }


def _part(score: Score, part: str) -> float:
    if part == "task":
        return score.parts["task"]
    if part == "shaping":
        return score.shaping
    return sum(v for n, v in score.parts.items() if n not in ("task", SHAPING))


def _text_cells(batch: ObjectiveBatch, objective: Objective) -> dict[str, Cell]:
    name = batch.name
    own = list(zip(batch.groups, batch.scores, strict=True))
    judged = [s for _, row in own for s in row if s.total is not None]
    answerable = [(g, row) for g, row in own if objective.answerable(g.prompt.record)]
    texts = [[r.text for r in g.rollouts] for g in batch.groups]
    records = [g.prompt.record for g in batch.groups]
    cells: dict[str, Cell] = {
        health.RIGHT_FRAC.of(name): Fraction.of(s.verdict in RIGHT for s in judged),
        health.UNPARSED_FRAC.of(name): Fraction.of(s.verdict == "unparsed" for s in judged),
        health.EVASION_PAY.of(name): Mean.of(_evasion_pay(row) for _, row in answerable),
        health.VERDICT_CONFLICT.of(name): Fraction.of(
            differs for pair in own for differs in _conflicts(*pair)
        ),
        health.TEMPLATE_FRAC.of(name): template_share(
            [r.text for g, _ in answerable for r in g.rollouts],
            [g.prompt.record.record_id for g, _ in answerable for _ in g.rollouts],
        ),
        health.DISTINCT_2.of(name): distinct_2(text for group in texts for text in group),
        health.DUPLICATE_FRAC.of(name): duplicate_pairs(texts),
    }
    if name == health.AMBIGUOUS_FRAC.only:
        cells[health.AMBIGUOUS_FRAC.of(name)] = Fraction.of(
            isinstance(r, BbqRecord) and r.condition is Condition.AMBIGUOUS for r in records
        )
    if name == health.GENERAL_FRAC.only:
        cells[health.GENERAL_FRAC.of(name)] = Fraction.of(r.subset == "general" for r in records)
    return cells


def _evasion_pay(scores: Sequence[Score]) -> float | None:
    """Mean total of the evading ones minus that of the others; None unless there are both."""
    evading = [s.total for s in scores if s.total is not None and s.verdict in EVADING]
    others = [s.total for s in scores if s.total is not None and s.verdict not in EVADING]
    if not (evading and others):
        return None
    return sum(evading) / len(evading) - sum(others) / len(others)


def _conflicts(group: RolloutGroup, scores: Sequence[Score]) -> Iterator[bool]:
    """Of each pair of equal, scored completions: do their parts, shaping apart, differ?"""
    by_text: dict[str, list[float]] = {}
    for rollout, score in zip(group.rollouts, scores, strict=True):
        if score.judged is not None:
            by_text.setdefault(rollout.text, []).append(score.judged)
    for values in by_text.values():
        yield from (a != b for a, b in combinations(values, 2))


def _variance(values: Sequence[float]) -> float | None:
    return torch.tensor(values, dtype=torch.float64).var().item() if len(values) > 1 else None


def _covariance(a: Sequence[float], b: Sequence[float]) -> float:
    return torch.cov(torch.tensor([a, b], dtype=torch.float64))[0, 1].item()


def _standardised(values: Sequence[float]) -> list[float]:
    """Centred, divided by the std without ddof; zeros where all are equal."""
    tensor = torch.tensor(values, dtype=torch.float64)
    tensor -= tensor.mean()
    scale = tensor.square().mean().sqrt()
    return (tensor / scale).tolist() if scale > 0 else [0.0] * len(values)
