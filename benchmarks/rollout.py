"""Rollouts alone, beside Transformers' ``generate`` on the same card.

    python benchmarks/rollout.py --shape 8b --prompts 4 --k 4 --new-tokens 128 --rival transformers

Ours is the engine that a run would take. The rival draws from the same shape with the same prompts,
LoRA and sampling, in a process of its own: ``transformers`` calls ``generate`` as TRL's GRPOTrainer
does for its transformers rollouts (its default); ``trl`` goes through the trainer itself. Ours
records the log-prob of every drawn token too, the rivals do not. No sequence ends early, so all
draw equally many tokens.

A rollout of one token each gives the time of the prompts (prefill); what the others take on top is
decoding, a token of every sequence at a time. The roofline is the weights read once a token. Prints
JSON; ``step_s`` is the rollouts of a step.
"""

import argparse
import os
from collections.abc import Callable
from typing import Any

import torch

import measure
import rivals
import shapes
from grpo_dual.config.schema import RolloutConfig, SamplingConfig
from grpo_dual.rollouts.choose import choose_engine
from grpo_dual.rollouts.collect import collect


class NoEnd(shapes.Codec):
    """Completions never end by themselves."""

    def __init__(self, shape: str) -> None:
        self.eos_ids = (shapes.never(shapes.SHAPES[shape]["vocab_size"]),)


def timed(
    limited: Callable[[int], Callable[[], int]],
    work: shapes.Work,
    device: torch.device,
    *,
    warmup: int,
    rounds: int,
) -> dict[str, Any]:
    """All samples of rollouts of one token and of all; and the peak of the latter.

    The two take turns, so that what else the machine does slows both. The peak is read before the
    first has claimed any memory.

    Args:
        limited: From a number of new tokens to a call that draws so many of every sequence and
            returns how many it has drawn.
        work: Prompts, completions, tokens.
        device: Awaited around each.
        warmup: Calls before the timed ones.
        rounds: Timed calls.
    """
    parts = measure.Parts(device)
    draws: dict[str, Callable[[], int]] = {}

    def once(name: str) -> None:
        with parts(name):
            drawn = draws[name]()
        wanted = work.sequences * (1 if name == "prefill" else work.new_tokens)
        if drawn != wanted:
            raise RuntimeError(f"{drawn} tokens drawn in a {name}, not {wanted}")

    peak: dict[str, float] = {}
    for name, tokens in (("rollout", work.new_tokens), ("prefill", 1)):
        draws[name] = limited(tokens)
        for _ in range(warmup):
            draws[name]()
        once(name)
        peak = peak or parts.result()["peak_gib"]
    for _ in range(rounds - 1):
        for name in draws:
            once(name)
    return parts.result() | {"peak_gib": peak}


def ours(args: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    """Our engine."""
    work = shapes.Work.of(args, args.sampling)
    policy = shapes.policy(args.shape, device, nf4=args.nf4)
    prompts = shapes.prompts(list(work.prompts), shapes.SHAPES[args.shape]["vocab_size"])
    names: set[str] = set()

    def limited(tokens: int) -> Callable[[], int]:
        sampling = SamplingConfig(**work.settings().model_dump() | {"max_new_tokens": tokens})
        config = RolloutConfig(
            engine=args.engine, sampling=sampling, max_sequences=max(512, work.sequences)
        )
        engine = choose_engine(policy, NoEnd(args.shape), config, shapes.tell_once)
        names.add(type(engine).__name__)
        return lambda: collect(engine, prompts, work.k).tokens

    found = timed(limited, work, device, warmup=args.warmup, rounds=args.rounds)
    return {"engine": names.pop(), **found}


def transformers(args: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    """``generate``."""
    work = shapes.Work.of(args, args.sampling)
    limited = rivals.generate(args.shape, work, device)
    return timed(limited, work, device, warmup=args.warmup, rounds=args.rival_rounds)


class _Measured(Exception):
    """Ends a training that was only begun for its rollouts."""


def trl(args: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    """The rollouts of a trainer that is in its first step, which is not finished."""
    work = shapes.Work.of(args, args.sampling)
    found: dict[str, Any] = {"versions": rivals.versions("trl")}
    with rivals.trl_trainer("trl", args.shape, work, device, steps=1) as trainer:
        generate = trainer._generate
        end = [shapes.never(shapes.SHAPES[args.shape]["vocab_size"])]
        trainer.eos_token_ids = end

        def instead(prompts: list[Any]) -> None:
            def limited(tokens: int) -> Callable[[], int]:
                settings = {"max_new_tokens": tokens, "eos_token_id": end}

                def draw() -> int:
                    trainer.generation_kwargs.update(settings)
                    trainer.generation_config.update(**settings)
                    return sum(map(len, generate(prompts)[1]))

                return draw

            found.update(timed(limited, work, device, warmup=args.warmup, rounds=args.rival_rounds))
            raise _Measured

        trainer._generate = instead
        try:
            trainer.train()
        except _Measured:
            return found
    raise RuntimeError("TRL's trainer has not called _generate")


CONTESTANTS = {"ours": ours, "transformers": transformers, "trl": trl}


def speeds(seconds: dict[str, float], work: shapes.Work) -> dict[str, float | None]:
    """Prefill, milliseconds a token and tokens a second.

    Args:
        seconds: Medians of ``prefill`` (a rollout of one token each) and ``rollout``.
        work: What was drawn.
    """
    prefill, whole = seconds["prefill"], seconds["rollout"]
    decode = None
    if work.new_tokens > 1:
        decode = round((whole - prefill) / (work.new_tokens - 1) * 1e3, 3)
    return {
        "prefill_s": prefill,
        "decode_ms_per_token": decode,
        "tokens_per_s": round(work.sequences * work.new_tokens / whole, 1),
    }


def summary(args: argparse.Namespace, results: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """What is compared."""
    work, on = shapes.Work.of(args, args.sampling), measure.this_card()
    floor = None
    if on is not None and not args.nf4:
        floor = measure.rollout_floor(shapes.parameters(args.shape), work.new_tokens, on)
    median = {w: measure.medians(r["seconds"]) for w, r in results.items() if "seconds" in r}
    peak = {w: r.get("peak_gib", {}).get("rollout") for w, r in results.items()}
    return measure.comparison(
        shape=args.shape,
        sequences=work.sequences,
        step_s=median["ours"]["rollout"],
        floor_s=floor,
        peak_gib=peak["ours"],
        rivals={who: (median.get(who, {}).get("rollout"), peak[who]) for who in args.rival},
    ) | {
        "roofline_s": floor,
        "work": work.record(),
        **{who: speeds(seconds, work) for who, seconds in median.items()},
    }


def parse() -> argparse.Namespace:
    """The command line."""
    parser = shapes.flags(__doc__)
    parser.add_argument("--sampling", choices=shapes.SAMPLINGS, default="plain")
    parser.add_argument("--engine", choices=("auto", "graph", "transformers"), default="auto")
    parser.add_argument("--nf4", action="store_true", help="ours with 4-bit base weights")
    parser.add_argument("--warmup", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--rival", nargs="+", default=[], choices=[*CONTESTANTS][1:])
    parser.add_argument("--rival-rounds", type=int, default=3)
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
