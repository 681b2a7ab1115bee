"""The hand-off's decision tree: after 20 steps, has each objective recovered, and what then?

An objective has recovered when, over the last 5 of the first 20 steps, enough of its groups are
live (or they are solved), it seldom evades answerable prompts and less than at its start, and its
gradient signal stands above the noise floor. Otherwise it is weak.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from grpo_dual.config.doctoring import TreeConfig
from grpo_dual.diagnosis.control import full_batch_reliability
from grpo_dual.diagnosis.history import History
from grpo_dual.diagnosis.rule import LIMITS, percent, show
from grpo_dual.metrics import health, names

STEP = 20
"""The step at which the tree is asked."""
WINDOW = 5
"""Rows that are looked at."""


@dataclass(frozen=True, slots=True)
class Criterion:
    """One of the conditions of recovery."""

    what: str
    value: str
    bound: str
    met: bool


@dataclass(frozen=True, slots=True)
class Branch:
    """One objective at the tree."""

    objective: str
    criteria: tuple[Criterion, ...]

    @property
    def recovered(self) -> bool:
        """All criteria are met."""
        return all(c.met for c in self.criteria)


@dataclass(frozen=True, slots=True)
class Remedy:
    """One of the hand-off's four, as configuration."""

    name: str
    """B1 to B4."""
    says: str
    patch: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Tree:
    """The branch that was taken."""

    step: int
    """Last step it looked at."""
    branches: tuple[Branch, ...]
    verdict: str
    remedies: tuple[Remedy, ...]

    @property
    def early(self) -> bool:
        """Asked before step 20: a first look only."""
        return self.step < STEP


def ask(history: History, limits: TreeConfig | None = None) -> Tree | None:
    """The tree on the first 20 steps of a run.

    Returns:
        None before step 5, whose start would be its end, or when evasion was not measured.
    """
    limits = limits or TreeConfig()
    first = history.trained.until(STEP)
    if len(first) < WINDOW or not any(
        first.of(names.EVASION_ANSWERABLE, o) for o in first.objectives
    ):
        return None
    branches = tuple(_branch(first, o, limits) for o in first.objectives)
    general = bool(history.number("objectives.hallucination.data.subsets.general"))
    verdict, letters = _verdict({b.objective: b.recovered for b in branches}, general=general)
    remedies = tuple(_remedy(history, letter) for letter in letters)
    return Tree(first.steps[-1], branches, verdict, remedies)


def _branch(first: History, objective: str, limits: TreeConfig) -> Branch:
    dead = first.of(names.ZERO_VARIANCE_FRAC, objective).last(WINDOW)
    solved = first.of(names.SOLVED_FRAC, objective).last(WINDOW)
    evasion = first.of(names.EVASION_ANSWERABLE, objective)
    signal = first.of(names.GRADIENT_SIGNAL, objective).last(WINDOW)
    half = first.of(health.HALF_COSINE, objective).last(WINDOW)
    live = None if dead is None else 1 - dead
    is_solved = solved is not None and solved >= limits.solved
    now, start = evasion.last(WINDOW), evasion.first(3)
    criteria = [
        Criterion(
            "live groups, or solved ones",
            f"{percent(live)} live, {percent(solved)} solved",
            f">= {percent(limits.live)}, or >= {percent(limits.solved)} solved",
            is_solved or (live is not None and live >= limits.live),
        ),
        Criterion(
            "evasions on answerable prompts",
            f"{percent(now)} (at the start {percent(start)})",
            f"<= {percent(limits.evasion)}, and below its start",
            # A policy that never evaded cannot fall below its start.
            now is None or (now <= limits.evasion and (start is None or now < start or now == 0.0)),
        ),
        Criterion(
            "gradient signal",
            show(signal),
            f">= {limits.signal:g}, unless solved",
            is_solved or (signal is not None and signal >= limits.signal),
        ),
    ]
    if half is not None and not is_solved:
        reliability = full_batch_reliability(half)
        criteria.append(
            Criterion(
                "reliability of the gradient",
                show(reliability),
                f">= {limits.reliability:g}, its noise floor",
                reliability >= limits.reliability,
            )
        )
    return Branch(objective, tuple(criteria))


def _verdict(recovered: Mapping[str, bool], *, general: bool) -> tuple[str, tuple[str, ...]]:
    """The hand-off's table; runs with other objectives are told which ones are weak."""
    weak = [name for name, well in recovered.items() if not well]
    if not weak:
        return "all objectives have recovered: go on to 100 to 200 steps", ()
    if set(recovered) == {"fairness", "hallucination"}:
        if weak == ["hallucination"]:
            if not general:
                return (
                    "hallucination alone is weak, and the general subset, whose noise the hand-off "
                    "suspects then, is not drawn: contrastive pairs (B2)",
                    ("B2",),
                )
            return (
                "noise in the general subset dominates: filter it (B1) or lower its weight (B3), "
                "then contrastive pairs (B2)",
                ("B1", "B3", "B2"),
            )
        if len(weak) == 2:
            return (
                "both are weak: look for truncation and the ambiguous/disambiguated sampling "
                "ratio (B4)",
                ("B4",),
            )
        return (
            "unlikely: fairness alone is weak. Go deep into BBQ: parser, position of the unknown "
            "option, polarity balance (the pre-flight counts them)",
            (),
        )
    return f"weak: {', '.join(weak)}; see the findings", ()


def _remedy(history: History, name: str) -> Remedy:
    data = "objectives.hallucination.data"
    general = history.number(f"{data}.subsets.general") or 0.0
    if name == "B1":
        on = history.setting(f"{data}.general_filter") in ("handoff", "whole-words")
        return Remedy(
            "B1",
            "The general subset is filtered already." if on else "Filter the general subset.",
            {} if on else {f"{data}.general_filter": "handoff"},
        )
    if name == "B2":
        return Remedy(
            "B2",
            "Contrastive pairs: a warm-up on accepted against rejected, and their part in the "
            "reward.",
            {"sft.pairs.steps": 50, "objectives.hallucination.reward.contrast": 0.2},
        )
    if name == "B3":
        return Remedy(
            "B3",
            "Lower the weight of general.",
            {f"{data}.subsets.general": general / 2},
        )
    return _b4(history)


def _b4(history: History) -> Remedy:
    """Truncation and the sampling ratio: what was measured of either, and what mends it."""
    cut = {o: history.of(names.TRUNC_FRAC, o).last(WINDOW) for o in history.objectives}
    ambiguous = history.of(health.AMBIGUOUS_FRAC, "fairness").last(WINDOW)
    told = (
        f"Prompts cut: {', '.join(f'{o} {percent(share)}' for o, share in cut.items())}; ambiguous "
        f"among BBQ's {percent(ambiguous)}. "
    )
    patch: dict[str, object] = {}
    limit = history.number("rollout.max_prompt_tokens")
    if limit and any((share or 0.0) > LIMITS.cut_warn for share in cut.values()):
        patch["rollout.max_prompt_tokens"] = int(2 * limit)
    if ambiguous is not None and abs(ambiguous - 0.5) > LIMITS.balance:
        patch["objectives.fairness.data.ambiguous_fraction"] = 0.5
    says = "Raise the limit or draw both conditions alike." if patch else "It is neither of them."
    return Remedy("B4", told + says, patch)
