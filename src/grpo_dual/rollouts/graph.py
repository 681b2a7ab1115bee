"""The in-place engine: rollouts on the trainer's own weights, decode steps as CUDA graphs.

Each prompt is run once; its keys and values are shared by its K completions. A decode step, drawing
included, is captured once for a few batch sizes and replayed; sequences that have finished leave
the batch, which then goes on in the next smaller captured size. On the CPU the same code runs
without graphs. The base weights are the trainer's, and the live adapter is staged anew before every
rollout: nothing is merged, copied or synchronised with another process.

The Llama family has a decode step of its own (fused.py; on the CPU decode.py), all other decoders
go through their modules (modules.py).
"""

from collections.abc import Hashable, Sequence
from typing import Any

import torch
from torch import Tensor

from grpo_dual.config.schema import SamplingConfig
from grpo_dual.errors import ModelError
from grpo_dual.model.family import UnsupportedError
from grpo_dual.model.policy import Policy
from grpo_dual.rollouts.batch import Batch, Look
from grpo_dual.rollouts.captures import Captures
from grpo_dual.rollouts.decode import Decoder, DecodeStep, prefill
from grpo_dual.rollouts.drawing import Drawer
from grpo_dual.rollouts.engine import Codec
from grpo_dual.rollouts.modules import Modules
from grpo_dual.rollouts.output import Output
from grpo_dual.rollouts.pool import Pool, Rows, power_below
from grpo_dual.rollouts.transformers import TransformersEngine
from grpo_dual.rollouts.weights import Weights, check_fused
from grpo_dual.types import Prompt, Rollout, RolloutGroup

