"""CSV files of metrics from elsewhere -> ``History``: TRL's and verl's columns under our names.

All prompts are one objective there, called ``all``. A column is given our name only where it means
the same, up to what stands here; what a foreign rule reads beside them keeps its own name.

TRL (1.16, ``trainer/grpo_trainer.py``; a row of ``trainer.state.log_history``):

- ``entropy`` is that of the softmax at the sampling temperature, ours at temperature 1.
- ``kl`` is k3 as ours is, and logged only where ``beta`` is not 0; with ``use_bias_correction_kl``
  it is multiplied by the ratio.
- ``frac_reward_zero_std`` counts groups with ``scale_rewards`` "group" or "none"; with "batch", and
  with ``normalize_then_sum``, it is 1 or 0 for the whole batch.
- ``reward_std`` is the spread over the whole batch (before 0.27: the mean over groups), so it is
  not our ``reward_std``; only its zero means the same. ``rewards/*/std`` is over the batch in all
  versions, without the reward's weight.
- ``clip_ratio/region_mean`` is what the clip removed, as ours; an all-zero column is left out: the
  ratio is 1 by construction where each sample is used once.
- ``sampling/*`` is there only with vLLM. The ratio is per completion by default, cut or masked at
  ``vllm_importance_sampling_clip_max``; under top-k and top-p it is the mass that they leave.
- ``loss`` never is nan by default: Transformers replaces it (``logging_nan_inf_filter``).
- With ``logging_steps`` above 1 a value is the mean over these steps, ``grad_norm`` the last one.

verl (0.9.1 and 0.8, ``trainer/ppo/metric_utils.py``):

- ``critic/score`` is the reward before a KL penalty, ``critic/rewards`` after it.
- ``actor/kl_loss`` is of the kind ``kl_loss_type`` says; up to 0.8 it is summed over mini-batches,
  and 0 is logged where no KL is computed, so an all-zero column without ``actor/kl_coef`` is left
  out.
- ``actor/ppo_kl`` is to the policy that sampled, not to the reference: it keeps its name.
- ``*_length/clip_ratio`` is the share at the width of the batch's tensor, which is the limit only
  where that is what they are padded to: left out where the largest length changes from step to
  step.
"""

import csv
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from grpo_dual.diagnosis.history import OWN, History, Value
from grpo_dual.diagnosis.reading import CONFIG, read_run, read_table
from grpo_dual.errors import DataError
from grpo_dual.metrics import names
from grpo_dual.metrics.kinds import SHORT, ObjectiveMetric, RunMetric
from grpo_dual.metrics.sinks import STEP_CSV

OBJECTIVE = "all"
TRL, VERL = "trl", "verl"

_Metric = RunMetric | ObjectiveMetric
ALIASES: Mapping[str, Mapping[_Metric, tuple[str, ...]]] = {
    TRL: {
        names.REWARD_MEAN: ("reward",),
        names.ZERO_VARIANCE_FRAC: ("frac_reward_zero_std",),
        names.ENTROPY: ("entropy",),
        names.KL: ("kl",),
        names.CLIP_FRAC: ("clip_ratio/region_mean", "clip_ratio"),
        names.GEN_LEN: ("completions/mean_length", "completion_length"),
        names.COMPLETION_TRUNC_FRAC: ("completions/clipped_ratio",),
        names.LOSS: ("loss",),
        names.GRAD_NORM: ("grad_norm",),
        names.LEARNING_RATE: ("learning_rate",),
        names.SAMPLER_GAP: ("sampling/sampling_logp_difference/max",),
    },
    VERL: {
        names.REWARD_MEAN: ("critic/score/mean", "critic/rewards/mean"),
        names.ENTROPY: ("actor/entropy", "actor/entropy_loss"),
        names.KL: ("actor/kl_loss", "actor/reward_kl_penalty"),
        names.CLIP_FRAC: ("actor/pg_clipfrac",),
        names.GEN_LEN: ("response_length/mean",),
        names.COMPLETION_TRUNC_FRAC: ("response_length/clip_ratio",),
        names.TRUNC_FRAC: ("prompt_length/clip_ratio",),
        names.LOSS: ("actor/loss", "actor/pg_loss"),
        names.GRAD_NORM: ("actor/grad_norm",),
        names.LEARNING_RATE: ("actor/lr",),
    },
}
"""Trainer -> our metric -> its columns there; the first that was measured is taken."""

