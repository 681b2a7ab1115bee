"""The outer shell of the command line: light, helpful, no traceback for a user's mistake."""

import importlib.metadata
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import pytest

from grpo_dual.cli import main as cli
from grpo_dual.config.load import load_config
from grpo_dual.config.schema import RunConfig
from grpo_dual.config.snapshot import snapshot
from grpo_dual.errors import DataError

ROOT = Path(__file__).resolve().parents[2]
DEMO = str(ROOT / "configs" / "demo.yaml")
HEAVY = ("torch", "numpy", "transformers", "peft", "pydantic", "tyro", "yaml", "rich")


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[tuple[RunConfig, Path | None]]:
    """Stands in for training: what the command line handed to ``train.run.train``."""
    calls: list[tuple[RunConfig, Path | None]] = []

    def train(config: RunConfig, resume: Path | None, **_: bool) -> int:
        calls.append((config, resume))
        return 0

    module = ModuleType("grpo_dual.train.run")
    module.__dict__["train"] = train
    monkeypatch.setitem(sys.modules, "grpo_dual.train.run", module)
    return calls


def interrupt_training(monkeypatch: pytest.MonkeyPatch, interrupt: BaseException) -> None:
    def train(_config: RunConfig, _resume: Path | None, **_: bool) -> int:
        raise interrupt

    module = ModuleType("grpo_dual.train.run")
    module.__dict__["train"] = train
    monkeypatch.setitem(sys.modules, "grpo_dual.train.run", module)


def test_the_package_runs_as_a_module_too():
    command = [sys.executable, "-m", "grpo_dual", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith(importlib.metadata.version("grpo-dual"))


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["--version"],
        ["train", "--help"],
        ["judge", "score", "--help"],
        ["trian"],
        ["doctor", "--help"],
        ["data", "audit", "--help"],
        ["eval", "--help"],
    ],
)
def test_nothing_heavy_is_imported(arguments: Sequence[str]):
    script = (
        "import sys\n"
        "from grpo_dual.cli.main import main\n"
        "try:\n"
        f"    main({list(arguments)!r})\n"
        "except SystemExit:\n"
        "    pass\n"
        f"print('heavy:', [m for m in {HEAVY!r} if m in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.splitlines()[-1] == "heavy: []"


def test_data_stats_needs_no_torch(tmp_path: Path):
    script = (
        "import sys\n"
        "from grpo_dual.cli.main import main\n"
        f"main(['data', 'stats', {str(tmp_path)!r}])\n"
        "print('torch' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout == "False\n"
    assert str(tmp_path) in done.stderr


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]):
    assert cli.main([]) == 0
    bare = capsys.readouterr().out
    for arguments in (["--help"], ["data", "--help"]):
        with pytest.raises(SystemExit) as stop:
            cli.main(arguments)
        assert stop.value.code == 0
        assert capsys.readouterr().out == bare
    for command in (
        *(
            "train",
            "doctor",
            "data stats",
            "data audit",
            "data fetch",
            "eval  ",
            "eval predictions",
            "pareto",
            "sweep",
            "soup",
        ),
        *("judge score", "judge estimate", "judge cache"),
    ):
        assert command in bare


def test_version(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as stop:
        cli.main(["--version"])
    assert stop.value.code == 0
    assert capsys.readouterr().out.startswith("grpo-dual 0.")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ("trian configs/demo.yaml", "`train`"),
        ("stats x", "`data stats`"),
        ("data sats x", "`stats`"),
        ("data fetsch", "`fetch`"),
        ("data", "stats or audit or fetch"),
        ("eval", "TARGET"),
        ("eval predicions x", "`predictions`"),
        ("eval embedded --fied x", "`--fied`"),
        ("eval embedded --limit 0", "at least 1"),
        ("frobnicate", "`frobnicate`"),
        ("--verison", "`--version`"),
        ("data stats x --jsno", "`--json`"),
        ("data stats x y", "`y`"),
        ("data stats", "PATH"),
        ("data stats x --on-bad-row ignore", "'skip'"),
        ("train", "configs/demo.yaml"),
        ("train --resme x", "`--resume`"),
        ("train --resume", "--resume"),
        ("train --train.steps 3 configs/demo.yaml", "comes first"),
        ("train --train.packed configs/demo.yaml", "comes first"),
        ("train configs/demo.yaml --resume x", "--resume"),
        ("train --resume x configs/demo.yaml", "--resume"),
        ("train configs/demo.yaml --doctor maybe", "'off'"),
        ("train configs/demo.yaml --train.steps 3 --doctor", "--doctor"),
        ("train configs/demo.yaml --froce", "--froce"),
        ("train --resume x --doctor act", "--doctor.mode"),
        ("doctor", "--preflight"),
        ("doctor runs/x", "no such run folder or CSV file"),
        ("doctor --undo", "needs a run folder"),
        ("doctor pyproject.toml --undo", "no remedy that could be undone"),
        ("doctor runs/x --undo --json", "--undo prints no JSON"),
        ("doctor pyproject.toml", "pyproject.toml"),
        ("doctor --preflight", "--preflight"),
        ("doctor --preflight nowhere.yaml", "nowhere.yaml"),
        ("doctor --preflight configs/demo.yaml --train.stesp 3", "--train.steps"),
        ("doctor --preflight configs/demo.yaml x", "`x`"),
        ("data audit", "CONFIG"),
        ("data audit configs/demo.yaml --limits many", "`many`"),
        ("data audit configs/demo.yaml --limits 64,0", "`64,0`"),
        ("data audit --train.steps 3 configs/demo.yaml", "comes first"),
        ("train --resume x --train.steps 9", "--judge.outage.* and --judge.budget.*"),
        ("train --resume x --judge.outage.action stop --train.packed", "`--train.packed`"),
        ("judge", "score or estimate or cache"),
        ("judge scores x", "`score`"),
        ("judge score", "FILE"),
        ("judge score x --jugde a", "`--judge`"),
        ("judge cache", "action"),
        ("judge cache clean", "'clear'"),
        ("judge estimate", "CONFIG"),
        ("judge estimate --train.steps 3 configs/demo.yaml", "comes first"),
        ("judge estimate configs/demo.yaml --train.stesp 3", "--train.steps"),
        ("judge estimate configs/demo.yaml --probe -1", "--probe"),
        ("judge estimate configs/demo.yaml --ask few", "`few`"),
    ],
)
def test_mistakes_get_one_paragraph(arguments: str, named: str, capsys: pytest.CaptureFixture[str]):
    assert cli.main(arguments.split()) == cli.MISTAKE
    out, error = capsys.readouterr()
    assert out == ""
    assert error.startswith("grpo-dual: error: ")
    assert error.count("\n") == 1
    assert named in error


