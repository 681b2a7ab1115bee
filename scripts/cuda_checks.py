"""Exactness on a CUDA card: kernels, flat rows, and what the in-place engine draws and records.

    python scripts/cuda_checks.py --shape 8b

1. Kernels of the training pass against plain operations; log-probs and gradients of a flat row
   against fp32, beside those of masked rows: no further away than they are.
2. Engine against trainer before any update, temperature only and with the hand-off's sampling: mean
   ratio, largest difference of log-probs, and whether the drawn tokens are drawn from the
   trainer's distribution: each token's place in its cumulative distribution is uniform (chi-square
   over 50 bins).
3. Over five updates sampler and trainer stay together, and leave the reference.
4. An adapter that the engine's decode steps do not see any more is found within five updates.
5. A rollout that captures its graphs draws what one draws that replays them.
6. A model whose steps wait for the device, or break a capture off, is drawn from by the
   transformers engine, and said to be.

With ``--nf4`` instead, the same shape with 4-bit weights, quantised from a folder as a run does it:
flat rows against plain ones beside those of the 16-bit model, the peak of a pass beside the plan,
and what the engine draws and records. Needs the extra ``4bit``, and disk for the 16-bit weights.

With ``--config`` instead, the second check on the model and the prompts of a run.

Prints JSON; exit code 1 if a bound is passed.
"""

import argparse
import gc
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "benchmarks"), str(ROOT / "tests"), str(ROOT / "src")]

import measure  # noqa: E402
import shapes  # noqa: E402
import step as benchmark  # noqa: E402
import tiny_models  # noqa: E402
from grpo_dual.config.load import load_config  # noqa: E402
from grpo_dual.config.schema import RolloutConfig, SamplingConfig  # noqa: E402
from grpo_dual.errors import NumericsError  # noqa: E402
from grpo_dual.model.packing import PackedBatch, flatten, pack, unpack  # noqa: E402
from grpo_dual.model.policy import Policy  # noqa: E402
from grpo_dual.rollouts.choose import choose_engine  # noqa: E402
from grpo_dual.rollouts.engine import Engine  # noqa: E402
from grpo_dual.rollouts.graph import GraphEngine  # noqa: E402
from grpo_dual.rollouts.transformers import TransformersEngine  # noqa: E402
from grpo_dual.train.batch import PassLimit, pack_groups  # noqa: E402
from grpo_dual.train.memory import GIB, Model  # noqa: E402
from grpo_dual.train.wiring import build  # noqa: E402
from grpo_dual.types import RolloutGroup  # noqa: E402

BINS = 50
BOUNDS = {
    "mean ratio": 0.005,
    "largest difference": 0.3,
    "p": 1e-4,
    "kernel": 0.02,
    "flat against masked": 1.25,
    "nf4 against 16 bit": 2.0,
    "moving adapter": 1.0,
}
CUDA = torch.device("cuda")


def relative(one: Tensor, two: Tensor) -> float:
    """Distance over size."""
    return float((one.double() - two.double()).norm() / two.double().norm())


