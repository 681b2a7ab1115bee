"""Both objectives with a KL branch each, either alone, and both pooled, on real rows: the table.

    python scripts/pretrain_real.py --config configs/real-small.yaml --out runs/real/model \
        --seconds 90 300 60
    python scripts/real_evidence.py --model runs/real/model --out runs/real --jobs 4

Every variant starts from the same model, warms up by SFT on the same number of batches, and draws
the same number of completions; seeds differ in data order and initial adapter, and are held to the
same items; the model as it comes is evaluated on them too. Writes a configuration for each variant
(OUT/configs), its runs (OUT/runs), and OUT/results.json: the configurations, scores before and
after with t intervals over seeds, hypervolumes of the runs' fronts, and of both what the branched
runs have minus the others', paired by seed. Finished runs are not trained again.
"""

import argparse
import concurrent.futures
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from grpo_dual.evaluation.over_seeds import seed_difference, seed_mean
from grpo_dual.evaluation.pareto import AXIS, Point, hypervolume
from grpo_dual.metrics.sinks import EVALUATIONS, SUMMARY, evaluations

ROOT = Path(__file__).resolve().parent.parent
OBJECTIVES = ("fairness", "hallucination")
VARIANTS = ("both", "fairness", "hallucination", "pooled")
SHOWN = {
    "fairness": (
        "accuracy_ambig",
        "accuracy_disambig",
        "s_amb",
        "s_dis",
        "unparsed",
        "evasion_disambig",
        "n_person_disambig",
        AXIS,
    ),
    "hallucination": ("grounded", "hallucinated", "abstains"),
}