_CLIPS = {name for aliases in ALIASES.values() for name in aliases[names.CLIP_FRAC]}

SETTINGS: Mapping[str, Mapping[str, str]] = {
    TRL: {
        "rate": "learning_rate",
        "beta": "beta",
        "new_tokens": "max_completion_length",
        "prompt_tokens": "the prompts' length",
        "group": "num_generations",
        "weights": "reward_weights",
        "truncation": "top_k=0, top_p=1.0",
    },
    VERL: {
        "rate": "actor_rollout_ref.actor.optim.lr",
        "beta": "actor_rollout_ref.actor.kl_loss_coef",
        "new_tokens": "data.max_response_length",
        "prompt_tokens": "data.max_prompt_length",
        "group": "actor_rollout_ref.rollout.n",
        "weights": "the rewards' weights",
        "truncation": "actor_rollout_ref.rollout.top_k=-1, top_p=1.0",
    },
}
"""Trainer -> what a remedy changes -> its name there."""

_READ_AS_IS = re.compile(
    r"(rewards|gdpo)/.+/(mean|std)|reward_std|sampling/.+|rollout_corr/.+|actor/ppo_kl"
    r"|critic/(score|advantages)/(max|min)|training/rollout_probs_diff_mean"
)
"""Columns that rules read under their own names."""
_STEPS = ("step", "global_step", "training/global_step", "_step", "Step")
_OWN_REWARD = re.compile(r"reward_(.+)_mean")
_EXTREMES = ("__MIN", "__MAX")
_SHOWN = 24
"""Columns that an error names."""

_Cells = dict[str, Value]


def read_csv(path: Path) -> History:
    """A CSV file of metrics: our own, TRL's, verl's, or W&B's export of theirs.

    Rows of one step become one; rows in which nothing that is read was measured (evaluations, a
    trainer's last line) are left out. Other columns are kept under their own names.

    Raises:
        DataError: It cannot be read, holds several runs, or none of its columns is known.
    """
    if path.name == STEP_CSV and (path.parent / CONFIG).exists():
        return read_run(path.parent)
    try:
        header, rows = read_table(path)
    except csv.Error as error:
        raise DataError(f"{path}: cannot be read as CSV ({error})") from error
    own = _own_objectives(header)
    if own:
        return _history(path, rows, header, own)
    plain = _plain(path, header)
    source = _source(plain.values())
    if source is None:
        raise DataError(_unknown(path, header))
    table = [{plain[key]: value for key, value in row.items() if key in plain} for row in rows]
    renamed = _renaming(source, table)
    table = [{renamed.get(k, k): _clean(renamed.get(k, k), v) for k, v in r.items()} for r in table]
    known = set(renamed.values()) | {c for c in plain.values() if _READ_AS_IS.fullmatch(c)}
    return _history(path, table, sorted(known), (OBJECTIVE,), source)


def _own_objectives(header: Sequence[str]) -> tuple[str, ...]:
    """Objectives of a ``train_step_metrics.csv``, by the suffixes of its columns."""
    long = {short: name for name, short in SHORT.items()}
    suffixes = [m[1] for m in map(_OWN_REWARD.fullmatch, header) if m]
    return tuple(long.get(s, s) for s in suffixes if f"kl_{s}" in header)


