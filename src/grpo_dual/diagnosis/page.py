"""A diagnosis as text for a terminal, and as JSON for scripts."""

import json
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from grpo_dual.diagnosis.bands import Band
from grpo_dual.diagnosis.control import PERSISTENCE
from grpo_dual.diagnosis.doctor import Diagnosis, borne_out, explanation
from grpo_dual.diagnosis.remedies import AFRESH, Prescription
from grpo_dual.diagnosis.tree import Tree
from grpo_dual.types import Finding, Severity

WIDTH = 100
PAGE = "docs/doctor.md"
_SAMPLE = 160
"""Characters of a sample that are shown."""
_MARK = {Severity.ACT: "ACT ", Severity.WARN: "WARN", Severity.NOTE: "NOTE"}


def page(
    diagnosis: Diagnosis,
    tree: Tree | None,
    bands: Sequence[Band],
    *,
    missing: Sequence[str] = (),
    acted: Sequence[str] = (),
) -> str:
    """The whole page: findings first, then the tree, then the hand-off's bands.

    Args:
        diagnosis: What was found.
        tree: The step-20 tree.
        bands: The hand-off's.
        missing: Causes that could not be looked for, a line each.
        acted: Remedies that the doctor applied to the run, a line each.
    """
    shown = [f for f in diagnosis.findings if borne_out(f)]
    causes = [f for f in shown if explanation(f, diagnosis.findings) is None]
    parts = [summary(diagnosis, missing=missing), *acted, *_idle(diagnosis)]
    parts += [paragraph(f) for f in causes]
    symptoms = list(_symptoms(shown))
    if symptoms:
        parts.append("Explained by what stands above:\n" + "\n".join(symptoms))
    warned = [title(f) for f in diagnosis.findings if not borne_out(f)]
    if warned:
        parts.append(
            textwrap.fill(
                f"Warned of before the first step, and not seen in the run: {', '.join(warned)}.",
                WIDTH,
                break_on_hyphens=False,
            )
        )
    if tree is not None:
        parts.append(tree_text(tree))
        if tree.remedies and diagnosis.worst is Severity.ACT:
            parts.append("Change first what stands on top: the tree knows of no causes.")
    if bands:
        parts.append("\n".join(_bands(bands)))
    if missing:
        parts.append("not measured here:\n" + "\n".join(f"  {m}" for m in missing))
    return "\n\n".join(parts)


def _idle(diagnosis: Diagnosis) -> Iterator[str]:
    if diagnosis.idle:
        yield f"Not trained (weight 0), and so not judged: {', '.join(diagnosis.idle)}."


def _symptoms(findings: Sequence[Finding]) -> Iterator[str]:
    for found in findings:
        cause = explanation(found, findings)
        if cause is not None:
            evidence = found.evidence[0] if found.evidence else found.says
            yield _wrapped(f"{title(found)}, by {title(cause)}: {evidence}", "- ")


def summary(diagnosis: Diagnosis, *, missing: Sequence[str] = ()) -> str:
    """One line; where the run was stopped by an error, the error before it.

    Args:
        diagnosis: What was found.
        missing: Causes that could not be looked for.
    """
    said = _summary(diagnosis, missing)
    return f"Stopped: {_plain(diagnosis.ended)}\n{said}" if diagnosis.ended else said


def _summary(diagnosis: Diagnosis, missing: Sequence[str]) -> str:
    present, rows = diagnosis.present, diagnosis.rows
    acts = [f for f in present if f.severity is Severity.ACT]
    if acts:
        first, brought = acts[0], ""
        while (cause := explanation(first, diagnosis.findings)) is not None:
            first, brought = cause, f" (over now; what it brought is not: {title(acts[0])})"
        more = f", and {len(present) - 1} more" if len(present) > 1 else ""
        return f"Change this first: {title(first)}{brought}{more}."
    warned = [title(f) for f in present if f.severity is Severity.WARN]
    if warned:
        return f"Nothing is sure enough to act on; look at {', '.join(warned)}."
    if rows == 0:
        return "Nothing can be said: there is no step yet."
    if rows is not None and rows < PERSISTENCE:
        steps = "1 step" if rows == 1 else f"{rows} steps"
        return f"Too early to say: {steps} so far, and most rules ask for {PERSISTENCE} in a row."
    noted = [title(f) for f in present]
    told = f" Noted: {', '.join(noted)}." if noted else ""
    return _healthy(diagnosis, missing, noted) + told


def _healthy(diagnosis: Diagnosis, missing: Sequence[str], noted: Sequence[str]) -> str:
    """Where nothing that holds is more than a note."""
    over = [t for f in diagnosis.findings if borne_out(f) and (t := title(f)) not in noted]
    if over:
        return f"Healthy now. Over: {', '.join(over)}."
    if diagnosis.ended:
        return "No rule knows why."
    if missing:
        causes = "1 cause" if len(missing) == 1 else f"{len(missing)} causes"
        return f"Healthy as far as was measured; {causes} could not be looked for (below)."
    return "Healthy: no rule found anything."


def title(finding: Finding) -> str:
    """Code and objective."""
    return _plain(finding.code + (f" ({finding.objective})" if finding.objective else ""))


def paragraph(finding: Finding) -> str:
    """Cause, evidence, samples, remedy and the lines of YAML."""
    when = f"from step {finding.step} on" if finding.step else "before the first step"
    if finding.until is not None:
        when = f"steps {finding.step or 0} to {finding.until}, over now"
    head = (
        f"{_MARK[finding.severity]} {title(finding)}: {when}, confidence {finding.confidence:.2f}"
    )
    lines = [head, _wrapped(finding.says)]
    lines += [_wrapped(item, "- ") for item in finding.evidence]
    lines += [_wrapped(f'"{_short(text)}"', "  ") for text in finding.samples]
    lines.append(_wrapped(f"Remedy: {finding.remedy}"))
    lines += [f"    {line}" for line in yaml_lines(finding.patch)]
    lines.append(f"    More: {PAGE}#{finding.code}")
    return "\n".join(lines)


