"""``grpo-dual judge score``: completions judged as in training, and held against labels."""

import hashlib
import importlib.metadata
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from itertools import islice
from json import dumps
from pathlib import Path

from grpo_dual.cli.output import check_writable, console, table, write_json, writing
from grpo_dual.config.judging import HeuristicProviderConfig, JudgeCacheConfig, JudgeConfig
from grpo_dual.config.load import load_config
from grpo_dual.config.objectives import FairnessConfig, HallucinationConfig
from grpo_dual.errors import ConfigError
from grpo_dual.judges.agreement import (
    cohens_kappa,
    confusion,
    coverage,
    kappa_interval,
    observed_agreement,
)
from grpo_dual.judges.client import Cause, Failure, GroupVerdicts, Opinion, Question, Verdict
from grpo_dual.judges.guard import guard
from grpo_dual.judges.ledger import Spent
from grpo_dual.judges.local import NAME as OFFLINE
from grpo_dual.judges.measure import nobody, only, unassisted
from grpo_dual.judges.service import JudgeService, Pending
from grpo_dual.records.completions import Completion, iter_completions
from grpo_dual.rewards.fairness import FairnessReward
from grpo_dual.rewards.hallucination import HallucinationReward
from grpo_dual.types import BbqRecord, HaluEvalRecord, Record

_WAVE = 256
"""Completions that are being judged at once."""
_COVERAGE = 0.98
"""Share of the labelled rows that must be scored for the headline to be comparable."""
_RULE = "rule"
_FAIRNESS = FairnessReward(FairnessConfig(), max_new_tokens=1)
_HALLUCINATION = HallucinationReward(HallucinationConfig(), max_new_tokens=1)
_READ = {
    "right": Verdict.RIGHT,
    "abstains": Verdict.ABSTAINS,
    "evades": Verdict.ABSTAINS,
}
"""Verdicts of the rewards' rules; the others are wrong."""
_SCALE = (Verdict.WRONG.value, Verdict.ABSTAINS.value, Verdict.RIGHT.value)
"""In order, for the weighted kappa."""


@dataclass(slots=True)
class _Counts:
    """What is remembered of all rows: counts, whatever their number."""

    rows: int = 0
    verdicts: Counter[str] = field(default_factory=Counter[str])
    scorers: Counter[str] = field(default_factory=Counter[str])
    failures: Counter[str] = field(default_factory=Counter[str])
    flagged: int = 0
    pairs: Counter[tuple[str | None, str | None]] = field(
        default_factory=Counter[tuple[str | None, str | None]]
    )
    """Label and verdict, of the rows that have a label."""

    @property
    def coverage(self) -> float:
        """Share of the rows that have a verdict."""
        return self.verdicts.total() / self.rows


@dataclass(frozen=True, slots=True)
class _Agreement:
    """Of labels and verdicts."""

    labelled: int
    scored: int
    """Of the labelled rows."""
    coverage: float
    observed: float | None
    kappa: float | None
    kappa_interval_95: tuple[float, float] | None
    weighted_kappa: float | None
    weighted_kappa_interval_95: tuple[float, float] | None
    confusion: dict[str, dict[str, int]]
    """By label, then by verdict."""


def score(
    path: Path, *, config: Path | None, judge: str | None, out: Path | None, json: Path | None
) -> None:
    """Judge completions and print who judged them and how well that agrees with labels.

    Args:
        path: The completions, see ``records/completions.py``.
        config: A run's configuration, for its judges; None: the offline judge.
        judge: One of its judges; None: its route.
        out: Where the verdicts are written, one line a row.
        json: Where the result is written too.

    Raises:
        DataError: A row is malformed; then nothing was asked.
        ConfigError: The configuration is wrong, or has no such judge.
        JudgeError: A judge cannot be set up.
        CheckpointError: ``out`` or ``json`` cannot be written.
        KeyboardInterrupt: With what to tell the user.
    """
    for target in filter(None, (out, json)):
        check_writable(target)
        if target.exists() and target.samefile(path):
            raise ConfigError(f"{target}: is the file of completions itself; name another one")
    judges = _judges(config, judge)
    for _ in iter_completions(path):
        pass  # nothing is sent before every row is known to be right
    counts = _Counts()
    try:
        with JudgeService(judges, tell=_tell).start() as service:
            with _draining(service), _lines(out) as write:
                rows = iter_completions(path)
                while wave := list(islice(rows, _WAVE)):
                    _judge_wave(wave, service, judges.max_completion_chars, counts, write)
            hits, ledger = service.take_tally().cache_hits, service.ledger
    except KeyboardInterrupt:
        raise KeyboardInterrupt(_interrupted(judges)) from None
    agreement = _agreement(counts) if counts.pairs else None
    if json is not None:
        spending = {**ledger.report(), "cache_hits": dict(hits)}
        write_json(json, _result(path, judges, counts, agreement, spending))
    _print(counts)
    _print_spending(ledger.total, hits.total())
    if agreement is not None:
        _print_agreement(agreement)


