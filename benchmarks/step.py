"""One training step on a model of real shape with random weights, beside TRL's on the same card.

    python benchmarks/step.py --shape 8b --prompts 4 --k 4 --new-tokens 128 --rival trl

A step: rollouts, reference pass, forward and backward, update; two objectives, half of the prompts
each. The rival trains the same shape with the same prompts, LoRA and sampling (temperature 1), in a
process of its own. Each is warmed up, then timed step by step with the device awaited at the end of
each part. Rewards are random, so that every group has a gradient. Prints JSON.
"""

import argparse
import datetime
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

import shapes
from grpo_dual.config.objectives import KlConfig
from grpo_dual.config.schema import LossConfig, OptimizerConfig, SamplingConfig
from grpo_dual.loss.kl import KlController
from grpo_dual.model.attention import use_runs
from grpo_dual.rollouts.collect import collect
from grpo_dual.rollouts.graph import GraphEngine
from grpo_dual.train.batch import ObjectiveBatch, PackedGroups, PassLimit, pack_groups, score_groups
from grpo_dual.train.step import Update, Updater
from grpo_dual.types import RolloutGroup, Score

NAMES = ("fairness", "hallucination")
RANK = 16
CARDS = {"H200": (4.25e12, 770e12), "H100": (3.0e12, 770e12)}
"""Bytes a second that a large copy moved, and bf16 operations a second that a large product did."""
SAMPLINGS = {
    "plain": {},
    "handoff": {"temperature": 0.9, "top_k": 50, "top_p": 0.9, "repetition_penalty": 1.18},
}


class Parts:
    """Seconds and peak memory of named parts, step by step."""

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        self.seconds: dict[str, list[float]] = defaultdict(list)
        self.peak: dict[str, float] = defaultdict(float)

    def _wait(self) -> None:
        if self._cuda:
            torch.cuda.synchronize()

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Time what is inside."""
        if self._cuda:
            torch.cuda.reset_peak_memory_stats()
        self._wait()
        began = time.perf_counter()
        yield
        self._wait()
        self.seconds[name].append(time.perf_counter() - began)
        if self._cuda:
            self.peak[name] = max(self.peak[name], torch.cuda.max_memory_allocated() / 2**30)


class Ours:
    """The trainer's own parts, as its loop calls them."""

    def __init__(self, args: argparse.Namespace, device: torch.device) -> None:
        self.args = args
        self.sampling = SamplingConfig(
            max_new_tokens=args.new_tokens, min_new_tokens=0, **SAMPLINGS[args.sampling]
        )
        self.policy = shapes.policy(
            args.shape, device, rank=RANK, checkpointing=args.checkpointing, live=False
        )
        sequences = args.prompts * args.k
        self.policy.freeze_reference()
        self.engine = GraphEngine(
            self.policy, shapes.Codec(), self.sampling, max_sequences=max(512, sequences)
        )
        self.updater = Updater(
            self.policy,
            {name: KlController(**KlConfig().model_dump()) for name in NAMES},
            dict.fromkeys(NAMES, 0.5),
            loss=LossConfig(),
            optimizer=OptimizerConfig(learning_rate=1e-5),
            sampling=self.sampling,
            total_updates=1000,
        )
        vocabulary = shapes.SHAPES[args.shape]["vocab_size"]
        sizes = shapes.lengths(args.prompt_lengths, args.prompts)
        self.prompts = shapes.prompts(sizes, vocabulary)
        self.layout = args.layout or ("flat" if self.policy.flat else "packed")
        if self.layout == "flat":
            use_runs(self.policy.causal_lm)
        self.parts = Parts(device)
        self.random = torch.Generator().manual_seed(0)
        self.updates: list[Update] = []

    def step(self) -> None:
        """One step."""
        parts = self.parts
        with parts("step"):
            with parts("rollout"):
                groups = collect(self.engine, self.prompts, self.args.k).groups
            with parts("pack"):
                packed = [self.pack(name, groups[i :: len(NAMES)]) for i, name in enumerate(NAMES)]
            with parts("reference"):
                self.updater.add_reference(packed)
            with parts("update"):
                self.updates.append(self.updater.update([self.score(p) for p in packed]))

    def pack(self, name: str, groups: tuple[RolloutGroup, ...]) -> PackedGroups:
        """As ``train.learning.pack``."""
        return pack_groups(
            name,
            groups,
            sampling=self.sampling,
            eos_ids=shapes.Codec.eos_ids,
            pad_id=0,
            limit=PassLimit(self.args.microbatch_prompts),
            layout=self.layout,
            device=self.policy.device,
        )

    def score(self, packed: PackedGroups) -> ObjectiveBatch:
        """Random rewards."""
        rewards = torch.rand(len(packed.groups), self.args.k, generator=self.random)
        scores = [
            tuple(Score({"task": r}, "right", "rule") for r in row) for row in rewards.tolist()
        ]
        best = [1.0] * len(packed.groups)
        return score_groups(packed, scores, best, normalization="group", eps=1e-4)


