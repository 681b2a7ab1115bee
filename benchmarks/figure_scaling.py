"""The figure of a scaling sweep: seconds of a step by part, and its memory, along each axis.

    python benchmarks/figure_scaling.py --scaling benchmarks/results/scaling.json \
        --steps benchmarks/results/step_8b_16.json --out docs/figures/scaling.png

Needs the extra ``figures``. Rivals in results of ``step.py`` are marked where their size lies on an
axis through the base point; their prompts may be of another length, and the title says so.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

RESULTS = Path(__file__).resolve().parent / "results"
LABELS = {
    "k": "completions of a prompt (K)",
    "prompts": "prompts",
    "prompt_tokens": "tokens of a prompt",
    "new_tokens": "new tokens",
}
SIZE = "{prompts} prompts of {prompt_tokens} tokens, K {k}, {new_tokens} new tokens"
# Okabe and Ito's colours, which most colour-blind readers tell apart; marks differ too.
PARTS = {
    "step": ("whole step", "#000000", "o", "-"),
    "rollout": ("rollouts", "#0072B2", "s", "-"),
    "forward_backward": ("forward and backward", "#D55E00", "^", "-"),
    "reference": ("reference", "#009E73", "D", "-"),
    "update": ("update", "#CC79A7", "v", "-"),
}
MEMORY = "#56B4E9"
RIVAL = "#E69F00"
RIVALS = {
    "trl": ("TRL", "*"),
    "trl-vllm": ("TRL with vLLM", "X"),
    "trl-vllm-uncorrected": ("TRL with vLLM, uncorrected", "P"),
}
"""By their names in ``step.py``: label and mark."""


@dataclass(frozen=True, slots=True)
class Rival:
    """A rival's step beside ours of the same size."""

    name: str
    size: Mapping[str, float]
    """By axis; the mean where prompts differ in length."""
    seconds: float


def along(scaling: Mapping[str, Any], axis: str) -> list[Mapping[str, Any]]:
    """The points of an axis: all else is as in the base point. In its order."""
    base = scaling["base"]
    found = [
        point
        for point in scaling["points"]
        if all(point[name] == value for name, value in base.items() if name != axis)
    ]
    return sorted(found, key=lambda point: point[axis])


def rivals_of(result: Mapping[str, Any]) -> list[Rival]:
    """What a result of ``step.py`` says of its rivals; nothing of those that failed."""
    work = result["work"]
    lengths = work["prompt_lengths"]
    size = {
        "k": work["k"],
        "prompts": len(lengths),
        "prompt_tokens": sum(lengths) / len(lengths),
        "new_tokens": work["new_tokens"],
    }
    return [
        Rival(one["rival"], size, one["rival_step_s"])
        for one in (result, *result.get("others", ()))
        if one["rival_step_s"] is not None
    ]


def marks(rivals: Sequence[Rival], base: Mapping[str, float], axis: str) -> list[Rival]:
    """Rivals whose size lies on the axis, the prompts' length apart."""
    fixed = [name for name in base if name not in (axis, "prompt_tokens")]
    return [r for r in rivals if all(r.size[name] == base[name] for name in fixed)]


def panel(
    time: Axes, memory: Axes, scaling: Mapping[str, Any], axis: str, rivals: Sequence[Rival]
) -> None:
    """One axis: seconds above, memory below."""
    points = along(scaling, axis)
    good = [point for point in points if "failed" not in point]
    xs = [point[axis] for point in good]
    for part, (label, colour, mark, style) in PARTS.items():
        ys = [point["median_s"][part] for point in good]
        whole = part == "step"
        time.plot(
            xs, ys, style, color=colour, marker=mark, label=label,
            linewidth=2.2 if whole else 1.4, markersize=6 if whole else 4.5, zorder=3 + whole,
        )  # fmt: skip
    for point in good:
        time.annotate(
            f"{point['step_s']:.3g}", (point[axis], point["step_s"]), (0, 6),
            textcoords="offset points", ha="center", fontsize=8,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5}, zorder=2,
        )  # fmt: skip
    mark_rivals(time, scaling, axis, rivals)
    start = next((p for p in good if p[axis] == scaling["base"][axis]), None)
    if start is not None:
        x, y = start[axis], start["step_s"]
        time.axline(
            (x, y), (x * 1.1, y * 1.1), color="0.6", linestyle="--", linewidth=1,
            label="in proportion to the axis", zorder=1,
        )  # fmt: skip
    strike(time, points, axis)
    held = [(point[axis], point["peak_gib"]) for point in good if point["peak_gib"] is not None]
    if held:
        memory.plot(
            *zip(*held, strict=True), "-", color=MEMORY, marker="o", label="peak memory (strips)"
        )
    else:
        memory.text(0.5, 0.5, "not measured", transform=memory.transAxes, ha="center", va="center")
    dress(time, memory, axis, [point[axis] for point in points])


