"""Reproduce the collapse and its recovery on the embedded model, check both and draw figure 1.

    python scripts/figure_collapse.py --seeds 0 1 2 --out runs/collapse

Trains configs/collapse.yaml and configs/recovered.yaml with every seed, one run after another,
holds each to the criteria below and to what the doctor should say of it, prints the table and
writes OUT/collapse.json and the figure. Then the collapsed policies are drawn from under the
rewards of configs/recovered.yaml, to see whether these would still teach them something. Further
flags go to `grpo-dual train`. With --reuse, runs that OUT already has are not trained again. Exit
code 1 when a criterion is not met.
"""

import argparse
import csv
import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from grpo_dual.config.load import load_config
from grpo_dual.diagnosis.doctor import Watch
from grpo_dual.diagnosis.reading import read_run
from grpo_dual.diagnosis.tree import STEP
from grpo_dual.metrics.health import DEAD_FRAC, TEMPLATE_FRAC
from grpo_dual.metrics.sinks import PROBES, STEP_CSV, SUMMARY, evaluations
from grpo_dual.metrics.values import Fraction
from grpo_dual.rollouts.collect import collect
from grpo_dual.train.saving import Saver
from grpo_dual.train.wiring import build

ROOT = Path(__file__).resolve().parent.parent
CONFIGS = ("collapse", "recovered")
OBJECTIVES = ("fairness", "hallucination")
LAST = 10
"""Steps at the end over which dead groups are counted."""
CAUSE = "forced-length"
"""What the doctor should name in the broken run."""
STRANDED = 32
"""Prompts of each objective that a collapsed policy is asked under the rewards that mend."""
MINUS_MATPLOTLIB = (
    "matplotlib is missing: python -m pip install 'grpo-dual[figures]' (or, in this folder, "
    "python -m pip install -e '.[figures]')"
)


@dataclass(frozen=True, slots=True)
class Curve:
    """A quantity over steps."""

    steps: tuple[int, ...]
    values: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Doctored:
    """What the doctor says of a run as it goes on."""

    first: str
    """The cause it names first behind step 20; empty without any."""
    found: int
    """Findings of its rules at any step; the pre-flight's are not among them."""
    holding: int
    """Most findings, the pre-flight's too, that hold behind any one step from 20 on."""


@dataclass(frozen=True, slots=True)
class Run:
    """What one run measured."""

    config: str
    seed: int
    seconds: float
    """Of training, probes included, loading not."""
    folder: str
    entropy: Mapping[str, Curve]
    """Objective -> probe entropy over its value before step 1."""
    h0: Mapping[str, float]
    """Objective -> probe entropy before step 1, nats/token."""
    template: Mapping[str, Curve]
    """Objective -> template rate of the probe."""
    evasion: Mapping[str, Curve]
    """Objective -> share of evasions on answerable items of the probe."""
    gold: Mapping[str, Curve]
    """Objective -> BBQ accuracy (mean of both conditions), or grounded answers, of the probe."""
    dead: Mapping[str, Curve]
    """Objective -> share of groups alike and not solved."""
    on_answerable: Mapping[str, float]
    """Objective -> share of training completions to answerable prompts with one common start, mean
    of the last steps. The probe's template rate counts all prompts, those too whose right answer
    has one wording."""
    doctor: Doctored


@dataclass(frozen=True, slots=True)
class Criterion:
    """One demand on one run."""

    config: str
    seed: int
    objective: str
    name: str
    value: float
    sense: str
    bound: float

    @property
    def met(self) -> bool:
        """Does the value stand within its bound?"""
        return {
            ">=": self.value >= self.bound,
            "<=": self.value <= self.bound,
            ">": self.value > self.bound,
        }[self.sense]


def train(config: str, seed: int, out: Path, flags: Sequence[str], *, reuse: bool) -> Run:
    """One run in a process of its own (or the last finished one of OUT), and what it measured."""
    own = out / config / f"seed-{seed}"
    done = sorted(folder.parent for folder in own.glob(f"*/{SUMMARY}"))
    if not (reuse and done):
        command = [
            sys.executable, "-m", "grpo_dual", "train", str(ROOT / "configs" / f"{config}.yaml"),
            "--train.seed", str(seed), "--out", str(own), *flags,
            *(["--force"] if config == "collapse" else []),  # the pre-flight refuses it
        ]  # fmt: skip
        subprocess.run(command, check=True, cwd=ROOT, stdout=sys.stderr)
        done = [folder.parent for folder in own.glob(f"*/{SUMMARY}") if folder.parent not in done]
    return read(config, seed, done[-1])


