"""Images beside other extensions: each of them is heard, at rest, and what goes wrong is told by name."""

from __future__ import annotations

import threading
import types
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from stub_webui import Runner, Script, StubWebui, control

from lib_finetune.errors import HostError, WeightsChangedError
from lib_finetune.host.webui import scripts_at_rest, weights
from lib_finetune.host.webui.host import WebuiHost
from lib_finetune.ports.pictures import PictureRequest

CAT = PictureRequest("a cat")
FIRST = "model.diffusion_model.input_blocks.0.0"


def tuner(webui: StubWebui, **more: Any) -> Script:
    return Script(webui.root, "tuner", [control("Tuner", False), control("Detail", 0.5)], **more)


def first_layer(webui: StubWebui) -> torch.nn.Conv2d:
    return webui.model.model.diffusion_model.input_blocks[0][0]


def code_in(webui: StubWebui, place: str, code: str) -> dict[str, Any]:
    """Code that lies in a file of an extension."""
    found: dict[str, Any] = {}
    exec(compile(code, str(webui.root / place), "exec"), found)
    return found


# -- at rest -------------------------------------------------------------------------------------------------------------


def test_every_script_hears_of_a_picture_with_the_default_of_each_control(host: WebuiHost, webui: StubWebui) -> None:
    script, bare = tuner(webui), Script(webui.root, "bare", [])
    runner = webui.put_scripts(bare, script)
    host.pictures.make(CAT)
    made = webui.made[0]
    assert made.scripts is runner and made.script_args == (0, False, 1.0, False, 0.5)
    assert script.asked == [(False, 0.5)] * 2 and bare.asked == [()] * 2
    assert runner.set_up == [(made, False)] and made.is_api


def test_the_defaults_are_those_of_the_code_and_not_what_the_person_saved(host: WebuiHost, webui: StubWebui) -> None:
    script = tuner(webui)
    webui.put_scripts(script)
    script.controls[0].value = True  # from ui-config.json, after the page was built
    host.pictures.make(CAT)
    assert script.asked[0] == (False, 0.5)


@pytest.mark.parametrize("told", ["controls", "nothing"])
def test_where_the_webui_wrote_no_defaults_down_the_controls_are_asked(host: WebuiHost, webui: StubWebui, told: str) -> None:
    script = tuner(webui)
    webui.put_scripts(script)
    del script.api_info
    if told == "nothing":
        own, script.controls = script.controls, None
        script.ui = lambda is_img2img: own
    host.pictures.make(CAT)
    assert script.asked[0] == (False, 0.5)


def test_an_extension_that_failed_to_make_its_controls_stops_no_picture(host: WebuiHost, webui: StubWebui) -> None:
    script = Script(webui.root, "broken", [])
    webui.put_scripts(script)
    script.controls = script.api_info = None
    script.ui = lambda is_img2img: 1 / 0
    host.pictures.make(CAT)
    assert script.asked == [(), ()] and host.remember() == []


def test_a_default_that_is_computed_is_computed(host: WebuiHost, webui: StubWebui) -> None:
    script = Script(webui.root, "clock", [control("Hour", lambda: 7)])
    webui.put_scripts(script)
    host.pictures.make(CAT)
    assert script.asked[0] == (7,)


def test_a_control_of_a_setting_rests_at_what_the_setting_is_now(host: WebuiHost, webui: StubWebui) -> None:
    """The WebUI's own script for settings in the page would put back those of the last start, the checkpoint too."""
    script = Script(webui.root, "options", [control("VAE", "Automatic", "setting_sd_vae"), control("Own", 3, "setting_unheard")])
    webui.put_scripts(script)
    webui.shared.opts.data["sd_vae"] = "None"
    host.pictures.make(CAT)
    assert script.asked[0] == ("None", 3)


def test_a_reloaded_page_has_scripts_of_its_own(host: WebuiHost, webui: StubWebui) -> None:
    host.pictures.make(CAT)
    script = tuner(webui)
    runner = webui.put_scripts(script)
    host.pictures.make(CAT)
    assert webui.made[1].scripts is runner and len(script.asked) == 2


