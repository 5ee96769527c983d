"""Images: the WebUI's own txt2img, with the person's progress bar, prompt history and networks left as they were."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from typing import Any

import torch
from PIL import Image

from lib_finetune import randomness
from lib_finetune.errors import FinetuneError, HostError, OutOfMemoryError, PictureInterruptedError, is_out_of_memory
from lib_finetune.host.webui import files, scripts_at_rest, weights
from lib_finetune.host.webui.borrowing import Around
from lib_finetune.host.webui.interruption import interruptible, was_interrupted
from lib_finetune.host.webui.loading import await_model, loaded_model
from lib_finetune.host.webui.modules import lora_extension, webui
from lib_finetune.host.webui.run_guard import RunGuard, refuse_other_than
from lib_finetune.host.webui.same_file import same_file
from lib_finetune.host.webui.watch import Watch
from lib_finetune.ports.pictures import SAMPLER, SCHEDULER, PictureRequest, picture_bytes

_log = logging.getLogger(__name__)
_JOB = (
    "job", "job_no", "job_count", "job_timestamp", "processing_has_refined_job_count", "sampling_step", "sampling_steps", "current_latent",
    "current_image", "current_image_sampling_step", "id_live_preview", "skipped", "interrupted", "stopping_generation", "textinfo", "time_start",
)  # fmt: skip

_CLIP_SKIP = "CLIP_stop_at_last_layers"


class WebuiPictures:
    """Implements `ports.pictures.HostPictures`."""

    def __init__(self, guard: RunGuard) -> None:
        self._guard = guard

    def make(self, request: PictureRequest) -> Image.Image:
        """See `make_batch`."""
        return self.make_batch(request, 1)[0]

    def make_batch(self, request: PictureRequest, count: int) -> list[Image.Image]:
        """See `HostPictures.make_batch`. While a run is on, they are made with the run's checkpoint or not at all.

        Raises:
            CheckpointChangedError: another checkpoint or VAE is loaded than at `remember`.
            HostError: a LoRA is not in the WebUI's list, the WebUI could not make the image, or the model's weights were changed meanwhile.
            OutOfMemoryError: the device has no room for it.
            PictureInterruptedError: the request asked for that, also while the turn was waited for, or the person pressed Interrupt.
        """
        await_model()
        guard = self._guard
        with guard.turn.held(give_up=request.interrupt_asked):
            if guard.watch is not None:
                refuse_other_than(guard.watch.checkpoint)
            guard.refuse_broken()
            images = _make_watched(request, count, guard.watch)
            guard.refuse_broken()
        if isinstance(images, FinetuneError):
            raise images
        return images


def _make_watched(request: PictureRequest, count: int, watch: Watch | None) -> list[Image.Image] | FinetuneError:
    """An error is returned and not raised: its frames would hold the model, and a job keeps its errors to show them."""
    model = loaded_model()
    around = Around(model, watch)
    if watch is not None:
        weights.clean(model)
        watch.turn_begins(model)
    try:
        return make(request, count, model, around.theirs())
    except FinetuneError as error:
        _log.info("No preview", exc_info=True)
        error.__cause__ = error.__context__ = None
        return error.with_traceback(None)
    finally:
        around.close()
        if watch is not None:
            watch.picture_made(model)


def make(request: PictureRequest, count: int, model: Any, theirs: AbstractContextManager[None]) -> list[Image.Image]:
    """Make images of ``count`` seeds, as the WebUI makes them with all its scripts at rest. Call under the turn.

    Args:
        theirs: context around the work of the WebUI and its extensions.

    Raises:
        CheckpointError: the file that is to stand in cannot be read.
        HostError: a LoRA is not in the WebUI's list, or the WebUI could not make the image.
        PictureInterruptedError: the request asked for that, or the person pressed Interrupt or Skip.
        OutOfMemoryError: the device has no room for it.
    """
    prompt = request.prompt + "".join(f"<lora:{_name(path)}:{weight:g}>" for path, weight in request.loras)
    with ExitStack() as stack:
        for part in (_job_kept(), _history_kept(), _clip_skip(request.clip_skip), _networks_kept(model), randomness.preserved()):
            stack.enter_context(part)
        if request.checkpoint:
            vae, unet = (next(weights.module_of(model, part).parameters()).dtype == torch.float32 for part in ("vae", "unet"))
            room = picture_bytes(max(request.width_px, request.height_px), count, vae, unet)
            stack.enter_context(weights.temporarily_loaded(model, request.checkpoint, room))
        p = stack.enter_context(closing(_processing(request, prompt, count, model)))
        try:
            with theirs, interruptible(request):
                scripts_at_rest.put_to_rest(p)
                processed = webui("processing").process_images(p)
        except HostError:
            raise
        except Exception as error:  # the WebUI and its extensions raise whatever they like
            if is_out_of_memory(error):
                raise OutOfMemoryError("No room on the device for a preview image: choose a smaller one or switch previews off.") from error
            raise _failed(error) from error
        if was_interrupted():
            raise PictureInterruptedError("The image was left unfinished: the WebUI was interrupted.")
    first = getattr(processed, "index_of_first_image", 0)
    images = processed.images[first : first + count]  # further images in the list come from extensions
    if len(images) < count:
        raise HostError("The WebUI made no preview image: it was interrupted.")
    assert all(isinstance(image, Image.Image) for image in images)
    return list(images)


def _failed(error: Exception) -> HostError:
    extension, reason = scripts_at_rest.culprit(error), str(error) or type(error).__name__
    if extension is None:
        return HostError(f"The WebUI could not make the preview image: {reason}")
    return HostError(
        f"The WebUI could not make the preview image, because the extension {extension} failed: {reason}. "
        "If it keeps failing, switch it off in the Extensions tab or update it."
    )


def _name(path: Any) -> str:
    networks, entry = lora_extension(), files.lora_entry(path)
    if networks is None or entry is None:
        raise HostError(
            f"The WebUI does not list the LoRA {path}; it must lie in {webui('shared').cmd_opts.lora_dir}, with the Lora extension on."
        )
    by_file_name = networks.available_network_aliases.get(entry.name) is entry
    return str(entry.name if by_file_name or entry.alias.lower() in networks.forbidden_network_aliases else entry.alias)


def _processing(request: PictureRequest, prompt: str, count: int, model: Any) -> Any:
    p = webui("processing").StableDiffusionProcessingTxt2Img(
        sd_model=model,
        prompt=prompt,
        negative_prompt=request.negative_prompt,
        seed=request.seed,
        subseed=request.seed,  # of strength 0: the WebUI would draw one from Python's random state
        sampler_name=SAMPLER,
        scheduler=SCHEDULER,
        steps=request.steps,
        cfg_scale=request.guidance,
        width=request.width_px,
        height=request.height_px,
        batch_size=count,
        n_iter=1,
        outpath_samples=getattr(webui("shared").opts, "outdir_txt2img_samples", None),
        outpath_grids=getattr(webui("shared").opts, "outdir_txt2img_grids", None),
        do_not_save_samples=True,
        do_not_save_grid=True,
        override_settings=_same_checkpoint(model),
    )
    # A cache of its own, because the shared one may hold prompts encoded with an earlier version of the file.
    p.cached_c, p.cached_uc = [None, None], [None, None]
    return p


def _same_checkpoint(model: Any) -> dict[str, str]:
    """process_images loads what the settings name: hold it to what is loaded when a switch is asked for and still waits."""
    if same_file(webui("sd_models").select_checkpoint().filename, model.sd_checkpoint_info.filename):
        return {}
    return {"sd_model_checkpoint": model.sd_checkpoint_info.title}


@contextmanager
def _job_kept() -> Iterator[None]:
    state = webui("shared").state
    before = {name: getattr(state, name) for name in _JOB if hasattr(state, name)}
    state.begin(job="Finetune preview")
    try:
        yield
    finally:
        state.end()
        for name, value in before.items():
            setattr(state, name, value)


@contextmanager
def _history_kept() -> Iterator[None]:
    """Keep the person's last prompt for the button that brings it back."""
    flags = webui("shared").cmd_opts
    before = flags.no_prompt_history
    flags.no_prompt_history = True
    try:
        yield
    finally:
        flags.no_prompt_history = before


