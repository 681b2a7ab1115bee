"""The model card of an exported folder: README.md as the hub reads it.

What was measured, on what and by whom stands beside every number, and what the numbers do not show
behind them. Nothing is said that the run's files do not say.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import yaml

from grpo_dual.evaluation.acceptance import Scores
from grpo_dual.evaluation.table import rows
from grpo_dual.report.card_results import Results, section


@dataclass(frozen=True, slots=True)
class DataSet:
    """Data that a run was trained and measured on."""

    name: str
    licence: str
    used: str
    """Which part of it, and for what."""


@dataclass(frozen=True, slots=True)
class Evaluated:
    """The run's own yardstick, before training and at the exported step."""

    before_step: int
    before: Scores
    step: int
    after: Scores
    decode: str
    """greedy, or train: the training distribution."""


@dataclass(frozen=True, slots=True)
class Card:
    """All that a card says."""

    title: str
    base: str
    """The base model's name on the hub, or what is known of it."""
    merged: bool
    run: str
    """The checkpoint: RUN@STEP."""
    folder: str
    """How the loading code calls the folder: a repository, or ``.``."""
    dtype: str
    licence: str | None
    data: Sequence[DataSet]
    settings: Sequence[tuple[str, str]]
    versions: Mapping[str, str]
    evaluated: Evaluated | None
    missing: str
    """Why there is no evaluation, if there is none."""
    results: Results | None
    notes: Sequence[str]
    """What differs from the run's own policy."""
    synthetic: bool
    """All objectives are of the embedded world."""
    public_base: bool
    """The base can be had by its name on the hub."""
    base_dtype: str
    """Of the base's weights in the run; an adapter's base is to be loaded so."""
    fourbit: bool
    """The run's base weights were in 4 bit (NF4)."""
    remote_code: bool
    """The model comes with Python code of its own."""


