"""Selection with a judge behind an API: its verdicts score the draw, and it is paid once."""

from pathlib import Path
from typing import Any

import pytest
import yaml

import short_runs
from grpo_dual.cli.main import main
from judge_servers import JudgeServer, deterministic


def test_judges_score_the_draw_and_spend_beside_it(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("JUDGE_TEST_KEY", "sk-secret-Zx81kQw0aVb7Yt52")
    with JudgeServer("openai", deterministic(3)) as server:
        provider = {
            "kind": server.wire,
            "model": "stub-2026-01-01",
            "base_url": server.base_url,
            "api_key": "env:JUDGE_TEST_KEY",
            "price": {"input": 1.0, "output": 2.0},
        }
        judge: dict[str, Any] = {
            "providers": {"stub": provider},
            "cache": {"path": str(tmp_path / "verdicts.sqlite")},
        }
        settings = short_runs.settings(model, tmp_path / "runs", judge=judge)
        path = tmp_path / "judged.yaml"
        path.write_text(yaml.safe_dump(settings))
        out = tmp_path / "kept.jsonl"
        command = ["select", str(path), "--out", str(out), "--n", "2", "--prompts", "4"]
        assert main([*command, "--threshold", "-2"]) == 0
        asked = server.report()["calls"]
        assert asked > 0
        ledger = tmp_path / "kept.drawn.ledger.jsonl"
        assert ledger.stat().st_size > 0
        drawn = (tmp_path / "kept.drawn.jsonl").read_text()
        assert '"provider": "stub"' in drawn
        assert "sk-secret" not in drawn + ledger.read_text() + "".join(capsys.readouterr())
        assert main([*command, "--keep", "best", "--threshold", "-2"]) == 0
        assert server.report()["calls"] == asked