@contextmanager
def _clip_skip(layers: int | None) -> Iterator[None]:
    """The WebUI's clip skip is that of the request, and the person's own again afterwards.

    `override_settings` would do neither where it matters: settings may be frozen by a flag, one that is not in the person's file is
    not put back, and one that the person changes meanwhile is.
    """
    options = webui("shared").opts
    if layers is None or layers == options.CLIP_stop_at_last_layers:
        yield
        return
    stored = {name: options.data[name] for name in (_CLIP_SKIP,) if name in options.data}
    options.data[_CLIP_SKIP] = layers
    try:
        yield
    finally:
        if options.data.get(_CLIP_SKIP) == layers:
            options.data.pop(_CLIP_SKIP)
            options.data.update(stored)


@contextmanager
def _networks_kept(model: Any) -> Iterator[None]:
    """Restore clean weights and the person's own list of active networks afterwards."""
    networks, hijack = lora_extension(), webui("sd_hijack").model_hijack
    active = [] if networks is None else list(networks.loaded_networks)
    strengths = [(net.te_multiplier, net.unet_multiplier, net.dyn_dim) for net in active]
    circular = hijack.circular_enabled
    weights.clean(model)
    try:
        yield
    finally:
        hijack.apply_circular(circular)
        weights.clean(model)
        for net, strength in zip(
            active, strengths, strict=True
        ):  # a network of the person's that the preview used now has the preview's strength
            net.te_multiplier, net.unet_multiplier, net.dyn_dim = strength
        if networks is not None:
            files.forget_words([net for net in networks.loaded_networks if net not in active], model)
            networks.loaded_networks[:] = active
