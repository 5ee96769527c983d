"""A pretend card: a device of torch whose tensors hold real values on the CPU, and which refuses every mix-up of devices.

It is registered for the whole process and cannot be taken out again, so that tests use it in a process of their own (`card_runs`). It needs
torch 2.9. What it cannot show: memory, streams, the loss scaler, and whatever asks whether a device's type is "cuda".
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._pytree import tree_flatten, tree_map

NAME = "card"
CPU = torch.device("cpu")
_LOW = ("conv2d", "linear", "matmul", "addmm", "bmm", "baddbmm", "scaled_dot_product_attention", "mm")
"""What autocast computes in 16 bits, as on CUDA."""
_HIGH = ("layer_norm", "group_norm", "mse_loss", "softmax.int")
_FACTORIES = (
    *("empty.memory_format", "empty_strided", "arange", "arange.start", "arange.start_step", "full", "zeros", "ones", "scalar_tensor"),
    *("randn", "rand", "randint", "randint.low", "eye"),
)
_OUR_FRAMES = ("lib_finetune", "transformers", "diffusers", "lycoris", "prodigyopt", "lion_pytorch", "peft")
_KEPT: list[Any] = []
"""Registrations last as long as these objects."""


@dataclass(frozen=True)
class Transfer:
    """One that makes the CPU wait for the card.

    Attributes:
        kind: "to host", "to card" (from memory that is not pinned), or "value" (a number that Python reads).
        place: "file:function" of the innermost frame of this project or of a library that it trains with.
    """

    kind: str
    place: str


TRANSFERS: list[Transfer] = []


def note(kind: str) -> None:
    """Remember a transfer with its place."""
    frame = sys._getframe(1)
    while frame is not None:
        path = frame.f_code.co_filename.replace("\\", "/")
        package = next((name for name in _OUR_FRAMES if f"/{name}/" in path), None)
        if package:
            TRANSFERS.append(Transfer(kind, f"{package}/{path.split(f'/{package}/')[-1]}:{frame.f_code.co_name}"))
            return
        frame = frame.f_back  # type: ignore[assignment]
    TRANSFERS.append(Transfer(kind, "elsewhere"))


class _Backend:
    """What torch asks of a device's module."""

    def is_initialized(self) -> bool:
        return True

    def is_available(self) -> bool:
        return True

    def current_device(self) -> int:
        return 0

    def _is_in_bad_fork(self) -> bool:
        return False

    def manual_seed_all(self, seed: int) -> None:
        pass

    def device_count(self) -> int:
        return 1

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.float16, torch.bfloat16]

    def get_rng_state(self, device: Any = 0) -> torch.Tensor:
        return torch.get_rng_state()

    def set_rng_state(self, state: torch.Tensor, device: Any = 0) -> None:
        pass


class CardTensor(torch.Tensor):
    """A tensor on the card; one that was parked is the same object, with its values in main memory."""

    elem: torch.Tensor
    parked = False

    @staticmethod
    def __new__(cls, elem: torch.Tensor) -> CardTensor:  # noqa: PYI034  Self is of a later Python
        tensor: CardTensor = torch.Tensor._make_wrapper_subclass(
            cls, elem.shape, strides=elem.stride(), storage_offset=elem.storage_offset(), dtype=elem.dtype, layout=elem.layout,
            device=torch.device(NAME, 0), requires_grad=False,
        )  # fmt: skip
        tensor.elem = elem
        return tensor

    def __repr__(self) -> str:
        return f"CardTensor({self.elem})"

    @property
    def data(self) -> torch.Tensor:
        return self.detach()

    @data.setter
    def data(self, value: torch.Tensor) -> None:
        whole = torch.Tensor.data
        if isinstance(value, CardTensor):
            whole.__set__(self, value)
            self.elem, self.parked = value.elem, value.parked
        else:
            whole.__set__(self, CardTensor(value))
            self.elem, self.parked = value, True

    @property
    def device(self) -> torch.device:
        return CPU if self.parked else torch.device(NAME, 0)

    def data_ptr(self) -> int:
        return self.elem.data_ptr()

    def tolist(self) -> Any:
        note("value")
        return self.detach().elem.tolist()

    def numpy(self, *_: Any, **__: Any) -> Any:
        if self.parked:
            return self.detach().elem.numpy()
        raise TypeError(f"can't convert {NAME}:0 device type tensor to numpy. Use Tensor.cpu() first.")

    def __deepcopy__(self, memo: Any) -> CardTensor:
        return type(self)(self.detach().elem.clone())

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})

    __torch_function__ = torch._C._disabled_torch_function_impl


def _on_card(value: Any) -> bool:
    return isinstance(value, CardTensor) and not value.parked