def variant(base: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The configuration of a variant, with as many prompts a step as the others.

    An objective that is not trained keeps one prompt a step, of weight 0: it is evaluated.
    """
    config: dict[str, Any] = json.loads(json.dumps(base))
    objectives: dict[str, Any] = config["objectives"]
    prompts = sum(own["prompts_per_step"] for own in objectives.values())
    config["name"] = name
    if name == "both":
        return config
    idle = [own for own in OBJECTIVES if own != name]
    for own in idle:
        objectives[own] |= {"prompts_per_step": 1, "weight": 0.0}
    if name in objectives:
        objectives[name]["prompts_per_step"] = prompts - len(idle)
        return config
    data = {own: objectives[own]["data"] for own in OBJECTIVES}
    objectives["pooled"] = {
        "kind": "plugin",
        "factory": "pooled:Pooled",
        "prompts_per_step": prompts - len(idle),
        "kl": {**objectives["fairness"]["kl"], "adaptive": False},
        "settings": {
            "bbq": data["fairness"]["path"],
            "halueval": data["hallucination"]["path"],
            "split_by": data["fairness"].get("split_by", "templates"),
        },
    }
    config["advantage"] = {"normalization": "batch"}
    return config


def train(config: Path, seed: int, out: Path, flags: Sequence[str]) -> str:
    """A run in a process of its own, unless it is there already.

    Returns:
        Its command.

    Raises:
        CalledProcessError: It failed; its output is in a file beside its folder.
    """
    command = [
        "grpo-dual", "train", str(config), "--train.seed", str(seed), "--out", str(out), *flags,
    ]  # fmt: skip
    # Where the pooled objective lives.
    shown = f"PYTHONPATH=scripts {shlex.join(command)}"
    if not list(out.glob(f"*/{SUMMARY}")):
        out.mkdir(parents=True, exist_ok=True)
        path = os.pathsep.join([str(ROOT / "scripts"), os.environ.get("PYTHONPATH", "")])
        with (out / "log.txt").open("w") as log:
            subprocess.run(
                [sys.executable, "-m", "grpo_dual", *command[1:]],
                check=True, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "2"},
            )  # fmt: skip
    return shown


def pretrained(model: str, config: Path, out: Path) -> dict[str, Any]:
    """The model as it comes, on the items that the runs are held to: they start behind SFT.

    Returns:
        Its command, axes with intervals over templates, and BBQ's means over categories.

    Raises:
        CalledProcessError: ``grpo-dual eval`` failed.
    """
    command = [
        "grpo-dual", "eval", model, "--config", str(config), "--only", "bbq", "--only", "open",
        "--json", str(out),
    ]  # fmt: skip
    if not out.exists():
        subprocess.run(
            [sys.executable, "-m", "grpo_dual", *command[1:]],
            check=True, cwd=ROOT, stdout=subprocess.DEVNULL,
        )  # fmt: skip
    (found,) = json.loads(out.read_text())["targets"]
    readings = {name: own["wrong"] for name, own in found["bbq"]["readings"].items()}
    answers = ("grounded", "hallucinated", "hallucinated_answering", "abstains")
    return {
        "command": shlex.join(command),
        **{key: found[key] for key in ("axes", "axes_intervals_95")},
        **{key: readings["generation"][key] for key in ("macro", "macro_intervals_95")},
        "by_likelihood": {n: own["macro"] for n, own in readings.items() if n != "generation"},
        "answers": {key: found["halueval"]["open"][key] for key in answers},
    }


def measured(out: Path) -> dict[str, Any]:
    """Before, after, the axes of every evaluation, and the hypervolume of their front."""
    (summary,) = out.glob(f"*/{SUMMARY}")
    found = evaluations(summary.parent / EVALUATIONS)
    steps = sorted(found)
    points = [
        Point(str(step), *(float(found[step][own][AXIS]) for own in OBJECTIVES)) for step in steps
    ]
    return {
        "before": _scores(found[steps[0]]),
        "after": _scores(found[steps[-1]]),
        "points": [[int(p.name), p.x, p.y] for p in points],
        "hypervolume": hypervolume(points),
        "seconds": json.loads(summary.read_text())["wall_seconds"],
    }


def _scores(result: Mapping[str, Any]) -> dict[str, float | None]:
    return {f"{own}.{key}": result[own].get(key) for own, keys in SHOWN.items() for key in keys}


def summarised(runs: Mapping[str, Mapping[int, dict[str, Any]]]) -> dict[str, Any]:
    """Means and intervals over seeds, and the differences that are asked for."""
    over: dict[str, Any] = {}
    for name, by_seed in runs.items():
        keys = next(iter(by_seed.values()))["after"]
        over[name] = {
            when: {
                key: None if None in values else asdict(seed_mean(values))
                for key in keys
                for values in [[run[when][key] for run in by_seed.values()]]
            }
            for when in ("before", "after")
        }
        areas = [run["hypervolume"] for run in by_seed.values()]
        over[name]["hypervolume"] = asdict(seed_mean(areas))
    areas = {name: {s: r["hypervolume"] for s, r in own.items()} for name, own in runs.items()}
    others = [name for name in runs if name != "both" and "both" in runs]
    return {
        "over_seeds": over,
        "hypervolume_differences": {
            f"both - {name}": asdict(seed_difference(areas["both"], areas[name])) for name in others
        },
        "after_differences": {
            f"both - {name}": dict(_differences(runs["both"], runs[name])) for name in others
        },
    }


def _differences(
    one: Mapping[int, Mapping[str, Any]], two: Mapping[int, Mapping[str, Any]]
) -> Iterator[tuple[str, Any]]:
    """Of all scores behind the last step, paired by seed where both have them."""
    for key in next(iter(one.values()))["after"]:
        sides = [{seed: run["after"][key] for seed, run in own.items()} for own in (one, two)]
        if not any(None in side.values() for side in sides):
            yield key, asdict(seed_difference(*sides))


def table(summary: Mapping[str, Any]) -> Iterator[str]:
    """Markdown: before (of all variants alike) and after, mean and interval."""
    keys = [f"{own}.{key}" for own, keys in SHOWN.items() for key in keys]
    yield "| variant | " + " | ".join(keys) + " | hypervolume |"
    yield "|---" * (len(keys) + 2) + "|"
    for name, found in summary["over_seeds"].items():
        for when in ("before", "after"):
            cells = [_cell(found[when][key]) for key in keys]
            area = _cell(found["hypervolume"]) if when == "after" else ""
            yield f"| {name}, {when} | " + " | ".join(cells) + f" | {area} |"


def _cell(of: Mapping[str, Any] | None) -> str:
    if of is None:
        return "-"
    interval = of["interval"]
    return f"{of['mean']:.3f}" + (f" [{interval[0]:.3f}, {interval[1]:.3f}]" if interval else "")


def main() -> int:
    """Train what is missing, summarise, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", type=Path, default=ROOT / "configs" / "real-small.yaml")
    parser.add_argument("--model", required=True, help="folder of the pretrained model")
    parser.add_argument("--split-by", choices=("templates", "people"), default="templates")
    parser.add_argument("--out", type=Path, default=Path("runs/real"))
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=VARIANTS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--jobs", type=int, default=1, help="runs at the same time")
    args, flags = parser.parse_known_args()
    configs = args.out / "configs"
    configs.mkdir(parents=True, exist_ok=True)
    base = yaml.safe_load(args.config.read_text())
    base["model"]["name"] = args.model
    base["objectives"]["fairness"]["data"]["split_by"] = args.split_by
    cells = [(name, seed) for seed in args.seeds for name in args.variants]
    for name in dict.fromkeys(("both", *args.variants)):
        (configs / f"{name}.yaml").write_text(yaml.safe_dump(variant(base, name), sort_keys=False))

    def one(cell: tuple[str, int]) -> str:
        name, seed = cell
        own = args.out / "runs" / f"{name}-{seed}"
        return train(configs / f"{name}.yaml", seed, own, flags)

    with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        commands = list(pool.map(one, cells))
    runs: dict[str, dict[int, dict[str, Any]]] = {name: {} for name in args.variants}
    for (name, seed), command in zip(cells, commands, strict=True):
        found = measured(args.out / "runs" / f"{name}-{seed}")
        runs[name][seed] = {"command": command, **found}
    before = pretrained(args.model, configs / "both.yaml", args.out / "model.json")
    made = {n: yaml.safe_load((configs / f"{n}.yaml").read_text()) for n in args.variants}
    summary = {"configs": made, "pretrained": before, **summarised(runs)}
    (args.out / "results.json").write_text(json.dumps({**summary, "runs": runs}, indent=1) + "\n")
    print("pretrained:", ", ".join(f"{k} {v:.3f}" for k, v in before["axes"].items()))
    print("\n".join(table(summary)))
    for name, gap in summary["hypervolume_differences"].items():
        print(f"hypervolume, {name}: {_cell(gap)} ({gap['method']})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
