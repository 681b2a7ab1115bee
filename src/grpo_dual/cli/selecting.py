"""Draw, score, keep: from a policy to a file of completions for the next SFT round."""

import contextlib
import hashlib
import json as json_library
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from rich.console import Console
from transformers.utils.logging import disable_progress_bar

from grpo_dual.cli.output import check_writable, console, table, write_json, writing
from grpo_dual.config.load import load_config
from grpo_dual.config.schema import RunConfig
from grpo_dual.errors import CheckpointError
from grpo_dual.evaluation.gold import cluster, gold
from grpo_dual.evaluation.stats import Estimate
from grpo_dual.records.chosen import row_of
from grpo_dual.selection.curves import Point, curve
from grpo_dual.selection.drawn import Asked, DrawnFile, Sample
from grpo_dual.selection.rejection import Candidate, Rule, Selection, stratum_of
from grpo_dual.selection.rejection import select as keep
from grpo_dual.train.draws import distinct_prompts, draw_scored
from grpo_dual.train.objectives import Objective
from grpo_dual.train.progress import Progress
from grpo_dual.train.stored import Stored, find, names_run
from grpo_dual.train.wiring import Parts, build
from grpo_dual.types import Prompt, RolloutGroup, Score

_LINES = 10
"""The draw says how it goes about this often."""


@dataclass(frozen=True, slots=True)
class Source:
    """The policy that is drawn from."""

    name: str
    config: RunConfig
    stored: Stored | None
    """The checkpoint; None: the model of a configuration as it is."""


def select(
    source: str,
    overrides: Sequence[str],
    out: Path,
    *,
    n: int,
    prompts: int,
    proxy: str,
    rule: Rule,
    json: Path | None,
) -> None:
    """Draw what is not drawn yet, print the curves, write what is kept.

    Args:
        source: A run, ``RUN@STEP`` or a configuration file.
        overrides: Flags of its configuration.
        out: Where kept completions go; all that are drawn go beside it, ``NAME.drawn.jsonl``.
        n: Completions of a prompt.
        prompts: Of each objective.
        proxy: ``reward`` or ``judge``, see `Sample.score`.
        rule: What is kept.
        json: Where curves and counts go too.

    Raises:
        GrpoDualError: Something the user can mend.
        KeyboardInterrupt: With how to go on.
    """
    for path in (out, *([json] if json is not None else [])):
        check_writable(path)
    aside = out.with_name(f"{out.stem}.drawn.jsonl")
    if out.exists() and not aside.exists():
        raise CheckpointError(
            f"{out}: is there already, and not the draw that it came from ({aside}); choose "
            "another --out"
        )
    found = _source(source, overrides)
    rule = replace(rule, seed=found.config.train.seed)
    drawn = DrawnFile(aside, _meta(found, n=n, prompts=prompts))
    try:
        if not drawn.finished:
            _draw(found, drawn, n=n, prompts=prompts)
    except KeyboardInterrupt as stop:
        raise KeyboardInterrupt(
            f"What was drawn is in {aside}; the same command goes on with it."
        ) from stop
    selection = keep(_candidates(drawn.asked, proxy), rule)
    curves = {name: curve(own, proxy, n) for name, own in _by_objective(drawn.asked).items()}
    _write(out, drawn.asked, selection, found, n=n, proxy=proxy, rule=rule)
    if json is not None:
        write_json(json, _result(found, curves, selection, n=n, proxy=proxy, rule=rule))
    _print(curves, selection, out, proxy, rule)


def _source(text: str, overrides: Sequence[str]) -> Source:
    path = Path(text)
    if names_run(text) or path.is_dir():
        stored = find(text)
        config = load_config(stored.run / "config.json", overrides)
        return Source(stored.name, config, stored)
    return Source(path.name, load_config(path, overrides), None)