def remedy_text(remedy: Prescription) -> str:
    """What the doctor is about to do."""
    back = {AFRESH: "before the warm-up", 0: "the start"}.get(
        remedy.back_to, f"the checkpoint of step {remedy.back_to}"
    )
    return "\n".join(
        [
            f"doctor: acts on {title(remedy.findings[0])} behind step {remedy.at}, goes back to "
            f"{back} and on with",
            *(f"    {line}" for line in yaml_lines(remedy.patch)),
            "    (what this replaces is in acts/; `grpo-dual doctor RUN --undo` takes it back)",
        ]
    )


def yaml_lines(patch: Mapping[str, object]) -> list[str]:
    """A patch as the lines of YAML to change."""
    tree: dict[str, Any] = {}
    for dotted, value in patch.items():
        *path, last = dotted.split(".")
        node = tree
        for part in path:
            node = node.setdefault(part, {})
        node[last] = value
    return list(_yaml(tree, 0))


def as_json(
    diagnosis: Diagnosis,
    tree: Tree | None,
    bands: Sequence[Band],
    *,
    missing: Sequence[str] = (),
    acted: Sequence[str] = (),
) -> str:
    """The same for scripts."""
    worst = diagnosis.worst
    document = {
        "worst": None if worst is None else str(worst),
        "summary": summary(diagnosis, missing=missing),
        "steps": diagnosis.rows,
        "stopped": diagnosis.ended,
        "acted": list(acted),
        "idle": list(diagnosis.idle),
        "findings": [finding_document(f) for f in diagnosis.findings],
        "tree": None if tree is None else _tree_document(tree),
        "bands": [
            {
                "stage": b.stage,
                "objective": b.objective,
                "what": b.what,
                "value": b.value,
                "band": b.band,
                "inside": b.inside,
                "relative": b.relative,
            }
            for b in bands
        ],
        "missing": list(missing),
    }
    return json.dumps(document, indent=2)


def finding_document(finding: Finding) -> dict[str, object]:
    """A finding as a JSON object."""
    return {
        "code": finding.code,
        "objective": finding.objective,
        "severity": str(finding.severity),
        "says": finding.says,
        "evidence": list(finding.evidence),
        "confidence": finding.confidence,
        "remedy": finding.remedy,
        "patch": dict(finding.patch),
        "samples": list(finding.samples),
        "step": finding.step,
        "until": finding.until,
        "link": f"{PAGE}#{finding.code}",
    }


def _tree_document(tree: Tree) -> dict[str, object]:
    return {
        "step": tree.step,
        "early": tree.early,
        "verdict": tree.verdict,
        "objectives": {
            b.objective: {
                "recovered": b.recovered,
                "criteria": [
                    {"what": c.what, "value": c.value, "bound": c.bound, "met": c.met}
                    for c in b.criteria
                ],
            }
            for b in tree.branches
        },
        "remedies": [
            {"name": r.name, "says": r.says, "patch": dict(r.patch)} for r in tree.remedies
        ],
    }


def tree_text(tree: Tree) -> str:
    """The tree: verdict, criteria, remedies."""
    return "\n".join(_tree(tree))


def _tree(tree: Tree) -> Iterator[str]:
    early = f" (a first look at step {tree.step})" if tree.early else ""
    yield f"The step-20 tree{early}: {tree.verdict}."
    for branch in tree.branches:
        yield f"  {branch.objective}: {'recovered' if branch.recovered else 'weak'}"
        for c in branch.criteria:
            yield f"    {'ok' if c.met else 'no'}  {c.what}: {c.value}; wanted {c.bound}"
    for remedy in tree.remedies:
        yield f"  {remedy.name}: {remedy.says}"
        yield from (f"      {line}" for line in yaml_lines(remedy.patch))


def _bands(bands: Sequence[Band]) -> Iterator[str]:
    yield "The hand-off's bands (shown, nothing hangs on them):"
    for b in bands:
        mark = {True: "inside", False: "outside", None: "-"}[b.inside]
        yield (
            f"  within {b.stage} steps, {b.objective}: {b.what} {b.value} [{b.band}] {mark}; "
            f"{b.relative}"
        )


def _yaml(tree: Mapping[str, Any], depth: int) -> Iterator[str]:
    for name, value in tree.items():
        if isinstance(value, dict):
            yield f"{'  ' * depth}{name}:"
            yield from _yaml(value, depth + 1)  # pyright: ignore[reportUnknownArgumentType]
        else:
            # JSON is YAML; numbers like 1e-06 need their dot to be numbers in YAML 1.1.
            text = json.dumps(value)
            yield f"{'  ' * depth}{name}: {text.replace('e-', '.0e-') if _bare(text) else text}"


def _bare(text: str) -> bool:
    """A number in scientific notation without a dot."""
    return "e-" in text and "." not in text and text[0].isdigit()


def _short(text: str) -> str:
    plain = _plain(text)
    return plain if len(plain) <= _SAMPLE else f"{plain[:_SAMPLE]}..."


def _plain(text: str) -> str:
    """On one line, without control characters: a terminal must not obey what a model wrote."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def _wrapped(text: str, mark: str = "") -> str:
    indent = "    " + " " * len(mark)
    return textwrap.fill(
        _plain(text),
        WIDTH,
        initial_indent=f"    {mark}",
        subsequent_indent=indent,
        break_long_words=False,
    )