def test_a_picture_waits_until_the_page_is_built(host: WebuiHost, webui: StubWebui, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scripts_at_rest, "_POLL_S", 0.01)
    script = tuner(webui)
    webui.scripts.scripts_txt2img, webui.scripts.scripts_data = Runner([]), ["loaded"]
    timer = threading.Timer(0.2, lambda: webui.put_scripts(script))
    timer.start()
    host.pictures.make(CAT)
    timer.join()
    assert script.asked[0] == (False, 0.5)


def test_a_page_that_is_never_built_is_said(host: WebuiHost, webui: StubWebui, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scripts_at_rest, "_WAIT_S", 0.05)
    webui.put_scripts(tuner(webui)).scripts[1].args_to = None
    with pytest.raises(HostError, match="still building its page"):
        host.pictures.make(CAT)
    assert webui.lock.acquire(blocking=False)


@pytest.mark.parametrize("runner", [None, Runner([])])
def test_without_scripts_pictures_are_made_without(host: WebuiHost, webui: StubWebui, runner: Runner | None) -> None:
    webui.scripts.scripts_txt2img = runner
    host.pictures.make(CAT)
    assert webui.made[0].scripts is None


def test_pictures_that_a_script_adds_are_not_taken_for_ours(host: WebuiHost, webui: StubWebui) -> None:
    webui.extra_images = [Image.new("RGB", (1, 1))]
    assert [image.size for image in host.pictures.make_batch(PictureRequest("a cat", width_px=64, height_px=64), 2)] == [(64, 64)] * 2


# -- what is on by default ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("label", ["Enable", "Wildcards enabled", "Active", "Tuner", "启用", "Activate it"])
def test_an_extension_that_is_on_by_default_is_said_once_a_run(host: WebuiHost, webui: StubWebui, label: str) -> None:
    webui.put_scripts(Script(webui.root, "sd-tuner", [control("Strength", 1.0), control(label, True)], title="Tuner"))
    said = host.remember()
    assert len(said) == 1 and said[0].startswith("sd-tuner is switched on by default") and label in said[0]


@pytest.mark.parametrize(("label", "value"), [("Enable", False), ("Keep the size", True), ("Enable", "True"), ("Enable", 1), (None, True)])
def test_an_extension_at_rest_is_not_said(host: WebuiHost, webui: StubWebui, label: str, value: Any) -> None:
    webui.put_scripts(Script(webui.root, "sd-tuner", [control(label, value)], title="Tuner"))
    assert host.remember() == []


def test_scripts_below_the_drop_down_are_not_said(host: WebuiHost, webui: StubWebui) -> None:
    script = Script(webui.root, "grid", [control("Enable", True)])
    script.alwayson = False
    webui.put_scripts(script)
    assert host.remember() == []


# -- who failed -------------------------------------------------------------------------------------------------------------

RAISES = "def f():\n    raise AttributeError('no attribute delta')"


@pytest.mark.parametrize(
    "place", ["extensions/sd-tuner/scripts/main.py", "extensions/sd-tuner/a/b/c.py", "program/extensions-builtin/sd-tuner/x.py"]
)
def test_the_extension_whose_file_raised_is_named(host: WebuiHost, webui: StubWebui, place: str) -> None:
    webui.during_picture = code_in(webui, place, RAISES)["f"]
    with pytest.raises(HostError, match="the extension sd-tuner failed: no attribute delta"):
        host.pictures.make(CAT)


def test_the_last_extension_on_the_way_is_named(host: WebuiHost, webui: StubWebui) -> None:
    inner = code_in(webui, "extensions/inner/main.py", RAISES)["f"]
    outer = code_in(webui, "extensions/outer/main.py", "def f(g):\n    g()")["f"]
    webui.during_picture = lambda: outer(inner)
    with pytest.raises(HostError, match="the extension inner failed"):
        host.pictures.make(CAT)


