"""Scoring the three options of BBQ items: one context an item, or one forward pass an option.

    OMP_NUM_THREADS=1 python benchmarks/choices.py --rows 120 --rounds 5
    python benchmarks/choices.py --shape 8b --rows 512

``shared``: model/continuations.py, the context once for its options. ``repeated``: the same kernels
and head on flat rows that repeat the context before each option, so nothing but the sharing
differs. ``padded``: what an evaluation harness does, one causal row an option, sorted by length and
padded to the longest of its batch, by Transformers' own forward, of the same budget of tokens.
``one by one``: a batch for each option. All take the head only where an option's tokens are
predicted, which harnesses that keep [tokens, vocabulary] logits do not.

Options are replies by their text and by their letter. Rows are real ones where they are at hand
(GRPO_DUAL_DATA, or shared/data beside the repository), else the synthetic world's; ids are those of
the embedded model's tokenizer for every shape, and other shapes have random weights. The ways take
turns. Without CUDA seconds are those of the CPU (process_time: one thread, please), so that other
work on the machine does not count. Prints JSON.
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

import measure
import shapes
from grpo_dual.config.schema import ModelConfig
from grpo_dual.model.continuations import continuation_logprobs
from grpo_dual.model.loading import load_spoken
from grpo_dual.model.policy import Policy, load_policy
from grpo_dual.prompts import fairness
from grpo_dual.prompts.chat import ChatEncoder
from grpo_dual.records import synthetic
from grpo_dual.records.bbq import iter_bbq
from grpo_dual.records.strata import take_bbq
from grpo_dual.types import BbqRecord, Choices

EMBEDDED = "embedded"
HEAD_CHUNK = 512
Way = Callable[[Policy, Sequence[Choices], int], list[float]]


def records(folder: Path, count: int) -> tuple[list[BbqRecord], str]:
    """BBQ rows of all categories in equal parts, and where they are from."""
    if folder.is_dir():
        rows, source = list(iter_bbq(folder)), "BBQ"
    else:
        rows, source = list(synthetic.bbq_records("test", 96, 0)), "synthetic world"
    return list(take_bbq(rows, count, ambiguous_fraction=0.5, seed=0).records), source


def choices(rows: Sequence[BbqRecord], encoder: ChatEncoder, by: str) -> list[Choices]:
    """Each row's prompt with its options, by text or by letter, as whole replies."""
    items: list[Choices] = []
    for row in rows:
        replies = row.options if by == "text" else [f"({name})" for name in fairness.LETTERS]
        options = tuple(encoder.encode_completion(" ".join(reply.split())) for reply in replies)
        items.append(Choices(encoder.encode(fairness.messages(row)), options))
    return items


def alone(items: Sequence[Choices]) -> list[Choices]:
    """Every option as an item of its own."""
    return [Choices(i.prefix_ids, (option,)) for i in items for option in i.continuations]


def shared(policy: Policy, items: Sequence[Choices], budget: int) -> list[float]:
    """The context once."""
    found = continuation_logprobs(policy, items, token_budget=budget, head_chunk=HEAD_CHUNK)
    return [score.logprob for own in found for score in own]


def repeated(policy: Policy, items: Sequence[Choices], budget: int) -> list[float]:
    """The same, once for each option."""
    return shared(policy, alone(items), budget)


def batches(items: Sequence[Choices], budget: int) -> list[list[int]]:
    """Rows of each padded batch, the longest first; ``budget`` 0: each its own."""
    sizes = [len(i.prefix_ids) + len(i.continuations[0]) for i in items]
    found: list[list[int]] = []
    for number in sorted(range(len(items)), key=lambda n: -sizes[n]):
        if found and (len(found[-1]) + 1) * sizes[found[-1][0]] <= budget:
            found[-1].append(number)
        else:
            found.append([number])
    return found


@torch.no_grad()
def padded(policy: Policy, items: Sequence[Choices], budget: int) -> list[float]:
    """Causal rows, padded on the right, through Transformers' forward."""
    rows = alone(items)
    found = [0.0] * len(rows)
    for numbers in batches(rows, budget):
        own = [rows[n] for n in numbers]
        ids = [torch.tensor([*i.prefix_ids, *i.continuations[0]]) for i in own]
        tokens = torch.nn.utils.rnn.pad_sequence(ids, batch_first=True)
        lengths = torch.tensor([len(row) for row in ids])
        mask = (torch.arange(tokens.shape[1]) < lengths[:, None]).long()
        states = policy.body(
            input_ids=tokens.to(policy.device),
            attention_mask=mask.to(policy.device),
            use_cache=False,
        ).last_hidden_state
        wanted = [states[r, len(i.prefix_ids) - 1 : len(ids[r]) - 1] for r, i in enumerate(own)]
        targets = torch.cat([torch.tensor(i.continuations[0]) for i in own])
        sums = summed(policy, torch.cat(wanted), targets, [len(i.continuations[0]) for i in own])
        for number, value in zip(numbers, sums, strict=True):
            found[number] = value
    return found


