"""The borrowed view: diffusers and transformers modules whose parameters are the host's own storage for the time of a turn."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from lib_finetune.errors import CheckpointError, Problem
from lib_finetune.model import names, own_forward
from lib_finetune.model.layout import PREFIXES, Layout
from lib_finetune.model.normal_tensor import normal
from lib_finetune.model.shapes import reshaped


@dataclass(frozen=True)
class ParameterSlot:
    """A parameter's place in the view and the host's tensor that belongs there."""

    module: nn.Module
    leaf: str
    source: str
    shape: tuple[int, ...]
    empty: nn.Parameter  # on the meta device; sits here between turns


class BorrowedModel:
    """UNet, text encoder and autoencoder without weights of their own.

    Outside a turn every parameter lies on the meta device, so nothing of the host's storage is held. Parts that are
    trained as a whole may get weights of their own (`own`).

    Attributes:
        unet: diffusers UNet2DConditionModel.
        text: the transformers text transformer (embeddings, encoder, final_layer_norm).
        vae: diffusers AutoencoderKL.
        slots: every parameter with its LDM name and shape.
    """

    def __init__(self, layout: Layout) -> None:
        """
        Args:
            layout: from `layout.infer`.
        """
        self.unet, self.vae, self.text = _modules(layout)
        for root in (self.unet, self.vae, self.text):
            own_forward.give(root)
        layers = layout.unet["layers_per_block"]
        attends = [kind.startswith("CrossAttn") for kind in layout.unet["up_block_types"]]
        levels = len(layout.vae["block_out_channels"])
        self.slots = [
            *_seats(self.unet, lambda name: names.unet_to_ldm(name, layers, attends)),
            *_seats(self.vae, lambda name: names.vae_to_ldm(name, levels)),
            *_seats(self.text, names.text_to_ldm),
        ]
        self._width = int(layout.text["max_position_embeddings"])
        self._own: dict[str, nn.Parameter] = {}
        self._lent: Mapping[str, torch.Tensor] = {}
        self._copied: list[ParameterSlot] = []
        self._copies_dtype = torch.float32

    def sources(self) -> Mapping[str, str]:
        """Name in the view ("unet.…", "vae.…", "text.…") → LDM name."""
        roots = {"unet": self.unet, "vae": self.vae, "text": self.text}
        prefix = {id(module): f"{part}.{name}" for part, root in roots.items() for name, module in root.named_modules()}
        return {f"{prefix[id(slot.module)]}.{slot.leaf}".replace("..", "."): slot.source for slot in self.slots}

    def bind(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Seat the host's tensors; reshaped ones are views. The host's Parameter objects are not touched.

        Args:
            tensors: as `ports.Lease.tensors`.

        Raises:
            CheckpointError: a tensor is missing or has another shape.
        """
        for slot in self.slots:
            tensor = tensors.get(slot.source)
            try:
                lent = _placed(slot, tensor)
            except CheckpointError:
                self.unbind()
                raise
            slot.module._parameters[slot.leaf] = self._own.get(slot.source, lent)
        self._lent = tensors
        self._copy()
        self._bind_positions(next(iter(self.text.parameters())).device)

    def compute_in(self, dtype: torch.dtype, parts: Iterable[str]) -> None:
        """From the next binding on, products in these parts have copies of the host's weights in another type for as long as it is bound.

        For what autocast computes: it would make them anew in every step, and keep them to its end. Weights of norms and tables stay.

        Args:
            parts: of "unet" and "text"; none takes no copies any more.
        """
        inside = {id(module) for part in parts for module in getattr(self, part).modules() if isinstance(module, nn.Linear | nn.Conv2d)}
        self._copied = [slot for slot in self.slots if id(slot.module) in inside]
        self._copies_dtype = dtype

    def _copy(self) -> None:
        for slot in self._copied:
            if slot.source not in self._own:
                lent = slot.module._parameters[slot.leaf]
                assert lent is not None
                slot.module._parameters[slot.leaf] = nn.Parameter(lent.detach().to(self._copies_dtype), requires_grad=False)

    @property
    def is_bound(self) -> bool:
        """Whether it holds the host's tensors now."""
        return bool(self._lent)

    def unbind(self) -> None:
        """Release every tensor of the host; weights of the view's own keep their slots."""
        self._lent = {}
        for slot in self.slots:
            slot.module._parameters[slot.leaf] = self._own.get(slot.source, slot.empty)

    def count(self, part: str) -> int:
        """How many weights a part ("unet", "text", "vae") has."""
        return sum(_size(slot.shape) for slot in self.slots if slot.source.startswith(PREFIXES[part]))

    def own(self, parts: Iterable[str], dtype: torch.dtype, device: torch.device) -> dict[str, dict[str, nn.Parameter]]:
        """Give parts copies of the weights that are bound now, to be trained; the host's stay untouched.

        Args:
            parts: of "unet" and "text".
            device: where the copies are to lie.

        Returns:
            Part → LDM name → parameter.
        """
        by_part: dict[str, dict[str, nn.Parameter]] = {}
        for part in parts:
            inside = set(map(id, getattr(self, part).modules()))
            slots = [slot for slot in self.slots if id(slot.module) in inside]
            by_part[part] = {}
            for slot in slots:  # one by one, so that `disown` drops what there is when the memory ends half-way
                own = nn.Parameter(slot.module._parameters[slot.leaf].detach().to(device, dtype, copy=True))
                self._own[slot.source] = by_part[part][slot.source] = slot.module._parameters[slot.leaf] = own
        return by_part

    def disown(self) -> None:
        """Drop the weights of the view's own; training is over."""
        for parameter in self._own.values():
            parameter.data = parameter.data.new_empty(0)
        self._own = {}
        self.unbind()

    @contextmanager
    def as_lent(self) -> Iterator[None]:
        """Inside, weights of the view's own give their slots to the host's: what it computes is the base model's. While bound only."""
        owned = [slot for slot in self.slots if slot.source in self._own]
        for slot in owned:
            slot.module._parameters[slot.leaf] = _placed(slot, self._lent[slot.source])
        try:
            yield
        finally:
            for slot in owned:
                slot.module._parameters[slot.leaf] = self._own[slot.source]

    @contextmanager
    def in_float32(self, *modules: nn.Module) -> Iterator[None]:
        """Inside, these modules hold float32 copies of their weights; the host's are not touched. While bound only."""
        inside = {id(module) for root in modules for module in root.modules()}
        slots = [slot for slot in self.slots if id(slot.module) in inside]
        lent = [slot.module._parameters[slot.leaf] for slot in slots]
        try:
            for slot, weight in zip(slots, lent, strict=True):
                assert weight is not None
                slot.module._parameters[slot.leaf] = nn.Parameter(weight.detach().float(), requires_grad=False)
            yield
        finally:
            for slot, weight in zip(slots, lent, strict=True):
                slot.module._parameters[slot.leaf] = weight

    @contextmanager
    def bound(self, tensors: Mapping[str, torch.Tensor]) -> Iterator[BorrowedModel]:
        """`bind`, and `unbind` whatever happens."""
        self.bind(tensors)
        try:
            yield self
        finally:
            self.unbind()

    def _bind_positions(self, device: torch.device) -> None:
        embeddings = self.text.embeddings
        if "position_ids" in embeddings._buffers and embeddings.position_ids.device != device:
            embeddings._buffers["position_ids"] = torch.arange(self._width, device=device).expand((1, -1))


