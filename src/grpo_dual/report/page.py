"""Runs -> one HTML page that needs nothing else: no network, no script, no other file."""

import importlib.metadata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from grpo_dual.diagnosis.page import summary, title, tree_text, yaml_lines
from grpo_dual.metrics.files import write_atomically
from grpo_dual.report import colours, draw, evaluated, marks, pictures, tables, trends
from grpo_dual.report.evaluated import Evaluation
from grpo_dual.report.headline import Verdict, cost, sentence, verdicts
from grpo_dual.report.panels import Group, Panel
from grpo_dual.report.reading import MANY, Run
from grpo_dual.report.samples import both, side_by_side
from grpo_dual.report.seeds import drawn_together, teams
from grpo_dual.report.settings import compared, differences
from grpo_dual.report.texts import number, shown, visible

_FOLDER = Path(__file__).parent / "templates"
_PAGE, _STYLE = "page.html.j2", "style.css"
_APART = ("held", "evaluation", "findings")
"""Beginnings of the keys of groups that are no section of their own."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A panel as the page holds it."""

    panel: Panel
    anchor: str
    svg: Markup


def write_report(
    runs: Sequence[Run],
    out: Path,
    *,
    compare: bool = False,
    png: Path | None = None,
    evaluation: Evaluation | None = None,
) -> None:
    """Write the page, and its figures as PNG where a folder is given.

    Args:
        runs: One or several, from ``reading.read_runs``.
        out: The HTML file.
        compare: Of two runs: what differs comes first, and a table pairs their measures.
        png: Folder of the PNG files, which exists.
        evaluation: A result of ``grpo-dual eval`` to be shown beside the runs' own.

    Raises:
        CheckpointError: A file cannot be written.
    """
    found = groups(runs, evaluation)
    text = render(runs, found, compare=compare, evaluation=evaluation)
    write_atomically(out, text.encode())
    if png is not None:
        for group in found:
            if group.panels:
                of_one = group.key.startswith("findings")
                draw.png(group, png / f"{group.key}.png", "" if of_one else _key(runs))


def _key(runs: Sequence[Run]) -> str:
    """What letters of a figure stand for; nothing where it has names."""
    return ", ".join(run.name for run in runs if run.tag != run.name)


def groups(runs: Sequence[Run], evaluation: Evaluation | None = None) -> tuple[Group, ...]:
    """All figures: held-out first, findings, then training."""
    evaluated_group = () if evaluation is None else (evaluated.group(evaluation),)
    front = pictures.trade_off(runs)
    held = Group(
        "held-out",
        "Held-out items",
        "Items that were never trained on, before training and after it.",
        (*pictures.before_after(runs), *([front] if front else [])),
        () if front else ("No trade-off: it needs the axis of two objectives.",),
    )
    found = teams(runs)
    training = (drawn_together(group, found) for group in trends.trends(runs))
    return (
        drawn_together(held, found),
        *evaluated_group,
        *_findings(runs),
        *training,
        trends.judging(runs),
    )


def _findings(runs: Sequence[Run]) -> Iterator[Group]:
    title = "Findings over steps"
    for place, run in enumerate(runs):
        line = marks.timeline(run, title if len(runs) == 1 else f"{title}: {run.name}")
        if line is not None:
            key = "findings" if len(runs) == 1 else f"findings-{place + 1}"
            yield Group(key, title, "", (line,))


def render(
    runs: Sequence[Run],
    found: Sequence[Group],
    *,
    compare: bool,
    evaluation: Evaluation | None = None,
) -> str:
    """The page as text. Everything but our own SVG and style is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    own: dict[str, Any] = {"shown": shown, "visible": visible, "number": number}
    environment.filters.update(own)  # pyright: ignore[reportUnknownMemberType]
    drawn = {group.key: _figures(group) for group in found}
    by_key = {group.key: group for group in found}
    several = len(runs) > 1
    return environment.get_template(_PAGE).render(
        title=f"{runs[0].name} and {runs[1].name}" if compare else _title(runs),
        version=importlib.metadata.version("grpo-dual"),
        style=Markup((_FOLDER / _STYLE).read_text(encoding="utf-8")),  # our own file
        light=Markup(colours.variables(dark=False)),  # constants
        dark=Markup(colours.variables(dark=True)),  # constants
        runs=[_run(run, drawn, place if several else None) for place, run in enumerate(runs)],
        held=by_key["held-out"],
        evaluation=None if evaluation is None else _evaluation(evaluation, by_key),
        training=[g for g in found if g.key.split("-")[0] not in _APART],
        figures=drawn,
        basis=tables.intervals_of(runs),
        paired=tables.paired(runs[0], runs[1]) if compare else None,
        differences=differences(runs) if several else (),
        both=both(runs[0], runs[1]) if compare else (),
        settings=compared(runs),
        compare=compare,
        many=len(runs) > MANY,
    )


def _evaluation(evaluation: Evaluation, by_key: dict[str, Group]) -> dict[str, object]:
    return {
        "group": by_key["evaluation"],
        "sentence": evaluated.sentence(evaluation),
        "table": evaluated.table(evaluation),
    }


def _title(runs: Sequence[Run]) -> str:
    return runs[0].name if len(runs) == 1 else f"{len(runs)} runs"


def _figures(group: Group) -> list[Figure]:
    found: list[Figure] = []
    for place, panel in enumerate(group.panels, start=1):
        anchor = f"{group.key}-{place}"
        svg = Markup(draw.svg(panel, anchor))  # made by draw and svg, texts escaped
        found.append(Figure(panel, anchor, svg))
    return found


def _run(run: Run, drawn: dict[str, list[Figure]], place: int | None) -> dict[str, object]:
    """What the template needs of one run."""
    key = "findings" if place is None else f"findings-{place + 1}"
    causes = marks.causes(run)
    return {
        "name": run.name,
        "anchor": "run" if place is None else f"run-{place + 1}",
        "state": run.state,
        "sentence": sentence(run),
        "verdicts": verdicts(run),
        "tone": _tone,
        "cost": cost(run),
        "gaps": run.gaps,
        "changes": tables.changes(run),
        "caveats": tables.caveats(run),
        "summary": summary(run.diagnosis),
        "counted": marks.counted([f for f in causes if f.until is None]),
        "causes": [(f, title(f), yaml_lines(f.patch)) for f in causes],
        "symptoms": [(f, title(f), title(cause)) for f, cause in marks.symptoms(run)],
        "warned": [title(f) for f in marks.only_warned(run)],
        "tree": "" if run.tree is None else tree_text(run.tree),
        "timeline": drawn.get(key, []),
        "samples": side_by_side(run),
        "judges": trends.spent(run),
        "provenance": tables.provenance(run),
    }


def _tone(verdict: Verdict) -> str:
    """CSS class of a verdict."""
    return {True: "better", False: "worse", None: "open"}[verdict.better]
