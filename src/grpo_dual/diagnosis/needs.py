"""What each cause is judged by, and which causes a history cannot be judged on."""

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from grpo_dual.diagnosis.foreign import ALIASES, TRL, VERL
from grpo_dual.diagnosis.history import History
from grpo_dual.metrics import health, names
from grpo_dual.metrics.kinds import ObjectiveMetric, RunMetric

_Metric = RunMetric | ObjectiveMetric


@dataclass(frozen=True, slots=True)
class Need:
    """One way to judge a cause: everything that it takes."""

    metrics: tuple[_Metric, ...] = ()
    columns: tuple[str, ...] = ()
    """Columns that keep the trainer's name; ``*`` stands for any text."""
    settings: tuple[str, ...] = ()
    """Keys of the configuration that have to be known."""
    file: str = ""
    """A file of the run folder beside the metrics."""
    several: bool = False
    """Only runs with several objectives can have this cause."""


@dataclass(frozen=True, slots=True)
class Missing:
    """A cause that could not be looked for."""

    code: str
    lacks: tuple[str, ...]
    """What is missing, in the words of the file's trainer where it has such a column."""

    @property
    def says(self) -> str:
        """One line."""
        return f"{self.code}: needs {', '.join(self.lacks)}"


_Needs = Mapping[str, tuple[Need, ...]]

NEEDS: _Needs = {
    "entropy-collapse": (
        Need((names.ENTROPY, health.RIGHT_FRAC)),
        Need((names.ENTROPY, names.SOLVED_FRAC)),
    ),
    "entropy-rise": (Need((names.ENTROPY,)),),
    "template-collapse": (Need((health.TEMPLATE_FRAC, names.EVASION_ANSWERABLE)),),
    "forced-length": (Need((names.GEN_LEN,), settings=("rollout.sampling.min_new_tokens",)),),
    "sampling-mismatch": (Need(settings=("rollout.sampling.top_k", "rollout.sampling.top_p")),),
    "learning-rate": (Need((names.KL,)),),
    "kl-runaway": (Need((names.KL,)),),
    "kl-frozen": (Need((names.KL, names.GRADIENT_SIGNAL)),),
    "numerics": (Need((names.SKIPPED_UPDATE,)),),
    "stale-adapter": (Need(file="stopped.json"),),
    "dead-rewards": (Need((health.PART_STD, health.RIGHT_FRAC)),),
    "cancelling-rewards": (Need((health.PART_STD, names.REWARD_STD)),),
    "judge-outage": (Need((names.JUDGE_FAILURES,)),),
    "judge-noise": (Need((health.VERDICT_CONFLICT,)), Need((names.JUDGES_AGREEMENT,))),
    "pays-for-filler": (Need((health.EVASION_PAY,)),),
    "length-hacking": (Need((health.LENGTH_COR, names.GEN_LEN, health.RIGHT_FRAC)),),
    "reward-hacking": (Need((names.REWARD_MEAN, health.RIGHT_FRAC)),),
    "prompt-truncation": (Need((names.TRUNC_FRAC,)),),
    "completion-truncation": (Need((names.COMPLETION_TRUNC_FRAC,)),),
    "parser-mismatch": (Need((health.UNPARSED_FRAC,)),),
    "wrong-chat-template": (Need((health.RIGHT_FRAC,), several=True),),
    "condition-imbalance": (
        Need((health.AMBIGUOUS_FRAC,), settings=("objectives.*.prompts_per_step",)),
    ),
    "noisy-general": (
        Need((health.GENERAL_FRAC,), settings=("objectives.*.data.general_filter",)),
    ),
    "starved-objective": (
        Need((names.WEIGHT,), settings=("objectives.*.prompts_per_step",), several=True),
    ),
    "gradient-conflict": (Need((names.GRAD_COSINE, health.HALF_COSINE), several=True),),
}
"""Cause -> the ways to judge it in a run of this package; any of them will do."""