def _plain(value: Any) -> Any:
    if isinstance(value, torch.device) and value.type == NAME:
        return CPU
    return value.elem if isinstance(value, CardTensor) else value


def _run(func: Any, args: Any, kwargs: Any) -> Any:
    if func is torch.ops.aten._local_scalar_dense.default and _on_card(args[0]):
        note("value")
    if func is torch.ops.aten._to_copy.default:
        return _copied(func, args[0], kwargs)
    if func is torch.ops.aten.copy_.default:
        return _copied_into(*args[:2], bool(kwargs.get("non_blocking") or (len(args) > 2 and args[2])))
    tensors = [value for value in tree_flatten((args, kwargs))[0] if isinstance(value, torch.Tensor)]
    on_card = any(_on_card(tensor) for tensor in tensors)
    if on_card and any(not _on_card(tensor) and tensor.dim() > 0 for tensor in tensors):
        raise RuntimeError(f"Expected all tensors to be on the same device, but found {NAME} and cpu in {func}")
    if on_card and "index" in func.__name__ and any(tensor.dtype == torch.bool for tensor in tensors[1:]):
        note("value")  # how many are picked is known on the card only
    outcome = func(*tree_map(_plain, args), **tree_map(_plain, kwargs))
    inputs = {id(_plain(tensor)): tensor for tensor in tensors if isinstance(tensor, CardTensor)}

    def wrapped(value: Any) -> Any:
        if not isinstance(value, torch.Tensor):
            return value
        if id(value) in inputs:  # in place: the same object back
            return inputs[id(value)]
        return CardTensor(value) if on_card or not any(isinstance(tensor, CardTensor) for tensor in tensors) else value

    return tree_map(wrapped, outcome)


def _copied(func: Any, source: torch.Tensor, kwargs: dict[str, Any]) -> torch.Tensor:
    asked = kwargs.get("device")
    target = torch.device(asked) if asked is not None else source.device
    outcome = func(_plain(source), **{**kwargs, "device": CPU})
    if _on_card(source) and target.type == "cpu":
        note("to host")
    if target.type == NAME and not _on_card(source) and not kwargs.get("non_blocking"):
        note("to card")
    return CardTensor(outcome) if target.type == NAME else outcome


def _copied_into(target: torch.Tensor, source: torch.Tensor, non_blocking: bool) -> torch.Tensor:
    if _on_card(target) != _on_card(source) and not (non_blocking and _on_card(target)):
        note("to card" if _on_card(target) else "to host")
    _plain(target).copy_(_plain(source))
    return target


def register() -> torch.device:
    """Put the device into torch, for as long as this process lives."""
    from torch._C import DispatchKey, DispatchKeySet, _ExcludeDispatchKeyGuard
    from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

    _setup_privateuseone_for_python_backend(NAME, backend_module=_Backend())
    library = torch.library.Library("aten", "IMPL")
    falling_through = torch.library.Library("_", "IMPL")
    falling_through.fallback(torch.library.fallthrough_kernel, "AutocastPrivateUse1")
    _KEPT.extend((library, falling_through))

    def operator_of(name: str) -> Any:
        base, _, overload = name.partition(".")
        return getattr(getattr(torch.ops.aten, base), overload or "default")

    def factory(operator: Any) -> Callable[..., CardTensor]:
        def kernel(*args: Any, **kwargs: Any) -> CardTensor:
            return CardTensor(operator(*args, **{**{k: v for k, v in kwargs.items() if k != "pin_memory"}, "device": CPU}))

        return kernel

    def cast(operator: Any, chosen: Callable[[], torch.dtype]) -> Callable[..., Any]:
        def kernel(*args: Any, **kwargs: Any) -> Any:
            dtype = chosen()

            def one(value: Any) -> Any:
                casts = isinstance(value, torch.Tensor) and value.is_floating_point() and value.device.type == NAME
                return value.to(dtype) if casts and value.dtype != torch.float64 else value

            with _ExcludeDispatchKeyGuard(DispatchKeySet(DispatchKey.AutocastPrivateUse1)):
                return operator(*tree_map(one, args), **tree_map(one, kwargs))

        return kernel

    for name in _FACTORIES:
        library.impl(name, factory(operator_of(name)), "PrivateUse1")
    library.impl("_copy_from", lambda source, target, non_blocking=False: _copied_into(target, source, non_blocking), "PrivateUse1")
    for name in _LOW:
        library.impl(name, cast(operator_of(name), lambda: torch.get_autocast_dtype(NAME)), "AutocastPrivateUse1")
    for name in _HIGH:
        library.impl(name, cast(operator_of(name), lambda: torch.float32), "AutocastPrivateUse1")
    return torch.device(NAME, 0)
