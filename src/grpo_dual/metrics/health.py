"""The columns that the doctor reads beside the older ones; see docs/doctor.md."""

from grpo_dual.metrics.kinds import ObjectiveMetric, RunMetric

_M = ObjectiveMetric

HEALTH: tuple[RunMetric | ObjectiveMetric, ...] = (
    ENTROPY_SAMPLING := _M(
        "entropy_sampling_{}",
        "nats/token",
        "Exact entropy of the distribution that was sampled from: temperature, truncation and "
        "penalties included.",
    ),
    MAX_PROB_FIRST := _M(
        "max_prob_first_{}",
        "probability",
        "Probability of the likeliest token at temperature 1, mean over first tokens.",
    ),
    MAX_PROB_START := _M(
        "max_prob_start_{}", "probability", "The same over tokens 2 to 8 of each completion."
    ),
    MAX_PROB_LATER := _M(
        "max_prob_later_{}", "probability", "The same over tokens from the ninth on."
    ),
    KL_SEQUENCE_MAX := _M(
        "kl_seq_max_{}", "nats", "Largest k3 of a completion, summed over its tokens."
    ),
    RATIO_MAX := _M(
        "ratio_max_{}",
        "ratio",
        "Largest pi / pi_old of a live token over the step's updates; 1 when num_iterations is 1.",
    ),
    DEAD_FRAC := _M(
        "dead_frac_{}",
        "share",
        "Groups whose rewards are all equal (max == min) and not the best ones: nothing is learnt "
        "from them.",
        "lower",
    ),
    ZERO_VARIANCE_EXPECTED := _M(
        "zero_var_expected_{}",
        "share",
        "Groups without spread that chance alone would give: sum over reward values v of f(v)^K, "
        "f their share in the objective; p^K + (1-p)^K for two values. Far more of them means that "
        "prompts are easy or hopeless, or that completions are copies.",
    ),
    REWARD_SPREAD := _M(
        "reward_spread_{}",
        "ratio",
        "Mean variance of the rewards within a group (ddof 1) over their variance in the whole "
        "objective; 1, whatever the group size, when rewards do not depend on the prompt.",
    ),
    PART_STD := _M(
        "part_std_{}",
        "reward",
        "Mean over groups of the largest standard deviation (ddof 1) of a single reward part: far "
        "above reward_std where parts cancel.",
    ),
    TASK_COV := _M(
        "task_cov_{}",
        "reward",
        "Covariance of the task part with the advantage within groups: what training is paid for.",
        "higher",
    ),
    SHAPING_COV := _M(
        "shaping_cov_{}", "reward", "Covariance of the length part with the advantage."
    ),
    OTHER_COV := _M(
        "other_cov_{}",
        "reward",
        "Covariance of all further parts (custom rewards, stereotyped, contrast) with the "
        "advantage.",
    ),
    LENGTH_COR := _M(
        "length_cor_{}",
        "correlation",
        "Correlation of completion length and advantage within groups, over live groups.",
    ),
    RIGHT_FRAC := _M(
        "right_frac_{}",
        "share",
        "Scored completions whose verdict is right or grounded, whatever they were paid.",
        "higher",
    ),
    UNPARSED_FRAC := _M(
        "unparsed_frac_{}",
        "share",
        "Scored completions in which no answer in the asked form was found.",
        "lower",
    ),
    EVASION_PAY := _M(
        "evasion_pay_{}",
        "reward",
        "Reward of evading completions minus that of the others of the same group, over answerable "
        "prompts that have both: above 0, evading is what is taught.",
        "lower",
    ),
    VERDICT_CONFLICT := _M(
        "verdict_conflict_{}",
        "share",
        "Pairs of identical completions of one prompt whose rewards, length apart, differ: a "
        "scorer that contradicts itself gives dead groups a spread of noise.",
        "lower",
    ),
    TEMPLATE_FRAC := _M(
        "template_frac_{}",
        "share",
        "Completions to answerable prompts whose first eight words are the commonest such start "
        "among them, if several prompts share it; digits masked, no list of phrases.",
        "lower",
    ),
    DISTINCT_2 := _M(
        "distinct2_{}", "share", "Different pairs of neighbouring words over all such pairs."
    ),
    DUPLICATE_FRAC := _M(
        "duplicate_frac_{}",
        "share",
        "Pairs of completions of one prompt that are the same text.",
    ),
    HALF_COSINE := _M(
        "grad_half_cosine_{}",
        "cosine",
        "Cosine between the gradients of the two halves of the objective's micro-batches: the "
        "noise floor of grad_cosine. Missing with a single micro-batch.",
    ),
    AMBIGUOUS_FRAC := _M(
        "ambiguous_frac_{}",
        "share",
        "Prompts of the step whose context does not say who it was.",
        only="fairness",
    ),
    GENERAL_FRAC := _M(
        "general_frac_{}",
        "share",
        "Prompts of the step from HaluEval's general subset.",
        only="hallucination",
    ),
)
"""In the order of their columns."""
