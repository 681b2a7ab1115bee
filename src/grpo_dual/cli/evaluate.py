"""``grpo-dual eval``: score predictions, as a table and as JSON."""

import datetime
from pathlib import Path

from grpo_dual.cli.output import console, table, write_json
from grpo_dual.config.snapshot import environment
from grpo_dual.evaluation.bbq_bias import SCORES, Policy, Scores, macro, score_predictions
from grpo_dual.records.bbq import files_of
from grpo_dual.records.predictions import by_name, not_predicted, read_items, read_predictions
from grpo_dual.records.reader import sha256

_VOID = 0.02
"""Share of unparsed predictions above which scores are not to be compared."""


def predictions(
    path: Path,
    *,
    field: str,
    data: Path | None,
    policy: Policy,
    json: Path | None,
    draws: int,
    seed: int,
) -> None:
    """Score BBQ predictions of any model and print them by category.

    Args:
        path: The predictions, see `read_predictions`.
        field: The field that holds the answer.
        data: BBQ files to join with.
        policy: What an unparsed prediction is.
        json: Where the result is written too.
        draws: Bootstrap draws of the intervals.
        seed: Of the bootstrap.

    Raises:
        DataError: A file cannot be read, or a row is wrong.
        CheckpointError: ``json`` cannot be written.
    """
    items = None if data is None else read_items(data)
    found = read_predictions(path, field, items)
    lacking = {} if items is None else not_predicted(items, found)
    grouped = by_name(found)
    scored = {
        name: score_predictions(rows, policy, draws=draws, seed=seed)
        for name, rows in grouped.items()
    }
    scores = {name: values for name, (values, _) in scored.items()}
    result = {
        "provenance": {
            "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "predictions": str(path),
            "sha256": sha256(path),
            "field": field,
            "data": None if data is None else str(data),
            "files": [
                {"path": str(file), "sha256": sha256(file)}
                for file in ([] if data is None else files_of(data))
            ],
            "policy": policy,
            "bootstrap": {"clusters": "question_index", "draws": draws, "seed": seed},
            **environment(),
        },
        "categories": {
            name: {**values, "intervals_95": intervals}
            for name, (values, intervals) in scored.items()
        },
        "macro": macro(scores),
        "not_predicted": lacking,
    }
    if json is not None:
        write_json(json, result)
    _print(scores, {name: spread for name, (_, spread) in scored.items()}, policy)
    for name, left in sorted(lacking.items()):
        print(f"{name}: {left} rows of the BBQ files have no prediction and are not scored")
    for name, values in scores.items():
        share = values["unparsed"]
        if share is not None and share > _VOID:
            print(f"{name}: {share:.1%} unparsed; above {_VOID:.0%} scores are not comparable")
        if values["n_unresolved"]:
            print(
                f"{name}: which option is the stereotype's is not known of "
                f"{values['n_unresolved']} rows; they are in no bias score"
            )
    if data is None:
        print(
            "groups and options are those of the predictions' own rows; give the BBQ files with "
            "--data where these may be out of date"
        )


def _print(
    scores: dict[str, Scores],
    intervals: dict[str, dict[str, tuple[float, float] | None]],
    policy: Policy,
) -> None:
    out = console()
    title = f"BBQ, unparsed predictions: {policy}; 95 % intervals over templates"
    columns = ("category", *SCORES, "unparsed", "ambig", "disambig", "templates")
    made = table(title, columns, ("category",), out)
    for name, values in scores.items():
        spread = intervals[name]
        cells = [_cell(values[score], spread[score]) for score in SCORES]
        counts = [str(values[key]) for key in ("n_ambig", "n_disambig", "n_templates")]
        made.add_row(name, *cells, _cell(values["unparsed"], None), *counts)
    means = macro(scores)
    cells = [_cell(means[score], None) for score in (*SCORES, "unparsed")]
    made.add_row("mean over categories", *cells, "", "", "", style="bold")
    out.print(made)


def _cell(value: float | None, interval: tuple[float, float] | None) -> str:
    if value is None:
        return "-"
    return f"{value:z.4f}" + (
        "" if interval is None else f" [{interval[0]:z.2f}, {interval[1]:z.2f}]"
    )