def kernels() -> dict[str, float]:
    """Each kernel in bf16 against fp32, forward and backward."""
    from grpo_dual.model import kernels as own

    torch.manual_seed(0)
    make = lambda *shape: torch.randn(*shape, device=CUDA)  # noqa: E731
    x, branch, g, past = (make(33, 4096) for _ in range(4))
    w = make(4096)
    branch, w, g = (t.bfloat16() for t in (branch, w, g))
    result: dict[str, float] = {}
    for name, added in (("norm", None), ("sum and norm", branch)):
        total = (x.clone() if added is None else x + added).requires_grad_()
        y = w.float() * (total * torch.rsqrt(total.pow(2).mean(-1, keepdim=True) + 1e-5))
        (grad,) = torch.autograd.grad((y, total), total, (g.float(), past))
        found = own.norm_forward(x, added, w, 1e-5)
        back, low = own.norm_backward(g, past, found.kept, w, found.root, added=added is not None)
        assert relative(found.total, total.detach()) < 1e-7, "the stream is fp32"
        result |= {name: relative(found.y, y.detach()), f"{name} backward": relative(back, grad)}
        if low is not None:
            result["branch backward"] = relative(low, grad)
    rows = make(33, 4096).bfloat16()
    wide = rows.float() * torch.rsqrt(rows.float().pow(2).mean(-1, keepdim=True) + 1e-5)
    for twice, shifted in ((True, False), (False, False), (False, True)):
        found = own.norm_rows(rows, w, 1e-5, twice=twice, shifted=shifted)
        name = f"norm of rows, {'twice' if twice else 'once'}{', shifted' if shifted else ''}"
        result[name] = relative(found, wide * (w.float() + shifted))
    both, g = make(33, 2 * 14336).requires_grad_(), make(33, 14336)
    gate, up = both.chunk(2, -1)
    y = torch.nn.functional.silu(gate) * up
    y.backward(g)
    assert both.grad is not None
    half = both.detach().bfloat16()
    return (
        result
        | {
            "gate": relative(own.gated(half), y.detach()),
            "gate backward": relative(own.gated_backward(g.bfloat16(), half), both.grad),
        }
        | head_kernels()
        | race_kernels()
    )


def head_kernels() -> dict[str, float]:
    """The head's, in fp32 against fp64, on rows of which one has few ids that can be drawn."""
    from grpo_dual.model import head, head_kernels

    logits = 6 * torch.randn(9, 128_256, device=CUDA)
    logits[1] = -torch.inf
    logits[1, 100_000:100_003] = torch.tensor([1.0, 2.0, 0.5], device=CUDA)
    chosen = torch.randint(100_000, 100_003, (9,), device=CUDA)
    truth = head._describe(logits.double(), chosen, 0.9)
    found = head_kernels.described(logits, chosen, 0.9)
    slopes = head._slopes(logits.double(), chosen, truth.log_z, 0.9, torch.float64)
    own = head_kernels.slopes(logits, chosen, found[-1], 0.9, torch.float32)
    return {
        **{
            f"head {n}": relative(one, two)
            for n, one, two in zip(truth._fields, found, truth, strict=True)
        },
        "head backward": relative(own, slopes),
    }


def race_kernels() -> dict[str, float]:
    """Drawn tokens that are not those of the same noise in fp64, and their log-probs."""
    from grpo_dual.rollouts import race_kernels

    logits = 3 * torch.randn(64, 128_256, device=CUDA)
    logits[1] = -torch.inf
    logits[1, 100_000:100_003] = torch.tensor([1.0, 2.0, 0.5], device=CUDA)
    noise = torch.empty_like(logits).exponential_()
    tokens, logprobs = race_kernels.drawn(logits, noise, 0.9)
    truth = torch.log_softmax(logits.double() / 0.9, -1)
    winners = (truth - noise.double().log()).argmax(-1)
    broken = race_kernels.drawn(torch.full_like(logits, torch.nan), noise, 0.9)
    assert broken[0].min() >= 0, "an id of the vocabulary, also where the logits are NaN"
    assert broken[0].max() < logits.shape[1], "an id of the vocabulary, also where they are NaN"
    assert broken[1].isnan().all(), "or nobody hears of it"
    return {
        "race lost": float((tokens != winners).double().mean()),
        "race log-probs": relative(logprobs, truth.gather(1, tokens[:, None])[:, 0]),
    }


def gradients(policy: Policy, batch: PackedBatch) -> tuple[Tensor, Tensor]:
    """Log-probs, and the adapter's gradient of a sum that weighs every token differently."""
    logprobs = policy.token_stats(batch.to(CUDA), temperature=1.0, chunk=512).logprobs
    weights = torch.linspace(-1, 1, len(logprobs), device=CUDA)
    parameters = [p for _, p in policy.trainable_parameters()]
    found = torch.autograd.grad((logprobs * weights).sum(), parameters)
    return logprobs.detach(), torch.cat([g.flatten() for g in found])


