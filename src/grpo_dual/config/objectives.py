"""What an objective is configured by: KL branch, length shaping, rewards, data."""

from typing import Literal, Self

from pydantic import Field, model_validator

from grpo_dual.config.strict import Strict


class KlConfig(Strict):
    """One KL branch: penalty against the reference with its own adaptive coefficient."""

    beta: float = Field(default=0.30, ge=0)
    """Initial (or, when not adaptive, constant) coefficient."""
    adaptive: bool = True
    """Move beta so that KL stays near target."""
    target: float = Field(default=0.05, gt=0)
    """Nats per token, k3 mean at the sampling temperature."""
    gain: float = Field(default=0.1, gt=0, le=1)
    """K of the multiplicative update."""
    beta_min: float = Field(default=0.03, ge=0)
    """Lower bound of beta."""
    beta_max: float = Field(default=1.0, gt=0)
    """Upper bound of beta."""
    no_decrease_steps: int = Field(default=20, ge=0)
    """Steps before beta may fall: KL starts at zero, and a beta that fell would have no grip when
    drift begins."""
    min_tokens: int = Field(default=256, ge=1)
    """Tokens gathered over steps before beta moves once."""
    smoothing: float = Field(default=0.8, ge=0, lt=1)
    """Weight of the past in the KL average."""

    @model_validator(mode="after")
    def _bounds_agree(self) -> Self:
        if self.adaptive and not self.beta_min <= self.beta <= self.beta_max:
            raise ValueError("beta must lie between beta_min and beta_max")
        return self


class LengthConfig(Strict):
    """Soft overlong shaping (DAPO): 0 up to limit - margin, then linear to -scale at the limit."""

    scale: float = Field(default=1.0, ge=0)
    """Penalty at and beyond the limit; 0 switches it off."""
    margin: float = Field(default=0.25, gt=0, le=1)
    """Share of max_new_tokens over which the penalty grows."""


class FairnessRewardConfig(Strict):
    """What a BBQ answer earns; design table, every number adjustable."""

    right: float = 1.0
    """The right option."""
    ambiguous_evasion: float = 0.0
    """Ambiguous item, evasive text that names no option."""
    disambiguated_unknown: float = -0.7
    """Disambiguated item, answered with the unknown option or evasive text."""
    wrong: float = -1.0
    """A person where the context does not say, the other person, or anything else."""
    stereotyped: float = 0.0
    """Extra (a part of its own) when the wrong answer is the stereotype-consistent one."""


class HallucinationRewardConfig(Strict):
    """What a HaluEval completion earns; design table, every number adjustable."""

    grounded: float = 1.0
    """Answer supported by the knowledge."""
    abstains: float = -0.5
    """Abstains or evades on an item that the knowledge answers."""
    hallucinated: float = -1.0
    """Unsupported claim, empty answer, echoed question, pasted knowledge."""
    general_evasion: float = 0.0
    """General item, evasive answer."""
    detect_right: float = 1.0
    """Detection, right verdict."""
    detect_wrong: float = -1.0
    """Detection, wrong verdict or none."""
    threshold: float = Field(default=0.7, gt=0, le=1)
    """Composite score from which an answer counts as grounded."""
    contrast: float = Field(default=0.0, ge=0)
    """Weight of the part ``contrast`` on answers with both sides known: likeness to the accepted
    text minus likeness to the rejected one, by words. Below 0.5 no hallucination comes to earn what
    an abstention does."""


class CustomReward(Strict):
    """A user's reward: any callable with TRL's signature."""

    function: str
    """``module:function``; called as ``f(prompts=..., completions=..., **columns)``, returns
    ``list[float | None]``."""
    weight: float = 1.0
    """Multiplies its value."""


