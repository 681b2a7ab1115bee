"""One training step on a model of real shape with random weights, beside TRL's on the same card.

    python benchmarks/step.py --shape 8b --prompts 4 --k 4 --new-tokens 128 --rival trl trl-vllm

A step: rollouts, reference pass, forward and backward, update; two objectives, half of the prompts
each. A rival trains the same shape with the same prompts, LoRA and sampling, in a process of its
own: ``trl`` draws with Transformers, ``trl-vllm`` with vLLM in the same process and TRL's
correction of its log-probs, ``trl-vllm-uncorrected`` without that. Each is warmed up, then timed
step by step with the device awaited at the end of each part. Rewards are random, so that every
group has a gradient. Prints JSON.
"""

import argparse
import functools
import os
from typing import Any

import torch

import measure
import rivals
import shapes
from grpo_dual.config.objectives import KlConfig
from grpo_dual.config.schema import LossConfig, OptimizerConfig, RolloutConfig
from grpo_dual.loss.kl import KlController
from grpo_dual.model.attention import use_runs
from grpo_dual.model.policy import Policy
from grpo_dual.rollouts.choose import choose_engine
from grpo_dual.rollouts.collect import collect
from grpo_dual.train.batch import (
    Layout,
    ObjectiveBatch,
    PackedGroups,
    PassLimit,
    pack_groups,
    score_groups,
)
from grpo_dual.train.step import Updater
from grpo_dual.train.update import Update
from grpo_dual.types import RolloutGroup, Score

NAMES = ("fairness", "hallucination")


class Ours:
    """The trainer's own parts, as its loop calls them."""

    def __init__(
        self,
        policy: Policy,
        work: shapes.Work,
        limit: PassLimit,
        *,
        layout: Layout | None = None,
    ) -> None:
        """Bind to a policy whose reference is frozen.

        Args:
            policy: It is trained.
            work: Of a step.
            limit: What goes into a pass.
            layout: Of its rows; None: what the policy does fastest.
        """
        self.policy, self.work, self.limit = policy, work, limit
        self.sampling = work.settings()
        config = RolloutConfig(sampling=self.sampling, max_sequences=max(512, work.sequences))
        self.engine = choose_engine(policy, shapes.Codec(), config, shapes.tell_once)
        self.updater = Updater(
            policy,
            {name: KlController(**KlConfig().model_dump()) for name in NAMES},
            dict.fromkeys(NAMES, 0.5),
            loss=LossConfig(),
            optimizer=OptimizerConfig(learning_rate=1e-5),
            sampling=self.sampling,
            total_updates=1000,
        )
        vocabulary = policy.causal_lm.config.vocab_size
        self.prompts = shapes.prompts(list(work.prompts), vocabulary)
        self.layout: Layout = layout or ("flat" if policy.flat else "packed")
        if self.layout == "flat":
            use_runs(policy.causal_lm)
        self.parts = measure.Parts(policy.device)
        self.random = torch.Generator().manual_seed(0)
        self.updates: list[Update] = []
        self.completion_tokens = 0
        """Of the last step."""

    def step(self) -> None:
        """One step."""
        parts = self.parts
        with parts("step"):
            with parts("rollout"):
                drawn = collect(self.engine, self.prompts, self.work.k)
            with parts("pack"):
                own = [drawn.groups[i :: len(NAMES)] for i in range(len(NAMES))]
                packed = [self.pack(n, g) for n, g in zip(NAMES, own, strict=True) if g]
                scored = [self.score(p) for p in packed]
            with parts("reference"):
                self.updater.add_reference(packed)
            with parts("learn"):
                self.updates.append(self.updater.update(scored))
        # The loss is read at the end of an objective's backward pass, so the host's clock is true.
        forward_backward = self.updates[-1].forward_seconds
        parts.seconds["forward_backward"].append(forward_backward)
        parts.seconds["update"].append(parts.seconds.pop("learn")[-1] - forward_backward)
        self.completion_tokens = drawn.tokens

    def pack(self, name: str, groups: tuple[RolloutGroup, ...]) -> PackedGroups:
        """As ``train.learning.pack``."""
        return pack_groups(
            name,
            groups,
            sampling=self.sampling,
            eos_ids=shapes.Codec.eos_ids,
            pad_id=0,
            limit=self.limit,
            layout=self.layout,
            device=self.policy.device,
        )

    def score(self, packed: PackedGroups) -> ObjectiveBatch:
        """Random rewards."""
        rewards = torch.rand(len(packed.groups), self.work.k, generator=self.random)
        scores = [
            tuple(Score({"task": r}, "right", "rule") for r in row) for row in rewards.tolist()
        ]
        best = [1.0] * len(packed.groups)
        return score_groups(packed, scores, best, normalization="group", eps=1e-4)