SIZES = (1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
"""Batch sizes that are captured when they are needed."""
LOOK_EVERY = 8
"""Steps between two looks at which sequences have finished."""
LOOK_AFTER = 2
"""Steps that are launched before a look is read, so that the device has work meanwhile."""
_SLOT_STEP = 4096
"""The pool grows by whole multiples, since graphs of an old pool are captured again."""
_FREE_SHARE = 0.8
"""Share of the free memory that a wave's keys and values may take."""
_PREFILL_TOKENS = 8192
"""Prompt tokens in one pass."""


class GraphEngine:
    """Implements :class:`grpo_dual.rollouts.engine.Engine`."""

    def __init__(
        self, policy: Policy, codec: Codec, sampling: SamplingConfig, *, max_sequences: int
    ) -> None:
        """Bind the engine to a policy.

        Args:
            policy: its live adapter is sampled from.
            codec: EOS ids, pad id and decoding.
            sampling: the behaviour policy.
            max_sequences: sequences at once; more prompts run in waves.

        Raises:
            UnsupportedError: The model takes no flat rows, its layers keep different keys and
                values, or sampling truncates by top-p alone.
        """
        if sampling.top_p < 1.0 and sampling.top_k == 0:
            raise UnsupportedError("top_p without top_k keeps any number of ids")
        self._policy = policy
        self._codec = codec
        self._sampling = sampling
        self._max_sequences = max_sequences
        self._graphs = policy.device.type == "cuda"
        self._looks = (LOOK_EVERY, LOOK_AFTER) if self._graphs else (1, 0)
        dtype = policy.causal_lm.dtype
        if self._graphs and dtype not in (torch.bfloat16, torch.float16):
            raise UnsupportedError(f"{dtype} on CUDA; its kernels are for 16 bit")
        if not policy.flat:
            raise UnsupportedError("the model's attention takes no flat rows")
        self.slower: str | None = None
        """Why the model's own modules are gone through, not a step made for its family; or None."""
        self._decoder = self._decode_step()
        self._state: Hashable = None
        """Of the adapter, as far as captured graphs cannot see it."""
        self._long = TransformersEngine(policy, codec, sampling, max_sequences=max_sequences)
        """For sequences longer than an attention window, which the pool does not respect."""
        self._pool: Pool | None = None
        self._drawers = {
            greedy: Drawer(sampling, codec.eos_ids, policy.device, greedy=greedy)
            for greedy in (False, True)
        }
        """Sampling as configured, and greedy."""
        self._batches: dict[tuple[int, bool, int, Hashable], Batch] = {}
        self._output: Output | None = None
        self._captures = Captures(policy.device) if self._graphs else None

    def generate(
        self, prompts: Sequence[Prompt], k: int, *, greedy: bool = False
    ) -> list[RolloutGroup]:
        """See :class:`grpo_dual.rollouts.engine.Engine`.

        Raises:
            ModelError: Steps cannot be captured any more, or several adapters are active.
        """
        try:
            return self.attempt(prompts, k, greedy=greedy)
        except UnsupportedError as reason:
            raise ModelError(
                f"rollouts in place are not possible any more: {reason}. Set rollout.engine: "
                "transformers, or activate one adapter that is not merged."
            ) from reason

    def attempt(
        self, prompts: Sequence[Prompt], k: int, *, greedy: bool = False
    ) -> list[RolloutGroup]:
        """As :meth:`generate`, for who can do without it.

        Raises:
            UnsupportedError: Steps cannot be captured, or several adapters are active.
        """
        self._state = self._decoder.refresh()
        window, span = self._policy.window, self._sampling.max_new_tokens
        beyond = [i for i, p in enumerate(prompts) if window and len(p.token_ids) + span > window]
        groups = dict(
            zip(
                beyond,
                self._long.generate([prompts[i] for i in beyond], k, greedy=greedy),
                strict=True,
            )
        )
        with self._policy.sampling():
            within = [i for i in range(len(prompts)) if i not in groups]
            for wave in self._waves(prompts, within, k):
                drawn = self._wave([prompts[i].token_ids for i in wave], k, greedy=greedy)
                for place, i in enumerate(wave):
                    own = drawn[place * k : (place + 1) * k]
                    groups[i] = RolloutGroup(prompts[i], tuple(own))
        return [groups[i] for i in range(len(prompts))]

    def _decode_step(self) -> DecodeStep:
        """The fastest one that is exact."""
        try:
            if self._policy.layers != "fused":
                raise UnsupportedError(self._policy.unfused or "its layers go through Transformers")
            if not self._graphs:
                return Decoder(Weights(self._policy))
            check_fused(self._policy)
            from grpo_dual.rollouts.fused import Fused  # triton: on CUDA only

            return Fused(Weights(self._policy))
        except UnsupportedError as reason:
            self.slower = str(reason)
            return Modules(self._policy)

    def _waves(self, prompts: Sequence[Prompt], within: Sequence[int], k: int) -> list[list[int]]:
        """Those of the prompts ``within``, as they run together: of like length, few enough."""
        limit = self._slot_limit()
        span = self._sampling.max_new_tokens
        waves: list[list[int]] = []
        used = 0
        for i in sorted(within, key=lambda i: len(prompts[i].token_ids)):
            need = len(prompts[i].token_ids) + k * span
            full = waves and (len(waves[-1]) + 1) * k > self._max_sequences
            if not waves or full or used + need + span > limit:
                waves.append([])
                used = 0
            waves[-1].append(i)
            used += need
        return waves

    def _slot_limit(self) -> int:
        if not self._graphs:
            return 1 << 40
        slot = self._decoder.slot
        free, _ = torch.cuda.mem_get_info(slot.device)
        cached = torch.cuda.memory_reserved(slot.device) - torch.cuda.memory_allocated(slot.device)
        own = self._pool.slots if self._pool is not None else 0
        return int((free + cached) * _FREE_SHARE / slot.bytes) + own

    def _wave(self, prompts: list[tuple[int, ...]], k: int, *, greedy: bool) -> list[Rollout]:
        span, count = self._sampling.max_new_tokens, len(prompts) * k
        starts = [0]
        for ids in prompts:
            starts.append(starts[-1] + len(ids))
        pool = self._reserve(starts[-1] + count * span, max(map(len, prompts)), count)
        output = self._output
        assert output is not None
        drawer = self._drawers[greedy]
        batch = self._batch(count, drawer, power_below(k))
        self._fill(batch, prompts, starts, k)
        states = self._prefill(prompts, starts[:-1], pool)
        # The first token of every completion, from its prompt's last state; fillers take any.
        first = torch.arange(count, device=states.device) // k
        logits = self._policy.logits(states)[first]
        if batch.size > count:
            logits = torch.cat([logits, logits[:1].expand(batch.size - count, -1)])
        self._draw(batch, logits)
        every, after = self._looks
        look: Look | None = None
        for step in range(1, span):
            if step % every == 0:
                look = Look(batch.finished)
            if look is not None and step % every == after:
                smaller = self._compact(batch, look.going())
                if smaller is None:
                    break
                batch, look = smaller, None
            if batch.graph is None:
                self._step(batch)
            else:
                batch.graph.replay()
        return output.rollouts(count, self._sampling, self._codec, truncated=drawer.truncates)

    def _prefill(self, prompts: list[tuple[int, ...]], starts: list[int], pool: Pool) -> Tensor:
        parts: list[Tensor] = []
        begin = 0
        for end in range(1, len(prompts) + 1):
            if end == len(prompts) or sum(map(len, prompts[begin : end + 1])) > _PREFILL_TOKENS:
                own = prompts[begin:end]
                parts.append(prefill(self._policy, own, starts[begin:end], pool))
                begin = end
        return torch.cat(parts)

    # State.

    def _reserve(self, slots: int, longest: int, count: int) -> Pool:
        """Make pool, tables and output large enough; graphs of what is replaced are dropped."""
        span = self._sampling.max_new_tokens
        slots = -(-(slots + span) // _SLOT_STEP) * _SLOT_STEP if self._graphs else slots + span
        positions = longest + span
        if self._pool is None or self._pool.slots < slots:
            self._drop()
            self._pool = None
            self._pool = Pool.allocate(self._decoder.slot, slots)
        if self._decoder.reserve(positions):
            self._drop()
        if self._output is None or len(self._output.tokens) <= count:
            self._drop()
            most = max(count, self._max_sequences if self._graphs else 0)
            self._output = Output.allocate(
                most, self._sampling, self._decoder.slot.dtype, self._policy.device
            )
        return self._pool

    def _drop(self) -> None:
        self._batches.clear()
        if self._captures is not None:
            self._captures = Captures(self._policy.device)

    def _size(self, count: int) -> int:
        """The captured size for so many sequences; exactly so many without graphs."""
        if not self._graphs:
            return count
        return next((size for size in SIZES if size >= count), -(-count // 128) * 128)

    def _batch(self, count: int, drawer: Drawer, together: int) -> Batch:
        """A batch of the size for ``count`` sequences, captured on CUDA; its rows are fillers."""
        size = self._size(count)
        key = (size, drawer.greedy, together, self._state)
        batch = self._batches.get(key)
        if batch is None:
            batch = self._new_batch(size, drawer, together)
            if self._graphs:
                self._capture(batch)
                self._batches[key] = batch
        self._idle(batch)
        return batch

    def _new_batch(self, size: int, drawer: Drawer, together: int) -> Batch:
        device = self._policy.device
        ints = lambda: torch.zeros(size, dtype=torch.int32, device=device)  # noqa: E731
        rows = Rows(
            tokens=torch.zeros(size, dtype=torch.int64, device=device),
            prompt=ints(),
            length=ints(),
            own=ints(),
            step=torch.zeros(1, dtype=torch.int32, device=device),
            together=together,
        )
        seen = None
        if drawer.penalises:
            head: Any = self._policy.causal_lm.get_output_embeddings()
            vocabulary = head.weight.shape[0]
            seen = torch.zeros(size, vocabulary, dtype=torch.bool, device=device)
        batch = Batch(
            rows,
            drawer,
            torch.zeros(size, dtype=torch.int64, device=device),
            torch.zeros(size, dtype=torch.bool, device=device),
            seen,
        )
        self._idle(batch)
        return batch

    def _idle(self, batch: Batch) -> None:
        """Make all rows fillers: no prompt, the pool's last slots, the spare row."""
        assert self._pool is not None
        assert self._output is not None
        span = self._sampling.max_new_tokens
        batch.rows.tokens.zero_()
        batch.rows.prompt.fill_(-1)
        batch.rows.length.zero_()
        batch.rows.own.fill_(self._pool.slots - span)
        batch.rows.step.zero_()
        batch.place.fill_(len(self._output.tokens) - 1)
        batch.finished.fill_(True)
        if batch.seen is not None:
            batch.seen.zero_()

    def _fill(
        self, batch: Batch, prompts: list[tuple[int, ...]], starts: list[int], k: int
    ) -> None:
        span, count, device = self._sampling.max_new_tokens, len(prompts) * k, batch.place.device
        ints = lambda values: torch.tensor(values, dtype=torch.int32, device=device)  # noqa: E731
        batch.rows.prompt[:count] = ints([starts[i // k] for i in range(count)])
        batch.rows.length[:count] = ints([len(prompts[i // k]) for i in range(count)])
        batch.rows.own[:count] = ints([starts[-1] + i * span for i in range(count)])
        batch.place[:count] = torch.arange(count, device=device)
        batch.finished[:count] = False
        if batch.seen is not None:
            for i, ids in enumerate(prompts):
                batch.seen[i * k : (i + 1) * k, torch.tensor(ids, device=device)] = True

    # Steps.

    def _step(self, batch: Batch) -> None:
        """Run the last tokens and draw the next; all that a graph captures."""
        assert self._pool is not None
        states = self._decoder.hidden(batch.rows, self._pool)
        batch.rows.step.add_(1)
        self._draw(batch, self._policy.logits(states))

    def _draw(self, batch: Batch, logits: Tensor) -> None:
        output = self._output
        assert output is not None
        drawn = batch.drawer.draw(logits, batch.seen, batch.rows.step)
        at = (batch.place, batch.rows.step.long().expand(batch.size))
        output.tokens.index_put_(at, drawn.tokens)
        output.logprobs.index_put_(at, drawn.logprobs)
        if drawn.kept_ids is not None and drawn.kept is not None:
            assert output.kept_ids is not None
            assert output.kept is not None
            output.kept_ids.index_put_(at, drawn.kept_ids.int())
            output.kept.index_put_(at, drawn.kept)
        batch.rows.tokens.copy_(drawn.tokens)
        batch.finished.logical_or_(batch.drawer.ends(drawn.tokens))
        if batch.seen is not None:
            batch.seen.scatter_(1, drawn.tokens[:, None], True)

    def _capture(self, batch: Batch) -> None:
        """Capture a step on fillers; what it writes lies in spare slots and rows.

        Raises:
            UnsupportedError: The step waits for the device.
        """
        assert self._captures is not None

        def step() -> None:
            self._step(batch)

        def again() -> None:
            batch.rows.step.zero_()

        batch.graph = self._captures.capture(step, again)

    def _compact(self, batch: Batch, going: Tensor) -> Batch | None:
        """Go on with ``going`` where that saves a size; None when there are none."""
        count, rows = len(going), batch.rows
        if count == 0:
            return None
        if self._size(count) >= batch.size:
            return batch
        going = going.to(batch.place.device)
        state = (rows.tokens, rows.prompt, rows.length, rows.own, batch.place, batch.finished)
        kept = [t[going] for t in state]
        seen = None if batch.seen is None else batch.seen[going]
        step = rows.step.clone()
        smaller = self._batch(count, batch.drawer, rows.together)
        new = smaller.rows
        targets = (
            new.tokens, new.prompt, new.length, new.own, smaller.place, smaller.finished
        )  # fmt: skip
        for target, values in zip(targets, kept, strict=True):
            target[:count] = values
        new.step.copy_(step)
        if smaller.seen is not None and seen is not None:
            smaller.seen[:count] = seen
        return smaller
