"""The run's configuration: strict frozen models, one small class per component.

Structure lives in the YAML file, numbers may be changed on the command line
(``--objectives.fairness.kl.target 0.02``). Unknown keys, NaN and infinities are refused.
"""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from grpo_dual.config.doctoring import DoctorConfig
from grpo_dual.config.judging import JudgeConfig
from grpo_dual.config.objectives import FairnessConfig, HallucinationConfig, PluginConfig
from grpo_dual.config.strict import Strict
from grpo_dual.config.tracking import TrackingConfig


class LoraConfig(Strict):
    """The trained adapter (PEFT LoRA)."""

    rank: int = Field(default=16, ge=1)
    """Rank r of the update B A."""
    alpha: float = Field(default=32.0, gt=0)
    """Scaling numerator: the update is multiplied by alpha / rank."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Only used by SFT; RL always runs with dropout 0, or packed and plain passes would differ."""
    targets: tuple[str, ...] = ("all-linear",)
    """Module names, or ``all-linear``."""


class ModelConfig(Strict):
    """Policy and reference."""

    name: str = "embedded"
    """``embedded`` (the tiny model in this package), a folder, or a hub name."""
    revision: str | None = None
    """Commit or tag on the hub."""
    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    """Base weights. The adapter and the head's output are always fp32."""
    quantization: Literal["none", "nf4"] = "none"
    """``nf4``: the base's linear layers in 4 bit (QLoRA, double quantisation) and computed in
    ``dtype``; embedding, norms and output head stay in it. A third of an 8B model's memory, and
    slower passes and rollouts. Needs the extra ``4bit``."""
    device: str = "auto"
    """``auto`` (cuda if there is one), ``cpu``, ``cuda``, ``cuda:1``."""
    gradient_checkpointing: Literal["auto", True, False] = "auto"
    """Recompute activations in the backward pass: less memory, same numbers, about 40 % more time.
    ``auto``: on CUDA where the memory plan does not fit without it, off elsewhere."""
    trust_remote_code: bool = False
    """Run Python code that comes with a model. Off unless you have read that code."""
    lora: LoraConfig = LoraConfig()
    """The trained adapter."""
    reference: Literal["adapter", "base"] = "adapter"
    """What KL is measured against: a frozen copy of the SFT-ed adapter, or the bare base model."""


