"""The result of ``grpo-dual eval`` on a terminal."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from grpo_dual.cli.output import table
from grpo_dual.evaluation.bbq_bias import SCORES
from grpo_dual.evaluation.pareto import AXIS
from grpo_dual.evaluation.results import HEADLINE

_VOID = 0.02
"""Share of unparsed answers above which BBQ's scores are not to be compared."""
_AXES = ("fairness", "faithfulness")
Json = Mapping[str, Any]


def show(result: Json, out: Console) -> None:
    """Print the tables of a result, see `grpo_dual.train.evaluating.carry_out`."""
    for target in result["targets"]:
        if "bbq" in target:
            _categories(target, out)
            _readings(target, out)
        if "halueval" in target:
            _halueval(target, out)
        if "retention" in target:
            _retention(target, out)
    _axes(result["targets"], out)


def _categories(target: Json, out: Console) -> None:
    """By what was written: unparsed answers wrong, and a line without them where there are any."""
    read = target["bbq"]["readings"][HEADLINE]
    title = f"{target['name']}: BBQ by generation, unparsed is wrong; 95 % intervals over templates"
    columns = ("category", *SCORES, "unparsed", "ambig", "disambig", "templates")
    made = table(title, columns, ("category",), out)
    for name, wrong in read["wrong"]["categories"].items():
        counts = [str(wrong[key]) for key in ("n_ambig", "n_disambig", "n_templates")]
        cells = [_cell(wrong[key], wrong["intervals_95"][key]) for key in SCORES]
        made.add_row(name, *cells, _cell(wrong["unparsed"]), *counts)
        if wrong["n_unparsed"]:
            left = read["exclude"]["categories"][name]
            cells = [_cell(left[key], left["intervals_95"][key]) for key in SCORES]
            made.add_row("  unparsed left out", *cells, "", "", "", "", style="dim")
    unparsed = any(own["n_unparsed"] for own in read["wrong"]["categories"].values())
    for policy, words in (("wrong", "mean over categories"), ("exclude", "  unparsed left out")):
        if policy == "wrong" or unparsed:
            means, spread = read[policy]["macro"], read[policy]["macro_intervals_95"]
            cells = [_cell(means[key], spread[key]) for key in SCORES]
            style = "bold" if policy == "wrong" else "dim"
            made.add_row(words, *cells, "", "", "", "", style=style)
    out.print(made)
    for name, scores in read["wrong"]["categories"].items():
        if scores["unparsed"] is not None and scores["unparsed"] > _VOID:
            told = f"{scores['unparsed']:.1%} unparsed; above {_VOID:.0%} scores are not comparable"
            out.print(f"{name}: {told}", markup=False, highlight=False, soft_wrap=True)


def _readings(target: Json, out: Console) -> None:
    title = f"{target['name']}: BBQ by reading, means over categories"
    made = table(title, ("reading", *SCORES, "axis"), ("reading",), out)
    for name, read in target["bbq"]["readings"].items():
        means, spread = read["wrong"]["macro"], read["wrong"]["macro_intervals_95"]
        made.add_row(name, *(_cell(means[key], spread[key]) for key in (*SCORES, AXIS)))
    out.print(made)


_OPEN = ("grounded", "abstains", "hallucinated", "hallucinated_answering", "no_verdict")
_DETECTION = ("accuracy", "balanced_accuracy", "invalid", "null_shorter")
_PAIRS = ("sum", "mean", "sum_balanced", "mean_balanced", "null_shorter")
_RETENTION = (
    ("texts", ("perplexity", "nats_per_byte")),
    ("questions", ("refused", "refused_people", "right", "empty")),
)


def _halueval(target: Json, out: Console) -> None:
    found = target["halueval"]
    if "open" in found:
        title = f"{target['name']}: HaluEval, answers judged by {found['open']['judged_by']}"
        made = table(title, ("subset", *_OPEN, "n"), ("subset",), out)
        _subsets(made, found["open"], _OPEN, "")
        out.print(made)
    if "detection" in found:
        title = f"{target['name']}: HaluEval, hallucinations recognised (yes or no)"
        made = table(title, ("subset", *_DETECTION, "n"), ("subset",), out)
        for name, own in found["detection"].items():
            _subsets(made, own, _DETECTION, f"{name}: ")
        out.print(made)
    if "pairs" in found:
        title = f"{target['name']}: HaluEval, the accepted side is the likelier one"
        made = table(title, ("subset", *_PAIRS, "n"), ("subset",), out)
        _subsets(made, found["pairs"], _PAIRS, "")
        out.print(made)


def _subsets(made: Table, found: Json, keys: tuple[str, ...], lead: str) -> None:
    """A row for each subset, and one for all of them."""
    for name, own in (*found["by_subset"].items(), ("all", found)):
        cells = [_cell(own[key], own["intervals_95"][key]) for key in keys if key in own]
        count = str(max(own["n"].values()))
        made.add_row(f"{lead}{name}", *cells, count, style="bold" if own is found else "")


def _retention(target: Json, out: Console) -> None:
    made = table(f"{target['name']}: retention", ("score", "value", "n"), ("score",), out)
    for part, keys in _RETENTION:
        own = target["retention"][part]
        for key in keys:
            made.add_row(key, _cell(own[key], own["intervals_95"][key]), str(own["n"][key]))
    out.print(made)


def _axes(targets: list[Json], out: Console) -> None:
    """Both axes, and how far each target lies from the first."""
    if all(value is None for target in targets for value in target["axes"].values()):
        return
    several = len(targets) > 1
    columns = ("target", *_AXES, *(f"{axis} - first" for axis in _AXES if several))
    made = table("Axes, larger is better", columns, ("target",), out)
    for target in targets:
        cells = [_cell(target["axes"][a], target["axes_intervals_95"][a]) for a in _AXES]
        if several:
            cells += [_gap(gap) for gap in _gaps(target.get("minus_first"))]
        made.add_row(target["name"], *cells)
    out.print(made)


def _gaps(difference: Json | None) -> tuple[Json | None, Json | None]:
    if difference is None:
        return None, None
    bbq, halueval = difference.get("bbq"), difference.get("halueval")
    return (
        None if bbq is None else bbq[HEADLINE]["macro"][AXIS],
        None if halueval is None or "open" not in halueval else halueval["open"]["grounded"],
    )


def _gap(found: Json | None) -> str:
    if found is None or found["value"] is None:
        return "-"
    return f"{found['value']:+.4f}{_ends(found['interval_95'])}"


def _cell(value: float | None, interval: tuple[float, float] | None = None) -> str:
    return "-" if value is None else f"{value:z.4f}{_ends(interval)}"


def _ends(interval: tuple[float, float] | None) -> str:
    return "" if interval is None else f" [{interval[0]:z.2f}, {interval[1]:z.2f}]"
