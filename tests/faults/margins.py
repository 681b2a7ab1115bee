"""How far from its threshold each statistic of the doctor stays, in recorded runs.

    PYTHONPATH=src:tests python -m faults.margins HISTORIES.json.xz

prints the table of docs/doctor.md: for each cause the most extreme value that a healthy run reaches
at any step, and what the runs with the fault reach.
"""

import argparse
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from faults.catalogue import CASES
from faults.recording import load
from grpo_dual.diagnosis.control import corrected_cosine, full_batch_reliability
from grpo_dual.diagnosis.doctor import diagnose
from grpo_dual.diagnosis.history import History, Series
from grpo_dual.diagnosis.rule import LIMITS, show
from grpo_dual.diagnosis.start import baseline_entropy, solved
from grpo_dual.metrics import health, names
from grpo_dual.types import Severity

Statistic = Callable[[History, str], float | None]
"""Of a history as it ends; None where the rule would not look."""


@dataclass(frozen=True, slots=True)
class Margin:
    """A cause's statistic."""

    code: str
    what: str
    act: str
    """Its threshold."""
    of: Statistic
    up: bool = True
    """The fault is large, not small."""

    def extreme(self, values: list[float]) -> float | None:
        """The most faulty of some."""
        return (max if self.up else min)(values, default=None)


def sustained(series: Series, *, up: bool = True) -> float | None:
    """What the last three measured values all reach."""
    last = series.known[-3:]
    return (min if up else max)(last) if len(last) == 3 else None


def _entropy(history: History, objective: str) -> float | None:
    value = sustained(history.of(names.ENTROPY, objective), up=False)
    start = baseline_entropy(history, objective)
    return None if value is None or not start or solved(history, objective) else value / start


def _template(history: History, objective: str) -> float | None:
    both = (health.TEMPLATE_FRAC, names.EVASION_ANSWERABLE)
    values = [sustained(history.of(metric, objective)) for metric in both]
    return min((v for v in values if v is not None), default=None) if all(values) else None


def _jumps(history: History, objective: str) -> float | None:
    jumps = sorted(abs(b - a) for a, b in pairwise(history.of(names.KL, objective).known))
    right = history.of(health.RIGHT_FRAC, objective)
    better = (right.last(5) or 0.0) > (right.first(5) or 0.0) + 0.05
    return jumps[-2] if len(jumps) > 1 and not better else None


def _kl(history: History, objective: str) -> float | None:
    value = sustained(history.of(names.KL, objective))
    target = history.number(f"objectives.{objective}.kl.target")
    return value / target if value is not None and target else None


def _frozen(history: History, objective: str) -> float | None:
    known = history.of(names.KL, objective).known
    return max(map(abs, known[5:])) if len(known) >= 10 else None


def _dead(history: History, objective: str) -> float | None:
    right = history.of(health.RIGHT_FRAC, objective).last(3)
    looks = right is not None and 0.02 < right < 0.98
    return sustained(history.of(health.PART_STD, objective), up=False) if looks else None


def _cancelling(history: History, objective: str) -> float | None:
    parts = history.of(health.PART_STD, objective)
    total = sustained(history.of(names.REWARD_STD, objective), up=False)
    looks = (sustained(parts) or 0.0) > 0.1
    return total / (parts.last(3) or 1.0) if looks and total is not None else None


def _outage(history: History, objective: str) -> float | None:
    counted = (names.BY_RULE, names.BY_HEURISTIC, names.BY_TEMPLATE, names.BY_OTHER)
    lost = history.of(names.JUDGE_FAILURES, objective).total(3)
    scored = sum(history.of(metric, objective).total(3) for metric in counted)
    return lost / (lost + scored) if len(history) >= 3 and lost + scored else None


def _noise(history: History, objective: str) -> float | None:
    conflict = history.of(health.VERDICT_CONFLICT, objective)
    return conflict.last(5) if len(conflict.known) >= 3 else None


def _filler(history: History, objective: str) -> float | None:
    pay, right = history.of(health.EVASION_PAY, objective), history.of(health.RIGHT_FRAC, objective)
    return pay.last(5) if len(pay.known) >= 3 and (right.last(5) or 0.0) >= 0.1 else None


def _length(history: History, objective: str) -> float | None:
    length = history.of(names.GEN_LEN, objective)
    right = history.of(health.RIGHT_FRAC, objective)
    better = (right.last(5) or 0.0) > (right.first(5) or 0.0) + 0.05
    grown = (length.last(3) or 0.0) > 1.25 * (length.first(3) or 0.0)
    looks = len(length.known) >= 6 and grown and not better
    return history.of(health.LENGTH_COR, objective).last(5) if looks else None


def _hacking(history: History, objective: str) -> float | None:
    reward = history.of(names.REWARD_MEAN, objective)
    right = history.of(health.RIGHT_FRAC, objective)
    gained = (reward.last(5) or 0.0) - (reward.first(5) or 0.0)
    looks = len(reward.known) >= 10 and gained >= 0.1
    return (right.first(5) or 0.0) - (right.last(5) or 0.0) if looks else None


