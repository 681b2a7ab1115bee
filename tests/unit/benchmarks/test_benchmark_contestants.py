"""Ours and Transformers' ``generate`` draw the same number of tokens from the tiny shape."""

import argparse
import json
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[3]
sys.path.append(str(ROOT / "benchmarks"))

import forward  # noqa: E402
import rollout  # noqa: E402

CPU = torch.device("cpu")


@pytest.fixture
def flags(tmp_path: Path) -> argparse.Namespace:
    lengths = tmp_path / "lengths.json"
    lengths.write_text(json.dumps({"lengths": [5, 9, 3]}))
    return argparse.Namespace(
        nf4=False,
        shape="tiny", prompts=2, k=2, new_tokens=3, prompt_lengths=lengths, sampling="plain",
        engine="auto", warmup=0, rounds=2, rival_rounds=2,
    )  # fmt: skip


@pytest.mark.parametrize("sampling", ["plain", "handoff"])
@pytest.mark.parametrize("who", ["ours", "transformers"])
def test_both_draw_every_token(flags: argparse.Namespace, who: str, sampling: str) -> None:
    flags.sampling = sampling
    # It would raise if a sequence had ended early.
    found = rollout.CONTESTANTS[who](flags, CPU)
    assert {name: len(values) for name, values in found["seconds"].items()} == {
        "rollout": 2,
        "prefill": 2,
    }
    assert found["peak_gib"] == {}
    assert found.get("engine") == ("TransformersEngine" if who == "ours" else None)


@pytest.mark.parametrize(
    ("prompt", "completion", "ideal"), [(150, 40, 3.12), (300, 100, 2.80), (900, 128, 4.12)]
)
def test_operations_of_shared_prompts_are_those_of_the_table(
    prompt: int, completion: int, ideal: float
) -> None:
    """Llama 3 8B, K 8: 2 N tokens + 4 d L pairs + 2 N_head K C, N 6.979e9 and N_head .525e9."""
    one = [(prompt, [completion] * 8)]
    each = [(prompt, [completion])] * 8
    found = forward.operations("8b", each) / forward.operations("8b", one)
    assert found == pytest.approx(ideal, abs=5e-3)
    alone = forward.operations("8b", [(1, [])])  # one token, one pair, nothing scored
    assert alone == pytest.approx(2 * 6.979e9 + 4 * 4096 * 32, rel=1e-3)


def test_forward_takes_the_common_flags(
    flags: argparse.Namespace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--prompts", "3", "--k", "2", "--new-tokens", "4", "--repeats", "1"]
    lengths = ["--prompt-lengths", str(flags.prompt_lengths), "--cases", "6,2,3,2"]
    monkeypatch.setattr(sys, "argv", ["forward.py", *given, *lengths])
    forward.main()
    found = json.loads(capsys.readouterr().out)
    own, case = found["cases"]
    # Shared 5 + 9 + 3 + 6 x 4 = 41 tokens, plain 2 x 17 + 24 = 58.
    assert (own["shared"]["tokens"], own["plain"]["tokens"]) == (41, 58)
    # K (P + C) / (P + K C) = 3 x 8 / (6 + 6)
    assert case["ideal_tokens"] == 2.0
    assert case["of_ideal"] == pytest.approx(case["speedup"] / case["ideal"], abs=2e-3)
    assert found["sequences"] == 6
    assert found["rival"] == "plain"
    assert {"machine", "versions", "date", "command"} <= set(found)