def _meta(source: Source, *, n: int, prompts: int) -> dict[str, object]:
    """What a draw is of; one with another is another draw."""
    config = source.config
    told = {
        key: value
        for key, value in config.model_dump(mode="json").items()
        if key in ("model", "objectives", "judge", "rollout")
    }
    whole = json_library.dumps(told, sort_keys=True).encode()
    return {
        "source": source.name,
        "adapter": None if source.stored is None else source.stored.sha256,
        "config": hashlib.sha256(whole).hexdigest()[:16],
        "seed": config.train.seed,
        "n": n,
        "prompts": prompts,
    }


def _draw(source: Source, drawn: DrawnFile, *, n: int, prompts: int) -> None:
    """Draw the chunks that the file lacks."""
    config = source.config
    out = Console()
    if not out.is_terminal:
        disable_progress_bar()
    if config.train.threads is not None:
        torch.set_num_threads(config.train.threads)
    progress = Progress(out, tuple(config.objectives), prompts)
    parts = build(config)
    for note in (*parts.notes, *(n for o in parts.objectives.values() for n in o.notes)):
        progress.note(f"note: {note}")
    if source.stored is not None:
        parts.policy.load_adapter_state(source.stored.adapter_state())
    chunks = list(_chunks(parts, n, prompts, progress))
    done = len(drawn.chunks)
    if done:
        progress.note(f"{drawn.path}: {done} of {len(chunks)} chunks are drawn already")
    with _judging(parts, drawn.path, progress):
        for number in range(done, len(chunks)):
            objective, own = chunks[number]
            pairs = draw_scored(parts, objective, own, n, chunk=number)
            drawn.append([_asked(objective.name, *pair) for pair in pairs])
            if (number + 1) % max(1, len(chunks) // _LINES) == 0 or number + 1 == len(chunks):
                progress.note(f"drawn {number + 1}/{len(chunks)} chunks")
    drawn.finish()


def _chunks(
    parts: Parts, n: int, count: int, progress: Progress
) -> Iterator[tuple[Objective, list[Prompt]]]:
    """Prompts that are drawn together: as many as the engine runs at once."""
    size = max(1, parts.config.rollout.max_sequences // n)
    for name, objective in parts.objectives.items():
        found = distinct_prompts(parts, objective, count, progress.left_out)
        if len(found) < count:
            progress.note(f"note: {name}: there are {len(found)} prompts, not {count}")
        for start in range(0, len(found), size):
            yield objective, found[start : start + size]


@contextlib.contextmanager
def _judging(parts: Parts, path: Path, progress: Progress) -> Iterator[None]:
    """Inside, the judges work, and spend into a ledger beside the draw."""
    if parts.judges is None:
        yield
        return
    parts.judges.tell = progress.note
    with parts.judges.start(path.with_suffix(".ledger.jsonl")):
        yield


def _asked(objective: str, group: RolloutGroup, scores: Sequence[Score]) -> Asked:
    record = group.prompt.record
    return Asked(
        objective=objective,
        record_id=record.record_id,
        stratum=stratum_of(objective, record),
        cluster=cluster(record),
        messages=group.prompt.messages,
        samples=tuple(
            Sample(
                text=rollout.text,
                finished=rollout.finished,
                tokens=len(rollout.token_ids),
                total=score.total,
                parts=dict(score.parts),
                verdict=score.verdict,
                provider=score.provider,
                failure=score.failure,
                gold=gold(record, rollout.text),
            )
            for rollout, score in zip(group.rollouts, scores, strict=True)
        ),
    )


def _by_objective(asked: Sequence[Asked]) -> dict[str, list[Asked]]:
    found: dict[str, list[Asked]] = {}
    for one in asked:
        found.setdefault(one.objective, []).append(one)
    return found


def _candidates(asked: Sequence[Asked], proxy: str) -> list[Candidate]:
    return [
        Candidate(one.record_id, one.stratum, s.text, s.finished, s.score(proxy))
        for one in asked
        for s in one.samples
    ]


def _write(
    out: Path,
    asked: Sequence[Asked],
    selection: Selection,
    source: Source,
    *,
    n: int,
    proxy: str,
    rule: Rule,
) -> None:
    samples = [(one, sample) for one in asked for sample in one.samples]
    origin = {
        "source": source.name,
        "model": source.config.model.name,
        "adapter": None if source.stored is None else source.stored.sha256,
        "n": n,
        "seed": source.config.train.seed,
        "proxy": proxy,
        "keep": rule.keep,
        "threshold": rule.threshold,
    }
    with writing(out) as file:
        for place in selection.kept:
            one, sample = samples[place]
            more = {
                "stratum": list(one.stratum),
                "total": sample.total,
                "parts": sample.parts,
                "gold": sample.gold,
                "verdict": sample.verdict,
                "provider": sample.provider,
                "origin": origin,
            }
            score = sample.score(proxy)
            assert score is not None  # what is kept is scored
            row = row_of(one.objective, one.record_id, one.messages, sample.text, score, more)
            file.write((json_library.dumps(row, allow_nan=False) + "\n").encode())


def _result(
    source: Source,
    curves: Mapping[str, Sequence[Point]],
    selection: Selection,
    *,
    n: int,
    proxy: str,
    rule: Rule,
) -> dict[str, object]:
    return {
        "source": source.name,
        "n": n,
        "proxy": proxy,
        "rule": asdict(rule),
        "best_of_n": {name: [asdict(point) for point in own] for name, own in curves.items()},
        "kept": len(selection.kept),
        "strata": {
            "/".join(stratum): {
                "prompts": counts.prompts,
                "prompts_kept": counts.prompts_kept,
                "drawn": counts.drawn,
                **counts.fates,
            }
            for stratum, counts in selection.counts.items()
        },
    }


_FATES = ("below", "repeated", "surplus", "balance", "cut", "unscored")


def _print(
    curves: Mapping[str, Sequence[Point]],
    selection: Selection,
    out: Path,
    proxy: str,
    rule: Rule,
) -> None:
    to = console()
    columns = (
        "n",
        f"{proxy} of the best",
        "its gold",
        "best gold",
        "KL at most",
        "prompts",
        "with gold",
    )
    for name, points in curves.items():
        made = table(f"{name}: best of n (95 % intervals)", columns, (), to)
        for p in points:
            cells = [_cell(e) for e in (p.proxy, p.gold, p.best)]
            counts = (str(p.proxy.items), str(p.gold.items))
            made.add_row(str(p.n), *cells, f"{p.kl_bound:.3f}", *counts)
        to.print(made)
    to.print(
        "A best-of-n score is an inference-time result, not to be compared with one completion's.",
        highlight=False,
        soft_wrap=True,
    )
    title = f"kept: {rule.keep} from {rule.threshold:g} on, at most {rule.per_prompt} a prompt"
    made = table(title, ("stratum", "prompts", "drawn", "kept", *_FATES), ("stratum",), to)
    for stratum, counts in selection.counts.items():
        cells = [str(counts.fates.get(fate, 0)) for fate in ("kept", *_FATES)]
        prompts = f"{counts.prompts_kept}/{counts.prompts}"
        made.add_row("/".join(stratum), prompts, str(counts.drawn), *cells)
    to.print(made)
    for stratum in selection.empty:
        why = max(selection.counts[stratum].fates.items(), key=lambda pair: pair[1])[0]
        to.print(
            f"nothing kept: {'/'.join(stratum)} (most of it: {why}); no other stratum stands in",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
    to.print(f"{out}: {len(selection.kept)} completions", markup=False, highlight=False)


def _cell(found: Estimate) -> str:
    if found.value is None or math.isnan(found.value):
        return "-"
    if found.low is None or found.high is None:
        return f"{found.value:.3f}"
    return f"{found.value:.3f} [{found.low:.3f}, {found.high:.3f}]"
