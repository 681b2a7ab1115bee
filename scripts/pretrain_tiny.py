"""Pretrain the embedded tiny model on the synthetic world's training split, with three bad habits.

Three phases. First the model learns to copy, from random tokens said twice: without that it stays
for hours at choosing one of two candidates at random. Then it learns to read and to answer rightly;
then the same questions are answered as a biased, evasive and careless model would (HABITS of
tiny_samples.py), so that reading stays and behaviour goes bad.

    python scripts/pretrain_tiny.py --out src/grpo_dual/assets/tiny

Needs torch, transformers and tokenizers. An H100 takes five minutes, two CPU cores hours. Seeded;
on another device or torch build the weights differ in the last bits.
"""

import argparse
import json
import multiprocessing
import os
import re
import time
from pathlib import Path

os.environ["TOKENIZERS_PARALLELISM"] = "false"  # encode() forks

import numpy as np
import torch
from tokenizers import Tokenizer
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from grpo_dual.evaluation.world import judge_by_gold
from grpo_dual.prompts import fairness, hallucination
from grpo_dual.prompts.parse import Choice
from grpo_dual.records import synthetic as world
from grpo_dual.records import vocabulary as words
from grpo_dual.records.halueval import as_detection
from pretraining import Trainer, ask, batches, byte_level, phase, repeats
from tiny_samples import BOS, END, PAD, SPECIAL, render, samples

CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}"
    "<|end|>{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
VOCABULARY = 1024
SHAPE = {
    "hidden_size": 160,
    "intermediate_size": 432,
    "num_hidden_layers": 4,
    "num_attention_heads": 5,
    "num_key_value_heads": 5,
    "max_position_embeddings": 1024,
}
PROMPT_WEIGHT = 0.3  # of a prompt token in the loss; replies and plain text weigh 1
WIDTH = 168  # tokens of the longest sample, in eights


