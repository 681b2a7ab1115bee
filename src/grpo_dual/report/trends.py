"""Columns over steps -> groups of panels: of one run by objective, of several runs by run."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from grpo_dual.diagnosis.history import Value
from grpo_dual.diagnosis.start import baseline_entropy
from grpo_dual.metrics import health, names
from grpo_dual.metrics.kinds import ObjectiveMetric, RunMetric
from grpo_dual.metrics.sinks import PROBES, evaluations
from grpo_dual.report.marks import marks
from grpo_dual.report.panels import Group, Level, Line, TimePanel
from grpo_dual.report.reading import Run
from grpo_dual.report.texts import label, number


@dataclass(frozen=True, slots=True)
class Quantity:
    """One panel, or one for each objective where there are several runs."""

    title: str
    unit: str
    metric: ObjectiveMetric | RunMetric
    share: bool = False
    level: Callable[[Run, str], tuple[str, float] | None] | None = None
    """A horizontal line of an objective, and its name."""
    probe: str | None = None
    """Key of the frozen probe's measurement of the same thing."""
    note: str = ""


def _target(run: Run, objective: str) -> tuple[str, float] | None:
    if run.history.setting(f"objectives.{objective}.kl.adaptive") is False:
        return None
    value = run.history.number(f"objectives.{objective}.kl.target")
    return None if value is None else ("target", value)


def _start(run: Run, objective: str) -> tuple[str, float] | None:
    value = baseline_entropy(run.history, objective)
    return None if value is None else ("H0", value)


REWARD = Quantity("Reward", "reward", names.REWARD_MEAN)
LENGTH = Quantity("Completion length", "tokens", names.GEN_LEN)
ENTROPY = Quantity("Entropy", "nats per token", names.ENTROPY, level=_start, probe="entropy")
KL = Quantity("KL to the reference", "nats per token", names.KL, level=_target)

_GROUPS: tuple[tuple[str, str, str, tuple[Quantity, ...]], ...] = (
    (
        "rewards",
        "Rewards",
        "Training's own score of the sampled completions. It rises when a reward is gamed, too: "
        "hold it against the held-out items above.",
        (
            REWARD,
            Quantity("Right or grounded", "share of completions", health.RIGHT_FRAC, share=True),
            Quantity(
                "Stereotyped answers", "share of completions", names.STEREOTYPED_FRAC, share=True
            ),
            Quantity(
                "Evasions on answerable prompts",
                "share of completions",
                names.EVASION_ANSWERABLE,
                share=True,
            ),
        ),
    ),
    (
        "lengths",
        "Lengths and truncation",
        "Completions that grow to their limit, or prompts that are cut, mean that something else "
        "than the answer is learnt.",
        (
            LENGTH,
            Quantity(
                "Cut completions", "share of completions", names.COMPLETION_TRUNC_FRAC, share=True
            ),
            Quantity("Shortened prompts", "share of prompts", names.TRUNC_FRAC, share=True),
            Quantity("No answer found", "share of completions", health.UNPARSED_FRAC, share=True),
        ),
    ),
    (
        "entropy",
        "Entropy and templates",
        "Entropy far below its start H0 together with one common wording is a collapse; low "
        "entropy of a policy that is right is none.",
        (
            ENTROPY,
            Quantity(
                "Commonest start of a completion",
                "share of completions",
                health.TEMPLATE_FRAC,
                share=True,
            ),
            Quantity("Equal completions", "share of pairs", health.DUPLICATE_FRAC, share=True),
        ),
    ),
    (
        "kl",
        "KL and beta",
        "How far each objective has moved the policy from the reference, and the coefficient that "
        "holds it.",
        (
            KL,
            Quantity("Beta", "coefficient of KL", names.BETA),
        ),
    ),
    (
        "signal",
        "Advantages and gradients",
        "What there is to learn from: groups whose rewards are all equal teach nothing, and "
        "gradients that point apart cost each other.",
        (
            Quantity("Gradient signal", "mean |advantage|", names.GRADIENT_SIGNAL),
            Quantity("Reward spread in a group", "std", names.REWARD_STD),
            Quantity("Dead groups", "share of groups", health.DEAD_FRAC, share=True),
            Quantity("Solved groups", "share of groups", names.SOLVED_FRAC, share=True),
            Quantity("Gradient norm", "L2", names.OBJECTIVE_GRAD_NORM),
            Quantity(
                "Conflict: cosine between the gradients",
                "cosine",
                names.GRAD_COSINE,
                level=lambda _run, _objective: ("no conflict", 0.0),
                note="Below 0, one objective's step undoes the other's.",
            ),
            Quantity("Clipped tokens", "share of tokens", names.CLIP_FRAC, share=True),
        ),
    ),
)