def mark_rivals(time: Axes, scaling: Mapping[str, Any], axis: str, rivals: Sequence[Rival]) -> None:
    """A mark for every rival on the axis."""
    for rival in marks(rivals, scaling["base"], axis):
        label, mark = RIVALS[rival.name]
        time.plot(
            rival.size[axis], rival.seconds, linestyle="", marker=mark, color=RIVAL,
            markersize=13 if mark == "*" else 7, markeredgecolor="black", markeredgewidth=0.6,
            zorder=5, clip_on=False, label=label,
        )  # fmt: skip


def strike(time: Axes, points: Sequence[Mapping[str, Any]], axis: str) -> None:
    """A dotted line for every point that failed."""
    failed = {p[axis]: p["failed"] for p in points if "failed" in p}
    for x, reason in failed.items():
        time.axvline(x, color="black", linestyle=":", linewidth=1)
        time.text(
            x, 0.98, "does not fit " if reason.startswith("out of memory") else "failed ",
            transform=time.get_xaxis_transform(), rotation=90,
            ha="right", va="top", fontsize=8,
        )  # fmt: skip


def dress(time: Axes, memory: Axes, axis: str, ticks: Sequence[float]) -> None:
    """Scales, ticks and labels."""
    time.set_yscale("log")
    time.set_xscale("log")
    plain = FuncFormatter(lambda value, _: f"{value:g}")
    time.yaxis.set_major_formatter(plain)
    time.margins(x=0.08, y=0.12)
    time.grid(axis="y", color="0.9", linewidth=0.8)
    time.set_ylabel("seconds")
    time.tick_params(labelbottom=False, which="both")
    memory.xaxis.set_major_locator(FixedLocator(sorted(set(ticks))))
    memory.xaxis.set_minor_locator(NullLocator())
    memory.xaxis.set_major_formatter(plain)
    memory.yaxis.set_major_locator(MaxNLocator(3, integer=True))
    memory.grid(axis="y", color="0.9", linewidth=0.8)
    memory.set_ylabel("GiB")
    memory.set_xlabel(LABELS[axis])


def draw(scaling: Mapping[str, Any], rivals: Sequence[Rival]) -> Figure:
    """Four panels, and a strip of memory under each."""
    mpl.rcParams.update({"font.size": 9.5, "axes.spines.top": False, "axes.spines.right": False})
    figure = Figure(figsize=(10, 8.6), layout="constrained")
    grid = figure.add_gridspec(4, 2, height_ratios=(3, 1, 3, 1))
    time = memory = None
    for place, axis in enumerate(LABELS):
        row, column = 2 * (place // 2), place % 2
        time = figure.add_subplot(grid[row, column], sharey=time)
        memory = figure.add_subplot(grid[row + 1, column], sharex=time, sharey=memory)
        panel(time, memory, scaling, axis, rivals)
    held = [p["peak_gib"] for p in scaling["points"] if p.get("peak_gib") is not None]
    if memory is not None:
        memory.set_ylim(0, 1.2 * max(held, default=1.0))
    handles = {
        label: handle
        for axes in figure.axes
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(
        handles.values(), handles.keys(), loc="outside lower center", ncols=4, frameon=False
    )
    machine, versions = scaling["machine"], scaling["versions"]
    lengths = sorted({round(rival.size["prompt_tokens"]) for rival in rivals})
    shown = f"; rivals: of {', '.join(map(str, lengths))} tokens on average" if lengths else ""
    figure.suptitle(
        f"A step of the {scaling['shape']} shape on {machine['device']}, {scaling['date']}, torch "
        f"{versions['torch']}\nOne axis at a time around {SIZE.format(**scaling['base'])}{shown}",
        fontsize=10.5,
    )
    return figure


def main() -> None:
    """Read, draw, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scaling", type=Path, default=RESULTS / "scaling.json")
    parser.add_argument("--steps", type=Path, nargs="*", default=[], help="results of step.py")
    parser.add_argument("--out", type=Path, default=Path("docs/figures/scaling.png"))
    args = parser.parse_args()
    rivals = [one for path in args.steps for one in rivals_of(json.loads(path.read_text()))]
    figure = draw(json.loads(args.scaling.read_text()), rivals)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(args.out, dpi=150)


if __name__ == "__main__":
    main()