def some_groups() -> list[tuple[list[int], list[list[int]]]]:
    """Random prompts with completions of unlike length."""
    generator = torch.Generator().manual_seed(0)
    draw = lambda n: torch.randint(4, 2048, (n,), generator=generator).tolist()  # noqa: E731
    sizes = ((110, (60, 128, 7)), (17, (1, 33)), (300, (90,)))
    return [(draw(p), [draw(c) for c in cs]) for p, cs in sizes]


def in_fp32(policy: Policy) -> None:
    """The policy becomes its own oracle: fp32 weights and Transformers' and PEFT's own forward."""
    for module in policy.model.float().modules():
        vars(module).pop("forward", None)


def against_fp32(policy: Policy, args: argparse.Namespace) -> dict[str, float]:
    """Where the difference of engine and trainer comes from; the policy is in fp32 afterwards.

    Returns:
        Root mean square and largest difference of log-probs, of each against the fp32 model and of
        one against the other, over the tokens of one rollout.
    """
    sampling = SamplingConfig(max_new_tokens=args.new_tokens)
    prompts = shapes.prompts(
        shapes.lengths(shapes.FOUR, 4), shapes.SHAPES[args.shape]["vocab_size"]
    )
    engine = GraphEngine(policy, shapes.Codec(), sampling, max_sequences=512)
    groups = engine.generate(prompts, args.k)
    rows = [(g.prompt.token_ids, [r.token_ids for r in g.rollouts]) for g in groups]
    logprobs = {
        "engine": torch.tensor(
            [lp for g in groups for r in g.rollouts for lp in r.logprobs], device=CUDA
        )
    }
    del engine
    torch.cuda.empty_cache()

    @torch.no_grad()
    def passed(lay: Any) -> Tensor:
        with policy.inference():
            return torch.cat(
                [
                    policy.token_stats(lay([row]).to(CUDA), temperature=1.0, chunk=512).logprobs
                    for row in rows
                ]
            )

    masked = lambda own: pack(own, 0, multiple_of=8)  # noqa: E731
    logprobs |= {"flat": passed(flatten), "masked": passed(masked)}
    in_fp32(policy)
    truth_N = passed(masked)
    pairs = {f"{name} - fp32": own - truth_N for name, own in logprobs.items()}
    pairs["engine - flat"] = logprobs["engine"] - logprobs["flat"]
    pairs["masked - flat"] = logprobs["masked"] - logprobs["flat"]
    found = {"tokens": float(len(truth_N))}
    for name, gap_N in pairs.items():
        found[f"{name}, rms"] = float(gap_N.double().square().mean().sqrt())
        found[f"{name}, largest"] = float(gap_N.abs().max())
    return found


def flat_rows() -> dict[str, float]:
    """Relative errors against the same model in fp32."""
    groups = some_groups()
    policy = shapes.policy("tiny", CUDA)
    masked, flat = (
        gradients(policy, pack(groups, 0, multiple_of=8)),
        gradients(policy, flatten(groups)),
    )
    in_fp32(policy)
    truth = gradients(policy, pack(groups, 0, multiple_of=8))
    return {
        "log-probs, masked": relative(masked[0], truth[0]),
        "log-probs, flat": relative(flat[0], truth[0]),
        "gradient, masked": relative(masked[1], truth[1]),
        "gradient, flat": relative(flat[1], truth[1]),
    }


def drawn(policy: Policy, engine: Engine, sampling: SamplingConfig, args: Any) -> dict[str, Any]:
    """What the engine draws of random prompts and records, against the trainer."""
    sizes = shapes.lengths(shapes.FOUR, 4)
    prompts = shapes.prompts(sizes, shapes.SHAPES[args.shape]["vocab_size"])
    rounds = [engine.generate(prompts, args.k) for _ in range(args.rounds)]
    return compared(policy, rounds, sampling, shapes.Codec.eos_ids)