def trends(runs: Sequence[Run]) -> tuple[Group, ...]:
    """All groups; what was not measured or never moved is a note instead of a panel."""
    return tuple(_group(runs, *group) for group in _GROUPS)


def judging(runs: Sequence[Run]) -> Group:
    """Who judged: the share of each provider among the scored completions, and failures."""
    panels: list[TimePanel] = []
    notes: list[str] = []
    kinds = {
        "rule": names.BY_RULE,
        "offline judge": names.BY_HEURISTIC,
        "template detector": names.BY_TEMPLATE,
        "other (custom or named judge)": names.BY_OTHER,
    }
    for run in runs:
        for objective in run.history.objectives:
            shares = _shares({k: run.history.of(m, objective).values for k, m in kinds.items()})
            own = [
                Line(kind, slot, run.history.steps, values)
                for slot, (kind, values) in enumerate(shares.items())
                if any(values)
            ]
            title = f"{objective}: judged by" + (f", {run.name}" if len(runs) > 1 else "")
            if len(own) == 1 and own[0].constant:
                notes.append(f"{title} {own[0].label} throughout.")
            elif own:
                found = marks(run, objective)
                panels.append(
                    TimePanel(label(title, 80), "share", tuple(own), share=True, marks=found)
                )
    failures = Quantity("Unscored completions", "count", names.UNSCORED)
    drawn, said = _panels(runs, failures)
    return Group(
        "judges",
        "Who judged",
        "A completion that no judge could score is left out, never counted as 0.",
        (*panels, *drawn),
        (*notes, *said),
    )


def _shares(counts: Mapping[str, Sequence[Value]]) -> dict[str, tuple[Value, ...]]:
    """Counts by kind -> shares of their sum, step by step; None where nothing was counted."""
    rows = list(zip(*counts.values(), strict=True)) if all(counts.values()) else []
    sums = [sum(v or 0.0 for v in row) for row in rows]
    return {
        kind: tuple(
            None if not total or row[place] is None else (row[place] or 0.0) / total
            for row, total in zip(rows, sums, strict=True)
        )
        for place, kind in enumerate(counts)
    }


def _group(
    runs: Sequence[Run], key: str, title: str, says: str, quantities: Sequence[Quantity]
) -> Group:
    panels: list[TimePanel] = []
    notes: list[str] = []
    for quantity in quantities:
        drawn, said = _panels(runs, quantity)
        panels += drawn
        notes += said
    return Group(key, title, says, tuple(panels), tuple(notes))


def _panels(runs: Sequence[Run], quantity: Quantity) -> tuple[list[TimePanel], list[str]]:
    """The panels of a quantity, and what is said instead of those that show nothing."""
    if isinstance(quantity.metric, RunMetric):
        wanted = [_of_runs(runs, quantity, None)]
    elif len(runs) == 1:
        wanted = [of_one(runs[0], quantity)]
    else:
        objectives = dict.fromkeys(o for run in runs for o in run.history.objectives)
        wanted = [_of_runs(runs, quantity, objective) for objective in objectives]
    drawn: list[TimePanel] = []
    notes: list[str] = []
    for panel in wanted:
        known = [line for line in panel.lines if line.known]
        if not known:
            if _applies(quantity, panel):
                notes.append(f"{panel.title}: not measured.")
        elif all(line.constant for line in known):
            notes.append(f"{panel.title}: {panel.brief}")
        else:
            drawn.append(panel)
    return drawn, notes


def _applies(quantity: Quantity, panel: TimePanel) -> bool:
    """False for what only some objectives or runs can have."""
    return bool(panel.lines) and quantity.metric.only is None


