"""One optimiser step: per-objective gradients, their weights, the finite check and the update.

    L = sum_k w_k (PG_k + beta_k KL_k)

Each objective's gradient is accumulated on its own (its micro-batches hold no other), so that norms
and the conflict cosine cost nothing but the copies of LoRA-sized gradients.
"""

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from grpo_dual.config.schema import LossConfig, OptimizerConfig, SamplingConfig
from grpo_dual.errors import NumericsError
from grpo_dual.loss.conflict import cosines, gradient_norms, gram_matrix, half_cosine
from grpo_dual.loss.grpo import LossSums, objective_loss
from grpo_dual.loss.kl import KlController, k3
from grpo_dual.metrics.values import Max, Mean
from grpo_dual.model.head import TokenStats
from grpo_dual.model.packing import join
from grpo_dual.model.policy import Policy
from grpo_dual.train.batch import MicroBatch, ObjectiveBatch, PackedGroups
from grpo_dual.train.canary import refuse_strangers
from grpo_dual.train.optimizer import adamw
from grpo_dual.train.schedule import learning_rate_at
from grpo_dual.train.token_sums import TokenSums, TokenTotals
from grpo_dual.train.update import ObjectiveUpdate, Update

MAX_SKIPPED = 3
"""Non-finite updates in a row after which the run stops."""
_REFERENCE_TOKENS = 16384
"""Tokens of flat rows in one pass without gradient."""