def compared(
    policy: Policy,
    rounds: Sequence[Sequence[RolloutGroup]],
    sampling: SamplingConfig,
    eos_ids: tuple[int, ...],
) -> dict[str, Any]:
    """What was drawn and recorded, against the trainer."""
    gaps, places = [], []
    for groups in rounds:
        packed = pack_groups(
            "fairness",
            list(groups),
            sampling=sampling,
            eos_ids=eos_ids,
            pad_id=0,
            limit=PassLimit(1),
            layout="flat",
            device=CUDA,
        )
        with torch.no_grad():  # as the trainer passes, whose norms are not the rollouts'
            for micro in packed.micro:
                stats = policy.token_stats(
                    micro.batch,
                    temperature=sampling.temperature,
                    chunk=512,
                    processor=micro.processor,
                )
                gaps.append(stats.logprobs - micro.behaviour_N)
                places.append(_places(policy, micro, sampling))
    gap_N, place_N = torch.cat(gaps).double(), torch.cat(places)
    counts = torch.histc(place_N.float(), bins=BINS, min=0, max=1).double()
    expected = len(place_N) / BINS
    chi = float(((counts - expected) ** 2 / expected).sum())
    half = torch.tensor([(BINS - 1) / 2, chi / 2], dtype=torch.float64)
    return {
        "tokens": len(gap_N),
        "mean ratio": float(gap_N.exp().mean()),
        "standard error": float(gap_N.exp().std() / len(gap_N) ** 0.5),
        "largest difference": float(gap_N.abs().max()),
        "chi-square": round(chi, 1),
        "p": float(torch.special.gammaincc(half[0], half[1])),
    }


def of_run(args: argparse.Namespace) -> tuple[dict[str, Any], bool]:
    """Check 2 on the model and the prompts of a run; a live adapter is put on it."""
    names = [] if args.model is None else [f"--model.name={args.model}"]
    parts = build(load_config(args.config, [*names, "--model.dtype=bfloat16"]))
    policy = parts.policy
    tiny_models.randomise(policy, 0.01)
    result: dict[str, Any] = {"config": str(args.config), "notes": parts.notes}
    for name, more in shapes.SAMPLINGS.items():
        plain = parts.config.rollout.sampling.max_new_tokens
        sampling = SamplingConfig(max_new_tokens=plain, min_new_tokens=0, **more)
        engine = GraphEngine(policy, parts.encoder, sampling, max_sequences=512)
        rounds = [
            engine.generate([parts.prompt(o, r) for r in o.draw(32)], args.k)
            for o in parts.objectives.values()
            for _ in range(args.rounds)
        ]
        result[name] = compared(policy, rounds, sampling, parts.encoder.eos_ids)
        del engine
    return result, all(_within(result[name]) for name in shapes.SAMPLINGS)


def _within(found: Mapping[str, Any]) -> bool:
    return (
        found["p"] >= BOUNDS["p"]
        and abs(found["mean ratio"] - 1) <= BOUNDS["mean ratio"]
        and found["largest difference"] <= BOUNDS["largest difference"]
    )


def _places(policy: Policy, micro: Any, sampling: SamplingConfig) -> Tensor:
    """[N] a random point of each token's share in the cumulative distribution of its place."""
    hidden = policy.hidden_states(micro.batch)
    found: list[Tensor] = []
    for start in range(0, len(hidden), 256):
        stop = min(start + 256, len(hidden))
        logits = policy.logits(hidden[start:stop])
        if micro.processor is not None:
            logits, _ = micro.processor(logits, start, stop)
        p = (logits / sampling.temperature).double().softmax(-1)
        own = micro.batch.targets[start:stop, None]
        mass = p.gather(1, own)
        found.append((p.cumsum(1).gather(1, own) - mass * torch.rand_like(mass))[:, 0])
    return torch.cat(found)


