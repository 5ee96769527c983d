"""Which checkpoint is loaded, which are refused, and loading one again."""

from __future__ import annotations

import ast
import json
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from pathlib import Path

import pytest
from stub_webui import Model, StubWebui

from lib_finetune.errors import HostError
from lib_finetune.host.webui.host import WebuiHost


def test_a_plain_checkpoint_is_not_refused(host: WebuiHost) -> None:
    assert host.refusals() == []


def test_lowvram_and_fp8_are_refused_with_what_to_change(host: WebuiHost, webui: StubWebui) -> None:
    webui.shared.cmd_opts.lowvram = True
    webui.devices.fp8 = True
    low, fp8 = host.refusals()
    assert "--lowvram" in low and "FP8 weight" in fp8


@pytest.mark.parametrize(("flag", "name"), [("is_sd2", "Stable Diffusion 2"), ("is_sdxl", "SDXL"), ("is_sd3", "Stable Diffusion 3")])
def test_other_families_are_refused_by_name(host: WebuiHost, webui: StubWebui, flag: str, name: str) -> None:
    setattr(webui.model, flag, True)
    assert name in host.refusals()[0]


@pytest.mark.parametrize(("channels", "name"), [(9, "inpainting"), (8, "instruct-pix2pix"), (5, "5 input channels")])
def test_other_unets_are_refused_by_name(host: WebuiHost, webui: StubWebui, channels: int, name: str) -> None:
    webui.put_model("a", Model(channels=channels))
    assert name in host.refusals()[0]


def test_no_checkpoint_is_refused(host: WebuiHost, webui: StubWebui) -> None:
    webui.data.sd_model = webui.shared.sd_model = None
    assert "no checkpoint loaded" in host.refusals()[0]


def test_a_checkpoint_that_is_being_changed_is_awaited(host: WebuiHost, webui: StubWebui) -> None:
    model = webui.model
    webui.data.sd_model = webui.shared.sd_model = None
    with ThreadPoolExecutor(1) as pool:
        with webui.lock:
            answer = pool.submit(host.refusals)
            with pytest.raises(NotYet):
                answer.result(timeout=0.2)
            webui.data.sd_model = webui.shared.sd_model = model
        assert answer.result(timeout=60) == []


def test_the_checkpoint_is_told_with_its_vae(host: WebuiHost, webui: StubWebui) -> None:
    webui.vae.loaded = "v.pt"
    webui.model.parameterization = "v"
    found = host.checkpoint()
    assert (found.name, found.vae, found.prediction, found.short_hash) == ("a", "v.pt", "v_prediction", "a" * 10)


def test_text_tools_are_the_hosts(host: WebuiHost, webui: StubWebui) -> None:
    webui.shared.opts.CLIP_stop_at_last_layers = 2
    tools = host.text_tools()
    assert (tools.tokenizer, tools.heads, tools.clip_skip) == (webui.model.cond_stage_model.wrapped.tokenizer, 2, 2)


def test_loading_brings_checkpoint_and_vae_back_and_the_settings_follow(host: WebuiHost, webui: StubWebui) -> None:
    webui.vae.vae_dict["v.pt"] = "/somewhere/v.pt"
    webui.vae.loaded = "v.pt"
    wanted = host.checkpoint()
    webui.put_model("b", Model(1))
    webui.vae.loaded = None
    webui.shared.opts.data["sd_model_checkpoint"] = "b.safetensors"
    host.load(wanted)
    assert host.checkpoint().identity == wanted.identity
    wished = {"sd_model_checkpoint": "a.safetensors", "sd_vae": "v.pt"}
    assert (webui.shared.opts.data, json.loads(Path(webui.shared.config_filename).read_text())) == (wished, wished)


def test_loading_what_is_gone_says_so_and_frees_the_turn(host: WebuiHost, webui: StubWebui) -> None:
    wanted = host.checkpoint()
    webui.models.checkpoints_list.clear()
    with pytest.raises(HostError, match="put the file back"):
        host.load(wanted)
    assert webui.lock.acquire(blocking=False)


def test_a_load_that_fails_says_why(host: WebuiHost, webui: StubWebui, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(info: object) -> None:
        raise OSError("header too large")

    monkeypatch.setattr(webui.models, "reload_model_weights", fail)
    with pytest.raises(HostError, match="header too large"):
        host.load(host.checkpoint())


def test_paths_follow_the_flags(host: WebuiHost, webui: StubWebui, tmp_path: Path) -> None:
    webui.shared.cmd_opts.ckpt_dir = str(tmp_path / "elsewhere")
    del webui.shared.cmd_opts.lora_dir
    assert host.paths.lora == tmp_path / "models/Lora" and host.paths.checkpoints == tmp_path / "elsewhere"
    assert host.paths.data == tmp_path / ".finetune"


def test_importing_the_host_imports_nothing_of_the_webui() -> None:
    for file in (Path(__file__).parents[3] / "lib_finetune" / "host" / "webui").glob("*.py"):
        imports = [node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, (ast.Import, ast.ImportFrom))]
        names = {alias.name for node in imports for alias in node.names} | {
            node.module for node in imports if isinstance(node, ast.ImportFrom)
        }
        assert not any(name and name.split(".")[0] == "modules" for name in names), file.name