def summed(
    policy: Policy, states: torch.Tensor, targets: torch.Tensor, lengths: list[int]
) -> list[float]:
    """Log-probs of rows of those lengths, head by chunks."""
    parts: list[torch.Tensor] = []
    chunks = zip(states.split(HEAD_CHUNK), targets.to(states.device).split(HEAD_CHUNK), strict=True)
    for own, wanted in chunks:
        logprobs = torch.log_softmax(policy.logits(own), -1)
        parts.append(logprobs.gather(1, wanted[:, None]).squeeze(1))
    return [float(row.sum()) for row in torch.cat(parts).double().cpu().split(lengths)]


def one_by_one(policy: Policy, items: Sequence[Choices], _budget: int) -> list[float]:
    """A forward pass for each option."""
    return padded(policy, items, 0)


WAYS: dict[str, Way] = {
    "shared": shared,
    "repeated": repeated,
    "padded": padded,
    "one by one": one_by_one,
}


def tokens(items: Sequence[Choices], budget: int) -> dict[str, int]:
    """What passes through the layers, padding included."""
    rows = alone(items)
    sizes = [len(i.prefix_ids) + len(i.continuations[0]) for i in rows]
    return {
        "shared": sum(len(i.prefix_ids) + sum(map(len, i.continuations)) for i in items),
        "repeated": sum(sizes),
        "padded": sum(len(own) * sizes[own[0]] for own in batches(rows, budget)),
        "one by one": sum(sizes),
    }


def case(policy: Policy, items: Sequence[Choices], args: argparse.Namespace) -> dict[str, Any]:
    """All ways on the same items, taking turns, and how far apart what they say is."""
    cuda = policy.device.type == "cuda"
    clock = time.perf_counter if cuda else time.process_time
    said: dict[str, list[float]] = {}
    seconds: dict[str, list[float]] = {name: [] for name in WAYS}
    peak: dict[str, float] = {}
    for turn in range(args.rounds + 1):
        for name, way in WAYS.items():
            if cuda:
                torch.cuda.reset_peak_memory_stats()
                torch.cuda.synchronize()
            began = clock()
            said[name] = way(policy, items, args.token_budget)
            if cuda:
                torch.cuda.synchronize()
                peak[name] = round(torch.cuda.max_memory_allocated() / 2**30, 2)
            if turn:  # the first warms up
                seconds[name].append(clock() - began)
    took = {name: statistics.median(values) for name, values in seconds.items()}
    passed = tokens(items, args.token_budget)
    return {
        "items": len(items),
        "context_tokens_median": statistics.median(len(i.prefix_ids) for i in items),
        "option_tokens_median": statistics.median(len(c) for i in items for c in i.continuations),
        "tokens": passed,
        "seconds": {name: [round(v, 4) for v in values] for name, values in seconds.items()},
        "median_s": {name: round(value, 4) for name, value in took.items()},
        "peak_gib": peak or None,
        "speedup": {name: round(value / took["shared"], 2) for name, value in took.items()},
        "ideal_by_tokens": {n: round(v / passed["shared"], 2) for n, v in passed.items()},
        "largest_difference": {
            name: max(abs(a - b) for a, b in zip(values, said["shared"], strict=True))
            for name, values in said.items()
        },
    }


def policy_of(shape: str) -> Policy:
    """The embedded model, or a random one of a shape; an adapter is live in both."""
    if shape != EMBEDDED:
        return shapes.policy(shape, shapes.device())
    device = shapes.device()
    dtype = "bfloat16" if device.type == "cuda" else "float32"
    made = load_policy(ModelConfig(name=EMBEDDED, dtype=dtype, device=str(device)))
    shapes.enliven(made.trainable_parameters())
    return made


def main() -> None:
    """Options by text, then by letter."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", choices=[EMBEDDED, *shapes.SHAPES], default=EMBEDDED)
    parser.add_argument("--rows", type=int, default=120)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--token-budget", type=int, default=8192)
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args()
    torch.manual_seed(0)
    data = Path(os.environ.get("GRPO_DUAL_DATA", shapes.ROOT.parent / "shared" / "data"))
    rows, source = records(data / "bbq", args.rows)
    encoder = ChatEncoder(load_spoken(ModelConfig(name=EMBEDDED)).tokenizer)
    policy = policy_of(args.shape)
    load = os.getloadavg()
    cases = {by: case(policy, choices(rows, encoder, by), args) for by in ("text", "letter")}
    text, on = cases["text"], measure.this_card()
    floor = None
    if on is not None and args.shape != EMBEDDED:
        # A forward pass is half of forward and backward.
        floor = measure.pass_floor(shapes.parameters(args.shape), text["tokens"]["shared"], on) / 2
    peak = text["peak_gib"] or {}
    whole = measure.comparison(
        shape=args.shape,
        sequences=3 * len(rows),
        step_s=text["median_s"]["shared"],
        floor_s=floor,
        peak_gib=peak.get("shared"),
        rivals={"padded": (text["median_s"]["padded"], peak.get("padded"))},
    )
    whole |= measure.origin() | {
        "clock": "wall" if policy.device.type == "cuda" else "CPU",
        "load_average": [round(value, 1) for value in load],
        "source": source,
        "token_budget": args.token_budget,
        "layers": policy.layers,
        "cases": cases,
    }
    print(json.dumps(whole))
    measure.write(args.json, whole)


if __name__ == "__main__":
    main()
