"""Saved files in the WebUI: judged by its loader, with a card, and previewed by its own txt2img."""

from __future__ import annotations

import json
import random
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from stub_webui import Model, StubWebui

from lib_finetune.errors import CheckpointChangedError, CheckpointError, HostError
from lib_finetune.export import lora_file
from lib_finetune.host.webui.host import WebuiHost
from lib_finetune.ports.files import Card
from lib_finetune.ports.pictures import PictureRequest

CARD = Card("mycat", 0.8, "ten images", "steps 100")
GOOD = "lora_unet_input_blocks_1_1_transformer_blocks_0_attn1_to_q"


@pytest.fixture
def lora(host: WebuiHost) -> Path:
    path = host.paths.lora / "my-cat.safetensors"
    save_file({f"{GOOD}.lora_up.weight": torch.ones(8, 2), f"{GOOD}.lora_down.weight": torch.ones(2, 8)}, str(path))
    return path


def test_a_file_that_matches_passes(host: WebuiHost, lora: Path) -> None:
    found = host.files.artifact_saved("lora", lora, CARD)
    assert found.passed and (found.matched, found.total) == (1, 1)


def test_a_key_that_the_loader_ignores_fails_by_name(host: WebuiHost, lora: Path) -> None:
    save_file({f"{GOOD}.alpha": torch.ones(()), "lora_unet_nowhere.alpha": torch.ones(())}, str(lora))
    found = host.files.artifact_saved("lora", lora, CARD)
    assert not found.passed and "not lora_unet_nowhere" in found.message


def bundled(path: Path, value: float) -> None:
    patch = {f"{GOOD}.lora_up.weight": torch.ones(8, 2), f"{GOOD}.lora_down.weight": torch.ones(2, 8)}
    lora_file.write(path, patch, {}, "fp16", {"zxqcat": torch.full((3, 8), value)})


def test_a_word_in_the_file_is_read_by_the_loader(host: WebuiHost, lora: Path) -> None:
    bundled(lora, 0.1)
    found = host.files.artifact_saved("lora", lora, CARD)
    assert found.passed and (found.matched, found.total) == (2, 2) and "1 of 1 modules" in found.message and "zxqcat" in found.message