def read(config: str, seed: int, folder: Path) -> Run:
    """What a finished run measured."""
    summary = json.loads((folder / SUMMARY).read_text())
    probes: dict[int, Any] = evaluations(folder / PROBES)
    with (folder / STEP_CSV).open(newline="") as file:
        rows = list(csv.DictReader(file))

    def probed(of: Callable[[dict[str, Any]], float]) -> dict[str, Curve]:
        return {
            name: Curve(tuple(probes), tuple(of(result[name]) for result in probes.values()))
            for name in OBJECTIVES
        }

    entropy = probed(lambda result: result["entropy"])
    h0 = {name: curve.values[0] for name, curve in entropy.items()}
    return Run(
        config=config,
        seed=seed,
        seconds=round(summary["wall_seconds"], 1),
        folder=str(folder),
        entropy={
            name: Curve(curve.steps, tuple(value / h0[name] for value in curve.values))
            for name, curve in entropy.items()
        },
        h0=h0,
        template=probed(lambda result: result["template_rate"]),
        evasion=probed(lambda result: result["evasion_answerable"]),
        gold=probed(lambda result: gold(result["scores"])),
        dead={
            name: Curve(
                tuple(int(row["step"]) for row in rows),
                tuple(float(row[DEAD_FRAC.of(name)]) for row in rows),
            )
            for name in OBJECTIVES
        },
        on_answerable={
            name: fmean(float(row[TEMPLATE_FRAC.of(name)] or 0) for row in rows[-LAST:])
            for name in OBJECTIVES
        },
        doctor=doctored(folder),
    )


def doctored(folder: Path) -> Doctored:
    """Ask the doctor behind every step."""
    history = read_run(folder)
    watch, first, found, holding = Watch(history.before), "", 0, 0
    for step in history.steps:
        found += len(watch.see(history.until(step)))
        present = watch.diagnosis.present
        if step == STEP:
            first = present[0].code if present else ""
        if step >= STEP:
            holding = max(holding, len(present))
    return Doctored(first, found, holding)


def gold(scores: Mapping[str, float]) -> float:
    """BBQ: mean accuracy of both conditions. HaluEval: share of grounded answers."""
    if "grounded" in scores:
        return scores["grounded"]
    return (scores["accuracy_ambig"] + scores["accuracy_disambig"]) / 2


def stranded(run: Run, flags: Sequence[str]) -> dict[str, float | None]:
    """Groups of a collapsed policy that are dead under the rewards and lengths that mend.

    Returns:
        Objective -> their share among ``STRANDED`` groups.
    """
    mended = ROOT / "configs" / "recovered.yaml"
    config = load_config(mended, ["--train.seed", str(run.seed), *flags])
    parts = build(config)
    Saver(Path(run.folder), config.checkpoint).restore(parts)
    shares: dict[str, float | None] = {}
    for name, objective in parts.objectives.items():
        prompts = [parts.prompt(objective, record) for record in objective.draw(STRANDED)]
        groups = collect(parts.engine, prompts, config.rollout.group_size).groups
        dead: list[bool] = []
        for group in groups:
            scores = objective.score(group)
            best = objective.best(group.prompt.record)
            solved = all(score.parts["task"] >= best for score in scores)
            dead.append(len({score.total for score in scores}) == 1 and not solved)
        shares[name] = Fraction.of(dead).value
    return shares


def criteria(run: Run) -> list[Criterion]:
    """What the run must show, objective by objective."""
    found: list[Criterion] = []
    for name in OBJECTIVES:
        first, last = run.gold[name].values[0], run.gold[name].values[-1]
        demands: tuple[tuple[str, float, str, float], ...] = (
            ("template rate on answerable prompts", run.on_answerable[name], "<=", 0.10),
            ("evasions on answerable items", run.evasion[name].values[-1], "<=", 0.10),
            ("gain in gold score", last - first, ">", 0.0),
        )
        if run.config == "collapse":
            demands = (
                ("template rate", run.template[name].values[-1], ">=", 0.80),
                ("dead groups", fmean(run.dead[name].values[-LAST:]), ">=", 0.80),
                ("probe entropy over H0", run.entropy[name].values[-1], "<=", 0.25),
            )
        found += [Criterion(run.config, run.seed, name, *demand) for demand in demands]
    said = run.doctor
    wanted: tuple[tuple[str, float, str, float], ...] = (
        ("findings of the doctor's rules", said.found, "<=", 0),
        ("findings that hold from step 20 on", said.holding, "<=", 0),
    )
    if run.config == "collapse":
        wanted = (("forced-length named first by step 20", said.first == CAUSE, ">=", 1),)
    return found + [Criterion(run.config, run.seed, "both", *demand) for demand in wanted]