class Updater:
    """Optimiser, KL controllers and what else moves from update to update."""

    def __init__(
        self,
        policy: Policy,
        controllers: Mapping[str, KlController],
        weights: Mapping[str, float],
        *,
        loss: LossConfig,
        optimizer: OptimizerConfig,
        sampling: SamplingConfig,
        total_updates: int,
    ) -> None:
        """Bind to a policy; ``weights`` sum to 1."""
        self.policy = policy
        self.controllers = controllers
        self.weights = weights
        self._loss = loss
        self._config = optimizer
        self._temperature = sampling.temperature
        self._total = total_updates
        self._parameters = [p for _, p in policy.trainable_parameters()]
        self.optimizer = adamw(self._parameters, optimizer, fused=policy.device.type == "cuda")
        self.updates = 0
        self.lr_factor = 1.0
        self.skipped_run = 0
        self._pinned: set[str] = set()

    def state_dict(self) -> dict[str, object]:
        """Everything that moves but the optimiser's tensors; JSON-able."""
        return {
            "updates": self.updates,
            "lr_factor": self.lr_factor,
            "skipped_run": self.skipped_run,
            "controllers": {name: c.state_dict() for name, c in self.controllers.items()},
        }

    def load_state_dict(self, state: Mapping[str, object]) -> None:
        """Go on where ``state_dict`` was taken; a controller without a state begins anew."""
        controllers = state["controllers"]
        assert isinstance(controllers, dict)
        self.updates = int(str(state["updates"]))
        self.lr_factor = float(str(state["lr_factor"]))
        self.skipped_run = int(str(state["skipped_run"]))
        for name, controller in self.controllers.items():
            if name in controllers:
                controller.load_state_dict(controllers[name])

    @torch.no_grad()
    def add_reference(self, batches: Sequence[PackedGroups]) -> None:
        """Log-probs under the reference, once for all updates of the step."""
        with self.policy.inference(), self.policy.reference():
            for together in _passes([m for b in batches for m in b.micro]):
                stats = self._stats_of(together)
                counts = [micro.batch.num_tokens for micro in together]
                own = zip(
                    together,
                    stats.logprobs.split(counts),
                    stats.logprobs_model.split(counts),
                    strict=True,
                )
                for micro, logprobs_N, model_N in own:
                    micro.reference_N, micro.reference_model_N = logprobs_N, model_N

    @torch.no_grad()
    def add_old(self, batches: Sequence[PackedGroups]) -> None:
        """Log-probs before the first update; only needed when samples serve several updates."""
        with self.policy.inference():
            for micro in (m for b in batches for m in b.micro):
                micro.old_N = self._stats(micro).logprobs

    def check_sampler(self, batches: Sequence[PackedGroups]) -> None:
        """Refuse to train when sampler and trainer disagree about the first rollouts.

        Raises:
            NumericsError: Their log-probs differ by more than rounding.
        """
        with torch.no_grad(), self.policy.inference():
            gaps = [self._stats(m).logprobs - m.behaviour_N for b in batches for m in b.micro]
        refuse_strangers(torch.cat(gaps))

    def _stats(self, micro: MicroBatch) -> TokenStats:
        return self._stats_of([micro])

    def _stats_of(self, together: Sequence[MicroBatch]) -> TokenStats:
        """Of several micro-batches, one pass: flat rows without a processor can be joined."""
        one = together[0]
        return self.policy.token_stats(
            one.batch if len(together) == 1 else join([m.batch for m in together]),
            temperature=self._temperature,
            chunk=self._loss.head_chunk,
            processor=one.processor,
        )

    def update(self, scored: Iterable[ObjectiveBatch], *, fresh: bool = True) -> Update:
        """One optimiser update on the step's batches.

        A non-finite loss or gradient leaves weights and optimiser alone.

        Args:
            scored: Each is asked for when the one before has been computed, so that verdicts which
                are still on their way hide behind it.
            fresh: The policy is still the one that the rollouts were drawn from, and must agree
                with what they recorded (a stale adapter in the sampler is found here).

        Raises:
            NumericsError: It does not; nothing was updated.
        """
        batches: list[ObjectiveBatch] = []
        passes: list[_Pass] = []
        forward_seconds = 0.0
        for batch in scored:
            began = time.perf_counter()
            batches.append(batch)
            passes.append(self._backward(batch))
            forward_seconds += time.perf_counter() - began
        forwarded = time.perf_counter()
        gap_N = torch.cat([p.gap_N for p in passes])
        if fresh and bool(gap_N.isfinite().all()):  # else the update is left out below
            refuse_strangers(gap_N)
        gradients = [p.gradient_D for p in passes]
        gram_OO = gram_matrix([[g_D] for g_D in gradients])
        norms = gradient_norms(gram_OO).tolist()
        grad_norm = self._combine(gradients, [self.weights[b.name] for b in batches])
        loss = sum(
            self.weights[b.name] * p.tokens.loss for b, p in zip(batches, passes, strict=True)
        )
        skipped = not (math.isfinite(loss) and math.isfinite(grad_norm))
        rate = self.lr_factor * learning_rate_at(self.updates, self._total, self._config)
        if not skipped:
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.updates += 1
        self.skipped_run = self.skipped_run + 1 if skipped else 0
        return Update(
            objectives={
                batch.name: _objective_update(batch, result, norm)
                for batch, result, norm in zip(batches, passes, norms, strict=True)
            },
            loss=loss,
            grad_norm=grad_norm,
            cosine=_smallest_cosine(gram_OO),
            learning_rate=rate,
            skipped=skipped,
            forward_seconds=forward_seconds,
            ratio_mean=gap_N.exp().mean().item(),
            gap_max=gap_N.abs().max().item(),
            update_seconds=time.perf_counter() - forwarded,
        )

    def _backward(self, batch: ObjectiveBatch) -> "_Pass":
        """Accumulate one objective's unweighted gradient over its micro-batches."""
        beta = self.controllers[batch.name].beta
        sums: LossSums | None = None
        tokens = TokenSums(self.policy.device)
        gaps: list[Tensor] = []
        half_D: Tensor | None = None
        for index, micro in enumerate(batch.micro):
            if index and index == len(batch.micro) // 2:
                half_D = self._gradient()
            assert micro.advantages_N is not None, "score_groups comes before update"
            assert micro.live_N is not None, "score_groups comes before update"
            stats = self._stats(micro)
            parts = objective_loss(
                stats.logprobs,
                micro.old_N,
                micro.reference_N,
                micro.advantages_N,
                micro.live_N,
                beta=beta,
                clip_low=self._loss.clip_low,
                clip_high=self._loss.clip_high,
                dual_clip=self._loss.dual_clip,
                pg_denominator=batch.live_tokens,
                kl_denominator=batch.tokens,
            )
            parts.total.backward()
            gaps.append((stats.logprobs.detach() - micro.behaviour_N).double())
            sums = parts.sums if sums is None else sums.merge(parts.sums)
            assert micro.reference_N is not None, "add_reference comes before update"
            assert micro.reference_model_N is not None, "add_reference comes before update"
            tokens.add(
                micro.batch,
                stats,
                loss=parts.total,
                kl_N=k3(stats.logprobs.detach(), micro.reference_N),
                drift_N=k3(stats.logprobs_model.detach(), micro.reference_model_N),
            )
        assert sums is not None
        gradient_D = self._gradient()
        for parameter in self._parameters:
            parameter.grad = None
        return _Pass(
            gradient_D,
            beta,
            sums,
            tokens.read(),
            None if half_D is None else half_cosine(half_D, gradient_D),
            torch.cat(gaps),
        )

    def _gradient(self) -> Tensor:
        """A copy of what has been accumulated, all parameters behind one another."""
        return torch.cat(
            [
                torch.zeros_like(p).flatten() if p.grad is None else p.grad.flatten()
                for p in self._parameters
            ]
        )

    def _combine(self, gradients: Sequence[Tensor], weights: Sequence[float]) -> float:
        """Put ``sum_k w_k g_k`` into the parameters, clipped; return its norm before clipping."""
        total_D = torch.stack([w * g_D for w, g_D in zip(weights, gradients, strict=True)]).sum(0)
        norm = total_D.norm()
        # As torch.nn.utils.clip_grad_norm_ does, on all parameters at once.
        total_D *= (self._config.max_grad_norm / (norm + 1e-6)).clamp(max=1.0)
        parts = total_D.split([p.numel() for p in self._parameters])
        for parameter, part in zip(self._parameters, parts, strict=True):
            parameter.grad = part.view_as(parameter)
        return float(norm)

    def adapt_kl(self, first: Update) -> list[str]:
        """Let every controller move its beta once, by the KL that the step began with.

        Later updates on the same samples see tokens of an older policy; their KL is not asked.

        Args:
            first: The step's first update; a skipped one moves nothing.

        Returns:
            What the user should hear about it.
        """
        told: list[str] = []
        emergency = False
        for name, controller in self.controllers.items():
            kl = first.objectives[name].kl
            move = controller.update(math.nan if first.skipped else kl.total, int(kl.count))
            if move.halve_learning_rate:
                emergency = True
                told.append(
                    f"{name}: KL stayed above 4 targets: beta rises to {move.beta:.3g} and the "
                    "learning rate falls by half"
                )
            if move.pinned and name not in self._pinned:
                told.append(
                    f"{name}: beta has been stopped at a bound ({move.beta:.3g}) for 20 moves: the "
                    "learning rate is wrong or kl.target cannot be reached"
                )
            self._pinned = self._pinned - {name} | ({name} if move.pinned else set())
        self.lr_factor /= 2 if emergency else 1
        return told

    @property
    def diverged(self) -> bool:
        """True after three updates in a row without a finite loss and gradient."""
        return self.skipped_run >= MAX_SKIPPED

    def refuse_divergence(self, last: Update) -> None:
        """Stop a run that has diverged; call it once the step's row and checkpoint are written.

        Raises:
            NumericsError: It has.
        """
        if self.diverged:
            raise NumericsError(
                f"loss ({last.loss}) or gradient norm ({last.grad_norm}) was not finite in "
                f"{self.skipped_run} updates in a row; the weights are those before them, and "
                "everything is saved. Lower train.optimizer.learning_rate, use model.dtype: "
                "float32, or resume from an earlier checkpoint."
            )