def test_a_word_that_the_loader_does_not_read_fails(host: WebuiHost, webui: StubWebui, lora: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundled(lora, 0.1)
    load = webui.networks.load_network
    monkeypatch.setattr(webui.networks, "load_network", lambda *given: types.SimpleNamespace(modules=load(*given).modules))  # 1.8 and older
    found = host.files.artifact_saved("lora", lora, CARD)
    assert not found.passed and "not the word zxqcat" in found.message


def test_a_word_that_is_taught_again_is_read_anew(host: WebuiHost, webui: StubWebui, lora: Path) -> None:
    bundled(lora, 0.1)
    webui.networks.list_available_networks()
    webui.networks.load_networks(["my-cat"])
    bundled(lora, 0.2)
    host.files.artifact_saved("lora", lora, CARD)
    webui.networks.load_networks(["my-cat"])
    assert float(webui.words.word_embeddings["zxqcat"].vec[0, 0]) == pytest.approx(0.2)


def test_a_preview_leaves_no_word_behind(host: WebuiHost, webui: StubWebui, lora: Path) -> None:
    bundled(lora, 0.1)
    host.files.artifact_saved("lora", lora, CARD)
    seen: list[str] = []
    webui.during_picture = lambda: (webui.networks.load_networks(["my-cat"]), seen.extend(webui.words.word_embeddings))
    host.pictures.make(PictureRequest("zxqcat", loras=[(lora, 0.8)]))
    assert seen == ["zxqcat"] and not webui.words.word_embeddings


def test_a_file_outside_the_folder_fails(host: WebuiHost, lora: Path, tmp_path: Path) -> None:
    outside = lora.rename(tmp_path / "other.safetensors")
    assert "does not list" in host.files.artifact_saved("lora", outside, CARD).message


def test_a_loader_that_refuses_fails_with_its_words(host: WebuiHost, webui: StubWebui, lora: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str, entry: object) -> None:
        raise AssertionError("Could not find a module type")

    monkeypatch.setattr(webui.networks, "load_network", refuse)
    assert "Could not find a module type" in host.files.artifact_saved("lora", lora, CARD).message


def test_the_lists_of_the_person_stay_and_the_card_page_forgets_its_files(host: WebuiHost, webui: StubWebui, lora: Path) -> None:
    webui.generate(lora="dog")
    host.files.artifact_saved("lora", lora, CARD)
    assert [net.name for net in webui.networks.loaded_networks] == ["dog"] and webui.page.lister.resets == 1


def test_an_overwritten_file_that_is_in_use_is_read_anew(host: WebuiHost, webui: StubWebui, lora: Path) -> None:
    webui.generate(lora="my-cat")
    webui.processing.StableDiffusionProcessing.cached_c = ["prompt", "conds"]
    host.files.artifact_saved("lora", lora, CARD)
    assert webui.networks.loaded_networks == []
    assert webui.processing.StableDiffusionProcessing.cached_c == [None, None]


def test_the_card_keeps_the_persons_own_notes(host: WebuiHost, lora: Path) -> None:
    lora.with_suffix(".json").write_text(json.dumps({"notes": "my own", "negative text": "blurry"}))
    host.files.artifact_saved("lora", lora, CARD)
    card = json.loads(lora.with_suffix(".json").read_text())
    assert card["notes"] == "my own" and card["negative text"] == "blurry"
    assert card["activation text"] == "mycat" and card["preferred weight"] == 0.8 and card["sd version"] == "SD1"


def test_the_card_picture_lies_beside_the_file(host: WebuiHost, lora: Path) -> None:
    host.files.card_picture("lora", lora, Image.new("RGB", (8, 8)))
    assert Image.open(lora.with_suffix(".png")).size == (8, 8)


def test_a_picture_asks_the_host_with_the_lora_in_the_prompt(host: WebuiHost, webui: StubWebui, lora: Path) -> None:
    host.files.artifact_saved("lora", lora, CARD)
    image = host.pictures.make(PictureRequest("a cat", loras=[(lora, 0.8)], width_px=64, height_px=96, steps=5, seed=4))
    made = webui.made[0]
    assert image.size == (64, 96) and made.prompt == "a cat<lora:my-cat:0.8>" and (made.seed, made.steps) == (4, 5)
    assert made.closed and made.do_not_save_samples and made.override_settings == {}
    assert (made.batch_size, made.n_iter, len(webui.made)) == (1, 1, 1)


def test_a_picture_leaves_job_history_networks_and_random_states(host: WebuiHost, webui: StubWebui) -> None:
    webui.generate(lora="dog")
    webui.shared.state.job, webui.shared.state.interrupted = "theirs", True
    webui.during_picture = lambda: (webui.generate(lora="my-cat"), torch.rand(1))
    torch.manual_seed(2)
    state = torch.get_rng_state()
    host.pictures.make(PictureRequest("a cat"))
    assert torch.equal(torch.get_rng_state(), state) and webui.made[0].subseed >= 0
    assert (webui.shared.state.job, webui.shared.state.interrupted, webui.shared.state.job_no) == ("theirs", True, 0)
    assert [net.name for net in webui.networks.loaded_networks] == ["dog"]
    assert webui.shared.cmd_opts.no_prompt_history is False


def test_who_draws_during_a_picture_does_not_draw_the_same_again(host: WebuiHost, webui: StubWebui) -> None:
    drawn: list[float] = []
    webui.during_picture = lambda: drawn.extend((random.random(), np.random.rand()))
    host.remember()
    host.pictures.make(PictureRequest("a cat"))
    assert drawn[0] != random.random() and drawn[1] != np.random.rand()
    assert host.restoration().differences == ()


def test_a_picture_in_a_run_is_not_blamed_on_us(host: WebuiHost, webui: StubWebui) -> None:
    host.remember()
    webui.during_picture = lambda: webui.generate(lora="my-cat")
    host.pictures.make(PictureRequest("a cat"))
    assert host.restoration().differences == ()


def test_a_picture_of_another_checkpoint_than_the_runs_is_refused(host: WebuiHost, webui: StubWebui) -> None:
    host.remember()
    webui.put_model("b", Model(1))
    with pytest.raises(CheckpointChangedError):
        host.pictures.make(PictureRequest("a cat"))


def test_a_switch_that_still_waits_does_not_happen_inside_a_picture(host: WebuiHost, webui: StubWebui) -> None:
    webui.shared.opts.data["sd_model_checkpoint"] = "b.safetensors"
    host.pictures.make(PictureRequest("a cat"))
    assert webui.made[0].override_settings == {"sd_model_checkpoint": "a.safetensors"}


def test_what_the_host_raises_becomes_our_error_and_frees_the_turn(host: WebuiHost, webui: StubWebui) -> None:
    def fail() -> None:
        raise ArithmeticError("A tensor with NaNs was produced in VAE")

    webui.during_picture = fail
    with pytest.raises(HostError, match="NaNs"):
        host.pictures.make(PictureRequest("a cat"))
    assert webui.lock.acquire(blocking=False) and webui.made[0].closed


def test_an_unlisted_lora_is_refused(host: WebuiHost, tmp_path: Path) -> None:
    with pytest.raises(HostError, match="does not list"):
        host.pictures.make(PictureRequest("a cat", loras=[(tmp_path / "no.safetensors", 1.0)]))


def test_class_pictures_come_in_one_batch(host: WebuiHost, webui: StubWebui) -> None:
    assert len(host.pictures.make_batch(PictureRequest("a cat", seed=5), 3)) == 3
    assert (webui.made[0].batch_size, webui.made[0].seed) == (3, 5) and len(webui.made) == 1


@pytest.mark.parametrize("short", [False, True])
@pytest.mark.parametrize("fails", [False, True])
def test_a_checkpoint_file_stands_in_for_one_picture(
    host: WebuiHost, webui: StubWebui, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: bool, short: bool
) -> None:
    """Where a card is short of room, the host's own weights make way for it."""
    monkeypatch.setattr("lib_finetune.host.webui.weights._short_of_room", lambda *_: short)
    model = webui.model
    name = "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn1.to_q.weight"
    weight = model.model.diffusion_model.input_blocks[1][1].transformer_blocks[0].attn1.to_q.weight
    before, place, stored = weight.detach().clone(), weight.data_ptr(), tmp_path / "whole.safetensors"
    save_file({name: torch.full((8, 8), 0.25, dtype=torch.float16)}, str(stored))
    seen = []

    def during() -> None:
        seen.append(weight.detach().clone())
        if fails:
            raise ArithmeticError("A tensor with NaNs was produced in UNet")

    webui.during_picture = during
    host.remember()
    if fails:
        with pytest.raises(HostError):
            host.pictures.make(PictureRequest("a cat", checkpoint=stored))
    else:
        host.pictures.make(PictureRequest("a cat", checkpoint=stored))
    assert torch.equal(seen[0], torch.full((8, 8), 0.25)) and torch.equal(weight, before)
    assert short or weight.data_ptr() == place
    assert host.restoration().differences == ()


def interim(host: WebuiHost, step: int) -> Path:
    path = host.paths.lora / f"my-cat-{step:06d}.safetensors"
    save_file({f"{GOOD}.lora_up.weight": torch.ones(8, 2), f"{GOOD}.lora_down.weight": torch.ones(2, 8)}, str(path))
    return path


def test_a_file_of_the_way_is_found_by_previews_at_once(host: WebuiHost, webui: StubWebui) -> None:
    host.remember()
    first, second = interim(host, 200), interim(host, 400)
    for path in (first, second):
        assert host.files.artifact_saved("lora", path, CARD).passed
        host.pictures.make(PictureRequest("a cat", loras=[(path, 0.8)]))
    assert [made.prompt for made in webui.made] == ["a cat<lora:my-cat-000200:0.8>", "a cat<lora:my-cat-000400:0.8>"]
    assert host.restoration().differences == ()


def test_a_lora_that_is_gone_is_no_longer_listed_nor_remembered(host: WebuiHost, webui: StubWebui) -> None:
    path = interim(host, 200)
    host.files.artifact_saved("lora", path, CARD)
    webui.networks.load_networks([path.stem])
    webui.generate(lora=path.stem)  # the person tries it
    before = [value.clone() for value in Model().parameters()]
    webui.processing.StableDiffusionProcessing.cached_c = ["prompt", "conds"]
    resets = webui.page.lister.resets
    path.unlink()
    host.files.artifact_removed("lora", path)
    assert path.stem not in webui.networks.available_networks and path.stem not in webui.networks.networks_in_memory
    assert webui.networks.loaded_networks == [] and webui.page.lister.resets == resets + 1
    assert webui.processing.StableDiffusionProcessing.cached_c == [None, None]
    assert all(torch.equal(one, other) for one, other in zip(webui.generate(), before, strict=True))


def test_a_word_of_a_file_that_is_gone_leaves_the_table(host: WebuiHost, webui: StubWebui, lora: Path) -> None:
    bundled(lora, 0.1)
    host.files.artifact_saved("lora", lora, CARD)
    webui.networks.load_networks(["my-cat"])
    assert "zxqcat" in webui.words.word_embeddings
    lora.unlink()
    host.files.artifact_removed("lora", lora)
    assert "zxqcat" not in webui.words.word_embeddings


@pytest.mark.parametrize("kind", ["checkpoint", "embedding"])
def test_the_lists_of_other_kinds_are_read_anew_when_a_file_is_gone(
    host: WebuiHost, webui: StubWebui, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    read: list[str] = []
    monkeypatch.setattr(webui.models, "list_models", lambda: read.append("checkpoint"))
    webui.words.load_textual_inversion_embeddings = lambda force_reload: read.append("embedding")
    host.files.artifact_removed(kind, tmp_path / "gone.safetensors")
    assert read == [kind] and webui.lock.acquire(blocking=False)


def test_without_the_lora_extension_a_file_that_is_gone_is_no_trouble(
    host: WebuiHost, webui: StubWebui, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lib_finetune.host.webui.files.lora_extension", lambda: None)
    host.files.artifact_removed("lora", host.paths.lora / "gone.safetensors")
    assert webui.page.lister.resets == 1


def test_a_checkpoint_that_cannot_be_read_stands_in_for_nothing(host: WebuiHost, webui: StubWebui, tmp_path: Path) -> None:
    before, broken = [tensor.detach().clone() for tensor in webui.model.parameters()], tmp_path / "broken.safetensors"
    broken.write_bytes(b"no checkpoint")
    with pytest.raises(CheckpointError, match=r"broken\.safetensors cannot be read"):
        host.pictures.make(PictureRequest("a cat", checkpoint=broken))
    assert all(torch.equal(one, other) for one, other in zip(before, webui.model.parameters()))
