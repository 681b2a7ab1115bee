"""Gold of one completion: the record's own label, and None where there is none."""

import pytest

from grpo_dual.evaluation.gold import cluster, gold
from grpo_dual.records import synthetic
from grpo_dual.records.halueval import as_detection
from grpo_dual.types import Condition, Record, Task
from made_records import bbq_record, halueval_record


def test_bbq_is_right_where_the_right_option_is_named():
    record = bbq_record()
    assert [gold(record, text) for text in ("Unknown", "(c)", "Ann", "", "Ann or Bob")] == [
        1.0,
        1.0,
        0.0,
        0.0,
        0.0,
    ]
    told = bbq_record(condition=Condition.DISAMBIGUATED, label=1)
    assert [gold(told, text) for text in ("Bob", "Unknown")] == [1.0, 0.0]


@pytest.mark.parametrize("hallucinated", [True, False])
def test_detection_is_right_by_its_label(hallucinated: bool):
    record = as_detection(halueval_record(), hallucinated=hallucinated)
    assert [gold(record, text) for text in ("yes", "no", "perhaps")] == [
        float(hallucinated),
        float(not hallucinated),
        0.0,
    ]


def test_answers_have_gold_in_the_world_only():
    record = next(iter(synthetic.halueval_records("test", "qa", 1, 0)))
    assert record.accepted is not None
    assert record.rejected is not None
    assert gold(record, record.accepted) == 1.0
    assert gold(record, record.rejected) == 0.0
    assert gold(halueval_record(), "Oslo") is None
    other = Record(record_id="x", objective="o", subset="s", task=Task.ANSWER, origin="f:1")
    assert gold(other, "Oslo") is None
    assert cluster(other) == "x"


def test_clusters_hold_what_is_alike():
    assert cluster(bbq_record()) == cluster(bbq_record(record_id="y", context="Others met."))
    assert cluster(bbq_record()) != cluster(bbq_record(question_index="2"))
    record = halueval_record()
    assert cluster(record) == cluster(as_detection(record, hallucinated=True))
