import json
import subprocess
import sys
from pathlib import Path

import pytest
import tyro

from grpo_dual.config.flags import keys_of
from grpo_dual.config.load import load_config
from grpo_dual.config.objectives import (
    CustomReward,
    FairnessConfig,
    HallucinationConfig,
    PluginConfig,
)
from grpo_dual.config.schema import RunConfig
from grpo_dual.config.snapshot import environment, revision, snapshot
from grpo_dual.config.strict_yaml import parse
from grpo_dual.errors import ConfigError


def write(folder: Path, text: str) -> Path:
    path = folder / "run.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def refused(folder: Path, text: str, *flags: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(write(folder, text), flags)
    told = str(caught.value)
    assert "\n" not in told  # one paragraph
    return told


def test_defaults_and_names(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, "name: x\nobjectives:\n  fairness: {}\n"))
    assert config.name == "x"
    assert isinstance(config.objectives["fairness"], FairnessConfig)
    assert list(config.objectives) == ["fairness"]  # exactly those that the file names
    both = load_config(write(tmp_path, "name: x\n"))
    assert list(both.objectives) == ["fairness", "hallucination"]


def test_any_name_with_a_kind(tmp_path: Path) -> None:
    config = load_config(
        write(
            tmp_path,
            "objectives:\n  faithful: {kind: hallucination}\n"
            "  third: {kind: plugin, factory: 'a:B', settings: {n: 3, s: off}}\n",
        )
    )
    assert isinstance(config.objectives["faithful"], HallucinationConfig)
    third = config.objectives["third"]
    assert isinstance(third, PluginConfig)
    assert third.settings == {"n": 3, "s": "off"}


def test_numbers_and_words(tmp_path: Path) -> None:
    config = load_config(
        write(
            tmp_path,
            "name: off\nadvantage: {eps: 1e-6}\ntrain: {packed: false, optimizer: "
            "{learning_rate: 1.5E-5, adam_betas: [0, .5]}}\nmodel: {revision: yes}\n"
            "out: a/b\nloss: {dual_clip: null}\n",
        )
    )
    assert config.advantage.eps == 1e-6
    assert config.name == "off"
    assert config.model.revision == "yes"
    assert config.train.packed is False
    assert config.train.optimizer.learning_rate == 1.5e-5
    assert config.train.optimizer.adam_betas == (0.0, 0.5)
    assert config.out == Path("a/b")
    assert config.loss.dual_clip is None


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("train:\n  steps: 3\n  steps: 4\n", [":3:", "train.steps", "twice", "line 2"]),
        ("train:\n  stesp: 3\n", [":2:", "train.stesp", "`steps`"]),
        ("objectves: {}\n", [":1:", "objectves", "`objectives`"]),
        ("train:\n  steps: 010\n", [":2:", "train.steps", "leading zero", "10"]),
        ("train:\n  steps: '3'\n", [":2:", "train.steps", "integer", "quotes"]),
        ("train: {steps: 2.5}\n", ["train.steps", "2.5"]),
        ("train: {steps: true}\n", ["train.steps", "integer", "`true`"]),
        ("train: {steps: 0}\n", ["train.steps", "greater than or equal to 1", "`0`"]),
        ("train: 3\n", ["train", "`key: value`"]),
        ("loss:\n", ["loss", "null"]),
        ("advantage: {eps: .nan}\n", [":1:", "advantage.eps", "finite"]),
        ("advantage: {eps: -.inf}\n", ["advantage.eps", "finite"]),
        ("advantage: {eps: 1e999}\n", ["advantage.eps", "finite"]),
        ("advantage: {eps: nan}\n", ["advantage.eps", "number"]),
        ("model: {dtype: bfloat61}\n", ["model.dtype", "`bfloat16`"]),
        ("model: {lora: {targets: q_proj}}\n", ["model.lora.targets", "list"]),
        ("objectives:\n  farness: {}\n", [":2:", "objectives.farness", "`fairness`", "kind"]),
        ("objectives:\n  poetry: {}\n", ["objectives.poetry", "kind"]),
        ("objectives:\n  a: {kind: farness}\n", ["objectives.a", "`fairness`"]),
        ("objectives:\n  a: {kind: [x]}\n", ["objectives.a", "no kind"]),
        ("objectives:\n  plugin: {factory: 'a:b'}\n", ["objectives.plugin", "kind: plugin"]),
        ("objectives: {}\n", ["objectives", "at least one"]),
        ("objectives: [a]\n", ["objectives", "at least one"]),
        ("objectives:\n  fairness: 3\n", ["objectives.fairness", "`key: value`"]),
        ("objectives:\n  a.b: {kind: fairness}\n", ["a.b", "cannot name"]),
        ("objectives:\n  x: {kind: plugin}\n", ["objectives.x.factory", "missing"]),
        (
            "objectives:\n  fairness:\n    kl:\n      targt: 1\n",
            [":4:", "objectives.fairness.kl.targt", "`target`"],
        ),
        (
            "objectives:\n  fairness: {kl: {beta: 2}}\n",
            ["objectives.fairness.kl", "beta must lie between"],
        ),
        (
            "objectives:\n  fairness: {weight: 0}\n",
            ["objectives.*.weight", "nothing would be trained"],
        ),
        (
            "objectives:\n  hallucination: {data: {subsets: {qa: high}}}\n",
            ["objectives.hallucination.data.subsets.qa", "number", "`high`"],
        ),
        (
            "objectives:\n  fairness:\n    custom_rewards:\n      - {functoin: 'a:b'}\n",
            [":4:", "custom_rewards.0", "`function`"],
        ),
        ("a: [1\n", ["not valid YAML"]),
        ("a: !!python/object:os.system {}\n", ["not valid YAML"]),
        ("", ["empty"]),
        ("# nothing\n", ["empty"]),
        ("- a\n", ["top level"]),
        ("a: 1\n---\nb: 2\n", ["not valid YAML"]),
        ("a: \x07\n", ["not valid YAML"]),
        ("1: 2\n", ["`1`", "key"]),
        ("? [a]\n: 2\n", ["key"]),
        ("a: &x [*x]\n", ["alias"]),
        ("a: " + "[" * 5000, ["nested too deeply"]),
    ],
)
def test_refusals(tmp_path: Path, text: str, parts: list[str]) -> None:
    told = refused(tmp_path, text)
    assert "run.yaml" in told
    for part in parts:
        assert part in told, told


