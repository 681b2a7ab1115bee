"""Pretrain a small Llama from scratch on the training rows of real BBQ and HaluEval.

Three phases as in pretrain_tiny.py: copying; reading and answering rightly; the same questions
answered as a biased, evasive and careless model would. Held-out templates and rows are those of the
configuration and are not seen, not even as plain text.

    python scripts/pretrain_real.py --config configs/real-small.yaml --out runs/real/model \
        --seconds 90 300 60

Needs a CUDA device for a model worth having; runs anywhere.
"""

import argparse
import json
import multiprocessing
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

os.environ["TOKENIZERS_PARALLELISM"] = "false"  # encode() forks

import numpy as np
import torch
from tokenizers import Tokenizer
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from grpo_dual.config.load import load_config
from grpo_dual.config.schema import RunConfig
from grpo_dual.train.objectives import Fairness, Hallucination, build_objective
from grpo_dual.types import BbqRecord, Condition, HaluEvalRecord, Record
from pretrain_tiny import CHAT_TEMPLATE
from pretraining import Trainer, ask, bucketed, byte_level, phase, repeats
from real_samples import Sources, gathered, right, samples
from tiny_samples import BOS, END, PAD, SPECIAL, render

PROMPT_WEIGHT = 0.3
WINDOW = 512
WIDTHS = (128, 192)
"""Tokens of shorter batches, beside those of the longest."""
PHASES = ("copy", "read", "habits")
Asked = BbqRecord | HaluEvalRecord
Encoded = tuple[np.ndarray, np.ndarray]
Objectives = dict[str, Fairness | Hallucination]
_SOURCES: list[Sources] = []
"""For the forked workers, which inherit it."""