def _template_start(history: History, _: str) -> float | None:
    starts = [history.of(health.RIGHT_FRAC, o).first(1) for o in history.objectives]
    known = [s for s in starts if s is not None]
    return max(known) if len(known) == len(starts) and known else None


def _condition(history: History, objective: str) -> float | None:
    known = history.of(health.AMBIGUOUS_FRAC, objective).known
    return abs(sum(known) / len(known) - 0.5) if len(known) >= 3 else None


def _starved(history: History, objective: str) -> float | None:
    prompts = [
        history.number(f"objectives.{o}.prompts_per_step") or 0.0 for o in history.objectives
    ]
    own = history.number(f"objectives.{objective}.prompts_per_step") or 0.0
    weight = history.of(names.WEIGHT, objective).last(5)
    return min(own / sum(prompts), weight) if weight is not None and len(history) >= 3 else None


def _conflict(history: History, objective: str) -> float | None:
    rows = min(len(history), 10)
    cosine = history.run(names.GRAD_COSINE)
    halves = [history.of(health.HALF_COSINE, o).last(rows) for o in history.objectives]
    known = [h for h in halves if h is not None]
    measured = cosine.last(rows)
    if measured is None or len(known) != 2 or len(cosine.known) < 5:
        return None
    a, b = map(full_batch_reliability, known)
    looks = objective == history.objectives[0] and min(a, b) >= LIMITS.reliability
    return corrected_cosine(measured, a, b) if looks else None


def _last_rows(metric: names.ObjectiveMetric) -> Statistic:
    return lambda history, objective: sustained(history.of(metric, objective))


MARGINS = (
    Margin("entropy-collapse", "entropy / H0, three rows, not solved", "< .25", _entropy, up=False),
    Margin("template-collapse", "common start and evasions, the smaller", ">= .5", _template),
    Margin("learning-rate", "second largest jump of KL, right not risen", ">= .25", _jumps),
    Margin("kl-runaway", "KL / target, three rows", "> 4.4", _kl),
    Margin("kl-frozen", "largest KL from row 6 on", "< 1e-9", _frozen, up=False),
    Margin("dead-rewards", "std of a part within a group", "< 1e-6", _dead, up=False),
    Margin("cancelling-rewards", "std of the total / of a part", "< .1", _cancelling, up=False),
    Margin("judge-outage", "completions lost", ">= .25", _outage),
    Margin("judge-noise", "equal texts paid differently", "> .05", _noise),
    Margin("pays-for-filler", "pay of evading, something is right", "> .05", _filler),
    Margin("length-hacking", "length-advantage correlation while longer", "> .4", _length),
    Margin("reward-hacking", "right lost while reward gains .1", "> .15", _hacking),
    Margin("prompt-truncation", "prompts cut", "> .25", _last_rows(names.TRUNC_FRAC)),
    Margin("completion-truncation", "completions cut", "> .25",
           _last_rows(names.COMPLETION_TRUNC_FRAC)),
    Margin("parser-mismatch", "unparsed", ">= .5", _last_rows(health.UNPARSED_FRAC)),
    Margin("wrong-chat-template", "right at step 1, best objective", "<= .1", _template_start,
           up=False),
    Margin("condition-imbalance", "share of ambiguous prompts - .5", "> .35", _condition),
    Margin("starved-objective", "share of prompts or weight", "< .1", _starved, up=False),
    Margin("gradient-conflict", "cosine freed of noise", "< -.2", _conflict, up=False),
)  # fmt: skip


def reached(margin: Margin, history: History) -> float | None:
    """The most faulty value of a run, over its steps and objectives."""
    values = (
        margin.of(history.until(step), objective)
        for step in history.steps
        for objective in history.objectives
    )
    return margin.extreme([v for v in values if v is not None])


def table(histories: Mapping[str, History]) -> Iterator[str]:
    """Lines of Markdown."""
    by_cause: dict[str | None, list[History]] = {}
    for name, history in histories.items():
        by_cause.setdefault(CASES[name.rpartition("-")[0]].cause, []).append(history)
    yield "| cause | statistic | act | healthy, at worst | with the fault | found at step |"
    yield "|---|---|---|---|---|---|"
    for margin in MARGINS:
        healthy = [reached(margin, h) for h in by_cause.get(None, [])]
        faulty = [reached(margin, h) for h in by_cause.get(margin.code, [])]
        steps = [_step(margin.code, h) for h in by_cause.get(margin.code, [])]
        worst = margin.extreme([v for v in healthy if v is not None])
        yield (
            f"| {margin.code} | {margin.what} | {margin.act} | {show(worst)} "
            f"| {_range([v for v in faulty if v is not None])} "
            f"| {_range([float(s) for s in steps if s is not None])} |"
        )


def _step(code: str, history: History) -> int | None:
    """Where the cause was first certain."""
    found = diagnose(history).findings
    return min(
        (f.step or 0 for f in found if f.code == code and f.severity is Severity.ACT), default=None
    )


def _range(values: list[float]) -> str:
    low, high = show(min(values, default=None)), show(max(values, default=None))
    return low if low == high else f"{low} to {high}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("histories", type=Path)
    for line in table(load(parser.parse_args().histories)):
        print(line)
