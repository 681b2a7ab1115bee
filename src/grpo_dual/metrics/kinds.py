"""What a metric column is: of the run, of a judge or of an objective."""

from dataclasses import dataclass
from typing import Literal

SHORT = {"fairness": "f", "hallucination": "h"}
"""Short suffixes of the two objectives of the hand-off; any other objective is written out."""


def suffix(objective: str) -> str:
    """The objective's suffix in column names: ``f``, ``h``, or its own name."""
    return SHORT.get(objective, objective)


@dataclass(frozen=True, slots=True)
class Metric:
    """What a column holds."""

    key: str
    """Column name; in an ObjectiveMetric with ``{}`` where the objective's suffix goes."""
    unit: str
    """Unit of the value: nats/token, tokens, share (0 to 1), count, seconds, 1 (no unit), ..."""
    meaning: str
    """One sentence for docs/metrics.md and for readers of the code."""
    better: Literal["higher", "lower"] | None = None
    """Which way is better for a healthy run; None where neither is: no best value then."""
    only: str | None = None
    """The one objective that has it (ObjectiveMetric); ``several``: needs two (RunMetric);
    ``judges``: there only where the run has judges."""


@dataclass(frozen=True, slots=True)
class RunMetric(Metric):
    """One column a run."""


@dataclass(frozen=True, slots=True)
class JudgeMetric(Metric):
    """One column for each judge of the run."""

    def of(self, judge: str) -> str:
        """The column of one judge: ``JUDGE_CALLS.of("openai") == "judges_calls_openai"``."""
        return self.key.format(judge)


@dataclass(frozen=True, slots=True)
class ObjectiveMetric(Metric):
    """One column for each objective."""

    def of(self, objective: str) -> str:
        """The column of one objective: ``KL.of("fairness") == "kl_f"``."""
        return self.key.format(suffix(objective))