def _placed(slot: ParameterSlot, tensor: torch.Tensor | None) -> nn.Parameter:
    if tensor is None:
        raise CheckpointError([Problem("checkpoint", f"{slot.source} is missing in the loaded model. Use another file of this model.")])
    with torch.inference_mode(False):  # a Parameter made inside is an inference tensor, too
        return nn.Parameter(reshaped(slot.source, normal(tensor), slot.shape, "the loaded model"), requires_grad=False)


def _size(shape: tuple[int, ...]) -> int:
    return int(torch.Size(shape).numel())


def _modules(layout: Layout) -> tuple[Any, Any, Any]:
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    with torch.device("meta"):
        unet = UNet2DConditionModel(**layout.unet)
        vae = AutoencoderKL(**layout.vae)
        text = CLIPTextModel(CLIPTextConfig(**layout.text))
    text = getattr(text, "text_model", text)  # transformers 5 has no level between the model and its transformer
    for root in (unet, vae, text):
        root.requires_grad_(False)
        root.eval()
    return unet, vae, text


def _seats(root: nn.Module, source: Callable[[str], str]) -> list[ParameterSlot]:
    return [
        ParameterSlot(module, leaf, source(f"{name}.{leaf}" if name else leaf), tuple(parameter.shape), parameter)
        for name, module in root.named_modules()
        for leaf, parameter in module.named_parameters(recurse=False)
    ]
