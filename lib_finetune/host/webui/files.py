"""Saved files in the WebUI: its lists are refreshed and its own loader checks each file."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lib_finetune import randomness
from lib_finetune.export import bundled_word
from lib_finetune.export import card as cards
from lib_finetune.host.webui import weights
from lib_finetune.host.webui.loading import await_model, loaded_model
from lib_finetune.host.webui.modules import lora_extension, webui
from lib_finetune.host.webui.same_file import same_file
from lib_finetune.ports.files import Card, Verification

if TYPE_CHECKING:
    from PIL import Image

    from lib_finetune.host.webui.turn import Turn

_PAGES = {"lora": "lora", "embedding": "textual inversion", "checkpoint": "checkpoints"}


class WebuiFiles:
    """Implements `ports.files.HostFiles`."""

    def __init__(self, turn: Turn) -> None:
        self._turn = turn

    def artifact_saved(self, kind: str, path: Path, card: Card) -> Verification:
        """See `HostFiles.artifact_saved`.

        Raises:
            HostError: no checkpoint is loaded, so the loader cannot check the file.
        """
        lost = cards.card_or_reason(path, card)
        await_model()
        with self._turn.held(), randomness.preserved():  # the loader makes layers, which draw their first values
            verification = announce(kind, path, loaded_model())
        return replace(verification, message=verification.message + lost)

    def artifact_removed(self, kind: str, path: Path) -> None:
        """See `HostFiles.artifact_removed`.

        Raises:
            HostError: no checkpoint is loaded.
        """
        await_model()
        with self._turn.held():
            withdraw(kind, path, loaded_model())

    def card_picture(self, kind: str, path: Path, image: Image.Image) -> None:
        """See `HostFiles.card_picture`. Takes no turn.

        Raises:
            SaveError: the image cannot be written.
        """
        cards.write_picture(path, kind, image)


def announce(kind: str, path: Path, model: Any) -> Verification:
    """Pass a file through the WebUI's loader and refresh its lists. Call under the turn.

    Args:
        kind: "lora", "checkpoint" or "embedding".
        model: the model that is loaded.
    """
    judged = _lora(path, model) if kind == "lora" else {"checkpoint": _checkpoint, "embedding": _embedding}[kind](path)
    forget_prompts()
    _reset_page(kind)
    return judged


def withdraw(kind: str, path: Path, model: Any) -> None:
    """Take a file that is gone out of the WebUI's lists and memory. Call under the turn.

    Args:
        kind: "lora", "checkpoint" or "embedding".
        model: the model that is loaded.
    """
    networks = lora_extension()
    if kind == "lora" and networks is not None:
        weights.clean(model)  # the person's last prompt may use it, and its patches would stay
        _forget_network(networks, path, model)
        networks.list_available_networks()
    elif kind == "checkpoint":
        webui("sd_models").list_models()
    elif kind == "embedding":
        webui("sd_hijack").model_hijack.embedding_db.load_textual_inversion_embeddings(force_reload=True)
    forget_prompts()
    _reset_page(kind)


def _reset_page(kind: str) -> None:
    for page in webui("ui_extra_networks").extra_pages:
        if page.name == _PAGES[kind]:
            page.lister.reset()


def forget_prompts() -> None:
    """Empty the WebUI's cache of encoded prompts: its key has a network's name, not the content of the file."""
    processing = webui("processing")
    base, txt2img = processing.StableDiffusionProcessing, processing.StableDiffusionProcessingTxt2Img
    base.cached_c, base.cached_uc = [None, None], [None, None]
    txt2img.cached_hr_c, txt2img.cached_hr_uc = [None, None], [None, None]


def lora_entry(path: Path) -> Any | None:
    """The entry of this very file in the Lora extension's list, or None (another file of the same name hides it, or it lies elsewhere)."""
    networks = lora_extension()
    entries = () if networks is None else list(networks.available_networks.values())
    return next((entry for entry in entries if same_file(entry.filename, path)), None)


def _lora(path: Path, model: Any) -> Verification:
    networks = lora_extension()
    total, words = _parts_in(path)
    if networks is None:
        return Verification(
            0, len(total), "The WebUI's Lora extension is switched off, so the file could not be checked: enable it in the tab Extensions."
        )
    networks.list_available_networks()
    entry = lora_entry(path)
    if entry is None:
        return Verification(
            0,
            len(total),
            f"The WebUI does not list {path.name}: it lies outside {webui('shared').cmd_opts.lora_dir}, or its name is taken.",
        )
    weights.clean(model)
    _forget_network(networks, path, model)
    try:
        network = networks.load_network(entry.name, entry)
    except (AssertionError, KeyError, ValueError, RuntimeError, OSError) as error:
        return Verification(0, len(total), f"The WebUI's Lora loader refused {path.name}: {error}")
    matched = {module.network_key.partition(".")[0] for module in network.modules.values()} & total
    read = words & set(getattr(network, "bundle_embeddings", {}))
    missing = sorted(total - matched) + sorted(f"the word {word}" for word in words - read)
    message = f"The WebUI's Lora loader matched {len(matched)} of {len(total)} modules of {path.name}"
    message += f" and read the word {', '.join(sorted(read))}" if read else ""
    return Verification(len(matched) + len(read), len(total) + len(words), message + (f"; not {missing[0]}." if missing else "."))


def forget_words(networks: Iterable[Any], model: Any) -> None:
    """Take the words that these LoRA files bring out of the WebUI's table, as its `load_networks` does before each image.

    A word that stayed would work in prompts without its file, and would hide a newer version of itself.
    """
    for network in networks:
        for word, embedding in getattr(network, "bundle_embeddings", {}).items():
            if embedding.loaded:
                webui("sd_hijack").model_hijack.embedding_db.register_embedding_by_name(None, model, word)


def _forget_network(networks: Any, path: Path, model: Any) -> None:
    """Make the extension forget an overwritten file, so that the next image reads it anew."""
    forget_words([network for network in networks.loaded_networks if same_file(network.network_on_disk.filename, path)], model)
    for name, network in list(networks.networks_in_memory.items()):
        if same_file(network.network_on_disk.filename, path):
            networks.networks_in_memory.pop(name)
    networks.loaded_networks[:] = [network for network in networks.loaded_networks if not same_file(network.network_on_disk.filename, path)]


def _parts_in(path: Path) -> tuple[set[str], set[str]]:
    """(modules, bundled words) of a LoRA file."""
    from safetensors import safe_open

    with safe_open(str(path), framework="pt") as file:
        keys = list(file.keys())
    return {key.partition(".")[0] for key in keys} - {"bundle_emb"}, bundled_word.names(keys)


def _checkpoint(path: Path) -> Verification:
    models = webui("sd_models")
    models.list_models()
    listed = any(same_file(info.filename, path) for info in models.checkpoints_list.values())
    return Verification(int(listed), 1, f"The WebUI {'lists' if listed else 'does not list'} the checkpoint {path.name}.")


def _embedding(path: Path) -> Verification:
    database = webui("sd_hijack").model_hijack.embedding_db
    database.load_textual_inversion_embeddings(force_reload=True)
    loaded = any(same_file(embedding.filename, path) for embedding in database.word_embeddings.values() if embedding.filename)
    return Verification(int(loaded), 1, f"The WebUI {'has loaded' if loaded else 'did not load'} the embedding {path.name}.")
