"""Checkpoints are whole or absent, come back bit by bit, and damage is named."""

import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from grpo_dual.errors import CheckpointError
from grpo_dual.train import checkpoint
from grpo_dual.train.checkpoint import Checkpoints
from grpo_dual.train.state import load_optimizer, optimizer_tensors, restore_rng, rng_state


def tensors(step: int) -> dict[str, Tensor]:
    base = torch.arange(6, dtype=torch.float32).reshape(2, 3) * step / 3
    return {
        "w": base,
        "transposed": base.T,
        "shared": base,
        "half": base.bfloat16(),
        "scalar": torch.tensor(float(step)),
        "bytes": torch.tensor([0, 255], dtype=torch.uint8),
    }


def state(step: int) -> dict[str, object]:
    return {"step": step, "z first": 0.1 + 0.2, "a": [1, None, True], "big": 2**70}


def adapter(folder: Path) -> None:
    (folder / "adapter_config.json").write_text("{}")
    checkpoint.save_file({"lora": torch.ones(2)}, folder / "adapter_model.safetensors")


def save(checkpoints: Checkpoints, step: int) -> Path:
    return checkpoints.save(step, tensors(step), state(step), adapter)


def listing(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def assert_same(checkpoints: Checkpoints, step: int) -> None:
    found, document = checkpoints.load(checkpoints.path(step))
    expected = tensors(step)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name].dtype == value.dtype
        assert torch.equal(found[name], value)
    assert document == state(step)
    assert list(document) == list(state(step))


def test_round_trip(tmp_path: Path):
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    assert checkpoints.latest() is None
    path = save(checkpoints, 3)
    assert checkpoints.latest() == path
    assert_same(checkpoints, 3)
    assert listing(path) == ["adapter", "manifest.json", "state.json", "tensors.safetensors"]
    assert listing(path / "adapter") == ["adapter_config.json", "adapter_model.safetensors"]


def test_without_tensors_or_adapter(tmp_path: Path):
    checkpoints = Checkpoints(tmp_path)
    path = checkpoints.save(0, {}, {"step": 0})
    assert checkpoints.load(path) == ({}, {"step": 0})


def test_the_same_content_gives_the_same_bytes(tmp_path: Path):
    one, two = save(Checkpoints(tmp_path / "1"), 3), save(Checkpoints(tmp_path / "2"), 3)
    for name in ("manifest.json", "state.json", "tensors.safetensors"):
        assert (one / name).read_bytes() == (two / name).read_bytes()


def test_a_saved_copy_does_not_follow_the_run(tmp_path: Path):
    checkpoints = Checkpoints(tmp_path)
    live = torch.zeros(2)
    path = checkpoints.save(1, {"w": live}, {})
    live += 1
    assert checkpoints.load(path)[0]["w"].tolist() == [0.0, 0.0]


def test_keeps_the_last_and_the_best(tmp_path: Path):
    checkpoints = Checkpoints(tmp_path, keep_last=2)
    scores = {1: 0.5, 2: 0.75, 3: 0.75, 4: float("nan"), 5: 0.25}
    marked: list[int] = []
    for step, score in scores.items():
        save(checkpoints, step)
        if checkpoints.mark_best(step, score):
            marked.append(step)
    # 3 only equals 2, and nan never wins; 4 and 5 are the last two.
    assert marked == [1, 2]
    assert checkpoints.steps() == [2, 4, 5]
    # The mark is on the disk, so another process knows it.
    assert Checkpoints(tmp_path).best() == (2, 0.75)
    assert_same(checkpoints, 2)


def test_a_best_that_is_gone_is_forgotten(tmp_path: Path):
    checkpoints = Checkpoints(tmp_path)
    save(checkpoints, 1)
    checkpoints.mark_best(1, 0.5)
    shutil.rmtree(checkpoints.path(1))
    assert checkpoints.best() is None
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        checkpoints.mark_best(1, 0.6)
    save(checkpoints, 2)
    assert checkpoints.mark_best(2, 0.1)


def test_damaged_best_is_named(tmp_path: Path):
    (tmp_path / "best.json").write_text('{"step": 1')
    with pytest.raises(CheckpointError, match=r"best\.json: cannot be read"):
        Checkpoints(tmp_path).best()


