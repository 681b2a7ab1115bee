"""What held-out HaluEval questions give a reader that does not read: spans of their knowledge.

    python scripts/real_chance.py --config configs/real-small.yaml

Every name and number of the knowledge, "yes" and "no" are put forward as the answer and judged as
the runs' answers are; a question's chance is their mean. Beside it two rules that read nothing: the
first span, and the last.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from statistics import fmean

from grpo_dual.config.load import load_config
from grpo_dual.train.objectives import Hallucination, build_objective
from real_facts import SPAN

RULES: dict[str, Callable[[list[str]], list[str]]] = {
    "any": lambda spans: [*spans, "yes", "no"],
    "first": lambda spans: spans[:1],
    "last": lambda spans: spans[-1:],
}


def chance(objective: Hallucination, rule: Callable[[list[str]], list[str]]) -> float:
    """Mean over questions of the share of a rule's answers that are grounded."""
    shares: list[float] = []
    for record in objective.eval_records:
        spans = list(dict.fromkeys(SPAN.findall(record.context))) or [record.context]
        answers = rule(spans)
        scores = objective.evaluate([record] * len(answers), answers)
        shares.append(float(scores["grounded"] or 0.0))
    return fmean(shares)


def main() -> None:
    """Print the shares as JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", type=Path, default=Path("configs/real-small.yaml"))
    args = parser.parse_args()
    config = load_config(args.config)
    longest = config.rollout.sampling.max_new_tokens
    built = build_objective(
        "hallucination", config.objectives["hallucination"], max_new_tokens=longest, seed=0
    )
    assert isinstance(built, Hallucination)
    found = {name: round(chance(built, rule), 4) for name, rule in RULES.items()}
    print(json.dumps({"questions": len(built.eval_records), **found}))


if __name__ == "__main__":
    main()