class BbqData(Strict):
    """Where BBQ records come from and how they are sampled."""

    path: str = "cache"
    """``synthetic`` (the embedded world), ``cache`` (what ``data fetch`` downloaded), or a file or
    folder."""
    categories: tuple[str, ...] = ()
    """BBQ categories; empty means all that are there."""
    train_samples: int | None = Field(default=None, ge=1)
    """Records kept for training; None keeps all."""
    eval_samples: int = Field(default=200, ge=0)
    """Held-out records of the yardstick (whole templates are held out)."""
    ambiguous_fraction: float = Field(default=0.5, ge=0, le=1)
    """Share of ambiguous items among the training samples."""
    eval_templates: float = Field(default=0.2, gt=0, lt=1)
    """Share of question templates (question_index) held out for evaluation."""
    split_by: Literal["templates", "people"] = "templates"
    """What is held out whole: question templates, or within each template that share of its pairs
    of people, which is easier."""
    split_seed: int = Field(default=0, ge=0)
    """Which templates and rows are held out: the same for every ``train.seed``, so that seeds are
    compared on the same items. The embedded world makes its items by ``train.seed``."""
    on_bad_row: Literal["error", "skip"] = "error"
    """Stop at a malformed row, or count and list it and go on."""


class HaluEvalData(Strict):
    """Where HaluEval records come from and how they are sampled."""

    path: str = "cache"
    """``synthetic``, ``cache``, or a file or folder."""
    subsets: dict[str, float] = {"qa": 1.5, "dialogue": 1.5, "summarization": 1.0, "general": 0.5}
    """Sampling weight of each subset."""
    detect_fraction: float = Field(default=0.0, ge=0, le=1)
    """Share of qa, dialogue and summarization items asked as yes/no detection; general is asked as
    ``general_as`` says."""
    general_as: Literal["detect", "answer"] = "detect"
    """General has no knowledge: detection by default."""
    general_filter: Literal["handoff", "whole-words", "off"] = "handoff"
    """How noisy ``yes`` rows of general are dropped; ``whole-words`` does not let ``format`` match
    information."""
    length_matched: bool = False
    """Draw detection items so that length does not tell the label."""
    train_samples: int | None = Field(default=None, ge=1)
    """Records kept for training; None keeps all."""
    eval_samples: int = Field(default=200, ge=0)
    """Held-out records of the yardstick."""
    split_seed: int = Field(default=0, ge=0)
    """Which rows are held out, whatever ``train.seed`` is; not of the embedded world's."""
    max_repeats: int = Field(default=4, ge=1)
    """A small subset is repeated at most this often an epoch; the rest of its weight goes to the
    others."""
    on_bad_row: Literal["error", "skip"] = "error"
    """Stop at a malformed row, or count and list it and go on."""


class ObjectiveConfig(Strict):
    """What every objective has, whatever it trains."""

    weight: float = Field(default=1.0, ge=0)
    """Weight in the loss, applied after normalisation, so that it acts."""
    reward_scale: float = Field(default=1.0, gt=0)
    """Multiplies the weight (a scale in front of the group's std would cancel out)."""
    prompts_per_step: int = Field(default=8, ge=1)
    """Prompts of this objective in each step."""
    kl: KlConfig = KlConfig()
    """Its KL branch."""
    length: LengthConfig = LengthConfig()
    """Length shaping."""
    custom_rewards: tuple[CustomReward, ...] = ()
    """The user's rewards, added as named parts of the same task score."""


class FairnessConfig(ObjectiveConfig):
    """The fairness objective (BBQ)."""

    kind: Literal["fairness"] = "fairness"
    """Tag of this objective."""
    data: BbqData = BbqData()
    """Records."""
    reward: FairnessRewardConfig = FairnessRewardConfig()
    """Reward table."""


class HallucinationConfig(ObjectiveConfig):
    """The hallucination objective (HaluEval)."""

    kind: Literal["hallucination"] = "hallucination"
    """Tag of this objective."""
    data: HaluEvalData = HaluEvalData()
    """Records."""
    reward: HallucinationRewardConfig = HallucinationRewardConfig()
    """Reward table."""


class PluginConfig(ObjectiveConfig):
    """A third objective: a user's class."""

    kind: Literal["plugin"] = "plugin"
    """Tag of this objective."""
    factory: str
    """``module:Class`` of an Objective: Class(name, config, max_new_tokens=, seed=, **settings)."""
    settings: dict[str, str | int | float | bool] = {}
    """Handed to the class as they are."""