def _judges(config: Path | None, judge: str | None) -> JudgeConfig:
    """The judges to ask. None of them is helped out by the offline judge: it would be its score."""
    found = JudgeConfig() if config is None else load_config(config).judge
    if not found.providers or (judge == OFFLINE and OFFLINE not in found.providers):
        if judge not in (None, OFFLINE):
            known = "has no judges" if config else "is not given"
            raise ConfigError(
                f"--judge {judge}: --config {known}; without one only {OFFLINE} can be asked"
            )
        changes = {
            "providers": {OFFLINE: HeuristicProviderConfig()},
            "route": "primary-then-fallback",
            "cache": JudgeCacheConfig(enabled=False),
        }
        return found.model_copy(update=changes)
    if judge is not None and judge not in found.providers:
        raise ConfigError(
            f"--judge {judge}: {config} has no such judge; it has {', '.join(found.providers)}"
        )
    return unassisted(found if judge is None else only(found, judge))


def _tell(text: str) -> None:
    """What the judges have to say; here the offline judge steps in for nobody."""
    what, _, follows = text.rpartition("; ")
    if "offline" in follows:
        text = f"{what}; such rows have no verdict"
    print(text, file=sys.stderr)


def _interrupted(judges: JudgeConfig) -> str:
    if not judges.cache.enabled:
        return "The verdicts so far are not kept: judge.cache.enabled is false."
    return "The verdicts so far are in the cache: the same command does not pay for them again."


@contextmanager
def _draining(service: JudgeService) -> Iterator[None]:
    """Inside, Ctrl-C waits for requests that are out; a second one does not."""
    try:
        yield
    except KeyboardInterrupt:
        _tell("stopping: waiting for the answers that are on their way (Ctrl-C: not even for them)")
        service.tell = lambda _: None
        service.drain()
        raise


@contextmanager
def _lines(out: Path | None) -> Iterator[Callable[[dict[str, object]], None]]:
    """Inside, rows can be written; the file is there once all of them are."""
    if out is None:
        yield lambda _: None
        return

    with writing(out) as file:

        def write(row: dict[str, object]) -> None:
            file.write((dumps(row) + "\n").encode())

        yield write


def _judge_wave(
    wave: list[Completion],
    service: JudgeService,
    limit: int,
    counts: _Counts,
    write: Callable[[dict[str, object]], None],
) -> None:
    """Judge some rows at once; each is a group of its own, so that none moves another."""
    shown = [guard(c.text, sources=_sources(c.record), limit=limit) for c in wave]
    settled = [_settled(c.record, c.text, s.empty) for c, s in zip(wave, shown, strict=True)]
    pending: list[Pending | None] = [
        service.submit([Question(c.record, s.text)], nobody) if rule is None else None
        for c, s, rule in zip(wave, shown, settled, strict=True)
    ]
    for completion, guarded, rule, asked in zip(wave, shown, settled, pending, strict=True):
        found = rule or (asked.result() if asked else None)
        assert found is not None, "a row is settled or asked about"
        answer = found.answers[0]
        _count(counts, completion, found.scorer, answer, flagged=bool(guarded.flags))
        write(_row(completion, found.scorer, answer, guarded.flags))


def _sources(record: Record) -> list[str]:
    """What a completion may quote, as in training."""
    if isinstance(record, HaluEvalRecord):
        texts = (record.context, record.query, record.accepted, record.rejected)
        return [text for text in texts if text]
    assert isinstance(record, BbqRecord)
    return [record.context, record.question, *record.options]


def _settled(record: Record, text: str, empty: bool) -> GroupVerdicts | None:
    """What no judge is asked: of BBQ, all that training reads by rule; what the guard emptied."""
    if isinstance(record, BbqRecord):
        outcome = _FAIRNESS.settle(record, text)
    else:
        # Answers test the judge, evasions and the accepted text among them.
        assert isinstance(record, HaluEvalRecord)
        outcome = _HALLUCINATION.settle(record, text) if empty else None
        if empty and outcome is None:
            outcome = _HALLUCINATION.emptied(record, text)
    if outcome is None:
        wrong = GroupVerdicts(_RULE, (Opinion(Verdict.WRONG, 1.0, "no answer"),))
        return wrong if empty else None
    if outcome.failure is not None:
        failure = Failure(outcome.provider, Cause.NO_OPINION, 0, outcome.failure)
        return GroupVerdicts(outcome.provider, (failure,))
    opinion = Opinion(_READ.get(outcome.verdict, Verdict.WRONG), 1.0, f"by rule: {outcome.verdict}")
    return GroupVerdicts(outcome.provider, (opinion,))


