"""The embedded world: exact upstream formats, splits that share nothing, balance, determinism."""

import json
import random
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grpo_dual.evaluation.world import judge_by_gold
from grpo_dual.judges.heuristic import Verdict, judge
from grpo_dual.records import synthetic
from grpo_dual.records import vocabulary as words
from grpo_dual.records.bbq import iter_bbq
from grpo_dual.records.halueval import iter_halueval
from grpo_dual.records.synthetic import CATEGORIES, SUBSETS
from grpo_dual.types import BbqRecord, Condition, HaluEvalRecord, Polarity, Task

SPLITS: tuple[words.Split, ...] = ("train", "test")
PAIRED = ("qa", "dialogue", "summarization")


def bbq(split: words.Split, blocks: int = 144, seed: int = 3) -> list[dict[str, Any]]:
    return list(synthetic.bbq_rows(split, blocks, seed))


def halueval(split: words.Split, subset: str, n: int = 200, seed: int = 3) -> list[dict[str, Any]]:
    return list(synthetic.halueval_rows(split, subset, n, seed))


def write(path: Path, rows: Iterable[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


# --- formats --------------------------------------------------------------------------------------


@pytest.mark.parametrize("split", SPLITS)
def test_bbq_rows_are_read_from_files_as_upstreams_are(split: words.Split, tmp_path: Path) -> None:
    rows = bbq(split, 24)
    for category in CATEGORIES:
        write(tmp_path / f"{category}.jsonl", [r for r in rows if r["category"] == category])
    read = list(iter_bbq(tmp_path))
    assert len(read) == len(rows) == 96
    direct = list(synthetic.bbq_records(split, 24, 3))

    def known(records: Iterable[BbqRecord]) -> list[BbqRecord]:
        plain = [replace(r, origin="", record_id=r.record_id.split("/", 1)[1]) for r in records]
        return sorted(plain, key=lambda r: r.record_id)

    assert known(read) == known(direct)
    assert len({r.record_id for r in direct}) == len(direct)
    assert all(r.record_id.startswith(f"synthetic-{split}/") for r in direct)
    assert all(r.biased is not None and not r.names for r in direct)


def test_bbq_rows_have_upstreams_fields(shared_data: Path) -> None:
    real = json.loads((shared_data / "bbq" / "Age.jsonl").read_text("utf-8").splitlines()[0])
    row = bbq("test", 1)[0]
    assert row.keys() == real.keys()
    for key, value in real.items():
        assert type(row[key]) is type(value), key
    assert row["answer_info"].keys() == real["answer_info"].keys()
    assert row["additional_metadata"].keys() >= {"subcategory", "stereotyped_groups", "version"}


@pytest.mark.parametrize("split", SPLITS)
def test_halueval_rows_are_read_from_files_as_upstreams_are(
    split: words.Split, tmp_path: Path
) -> None:
    for subset in SUBSETS:
        write(tmp_path / f"{subset}_data.jsonl", halueval(split, subset, 40))
    read = list(iter_halueval(tmp_path))
    direct = [r for s in SUBSETS for r in synthetic.halueval_records(split, s, 40, 3)]

    def known(records: Iterable[HaluEvalRecord]) -> list[HaluEvalRecord]:
        return [replace(r, origin="", record_id=r.record_id.split("/", 1)[1]) for r in records]

    assert known(read) == known(direct)  # the filter of ``general`` takes nothing away
    assert len({r.record_id for r in direct}) == len(direct) == 160
    assert all(r.record_id.startswith(f"synthetic-{split}/") for r in direct)
    assert {r.task for r in direct if r.subset == "general"} == {Task.DETECT}
    assert {r.task for r in direct if r.subset != "general"} == {Task.ANSWER}


# --- the bias-consistent option and the right one -------------------------------------------------


@pytest.mark.parametrize("split", SPLITS)
def test_the_right_option_is_what_the_context_says(split: words.Split) -> None:
    for record in synthetic.bbq_records(split, 96, 3):
        verb, thing = re.fullmatch(r"Who (\w+) the (\w+)\?", record.question).groups()  # type: ignore[union-attr]
        said = re.findall(rf"(\w+) {verb} the {thing}\b", record.context)
        if record.condition is Condition.AMBIGUOUS:
            assert said == []
            assert record.label == record.unknown
        else:
            assert len(said) == 1
            assert record.options[record.label].startswith(f"{said[0]}, the ")


@pytest.mark.parametrize("split", SPLITS)
def test_the_biased_option_is_the_group_for_harm_and_the_other_for_its_opposite(
    split: words.Split,
) -> None:
    harmful = {pair[0] for pair in words.VERB_PAIRS}
    for record in synthetic.bbq_records(split, 96, 3):
        verb = record.question.split()[1]
        assert (verb in harmful) == (record.polarity is Polarity.NEGATIVE)
        tag, other, _ = words.GROUPS[record.subset]
        group = tag if record.polarity is Polarity.NEGATIVE else other
        assert record.biased is not None
        noun = record.options[record.biased].split(", the ")[1]
        assert noun in words.NOUNS[group]


# --- train and test share nothing -----------------------------------------------------------------


def people(split: words.Split) -> set[str]:
    named = {
        r[f"ans{i}"].split(",")[0] for r in bbq(split) for i in range(3) if "," in r[f"ans{i}"]
    }
    for subset in PAIRED:
        for row in halueval(split, subset):
            text = row.get("knowledge") or row["document"]
            named |= {fact.split()[0] for fact in re.split(r"(?<=\.) ", text)[:4]}
    return named


def text_of(split: words.Split) -> set[str]:
    """Every word the split's rows hold, casefolded."""
    rows = [*bbq(split)] + [row for subset in PAIRED for row in halueval(split, subset)]
    return set(re.findall(r"\w+", " ".join(json.dumps(row) for row in rows).casefold()))


def test_no_name_is_in_both_splits() -> None:
    train, test = people("train"), people("test")
    assert train.isdisjoint(test)
    # 14 onsets x 5 vowels x 5 codas are 350 names, one in eight of them (about 44) for the test.
    assert len(train) > 250
    assert 30 < len(test) < 60
    assert all(words.split_of(name) == "train" for name in train)
    assert all(words.split_of(name) == "test" for name in test)


@given(st.integers(0, 10**6))
def test_drawn_names_and_towns_stay_on_their_side(seed: int) -> None:
    rng = random.Random(seed)
    for split in SPLITS:
        name = words.person(rng, split)
        other = words.person(rng, split, (name,))
        assert name != other
        assert {words.split_of(n) for n in (name, other, words.town(rng, split))} == {split}


def test_no_listed_word_is_in_both_splits() -> None:
    for lists in (
        words.PLACES,
        words.PLACE_VERBS,
        words.THING_VERBS,
        words.WHO_VERBS,
        words.THINGS,
        words.SITES,
    ):
        assert set(lists["train"]).isdisjoint(lists["test"])
        for split in SPLITS:
            assert len(set(lists[split])) == len(lists[split])
    assert words.all_words() >= set(words.SITES["test"])


def test_the_rows_hold_only_their_own_splits_words() -> None:
    lists = (words.PLACES, words.THINGS, words.SITES)
    verbs = (words.PLACE_VERBS, words.THING_VERBS, words.WHO_VERBS)
    # The groups are known to both sides, and one of them is of farm workers.
    groups = set(" ".join(noun for nouns in words.NOUNS.values() for noun in nouns).split())
    for split, other in (SPLITS, SPLITS[::-1]):
        foreign = {w for side in (*lists, *verbs) for w in side[other]}
        own = {w for side in (*lists, *verbs) for w in side[split]}
        held = text_of(split)
        assert held & (foreign - own - groups) == set()
        assert own - held == set(), "200 rows of each subset use every word"


def test_fairness_templates_share_no_thing_and_no_number() -> None:
    for category in CATEGORIES:
        train, test = words.templates(category, "train"), words.templates(category, "test")
        assert len(train) == 18
        assert len(test) == 6
        assert {t[0] for t in train}.isdisjoint({t[0] for t in test})
        assert [int(t[0]) for t in train + test] == list(range(1, 25))
        assert len({t[1:] for t in train + test}) == 24
    things = {
        split: {t[3] for c in CATEGORIES for t in words.templates(c, split)} for split in SPLITS
    }
    assert things["train"].isdisjoint(things["test"])
    # The questions ask about these things and no others.
    for split in SPLITS:
        assert {row["question"].rstrip("?").split()[3] for row in bbq(split)} == things[split]
    # Nor does any text of the training split, passages included, hold a test item's thing.
    train_words = text_of("train")
    assert train_words.isdisjoint(things["test"])


def test_every_verb_pair_of_the_test_is_known_from_training() -> None:
    for category in CATEGORIES:
        train = {t[1:3] for t in words.templates(category, "train")}
        assert {t[1:3] for t in words.templates(category, "test")} <= train


def test_questions_of_general_are_on_one_side() -> None:
    train, test = (
        {row["user_query"] for row in halueval(split, "general", 400)} for split in SPLITS
    )
    assert train.isdisjoint(test)
    assert len(train | test) == len(words.GENERAL_FACTS)


# --- balance --------------------------------------------------------------------------------------


@pytest.mark.parametrize("split", SPLITS)
def test_categories_conditions_and_polarities_are_balanced_exactly(split: words.Split) -> None:
    # 8 turns x 4 categories x 4 rows: two of each (category, condition, polarity) a turn.
    records = synthetic.bbq_records(split, 8 * len(CATEGORIES), 1)
    cells = Counter((r.subset, r.condition, r.polarity) for r in records)
    assert len(cells) == len(CATEGORIES) * 4
    assert set(cells.values()) == {8}


@pytest.mark.parametrize("split", SPLITS)
def test_templates_take_turns(split: words.Split) -> None:
    turns = 18 if split == "train" else 6
    rows = bbq(split, turns * len(CATEGORIES))
    seen = Counter((row["category"], row["question_index"]) for row in rows)
    assert len(seen) == turns * len(CATEGORIES)
    assert set(seen.values()) == {4}


@pytest.mark.parametrize("split", SPLITS)
def test_half_of_the_disambiguated_rows_go_against_the_stereotype(split: words.Split) -> None:
    told = [
        r for r in synthetic.bbq_records(split, 1000, 2) if r.condition is Condition.DISAMBIGUATED
    ]
    # 2000 fair coins: standard deviation .0112; .045 is four of them. Each polarity likewise.
    assert sum(r.label == r.biased for r in told) / len(told) == pytest.approx(0.5, abs=0.045)
    for polarity in Polarity:
        side = [r.label == r.biased for r in told if r.polarity is polarity]
        assert sum(side) / len(side) == pytest.approx(0.5, abs=0.064)


@pytest.mark.parametrize("split", SPLITS)
def test_position_wording_and_order_tell_nothing(split: words.Split) -> None:
    records = list(synthetic.bbq_records(split, 1000, 2))
    for place in range(3):
        # 2000 independent draws (pairs share theirs) of 1/3: standard deviation .0105.
        for index in ("unknown", "biased", "label"):
            share = sum(getattr(r, index) == place for r in records) / len(records)
            assert share == pytest.approx(1 / 3, abs=0.045), index
    wordings = Counter(r.options[r.unknown] for r in records)
    assert wordings.keys() == set(words.UNKNOWN_OPTIONS)
    told = [r for r in records if r.condition is Condition.DISAMBIGUATED]
    # Neither the person who comes first in the scene nor in what is told is the right one.
    for place in (0, -1):
        hits = 0
        for r in told:
            first = r.context.split(",")[0]
            said = re.findall(r"(\w+) \w+ the", r.context.rsplit(". ", 1)[1])
            hits += r.options[r.label].startswith((first, said[0])[place] + ",")
        assert hits / len(told) == pytest.approx(0.5, abs=0.045)


@pytest.mark.parametrize("split", SPLITS)
def test_the_ambiguous_context_opens_the_disambiguated_one(split: words.Split) -> None:
    rows = bbq(split, 16)
    for ambiguous, told in zip(rows[::2], rows[1::2], strict=True):
        assert told["context"].startswith(ambiguous["context"] + " ")
        shared = ("question", "answer_info", "ans0", "ans1", "ans2", "question_index")
        assert all(ambiguous[key] == told[key] for key in shared)


# --- passages -------------------------------------------------------------------------------------


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("subset", PAIRED)
def test_the_judge_of_the_reward_agrees_with_the_worlds_gold(
    split: words.Split, subset: str
) -> None:
    for record in synthetic.halueval_records(split, subset, 150, 7):
        assert record.accepted is not None
        assert record.rejected is not None
        assert record.accepted != record.rejected
        for end in ("", "."):
            assert judge_by_gold(record, record.accepted + end) == "grounded"
            assert judge(record, record.accepted + end).verdict is Verdict.GROUNDED
            assert judge_by_gold(record, record.rejected + end) == "hallucinated"
            assert judge(record, record.rejected + end).verdict is Verdict.HALLUCINATED


@pytest.mark.parametrize("evasion", words.EVASIONS)
def test_planted_evasions_are_abstentions_to_both(evasion: str) -> None:
    for subset in PAIRED:
        for record in synthetic.halueval_records("test", subset, 10, 7):
            assert judge_by_gold(record, evasion) == "abstains"
            assert judge(record, evasion).verdict is Verdict.ABSTAINS


@pytest.mark.parametrize("split", SPLITS)
def test_half_of_the_wrong_answers_are_another_ones_of_the_passage(split: words.Split) -> None:
    def answer(text: str) -> str:
        said = text.rstrip(".").split()
        return said[0] if said[1] not in ("was", "has") else said[-1]

    rows = halueval(split, "qa", 1000)
    inside = [
        re.search(rf"\b{answer(row['hallucinated_answer'])}\b", row["knowledge"]) is not None
        for row in rows
    ]
    # A fair coin, plus the outside draws that hit a passage's word by chance: up to a tenth.
    assert 0.44 < sum(inside) / len(inside) < 0.66


@pytest.mark.parametrize("split", SPLITS)
def test_length_does_not_tell_the_sides_apart(split: words.Split) -> None:
    for subset in PAIRED:
        for record in synthetic.halueval_records(split, subset, 100, 7):
            assert record.accepted is not None
            assert record.rejected is not None
            assert len(record.accepted.split()) == len(record.rejected.split())


def test_a_quarter_of_general_is_hallucinated() -> None:
    for split in SPLITS:
        rows = halueval(split, "general", 800)
        # Standard deviation .0153 of 800 draws at .25.
        share = sum(row["hallucination"] == "yes" for row in rows) / len(rows)
        assert share == pytest.approx(0.25, abs=0.062)
        for row in rows:
            right = next(f[1] for f in words.GENERAL_FACTS if f[0] == row["user_query"])
            assert (row["chatgpt_response"] != right) == (row["hallucination"] == "yes")


# --- determinism ----------------------------------------------------------------------------------


def test_rows_are_a_function_of_split_and_seed() -> None:
    for split in SPLITS:
        assert bbq(split, 8, 1) == bbq(split, 8, 1)
        assert bbq(split, 8, 1) != bbq(split, 8, 2)
        # A longer draw begins with the shorter one.
        assert bbq(split, 8, 1) == bbq(split, 16, 1)[:32]
        for subset in SUBSETS:
            assert halueval(split, subset, 9, 1) == halueval(split, subset, 9, 1)
            assert halueval(split, subset, 9, 1) != halueval(split, subset, 9, 2)
            assert halueval(split, subset, 9, 1) == halueval(split, subset, 20, 1)[:9]
