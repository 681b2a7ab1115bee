"""Every metric key of a training step, once: its column, unit, meaning and direction.

The order of ``METRICS`` is the column order of the metric files, and docs/metrics.md is rendered
from it. A value that a step could not measure (no scored completion, say) is missing, never 0.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Literal

from grpo_dual.errors import ConfigError
from grpo_dual.metrics.health import HEALTH
from grpo_dual.metrics.kinds import JudgeMetric, ObjectiveMetric, RunMetric, suffix

_M = ObjectiveMetric
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")

METRICS: tuple[RunMetric | ObjectiveMetric | JudgeMetric, ...] = (
    STEP := RunMetric("step", "1", "Number of the step; the first row is step 1."),
    KL := _M(
        "kl_{}",
        "nats/token",
        "KL to the reference: k3 mean over the objective's completion tokens at the sampling "
        "temperature. The controller of beta reads this one.",
    ),
    REWARD_MEAN := _M(
        "reward_{}_mean",
        "reward",
        "Mean total reward of the scored completions, shaping included, before scale and weight.",
        "higher",
    ),
    CLIP_FRAC := RunMetric(
        "clip_frac",
        "share",
        "Completion tokens whose policy gradient the clip removed, over all updates of the step. "
        "Exactly 0 when num_iterations is 1: the ratio is then 1 by construction.",
    ),
    GEN_LEN := _M("gen_len_{}_mean", "tokens", "Mean completion length, the EOS included."),
    TRUNC_FRAC := _M(
        "trunc_frac_{}",
        "share",
        "Prompts whose document was shortened to fit rollout.max_prompt_tokens (question and "
        "options never are).",
        "lower",
    ),
    LOSS := RunMetric(
        "loss",
        "1",
        "Value of the whole loss, sum over objectives of w (PG + beta KL), last update.",
    ),
    GRAD_NORM := RunMetric(
        "grad_norm", "1", "L2 norm of the combined gradient before clipping, last update."
    ),
    GRAD_COSINE := RunMetric(
        "grad_cosine",
        "cosine",
        "Conflict: cosine between the objectives' gradients, the smallest pair when there are more "
        "than two; missing when one of them is exactly zero.",
        only="several",
    ),
    LEARNING_RATE := RunMetric("lr", "1", "Learning rate of the step's updates."),
    SKIPPED_UPDATE := RunMetric(
        "skipped_update",
        "flag",
        "1 when loss or gradient was not finite and the update was left out, else 0.",
        "lower",
    ),
    REWARD_STD := _M(
        "reward_std_{}",
        "reward",
        "Mean over groups of the standard deviation (ddof 1) of the rewards within a group.",
    ),
    ZERO_VARIANCE_FRAC := _M(
        "zero_var_frac_{}",
        "share",
        "Groups whose scored rewards are all equal (max == min), solved ones included.",
    ),
    SOLVED_FRAC := _M(
        "solved_frac_{}",
        "share",
        "Groups whose completions all earn the full task reward: harder prompts would teach more.",
    ),
    LIVE_TOKEN_FRAC := _M(
        "live_token_frac_{}",
        "share",
        "Completion tokens that carry a non-zero advantage.",
    ),
    GRADIENT_SIGNAL := _M(
        "gradient_signal_{}",
        "1",
        "Mean |advantage| over the objective's completion tokens, where tokens of dead groups and "
        "of unscored completions count as 0.",
    ),
    OBJECTIVE_GRAD_NORM := _M(
        "grad_norm_{}",
        "1",
        "L2 norm of this objective's own gradient, before its weight and before clipping.",
    ),
    WEIGHT := _M("weight_{}", "1", "Weight w of the objective in the loss; all add up to 1."),
    BETA := _M("beta_{}", "1", "Coefficient of the objective's KL term in this step."),
    KL_MAX := _M("kl_max_{}", "nats", "Largest k3 of a single token."),
    KL_MODEL := _M(
        "kl_model_{}",
        "nats/token",
        "k3 at temperature 1 and without sampling's truncation and penalties: how far the model "
        "itself is from the reference, on the same tokens.",
    ),
    ENTROPY := _M(
        "entropy_{}",
        "nats/token",
        "Exact entropy of the policy over the whole vocabulary at temperature 1, mean over "
        "completion tokens.",
    ),
    MAX_PROB := _M(
        "max_prob_mean_{}",
        "probability",
        "Probability of the likeliest token at temperature 1, mean over completion tokens.",
    ),
    EVASION_RATE := _M(
        "evasion_rate_{}",
        "share",
        "Scored completions judged as evading or abstaining, over all items.",
        "lower",
    ),
    EVASION_ANSWERABLE := _M(
        "evasion_answerable_rate_{}",
        "share",
        "The same over answerable items only: the context or knowledge holds the answer.",
        "lower",
    ),
    STEREOTYPED_FRAC := _M(
        "stereotyped_frac_{}",
        "share",
        "Scored completions that name the stereotype-consistent person where that is wrong.",
        "lower",
        only="fairness",
    ),
    COMPLETION_TRUNC_FRAC := _M(
        "completion_trunc_frac_{}",
        "share",
        "Completions cut by max_new_tokens, without an EOS.",
        "lower",
    ),
    UNSCORED := _M(
        "unscored_count_{}",
        "count",
        "Completions without a score; they are left out of every statistic.",
        "lower",
    ),
    JUDGE_FAILURES := _M(
        "judge_failures_{}",
        "count",
        "Those of the unscored for which a judge or custom reward failed, rather than had no "
        "opinion.",
        "lower",
    ),
    BY_RULE := _M("by_rule_{}", "count", "Completions scored by a rule on the parsed answer."),
    BY_HEURISTIC := _M(
        "by_heuristic_{}", "count", "Completions scored by the offline heuristic judge."
    ),
    BY_TEMPLATE := _M(
        "by_template_detector_{}",
        "count",
        "Completions scored by the template detector (evasions).",
    ),
    BY_OTHER := _M(
        "by_other_{}", "count", "Completions scored by a custom reward or a named judge."
    ),
    SWAYS := _M(
        "sway_attempts_{}",
        "count",
        "Completions from which an attempt to sway the judge was taken out before it was asked.",
        "lower",
        only="judges",
    ),
    JUDGES_OFFLINE_GROUPS := RunMetric(
        "judges_offline_groups",
        "count",
        "Groups that the offline judge scored because no judge of the route could.",
        "lower",
        only="judges",
    ),
    JUDGES_UNSCORED_GROUPS := RunMetric(
        "judges_unscored_groups",
        "count",
        "Groups in which not one of the completions that were asked about got a verdict.",
        "lower",
        only="judges",
    ),
    JUDGES_AGREEMENT := RunMetric(
        "judges_agreement",
        "share",
        "Completions on which two judges agree, where two were asked (route both-and-agree).",
        only="judges",
    ),
    JUDGES_VERDICTS := JudgeMetric(
        "judges_verdicts_{}", "count", "Completions that this judge scored."
    ),
    JUDGES_CACHE_HITS := JudgeMetric(
        "judges_cache_hits_{}",
        "count",
        "Questions to this judge whose verdict was on disk or already being asked for.",
    ),
    JUDGES_CALLS := JudgeMetric(
        "judges_calls_{}", "count", "Requests to this judge, failed ones included."
    ),
    JUDGES_FAILED_CALLS := JudgeMetric(
        "judges_failed_calls_{}", "count", "Of them, those that brought no valid reply.", "lower"
    ),
    JUDGES_INPUT_TOKENS := JudgeMetric(
        "judges_input_tokens_{}", "tokens", "Prompt tokens, as the provider counted them."
    ),
    JUDGES_OUTPUT_TOKENS := JudgeMetric(
        "judges_output_tokens_{}", "tokens", "Reply tokens, as the provider counted them."
    ),
    JUDGES_USD := JudgeMetric(
        "judges_usd_{}", "USD", "Cost by the configured price; missing where there is none."
    ),
    JUDGES_BUSY_SECONDS := RunMetric(
        "judges_busy_seconds",
        "seconds",
        "Time in which at least one group was being judged.",
        only="judges",
    ),
    JUDGES_WAIT_SECONDS := RunMetric(
        "judges_wait_seconds",
        "seconds",
        "Of it, time in which training stood still.",
        only="judges",
    ),
    JUDGES_HIDDEN_SHARE := RunMetric(
        "judges_hidden_share",
        "share",
        "1 - wait / busy: share of the judges' time behind which something else was computed.",
        only="judges",
    ),
    *HEALTH,
    SAMPLER_RATIO := RunMetric(
        "sampler_ratio_mean",
        "ratio",
        "Mean of trainer's over sampler's probability of the drawn tokens before the first update: "
        "1 up to rounding; the run stops when it is not.",
    ),
    SAMPLER_GAP := RunMetric(
        "sampler_gap_max", "nats", "Largest difference of the two log-probs of one token."
    ),
    TOKENS := RunMetric("tokens", "tokens", "Completion tokens of the step, all objectives."),
    ROLLOUT_SECONDS := RunMetric("rollout_seconds", "seconds", "Sampling the completions."),
    REWARD_SECONDS := RunMetric(
        "reward_seconds", "seconds", "Scoring them and forming advantages."
    ),
    REFERENCE_SECONDS := RunMetric(
        "reference_seconds", "seconds", "Log-probs under the reference."
    ),
    FORWARD_SECONDS := RunMetric(
        "forward_seconds", "seconds", "Forward and backward passes of the policy."
    ),
    UPDATE_SECONDS := RunMetric(
        "update_seconds", "seconds", "Combining gradients and the optimiser's update."
    ),
)
"""All metrics in the order of their columns."""

TIMING = "_seconds"
"""Suffix of the columns that differ between two runs of the same seed."""
JUDGES = "judges_"
"""Prefix of the columns of provider, cache and cost: a resumed run has verdicts in its cache that
the first one paid for."""

_PROVIDERS = {"rule": BY_RULE, "heuristic": BY_HEURISTIC, "template_detector": BY_TEMPLATE}


def provider(name: str) -> ObjectiveMetric:
    """The metric that counts the completions scored by ``Score.provider == name``."""
    return _PROVIDERS.get(name, BY_OTHER)


def columns(objectives: Sequence[str], judges: Sequence[str] = ()) -> tuple[str, ...]:
    """All columns of a run in their fixed order.

    Args:
        objectives: Names of the run's objectives, in the order of its configuration.
        judges: Names of its judges; none means the offline one alone.

    Raises:
        ConfigError: A name is no plain identifier, or two objectives would share their columns.
    """
    for name in objectives:
        if not _NAME.fullmatch(name):
            raise ConfigError(
                f"objectives: {name!r} cannot name metric columns; use letters, digits, - and "
                "_, and a letter first."
            )
    suffixes = [suffix(name) for name in objectives]
    if len(set(suffixes)) < len(suffixes):
        raise ConfigError(
            f"objectives: {', '.join(objectives)} would share metric columns (suffixes "
            f"{', '.join(suffixes)}); rename one of them."
        )
    keys = tuple(key for metric in METRICS for key in _expand(metric, objectives, judges))
    if len(set(keys)) < len(keys):
        twice = sorted({key for key in keys if keys.count(key) > 1})
        raise ConfigError(
            f"objectives: {', '.join(objectives)} make the metric columns {', '.join(twice)} "
            "ambiguous; rename the objective that causes it."
        )
    return keys


def _expand(
    metric: RunMetric | ObjectiveMetric | JudgeMetric,
    objectives: Sequence[str],
    judges: Sequence[str],
) -> Iterator[str]:
    if metric.only == "judges" and not judges:
        return
    if isinstance(metric, RunMetric):
        if metric.only != "several" or len(objectives) > 1:
            yield metric.key
        return
    if isinstance(metric, JudgeMetric):
        yield from (metric.of(name) for name in judges)
        return
    for name in objectives:
        if metric.only in (None, "judges", name):
            yield metric.of(name)


def better(
    objectives: Sequence[str], judges: Sequence[str] = ()
) -> dict[str, Literal["higher", "lower"]]:
    """Direction of each column that has one."""
    return {
        key: metric.better
        for metric in METRICS
        if metric.better is not None
        for key in _expand(metric, objectives, judges)
    }


def tags(objectives: Sequence[str], judges: Sequence[str] = ()) -> dict[str, str]:
    """Column -> its name in a tracker: ``fairness/kl``, ``run/loss``, ``judges/calls_NAME``.

    Times are ``seconds/PART``; ``step`` is the axis and has no name.
    """
    found: dict[str, str] = {}
    for metric in METRICS:
        for place, key in enumerate(_expand(metric, objectives, judges)):
            if isinstance(metric, ObjectiveMetric):
                # A metric of one objective has one column, whatever its place.
                name = objectives[place] if metric.only in (None, "judges") else str(metric.only)
                bare = metric.key.replace("_{}", "").replace("{}_", "")
                found[key] = f"{name}/{bare}"
            elif key.startswith(JUDGES):
                found[key] = f"judges/{key.removeprefix(JUDGES)}"
            elif key.endswith(TIMING):
                found[key] = f"seconds/{key.removesuffix(TIMING)}"
            elif metric is not STEP:
                found[key] = f"run/{key}"
    return found


def markdown() -> str:
    """The table of docs/metrics.md: one row for each metric, in column order."""
    rows = ["| column | unit | better | meaning |", "|---|---|---|---|"]
    for metric in METRICS:
        key = metric.key
        if isinstance(metric, JudgeMetric):
            key = key.format("JUDGE")
        if isinstance(metric, ObjectiveMetric):
            one = metric.only not in (None, "judges")
            key = metric.of(str(metric.only)) if one else key.format("*")
        meaning = metric.meaning.replace("|", "\\|")
        rows.append(f"| `{key}` | {metric.unit} | {metric.better or ''} | {meaning} |")
    return "\n".join(rows) + "\n"