def table(runs: Sequence[Run]) -> str:
    """What each run ended with, as a Markdown table."""
    head = (
        "config", "seed", "objective", "H0 (nats)", "H/H0", "template", "dead", "evasions", "gold",
    )  # fmt: skip
    rows = [
        (
            run.config,
            str(run.seed),
            name,
            f"{run.h0[name]:.3f}",
            f"{run.entropy[name].values[-1]:.2f}",
            _change(run.template[name]),
            f"{fmean(run.dead[name].values[-LAST:]):.2f}",
            _change(run.evasion[name]),
            _change(run.gold[name]),
        )
        for run in runs
        for name in OBJECTIVES
    ]
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _change(curve: Curve) -> str:
    return f"{curve.values[0]:.2f} -> {curve.values[-1]:.2f}"


def figure(runs: Sequence[Run], path: Path) -> None:
    """Four quantities, mean of the two objectives; seeds as thin lines, their mean thick."""
    from matplotlib import pyplot

    panels: tuple[tuple[str, Callable[[Run], Mapping[str, Curve]]], ...] = (
        ("probe entropy over its start", lambda run: run.entropy),
        ("template rate", lambda run: run.template),
        ("dead groups", lambda run: run.dead),
        ("gold score", lambda run: run.gold),
    )
    style = {"collapse": ("#c1272d", "broken"), "recovered": ("#0b6aa2", "with A and B")}
    drawn, axes = pyplot.subplots(1, len(panels), figsize=(13, 3.4), layout="constrained")
    for axis, (title, of) in zip(axes, panels, strict=True):
        for config, (colour, label) in style.items():
            curves = [pooled(of(run)) for run in runs if run.config == config]
            for curve in curves:
                axis.plot(curve.steps, curve.values, color=colour, linewidth=0.7, alpha=0.45)
            mean = Curve(
                curves[0].steps,
                tuple(fmean(at) for at in zip(*(c.values for c in curves), strict=True)),
            )
            axis.plot(mean.steps, mean.values, color=colour, linewidth=2.4, label=label)
        axis.set_title(title, fontsize=11)
        axis.set_xlabel("step")
        axis.set_ylim(-0.03, 1.13 if title.startswith("probe") else 1.03)
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].axhline(0.25, color="0.4", linewidth=0.8, linestyle=":")
    axes[0].text(1, 0.26, "a quarter", color="0.4", fontsize=8, va="bottom")
    axes[-1].legend(frameon=False, fontsize=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    drawn.savefig(path, dpi=150)
    pyplot.close(drawn)


def pooled(curves: Mapping[str, Curve]) -> Curve:
    """Mean of the objectives, step by step."""
    own = list(curves.values())
    values = zip(*(curve.values for curve in own), strict=True)
    return Curve(own[0].steps, tuple(fmean(at) for at in values))


def main() -> int:
    """Train, check, write and draw."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("runs/collapse"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--figure", type=Path, default=ROOT / "docs" / "figures" / "collapse.png")
    parser.add_argument("--reuse", action="store_true")
    args, flags = parser.parse_known_args()
    try:
        import matplotlib
    except ImportError:
        print(MINUS_MATPLOTLIB, file=sys.stderr)
        return 1
    matplotlib.use("Agg")
    runs = [
        train(config, seed, args.out, flags, reuse=args.reuse)
        for seed in args.seeds
        for config in CONFIGS
    ]
    found = [criterion for run in runs for criterion in criteria(run)]
    result = {
        "criteria": [{**asdict(c), "met": c.met} for c in found],
        "stranded": {run.seed: stranded(run, flags) for run in runs if run.config == "collapse"},
        "runs": [
            {key: value for key, value in asdict(run).items() if key != "folder"} for run in runs
        ],
    }
    (args.out / "collapse.json").write_text(json.dumps(result, indent=1) + "\n")
    figure(runs, args.figure)
    print(table(runs))
    for seed, shares in result["stranded"].items():
        told = ", ".join(f"{name} {share:.0%}" for name, share in shares.items())
        print(f"seed {seed}, collapsed: groups that are dead under recovered.yaml too: {told}")
    for criterion in found:
        if not criterion.met:
            print(
                f"NOT MET: {criterion.config}, seed {criterion.seed}, {criterion.objective}: "
                f"{criterion.name} is {criterion.value:.2f}, not {criterion.sense} "
                f"{criterion.bound}"
            )
    print(f"{sum(c.met for c in found)} of {len(found)} criteria met; figure: {args.figure}")
    return 0 if all(c.met for c in found) else 1


if __name__ == "__main__":
    sys.exit(main())