class SamplingConfig(Strict):
    """The behaviour policy. Truncation and penalties, when on, are replayed exactly, at a cost."""

    max_new_tokens: int = Field(default=128, ge=1)
    """Completion limit in tokens."""
    min_new_tokens: int = Field(default=0, ge=0)
    """EOS is forbidden before this many tokens. Anything above 5 has been seen to teach filler."""
    temperature: float = Field(default=1.0, gt=0)
    """Sampling temperature, applied on the trainer's side too."""
    top_k: int = Field(default=0, ge=0)
    """0 switches it off."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """1 switches it off."""
    repetition_penalty: float = Field(default=1.0, ge=1)
    """1 switches it off."""

    @model_validator(mode="after")
    def _lengths_agree(self) -> Self:
        if self.min_new_tokens > self.max_new_tokens:
            raise ValueError("min_new_tokens is larger than max_new_tokens")
        return self

    @property
    def plain(self) -> bool:
        """True when sampling is temperature only, so that nothing needs to be replayed."""
        return (
            self.top_k == 0
            and self.top_p == 1.0
            and self.repetition_penalty == 1.0
            and self.min_new_tokens == 0
        )


class RolloutConfig(Strict):
    """How completions are drawn."""

    engine: Literal["auto", "graph", "transformers"] = "auto"
    """``graph``: in place, decode steps as CUDA graphs (CUDA; decoders whose attention goes through
    Transformers' interface; fastest for Llama, Qwen and Mistral in 16 bit). ``transformers``:
    everywhere. ``auto``: the first where it can, else the second."""
    group_size: int = Field(default=8, ge=2)
    """K, completions per prompt. Group statistics need at least two."""
    max_prompt_tokens: int = Field(default=896, ge=16)
    """Prompt limit in tokens, chat template included."""
    overlong_prompt: Literal["shorten", "refuse"] = "shorten"
    """Shorten the document (never question or options) and count it, or refuse the record."""
    max_sequences: int = Field(default=256, ge=1)
    """Sequences generated at once; more prompts run in waves."""
    sampling: SamplingConfig = SamplingConfig()
    """The behaviour policy."""


class AdvantageConfig(Strict):
    """Group-relative advantages."""

    normalization: Literal["group", "none", "batch"] = "group"
    """Divide by the group's std (GRPO), not at all (Dr. GRPO), or by the objective's batch std."""
    eps: float = Field(default=1e-4, gt=0)
    """Added to the std."""


class LossConfig(Strict):
    """Clipped surrogate and its reduction."""

    clip_low: float = Field(default=0.2, ge=0, le=1)
    """Ratio is clipped below 1 - clip_low. Acts only when num_iterations > 1."""
    clip_high: float = Field(default=0.28, ge=0)
    """Ratio is clipped above 1 + clip_high. Acts only when num_iterations > 1."""
    dual_clip: float | None = Field(default=3.0, gt=1)
    """For negative advantages the loss is capped at this ratio; null switches it off."""
    head_chunk: int = Field(default=512, ge=1)
    """Completion tokens per chunk of the output head."""


class OptimizerConfig(Strict):
    """AdamW and its schedule."""

    learning_rate: float = Field(default=1e-5, gt=0)
    """Peak learning rate."""
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    """Shape after warm-up; linear and cosine end at zero."""
    warmup_steps: int = Field(default=0, ge=0)
    """Linear warm-up in optimiser steps."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Decoupled weight decay."""
    adam_betas: tuple[float, float] = (0.9, 0.99)
    """AdamW's averaging constants."""
    max_grad_norm: float = Field(default=1.0, gt=0)
    """Clip of the combined gradient's norm."""


class PairsConfig(Strict):
    """Pairwise warm-up between SFT and RL: the accepted reply against the rejected one (DPO)."""

    steps: int = Field(default=0, ge=0)
    """Optimiser steps; 0 skips it."""
    beta: float = Field(default=0.1, gt=0)
    """DPO's coefficient of the log-ratios to ``model.reference``."""
    nll: float = Field(default=1.0, ge=0)
    """Weight of the accepted reply's negative log-likelihood, which keeps it likely; 0 is plain
    DPO."""
    length_normalized: bool = False
    """Divide log-ratios by their reply's tokens; then take a larger beta, such as 5."""
    learning_rate: float = Field(default=1e-5, gt=0)
    """Constant after warm-up; lower than SFT's."""
    warmup_steps: int = Field(default=5, ge=0)
    """Linear warm-up."""
    batch_size: int = Field(default=16, ge=1)
    """Pairs per step, divided evenly between the objectives that have any."""
    microbatch_size: int = Field(default=4, ge=1)
    """Pairs (packed rows of prompt and both replies) per forward pass."""


class SftConfig(Strict):
    """Supervised warm-up before RL."""

    steps: int = Field(default=0, ge=0)
    """Optimiser steps; 0 skips it."""
    learning_rate: float = Field(default=1e-4, gt=0)
    """Constant after warm-up."""
    warmup_steps: int = Field(default=5, ge=0)
    """Linear warm-up."""
    batch_size: int = Field(default=16, ge=1)
    """Sequences per step, divided evenly between the objectives."""
    microbatch_size: int = Field(default=8, ge=1)
    """Sequences per forward pass."""
    data: Path | None = None
    """Completions to learn instead of the records' own replies: a file that `grpo-dual select` has
    written, or one like it."""
    min_reward: float = 0.5
    """Lowest reward of a completion in ``data``; a file with a lower one is refused."""
    pairs: PairsConfig = PairsConfig()
    """Pairwise warm-up behind it; both may be used alone."""

    @model_validator(mode="after")
    def _data_is_used(self) -> Self:
        if self.data is not None and self.steps == 0:
            raise ValueError("data is set, but steps is 0: nothing would be learnt from it")
        return self


class ProbeConfig(Strict):
    """The frozen probe: the policy's own entropy and wording, by plain decoding."""

    every: int = Field(default=0, ge=0)
    """Steps between probes, which come before the first and after the last step too; 0: none."""
    prompts: int = Field(default=32, ge=1)
    """Held-out prompts of each objective, the same ones each time; one completion of each."""


class EvalConfig(Strict):
    """The held-out yardstick inside a run."""

    every: int = Field(default=0, ge=0)
    """Steps between evaluations; 0 evaluates only before the first and after the last step."""
    before_and_after: bool = True
    """Evaluate before the first and after the last step."""
    decode: Literal["greedy", "train"] = "greedy"
    """Greedy, or the training distribution."""
    probe: ProbeConfig = ProbeConfig()
    """The frozen probe."""


class CheckpointConfig(Strict):
    """What is saved, and how often."""

    every: int = Field(default=50, ge=0)
    """Steps between checkpoints; 0 saves only at the end."""
    keep_last: int = Field(default=2, ge=1)
    """Older checkpoints are removed, the best one apart."""


class TrainConfig(Strict):
    """The loop."""

    steps: int = Field(default=200, ge=1)
    """Steps; each draws fresh rollouts."""
    seed: int = Field(default=0, ge=0)
    """Seed of everything random."""
    num_iterations: int = Field(default=1, ge=1)
    """Optimiser updates per rollout batch. From 2 on the clip acts."""
    microbatch_prompts: int = Field(default=2, ge=1)
    """Prompts (packed rows of K completions) per forward pass; always of one objective."""
    microbatch_tokens: int | None = Field(default=None, ge=1)
    """Tokens per forward pass, prompts and completions: as many prompts as fit, one at least.
    Null: ``microbatch_prompts`` of them, however long they are."""
    packed: bool = True
    """Compute each prompt once for its K completions. False is the plain path, a slower oracle."""
    threads: int | None = Field(default=None, ge=1)
    """CPU threads; None leaves the default."""
    completions_per_step: int = Field(default=4, ge=0)
    """Sample completions written per objective and step."""
    optimizer: OptimizerConfig = OptimizerConfig()
    """AdamW and its schedule."""


class RunConfig(Strict):
    """A whole run."""

    name: str = "run"
    """Prefix of the run folder."""
    out: Path = Path("runs")
    """Folder of run folders."""
    model: ModelConfig = ModelConfig()
    """Policy and reference."""
    objectives: dict[str, FairnessConfig | HallucinationConfig | PluginConfig] = {
        "fairness": FairnessConfig(),
        "hallucination": HallucinationConfig(),
    }
    """The objectives by name; structure belongs in the file, numbers may be flags."""
    judge: JudgeConfig = JudgeConfig()
    """Who judges answers."""
    rollout: RolloutConfig = RolloutConfig()
    """How completions are drawn."""
    advantage: AdvantageConfig = AdvantageConfig()
    """Group-relative advantages."""
    loss: LossConfig = LossConfig()
    """Clipped surrogate."""
    sft: SftConfig = SftConfig()
    """Supervised warm-up."""
    train: TrainConfig = TrainConfig()
    """The loop."""
    eval: EvalConfig = EvalConfig()
    """The held-out yardstick."""
    checkpoint: CheckpointConfig = CheckpointConfig()
    """What is saved."""
    doctor: DoctorConfig = DoctorConfig()
    """What is looked for, and whether remedies are applied."""
    tracking: TrackingConfig = TrackingConfig()
    """Trackers beside the files of the run folder."""

    @model_validator(mode="after")
    def _has_weight(self) -> Self:
        if not self.objectives:
            raise ValueError("objectives is empty: name at least one, e.g. fairness")
        if sum(o.weight for o in self.objectives.values()) <= 0:
            raise ValueError("objectives.*.weight are all 0: nothing would be trained")
        unknown = [name for name in self.judge.objectives if name not in self.objectives]
        if self.judge.providers and unknown:
            raise ValueError(
                f"judge.objectives names {unknown[0]}, which is no objective of this run"
            )
        return self