def training(args: argparse.Namespace) -> benchmark.Ours:
    """A run at a rate at which five steps are plain to see, behind its first step."""
    policy = shapes.policy(args.shape, CUDA, live=False)
    policy.freeze_reference()
    work = shapes.Work(tuple(shapes.lengths(shapes.FOUR, 4)), args.k, args.new_tokens)
    run = benchmark.Ours(policy, work, PassLimit(2))
    run.updater._config = run.updater._config.model_copy(update={"learning_rate": 1e-3})
    run.step()
    return run


def moving_adapter(args: argparse.Namespace) -> dict[str, Any]:
    """Five updates: sampler and trainer stay together, and both leave the reference."""
    run = training(args)
    for _ in range(5):
        run.step()
    return {
        "largest difference": [u.gap_max for u in run.updates],
        "mean ratio": [u.ratio_mean for u in run.updates],
        "KL, nats over an objective's tokens": [
            max(o.kl.total for o in u.objectives.values()) for u in run.updates
        ],
    }


def stale_adapter(args: argparse.Namespace) -> str:
    """Train with an engine that has stopped looking at the adapter; what the trainer says."""
    run = training(args)
    run.engine._decoder.refresh = lambda: None  # type: ignore[method-assign]
    for number in range(1, 6):
        try:
            run.step()
        except NumericsError as error:
            return f"found before update {number + 1}: {error}"
    return "not found in five updates"


def replayed(policy: Policy) -> bool:
    """Does a rollout that captures its graphs draw what one draws that replays them?"""
    sampling = SamplingConfig(max_new_tokens=32)
    engine = GraphEngine(policy, shapes.Codec(), sampling, max_sequences=512)
    prompts = shapes.prompts([9, 5], policy.causal_lm.config.get_text_config().vocab_size)

    def drawn() -> list[tuple[int, ...]]:
        torch.manual_seed(5)
        return [r.token_ids for g in engine.generate(prompts, 4) for r in g.rollouts]

    return drawn() == drawn()


def broken_capture() -> str:
    """A step that breaks its capture off; what the user hears. Random numbers go on behind it."""
    policy = shapes.policy("tiny-moe", CUDA)

    def hook(*_: Any) -> None:
        if torch.cuda.is_current_stream_capturing():
            torch.cuda.synchronize()

    policy.body.register_forward_hook(hook)
    return _told(policy)


def waiting_step() -> str:
    """Experts one by one, for which the host must know who is asked; what the user hears."""
    policy = shapes.policy("tiny-moe", CUDA)
    policy.causal_lm.set_experts_implementation("eager")
    return _told(policy)


def _told(policy: Policy) -> str:
    """What is told of why the transformers engine draws."""
    heard: list[str] = []
    engine = choose_engine(policy, shapes.Codec(), RolloutConfig(), heard.append)
    drawn = engine.generate(shapes.prompts([9, 5], shapes.SHAPES["tiny-moe"]["vocab_size"]), 2)
    assert isinstance(engine, TransformersEngine)
    assert len(drawn) == 2, "random numbers can still be drawn"
    return heard[-1]


def agreement(policy: Policy) -> dict[str, float]:
    """Flat rows against plain ones of the same policy, relative, and the peak of the flat pass."""
    groups = some_groups()
    plain = gradients(policy, unpack(groups, 0))
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    flat = gradients(policy, flatten(groups))
    return {
        "log-probs": relative(flat[0], plain[0]),
        "gradient": relative(flat[1], plain[1]),
        "allocated GiB": before / GIB,
        "peak GiB": torch.cuda.max_memory_allocated() / GIB,
    }


