import pytest
from hypothesis import given
from hypothesis import strategies as st

from grpo_dual.report.texts import LIMIT, duration, label, number, shown, visible


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("plain\nlines\tstay", "plain\nlines\tstay"),
        ("a\x00b", "a\u2400b"),
        ("\x1b[31mred", "\u241b[31mred"),
        ("\x7f", "\u2421"),
        ("safe\u202etxt.exe", "safe[U+202E]txt.exe"),
        ("\ud800", "[U+D800]"),
        ("soft\u00adhyphen", "soft[U+00AD]hyphen"),
        ("<script>alert(1)</script>", "<script>alert(1)</script>"),  # escaped by the template
        ("\u0645\u0631\u062d\u0628\u0627", "\u0645\u0631\u062d\u0628\u0627"),
    ],
)
def test_what_acts_unseen_is_written_out(text: str, seen: str) -> None:
    assert visible(text) == seen


@given(st.text(st.characters(), max_size=50))
def test_visible_text_is_utf8_and_idempotent(text: str) -> None:
    once = visible(text)
    once.encode()
    assert visible(once) == once
    assert not set(once) & set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\x00\x08\x1b")


def test_a_text_over_the_limit_says_what_is_left_out() -> None:
    made = shown("x" * (LIMIT + 7))
    assert (len(made.text), made.left_out, made.long) == (LIMIT, 7, True)
    assert shown(" \n").empty


@pytest.mark.parametrize(
    ("text", "short"),
    [("demo", "demo"), ("__x\ny", "x y"), ("\u65e5", "?"), ("", "?"), ("a" * 41, "a" * 37 + "...")],
)
def test_labels_of_figures_are_plain(text: str, short: str) -> None:
    assert label(text) == short


@pytest.mark.parametrize(
    ("value", "share", "text"),
    [
        (None, False, "-"),
        (0.123456, False, "0.123"),
        (0.5, True, "50.0 %"),
        (1234.6, False, "1,235"),
        (1.2e-5, False, "1.20e-05"),
        (0.0, False, "0"),
        (float("nan"), False, "nan"),
    ],
)
def test_numbers(value: float | None, share: bool, text: str) -> None:
    assert number(value, share=share) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(None, "-"), (73.2, "73 s"), (600, "10 min"), (7200, "2.0 h")]
)
def test_durations(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text
