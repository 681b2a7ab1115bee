"""What the pairwise warm-up does to held-out pairs and to the yardstick, beside SFT.

    python scripts/pairs_warmup.py configs/demo.yaml --steps 30 --seeds 0 1 2

Each variant starts from the same model and draws as many records a step (16); twice the steps of
SFT are what is to be compared with SFT and pairs. Held-out pairs are those of the yardstick's
records: never trained on. Prints one JSON line a variant and seed.

    preferred: share of held-out pairs whose margin is above 0, against the warm-up's reference (the
        model behind SFT) or, without pairs, the model before
    likelier: share with log pi(y+) > log pi(y-) as summed over tokens
    accepted, rejected: mean log-prob of a reply, nats
"""

import argparse
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from grpo_dual.config.load import load_config
from grpo_dual.train.drawing import fitting
from grpo_dual.train.pairs import PairSample, pair_logprobs, pair_sample
from grpo_dual.train.progress import Progress
from grpo_dual.train.warmup import Paired, warm_up
from grpo_dual.train.wiring import Parts, build
from grpo_dual.train.yardstick import evaluate

BATCH = 64
YARDSTICK = {
    "fairness": (
        "accuracy_ambig",
        "accuracy_disambig",
        "stereotyped_ambig",
        "evasion_disambig",
    ),
    "hallucination": ("grounded", "hallucinated", "abstains", "detect_accuracy"),
}


def variants(steps: int, rate: float) -> dict[str, dict[str, Any]]:
    """Warm-ups by name, as the ``sft`` section."""
    sft = {"steps": steps, "learning_rate": rate}
    pairs = {"steps": steps, "learning_rate": rate}
    return {
        "none": {},
        "sft": sft,
        "sft, twice the steps": {**sft, "steps": 2 * steps},
        "pairs": {"pairs": pairs},
        "pairs, anchor 0.1": {"pairs": {**pairs, "nll": 0.1}},
        "pairs, no anchor": {"pairs": {**pairs, "nll": 0.0}},
        "pairs by the token, beta 5": {"pairs": {**pairs, "length_normalized": True, "beta": 5.0}},
        "sft, then pairs": {**sft, "pairs": pairs},
    }


def held_out(parts: Parts, name: str) -> list[PairSample]:
    """Pairs of an objective's yardstick."""
    objective = parts.objectives[name]
    assert isinstance(objective, Paired)
    limit = parts.config.rollout.sampling.max_new_tokens
    found = [
        pair_sample(p, objective.pair(p.record), parts.encoder, max_new_tokens=limit)
        for p in fitting(parts, objective, objective.eval_records, print)
    ]
    return [sample for sample in found if sample is not None]


@torch.no_grad()
def logprobs(parts: Parts, samples: list[PairSample]) -> torch.Tensor:
    """[P, 2]."""
    chunk = parts.config.loss.head_chunk
    batches = [samples[i : i + BATCH] for i in range(0, len(samples), BATCH)]
    return torch.cat([pair_logprobs(parts.policy, b, head_chunk=chunk) for b in batches]).cpu()


def shown(before: torch.Tensor, now: torch.Tensor) -> dict[str, float]:
    """Shares and means of one objective's held-out pairs."""
    moved = now - before
    found = {
        "preferred": (moved[:, 0] > moved[:, 1]).double().mean(),
        "likelier": (now[:, 0] > now[:, 1]).double().mean(),
        "accepted": now[:, 0].double().mean(),
        "rejected": now[:, 1].double().mean(),
    }
    return {"pairs": len(now), **{key: round(value.item(), 3) for key, value in found.items()}}


def measure(path: Path, flags: list[str], seed: int, sft: Mapping[str, Any]) -> dict[str, Any]:
    """One variant."""
    config = load_config(path, [*flags, "--train.seed", str(seed), "--train.threads", "1"])
    section = config.sft.model_validate({**config.sft.model_dump(), "steps": 0, **sft})
    config = config.model_copy(update={"sft": section})
    torch.set_num_threads(1)
    parts = build(config)
    samples = {name: held_out(parts, name) for name in parts.objectives}
    before = {name: logprobs(parts, own) for name, own in samples.items()}
    began = time.monotonic()
    warm_up(parts, Progress(Console(stderr=True), tuple(parts.objectives), 0))
    seconds = time.monotonic() - began
    yardstick = evaluate(parts, print)
    now = {name: logprobs(parts, own) for name, own in samples.items()}
    if config.sft.pairs.steps:
        with parts.policy.reference():
            before = {name: logprobs(parts, own) for name, own in samples.items()}
    return {
        "seconds": round(seconds, 1),
        "held_out": {name: shown(before[name], now[name]) for name in samples},
        "yardstick": {
            name: {k: own[k] for k in YARDSTICK[name] if own.get(k) is not None}
            for name, own in yardstick.items()
        },
    }


def main() -> None:
    """All variants and seeds."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", type=Path)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--only", nargs="+", help="names of variants")
    args, flags = parser.parse_known_args()
    for name, sft in variants(args.steps, args.rate).items():
        for seed in args.seeds:
            if not args.only or name in args.only:
                found = measure(args.config, flags, seed, sft)
                print(json.dumps({"variant": name, "seed": seed, **found}), flush=True)


if __name__ == "__main__":
    main()
