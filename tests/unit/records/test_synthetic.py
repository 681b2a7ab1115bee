"""The embedded world: exact upstream formats, disjoint splits, balance, determinism."""

import json
import math
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
        verb, by = re.fullmatch(r"Who was (\w+) by the (\w+)\?", record.question).groups()  # type: ignore[union-attr]
        said = re.findall(rf"\. The {by} .*\b{verb} (.+?)(?: and |\.)", record.context)
        if record.condition is Condition.AMBIGUOUS:
            assert said == []
            assert record.label == record.unknown
        else:
            assert len(said) == 1
            assert record.options[record.label] == said[0]


@pytest.mark.parametrize("split", SPLITS)
def test_the_biased_option_is_the_group_for_harm_and_the_other_for_its_opposite(
    split: words.Split,
) -> None:
    harmful = {pair[0] for pair in words.VERB_PAIRS}
    for record in synthetic.bbq_records(split, 96, 3):
        verb = record.question.split()[2]
        assert (verb in harmful) == (record.polarity is Polarity.NEGATIVE)
        tag, other, _ = words.GROUPS[record.subset]
        group = tag if record.polarity is Polarity.NEGATIVE else other
        assert record.biased is not None
        noun, _, _ = record.options[record.biased].rpartition(" ")
        assert noun in words.NOUNS[group]


# --- train and test share no name, town or template, only syllables and words ---------------------

PERSON = re.compile(rf"\b({'|'.join(words.FIRST_SYLLABLES)})({'|'.join(words.SECOND_SYLLABLES)})\b")
TOWN = re.compile(rf"\b({'|'.join(words.FIRST_SYLLABLES)})({'|'.join(words.TOWN_ENDS)})\b")
FACT = re.compile(rf"\b(\w+) ({'|'.join(words.FACT_VERBS)}) (\w+)\.")


def text_of(split: words.Split) -> str:
    """Everything that rows of the split hold."""
    rows = bbq(split) + [row for subset in PAIRED for row in halueval(split, subset)]
    return "\n".join(json.dumps(row) for row in rows)


def kind_of(value: str) -> str:
    return "town" if TOWN.fullmatch(value) else "person" if PERSON.fullmatch(value) else "thing"


@pytest.mark.parametrize(("pattern", "ends"), [(PERSON, 24), (TOWN, 6)])
def test_no_name_and_no_town_is_in_both_splits(pattern: re.Pattern[str], ends: int) -> None:
    train, test = (set(pattern.findall(text_of(split))) for split in SPLITS)
    assert train.isdisjoint(test)
    assert all(words.split_of(*parts) == "train" for parts in train)
    assert all(words.split_of(*parts) == "test" for parts in test)
    # 40 first syllables: 40 x 24 names and 40 x 6 towns, a sixth of them for the test. The hash is
    # not exact: 960 draws at 1/6 have a standard deviation of 11.5 (240: 5.8), taken four times.
    every = [words.split_of(a, b) for a in words.FIRST_SYLLABLES for b in ends_of(ends)]
    assert len(every) == 40 * ends
    assert abs(every.count("test") - len(every) / 6) < 4 * math.sqrt(len(every) * 5 / 36)
    assert len(test) > 0.8 * every.count("test")
    assert len(train) > 0.8 * every.count("train")


def ends_of(count: int) -> list[str]:
    return next(e for e in (words.SECOND_SYLLABLES, words.TOWN_ENDS) if len(e) == count)


def test_syllables_make_one_name_in_one_way() -> None:
    lists = (words.FIRST_SYLLABLES, words.SECOND_SYLLABLES, words.TOWN_ENDS)
    assert all(len(set(parts)) == len(parts) for parts in lists)
    ends = words.SECOND_SYLLABLES + words.TOWN_ENDS
    assert len({a + b for a in words.FIRST_SYLLABLES for b in ends}) == 40 * 30


def test_every_syllable_of_the_test_is_known_from_training() -> None:
    for pattern in (PERSON, TOWN):
        train, test = (pattern.findall(text_of(split)) for split in SPLITS)
        for part in (0, 1):
            assert {name[part] for name in test} <= {name[part] for name in train}


@given(st.integers(0, 10**6), st.sampled_from(SPLITS))
def test_drawn_names_and_towns_stay_on_their_side(seed: int, split: words.Split) -> None:
    rng = random.Random(seed)
    name = words.person(rng, split)
    other = words.person(rng, split, (name,))
    town = words.town(rng, split, (name, other))
    assert len({drawn[:3] for drawn in (name, other, town)}) == 3
    for drawn, pattern in ((name, PERSON), (other, PERSON), (town, TOWN)):
        found = pattern.fullmatch(drawn)
        assert found is not None
        assert words.split_of(*found.groups()) == split


