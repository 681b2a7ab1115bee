"""What judges will take: the arithmetic of an estimate, from counts of a rehearsal.

Of each step t of a run the *bound* is known beforehand, since its records are: G_t groups that a
judge may have to score, K completions of each. Of the first steps it is also known, by a rehearsal,
what would really have been asked: a_t groups with something to ask, and q_t questions that are
neither settled by rule nor equal to one before.

A policy that sharpens asks less: its answers become right by rule or equal to each other. So two
Poisson trends are carried on, each falling or level and never rising:

    asking groups   E[a_t] = G_t exp(alpha + beta t),               beta <= 0
    more questions  E[q_t - a_t] = G_t (K - 1) exp(gamma + delta t),  delta <= 0

A group that asks at all asks one question at least: a policy that says one and the same to a prompt
ends at one question a group, not at none. Beside it stands what would be asked if the policy stayed
as it was in the last third of the rehearsal.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from grpo_dual.config.judging import JudgeBudgetConfig, PriceConfig
from grpo_dual.judges.asking import TYPICAL_CHARS_PER_TOKEN
from grpo_dual.judges.client import Usage
from grpo_dual.judges.ledger import cost

TYPICAL_REPLY_TOKENS = 40
"""A verdict with one short sentence, before a judge's own replies are known."""
_FEWEST = 4
"""Steps of a rehearsal from which on it has a trend."""
_STEEPEST = -3.0
_HALVINGS = 60


@dataclass(frozen=True, slots=True)
class Bound:
    """What one judge can be asked in one step, failures apart."""

    groups: int = 0
    questions: int = 0
    """K a group."""
    chars: int = 0
    """Of these requests, with the accepted texts for completions."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What one judge was asked in one step of the rehearsal."""

    groups: int = 0
    """With at least one question."""
    questions: int = 0
    """Distinct ones that no step before had."""
    chars: int = 0
    """Of their requests."""


@dataclass(frozen=True, slots=True)
class Load:
    """Requests of one judge in one step, expected: a mean needs not be whole."""

    calls: float
    chars: float


@dataclass(frozen=True, slots=True)
class Ratio:
    """From characters and calls to tokens."""

    per_char: float = 1 / TYPICAL_CHARS_PER_TOKEN
    """Prompt tokens a character of the request."""
    reply: float = TYPICAL_REPLY_TOKENS
    """Tokens of a reply."""
    verdicts: int = 0
    """Measured on so many; 0: assumed."""


@dataclass(frozen=True, slots=True)
class Amount:
    """Calls and what they take."""

    calls: float
    input_tokens: float
    output_tokens: float
    usd: float | None
    """None where the price is unknown."""

    @property
    def tokens(self) -> float:
        """Both kinds."""
        return self.input_tokens + self.output_tokens


def most(bounds: Sequence[Bound]) -> list[Load]:
    """The load if every completion were asked about."""
    return [Load(b.questions, b.chars) for b in bounds]


def projected(
    bounds: Sequence[Bound], asked: Sequence[Asked], fresh: Sequence[Asked]
) -> list[Load]:
    """The load of every step: as rehearsed, then by the trends.

    Args:
        bounds: Of every step of the run.
        asked: Of the first steps; not empty.
        fresh: Of these, what no earlier run has paid for.
    """
    here = bounds[: len(asked)]
    ahead = bounds[len(asked) :]
    groups = trend([a.groups for a in asked], [b.groups for b in here])
    more = trend([a.questions - a.groups for a in asked], [b.questions - b.groups for b in here])
    calls = [
        b.groups * groups(t) + (b.questions - b.groups) * more(t)
        for t, b in enumerate(ahead, start=1)
    ]
    return _loads(bounds, asked, fresh, calls)


def held(bounds: Sequence[Bound], asked: Sequence[Asked], fresh: Sequence[Asked]) -> list[Load]:
    """The load of every step: as rehearsed, then as in the last third of the rehearsal."""
    last = slice(len(asked) - max(1, math.ceil(len(asked) / 3)), len(asked))
    possible = sum(b.questions for b in bounds[last])
    share = sum(a.questions for a in asked[last]) / possible if possible else 0.0
    return _loads(bounds, asked, fresh, [share * b.questions for b in bounds[len(asked) :]])


class Trend:
    """A share that falls exponentially, or is level."""

    def __init__(self, now: float, slope: float) -> None:
        """Share behind the last step, and the slope of its logarithm, at most 0."""
        self.now = now
        self.slope = slope

    def __call__(self, ahead: int) -> float:
        """The share so many steps behind the last one."""
        return min(1.0, self.now * math.exp(self.slope * ahead))