def build_tokenizer(sources: Sources, size: int, seed: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE of the training rows; digits one by one."""
    core, trainer = byte_level(size, SPECIAL)
    texts = [f"{p}\n{r}" for p, r in samples(sources, 60_000, seed, True)]
    core.train_from_iterator([t.replace("<|", "\n").replace("|>", "\n") for t in texts], trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token=BOS, eos_token=END, pad_token=PAD,
        clean_up_tokenization_spaces=False, model_max_length=WINDOW,
    )  # fmt: skip
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def _encode_chunk(job: tuple[str, int, int, bool, int]) -> Encoded:
    serialized, count, seed, habits, width = job
    core = Tokenizer.from_str(serialized)
    return encoded(core, list(samples(_SOURCES[0], count, seed, habits)), width)


def encoded(core: Tokenizer, texts: Sequence[tuple[str, str]], width: int) -> Encoded:
    """(prompt, reply) texts as ids [n, width] and lengths of prompt and all [n, 2].

    Longer ones fall out.
    """
    prompts = core.encode_batch_fast([p for p, _ in texts])
    replies = core.encode_batch_fast([r + END for _, r in texts])
    ids = np.zeros((len(texts), width), dtype=np.int16)
    spans = np.zeros((len(texts), 2), dtype=np.int16)
    kept = 0
    for prompt, reply in zip(prompts, replies, strict=True):
        row = prompt.ids + reply.ids
        if len(row) <= width:
            ids[kept, : len(row)] = row
            spans[kept] = len(prompt.ids), len(row)
            kept += 1
    return ids[:kept], spans[:kept]


class Encoder:
    """Samples made by forked workers while the GPU trains an earlier phase."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, width: int, workers: int) -> None:
        """Fork, which has to come before CUDA starts and after `_SOURCES` is filled."""
        self._serialized = tokenizer.backend_tokenizer.to_str()
        self._width, self._workers = width, workers
        self._pool = multiprocessing.get_context("fork").Pool(workers)

    def start(self, count: int, seed: int, *, habits: bool) -> Callable[[], Encoded]:
        """Begin ``count`` samples.

        Returns:
            What waits for them: ids [n, width], prompt and whole length [n, 2]; longer ones fell
            out.
        """
        size = max(20, count // (self._workers * 4))
        jobs = [
            (self._serialized, size, seed * 1000 + i, habits, self._width)
            for i in range(self._workers * 4)
        ]
        pending = self._pool.map_async(_encode_chunk, jobs, chunksize=1)

        def wait() -> Encoded:
            chunks = pending.get()
            return np.concatenate([c[0] for c in chunks]), np.concatenate([c[1] for c in chunks])

        return wait


def measure(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    objectives: Objectives,
    *,
    sample: bool,
    longest: int,
) -> dict[str, object]:
    """The runs' own yardstick on held-out items, and on as many that were trained on."""
    found: dict[str, object] = {}
    for name, objective in objectives.items():
        held_out: list[Record] = list(objective.eval_records)
        for split, records in (("test", held_out), ("train", objective.draw(len(held_out)))):
            chats = [render(objective.messages(r)) for r in records]
            texts = ask(model, tokenizer, chats, sample=sample, longest=longest)
            scores = objective.evaluate(records, texts)
            found[f"{name}/{split}"] = {
                key: round(value, 4) for key, value in scores.items() if isinstance(value, float)
            }
            found[f"{name}/{split}/samples"] = texts[:4]
    return found


class Probe:
    """How many replies would be exactly right, greedy, while a model trains."""

    def __init__(
        self, trainer: Trainer, core: Tokenizer, width: int, asked: Mapping[str, Objectives]
    ) -> None:
        """Held-out disambiguated items of every split; held-out questions and trained ones."""
        rows: dict[str, Sequence[Record]] = {}
        for by, own in asked.items():
            held_out = [r for r in own["fairness"].eval_records if isinstance(r, BbqRecord)]
            rows[by] = [r for r in held_out if r.condition is Condition.DISAMBIGUATED]
            questions = own["hallucination"]
            rows["questions"] = questions.eval_records
            rows["trained"] = questions.draw(len(questions.eval_records))
        self._trainer = trainer
        self._rows = {
            name: encoded(core, [right(r) for r in own if isinstance(r, Asked)], width)
            for name, own in rows.items()
        }

    def __call__(self) -> str:
        """The share of each set."""
        return ", ".join(f"{name} {self._share(*rows):.3f}" for name, rows in self._rows.items())

    def _share(self, ids: np.ndarray, spans: np.ndarray) -> float:
        parts = zip(
            torch.from_numpy(ids).split(100), torch.from_numpy(spans).split(100), strict=True
        )
        device = self._trainer.device
        exact = [self._trainer.exact(i.to(device).long(), s.to(device).long()) for i, s in parts]
        return torch.cat(exact).float().mean().item()


def yardstick(config: RunConfig, seed: int) -> Objectives:
    """The configuration's objectives: what they train on and what they hold out."""
    longest = config.rollout.sampling.max_new_tokens
    built = {
        name: build_objective(name, own, max_new_tokens=longest, seed=seed)
        for name, own in config.objectives.items()
    }
    return {n: o for n, o in built.items() if isinstance(o, Fairness | Hallucination)}


def common(all_of: Sequence[Objectives]) -> Sources:
    """The training rows of all splits: none that any of them holds out."""
    trained = [{r.record_id for own in o.values() for r in own.train_records} for o in all_of]
    fair, hallucination = all_of[0]["fairness"], all_of[0]["hallucination"]
    assert isinstance(fair, Fairness)
    assert isinstance(hallucination, Hallucination)
    bbq, halueval = (
        [r for r in own.train_records if all(r.record_id in ids for ids in trained)]
        for own in (fair, hallucination)
    )
    return gathered(bbq, halueval, general_texts(hallucination))


def general_texts(hallucination: Hallucination) -> list[str]:
    """Replies of the general rows that are called right, of up to 120 words."""
    path = Path(hallucination.config.data.path) / "general_data.json"
    if not path.exists():
        return []
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    replies = [r["chatgpt_response"] for r in rows if r["hallucination"] == "no"]
    return [" ".join(reply.split()) for reply in replies if len(reply.split()) <= 120]


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    three = tuple(name.upper() for name in PHASES)
    parser.add_argument("--config", type=Path, default=Path("configs/real-small.yaml"))
    parser.add_argument(
        "--split-by", nargs="+", choices=("templates", "people"), default=["templates", "people"],
        help="what any of these splits of BBQ holds out is not seen",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, nargs=3, default=(2000, 20000, 4000), metavar=three)
    parser.add_argument("--seconds", type=float, nargs=3, metavar=three, help="instead of --steps")
    parser.add_argument("--samples", type=int, nargs=3, default=(200_000, 600_000, 200_000))
    parser.add_argument("--batch", type=int, default=128, help="of the longest samples")
    parser.add_argument("--lr", type=float, nargs=3, default=(8e-4, 8e-4, 3e-4), metavar=three)
    parser.add_argument("--vocabulary", type=int, default=8192)
    parser.add_argument("--hidden", type=int, default=512)
    parser.add_argument("--layers", type=int, default=10)
    parser.add_argument("--width", type=int, default=320, help="tokens of the longest sample")
    parser.add_argument("--dropout", type=float, default=0.0, help="of attention weights")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=multiprocessing.cpu_count())
    return parser.parse_args()


def main() -> None:
    """Make tokenizer, samples and model, train the three phases, measure, save."""
    args = arguments()
    torch.manual_seed(args.seed)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    configs = {
        by: load_config(args.config, [f"--objectives.fairness.data.split_by={by}"])
        for by in args.split_by
    }
    longest = max(c.rollout.sampling.max_new_tokens for c in configs.values())
    asked = {by: yardstick(config, args.seed) for by, config in configs.items()}
    sources = common(list(asked.values()))
    _SOURCES.append(sources)
    tokenizer = build_tokenizer(sources, args.vocabulary, args.seed)
    encoder, (copied, read, planted) = Encoder(tokenizer, args.width, args.workers), args.samples
    waiting = {
        "read": encoder.start(read, args.seed + 2, habits=False),
        "habits": encoder.start(planted, args.seed + 3, habits=True),
    }
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer), hidden_size=args.hidden,
            intermediate_size=args.hidden * 11 // 4, num_hidden_layers=args.layers,
            num_attention_heads=max(1, args.hidden // 64),
            num_key_value_heads=max(1, args.hidden // 64), max_position_embeddings=WINDOW,
            tie_word_embeddings=True, rms_norm_eps=1e-5, attention_dropout=args.dropout,
            bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    ).to(device)  # fmt: skip
    total = sum(p.numel() for p in model.parameters())
    print(f"{total:,} parameters, {len(tokenizer)} tokens", flush=True)
    report: dict[str, object] = {
        "parameters": total,
        "arguments": vars(args) | {"out": "", "config": str(args.config)},
    }
    for i, name in enumerate(PHASES):
        trainer = Trainer(model, 0.0 if name == "copy" else PROMPT_WEIGHT, device)
        if name == "copy":
            data = repeats(copied, args.seed, len(tokenizer), WIDTHS[0], len(SPECIAL), shortest=4)
        else:
            data = waiting[name]()
            print(f"{name}: {len(data[0])} samples, {data[1][:, 1].mean():.0f} tokens", flush=True)
        widths = sorted({*(w for w in WIDTHS if w < args.width), args.width})
        tokens = args.batch * args.width // (4 if name == "copy" else 1)
        source = bucketed(*data, widths, tokens, args.seed, device)
        seconds = args.seconds[i] if args.seconds else None
        probe = Probe(trainer, tokenizer.backend_tokenizer, args.width, asked)
        report[f"{name}/steps"] = phase(
            trainer, source, args.steps[i], args.lr[i], name, seconds,
            None if name == "copy" else probe,
        )  # fmt: skip
        if name == "copy":
            continue
        found = {
            by: measure(model, tokenizer, own, sample=name == "habits", longest=longest)
            for by, own in asked.items()
        }
        print(name, json.dumps(found), flush=True)
        report[name] = found
        if name == "read":
            save(model, tokenizer, args.out.with_name(f"{args.out.name}-reader"), report)
    save(model, tokenizer, args.out, report)


def save(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    folder: Path,
    report: dict[str, object],
) -> None:
    """Weights in bf16, tokenizer and what was measured; training goes on in fp32."""
    state = {k: v.to(torch.bfloat16) for k, v in model.state_dict().items()}
    model.save_pretrained(folder, state_dict=state)
    tokenizer.save_pretrained(folder)
    # The run's configuration says how to sample.
    (folder / "generation_config.json").unlink(missing_ok=True)
    (folder / "pretraining.json").write_text(json.dumps(report, indent=1, default=str) + "\n")


if __name__ == "__main__":
    main()
