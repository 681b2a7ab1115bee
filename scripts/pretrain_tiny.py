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
import math
import multiprocessing
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

os.environ["TOKENIZERS_PARALLELISM"] = "false"  # encode() forks

import numpy as np
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from grpo_dual.evaluation.world import judge_by_gold
from grpo_dual.prompts import fairness, hallucination
from grpo_dual.prompts.parse import Choice
from grpo_dual.records import synthetic as world
from grpo_dual.records import vocabulary as words
from grpo_dual.records.halueval import as_detection
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
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[AddedToken(t, special=True) for t in SPECIAL],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
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


def repeats(count: int, seed: int, vocabulary: int) -> tuple[np.ndarray, np.ndarray]:
    """Random tokens said twice or more, in the form of ``encode``: what copying is learnt from.

    A model that has learnt to look up what followed a token before (an induction head, Olsson et
    al. 2022) reads the world at once; without it, long training ends in guesses between two names.
    """
    rng = np.random.default_rng(seed)
    tokens = rng.integers(len(SPECIAL), vocabulary, (count, WIDTH), dtype=np.int16)
    periods = rng.integers(8, WIDTH // 2, count)
    rows = np.take_along_axis(tokens, np.arange(WIDTH)[None] % periods[:, None], 1)
    return rows, np.stack([periods, np.full(count, WIDTH)], 1).astype(np.int16)


def batches(
    ids: np.ndarray, spans: np.ndarray, size: int, seed: int, device: str
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Endless batches (ids [size, WIDTH], spans [size, 2]), every epoch in a new order."""
    torch.manual_seed(seed)
    rows, ends = torch.from_numpy(ids).to(device), torch.from_numpy(spans).to(device)
    while True:
        order = torch.randperm(len(rows), device=device)
        for start in range(0, len(rows) - size + 1, size):
            where = order[start : start + size]
            yield rows[where].long(), ends[where].long()


class Trainer:
    """AdamW on the weighted next-token loss; on a GPU the whole step is one CUDA graph.

    The model is so small that a step of separate kernel launches takes five times the graph's time.
    """

    def __init__(self, model, size: int, prompt_weight: float, device: str) -> None:
        """Keep the batch's memory, which a graph needs to stay where it is."""
        self.model, self.device, self._graph = model, device, None
        self._prompt_weight = prompt_weight
        self._ids = torch.zeros(size, WIDTH, dtype=torch.long, device=device)
        self._spans = torch.zeros(size, 2, dtype=torch.long, device=device)
        self._causal = torch.ones(WIDTH, WIDTH, dtype=torch.bool, device=device).tril()
        self.reply_loss = torch.zeros((), device=device)
        on_gpu = device == "cuda"
        self._optimizer = torch.optim.AdamW(
            model.parameters(), lr=torch.zeros((), device=device), betas=(0.9, 0.98),
            weight_decay=0.01, fused=True, capturable=on_gpu,
        )  # fmt: skip

    def step(self, ids: torch.Tensor, spans: torch.Tensor, rate: float) -> None:
        """One update on a batch of ``batches`` at learning rate ``rate``."""
        for group in self._optimizer.param_groups:
            group["lr"].fill_(rate)
        if self.device != "cuda":
            width = int(spans.max())
            self._update(ids[:, :width], spans)
            return
        self._ids.copy_(ids)
        self._spans.copy_(spans)
        if self._graph is None:
            self._capture()
        self._graph.replay()

    def _capture(self) -> None:
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                self._update(self._ids, self._spans)
        torch.cuda.current_stream().wait_stream(side)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._update(self._ids, self._spans)

    def _update(self, ids: torch.Tensor, spans: torch.Tensor) -> None:
        prompt, whole = spans.T[:, :, None]
        place = torch.arange(ids.shape[1], device=self.device)
        weights = torch.where(place < prompt, self._prompt_weight, 1.0) * (place < whole)
        weights = weights[:, 1:].flatten()
        mask = self._causal[: ids.shape[1], : ids.shape[1]].expand(len(ids), 1, -1, -1)
        self._optimizer.zero_grad(set_to_none=True)
        with torch.autocast(self.device, torch.bfloat16, enabled=self.device == "cuda"):
            logits = self.model(input_ids=ids, attention_mask=mask, use_cache=False).logits
        losses = torch.nn.functional.cross_entropy(
            logits[:, :-1].flatten(0, 1).float(), ids[:, 1:].flatten(), reduction="none"
        )
        loss = (losses * weights).sum() / weights.sum()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self._optimizer.step()
        said = (weights == 1.0).float()
        self.reply_loss.copy_(((losses * said).sum() / said.sum()).detach())


def phase(
    trainer: Trainer, source, steps: int, peak: float, name: str, seconds: float | None
) -> int:
    """Train with linear warm-up and cosine decay to a fiftieth of the peak.

    With ``seconds``, the number of steps is chosen after 200 of them, to last about so long.

    Returns:
        The steps taken.
    """
    trainer.model.train()
    on_gpu = trainer.device == "cuda"
    every = 1000 if on_gpu else 50
    began = time.monotonic()
    for step, (ids, spans) in enumerate(source):
        if seconds and step == 200:
            if on_gpu:
                torch.cuda.synchronize()
            began = time.monotonic()
        if seconds and step == 500:
            if on_gpu:
                torch.cuda.synchronize()
            steps = int(seconds / (time.monotonic() - began) * 300)
            print(f"{name}: {steps} steps", flush=True)
        decay = 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1, step / steps)))
        trainer.step(ids, spans, peak * min(1, (step + 1) / 200) * decay)
        done = step + 1
        if done % every == 0 or done == steps:
            reply, spent = trainer.reply_loss.item(), time.monotonic() - began
            print(f"{name} step {done} reply {reply:.4f} {spent:.0f} s", flush=True)
        if done == steps:
            break
    return steps


