"""Forward and backward of groups whose completions share their prompt, and of the same in full.

    python benchmarks/forward.py --shape 8b --cases 150,40,8,4 300,100,8,2 900,128,8,1

A case is P,C,K,groups: prompt and completion tokens, completions of a prompt, groups in a pass.
Both sides are flat rows through the same kernels; the plain one repeats the prompt before each
completion, so nothing but the sharing differs. Ideal is the ratio of tokens, K (P + C) / (P + K C).
Prints JSON.
"""

import argparse
import datetime
import json
import random
import statistics
import time
from pathlib import Path
from typing import Any

import torch

import shapes
from grpo_dual.model.attention import use_runs
from grpo_dual.model.packing import Group, PackedBatch, flatten
from grpo_dual.model.policy import Policy

OUT_OF_MEMORY = "out of memory"


def groups(case: tuple[int, ...], vocabulary: int) -> list[Group]:
    """Random ids."""
    prompt, completion, k, count = case
    rng = random.Random(0)
    draw = lambda n: [rng.randrange(4, vocabulary) for _ in range(n)]  # noqa: E731
    return [(draw(prompt), [draw(completion) for _ in range(k)]) for _ in range(count)]


def seconds(policy: Policy, batch: PackedBatch, repeats: int) -> dict[str, Any]:
    """Times of a pass, and its peak memory."""
    batch = batch.to(policy.device)
    cuda = policy.device.type == "cuda"
    found: list[float] = []
    try:
        for _ in range(repeats + 1):
            if cuda:
                torch.cuda.reset_peak_memory_stats()
                torch.cuda.synchronize()
            began = time.perf_counter()
            stats = policy.token_stats(batch, temperature=1.0, chunk=1024)
            stats.logprobs.mean().backward()
            if cuda:
                torch.cuda.synchronize()
            found.append(time.perf_counter() - began)
    except torch.OutOfMemoryError:
        return {"seconds": OUT_OF_MEMORY, "tokens": batch.input_ids.numel()}
    finally:
        for _, parameter in policy.trainable_parameters():
            parameter.grad = None
        if cuda:
            torch.cuda.empty_cache()
    return {
        "seconds": found[1:],
        "median_s": round(statistics.median(found[1:]), 4),
        "tokens": batch.input_ids.numel(),
        "peak_gib": round(torch.cuda.max_memory_allocated() / 2**30, 1) if cuda else None,
    }


def main() -> None:
    """All cases."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", choices=shapes.SHAPES, default="tiny")
    parser.add_argument("--cases", nargs="+", default=["150,40,8,4", "300,100,8,2", "900,128,8,1"])
    parser.add_argument("--checkpointing", action="store_true")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    policy = shapes.policy(args.shape, shapes.device(), checkpointing=args.checkpointing)
    use_runs(policy.causal_lm)
    rows: list[dict[str, Any]] = []
    for text in args.cases:
        case = tuple(map(int, text.split(",")))
        prompt, completion, k, count = case
        whole = groups(case, shapes.SHAPES[args.shape]["vocab_size"])
        single: list[Group] = [(own, [c]) for own, completions in whole for c in completions]
        shared = seconds(policy, flatten(whole), args.repeats)
        plain = seconds(policy, flatten(single), args.repeats)
        ideal = k * (prompt + completion) / (prompt + k * completion)
        row = {"prompt": prompt, "completion": completion, "k": k, "groups": count}
        row |= {"shared": shared, "plain": plain, "ideal": round(ideal, 3)}
        if "median_s" in shared and "median_s" in plain:
            speedup = plain["median_s"] / shared["median_s"]
            row |= {"speedup": round(speedup, 3), "of_ideal": round(speedup / ideal, 3)}
        rows.append(row)
    whole_result = {
        "shape": args.shape,
        "checkpointing": args.checkpointing,
        "machine": shapes.machine(),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "cases": rows,
    }
    print(json.dumps(whole_result))
    if args.json:
        args.json.write_text(json.dumps(whole_result, indent=1) + "\n")


if __name__ == "__main__":
    main()
