"""``grpo-dual report`` and ``plot``: one page of any run folder, whole, live or damaged."""

import csv
import re
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest

import recorded_runs
from grpo_dual.cli.main import MISTAKE, main
from grpo_dual.metrics.sinks import COMPLETIONS, EVAL_COMPLETIONS, EVALUATIONS, STEP_CSV
from grpo_dual.report.reading import read

HOSTILE = (
    "<script>alert(1)</script><img src=x onerror=alert(2)>",
    "\x1b[31mred\x00\x07",
    "safe\u202etxt.exe\u2066",
    "{{ 7 * 7 }}{% for x in y %}",
    "</pre></main><style>*{display:none}</style>",
    "long " * 2000,
)


class Page(HTMLParser):
    """Tags, attributes, and the text of each ``pre``."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str | None]] = []
        self.said: list[str] = []
        self._inside = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, key, value) for key, value in attrs]
        if tag == "pre":
            self._inside = True
            self.said.append("")

    def handle_endtag(self, tag: str) -> None:
        self._inside = self._inside and tag != "pre"

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.said[-1] += data


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return recorded_runs.demo(tmp_path / "demo")


def report(*arguments: str | Path) -> str:
    """The page of a command that succeeds."""
    out = [str(a) for a in arguments]
    assert main(["report", *out]) == 0
    return Path(out[out.index("--out") + 1]).read_text(encoding="utf-8")


def test_the_page_is_one_file_that_loads_and_runs_nothing(folder: Path, tmp_path: Path) -> None:
    text = report(folder, "--out", tmp_path / "r.html")
    page = Page(text)
    assert not {"script", "link rel", "iframe", "object", "embed", "form"} & set(page.tags)
    loading = [
        (tag, key, value)
        for tag, key, value in page.attributes
        if key in ("src", "href", "srcset", "data", "action", "poster", "background")
        and not (value or "").startswith(("#", "data:"))
    ]
    assert loading == []
    assert not [key for _, key, _ in page.attributes if key.startswith("on")]
    (policy,) = [v for t, k, v in page.attributes if t == "meta" and v and "default-src" in v]
    assert policy.startswith("default-src 'none'; style-src 'unsafe-inline'; img-src data:")
    assert "@import" not in text
    assert not re.search(r"url\((?!#)", text)
    assert page.tags.count("h1") == 1
    assert page.tags.count("figure") == page.tags.count("svg") >= 20


def test_by_default_the_page_lies_in_the_run_folder(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(folder)]) == 0
    assert (folder / "report.html").is_file()
    assert capsys.readouterr().out.strip() == str(folder / "report.html")


def test_the_same_run_gives_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    pages = [report(folder, "--out", tmp_path / name) for name in ("a.html", "b.html")]
    assert pages[0] == pages[1]


def test_what_a_model_wrote_is_text(folder: Path, tmp_path: Path) -> None:
    (folder / COMPLETIONS).unlink()
    (folder / EVAL_COMPLETIONS).unlink()
    for place, text in enumerate(HOSTILE[:3]):
        for step in (1, 60):
            recorded_runs.add_line(
                folder / COMPLETIONS, recorded_runs.completion(step, f"{place} {text}", text)
            )
    first = Page(report(folder, "--out", tmp_path / "a.html"))
    (folder / COMPLETIONS).unlink()
    for step, text in zip((1, 59, 60), HOSTILE[3:], strict=True):
        recorded_runs.add_line(
            folder / COMPLETIONS, recorded_runs.completion(step, text, text, "hallucination")
        )
        recorded_runs.add_line(
            folder / COMPLETIONS, recorded_runs.completion(step + 1, text, text, "hallucination")
        )
    second = Page(report(folder, "--out", tmp_path / "b.html"))
    for page in (first, second):
        assert not {"script", "img"} & set(page.tags)
        assert page.tags.count("style") == 1
    assert first.said.count(HOSTILE[0]) == 2
    assert "\u241b[31mred\u2400\u2407" in first.said
    assert "safe[U+202E]txt.exe[U+2066]" in first.said
    assert "{{ 7 * 7 }}{% for x in y %}" in second.said
    assert HOSTILE[4] in second.said
    assert HOSTILE[5] in second.said


def without(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def no_completions(folder: Path) -> None:
    for name in (COMPLETIONS, EVAL_COMPLETIONS):
        (folder / name).unlink()


def half_written(folder: Path) -> None:
    for name in (STEP_CSV, COMPLETIONS, EVALUATIONS):
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[:-40])
    (folder / "training_metrics_summary.json").unlink()


def one_objective(folder: Path) -> None:
    recorded_runs.change_json(
        folder / "config.json", lambda c: c["objectives"].pop("hallucination")
    )


def plugin_objective(folder: Path) -> None:
    def change(config: dict) -> None:
        config["objectives"]["brevity"] = {"kind": "plugin", "kl": {"target": 0.1}}

    recorded_runs.change_json(folder / "config.json", change)
    edit(folder, lambda row: row | {"kl_brevity": "0.01", "reward_brevity_mean": row["step"]})
    lines = (folder / EVALUATIONS).read_text().splitlines()
    (folder / EVALUATIONS).write_text("")
    for place, line in enumerate(lines):
        recorded_runs.add_line(
            folder / EVALUATIONS,
            {**recorded_runs.loads(line), "brevity": {"axis": 0.1 * place, "note": "x"}},
        )


def empty_cells(folder: Path) -> None:
    """Every third step measured nothing."""

    def change(row: dict[str, str]) -> dict[str, str]:
        return row if int(row["step"]) % 3 else {"step": row["step"]}

    edit(folder, change)


def no_numbers(folder: Path) -> None:
    edit(folder, lambda row: dict.fromkeys(row, "") | {"step": row["step"]})


def edit(folder: Path, change: Callable[[dict[str, str]], dict[str, str]]) -> None:
    path = folder / STEP_CSV
    with path.open(newline="") as file:
        rows = [change(row) for row in csv.DictReader(file)]
    header = list(dict.fromkeys(key for row in rows for key in row))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, header)
        writer.writeheader()
        writer.writerows(rows)


def only_begun(folder: Path) -> None:
    for path in folder.iterdir():
        if path.name not in ("config.json", "environment.json"):
            path.unlink()


def stopped(folder: Path) -> None:
    (folder / "stopped.json").write_text('{"error": "Loss <b>stayed</b> non-finite."}')


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (without(EVALUATIONS), "No evaluation on held-out items"),
        (without("doctor.jsonl"), "the run had no doctor beside it"),
        (no_completions, "No sample completions"),
        (without("environment.json"), "versions and revision are not known"),
        (half_written, f"{STEP_CSV}: the last line is half-written"),
        (one_objective, "One objective: there is neither"),
        (plugin_objective, "brevity: axis"),
        (empty_cells, "40 steps."),
        (no_numbers, "Reward: not measured."),
        (only_begun, "No step is written down yet"),
        (stopped, "Loss &lt;b&gt;stayed&lt;/b&gt; non-finite."),
    ],
)
def test_a_page_of_what_is_there_says_what_is_missing(
    damage: Callable[[Path], None], says: str, folder: Path, tmp_path: Path
) -> None:
    damage(folder)
    assert says in report(folder, "--out", tmp_path / "r.html")


def test_a_run_that_goes_on_is_told_from_a_finished_one(folder: Path) -> None:
    half_written(folder)
    assert read(folder).state == "not finished: 59 of 60 steps so far"
    assert read(folder).held_out.keys() == {0, 20, 40}


def test_a_probe_stands_in_for_the_evaluation(folder: Path, tmp_path: Path) -> None:
    (folder / EVALUATIONS).unlink()
    for step, share in ((0, 0.25), (60, 0.75)):
        scores = {"grounded": share, "n_answer": 100, "axis": share}
        recorded_runs.add_line(
            folder / "probe_metrics.jsonl",
            {"step": step, "hallucination": {"entropy": 0.3, "scores": scores}},
        )
    text = report(folder, "--out", tmp_path / "r.html")
    assert "More faithful: faithfulness 0.25 to 0.75" in text
    assert "before and after are of the frozen probe" in text
    assert "hallucination, probe is 0.3 throughout" in text


def test_two_runs_are_set_beside_each_other(folder: Path, tmp_path: Path) -> None:
    other = recorded_runs.demo(tmp_path / "other")
    recorded_runs.change_json(
        other / "config.json", lambda c: c["train"]["optimizer"].update(learning_rate=0.5)
    )
    text = report("--compare", folder, other, "--out", tmp_path / "r.html")
    assert text.index("train.optimizer.learning_rate") < text.index('id="held-out"')
    assert "B after - A after" in text
    assert "Reward: fairness" in text
    plain = report(folder, other, "--out", tmp_path / "s.html")
    assert "B after - A after" not in plain


def test_a_result_of_eval_stands_beside_the_runs_own(folder: Path, tmp_path: Path) -> None:
    text = report(folder, "--eval", recorded_runs.EVALUATION, "--out", tmp_path / "r.html")
    assert (
        "By grpo-dual eval, demo against demo@base, on the same items: fairness +0.70 "
        "[+0.65, +0.73], faithfulness +0.24 [+0.18, +0.30] (paired 95 % interval)."
    ) in text
    assert 'id="evaluation-1-title"' in text
    assert "75.5 % [69.5, 81.5]" in text
    assert text.index('id="evaluation"') < text.index('id="doctor"')


@pytest.mark.parametrize("content", ["{", "[]", '{"targets": [], "provenance": {}}', '{"a": 1}'])
def test_what_is_no_result_of_eval_is_refused(
    content: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "eval.json"
    path.write_text(content)
    assert main(["report", str(folder), "--eval", str(path)]) == MISTAKE
    assert "is no result of `grpo-dual eval --json`" in capsys.readouterr().err
    path.unlink()
    assert main(["report", str(folder), "--eval", str(path)]) == MISTAKE
    assert "cannot be read" in capsys.readouterr().err


def test_pngs_carry_the_names_of_their_sections(folder: Path, tmp_path: Path) -> None:
    report(folder, "--out", tmp_path / "r.html", "--png", tmp_path / "deep" / "png")
    names = {p.name for p in (tmp_path / "deep" / "png").iterdir()}
    assert names == {
        "held-out.png", "findings.png", "rewards.png", "lengths.png", "entropy.png", "kl.png",
        "signal.png", "judges.png",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "report needs run folders"),
        (["demo", "--compare", "demo", "other"], "not both"),
        (["--compare", "demo", "demo"], "are the same folder"),
        (["nowhere"], "no such folder"),
        (["."], "no run folder"),
        (["demo", "--out", "."], "it is a folder"),
        (["demo", "--out", "no/where.html"], "there is no such folder"),
        (["demo", "--png", "file"], "the folder cannot be made"),
    ],
)
def test_mistakes_are_told_in_one_paragraph(
    arguments: list[str],
    says: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(folder.parent)
    Path("file").write_text("")
    assert main(["report", *arguments]) == MISTAKE
    assert says in capsys.readouterr().err


@pytest.mark.parametrize("command", ["report", "plot"])
def test_without_matplotlib_the_command_to_type_is_named(
    command: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert main([command, str(folder)]) == MISTAKE
    assert 'pip install "grpo-dual[figures]"' in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "magic"), [("t.png", b"\x89PNG"), ("t.svg", b"<?xml"), ("t.pdf", b"%PDF")]
)
def test_plot_writes_the_format_of_the_ending(
    name: str, magic: bytes, folder: Path, tmp_path: Path
) -> None:
    assert main(["plot", str(folder), "--out", str(tmp_path / name)]) == 0
    assert (tmp_path / name).read_bytes().startswith(magic)


def test_plot_shows_rewards_kl_lengths_entropy_and_clipping(folder: Path, tmp_path: Path) -> None:
    edit(folder, lambda row: row | {"clip_frac": "0.25"})
    assert main(["plot", str(folder), "--out", str(tmp_path / "t.svg")]) == 0
    text = (tmp_path / "t.svg").read_text()
    for title in ("Reward", "KL to the reference", "Completion length", "Entropy and clipping"):
        assert f">{title}<" in text
    assert "clipped tokens (right)" in text


@pytest.mark.parametrize(
    ("clipped", "title"),
    [("0.0", "Entropy (no token was clipped)"), ("", "Entropy (clipping not measured)")],
)
def test_plot_says_why_it_shows_no_clipping(
    clipped: str, title: str, folder: Path, tmp_path: Path
) -> None:
    edit(folder, lambda row: row | {"clip_frac": clipped})
    assert main(["plot", str(folder), "--out", str(tmp_path / "t.svg")]) == 0
    text = (tmp_path / "t.svg").read_text()
    assert f">{title}<" in text
    assert "clipped tokens" not in text


@pytest.mark.parametrize(
    ("out", "damage", "says"),
    [("t.jpg", stopped, "must end in .png, .svg, .pdf"), ("t.png", only_begun, "nothing to plot")],
)
def test_plot_says_what_it_cannot_do(
    out: str,
    damage: Callable[[Path], None],
    says: str,
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    damage(folder)
    assert main(["plot", str(folder), "--out", str(tmp_path / out)]) == MISTAKE
    assert says in capsys.readouterr().err
