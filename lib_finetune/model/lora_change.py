"""What the patches of a LoRA file do to a weight: LoRA, LoCon (also Tucker's form), LoHa, LoKr, whole differences, norms, IA3, and DoRA on each.

Every part of a patch is used, or the patch is refused by the part's name. References: the WebUI's extensions-builtin/Lora (`network_*.py`), which
reads the same parts; DoRA: Liu et al., arXiv 2402.09353.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet

import torch

from lib_finetune.errors import InputError, Problem
from lib_finetune.model.shapes import interchangeable

BIAS_PARTS = ("diff_b", "b_norm")
"""Parts that change a layer's bias, not its weight."""
_DORA = "dora_scale"
_IA3 = {"weight", "on_input"}
_SCALES = {"alpha", "scale"}
Parts = Mapping[str, torch.Tensor]


def changed(base: torch.Tensor, parts: Parts, weight: float, field: str = "lora") -> torch.Tensor:
    """A weight with a patch added, of the weight's type.

    Args:
        parts: of one module, but for `BIAS_PARTS`.
        weight: multiplier of the patch.

    Raises:
        InputError: parts of a kind that is not read here, or of another size.
    """
    own = base.float()
    if parts.keys() == _IA3:
        change = own * _by_row_or_column(parts, base.shape, field)
    else:
        change = delta({name: value for name, value in parts.items() if name != _DORA}, base.shape, base.device, field)
        if _DORA in parts:
            change = _decomposed(own + change, parts[_DORA].to(own), field) - own
    return (own + weight * change).to(base.dtype)


def changed_bias(base: torch.Tensor, part: torch.Tensor, weight: float, field: str = "lora") -> torch.Tensor:
    """A bias with a difference added.

    Raises:
        InputError: it is of another size.
    """
    return (base.float() + weight * _of_shape(part.to(base.device, torch.float32), base.shape, None, field)).to(base.dtype)


def delta(parts: Parts, shape: torch.Size, device: torch.device, field: str = "lora") -> torch.Tensor:
    """The change of a weight, float32, of the weight's shape.

    Raises:
        InputError: parts of a kind that is not read here.
    """
    change = _form_of(parts.keys(), field)
    return change({name: value.to(device, torch.float32) for name, value in parts.items()}, shape, field)


def _form_of(parts: AbstractSet[str], field: str) -> Callable[[Parts, torch.Size, str], torch.Tensor]:
    form = next(((needed, more, change) for needed, more, change in _FORMS if needed <= parts), None)
    unread = sorted(parts - form[0] - form[1] if form else parts)
    if form is None or unread:
        message = (
            f"a patch with {', '.join(unread) or 'no parts'} is not read here, and without that it would be another one; "
            "LoRA, LoCon, LoHa, LoKr, DoRA, IA3 and whole differences are. Use another file."
        )
        raise InputError([Problem(field, message)])
    return form[2]


def _lora(values: Parts, shape: torch.Size, field: str) -> torch.Tensor:
    down, up = values["lora_down.weight"], values["lora_up.weight"]
    if down.dim() < 2 or up.dim() < 2:
        raise _broken(f"a patch of {list(up.shape)} and {list(down.shape)} is no pair of matrices", field)
    scale = _scale(values, down.shape[0])
    if "lora_mid.weight" in values:
        middle = values["lora_mid.weight"]
        product = _tucker(middle, up.flatten(1).t(), down.flatten(1), field)
        return scale * _of_shape(product, shape, None, field)
    return scale * _of_shape(_product(up.flatten(1), down.flatten(1), field), shape, down.shape, field)


def _loha(values: Parts, shape: torch.Size, field: str) -> torch.Tensor:
    halves = []
    for number in "12":
        rows, columns, core = values[f"hada_w{number}_a"], values[f"hada_w{number}_b"], values.get(f"hada_t{number}")
        halves.append(_product(rows, columns, field) if core is None else _tucker(core, rows, columns, field))
    if halves[0].shape != halves[1].shape:
        raise _broken("the two halves of a LoHa patch are of different sizes", field)
    return _scale(values, values["hada_w1_b"].shape[0]) * _of_shape(halves[0] * halves[1], shape, None, field)


def _lokr(values: Parts, shape: torch.Size, field: str) -> torch.Tensor:
    first = values["lokr_w1"] if "lokr_w1" in values else _product(values["lokr_w1_a"], values["lokr_w1_b"], field)
    if "lokr_w2" in values:
        second = values["lokr_w2"]
    elif "lokr_t2" in values:
        second = _tucker(values["lokr_t2"], values["lokr_w2_a"], values["lokr_w2_b"], field)
    else:
        second = _product(values["lokr_w2_a"], values["lokr_w2_b"], field)
    narrow = next((values[name] for name in ("lokr_w2_b", "lokr_w1_b") if name in values), None)
    product = _outer(first, second)
    return _of_shape(product if narrow is None else _scale(values, narrow.shape[0]) * product, shape, None, field)