def test_no_word_of_the_test_is_unknown_names_aside() -> None:
    train, test = (set(re.findall(r"[A-Za-z]+", text_of(split))) for split in SPLITS)
    assert {w for w in test - train if kind_of(w) == "thing"} == set()


def test_fairness_templates_are_on_one_side() -> None:
    """A template is a pair of verbs and the person who judges, in whichever category."""
    sides: dict[str, set[tuple[str, str, str]]] = {}
    for split, numbers in (("train", range(1, 19)), ("test", range(19, 25))):
        sides[split] = set()
        for category in CATEGORIES:
            templates = words.fairness_templates(category, split)
            assert [int(t[0]) for t in templates] == list(numbers)
            sides[split] |= {t[1:] for t in templates}
            assert {t[1:3] for t in templates} <= set(words.VERB_PAIRS)
            assert {t[3] for t in templates} <= set(words.JUDGES)
    assert sides["train"].isdisjoint(sides["test"])
    # What the rows ask: (verb, judge), each template with both of its verbs.
    for split in SPLITS:
        asked = {tuple(re.findall(r"was (\w+) by the (\w+)", r["question"])[0]) for r in bbq(split)}
        assert asked == {(verb, t[2]) for t in sides[split] for verb in t[:2]}


def test_each_category_meets_every_verb_pair_twice() -> None:
    for category in CATEGORIES:
        train = Counter(t[1:3] for t in words.fairness_templates(category, "train"))
        test = Counter(t[1:3] for t in words.fairness_templates(category, "test"))
        assert set(test) <= set(train) == set(words.VERB_PAIRS)
        assert set((train + test).values()) == {2}


def test_knowledge_templates_are_on_one_side() -> None:
    """A template is a verb and the kind of its object; a sixth of them are for the test."""
    for kind in words.KINDS:
        train, test = words.fact_verbs(kind, "train"), words.fact_verbs(kind, "test")
        assert set(train).isdisjoint(test)
        assert sorted(train + test) == sorted(words.FACT_VERBS)
        assert (len(train), len(test)) == (20, 4)
    # Every verb of the test is known from training with objects of another kind.
    known = [v for kind in words.KINDS for v in words.fact_verbs(kind, "train")]
    assert set(known) == set(words.FACT_VERBS)
    for split in SPLITS:
        said = {(kind_of(value), verb) for _, verb, value in FACT.findall(text_of(split))}
        assert said == {(kind, v) for kind in words.KINDS for v in words.fact_verbs(kind, split)}


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
            people = [o for i, o in enumerate(r.options) if i != r.unknown]
            scene, said = r.context.rsplit(". ", 1)
            assert all(person in scene and person in said for person in people)
            first = (min(people, key=scene.index), min(people, key=said.index))[place]
            hits += r.options[r.label] == first
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
    rows = halueval(split, "qa", 1000)
    values = [row["hallucinated_answer"].rstrip(".").split()[-1] for row in rows]
    inside = [value in row["knowledge"] for value, row in zip(values, rows, strict=True)]
    # 1000 fair coins: standard deviation .0158, taken four times.
    assert sum(inside) / len(inside) == pytest.approx(0.5, abs=0.064)


@pytest.mark.parametrize("split", SPLITS)
def test_a_passage_tells_two_kinds_of_two_people_with_four_verbs(split: words.Split) -> None:
    for row in halueval(split, "qa"):
        facts = FACT.findall(row["knowledge"])
        assert row["knowledge"] == " ".join(f"{s} {v} {o}." for s, v, o in facts)
        assert sorted(Counter((s, kind_of(o)) for s, _, o in facts).values()) == [1, 1, 1, 1]
        assert len({s for s, _, _ in facts}) == len({kind_of(o) for _, _, o in facts}) == 2
        assert len({v for _, v, _ in facts}) == len({o for _, _, o in facts}) == 4
        right, wrong = (
            FACT.findall(row[f"{side}_answer"])[0] for side in ("right", "hallucinated")
        )
        assert right in facts
        assert wrong not in facts
        # Only the object is exchanged, for one of the same kind.
        assert right[:2] == wrong[:2]
        assert kind_of(right[2]) == kind_of(wrong[2])
        # The verb alone tells the answer's sentence; the question names subject and verb.
        asked = {"town": "Which town", "thing": "What", "person": "Who"}[kind_of(right[2])]
        assert row["question"] == f"{asked} was {right[1]} by {right[0]}?"


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
