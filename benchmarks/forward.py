"""Forward and backward of groups whose completions share their prompt, and of the same in full.

    python benchmarks/forward.py --shape 8b --cases 150,40,8,4 300,100,8,4 900,128,8,3

The first case is a pass of the prompts that the flags say; it gives the fields of the result. Those
of --cases are P,C,K,groups: prompt and completion tokens, completions of a prompt, groups in a
pass. Both sides are flat rows through the same kernels; the plain one repeats the prompt before
each completion, so nothing but the sharing differs. Ideal is the ratio of operations, and beside it
that of tokens, for equal prompts K (P + C) / (P + K C). Prints JSON.
"""

import argparse
import json
import random
import statistics
import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch

import measure
import shapes
from grpo_dual.model.attention import use_runs
from grpo_dual.model.packing import Group, PackedBatch, flatten
from grpo_dual.model.policy import Policy

OUT_OF_MEMORY = "out of memory"


def groups(sizes: list[int], k: int, completion: int, vocabulary: int) -> list[Group]:
    """Random ids of prompts of those sizes and their K completions."""
    rng = random.Random(0)
    draw = lambda n: [rng.randrange(4, vocabulary) for _ in range(n)]  # noqa: E731
    return [(draw(size), [draw(completion) for _ in range(k)]) for size in sizes]


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


def operations(shape: str, whole: Sequence[tuple[int, Sequence[int]]]) -> float:
    """Of a forward pass: 2 N tokens + 4 d L pairs + 2 N_head (completion tokens).

    N are the weights of the layers' products, pairs the (query, key) that attend.

    Args:
        shape: Key of ``shapes.SHAPES``.
        whole: Tokens of each prompt and of its completions.
    """
    own = shapes.SHAPES[shape]
    d, layers = own["hidden_size"], own["num_hidden_layers"]
    heads = own["num_attention_heads"] + own["num_key_value_heads"]
    attention = 2 * d * d * heads / own["num_attention_heads"]
    weights = layers * (attention + 3 * d * own["intermediate_size"])
    tokens = pairs = scored = 0
    for p, completions in whole:
        tokens += p + sum(completions)
        pairs += p * (p + 1) // 2 + sum(c * p + c * (c + 1) // 2 for c in completions)
        scored += sum(completions)
    return 2 * weights * tokens + 4 * d * layers * pairs + 2 * d * own["vocab_size"] * scored


def case(
    policy: Policy, shape: str, sizes: list[int], k: int, completion: int, repeats: int
) -> dict[str, Any]:
    """Both sides of a pass of those prompts."""
    whole = groups(sizes, k, completion, policy.causal_lm.config.vocab_size)
    single: list[Group] = [(own, [c]) for own, completions in whole for c in completions]
    shared = seconds(policy, flatten(whole), repeats)
    plain = seconds(policy, flatten(single), repeats)
    row = {"prompts": sizes, "completion": completion, "k": k, "shared": shared, "plain": plain}
    return row | shares(shape, row)


def shares(shape: str, row: Mapping[str, Any]) -> dict[str, Any]:
    """What sharing gave of what it could, by operations and by tokens."""
    whole = [(p, [row["completion"]] * row["k"]) for p in row["prompts"]]
    single = [(p, [c]) for p, completions in whole for c in completions]
    ideal = {
        "ideal": operations(shape, single) / operations(shape, whole),
        "ideal_tokens": row["plain"]["tokens"] / row["shared"]["tokens"],
    }
    found = dict(ideal)
    if "median_s" in row["shared"] and "median_s" in row["plain"]:
        found["speedup"] = row["plain"]["median_s"] / row["shared"]["median_s"]
        found |= {f"of_{name}": found["speedup"] / best for name, best in ideal.items()}
    return {key: round(value, 3) for key, value in found.items()}


def summary(args: argparse.Namespace, row: dict[str, Any]) -> dict[str, Any]:
    """The flags' case in the fields of every result; the plain side is the rival."""
    shared, plain, on = row["shared"], row["plain"], measure.this_card()
    if "median_s" not in shared:
        return {"shape": args.shape, "failed": OUT_OF_MEMORY}
    floor = None
    if on is not None:
        floor = measure.pass_floor(shapes.parameters(args.shape), shared["tokens"], on)
    return measure.comparison(
        shape=args.shape,
        sequences=args.prompts * args.k,
        step_s=shared["median_s"],
        floor_s=floor,
        peak_gib=shared["peak_gib"],
        rivals={"plain": (plain.get("median_s"), plain.get("peak_gib"))},
    )


def main() -> None:
    """All cases."""
    parser = shapes.flags(__doc__)
    parser.add_argument("--cases", nargs="*", default=["150,40,8,4", "300,100,8,4", "900,128,8,3"])
    parser.add_argument("--checkpointing", action="store_true")
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    policy = shapes.policy(args.shape, shapes.device(), checkpointing=args.checkpointing)
    use_runs(policy.causal_lm)
    sizes = shapes.lengths(args.prompt_lengths, args.prompts)
    own = case(policy, args.shape, sizes, args.k, args.new_tokens, args.repeats)
    rows = [own]
    for text in args.cases:
        prompt, completion, k, count = map(int, text.split(","))
        rows.append(case(policy, args.shape, [prompt] * count, k, completion, args.repeats))
    whole = summary(args, own) | measure.origin()
    whole |= {"checkpointing": args.checkpointing, "cases": rows}
    print(json.dumps(whole))
    measure.write(args.json, whole)


if __name__ == "__main__":
    main()