def _count(
    counts: _Counts,
    completion: Completion,
    scorer: str,
    answer: Opinion | Failure,
    *,
    flagged: bool,
) -> None:
    counts.rows += 1
    counts.flagged += flagged
    verdict = answer.verdict.value if isinstance(answer, Opinion) else None
    if isinstance(answer, Opinion):
        counts.verdicts[answer.verdict.value] += 1
        counts.scorers[scorer] += 1
    else:
        counts.failures[answer.cause.value] += 1
    if completion.label is not None:
        counts.pairs[completion.label, verdict] += 1


def _row(
    completion: Completion, scorer: str, answer: Opinion | Failure, flags: tuple[str, ...]
) -> dict[str, object]:
    opinion = answer if isinstance(answer, Opinion) else None
    failure = answer if isinstance(answer, Failure) else None
    judge = scorer if failure is None else failure.judge or None
    return {
        "id": completion.id,
        "verdict": None if opinion is None else opinion.verdict.value,
        "confidence": None if opinion is None else opinion.confidence,
        "reason": None if opinion is None else opinion.reason,
        "judge": judge,
        "failure": None if failure is None else str(failure).removeprefix(": "),
        "flags": list(flags),
        "label": completion.label,
    }


def _result(
    path: Path,
    judges: JudgeConfig,
    counts: _Counts,
    agreement: _Agreement | None,
    spending: dict[str, object],
) -> dict[str, object]:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {
        "provenance": {
            "completions": str(path),
            "sha256": digest,
            "judges": {n: p.model_dump(mode="json") for n, p in judges.providers.items()},
            "route": judges.route,
            "rubric": judges.rubric,
            "grpo_dual": importlib.metadata.version("grpo-dual"),
        },
        "n": counts.rows,
        "scored": counts.verdicts.total(),
        "coverage": counts.coverage,
        "verdicts": {name: counts.verdicts[name] for name in reversed(_SCALE)},
        "failed": dict(counts.failures),
        "by_scorer": dict(counts.scorers),
        "flagged": counts.flagged,
        "agreement": None if agreement is None else asdict(agreement),
        "spending": spending,
    }


def _agreement(counts: _Counts) -> _Agreement:
    def pairs() -> Iterator[tuple[str | None, str | None]]:
        return counts.pairs.elements()

    covered = coverage(pairs())
    return _Agreement(
        labelled=covered.items,
        scored=covered.scored,
        coverage=covered.scored / covered.items,
        observed=observed_agreement(pairs(), _SCALE),
        kappa=cohens_kappa(pairs(), _SCALE),
        kappa_interval_95=kappa_interval(pairs(), _SCALE),
        weighted_kappa=cohens_kappa(pairs(), _SCALE, weights="linear"),
        weighted_kappa_interval_95=kappa_interval(pairs(), _SCALE, weights="linear"),
        confusion=confusion(pairs(), _SCALE),
    )


def _print(counts: _Counts) -> None:
    out = console()
    made = table(None, ("judged by", "rows"), ("judged by",), out)
    for name, count in counts.scorers.most_common():
        made.add_row(name, str(count))
    for cause, count in counts.failures.most_common():
        made.add_row(f"nobody: {cause}", str(count))
    out.print(made)
    verdicts = ", ".join(f"{name} {counts.verdicts[name]}" for name in reversed(_SCALE))
    print(f"{counts.rows} rows: {verdicts}; scored {counts.coverage:.1%}")
    if counts.flagged:
        print(f"attempts to sway the judge were taken out of {counts.flagged} rows")


def _print_spending(total: Spent, hits: int) -> None:
    if not total.calls and not hits:
        return
    money = "unknown price" if total.dollars is None else f"{total.dollars:.4f} USD"
    print(
        f"{total.calls} requests ({total.failed} failed), {total.usage.input} + "
        f"{total.usage.output} tokens, {money}; {hits} verdicts were there already"
    )


def _print_agreement(found: _Agreement) -> None:
    out = console()
    columns = ("label \\ verdict", *reversed(_SCALE))
    made = table("agreement with the labels", columns, columns[:1], out)
    for label in reversed(_SCALE):
        made.add_row(label, *(str(found.confusion[label][v]) for v in reversed(_SCALE)))
    out.print(made)
    print(f"Cohen's kappa: {_cell(found.kappa, found.kappa_interval_95)}")
    weighted = _cell(found.weighted_kappa, found.weighted_kappa_interval_95)
    print(f"linearly weighted kappa: {weighted}")
    print(f"observed agreement: {_cell(found.observed, None)} of {found.scored} rows")
    if found.coverage < _COVERAGE:
        print(
            f"WARNING: only {found.coverage:.1%} of the {found.labelled} labelled rows were "
            f"scored; below {_COVERAGE:.0%} these numbers are not comparable with others"
        )


def _cell(value: float | None, interval: tuple[float, float] | None) -> str:
    if value is None:
        return "undefined"
    return f"{value:.4f}" + ("" if interval is None else f" [{interval[0]:.2f}, {interval[1]:.2f}]")
