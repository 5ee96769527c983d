"""Flat weights: all weights of a group in one float32 tensor, so that clipping, optimizer and average take an operation each.

The named parameters become views of it. What is computed in 16 bits is one copy of it, taken anew before each forward pass. Suits optimizers
that treat each number by itself; states are written number by number under the parameters that they belong to, as if each had its own.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from lib_finetune.training.optim.optimizer import Groups

_ALIGNMENT = 32
"""Numbers: each pack begins at a multiple of 64 bytes, also in 16 bits, as fast kernels want it."""
Packs = Sequence[Sequence[nn.Parameter]]


class FlatGroup:
    """The weights of one group.

    Attributes:
        whole: all of them, [n] float32, with zeros between packs.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], packs: Packs, compute: torch.dtype) -> None:
        """
        Args:
            parameters: in the order of the saved state.
            packs: of them, those that `leaf` is asked for; each lies in one piece.
            compute: type of the copies that packs compute with.
        """
        self._parameters = list(parameters)
        packed = {id(parameter) for pack in packs for parameter in pack}
        self._loose = [parameter for parameter in parameters if id(parameter) not in packed]
        self._starts: dict[int, int] = {}
        size = 0
        for pack in [*packs, *([parameter] for parameter in self._loose)]:
            for parameter in pack:
                self._starts[id(parameter)] = size
                size += parameter.numel()
            size = -(-size // _ALIGNMENT) * _ALIGNMENT
        device = self._parameters[0].device
        self.whole = nn.Parameter(torch.zeros(size, device=device))
        for parameter, view in zip(self._parameters, self.split(self.whole.detach()), strict=True):
            view.copy_(parameter.detach())
            parameter.data = view
        self._copy = None if compute == torch.float32 else torch.zeros(size, dtype=compute, device=device)
        self._leaves: list[tuple[torch.Tensor, slice]] = []
        self._gradient: torch.Tensor | None = None
        self._gradient_copy: torch.Tensor | None = None
        self._reached: set[int] = set()
        self._packs = {id(pack[0]): self._add_leaf(pack) for pack in packs}
        for parameter in self._loose:
            self._leaves.append((parameter, self._place(parameter)))

    def _place(self, parameter: nn.Parameter) -> slice:
        start = self._starts[id(parameter)]
        return slice(start, start + parameter.numel())

    def _add_leaf(self, pack: Sequence[nn.Parameter]) -> torch.Tensor:
        place = slice(self._place(pack[0]).start, self._place(pack[-1]).stop)
        source = self.whole.detach() if self._copy is None else self._copy
        leaf = source[place].view(-1, *pack[0].shape[1:]).requires_grad_(True)
        self._leaves.append((leaf, place))
        return leaf

    def split(self, whole: torch.Tensor) -> list[torch.Tensor]:
        """Views of a tensor of the form of ``whole`` for each parameter."""
        return [whole[self._place(parameter)].view(parameter.shape) for parameter in self._parameters]

    def joined(self, values: Sequence[torch.Tensor]) -> torch.Tensor:
        """The inverse of `split`; what is no number for each of a parameter's stands for all of them."""
        whole = torch.zeros(self.whole.shape, device=values[0].device)
        for parameter, value in zip(self._parameters, values, strict=True):
            whole[self._place(parameter)] = value.reshape(-1).expand(parameter.numel())
        return whole

    def leaf(self, pack: Sequence[nn.Parameter]) -> torch.Tensor:
        """What a pack computes with: its weights, one below the other."""
        return self._packs[id(pack[0])]

    def owns(self, parameter: nn.Parameter) -> bool:
        """Whether it is one of the group's."""
        return id(parameter) in self._starts

    @property
    def leaves(self) -> list[torch.Tensor]:
        """What gets the gradients."""
        return [leaf for leaf, _ in self._leaves]

    @property
    def parameters(self) -> list[nn.Parameter]:
        """In the order of the saved state."""
        return self._parameters

    @torch.no_grad()
    def refresh(self) -> None:
        """Have what computes hold the weights as they are."""
        if self._copy is not None:
            self._copy.copy_(self.whole)

    @torch.no_grad()
    def gather(self) -> None:
        """Add the leaves' gradients to that of the whole, and drop them."""
        by_type: dict[torch.dtype, tuple[list[slice], list[torch.Tensor]]] = {}
        for number, (leaf, place) in enumerate(self._leaves):
            if leaf.grad is not None:
                places, gradients = by_type.setdefault(leaf.grad.dtype, ([], []))
                places.append(place)
                gradients.append(leaf.grad.reshape(-1))
                leaf.grad = None
                self._reached.add(number)
        if by_type and self.whole.grad is None:
            self.whole.grad = self._gradient = torch.zeros_like(self.whole) if self._gradient is None else self._gradient.zero_()
        for dtype, (places, gradients) in by_type.items():
            assert self._gradient is not None
            if dtype == torch.float32:
                torch._foreach_add_([self._gradient[place] for place in places], gradients)
            else:
                self._gradient.add_(self._side_by_side(dtype, places, gradients))

    def _side_by_side(self, dtype: torch.dtype, places: Sequence[slice], gradients: Sequence[torch.Tensor]) -> torch.Tensor:
        if self._gradient_copy is None or self._gradient_copy.dtype != dtype:
            self._gradient_copy = torch.zeros_like(self.whole, dtype=dtype)
        elif len(places) < len(self._leaves):
            self._gradient_copy.zero_()
        torch._foreach_copy_([self._gradient_copy[place] for place in places], list(gradients))
        return self._gradient_copy

    @contextmanager
    def holding_still(self) -> Iterator[None]:
        """Around a step: weights that nothing asked for (those of layers that are skipped) stay as they are, decay and all."""
        still = [place for number, (_, place) in enumerate(self._leaves) if number not in self._reached]
        if not still or self.whole.grad is None:
            yield
            return
        views = [self.whole.detach()[place] for place in still]
        before = torch._foreach_mul(views, 1.0)
        yield
        torch._foreach_copy_(views, before)

    def drop_gradients(self) -> None:
        """The step is done, or will not be."""
        self.whole.grad = None
        self._reached.clear()
        for leaf, _ in self._leaves:
            leaf.grad = None


class Flat:
    """Looks like a torch optimizer to the loop: ``param_groups`` with "name" and "lr", `zero_grad`, `state_dict`."""

    def __init__(self, groups: Groups, packs: Packs, compute: torch.dtype, build: Callable[[Groups], Optimizer]) -> None:
        """
        Args:
            packs: weights that compute as one matrix, which `leaf` gives.
            compute: type that they compute in.
            build: makes an optimizer that treats each number by itself.
        """
        self._groups: dict[str, FlatGroup] = {}
        for name, parameters in groups.items():
            own = {id(parameter) for parameter in parameters}
            if parameters:
                self._groups[name] = FlatGroup(parameters, [pack for pack in packs if id(pack[0]) in own], compute)
        self.optimizer = build({name: [group.whole] for name, group in self._groups.items()})

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """Those of the optimizer; each has the one weight of its group."""
        return self.optimizer.param_groups

    @property
    def groups(self) -> Mapping[str, FlatGroup]:
        """By name."""
        return self._groups

    @property
    def wholes(self) -> dict[str, nn.Parameter]:
        """All weights of each group."""
        return {name: group.whole for name, group in self._groups.items()}

    def leaf(self, pack: Sequence[nn.Parameter]) -> torch.Tensor:
        """See `FlatGroup.leaf`."""
        return next(group for group in self._groups.values() if group.owns(pack[0])).leaf(pack)

    def refresh(self) -> None:
        """See `FlatGroup.refresh`; before each forward pass."""
        for group in self._groups.values():
            group.refresh()

    def gather(self) -> None:
        """See `FlatGroup.gather`; after each backward pass."""
        for group in self._groups.values():
            group.gather()

    @contextmanager
    def holding_still(self) -> Iterator[None]:
        """See `FlatGroup.holding_still`."""
        with ExitStack() as stack:
            for group in self._groups.values():
                stack.enter_context(group.holding_still())
            yield

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drop what gradients are left."""
        for group in self._groups.values():
            group.drop_gradients()

    def named(self, wholes: Mapping[str, torch.Tensor]) -> list[torch.Tensor]:
        """Views of tensors of the form of `wholes`, for each parameter of each group in turn."""
        return [view for name, group in self._groups.items() for view in group.split(wholes[name])]

    def state_dict(self) -> dict[str, Any]:
        """As that of an optimizer of the parameters themselves."""
        state = self.optimizer.state_dict()
        numbers = itertools.count()
        own: dict[int, dict[str, Any]] = {}
        param_groups = []
        for place, (group, param_group) in enumerate(zip(self._groups.values(), state["param_groups"], strict=True)):
            places = [next(numbers) for _ in group.parameters]
            param_groups.append({**param_group, "params": places})
            values = {name: _for_each(group, value) for name, value in state["state"].get(place, {}).items()}
            own |= {number: {name: each[row] for name, each in values.items()} for row, number in enumerate(places)} if values else {}
        return {"state": own, "param_groups": param_groups}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state_dict`.

        Raises:
            ValueError: the state is that of other groups.
        """
        joined: dict[int, dict[str, Any]] = {}
        param_groups = []
        for place, (group, param_group) in enumerate(zip(self._groups.values(), state["param_groups"], strict=True)):
            if len(param_group["params"]) != len(group.parameters):
                raise ValueError(f"the state has {len(param_group['params'])} weights in a group of {len(group.parameters)}")
            param_groups.append({**param_group, "params": [place]})
            each = [state["state"].get(number, {}) for number in param_group["params"]]
            if any(each):
                joined[place] = {name: _of_all(group, name, each) for name in max(each, key=len)}
        self.optimizer.load_state_dict({"state": joined, "param_groups": param_groups})


def _for_each(group: FlatGroup, value: Any) -> list[Any]:
    """A value of the whole's state as one of each parameter."""
    if isinstance(value, torch.Tensor) and value.numel() == group.whole.numel():
        return group.split(value.view(-1))  # type: ignore[return-value]
    return [value.clone() if isinstance(value, torch.Tensor) else value for _ in group.parameters]


def _of_all(group: FlatGroup, name: str, states: Sequence[Mapping[str, Any]]) -> Any:
    """Values of each parameter's state as one of the whole; a parameter that never moved has none."""
    values = [state.get(name) for state in states]
    sizes = [parameter.numel() for parameter in group.parameters]
    whole = any(isinstance(value, torch.Tensor) and value.numel() == size > 1 for value, size in zip(values, sizes, strict=True))
    if not whole:
        value = next(value for value in values if value is not None)
        return value.clone() if isinstance(value, torch.Tensor) else value
    return group.joined([torch.zeros(()) if value is None else value for value in values])