_FOREIGN: _Needs = {
    "entropy-collapse": (Need((names.ENTROPY, names.REWARD_MEAN)),),
    "kl-runaway": (Need((names.KL,)),),
    "numerics": (Need((names.LOSS,)), Need((names.GRAD_NORM,))),
    "length-hacking": (Need((names.GEN_LEN, names.REWARD_MEAN)),),
    "completion-truncation": (Need((names.COMPLETION_TRUNC_FRAC,)),),
}
_ADVANTAGES = ("critic/advantages/max", "critic/advantages/min")
FOREIGN_NEEDS: Mapping[str, _Needs] = {
    TRL: {
        **_FOREIGN,
        "learning-rate": (Need((names.KL,)), Need((names.CLIP_FRAC,))),
        "kl-frozen": (
            Need((names.KL, names.ZERO_VARIANCE_FRAC)),
            Need((names.KL,), ("reward_std",)),
        ),
        "sampling-mismatch": (
            Need(columns=("sampling/importance_sampling_ratio/mean",)),
            Need(columns=("sampling/sampling_logp_difference/mean",)),
        ),
        "dead-rewards": (Need((names.ZERO_VARIANCE_FRAC, names.REWARD_MEAN)),),
        "cancelling-rewards": (Need((names.REWARD_MEAN,), ("rewards/*/std", "reward_std")),),
    },
    VERL: {
        **_FOREIGN,
        "prompt-truncation": (Need((names.TRUNC_FRAC,)),),
        "learning-rate": (
            Need((names.KL,)),
            Need(columns=("actor/ppo_kl",)),
            Need((names.CLIP_FRAC,)),
        ),
        "kl-frozen": (Need((names.KL,), _ADVANTAGES),),
        "sampling-mismatch": (
            Need(columns=("training/rollout_probs_diff_mean",)),
            Need(columns=("rollout_corr/rollout_is_mean",)),
            Need(columns=("rollout_corr/kl",)),
        ),
        "dead-rewards": (Need((names.REWARD_MEAN,), _ADVANTAGES),),
        "cancelling-rewards": (
            Need((names.REWARD_MEAN,), ("gdpo/*/std", "critic/score/max", "critic/score/min")),
        ),
    },
}
"""The same in a file from elsewhere; a cause that is not here cannot be judged there at all."""

_LOGGED_WITH: Mapping[str, str] = {
    "kl": "beta above 0",
    "sampling/importance_sampling_ratio/mean": "vLLM",
    "actor/kl_loss": "use_kl_loss",
    "training/rollout_probs_diff_mean": "rollout.calculate_log_probs",
}
"""Column -> what makes its trainer log it."""


def missing(history: History) -> tuple[Missing, ...]:
    """The causes that could not be looked for, each with what its rule lacks.

    A cause that the run cannot have, by its number of objectives or their kinds, is left out.
    """
    found: list[Missing] = []
    ways = NEEDS if history.own else FOREIGN_NEEDS[history.source]
    for code, own in NEEDS.items():
        applicable = [n for n in ways.get(code, own) if _applies(n, history)]
        lacks = [_lacks(n, history) for n in applicable]
        if lacks and all(lacks):
            found.append(Missing(code, min(lacks, key=len)))
    return tuple(found)


def _applies(need: Need, history: History) -> bool:
    """Could the run have the cause? Of a file from elsewhere nobody knows."""
    if not history.own:
        return True
    only = [m.only for m in need.metrics if isinstance(m, ObjectiveMetric) and m.only]
    fits = not only or any(name in history.objectives for name in only)
    return fits and (not need.several or len(history.objectives) > 1)


def _lacks(need: Need, history: History) -> tuple[str, ...]:
    """What of a need the history does not have."""
    columns = [_name(m, history) for m in need.metrics if not _has(m, history)]
    columns += [c for c in need.columns if not any(fnmatchcase(k, c) for k in history.columns)]
    columns = [f"{c} (logged with {_LOGGED_WITH[c]})" if c in _LOGGED_WITH else c for c in columns]
    beside = [*(f"the setting {k}" for k in need.settings), *([need.file] if need.file else [])]
    # Both come with the run folder.
    return (*columns, *(beside if not history.config else []))


_AT_TIMES = frozenset(
    (health.VERDICT_CONFLICT, health.EVASION_PAY, health.LENGTH_COR, health.GENERAL_FRAC,
     names.JUDGES_AGREEMENT)
)  # fmt: skip
"""Empty where there is nothing to measure: no equal completions, say, or no evasion in a group."""


def _has(metric: _Metric, history: History) -> bool:
    """Is there a column, with a value in it?"""
    if isinstance(metric, RunMetric):
        keys = [metric.key]
    else:
        wanted = [o for o in history.objectives if not history.own or metric.only in (None, o)]
        keys = [metric.of(o) for o in wanted]
    if metric in _AT_TIMES or not history.steps:
        return any(key in history.columns for key in keys)
    return any(history.column(key) for key in keys)


def _name(metric: _Metric, history: History) -> str:
    """As the file's trainer calls it; ours where it has no such column."""
    aliases = ALIASES.get(history.source, {}).get(metric)
    return aliases[0] if aliases else metric.key.format("*")
