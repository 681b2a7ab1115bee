"""The trade-off of ``scripts/real_evidence.py`` as a figure: fairness against faithfulness.

    python scripts/figure_front.py benchmarks/results/real_people.json --out docs/figures/front.png

Every evaluation of every run is a small mark; a variant's means over seeds are joined in the order
of its steps, hollow where training begins. Needs the extra `figures`.
"""

import argparse
import json
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

from grpo_dual.evaluation.pareto import Point, front, hypervolume
from grpo_dual.report import colours
from grpo_dual.report.draw import need_matplotlib

MARKS = {"both": "o", "fairness": "s", "hallucination": "^", "pooled": "D"}


def by_step(runs: Mapping[str, Mapping[str, Any]]) -> dict[int, list[tuple[float, float]]]:
    """Step -> (fairness, faithfulness) of each seed."""
    found: dict[int, list[tuple[float, float]]] = defaultdict(list)
    for run in runs.values():
        for step, x, y in run["points"]:
            found[step].append((x, y))
    return dict(sorted(found.items()))


def draw(results: Mapping[str, Any], path: Path) -> None:
    """One panel, PNG or SVG by the ending of ``path``."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 4.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    runs: Mapping[str, Mapping[str, Any]] = results["runs"]
    points = [
        Point("", x, y) for own in runs.values() for r in own.values() for _, x, y in r["points"]
    ]
    for place, (name, own) in enumerate(runs.items()):
        colour, mark = colours.light(colours.series(place)), MARKS[name]
        steps = by_step(own)
        axes.plot(
            *zip(*(pair for pairs in steps.values() for pair in pairs), strict=True),
            linestyle="none", marker=mark, markersize=4, color=colour, alpha=0.35,
        )  # fmt: skip
        means = [tuple(map(fmean, zip(*pairs, strict=True))) for pairs in steps.values()]
        axes.plot(*zip(*means, strict=True), marker=mark, color=colour, linewidth=1.6, label=name)
        axes.plot(*means[0], marker=mark, color=colour, markerfacecolor="white")
    best = sorted({(p.x, p.y) for p in front(points)})
    axes.step(
        *zip(*best, strict=True), where="pre", color="#777777",
        linewidth=0.9, linestyle=(0, (3, 3)), marker="o", markersize=9,
        markerfacecolor="none", label="front of all evaluations",
    )  # fmt: skip
    seeds = max(map(len, runs.values()))
    axes.set_xlabel("fairness (larger is better)")
    axes.set_ylabel("faithfulness (larger is better)")
    axes.set_title(
        f"Means over {seeds} seeds by step, hollow before training; hypervolume of all "
        f"{hypervolume(points):.3f}", loc="left", fontsize=9.5,
    )  # fmt: skip
    axes.grid(color="#e4e4e4", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(frameon=False, fontsize=9, loc="outside lower center", ncols=5)
    figure.savefig(path, dpi=150)


def main() -> None:
    """Read, draw."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("results", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    need_matplotlib()
    draw(json.loads(args.results.read_text()), args.out)


if __name__ == "__main__":
    main()