def ours(args: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    """Our steps."""
    run = Ours(args, device)
    for _ in range(args.warmup):
        run.step()
    run.parts = Parts(device)
    for _ in range(args.steps):
        run.step()
    last = run.updates[-1]
    tokens = [
        sum(len(r.token_ids) for r in g.rollouts)
        for g in collect(run.engine, run.prompts, args.k).groups
    ]
    return {
        "layout": run.layout,
        "seconds": dict(run.parts.seconds),
        "peak_gib": {name: round(value, 2) for name, value in run.parts.peak.items()},
        "grad_norm": last.grad_norm,
        "ratio_mean": [u.ratio_mean for u in run.updates],
        "gap_max": [u.gap_max for u in run.updates],
        "completion_tokens": sum(tokens),
        "roofline_s": roofline(args, device),
    }


def trl(args: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    """TRL's GRPOTrainer with its transformers rollouts."""
    import datasets
    import trl as library
    from peft import LoraConfig
    from transformers import TrainerCallback

    sizes = shapes.lengths(args.prompt_lengths, args.prompts)
    vocabulary = shapes.SHAPES[args.shape]["vocab_size"]
    tokenizer = shapes.words(vocabulary)
    texts = [
        " ".join(tokenizer.convert_ids_to_tokens(list(p.token_ids)))
        for p in shapes.prompts(sizes, vocabulary)
    ]
    sequences = args.prompts * args.k
    once = min(args.rival_batch or sequences, sequences)
    random = torch.Generator().manual_seed(0)
    parts = Parts(device)

    class Timer(TrainerCallback):  # type: ignore[misc]
        """Awaits the device around each step."""

        def on_step_begin(self, *_: Any, **__: Any) -> None:
            self.now = parts("step")
            self.now.__enter__()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            self.now.__exit__(None, None, None)

    with tempfile.TemporaryDirectory() as folder:
        config = library.GRPOConfig(
            output_dir=folder,
            per_device_train_batch_size=once,
            gradient_accumulation_steps=sequences // once,
            num_generations=args.k,
            max_completion_length=args.new_tokens,
            max_steps=args.warmup + args.rival_steps,
            num_train_epochs=10**6,
            learning_rate=1e-5,
            beta=0.02,
            bf16=device.type == "cuda",
            use_cpu=device.type == "cpu",
            gradient_checkpointing=args.checkpointing,
            logging_steps=10**6,
            save_strategy="no",
            report_to="none",
            shuffle_dataset=False,
            **{"temperature": 1.0, "top_p": 1.0, "top_k": 0} | SAMPLINGS[args.sampling],
        )
        trainer = library.GRPOTrainer(
            model=shapes.model(args.shape, device),
            reward_funcs=lambda completions, **_: torch.rand(
                len(completions), generator=random
            ).tolist(),
            args=config,
            train_dataset=datasets.Dataset(
                # With a fingerprint of its own: datasets 5.2 cannot hash a table of pyarrow 26.
                datasets.table.InMemoryTable.from_pydict({"prompt": texts}),
                fingerprint="prompts",
            ),
            processing_class=tokenizer,
            peft_config=LoraConfig(
                r=RANK, lora_alpha=2 * RANK, target_modules="all-linear", task_type="CAUSAL_LM"
            ),
            callbacks=[Timer()],
        )
        generate = trainer._generate

        def timed(*given: Any, **named: Any) -> Any:
            with parts("rollout"):
                return generate(*given, **named)

        trainer._generate = timed
        trainer.train()
    return {
        "version": library.__version__,
        "batch": once,
        "seconds": {name: values[args.warmup :] for name, values in parts.seconds.items()},
        "peak_gib": {name: round(value, 2) for name, value in parts.peak.items()},
    }


def roofline(args: argparse.Namespace, device: torch.device) -> float | None:
    """Seconds that no step can beat: weights read once a token, packed arithmetic at full speed.

    A token of a packed row takes 2 operations a weight forward, twice (policy and reference), and 2
    backward, since frozen weights get no gradient.
    """
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name()
    bandwidth, speed = next(v for key, v in CARDS.items() if key in name)
    weights = shapes.parameters(args.shape)
    packed = sum(shapes.lengths(args.prompt_lengths, args.prompts))
    packed += args.prompts * args.k * args.new_tokens
    return args.new_tokens * 2 * weights / bandwidth + 6 * weights * packed / speed


CONTESTANTS = {"ours": ours, "trl": trl}


def alone(who: str) -> dict[str, Any]:
    """One contestant in a process of its own."""
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        command = [sys.executable, __file__, *sys.argv[1:], "--alone", who, "--json", file.name]
        done = subprocess.run(command, stdout=sys.stderr, check=False)
        if done.returncode:
            return {"failed": f"exit code {done.returncode}"}
        return json.loads(Path(file.name).read_text())


def summary(args: argparse.Namespace, results: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """What is compared."""
    median = {
        who: {part: round(statistics.median(v), 4) for part, v in r["seconds"].items()}
        for who, r in results.items()
        if "seconds" in r
    }
    mine, rival = median["ours"]["step"], median.get(args.rival or "", {}).get("step")
    floor = results["ours"]["roofline_s"]
    return {
        "shape": args.shape,
        "sequences": args.prompts * args.k,
        "step_s": mine,
        "rival": args.rival,
        "rival_step_s": rival,
        "speedup": round(rival / mine, 2) if rival else None,
        "roofline_ratio": round(mine / floor, 2) if floor else None,
        "peak_gib": max(results["ours"]["peak_gib"].values(), default=None),
        "rival_peak_gib": max(results[args.rival]["peak_gib"].values(), default=None)
        if rival
        else None,
        "median_s": median,
    }


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", choices=shapes.SHAPES, default="tiny")
    parser.add_argument("--prompts", type=int, default=4)
    parser.add_argument("--k", type=int, default=4)
    parser.add_argument("--new-tokens", type=int, default=128)
    parser.add_argument("--prompt-lengths", type=Path, default=shapes.LENGTHS)
    parser.add_argument("--sampling", choices=SAMPLINGS, default="plain")
    parser.add_argument("--layout", choices=("flat", "packed", "plain"))
    parser.add_argument("--microbatch-prompts", type=int, default=2)
    parser.add_argument("--checkpointing", action="store_true")
    parser.add_argument("--warmup", type=int, default=2)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--rival", choices=("trl",))
    parser.add_argument("--rival-steps", type=int, default=10)
    parser.add_argument("--rival-batch", type=int, help="sequences in one of its passes")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--alone", choices=CONTESTANTS, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """Run both, or one alone."""
    args = parse()
    if args.alone:
        args.json.write_text(json.dumps(CONTESTANTS[args.alone](args, shapes.device())))
        return
    results = {who: alone(who) for who in filter(None, ("ours", args.rival))}
    whole = summary(args, results) | {
        "command": " ".join(["python", "benchmarks/step.py", *sys.argv[1:]]),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": shapes.machine(),
        "results": results,
    }
    print(json.dumps(whole))
    if args.json:
        args.json.write_text(json.dumps(whole, indent=1) + "\n")


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    main()
