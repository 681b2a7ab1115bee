"""Where a step's time goes: each part's wall, the host's share of it, and the device's kernels.

    python benchmarks/profile_step.py --shape 8b --prompt-lengths benchmarks/four_prompts.json --k 4

The parts of ``benchmarks/step.py`` are run once each under torch's profiler, after two whole steps.
``host_ms`` is the time until the call returns, ``wall_ms`` until the device has finished; where the
host is as long as the wall, launching is the limit. Kernels are listed by their sum, and so is what
the host spends by itself. Under the profiler all takes a little longer. ``--json`` writes it down.
"""

import os
import time
from collections.abc import Callable
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

import measure
import shapes
import step
from grpo_dual.rollouts.collect import collect
from grpo_dual.train.batch import PassLimit

SHOWN = 12
"""Kernels, and operations of the host, that are listed."""


def profiled(call: Callable[[], object], device: torch.device) -> dict[str, Any]:
    """One call, warmed up by another.

    Args:
        call: Launches work.
        device: Awaited around it.
    """
    cuda = device.type == "cuda"
    wait: Callable[[], None] = torch.cuda.synchronize if cuda else lambda: None
    call()
    wait()
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])]
    with profile(activities=activities) as seen:
        began = time.perf_counter()
        call()
        host = time.perf_counter() - began
        wait()
        wall = time.perf_counter() - began
    events = seen.key_averages()
    on_host = torch.autograd.DeviceType.CPU
    kernels = [e for e in events if e.device_type != on_host and e.self_device_time_total > 0]
    own = [e for e in events if e.device_type == on_host]
    return {
        "wall_ms": round(wall * 1e3, 1),
        "host_ms": round(host * 1e3, 1),
        "kernel_ms": round(sum(e.self_device_time_total for e in kernels) / 1e3, 1),
        "kernels": _longest([(e.key, e.count, e.self_device_time_total) for e in kernels]),
        "host": _longest([(e.key, e.count, e.self_cpu_time_total) for e in own]),
    }


def _longest(rows: list[tuple[str, int, float]]) -> list[dict[str, Any]]:
    """The longest by their sum, which is in microseconds."""
    ordered = sorted(rows, key=lambda row: -row[2])[:SHOWN]
    return [{"name": name[:100], "calls": n, "ms": round(us / 1e3, 2)} for name, n, us in ordered]


def main() -> None:
    """Build, warm up, profile each part."""
    args = parse()
    device = shapes.device()
    policy = shapes.policy(args.shape, device, live=False)
    policy.freeze_reference()
    work = shapes.Work.of(args, "plain")
    run = step.Ours(policy, work, PassLimit(args.microbatch_prompts))
    for _ in range(2):
        run.step()
    groups = collect(run.engine, run.prompts, work.k).groups
    packed = [run.pack(name, groups[i::2]) for i, name in enumerate(step.NAMES)]
    parts: dict[str, Callable[[], object]] = {
        "rollout": lambda: collect(run.engine, run.prompts, work.k),
        "reference": lambda: run.updater.add_reference(packed),
        "update": lambda: run.updater.update([run.score(own) for own in packed]),
    }
    result = {
        **measure.origin(),
        "shape": args.shape,
        "work": work.record(),
        "parts": {name: profiled(call, device) for name, call in parts.items()},
    }
    measure.write(args.json, result)
    for name, own in result["parts"].items():
        print(
            f"{name}: wall {own['wall_ms']}, host {own['host_ms']}, kernels {own['kernel_ms']} ms"
        )
        for row in [*own["kernels"], *own["host"][:6]]:
            print(f"  {row['ms']:9.2f} ms {row['calls']:6d} x {row['name']}")


def parse() -> Any:
    """The command line."""
    parser = shapes.flags(__doc__)
    parser.add_argument("--microbatch-prompts", type=int, default=2)
    return parser.parse_args()


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    main()
