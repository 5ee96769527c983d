"""The host's weights: where they are, clean of LoRA patches, on the device, and given back."""

from __future__ import annotations

import gc
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lib_finetune.errors import HostError, is_out_of_memory
from lib_finetune.export.checkpoint_writer import opened
from lib_finetune.host import memory
from lib_finetune.host.webui.modules import lora_extension, webui
from lib_finetune.model import checkpoint_reader
from lib_finetune.model.digest import digest
from lib_finetune.model.normal_tensor import normal, version
from lib_finetune.model.parking import Parking
from lib_finetune.model.shapes import reshaped
from lib_finetune.ports.pictures import PICTURE_BYTES

PARTS = ("unet", "text", "vae")
_PREFIXES = ("model.diffusion_model.", "cond_stage_model.", "first_stage_model.")
_NOTES = ("network_current_names", "network_weights_backup", "network_bias_backup")
"""Attributes that the Lora extension sets on each layer."""


def walk(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """Every module with its name as in the original checkpoint: the wrappers that the WebUI puts around parts add nothing to it.

    A list made in one loop, because it is made several times in each turn.
    """
    modules = [("", model)]
    for prefix, module in modules:
        modules += [
            (prefix if name == "wrapped" else f"{prefix}{name}.", child) for name, child in module._modules.items() if child is not None
        ]
    return modules


def collect(model: nn.Module, prefixes: tuple[str, ...] = _PREFIXES) -> dict[str, torch.Tensor]:
    """Checkpoint name → detached tensor on the host's own storage; never a Parameter of the host."""
    tensors = {}
    for prefix, module in walk(model):
        if prefix.startswith(prefixes):
            for table in (module._parameters, module._buffers):
                for name, tensor in table.items():
                    if tensor is not None:
                        tensors[prefix + name] = normal(tensor)
    return tensors


@contextmanager
def temporarily_loaded(model: nn.Module, path: Path, picture: int = PICTURE_BYTES) -> Iterator[None]:
    """Inside, the UNet and the text encoder hold a file's weights; outside they point to their own storage again, which nothing wrote to.

    If the GPU cannot hold both, the model's own lie in main memory meanwhile, and come back bit for bit. Call under the turn, with clean weights.

    Args:
        image: bytes to keep free beside them.

    Raises:
        CheckpointError: the file cannot be read, or is of another family.
    """
    settle(model)
    slots: dict[str, tuple[nn.Module, str, nn.Parameter]] = {}
    for prefix, module in walk(model):
        if prefix.startswith(("model.diffusion_model.", "cond_stage_model.")):
            slots |= {prefix + leaf: (module, leaf, own) for leaf, own in module._parameters.items() if own is not None}
    places = {name: parameter for name, (_, _, parameter) in slots.items()}
    parking, own_data, devices = Parking(), {}, {name: parameter.device for name, parameter in places.items()}
    try:
        if _short_of_room(places, picture):
            parking.send(places.values())
        own_data.update({name: parameter.data for name, parameter in places.items()})
        with _backups_aside(model):
            with opened(path) as entries:
                stored = {checkpoint_reader.ldm_name(name): entry for name, entry in entries.items()}
                for name, parameter in places.items():
                    value = reshaped(name, stored[name].value(), tuple(parameter.shape), path.name) if name in stored else parameter.data
                    parameter.data = value.to(devices[name], parameter.dtype)
            yield
    finally:
        settle(model)
        for name, data in own_data.items():
            module, leaf, parameter = slots[name]
            parameter.data = data
            module._parameters[leaf] = parameter  # some extensions replace it by another object
        _bring_back(parking)


@contextmanager
def _backups_aside(model: nn.Module) -> Iterator[None]:
    """Inside, the Lora extension knows of no patches and has no backups; outside it has those again that it had.

    It would put a backup of the host's weights over those that stand in, and one of these over the host's own afterwards.
    """
    notes_of = [(module, {name: module.__dict__.pop(name) for name in _NOTES if name in module.__dict__}) for _, module in walk(model)]
    try:
        yield
    finally:
        try:
            clean(model)
        finally:
            for module, notes in notes_of:
                for name in _NOTES:
                    module.__dict__.pop(name, None)
                module.__dict__.update(notes)


def _short_of_room(places: Mapping[str, nn.Parameter], picture: int) -> bool:
    """Whether the GPU has no room for these weights twice and an image beside them."""
    device = next(iter(places.values())).device
    size = sum(parameter.numel() * parameter.element_size() for parameter in places.values())
    return device.type == "cuda" and memory.use(device).free < size + picture


def clean(model: nn.Module) -> None:
    """Take the Lora extension's patches out of the weights, by its own means.

    The list of active networks is the person's and stays: their next image patches the weights again by itself.
    """
    networks = lora_extension()
    if networks is None:
        return
    patched = [module for _, module in walk(model) if module.__dict__.get("network_current_names", ())]
    if not patched:
        return
    active = list(networks.loaded_networks)
    networks.loaded_networks.clear()
    try:
        for module in patched:
            with _writable(module):
                networks.network_apply_weights(module)
    finally:
        networks.loaded_networks[:] = active


@contextmanager
def _writable(module: nn.Module) -> Iterator[None]:
    """Inside, an extension may write to a module's weights as they are: to inference tensors only inference mode may."""
    mode = torch.inference_mode if any(own is not None and version(own) is None for own in module._parameters.values()) else torch.no_grad
    with mode():
        yield


def put_back(model: nn.Module, path: Path, digests: Mapping[str, int]) -> None:
    """Write the values of a checkpoint's file over weights, where they are the very ones.

    Args:
        digests: name → `digest` of the weights that are to be put back.

    Raises:
        CheckpointError: the file cannot be read.
    """
    places = {name: tensor for name, tensor in collect(model, ("",)).items() if name in digests}
    with torch.no_grad(), opened(path) as entries:
        for stored, entry in entries.items():
            name = checkpoint_reader.ldm_name(stored)
            place = places.get(name)
            if place is None or torch.Size(entry.shape).numel() != place.numel():
                continue
            value = entry.value().to(place.device, place.dtype).reshape(place.shape)
            if digest({name: value})[name] == digests[name]:
                place.copy_(value)


def module_of(model: Any, part: str) -> nn.Module:
    """The module that the WebUI moves between devices as one: "unet", "text" or "vae"."""
    if part == "unet":
        module = model.model
    elif part == "vae":
        module = model.first_stage_model
    else:
        module = getattr(model.cond_stage_model, "wrapped", model.cond_stage_model)
    assert isinstance(module, nn.Module)
    return module


def place_of(module: nn.Module) -> torch.device:
    """The device of a module's first parameter."""
    return next(module.parameters()).device


def bring(model: Any, parts: Iterable[str], device: torch.device, back: ExitStack) -> None:
    """Bring parts of the model to the device; ``back`` learns how to put them where they were.

    With --medvram the hooks of the WebUI are passed by: they would throw one part out while another is in use.

    Raises:
        HostError: the WebUI has thrown the weights away.
    """
    modules = {part: module_of(model, part) for part in parts}
    for module in modules.values():
        if place_of(module).type == "meta":
            raise HostError("The WebUI has unloaded the checkpoint. Choose it again at the top left, then continue.")
    if getattr(model, "lowvram", False):
        _bring_medvram(modules, device, back)
        return
    for module in modules.values():
        place = place_of(module)
        if not same_place(place, device):
            back.callback(module.to, place)
            module.to(device)


def send_away(model: Any, parts: Iterable[str], device: torch.device, back: ExitStack) -> None:
    """Send parts of the model from the device to main memory; ``back`` learns how to bring them to where they were, bit for bit.

    The WebUI's own `send_model_to_cpu` would do it for the whole model only, and with --medvram by other rules.

    Raises:
        RuntimeError: main memory has no room; what was sent is brought back by ``back``.
    """
    if getattr(model, "lowvram", False):
        webui("lowvram").send_everything_to_cpu()
        return
    parking = Parking()
    back.callback(_bring_back, parking)
    for part in parts:
        module = module_of(model, part)
        parking.send(tensor for tensor in [*module.parameters(), *module.buffers()] if same_place(tensor.device, device))


def _bring_back(parking: Parking) -> None:
    """Bring the host's weights back; where the device seems to be full, rubbish that still holds memory is collected first.

    Raises:
        HostError: another program has taken the room.
    """
    try:
        parking.bring()
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        full = True
    else:
        full = False
    if not full:
        return
    gc.collect()
    webui("devices").torch_gc()
    try:
        parking.bring()
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise HostError(
            f"The GPU no longer has room for the WebUI's own model; part of it is in main memory ({str(error).split('. ')[0]}). "
            "Close other programs that use the GPU, then choose another checkpoint at the top left, and this one again."
        ) from None


def same_place(first: torch.device, second: torch.device) -> bool:
    """Equal devices, where "cuda" means the card that "cuda:0" names."""
    return first.type == second.type and (first.index is None or second.index is None or first.index == second.index)


def _bring_medvram(modules: dict[str, nn.Module], device: torch.device, back: ExitStack) -> None:
    lowvram = webui("lowvram")
    if lowvram.module_in_gpu is not None and all(lowvram.module_in_gpu is not module for module in modules.values()):
        lowvram.send_everything_to_cpu()
    back.callback(_leave_medvram, modules)
    for module in modules.values():
        module.to(device)


def _leave_medvram(modules: dict[str, nn.Module]) -> None:
    """All but the UNet go back to main memory; the UNet stays as the one module that the WebUI knows to be on the card.

    Moving it twice in every turn would cost a third of the time, and the WebUI itself sends it away when it needs the room.
    """
    lowvram = webui("lowvram")
    for part, module in modules.items():
        if part != "unet":
            module.to(lowvram.cpu)
    lowvram.module_in_gpu = modules.get("unet")


def settle(model: Any) -> None:
    """With --medvram: send the UNet that we left on the card to main memory, as the WebUI does after each image."""
    if getattr(model, "lowvram", False):
        webui("lowvram").send_everything_to_cpu()