def test_many_errors_are_counted(tmp_path: Path) -> None:
    told = refused(tmp_path, "train: {a: 1, b: 2, c: 3, d: 4, steps: 0}\n")
    assert "2 more errors" in told


def test_file_errors(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such configuration file"):
        load_config(tmp_path / "absent.yaml")
    with pytest.raises(ConfigError, match="folder"):
        load_config(tmp_path)
    latin = tmp_path / "latin.yaml"
    latin.write_bytes("name: é\n".encode("latin-1"))
    with pytest.raises(ConfigError, match="UTF-8"):
        load_config(latin)


def test_merge_keys_and_lines() -> None:
    document = parse("a: &k {x: 1}\nb:\n  <<: *k\n  y: [1, 2]\n", Path("f.yaml"))
    assert document.data == {"a": {"x": 1}, "b": {"x": 1, "y": [1, 2]}}
    assert document.where(("b", "y", 1)) == "f.yaml:4"
    assert document.where(("b", "absent")) == "f.yaml:2"


FILE = (
    "objectives:\n  fairness: {}\n  hallucination: {}\n"
    "  third: {kind: plugin, factory: 'a:B', settings: {n: 3}}\n"
)


def test_flags_set_numbers(tmp_path: Path) -> None:
    path = write(tmp_path, FILE)
    config = load_config(
        path,
        [
            "--objectives.fairness.kl.target",
            "0.02",
            "--objectives.hallucination.kl.target=0.03",
            "--objectives.fairness.data.train-samples",
            "70",
            "--objectives.hallucination.data.train_samples=80",
            "--objectives.hallucination.data.subsets.qa",
            "2",
            "--objectives.third.settings.n",
            "5",
            "--train.no-packed",
            "--objectives.fairness.kl.adaptive",
            "False",
            "--model.lora.targets",
            "q_proj",
            "v_proj",
            "--train.threads",
            "None",
            "--advantage.eps=1e-6",
            "--objectives.fairness.reward.wrong",
            "-2",
            "--out",
            "elsewhere",
        ],
    )
    fairness, hallucination = config.objectives["fairness"], config.objectives["hallucination"]
    assert isinstance(fairness, FairnessConfig)
    assert isinstance(hallucination, HallucinationConfig)
    assert fairness.kl.target == 0.02
    assert hallucination.kl.target == 0.03
    assert fairness.data.train_samples == 70
    assert hallucination.data.train_samples == 80
    assert hallucination.data.subsets["qa"] == 2.0
    assert fairness.reward.wrong == -2.0
    assert config.train.packed is False
    assert fairness.kl.adaptive is False
    assert hallucination.kl.adaptive is True
    assert config.model.lora.targets == ("q_proj", "v_proj")
    assert config.train.threads is None
    assert config.advantage.eps == 1e-6
    assert config.out == Path("elsewhere")
    third = config.objectives["third"]
    assert isinstance(third, PluginConfig)
    assert third.settings == {"n": 5}


@pytest.mark.parametrize("before", ["auto", "true", "false"])
@pytest.mark.parametrize(
    ("flags", "after"),
    [
        (["--model.gradient-checkpointing"], True),
        (["--model.no-gradient-checkpointing"], False),
        (["--model.gradient-checkpointing", "true"], True),
        (["--model.gradient_checkpointing=False"], False),
        (["--model.gradient-checkpointing", "auto"], "auto"),
    ],
)
def test_a_switch_that_may_be_auto(
    tmp_path: Path, before: str, flags: list[str], after: object
) -> None:
    path = write(tmp_path, f"model: {{gradient_checkpointing: {before}}}")
    assert load_config(path, flags).model.gradient_checkpointing == after


@pytest.mark.parametrize(
    ("flags", "parts"),
    [
        (["--objectives.farness.kl.target", "1"], ["`--objectives.fairness.kl.target`"]),
        (["--objectives.fairness.kl.targt=1"], ["`--objectives.fairness.kl.target`"]),
        (["--steps", "3"], ["--steps", "`--train.steps`"]),
        (["--trian.steps", "3"], ["`--train.steps`"]),
        (["--train.zzz", "3"], ["train has no `zzz`"]),
        (["--zzz", "3"], ["There is no flag --zzz"]),
        (["--train"], ["group"]),
        (["--train.steps"], ["needs a value", "200"]),
        (["--train.steps", "abc"], ["--train.steps", "integer", "`abc`"]),
        (["--train.steps", "0"], ["--train.steps", "greater than"]),
        (["--train.steps", "1", "2"], ["--train.steps", "one value"]),
        (["--advantage.eps", "nan"], ["--advantage.eps", "finite"]),
        (["--train.packed", "maybe"], ["--train.packed", "true or false"]),
        (["--train.no-packed", "3"], ["takes no value"]),
        (["--model.gradient-checkpointing", "on"], ["--model.gradient-checkpointing", "'auto'"]),
        (["--model.no-gradient-checkpointing", "1"], ["takes no value"]),
        (["--model.quantization", "nf5"], ["--model.quantization", "`nf4`"]),
        (["--model.dtype", "float23"], ["--model.dtype", "`float32`"]),
        (["--objectives.fairness.kl.beta", "7"], ["beta must lie between", "kl.beta"]),
        (["--objectives.fairness.kind", "plugin"], ["kind"]),
        (["train.steps", "3"], ["`train.steps`", "flag"]),
        (["-x"], ["`-x`"]),
        (["--"], ["`--`"]),
    ],
)
def test_flag_refusals(
    tmp_path: Path, flags: list[str], parts: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    told = refused(tmp_path, FILE, *flags)
    for part in parts:
        assert part in told, told
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""  # tyro prints nothing of its own


def test_help_prints_and_exits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        load_config(write(tmp_path, FILE), ["--help"])
    assert stop.value.code == 0
    assert "--objectives.fairness.kl.target" in capsys.readouterr().out


@pytest.mark.filterwarnings("ignore:get_parser")
def test_our_keys_are_tyros_flags() -> None:
    config = RunConfig(
        objectives={
            "fairness": FairnessConfig(custom_rewards=(CustomReward(function="a:b"),)),
            "third": PluginConfig(factory="a:B", settings={"a_b": 1}),
        }
    )
    parser = tyro.extras.get_parser(RunConfig, default=config, config=(tyro.conf.AvoidSubcommands,))
    flags = {flag for action in parser._actions for flag in action.option_strings}  # pyright: ignore
    theirs = {flag for flag in flags - {"-h", "--help"} if ".no-" not in flag}
    theirs |= {"--objectives.fairness.kl.no-decrease-steps"}
    theirs |= {"--objectives.third.kl.no-decrease-steps"}
    ours = {"--" + ".".join(path).replace("_", "-") for path, _ in keys_of(config)}
    # an empty dict or tuple of nested values has no flag of its own in either
    assert ours == theirs


def test_flags_do_not_import_torch(tmp_path: Path) -> None:
    # In a process of its own: another test may have imported torch into this one.
    code = (
        "import sys, pathlib; from grpo_dual.config.load import load_config; "
        "config = load_config(pathlib.Path(sys.argv[1]), ['--train.steps', '3']); "
        "print(config.train.steps, 'torch' in sys.modules)"
    )
    command = [sys.executable, "-c", code, str(write(tmp_path, FILE))]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    assert answer.stdout.split() == ["3", "False"]


def test_snapshot_roundtrip_without_private_paths(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, FILE), ["--train.steps", "3"])
    folder = tmp_path / "run"
    snapshot(config, folder)
    stored = (folder / "config.json").read_text(encoding="utf-8")
    assert RunConfig.model_validate_json(stored, strict=True) == config
    described = (folder / "environment.json").read_text(encoding="utf-8")
    assert str(Path.home()) not in described.replace('"/root"', "")
    assert str(tmp_path) not in described
    values = json.loads(described)
    assert values["packages"]["pydantic"]
    assert values["python"] == ".".join(map(str, sys.version_info[:3]))
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "environment.json"]


def test_snapshot_into_a_file_is_refused(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("x", encoding="utf-8")
    with pytest.raises(ConfigError, match="cannot be written"):
        snapshot(RunConfig(), blocked)


def test_revision_outside_a_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert revision(tmp_path) is None
    monkeypatch.setenv("PATH", "")
    assert environment()["git"] == {"package": None, "working_directory": None}