def test_flags_behind_the_file_reach_the_configuration(
    trained: list[tuple[RunConfig, Path | None]],
):
    arguments = ["train", DEMO, "--train.steps", "7", "--objectives.fairness.kl.target=0.25"]
    assert cli.main(arguments) == 0
    ((config, resume),) = trained
    assert resume is None
    assert config.train.steps == 7
    assert config.objectives["fairness"].kl.target == 0.25


def test_doctor_is_short_for_its_mode(trained: list[tuple[RunConfig, Path | None]]):
    assert cli.main(["train", DEMO, "--doctor=off", "--train.steps", "7", "--force"]) == 0
    assert cli.main(["train", DEMO, "--doctor.mode", "act"]) == 0
    assert [config.doctor.mode for config, _ in trained] == ["off", "act"]
    assert trained[0][0].train.steps == 7


def test_resume_takes_the_run_s_own_configuration(
    tmp_path: Path, trained: list[tuple[RunConfig, Path | None]]
):
    config = load_config(Path(DEMO), ["--train.steps", "9"])
    snapshot(config, tmp_path)
    assert cli.main(["train", "--resume", str(tmp_path)]) == 0
    assert cli.main(["train", f"--resume={tmp_path}"]) == 0
    assert trained == [(config, tmp_path)] * 2


def test_who_judges_may_change_when_a_run_goes_on(
    tmp_path: Path, trained: list[tuple[RunConfig, Path | None]]
):
    config = load_config(Path(DEMO), ["--judge.outage.action", "stop"])
    snapshot(config, tmp_path)
    flags = ["--judge.outage.action", "heuristic", "--judge.budget.calls=7"]
    assert cli.main(["train", "--resume", str(tmp_path), *flags]) == 0
    assert cli.main(["train", "--resume", str(tmp_path)]) == 0
    for changed, _ in trained:
        assert changed.judge.outage.action == "heuristic"
        assert changed.judge.budget.calls == 7
        assert changed.train == config.train
    # What it was is kept beside it.
    (old,) = tmp_path.glob("config-until-*.json")
    assert load_config(old, []) == config


def test_interrupt_names_the_way_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    folder = tmp_path / "a run"
    interrupt_training(monkeypatch, KeyboardInterrupt(folder))
    assert cli.main(["train", DEMO]) == cli.INTERRUPTED == 130
    expected = f"Continue with: grpo-dual train --resume '{folder}'\n"
    assert capsys.readouterr().err.endswith(expected)
    # A second Ctrl-C, before the run is read: the folder is the one that was given.
    snapshot(load_config(Path(DEMO)), folder)
    interrupt_training(monkeypatch, KeyboardInterrupt())
    assert cli.main(["train", "--resume", str(folder)]) == cli.INTERRUPTED
    assert capsys.readouterr().err.endswith(expected)
    assert cli.main(["train", DEMO]) == cli.INTERRUPTED
    assert "--resume" not in capsys.readouterr().err


def test_errors_of_several_lines_become_one_paragraph(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    interrupt_training(monkeypatch, DataError("a.jsonl:3:\n  no label.\n  Mend the row."))
    assert cli.main(["train", DEMO]) == cli.MISTAKE
    assert capsys.readouterr().err == "grpo-dual: error: a.jsonl:3: no label. Mend the row.\n"


def test_our_own_bugs_are_not_hidden(monkeypatch: pytest.MonkeyPatch):
    interrupt_training(monkeypatch, ZeroDivisionError("bug"))
    with pytest.raises(ZeroDivisionError):
        cli.main(["train", DEMO])


def test_the_program_is_the_function():
    (entry,) = importlib.metadata.entry_points(group="console_scripts", name="grpo-dual")
    assert entry.load() is cli.main