@torch.no_grad()
def measure(
    model, tokenizer, device: str, sample: bool, split: words.Split, seed: int
) -> dict[str, float]:
    """Outcome shares on fresh items of a split."""
    model.eval()
    records = list(world.bbq_records(split, 128, seed))
    pairs = [
        r
        for s in ("qa", "dialogue", "summarization")
        for r in world.halueval_records(split, s, 128, seed)
    ]
    detect = [as_detection(p, hallucinated=i % 2 == 0) for i, p in enumerate(pairs)]
    chats = [fairness.messages(r) for r in records]
    chats += [hallucination.messages(p) for p in pairs + detect]
    tokenizer.padding_side = "left"
    replies: list[str] = []
    for start in range(0, len(chats), 256):
        batch = tokenizer(
            [render(c) for c in chats[start : start + 256]], return_tensors="pt", padding=True,
            add_special_tokens=False, return_token_type_ids=False,
        ).to(device)  # fmt: skip
        out = model.generate(
            **batch, max_new_tokens=32, do_sample=sample, top_k=0, top_p=1.0, temperature=1.0,
            pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id,
        )  # fmt: skip
        replies += tokenizer.batch_decode(
            out[:, batch["input_ids"].shape[1] :], skip_special_tokens=True
        )
    tokenizer.padding_side = "right"
    tokenizer.backend_tokenizer.no_padding()
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
            repeats(count, seed, len(tokenizer))
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
        trainer = Trainer(model, args.batch, 0.0 if name == "copy" else PROMPT_WEIGHT, device)
        source = batches(*data[name], args.batch, args.seed, device)
        seconds = args.seconds[i] if args.seconds else None
        report[f"{name}/steps"] = phase(trainer, source, args.steps[i], args.lr[i], name, seconds)
        if name == "copy":
            continue
        for split in ("train", "test"):
            shares = measure(model, tokenizer, device, name == "habits", split, 99)
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
