"""The checkpoint that the WebUI has loaded: what it is, whether we train it, and loading another."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from lib_finetune.errors import HostError
from lib_finetune.host.webui.modules import webui
from lib_finetune.host.webui.other_hosts import refuses_model
from lib_finetune.host.webui.same_file import same_file
from lib_finetune.ports.checkpoint import CheckpointInfo
from lib_finetune.ports.lease import TextTools

_log = logging.getLogger(__name__)
_FAMILIES = (("is_sd3", "a Stable Diffusion 3 model"), ("is_sdxl", "an SDXL model"), ("is_sd2", "a Stable Diffusion 2 model"))
_CONDITIONED = {9: "an inpainting model", 8: "an instruct-pix2pix model"}


def loaded_model() -> Any | None:
    """The model that the WebUI holds now, without making it load one."""
    return webui("sd_models").model_data.sd_model


def await_model() -> None:
    """Wait for the load at start: it does not hold the queue lock, but nothing may be borrowed or built until it has ended.

    Takes the turn if there is no model, as while the WebUI changes to another checkpoint, which it does under the lock.

    Raises:
        HostError: no checkpoint is loaded and none could be.
    """
    if webui("shared").sd_model is not None:
        return
    with webui("call_queue").queue_lock:
        if webui("shared").sd_model is None:
            raise HostError("The WebUI has no checkpoint loaded: choose one at the top left (its console tells why the last one failed).")


def refusals() -> list[str]:
    """Why training cannot start now, a sentence each."""
    flags, sentences = webui("shared").cmd_opts, []
    if getattr(flags, "lowvram", False):  # Forge has none of it
        sentences.append(
            "The WebUI runs with --lowvram, which tears the model apart after each block: remove --lowvram, or use --medvram instead."
        )
    try:
        await_model()
    except HostError as error:
        return [*sentences, str(error)]
    model = loaded_model()
    if reason := refuses_model(model):
        return [reason]
    if webui("devices").fp8 or webui("sd_models").check_fp8(model):
        sentences.append("Weights are stored in fp8, too coarse to train on: set Settings > Optimizations > FP8 weight to Disable.")
    if family := _family(model):
        sentences.append(
            f"{info().name} is {family}. Finetune trains Stable Diffusion 1.x: choose such a checkpoint (1.4, 1.5 or one made from them)."
        )
    return sentences


def info() -> CheckpointInfo:
    """The loaded checkpoint.

    Raises:
        HostError: none is loaded.
    """
    model = loaded_model()
    if model is None:
        raise HostError("The WebUI has no checkpoint loaded: choose one at the top left.")
    entry = model.sd_checkpoint_info
    prediction = "v_prediction" if getattr(model, "parameterization", "eps") == "v" else "epsilon"
    vae = webui("sd_vae").get_loaded_vae_name()
    return CheckpointInfo(entry.name_for_extra, Path(entry.filename).absolute(), entry.sha256, model.sd_model_hash, vae, prediction)


def text_tools() -> TextTools:
    """Tokenizer and options of the loaded text encoder.

    Raises:
        HostError: no SD1 text encoder is loaded.
    """
    stage: Any = getattr(loaded_model(), "cond_stage_model", None)
    stage = getattr(stage, "wrapped", stage)
    if not hasattr(stage, "transformer") or not hasattr(stage, "tokenizer"):
        raise HostError("The loaded checkpoint has no CLIP text encoder as Stable Diffusion 1.x has: choose such a checkpoint.")
    config = stage.transformer.config
    clip_skip = max(1, int(webui("shared").opts.CLIP_stop_at_last_layers))
    return TextTools(stage.tokenizer, int(config.num_attention_heads), clip_skip, str(config.hidden_act))


def load(checkpoint: CheckpointInfo) -> None:
    """Load a checkpoint and its VAE. Call under the turn; the settings follow, so that the next image does not switch back.

    Raises:
        HostError: it is gone or does not load.
    """
    models = webui("sd_models")
    entries = models.checkpoints_list.values()
    entry = next((entry for entry in entries if checkpoint.path is not None and same_file(entry.filename, checkpoint.path)), None)
    if entry is None:
        raise HostError(
            f"The WebUI does not list {checkpoint.path or checkpoint.name} any more: put the file back and press the refresh button beside the checkpoint."
        )
    problem = None
    try:
        models.reload_model_weights(info=entry)
        webui("shared").opts.data["sd_model_checkpoint"] = entry.title
        _load_vae(checkpoint, entry)
        _keep_settings()
    except Exception as error:  # noqa: BLE001 - the WebUI raises whatever its libraries raise
        _log.exception("Loading %s failed", checkpoint)
        problem = f"{checkpoint} does not load: {error}"
    if problem is None and info().identity != checkpoint.identity:
        problem = f"{checkpoint} was asked for, but the WebUI loaded {info()}."
    if problem:
        raise HostError(problem)


def _keep_settings() -> None:
    """Store the choice as the page's drop-down does, so that at its next start the WebUI loads the present checkpoint."""
    shared = webui("shared")
    if not shared.cmd_opts.freeze_settings:
        shared.opts.save(shared.config_filename)


def _load_vae(checkpoint: CheckpointInfo, entry: Any) -> None:
    vaes = webui("sd_vae")
    if vaes.get_loaded_vae_name() == checkpoint.vae:
        return
    file = _vae_file(checkpoint.vae)
    chosen = vaes.resolve_vae(entry.filename).vae
    if (Path(chosen).name if chosen else None) != checkpoint.vae:
        webui("shared").opts.data["sd_vae"] = checkpoint.vae or "None"
    vaes.reload_vae_weights(vae_file=file)


def _vae_file(name: str | None) -> str | None:
    if name is None:
        return None
    vaes = webui("sd_vae")
    if name not in vaes.vae_dict:
        vaes.refresh_vae_list()
    if name not in vaes.vae_dict:
        raise HostError(f"the VAE {name} is gone.")
    return str(vaes.vae_dict[name])


def _family(model: Any) -> str | None:
    for flag, family in _FAMILIES:
        if getattr(model, flag, False):
            return family
    first = model.model.diffusion_model.input_blocks[0][0].weight
    return _CONDITIONED.get(int(first.shape[1])) or (None if first.shape[1] == 4 else f"a model with {int(first.shape[1])} input channels")
