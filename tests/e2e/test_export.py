"""``grpo-dual export``: what plain PEFT and plain Transformers load answers as the run does."""

import contextlib
import io
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

import short_runs
from grpo_dual.cli.main import MISTAKE, main
from grpo_dual.config.schema import RunConfig
from grpo_dual.model import push as push_module
from grpo_dual.model.loading import resolve_source
from grpo_dual.train.run import train
from grpo_dual.train.stored import find
from grpo_dual.train.wiring import build
from grpo_dual.types import Prompt
from short_runs import only_run

pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")  # PEFT

PROMPTS = 50


def settings(out: Path, **sections: Any) -> RunConfig:
    """The embedded model, a few large steps away from its base."""
    objective = {
        "prompts_per_step": 4,
        "data": {"path": "synthetic", "train_samples": 64, "eval_samples": PROMPTS // 2 + 2},
    }
    data = short_runs.settings(Path("embedded"), out, **sections)
    answers = {"qa": 1.5, "dialogue": 1.5, "summarization": 1.0}  # general is unknown to it
    data["objectives"] = {
        "fairness": {"kind": "fairness", **objective},
        "hallucination": {
            "kind": "hallucination",
            **objective,
            "data": {**objective["data"], "subsets": answers},
        },
    }
    data["rollout"] |= {"max_prompt_tokens": 464, "sampling": {"max_new_tokens": 24}}
    data["sft"] = {"steps": 15, "learning_rate": 3e-3}
    data["train"] |= {"steps": 3, "optimizer": {"learning_rate": 3e-3}}
    return RunConfig.model_validate(data)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("export")
    assert train(settings(out)) == 0
    return only_run(out)


Own = tuple[list[Prompt], list[str]]


@pytest.fixture(scope="module")
def own(run: Path) -> Own:
    """Held-out prompts, and what the run's own engine answers at its last step."""
    stored = find(str(run))
    parts = build(stored.config)
    parts.policy.load_adapter_state(stored.adapter_state())
    prompts = [parts.prompt(o, r) for o in parts.objectives.values() for r in o.eval_records]
    prompts = prompts[:PROMPTS]
    assert len(prompts) == PROMPTS
    groups = parts.engine.generate(prompts, 1, greedy=True)
    return prompts, [group.rollouts[0].text for group in groups]


def completions(model: Any, folder: Path, prompts: Sequence[Prompt]) -> list[str]:
    """By Transformers' ``generate`` and the folder's files alone, from messages to text."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    how = GenerationConfig.from_pretrained(folder)
    texts = []
    for prompt in prompts:
        chat = [{"role": m.role, "content": m.content} for m in prompt.messages]
        asked = tokenizer.apply_chat_template(
            chat, add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        ids = asked["input_ids"]
        found = model.generate(
            input_ids=ids, attention_mask=asked["attention_mask"], generation_config=how
        )
        reply = tokenizer.decode(found[0, ids.shape[1] :], skip_special_tokens=True)
        texts.append(reply.strip())
    return texts


def export(run: str, out: Path, *flags: str) -> Path:
    assert main(["export", run, "--out", str(out), *flags]) == 0
    return out


def test_an_adapter_in_plain_peft_completes_as_the_run(run: Path, own: Own, tmp_path: Path):
    folder = export(str(run), tmp_path / "adapter")
    base = AutoModelForCausalLM.from_pretrained(resolve_source("embedded"), dtype=torch.float32)
    prompts, texts = own
    untrained = completions(base, folder, prompts)
    assert completions(PeftModel.from_pretrained(base, str(folder)), folder, prompts) == texts
    # The adapter is what makes them: without it some are others.
    assert sum(a != b for a, b in zip(untrained, texts, strict=True)) >= 5


def test_a_merged_model_in_transformers_completes_as_the_run(run: Path, own: Own, tmp_path: Path):
    folder = export(f"{run}@best", tmp_path / "best", "--merged")
    assert find(f"{run}@best").step in (0, 3)
    folder = export(f"{run}@3", tmp_path / "merged", "--merged")
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert model.dtype is torch.float32
    prompts, texts = own
    assert completions(model, folder, prompts) == texts
    # Nothing of this machine is in it.
    root = str(Path(resolve_source("embedded")).parent)
    for path in folder.iterdir():
        assert root.encode() not in path.read_bytes(), path.name


def code(folder: Path) -> str:
    found = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
    assert len(found) == 1
    return found[0]


@pytest.mark.parametrize("flags", [(), ("--merged",)], ids=["adapter", "merged"])
def test_the_code_of_the_card_runs(
    flags: tuple[str, ...], run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    folder = export(str(run), tmp_path / "out", *flags)
    monkeypatch.chdir(folder)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code(folder), "README.md", "exec"), {})
    assert len(printed.getvalue().split()) > 1


def test_the_card_quotes_the_run(run: Path, tmp_path: Path):
    results = tmp_path / "eval.json"
    assert main(["eval", f"{run}@0", str(run), "--json", str(results), "--limit", "2"]) == 0
    folder = export(str(run), tmp_path / "a", "--results", str(results), "--license", "apache-2.0")
    text = (folder / "README.md").read_text()
    _, front, body = text.split("---\n", 2)
    assert yaml.safe_load(front) == {
        "base_model": "embedded",
        "library_name": "peft",
        "pipeline_tag": "text-generation",
        "tags": ["grpo", "grpo-dual", "text-generation", "fairness", "hallucination", "lora"],
        "license": "apache-2.0",
    }
    lines = (run / "eval_metrics.jsonl").read_text().splitlines()
    first, last = (json.loads(line) for line in (lines[0], lines[-1]))
    key = "accuracy_ambig"
    before, after = (100 * side["fairness"][key] for side in (first, last))
    assert f"| Right when the context does not say | {before:.1f} % | {after:.1f} % |" in body
    measured = json.loads(results.read_text())["targets"][1]["axes"]["faithfulness"]
    (line,) = (x for x in body.splitlines() if x.startswith("| Axis: faithfulness"))
    assert f"| {measured:.4f} " in line
    assert f"| {run.name}@0 | {run.name} (this one) |" in body
    assert "the embedded synthetic world | Apache-2.0" in body
    assert "say nothing of real text" in body.replace("\n", " ")
    assert str(run.parent) not in text
    # Step 0 has nothing before it, so its card has no table.
    start = export(f"{run}@0", tmp_path / "start")
    told = (start / "README.md").read_text()
    assert "did not evaluate step 0 against an earlier one (steps evaluated: 0, 3)" in told
    assert "| Right when" not in told


def refusal(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert main(["export", *map(str, arguments)]) == MISTAKE
    return capsys.readouterr().err


def test_refusals_name_what_to_do(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out = tmp_path / "out"
    assert "is no run folder" in refusal(capsys, tmp_path, "--out", out)
    told = refusal(capsys, f"{run}@7", "--out", out)
    assert "holds no checkpoint of step 7; there are 0, 2, 3" in told
    assert "is the model without an adapter" in refusal(capsys, f"{run}@base", "--out", out)
    full = tmp_path / "full"
    full.mkdir()
    (full / "x").write_text("mine")
    assert "holds files already" in refusal(capsys, run, "--out", full)
    assert (full / "x").read_text() == "mine"
    told = refusal(capsys, run, "--out", out, "--push", "me/x")
    assert "push --merged instead" in told
    assert "give --push REPO_ID too" in refusal(capsys, run, "--out", out, "--private")
    assert "--push a/b/c" in refusal(capsys, run, "--out", out, "--push", "a/b/c")
    bad = tmp_path / "bad.json"
    bad.write_text("[1")
    assert "bad.json: cannot be read as JSON" in refusal(
        capsys, run, "--out", out, "--results", bad
    )
    other = tmp_path / "other.json"
    other.write_text('{"targets": [{"name": "x@3"}]}')
    told = refusal(capsys, run, "--out", out, "--results", other)
    assert f"holds no result of {run.name}@3 (it is of x@3)" in " ".join(told.split())
    assert not out.exists()


class Hub:
    """HfApi as the command knows it."""

    def __init__(self, *, private: bool = True, fails: bool = False) -> None:
        self.private = private
        self.fails = fails
        self.calls: list[tuple[str, dict[str, Any]]] = []

    def create_repo(self, repo_id: str, **how: Any) -> None:
        self.calls.append(("create", {"repo_id": repo_id, **how}))
        if self.fails:
            raise OSError("401 Unauthorized")

    def repo_info(self, repo_id: str, *, repo_type: str) -> "Hub":
        del repo_id, repo_type
        return self

    def upload_folder(self, **how: Any) -> Any:
        self.calls.append(("upload", how))
        files = {p.name for p in Path(how["folder_path"]).iterdir()}
        assert {"README.md", "model.safetensors", "tokenizer.json"} <= files
        return type("Done", (), {"commit_url": "https://hub/me/x/commit/1"})()


def test_a_push_uploads_the_folder_and_nothing_without_the_flag(
    run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    hub = Hub()
    monkeypatch.setattr(push_module, "HfApi", lambda: hub)
    export(str(run), tmp_path / "kept", "--merged")
    assert hub.calls == []
    folder = export(str(run), tmp_path / "x", "--merged", "--push", "me/x", "--private")
    assert "pushed: https://hub/me/x/commit/1" in capsys.readouterr().out
    (made, how), (sent, what) = hub.calls
    assert (made, how["repo_id"], how["private"], sent) == ("create", "me/x", True, "upload")
    assert (what["repo_id"], what["folder_path"]) == ("me/x", folder)
    assert "folder = 'me/x'\n" in code(folder)
    assert (folder / "README.md").read_text().count("# x\n") == 1


@pytest.mark.parametrize(
    ("hub", "says"),
    [
        (lambda: Hub(private=False), "is there already and public"),
        (lambda: Hub(fails=True), "401 Unauthorized"),
    ],
)
def test_a_refused_push_leaves_the_folder(
    hub: Callable[[], Hub],
    says: str,
    run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    made = hub()
    monkeypatch.setattr(push_module, "HfApi", lambda: made)
    out = tmp_path / "x"
    told = refusal(capsys, run, "--out", out, "--merged", "--push", "me/x", "--private")
    assert says in told
    assert "export is whole in" in told
    assert (out / "model.safetensors").is_file()
    assert all(name != "upload" for name, _ in made.calls)