def test_an_extension_that_calls_what_raises_is_named(host: WebuiHost, webui: StubWebui) -> None:
    webui.during_picture = code_in(webui, "extensions/outer/main.py", "import torch\ndef f():\n    torch.nn.Linear(2, 2)(torch.ones(3))")[
        "f"
    ]
    with pytest.raises(HostError, match="the extension outer failed: mat1"):
        host.pictures.make(CAT)


def test_the_lora_extension_that_every_layer_goes_through_is_not_blamed(host: WebuiHost, webui: StubWebui) -> None:
    through = "def network_Linear_forward(f):\n    f()\ndef calc_updown():\n    raise ValueError('shape')"
    lora = code_in(webui, "program/extensions-builtin/Lora/networks.py", through)
    webui.during_picture = lambda: lora["network_Linear_forward"](code_in(webui, "modules/x.py", RAISES)["f"])
    with pytest.raises(HostError, match="image: no attribute delta"):
        host.pictures.make(CAT)
    webui.during_picture = lambda: lora["network_Linear_forward"](lora["calc_updown"])
    with pytest.raises(HostError, match="the extension Lora failed: shape"):
        host.pictures.make(CAT)


def test_without_an_extension_on_the_way_none_is_named(host: WebuiHost, webui: StubWebui) -> None:
    webui.during_picture = code_in(webui, "modules/processing.py", RAISES)["f"]
    with pytest.raises(HostError, match="image: no attribute delta"):
        host.pictures.make(CAT)


# -- what extensions put in order is theirs -----------------------------------------------------------------------------------


def leave_something(webui: StubWebui) -> None:
    """What extensions do to the model: hooks, replaced forwards, another attention, a setting."""
    first_layer(webui).register_forward_hook(lambda *_: None)
    webui.model.first_stage_model.quant_conv.forward = lambda x: x
    webui.hijack.model_hijack.optimization_method = "theirs"
    webui.shared.opts.data["their_setting"] = 1


@pytest.mark.parametrize("where", ["process", "postprocess", "sampling"])
def test_what_extensions_change_in_a_picture_of_ours_is_theirs(host: WebuiHost, webui: StubWebui, where: str) -> None:
    script = tuner(webui)
    webui.put_scripts(script)
    if where == "sampling":
        webui.during_picture = lambda: leave_something(webui)
    else:
        setattr(script, where, lambda p, *args: leave_something(webui))
    host.remember()
    for _ in range(2):
        host.pictures.make(CAT)
        with host.lease():
            pass
    assert host.restoration().differences == ()


def test_what_extensions_take_away_in_a_picture_of_ours_is_theirs(host: WebuiHost, webui: StubWebui) -> None:
    script = tuner(webui)
    webui.put_scripts(script)
    leave_something(webui)

    def tidy(p: Any, *args: Any) -> None:
        first_layer(webui)._forward_hooks.clear()
        webui.model.first_stage_model.quant_conv.__dict__.pop("forward", None)

    script.process = tidy
    host.remember()
    host.pictures.make(CAT)
    assert host.restoration().differences == ()


def test_a_picture_that_fails_leaves_to_extensions_what_is_theirs(host: WebuiHost, webui: StubWebui) -> None:
    def fail() -> None:
        leave_something(webui)
        raise ValueError("theirs")

    webui.during_picture = fail
    host.remember()
    with pytest.raises(HostError):
        host.pictures.make(CAT)
    assert host.restoration().differences == ()