def of_one(run: Run, quantity: Quantity) -> TimePanel:
    """A line for each objective that has the quantity."""
    lines: list[Line] = []
    levels: list[Level] = []
    for slot, name in enumerate(run.history.objectives):
        if quantity.metric.only not in (None, "judges", name):
            continue
        lines += _lines(run, quantity, name, label(name), slot)
        levels += _levels(run, quantity, name, f"{label(name)} ", slot)
    return TimePanel(
        quantity.title,
        quantity.unit,
        tuple(lines),
        quantity.share,
        _merged(levels),
        marks(run, None),
        quantity.note,
    )


def _of_runs(runs: Sequence[Run], quantity: Quantity, objective: str | None) -> TimePanel:
    """A line for each run."""
    lines: list[Line] = []
    levels: list[Level] = []
    several = len(runs) > 1
    for slot, run in enumerate(runs):
        if objective is not None and objective not in run.history.objectives:
            continue
        title = run.tag if several else quantity.title.partition(":")[0].lower()
        lines += _lines(run, quantity, objective, title, slot)
        levels += _levels(run, quantity, objective or "", f"{run.tag} " if several else "", slot)
    title = quantity.title + (f": {label(objective)}" if objective else "")
    own_marks = () if several else marks(runs[0], objective)
    return TimePanel(
        title,
        quantity.unit,
        tuple(lines),
        quantity.share,
        _merged(levels),
        own_marks,
        quantity.note,
    )


def _lines(
    run: Run, quantity: Quantity, objective: str | None, title: str, slot: int
) -> list[Line]:
    metric = quantity.metric
    history = run.history
    if isinstance(metric, RunMetric):
        return [Line(title, slot, history.steps, history.run(metric).values or _none(run))]
    name = objective or ""
    lines = [Line(title, slot, history.steps, history.of(metric, name).values or _none(run))]
    probed = _probed(run, name, quantity.probe) if quantity.probe else {}
    if probed:
        lines.append(
            Line(f"{title}, probe", slot, tuple(probed), tuple(probed.values()), points=True)
        )
    return lines


def _none(run: Run) -> tuple[None, ...]:
    return (None,) * len(run.history.steps)


def _probed(run: Run, objective: str, key: str) -> dict[int, float]:
    """What the frozen probe measured, by step."""
    found: dict[int, float] = {}
    for step, result in sorted(evaluations(run.folder / PROBES).items()):
        own = result.get(objective)
        value: object = own.get(key) if isinstance(own, dict) else None  # pyright: ignore
        if isinstance(value, float):
            found[step] = value
    return found


def _levels(run: Run, quantity: Quantity, objective: str, before: str, slot: int) -> list[Level]:
    found = quantity.level(run, objective) if quantity.level else None
    if found is None:
        return []
    name, value = found
    own = quantity.metric
    return [Level(f"{before}{name}", slot if isinstance(own, ObjectiveMetric) else None, value)]


def _merged(levels: Sequence[Level]) -> tuple[Level, ...]:
    """Levels at one height are one muted line."""
    if len(levels) > 1 and len({x.value for x in levels}) == 1:
        words = levels[0].label.split()[-1] if " " in levels[0].label else levels[0].label
        return (Level(words, None, levels[0].value),)
    return tuple(levels)


def spent(run: Run) -> tuple[tuple[str, ...], ...]:
    """What each judge of a run took: name and six numbers, as text."""
    rows: list[tuple[str, ...]] = []
    providers = run.history.setting("judge.providers")
    for name in providers if isinstance(providers, dict) else ():  # pyright: ignore
        judge = str(name)  # pyright: ignore
        columns = (
            names.JUDGES_VERDICTS,
            names.JUDGES_CACHE_HITS,
            names.JUDGES_CALLS,
            names.JUDGES_FAILED_CALLS,
            names.JUDGES_INPUT_TOKENS,
            names.JUDGES_OUTPUT_TOKENS,
            names.JUDGES_USD,
        )
        series = [run.history.column(metric.of(judge)) for metric in columns]
        rows.append((judge, *(number(s.total()) if s else "-" for s in series)))
    return tuple(rows)
