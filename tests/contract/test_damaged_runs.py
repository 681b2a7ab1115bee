"""A damaged run is not resumed: the error names the file and the way out, nothing is touched."""

from pathlib import Path

import pytest

import short_runs
from grpo_dual.cli.main import MISTAKE, main
from grpo_dual.diagnosis.reading import STOPPED
from grpo_dual.metrics.sinks import RunMetrics
from grpo_dual.train.run import train
from grpo_dual.train.saving import Saver


def tree(folder: Path) -> dict[str, bytes | None]:
    """Every path below a folder with its content (None for folders)."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


@pytest.fixture
def stopped(tmp_path: Path) -> Path:
    """The folder of a run that was stopped behind step 2 of 3."""
    trained = short_runs.config(
        short_runs.save_model(tmp_path / "model"),
        tmp_path / "runs",
        train={"steps": 3},
        checkpoint={"every": 1},
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Saver, "due", lambda _, step, last: step <= 2 and not last)
        patch.setattr(RunMetrics, "write_summary", lambda *_, **__: None)
        assert train(trained) == 0
    folder = short_runs.only_run(tmp_path / "runs")
    assert {p.name for p in (folder / "checkpoints").glob("step*")} >= {
        "step-00000001",
        "step-00000002",
    }
    return folder


@pytest.mark.parametrize(
    ("file", "change", "names"),
    [
        ("checkpoints/step-00000002/state.json", b"{}", ("state.json", "damaged")),
        ("checkpoints/step-00000002/tensors.safetensors", b"", ("tensors.safetensors", "damaged")),
        ("checkpoints/step-00000002/tensors.safetensors", None, ("tensors.safetensors",)),
        ("checkpoints/step-00000002/manifest.json", None, ("manifest.json",)),
        ("checkpoints/step-00000002/more.pt", b"x", ("more.pt", "pickle")),
        ("train_step_metrics.csv", b"", ("train_step_metrics.csv", "step 1 is missing")),
        ("train_step_metrics.csv", b"step,other\n1,2\n", ("train_step_metrics.csv", "columns")),
        ("train_step_metrics.jsonl", b"no JSON\n", ("train_step_metrics.jsonl, line 1",)),
    ],
)
def test_a_damaged_run_is_not_resumed(
    file: str,
    change: bytes | None,
    names: tuple[str, ...],
    stopped: Path,
    capsys: pytest.CaptureFixture[str],
):
    if change is None:
        (stopped / file).unlink()
    else:
        (stopped / file).write_bytes(change)
    before = tree(stopped)
    capsys.readouterr()
    assert main(["train", "--resume", str(stopped)]) == MISTAKE
    error = capsys.readouterr().err
    assert error.startswith("grpo-dual: error: ")
    assert error.count("\n") == 1
    for name in names:
        assert name in error
    if "checkpoints" in file:
        assert "step-00000001, is whole" in error
    # Why it stopped is the one thing that may be written.
    (stopped / STOPPED).unlink(missing_ok=True)
    assert tree(stopped) == before