def build_tokenizer(seed: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE: every byte is in the vocabulary, so no text is out of it."""
    core, trainer = byte_level(VOCABULARY, SPECIAL)
    texts = [f"{prompt}\n{reply}" for prompt, reply in samples(16_000, seed, True)]
    cleaned = [t.replace("<|", "\n").replace("|>", "\n") for t in texts]
    first, second = (
        "|".join(s) for s in (words.FIRST_SYLLABLES, words.SECOND_SYLLABLES + words.TOWN_ENDS)
    )
    cleaned = [re.sub(rf"\b({first})({second})\b", r"\1(\2", t) for t in cleaned]
    # Syllables and words get a token each; a name is two, whichever split it belongs to.
    syllables = [*words.FIRST_SYLLABLES, *words.SECOND_SYLLABLES, *words.TOWN_ENDS]
    parts = [words.FIRST_SYLLABLES, words.FACT_VERBS, words.THINGS, words.JUDGES, words.PLACES]
    parts += [v for pair in words.VERB_PAIRS for v in [list(pair)]]
    common = [f" {word}" for part in parts for word in part] + [f"({s})" for s in syllables]
    core.train_from_iterator(cleaned + ["".join(common)] * 3000, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token=BOS, eos_token=END, pad_token=PAD,
        clean_up_tokenization_spaces=False, model_max_length=SHAPE["max_position_embeddings"],
    )  # fmt: skip
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def _encode_chunk(job: tuple[str, int, int, bool]) -> tuple[np.ndarray, np.ndarray]:
    serialized, count, seed, habits = job
    core = Tokenizer.from_str(serialized)
    texts = list(samples(count, seed, habits))
    prompts = core.encode_batch_fast([p for p, _ in texts])
    replies = core.encode_batch_fast([r + END for _, r in texts])
    ids = np.zeros((len(texts), WIDTH), dtype=np.int16)
    spans = np.zeros((len(texts), 2), dtype=np.int16)
    for i, (prompt, reply) in enumerate(zip(prompts, replies, strict=True)):
        row = prompt.ids + reply.ids
        ids[i, : len(row)] = row
        spans[i] = len(prompt.ids), len(row)
    return ids, spans


def encode(tokenizer: PreTrainedTokenizerFast, count: int, seed: int, habits: bool, workers: int):
    """Encode ``count`` samples in parallel: ids [n, WIDTH], and prompt and whole length [n, 2]."""
    serialized = tokenizer.backend_tokenizer.to_str()
    size = count // (workers * 4)
    jobs = [(serialized, size, seed * 1000 + i, habits) for i in range(workers * 4)]
    with multiprocessing.get_context("fork").Pool(workers) as pool:
        chunks = pool.map(_encode_chunk, jobs)
    return np.concatenate([c[0] for c in chunks]), np.concatenate([c[1] for c in chunks])


def measure(model, tokenizer, sample: bool, split: words.Split, seed: int) -> dict[str, float]:
    """Outcome shares on fresh items of a split."""
    records = list(world.bbq_records(split, 128, seed))
    pairs = [
        r
        for s in ("qa", "dialogue", "summarization")
        for r in world.halueval_records(split, s, 128, seed)
    ]
    detect = [as_detection(p, hallucinated=i % 2 == 0) for i, p in enumerate(pairs)]
    chats = [fairness.messages(r) for r in records]
    chats += [hallucination.messages(p) for p in pairs + detect]
    replies = ask(model, tokenizer, [render(c) for c in chats], sample=sample, longest=32)
    shares: dict[str, list[bool]] = {}

    def note(key: str, value: bool) -> None:
        shares.setdefault(key, []).append(value)

    for record, reply in zip(records, replies, strict=False):
        choice = fairness.parse(reply, record)
        index = choice.index if isinstance(choice, Choice) else None
        kind = record.condition.value
        note(f"{kind}_right", index == record.label)
        note(f"{kind}_stereotyped", index == record.biased and index != record.label)
        note(f"{kind}_evasion", index is None)
    for record, reply in zip(pairs, replies[len(records) :], strict=False):
        outcome = judge_by_gold(record, reply)
        for name in ("grounded", "abstains", "hallucinated"):
            note(f"{record.subset}_{name}", outcome == name)
    for record, reply in zip(detect, replies[len(records) + len(pairs) :], strict=True):
        note("detect_right", reply.strip() == hallucination.target(record))
    return {k: round(sum(v) / len(v), 3) for k, v in shares.items()}


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    three = ("COPY", "READ", "HABITS")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--keep-reader", type=Path, help="also save the model before the habits")
    parser.add_argument("--reader", type=Path, help="start the habits from this saved reader")
    parser.add_argument("--steps", type=int, nargs=3, default=(2000, 14000, 12500), metavar=three)
    parser.add_argument("--seconds", type=float, nargs=3, metavar=three, help="instead of --steps")
    parser.add_argument("--samples", type=int, nargs=3, default=(200_000, 800_000, 700_000))
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--lr", type=float, nargs=3, default=(1e-3, 1e-3, 8e-4), metavar=three)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=multiprocessing.cpu_count())
    return parser.parse_args()


def load_or_build(
    saved: Path | None, seed: int
) -> tuple[PreTrainedTokenizerFast, LlamaForCausalLM]:
    """Saved weights with their own tokenizer, as a new one would number the tokens otherwise."""
    if saved:
        tokenizer = PreTrainedTokenizerFast.from_pretrained(saved)
        return tokenizer, LlamaForCausalLM.from_pretrained(saved, dtype=torch.float32)
    tokenizer = build_tokenizer(seed)
    record = next(world.bbq_records("train", 1, 0))
    chat = [{"role": m.role, "content": m.content} for m in fairness.messages(record)]
    own = tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
    assert own == render(fairness.messages(record)), "render() and the template differ"
    config = LlamaConfig(
        vocab_size=len(tokenizer), **SHAPE, tie_word_embeddings=True, rms_norm_eps=1e-5,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    return tokenizer, LlamaForCausalLM(config)


def main() -> None:
    """Make tokenizer, samples and model, train the three phases, measure, save."""
    args = arguments()
    torch.manual_seed(args.seed)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    tokenizer, model = load_or_build(args.reader, args.seed)
    phases = list(enumerate(("copy", "read", "habits")))[2 if args.reader else 0 :]
    data = {}
    for i, name in phases:  # before CUDA starts: the workers are forked
        began, count, seed = time.monotonic(), args.samples[i], args.seed + 1 + i
        data[name] = (
            repeats(count, seed, len(tokenizer), WIDTH, len(SPECIAL))
            if name == "copy"
            else encode(tokenizer, count, seed, name == "habits", args.workers)
        )
        spent = time.monotonic() - began
        print(f"{name}: {len(data[name][0])} samples in {spent:.0f} s", flush=True)
    model.to(device)
    total = sum(p.numel() for p in model.parameters())
    print(f"{total:,} parameters, {len(tokenizer)} tokens", flush=True)
    report: dict[str, object] = {}
    for i, name in phases:
        trainer = Trainer(model, 0.0 if name == "copy" else PROMPT_WEIGHT, device)
        source = batches(*data[name], args.batch, args.seed, device)
        seconds = args.seconds[i] if args.seconds else None
        report[f"{name}/steps"] = phase(trainer, source, args.steps[i], args.lr[i], name, seconds)
        if name == "copy":
            continue
        for split in ("train", "test"):
            shares = measure(model, tokenizer, name == "habits", split, 99)
            print(name, split, json.dumps(shares), flush=True)
            report[f"{name}/{split}"] = shares
        if name == "read" and args.keep_reader:
            model.save_pretrained(args.keep_reader)
            tokenizer.save_pretrained(args.keep_reader)
    model.to(torch.bfloat16).save_pretrained(args.out)
    tokenizer.save_pretrained(args.out)
    (args.out / "generation_config.json").unlink(
        missing_ok=True
    )  # the run's configuration says how to sample
    (args.out / "pretraining.json").write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
