"""The training loop of all methods."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch.optim import Optimizer

from lib_finetune import randomness
from lib_finetune.ports.processes import ALONE, Processes
from lib_finetune.training.ema import Ema
from lib_finetune.training.loss_log import LossLog
from lib_finetune.training.method import Method
from lib_finetune.training.optim.flat import Flat
from lib_finetune.training.optim.per_parameter import PerParameter
from lib_finetune.training.precision import Precision
from lib_finetune.training.turns import Turns


@dataclass(frozen=True)
class TrainingPlan:
    """The length of a training and the numbers of its steps.

    Attributes:
        steps: optimizer steps of the whole run.
        accumulation: batches summed into a step.
        clip_norm: 0 is off.
        seed: for noise, timesteps and dropout.
        rates: step (0-based) → learning rate by parameter group.
        draws: whether a step draws from torch's global random states, as dropout and stochastic rounding do.
        weight: micro step → weight of its batch in the gradient: its size relative to the mean of all batches, so that each
            image counts alike whatever batch it falls into.
    """

    steps: int
    accumulation: int
    clip_norm: float
    seed: int
    rates: Callable[[int], Mapping[str, float]]
    draws: bool = True
    weight: Callable[[int], float] = lambda micro_step: 1.0


@dataclass
class Trainer:
    """Everything that moves during a run; `train` is the loop."""

    method: Method
    batches: Callable[[int], Any]
    optimizer: Optimizer | PerParameter | Flat
    precision: Precision
    ema: Ema
    loss_log: LossLog
    turns: Turns
    plan: TrainingPlan
    step: int = 0
    processes: Processes = ALONE

    def train(
        self,
        stop_asked: Callable[[], bool],
        due: Callable[[int], bool],
        act: Callable[[int], None],
        *,
        judged: Callable[[], bool] = lambda: True,
    ) -> None:
        """Run from `step` to the end or until a stop is asked.

        Args:
            stop_asked: asked before every step.
            due: whether something is to be done after this step (save, preview).
            act: does what is due, outside a turn.
            judged: whether a forward pass at the end tells if the weights after the last step are good.

        Raises:
            DivergedError: see `LossLog.fetch`; the trained weights are then in their last good state, if one is kept.
        """
        begun = self.step
        batches: list[Any] = []
        self.loss_log.begin(begun)
        while self.step < self.plan.steps and not self.processes.first_says(stop_asked()):
            rates = self.plan.rates(self.step)
            with self.turns.between_steps():  # an image that the cache has lost is encoded in a turn of its own
                batches = [self.batches(micro_step) for micro_step in self._micro_steps()]
            with self.turns.step():
                try:
                    with randomness.preserved() if self.plan.draws else nullcontext():
                        loss, norm = self._one_step(rates, batches)
                except BaseException:
                    self.optimizer.zero_grad(set_to_none=True)  # of a step that will not be
                    raise
                self.step += 1
                self.loss_log.note(loss, norm, rates)
                if self.step == self.plan.steps and judged():  # in the turn of the last step, because another turn may cost a model swap
                    self.loss_log.look_ahead(self._next_loss(batches[-1]))
            if due(self.step):
                self.turns.close()
                self.loss_log.pause()
                act(self.step)
                self.loss_log.resume()
        if begun < self.step < self.plan.steps and judged():
            with self.turns.step():
                self.loss_log.look_ahead(self._next_loss(batches[-1]))
        self.turns.close()
        self.loss_log.fetch()

    def _micro_steps(self) -> range:
        """The batches of the coming step that this process takes: with two processes every second one."""
        first = self.step * self.plan.accumulation
        return range(first + self.processes.rank, first + self.plan.accumulation, self.processes.count)

    def _one_step(self, rates: Mapping[str, float], batches: Sequence[Any]) -> tuple[torch.Tensor, torch.Tensor]:
        """Accumulate, clip, step. Returns (loss, gradient norm), both on the device."""
        for group in self.optimizer.param_groups:
            group["lr"] = rates[group["name"]]
            flat = self.optimizer.groups[group["name"]] if isinstance(self.optimizer, Flat) else None
            for weight in flat.leaves if flat else group["params"]:  # a weight that is not trained needs no gradient
                weight.requires_grad_(group["lr"] > 0 or not any(rates.values()))
        total: torch.Tensor | None = None
        for micro_step, batch in zip(self._micro_steps(), batches, strict=True):
            generator = (randomness.for_step if self.plan.draws else randomness.noise_of)(self.plan.seed, micro_step)
            loss = self.loss(batch, generator)
            self.precision.backward(loss * self.plan.weight(micro_step) / self.plan.accumulation)
            if isinstance(self.optimizer, Flat):
                self.optimizer.gather()
            part = loss.detach() / self.plan.accumulation
            total = part if total is None else total + part
        assert total is not None  # a step has a batch at least
        self.processes.add([total, *self._gradients()])
        norm = self._move()
        self.optimizer.zero_grad(set_to_none=True)
        self.method.after_step()
        self.ema.update(self.step + 1)
        self.method.constrain(self.ema.average)
        return total, norm

    @torch.no_grad()
    def _next_loss(self, batch: Any) -> torch.Tensor:
        """A loss of the present weights: of the last batch, with the noise and timesteps of the next step."""
        following = self.step * self.plan.accumulation
        with randomness.preserved() if self.plan.draws else nullcontext():
            generator = (randomness.for_step if self.plan.draws else randomness.noise_of)(self.plan.seed, following)
            return self.loss(batch, generator)

    def loss(self, batch: Any, generator: torch.Generator) -> torch.Tensor:
        """The method's loss of a batch, by the weights as they are, in the run's precision."""
        if isinstance(self.optimizer, Flat):
            self.optimizer.refresh()
        with self.precision.context():
            return self.method.loss(batch, generator)[0]

    def _move(self) -> torch.Tensor:
        """Clip and step; returns the gradient's norm."""
        if not isinstance(self.optimizer, Flat):
            return self.precision.step(self.optimizer, self.parameters(), self.plan.clip_norm)
        with self.optimizer.holding_still():
            return self.precision.step(self.optimizer.optimizer, list(self.optimizer.wholes.values()), self.plan.clip_norm)

    def _gradients(self) -> Iterator[torch.Tensor]:
        """What the optimizer reads, in an order of its own that is the same in every process."""
        if self.processes.count > 1:
            yield from (weight.grad for group in self.optimizer.param_groups for weight in group["params"] if weight.grad is not None)

    def parameters(self) -> list[torch.nn.Parameter]:
        """All trained parameters."""
        return [parameter for group in self.method.parameters().values() for parameter in group.values()]

    def forget_step(self) -> None:
        """Be as before a step that failed half-way, so that it can be tried once more."""
        for optimizer in self._optimizers() if self.step == 0 else []:
            optimizer.state.clear()  # of which a part may be missing
        self.precision.forget_step()

    def close(self) -> None:
        """Release what the optimizer and the average hold; training is over."""
        for optimizer in self._optimizers():
            optimizer.state.clear()
        self.optimizer.zero_grad(set_to_none=True)
        self.ema.close()

    def _optimizers(self) -> list[Optimizer]:
        """Those of torch."""
        if isinstance(self.optimizer, PerParameter):
            return self.optimizer.optimizers
        return [self.optimizer.optimizer if isinstance(self.optimizer, Flat) else self.optimizer]

    def held(self) -> Iterator[torch.Tensor]:
        """Everything that stays on the device from step to step: weights, summed gradients, the optimizer's state, the average."""
        for parameter in self.parameters():
            yield parameter
            if parameter.grad is not None:
                yield parameter.grad
        yield from self.ema.tensors.values()
        for optimizer in self._optimizers():
            yield from _tensors(optimizer.state)

    def state(self) -> dict[str, Any]:
        """What `load_state` needs to resume exactly. Random numbers and data order are not part of it, because they follow from the step."""
        trained = {name: parameter for group in self.method.parameters().values() for name, parameter in group.items()}
        return {
            "step": self.step,
            "parameters": trained,
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.precision.state(),
            "ema": self.ema.average,
            "ledger": self.loss_log.state(),
        }

    def load_state(self, state: Mapping[str, Any], *, proven: bool = True) -> None:
        """Continue from a state that `state` gave.

        Args:
            proven: whether the state is known to be good (`LossLog`).
        """
        for group in self.method.parameters().values():
            for name, parameter in group.items():
                parameter.data.copy_(state["parameters"][name])
        restore(self.optimizer, state["optimizer"])
        self.precision.load_state(state["scaler"])
        for name, value in state["ema"].items():
            self.ema.average[name].copy_(value)
        self.loss_log.load_state(state.get("ledger", {}), proven)  # older states have none
        self.step = state["step"]


def restore(optimizer: Optimizer | PerParameter | Flat, state: Mapping[str, Any]) -> None:
    """Load an optimizer's state; what is held value by value lies in memory as its weight does, as it did before it was saved.

    Fused kernels pair values by their position in memory, and a file does not record ``--opt-channelslast``.
    """
    optimizer.load_state_dict(dict(state))
    if isinstance(optimizer, PerParameter | Flat):
        return  # their weights are contiguous, as what comes from a file is
    for parameter, held in optimizer.state.items():
        for name, value in held.items():
            if isinstance(value, torch.Tensor) and value.shape == parameter.shape and value.stride() != parameter.stride():
                held[name] = torch.empty_like(parameter, dtype=value.dtype, device=value.device).copy_(value)


def _tensors(state: Any) -> Iterator[torch.Tensor]:
    """Every tensor in a nest of mappings and lists."""
    if isinstance(state, torch.Tensor):
        yield state
    elif isinstance(state, Mapping):
        for value in state.values():
            yield from _tensors(value)
    elif isinstance(state, list | tuple):
        for value in state:
            yield from _tensors(value)