def _whole(values: Parts, shape: torch.Size, field: str) -> torch.Tensor:
    return _of_shape(next(iter(values.values())), shape, None, field)


_LOKR_FIRST = ({"lokr_w1"}, {"lokr_w1_a", "lokr_w1_b"})
_LOKR_SECOND = ({"lokr_w2"}, {"lokr_w2_a", "lokr_w2_b", "lokr_t2"}, {"lokr_w2_a", "lokr_w2_b"})
_FORMS: tuple[tuple[AbstractSet[str], AbstractSet[str], Callable[[Parts, torch.Size, str], torch.Tensor]], ...] = (
    ({"lora_down.weight", "lora_up.weight"}, {"lora_mid.weight"} | _SCALES, _lora),
    ({"hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "hada_t1", "hada_t2"}, _SCALES, _loha),
    ({"hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"}, _SCALES, _loha),
    *((first | second, _SCALES, _lokr) for first in _LOKR_FIRST for second in _LOKR_SECOND),
    ({"diff"}, set(), _whole),
    ({"w_norm"}, set(), _whole),
)
"""(parts that a form has, parts that it may have, what it does)."""


def _product(up: torch.Tensor, down: torch.Tensor, field: str) -> torch.Tensor:
    if up.dim() != 2 or down.dim() != 2 or up.shape[1] != down.shape[0]:
        raise _broken(f"a patch of {list(up.shape)} does not fit one of {list(down.shape)}", field)
    return up @ down


def _tucker(core: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor, field: str) -> torch.Tensor:
    """[rank, out], [rank, in] and a core [rank, rank, h, w] → [out, in, h, w]."""
    if core.dim() != 4 or core.shape[0] != rows.shape[0] or core.shape[1] != columns.shape[0]:
        raise _broken(f"the middle of a patch is {list(core.shape)} and does not fit its sides", field)
    return torch.einsum("abhw,ao,bi->oihw", core, rows, columns)


def _outer(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    while first.dim() < second.dim():
        first = first.unsqueeze(-1)
    return torch.kron(first.contiguous(), second.contiguous())


def _scale(values: Parts, rank: int) -> float:
    if "scale" in values:
        return float(values["scale"])
    return float(values["alpha"]) / rank if "alpha" in values else 1.0


def _of_shape(change: torch.Tensor, shape: torch.Size, kernel: torch.Size | None, field: str) -> torch.Tensor:
    """The change as a tensor of the weight's shape, whose rows, columns and kernel must be the patch's own."""
    rows, rest = shape[0], shape[1:]
    fits = change.dim() > 0 and change.shape[0] == rows and change.numel() == shape.numel()
    if kernel is not None:
        fits = fits and interchangeable((rows, *kernel[1:]), tuple(shape))
    elif change.dim() > 2:
        fits = fits and interchangeable(tuple(change.shape), tuple(shape))
    if not fits:
        sizes = "×".join(map(str, (rows, *rest)))
        own_rows = change.shape[0] if change.dim() else 0
        message = f"a patch of {own_rows} rows and {change.numel()} numbers does not fit a weight of {sizes}; it is of another family."
        raise InputError([Problem(field, message)])
    return change.reshape(shape)


def _by_row_or_column(parts: Parts, shape: torch.Size, field: str) -> torch.Tensor:
    """IA3: a factor for each row, or for each column."""
    factors, on_input = parts["weight"].float().flatten(), bool(parts["on_input"])
    if len(shape) < 2 or len(factors) != shape[1 if on_input else 0]:
        raise _broken(f"an IA3 patch of {len(factors)} factors does not fit a weight of {list(shape)}", field)
    return factors.reshape(1, -1, *[1] * (len(shape) - 2)) if on_input else factors.reshape(-1, *[1] * (len(shape) - 1))


def _decomposed(whole: torch.Tensor, lengths: torch.Tensor, field: str) -> torch.Tensor:
    """DoRA: a weight brought to lengths of its own, [1, in, …] of its columns or [out, 1, …] of its rows."""
    flat = whole.flatten(1) if whole.dim() > 1 else whole.unsqueeze(1)
    if lengths.shape[:1] == whole.shape[:1] and lengths.numel() == whole.shape[0]:
        return whole * (lengths.flatten() / flat.norm(dim=1)).reshape(-1, *[1] * (whole.dim() - 1))
    if whole.dim() > 1 and lengths.dim() > 1 and lengths.shape[1] == whole.shape[1] == lengths.numel():
        norms = whole.transpose(0, 1).flatten(1).norm(dim=1)
        return whole * (lengths.flatten() / norms).reshape(1, -1, *[1] * (whole.dim() - 2))
    raise _broken(f"its {_DORA} of {list(lengths.shape)} does not fit a weight of {list(whole.shape)}", field)


def _broken(reason: str, field: str) -> InputError:
    return InputError([Problem(field, f"{reason}; the file is broken or of another family. Use another one.")])
