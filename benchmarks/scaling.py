"""How a step scales: one axis at a time around a base point, in one process, the model built once.

    python benchmarks/scaling.py --shape 8b --json benchmarks/results/scaling.json

Axes: completions of a prompt (K), prompts, tokens of a prompt, new tokens. Every point is one
warm-up step and two or three timed ones of ``step.py``, in passes of a budget of tokens. Points are
taken from the smallest floor (``measure.step_floor``) to the largest, and the JSON is written after
each, so that an interruption loses nothing. A point that would end beyond ``--budget-seconds``, by
how the last one compared with its floor, is skipped with all that follow, and the result names
them. A point that the device's memory does not hold, or whose numbers the trainer refuses, is
recorded as that.

    --axis k=4,8 --axis prompts=      another set of values, or none, for an axis
"""

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import measure
import shapes
import step
from grpo_dual.model.policy import Policy
from grpo_dual.train.batch import PassLimit

AXES: dict[str, tuple[int, ...]] = {
    "k": (4, 8, 16, 32),
    "prompts": (4, 16, 64),
    "prompt_tokens": (100, 500, 1000, 2000, 4000),
    "new_tokens": (32, 128, 512, 1024),
}
LONG = 2.0
"""Seconds of a step from which two timed ones are enough."""
NOMINAL = measure.CARDS["H100"]
"""Floors on it order the points and foretell their time, on any machine; only ratios are used."""


@dataclass(frozen=True, slots=True)
class Point:
    """A step's size."""

    prompts: int
    k: int
    prompt_tokens: int
    """Of every prompt."""
    new_tokens: int

    @property
    def work(self) -> shapes.Work:
        """As the benchmarks know it."""
        return shapes.Work((self.prompt_tokens,) * self.prompts, self.k, self.new_tokens)

    def floor(self, weights: int, on: measure.Card) -> float:
        """Seconds that no step of that size can beat."""
        return measure.step_floor(weights, self.work.packed_tokens, self.new_tokens, on)

    def __str__(self) -> str:
        return f"{self.prompts} prompts of {self.prompt_tokens}, K {self.k}, {self.new_tokens} new"


def points(base: Point, axes: Mapping[str, Sequence[int]], weights: int) -> list[Point]:
    """The base and every value of every axis, none twice, the quickest first."""
    found = {base: None}
    for axis, values in axes.items():
        found |= dict.fromkeys(replace(base, **{axis: value}) for value in values)
    return sorted(found, key=lambda point: point.floor(weights, NOMINAL))


class Budget:
    """Whether another point still fits."""

    def __init__(self, seconds: float, clock: Callable[[], float]) -> None:
        """Begin now.

        Args:
            seconds: In all.
            clock: Seconds, from anywhere.
        """
        self._clock, self._began, self._seconds = clock, clock(), seconds
        self._ratio = 0.0

    @property
    def spent(self) -> float:
        """Seconds since the beginning."""
        return self._clock() - self._began

    def fits(self, floor: float) -> bool:
        """Would a point of that floor end in time, if it took as many floors as the last one?"""
        return self.spent + self._ratio * floor <= self._seconds

    def took(self, floor: float, seconds: float) -> None:
        """A whole point, warm-up included, took so long."""
        self._ratio = seconds / floor


def measured(
    policy: Policy, point: Point, *, tokens: int, repeats: int, on: measure.Card | None
) -> dict[str, Any]:
    """One point.

    Args:
        policy: Is trained on, from point to point.
        point: The step's size.
        tokens: In a pass, a prompt and its completions at least.
        repeats: Timed steps, two at most where a step is long.
        on: The card, if it was measured.
    """
    for _, parameter in policy.trainable_parameters():
        parameter.grad = None  # of a point that ran out of memory
    run = step.Ours(policy, point.work, PassLimit(1, tokens))
    run.step()
    if run.parts.seconds["step"][0] > LONG:
        repeats = min(repeats, 2)
    run.parts = measure.Parts(policy.device)
    for _ in range(repeats):
        run.step()
    result = run.parts.result()
    median = measure.medians(result["seconds"])
    weights = shapes.parameters(policy.config.name)
    compared = measure.comparison(
        shape=policy.config.name,
        sequences=point.work.sequences,
        step_s=median["step"],
        floor_s=None if on is None else point.floor(weights, on),
        peak_gib=max(result["peak_gib"].values(), default=None),
    )
    return compared | {
        "engine": type(run.engine).__name__,
        "layout": run.layout,
        "packed_tokens": point.work.packed_tokens,
        "completion_tokens": run.completion_tokens,
        "median_s": median,
        "seconds": result["seconds"],
        "part_peak_gib": result["peak_gib"],
    }