def trend(counts: Sequence[int], among: Sequence[int]) -> Trend:
    """Fit counts y_t ~ Poisson(n_t exp(alpha + beta t)), beta <= 0, by maximum likelihood.

    For a given beta the best alpha is sum y / sum n e^(beta t) (logarithm of); then the derivative
    by beta, sum t y - sum y (sum t n e^(beta t)) / (sum n e^(beta t)), falls in beta, so its zero
    is found by halving. Fewer than four steps give their mean.

    Args:
        counts: y_t, in the order of the steps.
        among: n_t, how many there could have been.
    """
    total, possible = sum(counts), sum(among)
    if total == 0 or possible == 0:
        return Trend(0.0, 0.0)
    if len(counts) < _FEWEST:
        return Trend(total / possible, 0.0)
    times = range(1 - len(counts), 1)
    moment = sum(t * y for t, y in zip(times, counts, strict=True))

    def weights(slope: float) -> list[float]:
        return [n * math.exp(slope * t) for t, n in zip(times, among, strict=True)]

    def rises(slope: float) -> bool:
        w = weights(slope)
        return moment > total * sum(t * v for t, v in zip(times, w, strict=True)) / sum(w)

    low, high = _STEEPEST, 0.0
    if rises(high):
        low = high
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if rises(middle) else (low, middle)
    slope = (low + high) / 2
    return Trend(total / sum(weights(slope)), slope)


def _loads(
    bounds: Sequence[Bound],
    asked: Sequence[Asked],
    fresh: Sequence[Asked],
    ahead: Sequence[float],
) -> list[Load]:
    """Rehearsed steps, and further ones whose requests are as long as their records say.

    Completions differ from the accepted texts in length: by as much as in the rehearsal.
    """
    pairs = list(zip(asked, bounds, strict=False))
    usual = sum(a.questions * b.chars / b.questions for a, b in pairs if b.questions)
    longer = sum(a.chars for a in asked) / usual if usual else 1.0
    loads = [Load(a.questions, a.chars) for a in fresh]
    for calls, bound in zip(ahead, bounds[len(asked) :], strict=True):
        chars = longer * calls * bound.chars / bound.questions if bound.questions else 0.0
        loads.append(Load(calls, chars))
    return loads


def amount(loads: Sequence[Load], ratio: Ratio, price: PriceConfig | None) -> Amount:
    """What loads come to. Nothing is taken off for prompts in the provider's cache."""
    calls = sum(load.calls for load in loads)
    fed = sum(load.chars for load in loads) * ratio.per_char
    said = calls * ratio.reply
    usd = None
    if price is not None:
        million = Usage(input=1_000_000), Usage(output=1_000_000)
        fresh, reply = (cost(usage, price) or 0.0 for usage in million)
        usd = (fed * fresh + said * reply) / 1_000_000
    return Amount(calls, fed, said, usd)


def exhausted(
    budget: JudgeBudgetConfig, steps: Sequence[Sequence[Amount]]
) -> tuple[str, int] | None:
    """Where the budget ends.

    Args:
        budget: Hard limits.
        steps: For each step, what each judge takes in it.

    Returns:
        The limit that is passed first, and the step in which it is; None where the run fits.
    """
    calls = tokens = usd = 0.0
    for number, judges in enumerate(steps, start=1):
        calls += sum(a.calls for a in judges)
        tokens += sum(a.tokens for a in judges)
        usd += sum(a.usd or 0.0 for a in judges)
        limits = (
            ("calls", budget.calls, calls),
            ("tokens", budget.tokens, tokens),
            ("usd", budget.usd, usd),
        )
        for name, limit, used in limits:
            if limit is not None and used > limit:
                return name, number
    return None


def seconds(
    whole: Amount,
    *,
    concurrency: int,
    requests_per_minute: int | None,
    tokens_per_minute: int | None,
    answer_seconds: float | None,
) -> float | None:
    """The least time that the requests take, by whatever limits them most.

    Args:
        whole: All requests.
        concurrency: Verdicts worked on at once.
        requests_per_minute: The quota, if known.
        tokens_per_minute: The quota, if known.
        answer_seconds: Time of one answer, if measured.

    Returns:
        None where nothing is known that could limit them.
    """
    known: list[float] = []
    if requests_per_minute is not None:
        known.append(60 * whole.calls / requests_per_minute)
    if tokens_per_minute is not None:
        known.append(60 * whole.tokens / tokens_per_minute)
    if answer_seconds is not None:
        known.append(whole.calls * answer_seconds / concurrency)
    return max(known, default=None)


def summed(amounts: Sequence[Amount]) -> Amount:
    """The sum; its money is unknown as soon as one part's is."""
    prices = [a.usd for a in amounts]
    known = [usd for usd in prices if usd is not None]
    return Amount(
        sum(a.calls for a in amounts),
        sum(a.input_tokens for a in amounts),
        sum(a.output_tokens for a in amounts),
        sum(known) if len(known) == len(prices) else None,
    )
