"""The emulated Llama is the real one, and rounds what it says."""

import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[3]
sys.path.append(str(ROOT / "benchmarks"))

import rounding  # noqa: E402


@pytest.fixture(scope="module")
def model() -> rounding.Model:
    return rounding.Model("tiny", 48, torch.device("cpu"))


def test_without_rounding_it_is_transformers_llama(model: rounding.Model) -> None:
    with torch.no_grad():
        logits = model._model(input_ids=model._ids[None]).logits[0]
    found = model._logprobs(rounding.Rounding())
    torch.testing.assert_close(found, torch.log_softmax(logits, -1), rtol=1e-5, atol=1e-5)


def test_another_order_is_no_rounding(model: rounding.Model) -> None:
    assert model.error(rounding.Rounding(reordered=True))["largest"] < 1e-4


@pytest.mark.parametrize("kind", rounding.KINDS)
def test_every_kind_is_rounded_somewhere(model: rounding.Model, kind: str) -> None:
    alone = model.error(rounding.Rounding((kind,)))["rms"]
    assert 0 < alone < model.error(rounding.Rounding(rounding.KINDS))["rms"]


def test_only_the_layers_asked_for(model: rounding.Model) -> None:
    layers = rounding.ranges(model.layers)
    assert [list(own) for own in layers] == [[0], [1], [2, 3]]
    assert rounding.ranges(5)[-1] == range(4, 5)
    plain = model._logprobs(rounding.Rounding())
    none = model._logprobs(rounding.Rounding(rounding.KINDS.keys() - {"final"}, layers=()))
    assert torch.equal(plain, none)