def sweep(
    wanted: Sequence[Point],
    measured: Callable[[Point], dict[str, Any]],
    budget: Budget,
    weights: int,
    report: Callable[[list[dict[str, Any]], list[Point]], None],
) -> None:
    """All points, as far as time and memory reach.

    Args:
        wanted: The quickest first.
        measured: Does one.
        budget: Of time.
        weights: Weights that a token passes.
        report: Gets what is done and what was skipped, after every point.
    """
    done: list[dict[str, Any]] = []
    for place, point in enumerate(wanted):
        floor = point.floor(weights, NOMINAL)
        if not budget.fits(floor):
            report(done, list(wanted[place:]))
            return
        before = budget.spent
        row = measure.attempt(lambda point=point: measured(point))
        # Behind the handler, whose traceback would hold what the failed point had allocated.
        measure.forget()
        if "failed" not in row:
            budget.took(floor, budget.spent - before)
        done.append(asdict(point) | row | {"point_s": round(budget.spent - before, 2)})
        report(done, [])


def line(row: Mapping[str, Any]) -> str:
    """A point in words."""
    size = str(Point(*(row[name] for name in Point.__slots__)))
    if "failed" in row:
        return f"{size}: {row['failed']}"
    median, gib = row["median_s"], row["peak_gib"]
    return (
        f"{size}: {row['step_s']:.2f} s a step (rollouts {median['rollout']:.2f}, reference "
        f"{median['reference']:.2f}, forward and backward {median['forward_backward']:.2f}, update "
        f"{median['update']:.2f}){'' if gib is None else f', {gib} GiB'}; {row['point_s']:.0f} s"
    )


def axis(text: str) -> tuple[str, tuple[int, ...]]:
    """``NAME=V,V`` of the command line."""
    name, _, values = text.partition("=")
    if name not in AXES:
        raise argparse.ArgumentTypeError(f"{name!r} is no axis; choose from {', '.join(AXES)}")
    return name, tuple(int(value) for value in values.split(",") if value)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", choices=shapes.SHAPES, default="tiny")
    for name, value in asdict(Point(4, 4, 220, 128)).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=value)
    parser.add_argument("--axis", type=axis, action="append", default=[], metavar="NAME=V,V")
    parser.add_argument("--repeats", type=int, default=3, help="timed steps of a point")
    parser.add_argument("--microbatch-tokens", type=int, default=4608)
    parser.add_argument("--checkpointing", action="store_true")
    parser.add_argument("--budget-seconds", type=float, default=240.0, help="the model's included")
    parser.add_argument("--json", type=Path, metavar="FILE")
    return parser.parse_args()


def main() -> None:
    """Build, sweep, print."""
    args = parse()
    budget = Budget(args.budget_seconds, time.perf_counter)
    weights, on = shapes.parameters(args.shape), measure.this_card()
    base = Point(args.prompts, args.k, args.prompt_tokens, args.new_tokens)
    axes = AXES | dict(args.axis)
    policy = shapes.policy(
        args.shape, shapes.device(), checkpointing=args.checkpointing, live=False
    )
    policy.freeze_reference()
    shapes.tell(f"{args.shape} built in {budget.spent:.0f} s")
    whole: dict[str, Any] = {
        "shape": args.shape,
        "base": asdict(base),
        "axes": axes,
        "microbatch_tokens": args.microbatch_tokens,
        "checkpointing": args.checkpointing,
        **measure.origin(),
    }

    def report(done: list[dict[str, Any]], skipped: list[Point]) -> None:
        if skipped:
            names = "; ".join(map(str, skipped))
            shapes.tell(f"skipped, {args.budget_seconds:.0f} s would not do: {names}")
        else:
            shapes.tell(line(done[-1]))
        whole.update(
            points=done,
            skipped=[asdict(point) for point in skipped],
            elapsed_s=round(budget.spent, 1),
        )
        measure.write(args.json, whole)

    one = lambda point: measured(  # noqa: E731
        policy, point, tokens=args.microbatch_tokens, repeats=args.repeats, on=on
    )
    sweep(points(base, axes, weights), one, budget, weights, report)
    print(json.dumps(whole))


if __name__ == "__main__":
    main()
