import pytest

from grpo_dual.metrics.texts import distinct_2, duplicate_pairs, start, template_share, words
from grpo_dual.metrics.values import Fraction


def test_words_are_folded_and_digits_masked():
    assert words("It\u2019s 1,234 — Ann's!") == ["it's", "0", "0", "ann's"]
    assert start("a b c d e f g h i j") == "a b c d e f g h"


def test_a_start_that_two_prompts_share_is_a_template_and_one_prompts_own_is_not():
    # "i do not know" from prompts 1 and 2: two of four. "ann" three times, but for one prompt only.
    texts = ["I do not know.", "i do not know", "Ann", "Ann", "Ann"]
    assert template_share(texts, [1, 2, 3, 3, 3]) == Fraction(2, 5)
    assert template_share(texts, [1, 1, 3, 3, 3]) == Fraction(0, 5)


def test_one_prompt_cannot_tell():
    assert template_share(["a", "a"], [1, 1]).value is None
    assert template_share([], []).value is None


def test_what_follows_the_first_eight_words_does_not_matter():
    stem = "the context does not provide sufficient information to "
    assert template_share([stem + "say", stem + "name Ann 3"], [1, 2]) == Fraction(2, 2)


def test_masked_words_are_one_blank_unless_nothing_else_is_there():
    # "_ saw _" in both; the run "Ann Lee" is one blank. "Ann" alone stays "ann".
    assert start("Ann Lee saw Bob.", {"ann", "lee", "bob"}) == "_ saw _"
    assert start("Ann", {"ann"}) == "ann"
    texts, masked = ["Ann saw Bob", "Eve saw Al", "Eve"], [{"ann", "bob"}, {"eve", "al"}, {"eve"}]
    assert template_share(texts, [1, 2, 3], masked) == Fraction(2, 3)
    assert template_share(texts, [1, 2, 3]) == Fraction(0, 3)


def test_distinct_2():
    # a-b, b-c and a-b again: two different of three.
    assert distinct_2(["a b c", "A b."]) == Fraction(2, 3)
    assert distinct_2(["a", ""]).value is None


def test_duplicate_pairs():
    # 4 completions, 6 pairs; the three "x" make 3 of them. A group of one has no pair.
    assert duplicate_pairs([["x", "X.", "x", "y"], ["z"]]) == Fraction(3, 6)
    assert duplicate_pairs([]).value is None


def test_lengths_must_agree():
    with pytest.raises(ValueError, match="zip"):
        template_share(["a"], [1, 2])