@dataclass(frozen=True, slots=True)
class _Pass:
    gradient_D: Tensor
    """Of all trained parameters behind one another."""
    beta: float
    sums: LossSums
    tokens: TokenTotals
    half_cosine: float | None
    gap_N: Tensor
    """Log-prob of the policy minus that of the behaviour policy, fp64."""


def _passes(micros: Sequence[MicroBatch]) -> list[list[MicroBatch]]:
    """Micro-batches that a pass without gradient takes together."""
    passes: list[list[MicroBatch]] = []
    room = 0
    for micro in micros:
        tokens = micro.batch.input_ids.numel()
        joins = micro.batch.runs is not None and micro.processor is None
        if joins and tokens <= room:
            passes[-1].append(micro)
            room -= tokens
        else:
            passes.append([micro])
            room = _REFERENCE_TOKENS - tokens if joins else 0
    return passes


def _objective_update(batch: ObjectiveBatch, result: _Pass, norm: float) -> ObjectiveUpdate:
    return ObjectiveUpdate(
        beta=result.beta,
        loss=result.tokens.loss,
        kl=Mean(float(result.sums.kl_sum), batch.tokens),
        kl_max=Max(float(result.sums.kl_max)),
        clipped=float(result.sums.clipped),
        live_tokens=float(result.sums.live_tokens),
        ratio_max=Max(float(result.sums.ratio_max)),
        grad_norm=norm,
        half_cosine=result.half_cosine,
        tokens=result.tokens,
    )


def _smallest_cosine(gram_OO: Tensor) -> float | None:
    values = cosines(gram_OO)
    pairs = values[torch.triu(torch.ones_like(values, dtype=torch.bool), diagonal=1)]
    finite = pairs[~pairs.isnan()]
    return finite.min().item() if finite.numel() else None
