"""The file of drawn completions: what a kill leaves, and what is not of this draw."""

import json
from pathlib import Path

import pytest

from grpo_dual.errors import DataError
from grpo_dual.selection.drawn import Asked, DrawnFile, Sample
from grpo_dual.types import Message

META = {"source": "run@3", "n": 2}


def asked(name: str) -> Asked:
    samples = (
        Sample(
            "a\nb \u2028", True, 3, 1.0, {"task": 1.0, "length": 0.0}, "right", "rule", None, 1.0
        ),
        Sample("", False, 1, None, {"length": -0.5}, "unjudged", "j", "timed out", None),
    )
    messages = (Message("system", "s"), Message("user", name))
    return Asked("fairness", name, ("fairness", "ambig", "Age"), "Age/1", messages, samples)


def test_what_is_written_is_read_back(tmp_path: Path):
    path = tmp_path / "x.drawn.jsonl"
    first = DrawnFile(path, META)
    first.append([asked("p"), asked("q")])
    first.append([asked("r")])
    again = DrawnFile(path, META)
    assert again.chunks == [(asked("p"), asked("q")), (asked("r"),)]
    assert again.asked == first.asked
    assert [s.score("reward") for s in again.asked[0].samples] == [1.0, None]
    assert [s.score("judge") for s in again.asked[0].samples] == [1.0, None]


def test_half_a_line_is_dropped_and_written_anew(tmp_path: Path):
    path, whole = tmp_path / "x", tmp_path / "whole"
    for file in (path, whole):
        drawn = DrawnFile(file, META)
        for name in "pq":
            drawn.append([asked(name)])
        drawn.finish()
    content = path.read_bytes()
    for cut in (len(content) - 1, len(content) - 40, content.index(b"\n") + 5, 10):
        path.write_bytes(content[:cut])
        drawn = DrawnFile(path, META)
        assert not drawn.finished
        for name in "pq"[len(drawn.chunks) :]:
            drawn.append([asked(name)])
        drawn.finish()
        assert DrawnFile(path, META).finished
        assert path.read_bytes() == whole.read_bytes()


def test_another_draw_is_refused_with_what_differs(tmp_path: Path):
    path = tmp_path / "x"
    DrawnFile(path, META).append([asked("p")])
    with pytest.raises(DataError, match=r"holds another draw \(n is 2 there and 4 now\)"):
        DrawnFile(path, {**META, "n": 4})


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{}", r"x:1: is no file of drawn completions"),
        (json.dumps({"draw": META}) + '\n{"chunk": 0}', r"x:2: is no chunk"),
        (json.dumps({"draw": META}) + "\nnonsense", r"x:2: is no chunk"),
    ],
)
def test_damage_is_named_by_line(line: str, says: str, tmp_path: Path):
    path = tmp_path / "x"
    path.write_text(line + "\n")
    with pytest.raises(DataError, match=says):
        DrawnFile(path, META)
