"""``grpo-dual judge estimate``: calls, tokens and money of a run's judges, before it starts."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from transformers.utils.logging import disable_progress_bar

from grpo_dual.cli.output import check_writable, console, table, write_json
from grpo_dual.config.judging import CloudProviderConfig, JudgeConfig, JudgeProviderConfig
from grpo_dual.config.schema import RunConfig
from grpo_dual.judges import counting
from grpo_dual.judges import estimate as arithmetic
from grpo_dual.judges.estimate import Amount, Asked, Load, Ratio
from grpo_dual.judges.measure import Sample, kept, kept_ratio, sample
from grpo_dual.train.progress import Progress
from grpo_dual.train.rehearsal import Rehearsal, foresee, rehearse

_PROBE_SECONDS = 300.0
"""For the steps of a rehearsal that is not told how many."""


@dataclass(frozen=True, slots=True)
class _Judge:
    """One judge's part of the estimate."""

    provider: JudgeProviderConfig
    ratio: Ratio
    paid: Sample | None
    """Of ``--ask``."""
    asked: list[Asked]
    """In each step that was rehearsed."""
    kept: int
    """Of these, questions that earlier runs have paid for."""
    most: list[Load]
    expected: list[Load] | None
    """None where nothing was rehearsed."""
    held: list[Load] | None

    @property
    def cloud(self) -> CloudProviderConfig | None:
        """Its settings, if it is one that is paid."""
        return self.provider if isinstance(self.provider, CloudProviderConfig) else None

    def amount(self, loads: Sequence[Load]) -> Amount:
        """What loads come to; a judge on this machine takes neither tokens nor money."""
        if self.cloud is None:
            return Amount(sum(load.calls for load in loads), 0.0, 0.0, 0.0)
        return arithmetic.amount(loads, self.ratio, self.cloud.price)

    def seconds(self) -> float | None:
        """The least time of the expected calls."""
        cloud = self.cloud
        if cloud is None:
            return None
        return arithmetic.seconds(
            self.amount(self.expected or self.most),
            concurrency=cloud.concurrency,
            requests_per_minute=cloud.requests_per_minute,
            tokens_per_minute=cloud.tokens_per_minute,
            answer_seconds=None if self.paid is None else self.paid.answer_seconds,
        )


def estimate(config: RunConfig, *, probe: int | None, ask: int, json: Path | None) -> None:
    """Print what the judges of a run will take.

    Args:
        config: The run.
        probe: Steps to rehearse; 0: none, no model is loaded; None: as many as time allows.
        ask: Real requests to each judge, to measure its tokens.
        json: Where the result is written too.

    Raises:
        GrpoDualError: As for the run itself; or ``json`` cannot be written.
    """
    if json is not None:
        check_writable(json)
    if not config.judge.providers:
        if json is not None:
            write_json(json, {"steps": config.train.steps, "judges": {}})
        print("the configuration names no judges (judge.providers): nothing is sent or paid")
        return
    tried = (
        foresee(config)
        if probe == 0
        else rehearse(config, probe, seconds=_PROBE_SECONDS, progress=_progress(config))
    )
    judges = {name: _judge(config.judge, name, tried, ask) for name in config.judge.providers}
    end = _budget_ends(config.judge, judges)
    if json is not None:
        write_json(json, _result(config, tried, judges, end))
    _print(config, tried, judges, end)


def _progress(config: RunConfig) -> Progress:
    """Steps on a terminal, on stderr; silence elsewhere."""
    shown = sys.stderr.isatty()
    if not shown:
        disable_progress_bar()
    out = Console(stderr=True, quiet=not shown)
    return Progress(out, tuple(config.objectives), config.train.steps)


def _judge(config: JudgeConfig, name: str, tried: Rehearsal, ask: int) -> _Judge:
    provider = config.providers[name]
    bounds, asks = tried.bounds[name], tried.asks[name]
    paid, ratio = None, None
    if isinstance(provider, CloudProviderConfig):
        if ask and asks:
            paid = sample(config, name, [a.question for a in asks], ask)
            ratio = paid.ratio
        ratio = ratio or kept_ratio(config, name)
    old = kept(config, name, asks) if tried.steps else frozenset[bytes]()
    asked = counting.asked(asks, tried.steps)
    fresh = counting.asked([a for a in asks if a.digest not in old], tried.steps)
    return _Judge(
        provider=provider,
        ratio=ratio or Ratio(),
        paid=paid,
        asked=asked,
        kept=len(old),
        most=arithmetic.most(bounds),
        expected=arithmetic.projected(bounds, asked, fresh) if asked else None,
        held=arithmetic.held(bounds, asked, fresh) if asked else None,
    )


def _budget_ends(config: JudgeConfig, judges: Mapping[str, _Judge]) -> tuple[str, int] | None:
    """The limit that is passed, and about when; on the expected calls, else on the most."""
    paid = [judge for judge in judges.values() if judge.cloud is not None]
    by_judge = [[judge.amount([load]) for load in judge.expected or judge.most] for judge in paid]
    steps = list(zip(*by_judge, strict=True))
    return arithmetic.exhausted(config.budget, steps)


def _result(
    config: RunConfig,
    tried: Rehearsal,
    judges: Mapping[str, _Judge],
    end: tuple[str, int] | None,
) -> dict[str, object]:
    budget = config.judge.budget.model_dump()
    return {
        "steps": config.train.steps,
        "probe": {
            "steps": tried.steps,
            "seconds": tried.seconds,
            "exact": tried.steps == config.train.steps,
        },
        "assumed": _assumed(config, tried, judges),
        "judges": {name: _judge_result(judge) for name, judge in judges.items()},
        "total": {
            key: _shown(arithmetic.summed([a for j in judges.values() if (a := _of(j, key))]))
            for key in ("expected", "unchanged", "at_most")
            if key == "at_most" or tried.steps
        },
        "budget": {
            **budget,
            "ends_at_step": None if end is None else end[1],
            "limit": None if end is None else end[0],
        },
    }