def nf4(args: argparse.Namespace) -> tuple[dict[str, Any], bool]:
    """The checks of 4-bit weights, and whether they hold."""
    sixteen = agreement(shapes.policy(args.shape, CUDA))
    gc.collect()  # modules hold each other by what their forward passes were replaced with
    torch.cuda.empty_cache()
    policy = shapes.policy(args.shape, CUDA, nf4=True)
    torch.cuda.empty_cache()
    four = agreement(policy)
    model = Model.of(policy, in_place=False)
    tokens = flatten(some_groups()).input_ids.numel()
    planned = model.shape.activations(
        tokens, checkpointing=False, flat=policy.flat, layers=policy.layers
    )
    result = {
        "16 bit": sixteen,
        "nf4": four,
        "notes": policy.notes,
        "planned GiB": {
            "weights": model.weights / GIB,
            "adapter and two gradients": 4 * 3 * model.trained / GIB,
            "activations": planned / GIB,
            "logits": model.shape.logits(512) / GIB,
        },
    }
    sampling = SamplingConfig(max_new_tokens=args.new_tokens)
    engine = GraphEngine(policy, shapes.Codec(), sampling, max_sequences=512)
    result["drawn"] = found = drawn(policy, engine, sampling, args)
    bound = BOUNDS["nf4 against 16 bit"]
    good = (
        all(four[what] <= bound * sixteen[what] for what in ("log-probs", "gradient"))
        and found["p"] >= BOUNDS["p"]
        and abs(found["mean ratio"] - 1) <= BOUNDS["mean ratio"]
    )
    return result, good


def main() -> int:
    """All checks."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", choices=shapes.SHAPES, default="1b")
    parser.add_argument("--k", type=int, default=4)
    parser.add_argument("--new-tokens", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--nf4", action="store_true", help="4-bit weights, and nothing else")
    parser.add_argument("--config", type=Path, help="of a run, whose model and prompts are taken")
    parser.add_argument("--model", help="instead of the configuration's")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    result: dict[str, Any] = measure.origin()
    if args.config is not None:
        result["run"], good = of_run(args)
    elif args.nf4:
        result["shape"] = args.shape
        result["4 bit"], good = nf4(args)
    else:
        result["shape"] = args.shape
        good = all_but_nf4(args, result)
    result["bounds"] = BOUNDS
    print(json.dumps(result, indent=1))
    measure.write(args.json, result)
    return int(not good)


def all_but_nf4(args: argparse.Namespace, result: dict[str, Any]) -> bool:
    """The checks of 16-bit weights, into ``result``; whether they hold."""
    result["kernels"] = kernels()
    result["flat rows"] = flat_rows()
    policy = shapes.policy(args.shape, CUDA)
    for name, more in shapes.SAMPLINGS.items():
        sampling = SamplingConfig(max_new_tokens=args.new_tokens, min_new_tokens=0, **more)
        engine = GraphEngine(policy, shapes.Codec(), sampling, max_sequences=512)
        result[name] = drawn(policy, engine, sampling, args)
        del engine
    result["replay draws what capture draws"] = replayed(policy)
    result["against fp32"] = against_fp32(policy, args)
    del policy
    torch.cuda.empty_cache()
    result["moving adapter"] = moved = moving_adapter(args)
    torch.cuda.empty_cache()
    result["stale adapter"] = stale_adapter(args)
    result["waiting step"] = waiting_step()
    result["broken capture"] = broken_capture()
    rows = result["flat rows"]
    good = [
        max(result["kernels"].values()) <= BOUNDS["kernel"],
        rows["log-probs, flat"] <= BOUNDS["flat against masked"] * rows["log-probs, masked"],
        rows["gradient, flat"] <= BOUNDS["flat against masked"] * rows["gradient, masked"],
        result["stale adapter"].startswith("found"),
        result["waiting step"].endswith("waits for the device"),
        "a first step of its modules failed" in result["broken capture"],
        result["replay draws what capture draws"],
        moved["KL, nats over an objective's tokens"][-1] > 0,
        max(moved["largest difference"]) <= BOUNDS["moving adapter"],
        *(_within(result[n]) for n in shapes.SAMPLINGS),
    ]
    return all(good)


if __name__ == "__main__":
    sys.exit(main())