def markdown(card: Card) -> str:
    """The card as README.md."""
    parts = [
        _front_matter(card),
        f"# {_cell(card.title)}",
        _intro(card),
        "## How to load",
        f"```python\n{loading_code(card)}```",
        "## Evaluation",
        *_evaluation(card),
        "## Data",
        _table(
            ("data set", "licence", "used for"), [(d.name, d.licence, d.used) for d in card.data]
        ),
        "## Intended use and limits",
        *_limits(card),
        "## Training",
        _table(("setting", "value"), card.settings),
        "Versions: " + ", ".join(f"{n} {v}" for n, v in card.versions.items()) + ".",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _front_matter(card: Card) -> str:
    tags = ["grpo", "grpo-dual", "text-generation", "fairness", "hallucination"]
    content: dict[str, object] = {
        "base_model": re.sub(r"[^\w./-]+", "-", card.base),
        "library_name": "transformers" if card.merged else "peft",
        "pipeline_tag": "text-generation",
        "tags": [*tags, "merged" if card.merged else "lora"],
    }
    if card.licence is not None:
        content["license"] = card.licence
    return f"---\n{yaml.safe_dump(content, sort_keys=False, allow_unicode=True)}---"


def _intro(card: Card) -> str:
    what = (
        "A language model: base and LoRA adapter added up"
        if card.merged
        else "A LoRA adapter for a language model"
    )
    lines = [
        f"{what}, trained with grpo-dual (multi-objective GRPO) from `{_cell(card.base)}`; "
        f"checkpoint `{_cell(card.run)}`, weights in {card.dtype}.",
        *card.notes,
    ]
    return "\n\n".join(lines)


def loading_code(card: Card) -> str:
    """Python that loads the folder and answers one question."""
    where = "  # this folder" if card.folder == "." else ""
    return (
        _imports(card)
        + f"folder = {card.folder!r}{where}\n"
        + "tokenizer = AutoTokenizer.from_pretrained(folder)\n"
        + _loading(card)
        + _ASKING
    )


def _imports(card: Card) -> str:
    names = ["AutoModelForCausalLM", "AutoTokenizer"]
    names += ["BitsAndBytesConfig"] if card.fourbit and not card.merged else []
    peft = "" if card.merged else "from peft import PeftConfig, PeftModel\n"
    return f"{peft}from transformers import {', '.join([*names, 'GenerationConfig'])}\n\n"


def _loading(card: Card) -> str:
    own = ", trust_remote_code=True" if card.remote_code else ""  # that code was read for the run
    if card.merged:
        return f"model = AutoModelForCausalLM.from_pretrained(folder{own})\n"
    lines = ["adapter = PeftConfig.from_pretrained(folder)  # names the base model"]
    how = f"dtype={card.base_dtype!r}{own}"
    if card.fourbit:
        how += ", quantization_config=quantization"
        lines += [
            "quantization = BitsAndBytesConfig(  # as the run had it",
            '    load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,',
            f"    bnb_4bit_compute_dtype={card.base_dtype!r},",
            ")",
        ]
    lines += [
        "base = AutoModelForCausalLM.from_pretrained(",
        f"    adapter.base_model_name_or_path, revision=adapter.revision, {how}",
        ")",
        "model = PeftModel.from_pretrained(base, folder)",
    ]
    return "\n".join(lines) + "\n"


_ASKING = """\
messages = [
    {"role": "system", "content": "Answer briefly, using only the given knowledge."},
    {"role": "user", "content": "Knowledge: Ann was born in Oslo.\\nQuestion: Where was Ann born?"},
]
prompt = tokenizer.apply_chat_template(
    messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
).to(model.device)
reply = model.generate(
    input_ids=prompt["input_ids"],
    attention_mask=prompt["attention_mask"],
    generation_config=GenerationConfig.from_pretrained(folder),
)
print(tokenizer.decode(reply[0, prompt["input_ids"].shape[1] :], skip_special_tokens=True))
"""


def _evaluation(card: Card) -> Iterator[str]:
    if card.evaluated is None:
        yield card.missing
    else:
        yield from _before_after(card.evaluated)
    if card.results is not None:
        yield from _results(card.results)


def _before_after(found: Evaluated) -> Iterator[str]:
    counts = ", ".join(
        f"{int(n)} {words}"
        for objective, key, words in (
            ("fairness", "n_ambig", "BBQ items whose context does not say who it was"),
            ("fairness", "n_disambig", "whose context does"),
            ("hallucination", "n_answer", "HaluEval items to answer"),
            ("hallucination", "n_detect", "to tell a hallucination apart on"),
        )
        if isinstance(n := found.after.get(objective, {}).get(key), int) and n
    )
    decode = "greedy decoding" if found.decode == "greedy" else "sampling as in training"
    judged = found.after.get("hallucination", {}).get("judged_by")
    yield (
        f"By the run itself on held-out items ({counts or 'of each objective'}), one completion "
        f"each by {decode}: before RL (step {found.before_step}, behind a warm-up if there was "
        f"one) and at step {found.step}. One run, one seed; no intervals."
    )
    if isinstance(judged, str) and "heuristic" in judged:
        yield (
            "Answers were judged by an offline lexical judge that also scored them in training, so "
            "that part is not independent of what was trained."
        )
    yield _table(
        ("held-out items", "before", "after", "change", "better"),
        [row.cells() for row in rows(found.before, found.after)],
    )


def _results(results: Results) -> Iterator[str]:
    found = section(results)
    yield f"{_cell(found.words)} (`{_cell(results.name)}`)."
    yield _table(found.header, found.rows)
    yield found.more


def _limits(card: Card) -> Iterator[str]:
    if card.synthetic:
        yield (
            "For trying the trainer out. The model was trained and measured on the synthetic world "
            "of the grpo-dual package: short sentences of a few hundred words. Its numbers say "
            "nothing of real text."
        )
    else:
        yield (
            "For research on the trade-off between fairness and faithfulness. It has not been "
            "tested as part of a product, and is no ground for decisions about people."
        )
    lines = ["What the numbers do not show:", ""]
    names = {data.name for data in card.data}
    if "BBQ" in names:
        lines.append(
            "- BBQ asks multiple-choice questions in English about social groups of the US. A low "
            "bias score there says little of free text, other languages or other groups; held-out "
            "items are of other templates than the ones trained on, but of the same author."
        )
    if "HaluEval" in names:
        lines.append(
            "- HaluEval's hallucinations were written by a language model; answers that its "
            "knowledge supports are not all true, and longer replies than its own were not looked "
            "at."
        )
    lines += [
        "- General ability, refusals of harmless questions, safety and long conversations are not "
        "in the run's table.",
        "- A single run: what another seed would give is not known from it.",
    ]
    if not card.public_base and not card.merged:
        lines.append(
            "- The base model is on no hub; who wants to use the adapter needs that model too."
        )
    yield "\n".join(lines)


def _table(header: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *body]
    return "\n".join("| " + " | ".join(_cell(c) for c in line) + " |" for line in lines)


def _cell(text: str) -> str:
    """Text in a table or code span: names of files and runs may hold anything."""
    return " ".join(text.replace("|", "\\|").replace("`", "'").replace("<", "&lt;").split())