def test_saving_a_step_again_replaces_it(tmp_path: Path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(3, {"w": torch.zeros(1)}, {"old": True})
    save(checkpoints, 3)
    assert_same(checkpoints, 3)
    assert listing(tmp_path) == ["step-00000003"]


class Killed(BaseException):
    """Stands for the kill: nothing of ours catches it."""


class Counter:
    """Lets the first ``limit`` calls pass and then raises, again and again."""

    def __init__(self, real: Callable[..., object], limit: int, error: BaseException) -> None:
        self.real, self.limit, self.error, self.calls = real, limit, error, 0

    def __call__(self, *args: object, **kwargs: object) -> object:
        self.calls += 1
        if self.calls > self.limit:
            raise self.error
        return self.real(*args, **kwargs)


def attempt(checkpoints: Checkpoints) -> str | None:
    """What saving step 3 failed with, or None."""
    try:
        save(checkpoints, 3)
    except (CheckpointError, Killed) as error:
        return f"{type(error).__name__}: {error}"
    return None


WRITES = [
    (checkpoint, "save_file"),
    (checkpoint, "_checksum"),
    (os, "fsync"),
    (Path, "write_bytes"),
    (Path, "mkdir"),
    (Path, "rename"),
]
FULL = OSError(28, "No space left on device")


@pytest.mark.parametrize("again", [False, True], ids=["new step", "step saved again"])
@pytest.mark.parametrize("error", [FULL, Killed()], ids=["disk full", "killed"])
@pytest.mark.parametrize(("owner", "name"), WRITES, ids=[name for _, name in WRITES])
def test_failing_at_any_write_leaves_whole_checkpoints(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    owner: object,
    name: str,
    error: BaseException,
    again: bool,
):
    killed = isinstance(error, Killed)
    limit, failed = 0, 0
    while True:
        folder = tmp_path / str(limit)
        checkpoints = Checkpoints(folder, keep_last=2)
        for step in (1, 2, 3) if again else (1, 2):
            save(checkpoints, step)
        with monkeypatch.context() as patch:
            counter = Counter(getattr(owner, name), limit, error)
            # A plain function, so that it binds like the method it replaces.
            patch.setattr(owner, name, lambda *a, counter=counter, **k: counter(*a, **k))
            if killed:  # A killed process does not tidy up either.
                patch.setattr(shutil, "rmtree", lambda *_a, **_k: None)
            refusal = attempt(checkpoints)
        if refusal is None:
            break
        if not killed:
            assert "No space left on device" in refusal
            assert "--out" in refusal
        failed += 1
        # What is there is whole. Only the one that was being replaced may be away for a moment,
        # when the run was killed between two renames or no rename works any more.
        steps = checkpoints.steps()
        assert steps
        for step in steps:
            assert_same(checkpoints, step)
        assert {1, 2} <= set(steps) or {2, 3} <= set(steps) or (name == "rename" and steps == [2])
        if not killed:
            assert not list(folder.glob(".*.part"))
        # The next save works and leaves nothing of the failed one behind.
        save(checkpoints, 3)
        assert listing(folder) == ["step-00000002", "step-00000003"]
        assert_same(checkpoints, 3)
        limit += 1
    assert failed >= 1


@pytest.mark.parametrize(
    "name", ["tensors.safetensors", "state.json", "adapter/adapter_config.json"]
)
@pytest.mark.parametrize("harm", ["flip", "truncate", "remove"])
def test_damage_is_named_and_the_one_before_offered(tmp_path: Path, name: str, harm: str):
    checkpoints = Checkpoints(tmp_path, keep_last=3)
    for step in (1, 2, 3):
        save(checkpoints, step)
    for step in (2, 3):
        path = checkpoints.path(step) / name
        content = path.read_bytes()
        if harm == "flip":
            path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        elif harm == "truncate":
            path.write_bytes(content[: len(content) // 2])
        else:
            path.unlink()
    latest = checkpoints.latest()
    assert latest == checkpoints.path(3)
    with pytest.raises(CheckpointError) as caught:
        checkpoints.load(latest)
    text = str(caught.value)
    # 2 is damaged as well, so 1 is the newest whole one.
    assert str(checkpoints.path(3) / name) in text
    assert str(checkpoints.path(1)) in text
    assert "\n" not in text


@pytest.mark.parametrize(
    "content", [None, "", "[]", '{"format": 1, "files": {}}', '{"format": 9, "files": {}}']
)
def test_damaged_manifest(tmp_path: Path, content: str | None):
    checkpoints = Checkpoints(tmp_path)
    path = save(checkpoints, 1)
    if content is None:
        (path / "manifest.json").unlink()
    else:
        (path / "manifest.json").write_text(content)
    with pytest.raises(CheckpointError, match=r"step-00000001.*start the run again"):
        checkpoints.load(path)


@pytest.mark.parametrize("name", ["optimizer.pt", "adapter/adapter_model.bin", "rng.PKL"])
def test_pickles_are_refused(tmp_path: Path, name: str):
    checkpoints = Checkpoints(tmp_path)
    path = save(checkpoints, 1)
    (path / name).write_bytes(b"\x80\x04.")
    with pytest.raises(CheckpointError, match="pickle"):
        checkpoints.load(path)


def test_an_adapter_written_as_pickle_is_refused(tmp_path: Path):
    def pickled(folder: Path) -> None:
        (folder / "adapter_model.bin").write_bytes(b"\x80\x04.")

    checkpoints = Checkpoints(tmp_path)
    save(checkpoints, 1)
    with pytest.raises(CheckpointError, match="pickle"):
        checkpoints.save(2, {}, {}, pickled)
    assert listing(tmp_path) == ["step-00000001"]


def test_state_that_is_not_json_is_refused_before_anything_is_written(tmp_path: Path):
    folder = tmp_path / "checkpoints"
    with pytest.raises(TypeError):
        Checkpoints(folder).save(1, {}, {"model": torch.nn.Linear})
    with pytest.raises(ValueError, match="JSON"):
        Checkpoints(folder).save(1, {}, {"score": float("nan")})
    assert not folder.exists()


def test_unwritable_folder_gives_advice(tmp_path: Path):
    blocked = tmp_path / "checkpoints"
    blocked.write_text("a file")
    with pytest.raises(CheckpointError, match=r"checkpoints: .*--out"):
        save(Checkpoints(blocked), 1)
    assert blocked.read_text() == "a file"


def test_keep_last_must_keep_something(tmp_path: Path):
    with pytest.raises(ValueError, match="keep_last"):
        Checkpoints(tmp_path, keep_last=0)


def build() -> tuple[dict[str, nn.Parameter], torch.optim.AdamW]:
    generator = torch.Generator().manual_seed(7)
    names = {
        f"layers.0.{name}.weight": nn.Parameter(torch.randn(shape, generator=generator))
        for name, shape in (("a", (3, 4)), ("b", (4, 2)), ("unused", (2,)))
    }
    first, *rest = names.values()
    groups = [{"params": [first], "lr": 0.01, "weight_decay": 0.1}, {"params": rest}]
    return names, torch.optim.AdamW(groups, lr=0.1, betas=(0.9, 0.99))


def train(names: dict[str, nn.Parameter], optimizer: torch.optim.AdamW, steps: range) -> None:
    for step in steps:
        optimizer.param_groups[0]["lr"] = 0.01 / step
        a, b, _ = names.values()
        (a @ b - step).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()


def test_adamw_goes_on_bit_by_bit(tmp_path: Path):
    names, optimizer = build()
    train(names, optimizer, range(1, 4))
    held, document = optimizer_tensors(optimizer, names)
    weights = {f"model/{name}": value for name, value in names.items()}
    path = Checkpoints(tmp_path).save(3, {**weights, **held}, {"optimizer": document})
    train(names, optimizer, range(4, 7))

    found, saved = Checkpoints(tmp_path).load(path)
    again, fresh = build()
    with torch.no_grad():
        for name, parameter in again.items():
            parameter.copy_(found[f"model/{name}"])
    saved_optimizer = saved["optimizer"]
    assert isinstance(saved_optimizer, dict)
    load_optimizer(fresh, again, found, saved_optimizer)
    assert fresh.param_groups[0]["betas"] == (0.9, 0.99)
    train(again, fresh, range(4, 7))

    for name, parameter in names.items():
        assert torch.equal(parameter, again[name])
        ours, theirs = optimizer.state.get(parameter, {}), fresh.state.get(again[name], {})
        assert ours.keys() == theirs.keys()
        for key, value in ours.items():
            assert torch.equal(value, theirs[key])
    # The parameter without a gradient has no state, before and after.
    assert "layers.0.unused.weight" not in {n for n, p in again.items() if p in fresh.state}


def test_an_optimizer_of_other_parameters_is_refused():
    names, optimizer = build()
    train(names, optimizer, range(1, 3))
    held, document = optimizer_tensors(optimizer, names)
    fewer = torch.optim.AdamW(list(names.values())[:2])
    with pytest.raises(CheckpointError, match="unused"):
        load_optimizer(fewer, names, held, document)
    key = "optimizer/layers.0.a.weight/exp_avg"
    again, fresh = build()
    with pytest.raises(CheckpointError, match=key):
        load_optimizer(fresh, again, {**held, key: torch.zeros(4, 3)}, document)
    assert not fresh.state
    with pytest.raises(ValueError, match="1 parameters of the optimizer have no name"):
        optimizer_tensors(optimizer, dict(list(names.items())[1:]))


def draw() -> tuple[float, float, float, list[float]]:
    # gauss draws two at once and keeps one: the kept one must come back too.
    normal = float(np.random.standard_normal())  # noqa: NPY002 the legacy state is what is saved
    return random.random(), random.gauss(), normal, torch.randn(3).tolist()


def test_generators_go_on_with_the_same_numbers(tmp_path: Path):
    before = rng_state()
    try:
        draw()
        held, document = rng_state()
        path = Checkpoints(tmp_path).save(1, held, {"rng": document})
        expected = [draw(), draw()]
        found, saved = Checkpoints(tmp_path).load(path)
        rng = saved["rng"]
        assert isinstance(rng, dict)
        restore_rng(found, rng)
        assert [draw(), draw()] == expected
    finally:
        restore_rng(*before)


def test_cuda_states_need_their_devices():
    held, document = rng_state()
    devices = torch.cuda.device_count() + 1
    more = {f"rng/cuda/{i}": torch.zeros(16, dtype=torch.uint8) for i in range(devices)}
    with pytest.raises(CheckpointError, match="CUDA devices"):
        restore_rng({**held, **more}, document)


def test_the_state_is_plain_json(tmp_path: Path):
    path = save(Checkpoints(tmp_path), 1)
    assert json.loads((path / "state.json").read_text())["z first"] == 0.30000000000000004