def _of(judge: _Judge, key: str) -> Amount | None:
    loads = {"expected": judge.expected, "unchanged": judge.held, "at_most": judge.most}[key]
    return None if loads is None else judge.amount(loads)


def _judge_result(judge: _Judge) -> dict[str, object]:
    result: dict[str, object] = {"kind": judge.provider.kind, "paid": judge.cloud is not None}  # pyright: ignore[reportAttributeAccessIssue]
    for key in ("expected", "unchanged", "at_most"):
        amount = _of(judge, key)
        result[key] = None if amount is None else _shown(amount)
    result["questions_by_step"] = [asked.questions for asked in judge.asked]
    result["kept"] = judge.kept
    result["least_seconds"] = judge.seconds()
    result["ratio"] = asdict(judge.ratio)
    result["asked"] = None if judge.paid is None else judge.paid.spent.report()
    return result


def _shown(amount: Amount) -> dict[str, float | None]:
    return {
        "calls": amount.calls,
        "input_tokens": amount.input_tokens,
        "output_tokens": amount.output_tokens,
        "usd": amount.usd,
    }


def _print(
    config: RunConfig,
    tried: Rehearsal,
    judges: Mapping[str, _Judge],
    end: tuple[str, int] | None,
) -> None:
    out = console()
    rows = ("expected", "if the policy stays as it is", "at most")
    columns = ("judge", "", "calls", "input tokens", "output tokens", "USD", "takes at least")
    made = table(None, columns, ("judge", ""), out)
    exact = tried.steps == config.train.steps
    for name, judge in judges.items():
        for row, loads in zip(rows, (judge.expected, judge.held, judge.most), strict=True):
            if loads is None or (exact and row == rows[1]):
                continue
            time = judge.seconds() if loads is (judge.expected or judge.most) else None
            made.add_row(name, row, *_cells(judge, loads), "" if time is None else _time(time))
    out.print(made)
    for line in (*_assumed(config, tried, judges), _budget_line(config.judge, judges, end)):
        out.print(line, markup=False, highlight=False, soft_wrap=True)


def _cells(judge: _Judge, loads: Sequence[Load]) -> tuple[str, ...]:
    amount = judge.amount(loads)
    if judge.cloud is None:
        return f"{amount.calls:,.0f}", "-", "-", "on this machine"
    usd = "unknown price" if amount.usd is None else f"{amount.usd:,.4f}"
    counts = (amount.calls, amount.input_tokens, amount.output_tokens)
    return (*(f"{n:,.0f}" for n in counts), usd)


def _time(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def _assumed(config: RunConfig, tried: Rehearsal, judges: Mapping[str, _Judge]) -> tuple[str, ...]:
    """What the numbers rest on, one sentence each."""
    steps = config.train.steps
    lines: list[str] = []
    if tried.steps == 0:
        lines.append(
            f"no step was rehearsed: every completion of all {steps} steps that could need a "
            "judge, as if each did, with the accepted texts for completions"
        )
    elif tried.steps == steps:
        lines.append(
            f"all {steps} steps were rehearsed with the offline judge's verdicts: the counts "
            "differ from the run's as far as its judges' verdicts move the policy otherwise"
        )
    else:
        lines.append(
            f"{tried.steps} of {steps} steps were rehearsed with the offline judge's verdicts; "
            "behind them `expected` carries on their trend, which is a guess until the policy has "
            f"settled: --probe {steps} counts every step"
        )
    for name, judge in judges.items():
        lines += _told(name, judge)
    lines.append(
        "not counted: repeated requests after failures, fallbacks to another judge, and what a "
        "provider's prompt cache saves"
    )
    return tuple(lines)


def _told(name: str, judge: _Judge) -> Iterator[str]:
    """What one judge's numbers rest on."""
    if judge.cloud is None:
        return
    if not any(load.calls for load in judge.most):
        yield f"{name}: is asked only where the judges before it fail"
        return
    if judge.ratio.verdicts:
        yield (
            f"{name}: {judge.ratio.per_char:.3f} tokens a character and "
            f"{judge.ratio.reply:.0f} a reply, as in {judge.ratio.verdicts} verdicts of its own"
        )
    else:
        yield (
            f"{name}: a token for 4 characters and {judge.ratio.reply:.0f} for a reply are "
            "assumed; --ask 20 measures them (paid)"
        )
    if judge.kept:
        total = sum(asked.questions for asked in judge.asked)
        yield (
            f"{name}: {judge.kept} of the {total} rehearsed questions are in the verdict cache "
            "and cost nothing more"
        )
    if judge.paid is not None:
        spent = judge.paid.spent
        money = "unknown price" if spent.dollars is None else f"{spent.dollars:.4f} USD"
        yield f"{name}: --ask took {spent.calls} requests, {money}"


def _budget_line(
    config: JudgeConfig, judges: Mapping[str, _Judge], end: tuple[str, int] | None
) -> str:
    limits = {k: v for k, v in config.budget.model_dump().items() if v is not None}
    if not limits:
        return "budget: none is set (judge.budget)"
    told = ", ".join(f"{name} {limit:,}" for name, limit in limits.items())
    if end is None:
        return f"budget: {told}: the run fits"
    rehearsed = all(judge.expected is not None for judge in judges.values())
    what = "ends" if rehearsed else "could end"
    return (
        f"budget: {told}: it {what} at about step {end[1]} (judge.budget.{end[0]}); from there on "
        "the offline judge scores"
    )