def ours(args: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    """Our steps."""
    policy = shapes.policy(args.shape, device, checkpointing=args.checkpointing, live=False)
    policy.freeze_reference()
    work = shapes.Work.of(args, args.sampling)
    run = Ours(policy, work, PassLimit(args.microbatch_prompts), layout=args.layout)
    for _ in range(args.warmup):
        run.step()
    run.parts = measure.Parts(device)
    for _ in range(args.steps):
        run.step()
    return {
        "engine": type(run.engine).__name__,
        "layout": run.layout,
        **run.parts.result(),
        "grad_norm": run.updates[-1].grad_norm,
        "ratio_mean": [u.ratio_mean for u in run.updates],
        "gap_max": [u.gap_max for u in run.updates],
        "completion_tokens": run.completion_tokens,
    }


def trl(rival: rivals.Trl, args: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    """TRL's GRPOTrainer."""
    from transformers import TrainerCallback

    parts = measure.Parts(device)

    class Timer(TrainerCallback):  # type: ignore[misc]
        """Awaits the device around each step."""

        def on_step_begin(self, *_: Any, **__: Any) -> None:
            self.now = parts("step")
            self.now.__enter__()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            self.now.__exit__(None, None, None)

    with rivals.trl_trainer(
        rival,
        args.shape,
        shapes.Work.of(args, args.sampling),
        device,
        steps=args.warmup + args.rival_steps,
        batch=args.rival_batch,
        checkpointing=args.checkpointing,
        callbacks=[Timer()],
    ) as trainer:
        if rival != "trl":
            engine = trainer.vllm_generation
            engine.sync_weights = parts.timed("weights", engine.sync_weights)
        trainer._generate = parts.timed("rollout", trainer._generate)
        trainer.train()
        batch = trainer.args.per_device_train_batch_size
        (logged,) = (row for row in trainer.state.log_history if "grad_norm" in row)
    return {
        "versions": rivals.versions(rival),
        "batch": batch,
        **parts.result(skip=args.warmup),
        "grad_norm": logged["grad_norm"],
        "logged": logged,
    }


CONTESTANTS: dict[str, measure.Contestant] = {
    "ours": ours,
    **{rival: functools.partial(trl, rival) for rival in rivals.PACKAGES},
}


def summary(args: argparse.Namespace, results: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """What is compared."""
    work, on = shapes.Work.of(args, args.sampling), measure.this_card()
    floor = None
    if on is not None:
        weights = shapes.parameters(args.shape)
        floor = measure.step_floor(weights, work.packed_tokens, work.new_tokens, on)
    median = {w: measure.medians(r["seconds"]) for w, r in results.items() if "seconds" in r}
    peak = {w: max(r.get("peak_gib", {}).values(), default=None) for w, r in results.items()}
    return measure.comparison(
        shape=args.shape,
        sequences=work.sequences,
        step_s=median["ours"]["step"],
        floor_s=floor,
        peak_gib=peak["ours"],
        rivals={who: (median.get(who, {}).get("step"), peak[who]) for who in args.rival},
    ) | {"roofline_s": floor, "work": work.record(), "median_s": median}


def parse() -> argparse.Namespace:
    """The command line."""
    parser = shapes.flags(__doc__)
    parser.add_argument("--sampling", choices=shapes.SAMPLINGS, default="plain")
    parser.add_argument("--layout", choices=("flat", "packed", "plain"))
    parser.add_argument("--microbatch-prompts", type=int, default=2)
    parser.add_argument("--checkpointing", action="store_true")
    parser.add_argument("--warmup", type=int, default=2)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--rival", nargs="+", default=[], choices=rivals.PACKAGES)
    parser.add_argument("--rival-steps", type=int, default=10)
    parser.add_argument("--rival-batch", type=int, help="sequences in one of its passes")
    parser.add_argument("--alone", choices=CONTESTANTS, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """Run all, or one alone."""
    args = parse()
    rivals.require(args.rival)
    measure.compete(__file__, args, CONTESTANTS, summary)


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    main()