def test_what_we_leave_behind_around_a_picture_is_still_named(host: WebuiHost, webui: StubWebui, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before and after the WebUI's own work the model is in our hands."""
    real = webui.processing.StableDiffusionProcessingTxt2Img.close

    def close(self: Any) -> None:
        real(self)
        first_layer(webui).register_forward_hook(lambda *_: None)

    monkeypatch.setattr(webui.processing.StableDiffusionProcessingTxt2Img, "close", close)
    webui.during_picture = lambda: leave_something(webui)
    host.remember()
    host.pictures.make(CAT)
    assert [said.startswith(f"the module {FIRST} is") for said in host.restoration().differences] == [True]


def test_a_list_of_networks_that_is_not_put_back_is_still_named(host: WebuiHost, webui: StubWebui, monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def forgotten(model: torch.nn.Module) -> Iterator[None]:
        weights.clean(model)
        yield
        weights.clean(model)

    webui.generate(lora="cat")
    webui.during_picture = lambda: webui.generate(lora="dog")
    monkeypatch.setattr("lib_finetune.host.webui.pictures._networks_kept", forgotten)
    host.remember()
    host.pictures.make(CAT)
    assert [said.split(" is ")[0] for said in host.restoration().differences] == ["the list of active networks"]


def test_what_our_training_changes_between_pictures_is_still_named(host: WebuiHost, webui: StubWebui) -> None:
    webui.during_picture = lambda: leave_something(webui)
    host.remember()
    host.pictures.make(CAT)
    with host.lease():
        first_layer(webui).register_forward_hook(lambda *_: None)
    host.pictures.make(CAT)
    assert any(said.startswith(f"the module {FIRST} is") for said in host.restoration().differences)


# -- weights ------------------------------------------------------------------------------------------------------------------


def written(webui: StubWebui) -> None:
    with torch.no_grad():
        first_layer(webui).weight.mul_(1.5)


def replaced(webui: StubWebui) -> None:
    """As sd-webui-cd-tuner does it: no write that a counter sees."""
    layer = first_layer(webui)
    layer.weight = torch.nn.Parameter(layer.weight.detach() * 1.5)


def checkpoint_file(webui: StubWebui) -> Path:
    path = Path(webui.model.sd_checkpoint_info.filename)
    save_file({name.replace("wrapped.", ""): value.detach().clone() for name, value in webui.model.named_parameters()}, str(path))
    return path


CHANGES = pytest.mark.parametrize("change", [written, replaced])


@CHANGES
def test_a_weight_changed_in_a_picture_of_ours_is_put_back_from_the_file(host: WebuiHost, webui: StubWebui, change: Any) -> None:
    checkpoint_file(webui)
    before = first_layer(webui).weight.detach().clone()
    host.remember()
    webui.during_picture = lambda: change(webui)
    host.pictures.make(CAT)
    assert torch.equal(first_layer(webui).weight, before)
    with host.lease():
        pass
    assert host.restoration().differences == ()


@CHANGES
def test_a_weight_that_cannot_be_put_back_stops_the_run_at_once(host: WebuiHost, webui: StubWebui, change: Any) -> None:
    host.remember()
    webui.during_picture = lambda: change(webui)
    with pytest.raises(HostError, match=rf"an image of this run was made: {FIRST}\.weight"):
        host.pictures.make(CAT)
    webui.during_picture = lambda: None
    for _ in range(2):
        with pytest.raises(HostError, match="could not be put back"), host.lease():
            pass
    with pytest.raises(HostError, match="could not be put back"):
        host.pictures.make(CAT)
    assert host.restoration().differences == (f"{FIRST}.weight has other values",)
    assert webui.lock.acquire(blocking=False)


def test_a_file_that_holds_other_values_is_not_put_over_weights(host: WebuiHost, webui: StubWebui) -> None:
    """Of another VAE, say, or one that was replaced meanwhile."""
    checkpoint_file(webui)
    written(webui)
    host.remember()
    webui.during_picture = lambda: written(webui)
    with pytest.raises(HostError, match="could not be put back"):
        host.pictures.make(CAT)


def test_a_picture_that_fails_and_changes_a_weight_stops_the_run_too(host: WebuiHost, webui: StubWebui) -> None:
    def fail() -> None:
        written(webui)
        raise ValueError("theirs")

    host.remember()
    webui.during_picture = fail
    with pytest.raises(HostError, match="could not be put back"):
        host.pictures.make(CAT)


@pytest.mark.parametrize("there", [True, False])
def test_a_weight_written_in_a_lease_is_put_back_or_this_one_and_the_next_are_refused(
    host: WebuiHost, webui: StubWebui, there: bool
) -> None:
    if there:
        checkpoint_file(webui)
    before = first_layer(webui).weight.detach().clone()
    host.remember()
    refused = nullcontext() if there else pytest.raises(WeightsChangedError, match=rf"the training had the model: {FIRST}\.weight")
    with refused as caught, host.lease() as lease:
        lease.tensors[f"{FIRST}.weight"].add_(1)
    if there:
        with host.lease():
            assert torch.equal(first_layer(webui).weight, before)
    else:
        assert caught.value.in_training
        with pytest.raises(HostError, match=rf"the training had the model: {FIRST}\.weight"), host.lease():
            pass


def test_a_weight_that_is_written_with_its_own_value_stops_nothing(host: WebuiHost, webui: StubWebui) -> None:
    """An extension puts its backup back, into another tensor."""
    layer = first_layer(webui)

    def same() -> None:
        layer.weight = torch.nn.Parameter(layer.weight.detach().clone())

    webui.during_picture = same
    host.remember()
    host.pictures.make(CAT)
    with host.lease():
        pass
    assert host.restoration().differences == ()


@CHANGES
def test_a_weight_changed_between_turns_is_the_persons_affair(
    host: WebuiHost, webui: StubWebui, change: Any, caplog: pytest.LogCaptureFixture
) -> None:
    host.remember()
    with host.lease():
        pass
    change(webui)
    with host.lease():
        pass
    host.pictures.make(CAT)
    change(webui)
    assert host.restoration().differences == ()
    assert f"{FIRST}.weight changed between turns" in caplog.text


def test_a_change_of_ours_after_one_of_the_persons_is_still_found(host: WebuiHost, webui: StubWebui) -> None:
    host.remember()
    written(webui)
    with host.lease():
        pass
    webui.during_picture = lambda: written(webui)
    with pytest.raises(HostError, match="could not be put back"):
        host.pictures.make(CAT)


def test_the_autoencoder_that_the_webui_brings_to_another_precision_stops_nothing(host: WebuiHost, webui: StubWebui) -> None:
    webui.during_picture = lambda: webui.model.first_stage_model.to(torch.bfloat16)
    host.remember()
    host.pictures.make(CAT)
    with host.lease():
        pass
    assert host.restoration().differences == ()


def test_a_tensor_that_an_extension_adds_stops_nothing(host: WebuiHost, webui: StubWebui) -> None:
    def add() -> None:
        first_layer(webui).register_buffer("their_mask", torch.ones(3))
        webui.model.first_stage_model.quant_conv.add_module("theirs", torch.nn.Linear(2, 2))

    webui.during_picture = add
    host.remember()
    host.pictures.make(CAT)
    webui.during_picture = lambda: first_layer(webui).their_mask.add_(1)
    host.pictures.make(CAT)
    with host.lease():
        pass
    assert host.restoration().differences == ()


def test_pictures_with_loras_stop_nothing(host: WebuiHost, webui: StubWebui) -> None:
    host.remember()
    for lora in ("dog", None, "cat"):
        webui.during_picture = lambda lora=lora: webui.generate(lora=lora)
        host.pictures.make(CAT)
        webui.generate(lora="theirs")
        with host.lease():
            pass
    assert host.restoration().differences == ()


def test_outside_a_run_pictures_are_made_the_same_way(host: WebuiHost, webui: StubWebui) -> None:
    script = tuner(webui)
    webui.put_scripts(script)
    webui.during_picture = lambda: leave_something(webui)
    host.pictures.make(CAT)
    assert script.asked and isinstance(webui.made[0].scripts, Runner) and isinstance(script.api_info, types.SimpleNamespace)