def _plain(path: Path, header: Sequence[str]) -> dict[str, str]:
    """Column -> its name as the trainer wrote it: without W&B's run name, extremes and ``train/``.

    Raises:
        DataError: The columns are those of several runs.
    """
    found: dict[str, str] = {}
    runs: set[str] = set()
    for key in header:
        run, dash, name = key.strip().rpartition(" - ")
        if name.endswith(_EXTREMES):
            continue
        if dash:
            runs.add(run)
        found[key] = name.removeprefix("train/")
    if len(runs) > 1:
        raise DataError(
            f"{path}: holds the columns of {len(runs)} runs ({', '.join(sorted(runs)[:5])}); "
            "export one run at a time"
        )
    return found


def _source(columns: Iterable[str]) -> str | None:
    """Whose columns most of them are; None when nobody's."""
    listed = set(columns)
    counts = {
        source: sum(name in listed for own in aliases.values() for name in own)
        for source, aliases in ALIASES.items()
    }
    best = max(counts, key=counts.__getitem__)
    return best if counts[best] else None


def _renaming(source: str, table: Sequence[_Cells]) -> dict[str, str]:
    """The trainer's column -> ours."""
    found: dict[str, str] = {}
    for metric, aliases in ALIASES[source].items():
        measured = (a for a in aliases if _measured(table, a) and _means_it(a, table))
        chosen = next(measured, None)
        if chosen is not None:
            found[chosen] = (
                metric.of(OBJECTIVE) if isinstance(metric, ObjectiveMetric) else metric.key
            )
    return found


def _measured(table: Sequence[_Cells], column: str) -> bool:
    return any(row.get(column) is not None for row in table)


def _means_it(column: str, table: Sequence[_Cells]) -> bool:
    """False for columns that hold something else in this file (see above)."""
    if column in _CLIPS:
        return any(row.get(column) for row in table)
    if column == "actor/kl_loss" and not any(row.get(column) for row in table):
        return _measured(table, "actor/kl_coef")
    length, slash, what = column.partition("/")
    if slash and what == "clip_ratio":
        longest = {v for v in (row.get(f"{length}/max") for row in table) if v is not None}
        shortest = {v for v in (row.get(f"{length}/min") for row in table) if v is not None}
        uniform = column.startswith("prompt") and longest == shortest
        return len(longest) <= 1 and not uniform
    return True


def _clean(column: str, value: Value) -> Value:
    """A nan is nothing measured, but for loss and gradient: there it is the finding."""
    finding = column in (names.LOSS.key, names.GRAD_NORM.key)
    return None if value is not None and math.isnan(value) and not finding else value


def _history(
    path: Path,
    table: Sequence[_Cells],
    known: Sequence[str],
    objectives: tuple[str, ...],
    source: str = OWN,
) -> History:
    """Rows merged by step, in order; columns without a value left out."""
    number = next((name for name in _STEPS if _measured(table, name)), "")
    by_step: dict[int, _Cells] = {}
    step = 0
    for row in table:
        if all(row.get(name) is None for name in known):
            continue
        given = row.get(number)
        step = int(given) if given is not None and math.isfinite(given) else step + 1
        by_step.setdefault(step, {}).update({k: v for k, v in row.items() if v is not None})
    if not by_step and source != OWN:
        raise DataError(
            f"{path}: has columns of {source}, but no number in them; is it the file of a run "
            "that has logged nothing yet?"
        )
    steps = tuple(sorted(by_step))
    columns = dict.fromkeys(k for s in steps for k in by_step[s] if k not in _STEPS)
    return History(
        objectives=objectives,
        steps=steps,
        columns={key: tuple(by_step[s].get(key) for s in steps) for key in columns},
        source=source,
    )


def _unknown(path: Path, header: Sequence[str]) -> str:
    shown = ", ".join(header[:_SHOWN]) + (", ..." if len(header) > _SHOWN else "")
    readable = "; ".join(
        f"{source}'s " + ", ".join(a[0] for a in aliases.values())
        for source, aliases in ALIASES.items()
    )
    return (
        f"{path}: none of its columns is known. It has {shown}. Readable are grpo-dual's own "
        f"{STEP_CSV}, {readable}; separated by commas, with a line of names."
    )
