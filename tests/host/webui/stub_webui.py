"""A stand-in for the WebUI's process: its modules under their real names, around a tiny model with the real names of SD1.5."""

from __future__ import annotations

import collections
import json
import sys
import threading
import types
from pathlib import Path
from typing import Any

import torch
from torch import nn


class FIFOLock:
    """Same members and same gap between release and the next owner as `modules/fifo_lock.py` of v1.10.1."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inner_lock = threading.Lock()
        self._pending_threads: collections.deque[threading.Event] = collections.deque()

    def acquire(self, blocking: bool = True) -> bool:
        with self._inner_lock:
            if self._lock.acquire(False):
                return True
            if not blocking:
                return False
            event = threading.Event()
            self._pending_threads.append(event)
        event.wait()
        return self._lock.acquire()

    def release(self) -> None:
        with self._inner_lock:
            if self._pending_threads:
                self._pending_threads.popleft().set()
            self._lock.release()

    __enter__ = acquire

    def __exit__(self, *_: object) -> None:
        self.release()


def container(**children: nn.Module) -> nn.Module:
    found = nn.Module()
    for name, child in children.items():
        found.add_module(name, child)
    return found


class Stage(nn.Module):
    """The text stage as the WebUI wraps it: `.wrapped.transformer`, and `.wrapped` once more around the token embedding."""

    def __init__(self) -> None:
        super().__init__()
        layer = container(self_attn=container(q_proj=nn.Linear(8, 8)))
        embeddings = container(token_embedding=container(wrapped=nn.Embedding(20, 8)), position_embedding=nn.Embedding(7, 8))
        embeddings.register_buffer("position_ids", torch.arange(7)[None])
        text_model = container(embeddings=embeddings, encoder=container(layers=nn.ModuleList([layer])), final_layer_norm=nn.LayerNorm(8))
        transformer = container(text_model=text_model)
        transformer.config = types.SimpleNamespace(num_attention_heads=2, hidden_act="quick_gelu")
        self.wrapped = container(transformer=transformer)
        self.wrapped.tokenizer = object()


class Model(nn.Module):
    """Some layers of each part; `network_layer_name` as the Lora extension sets it."""

    def __init__(self, seed: int = 0, channels: int = 4) -> None:
        super().__init__()
        torch.manual_seed(seed)
        attention = container(to_q=nn.Linear(8, 8, bias=False), to_k=nn.Linear(8, 8, bias=False))
        block = nn.ModuleList([nn.Identity(), container(transformer_blocks=nn.ModuleList([container(attn1=attention)]))])
        unet = container(
            input_blocks=nn.ModuleList([nn.ModuleList([nn.Conv2d(channels, 8, 3)]), block]), time_embed=nn.Sequential(nn.Linear(8, 8))
        )
        self.model = container(diffusion_model=unet)
        self.cond_stage_model = Stage()
        self.first_stage_model = container(quant_conv=nn.Conv2d(8, 8, 1))
        self.register_buffer("alphas_cumprod", torch.linspace(0.99, 0.01, 1000))
        self.register_buffer("betas", torch.linspace(0.1, 0.2, 1000))
        self.alphas_cumprod_original = self.alphas_cumprod
        for part in (self.first_stage_model, self.cond_stage_model):
            part.requires_grad_(False)
        self.eval()
        self.scale_factor, self.parameterization, self.lowvram = 0.18215, "eps", False
        self.is_sd1, self.is_sd2, self.is_sdxl, self.is_sd3 = True, False, False, False
        self.network_layer_mapping = {}
        for name, module in [*self.model.named_modules(), *self.cond_stage_model.wrapped.named_modules()]:
            module.network_layer_name = name.replace(".", "_")
            self.network_layer_mapping[module.network_layer_name] = module


class State:
    """The progress fields of `modules/shared_state.py`."""

    def __init__(self) -> None:
        self.job, self.job_no, self.job_count, self.job_timestamp = "", 0, 0, "0"
        self.sampling_step = self.sampling_steps = self.current_image_sampling_step = self.id_live_preview = 0
        self.current_latent = self.current_image = self.textinfo = self.time_start = None
        self.skipped = self.interrupted = self.stopping_generation = self.processing_has_refined_job_count = False

    def begin(self, job: str) -> None:
        self.__init__()
        self.job, self.job_count = job, -1

    def end(self) -> None:
        self.job, self.job_count = "", 0


class Options:
    """`modules/options.py`: what is not in the person's file answers with its default, and a frozen setting refuses to be set."""

    DEFAULTS = {"CLIP_stop_at_last_layers": 1}

    def __init__(self, flags: Any, data: dict[str, Any]) -> None:
        self.__dict__.update(data=data, _flags=flags)

    def __getattr__(self, name: str) -> Any:
        data = self.__dict__["data"]
        if name in data or name in self.DEFAULTS:
            return data.get(name, self.DEFAULTS.get(name))
        raise AttributeError(name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self.data or name in self.DEFAULTS:
            assert not self._flags.freeze_settings, "changing settings is disabled"
            self.data[name] = value
        else:
            self.__dict__[name] = value


class Processing:
    """`StableDiffusionProcessingTxt2Img`, as far as a preview needs it."""

    cached_c = [None, None]
    cached_uc = [None, None]

    def __init__(self, **fields: Any) -> None:
        self.__dict__.update(fields)
        self.closed = self.is_api = self.scripts_setup_complete = False
        self._scripts = self._script_args = None

    @property
    def scripts(self) -> Any:
        return self._scripts

    @scripts.setter
    def scripts(self, value: Any) -> None:
        self._scripts = value
        self._set_up()

    @property
    def script_args(self) -> Any:
        return self._script_args

    @script_args.setter
    def script_args(self, value: Any) -> None:
        self._script_args = value
        self._set_up()

    def _set_up(self) -> None:
        if self._scripts and self._script_args and not self.scripts_setup_complete:
            self.scripts_setup_complete = True
            self._scripts.setup_scrips(self, is_ui=not self.is_api)

    def close(self) -> None:
        self.closed = True


class Script:
    """An extension's script, as `modules/scripts.py` knows it: its controls' places among all arguments, and what it was asked."""

    def __init__(self, root: Path, extension: str, controls: list[Any], title: str | None = None) -> None:
        self.filename = str(root / "extensions" / extension / "scripts" / "main.py")
        self.args_from = self.args_to = None
        self.alwayson, self.is_img2img, self.controls, self._title = True, False, controls, title or extension
        self.api_info = types.SimpleNamespace(args=[types.SimpleNamespace(label=each.label, value=each.value) for each in controls])
        self.asked: list[tuple[Any, ...]] = []
        self.process = lambda p, *args: None
        self.postprocess = lambda p, *args: None

    def title(self) -> str:
        return self._title


def control(label: str, value: Any, elem_id: str | None = None) -> Any:
    return types.SimpleNamespace(label=label, value=value, elem_id=elem_id)


class Runner:
    """`ScriptRunner` of modules/scripts.py."""

    def __init__(self, scripts: list[Script]) -> None:
        self.scripts, self.alwayson_scripts = scripts, [script for script in scripts if script.alwayson]
        self.set_up: list[tuple[Any, bool]] = []
        self.reported: list[Exception] = []
        end = 1
        for script in scripts:
            script.args_from, script.args_to = end, end + len(script.controls)
            end = script.args_to

    def setup_scrips(self, p: Any, *, is_ui: bool) -> None:
        self.set_up.append((p, is_ui))

    def ask(self, p: Any, what: str) -> None:
        """What a script raises is printed and passed over."""
        for script in self.alwayson_scripts:
            given = p.script_args[script.args_from : script.args_to]
            script.asked.append(given)
            try:
                getattr(script, what)(p, *given)
            except Exception as error:  # noqa: BLE001
                self.reported.append(error)


class Words:
    """`EmbeddingDatabase` of modules/textual_inversion/textual_inversion.py, as far as words of LoRA files need it."""

    def __init__(self) -> None:
        self.word_embeddings: dict[str, Any] = {}

    def register_embedding_by_name(self, embedding: Any, model: Any, name: str) -> None:
        self.word_embeddings.pop(name, None)
        if embedding is not None:
            self.word_embeddings[name] = embedding


class Patches:
    """`extensions-builtin/Lora/networks.py`: what it does to a layer and writes down at it."""

    def __init__(self, networks: Any, options: Any) -> None:
        self.networks, self.options = networks, options

    def before_forward(self, module: nn.Module) -> None:
        """What `network_Linear_forward` does to the weights before it computes."""
        if not getattr(self.options, "lora_functional", False):
            self.networks.network_apply_weights(module)
        elif self.networks.loaded_networks:
            self._restore(module)
            module.network_current_names, module.network_weights_backup, module.network_bias_backup = (), None, None

    def apply(self, module: nn.Module) -> None:
        if getattr(module, "network_layer_name", None) is None:
            return
        wanted = tuple((net.name, net.te_multiplier, net.unet_multiplier, net.dyn_dim) for net in self.networks.loaded_networks)
        current = getattr(module, "network_current_names", ())
        if wanted:
            self._back_up(module, "weight", "network_weights_backup", current)
            self._back_up(module, "bias", "network_bias_backup", current)
        if current == wanted:
            return
        self._restore(module)
        if wanted:
            module.weight.add_(0.5)
            if module.bias is not None:
                module.bias.add_(0.25)
        module.network_current_names = wanted

    def _back_up(self, module: nn.Module, name: str, kept: str, current: tuple[Any, ...]) -> None:
        value = getattr(module, name)
        if getattr(module, kept, None) is None and value is not None:
            if current:
                raise RuntimeError(f"no backup {name} found and current {name} are not unchanged")
            setattr(module, kept, value.to("cpu", copy=True))

    def _restore(self, module: nn.Module) -> None:
        weight, bias = getattr(module, "network_weights_backup", None), getattr(module, "network_bias_backup", None)
        if weight is None and bias is None:
            return
        if weight is not None:
            module.weight.copy_(weight)
        if bias is None:
            module.bias = None
        else:
            module.bias.copy_(bias)


class StubWebui:
    """Puts the fake modules into `sys.modules` (through monkeypatch) and lets tests reach into them."""

    def __init__(self, root: Path, monkeypatch: Any) -> None:
        self._monkeypatch, self.root = monkeypatch, root
        for folder in ("models/Lora", "models/Stable-diffusion", "embeddings"):
            (root / folder).mkdir(parents=True)
        self.made: list[Any] = []
        self.during_picture = lambda: None
        self.extra_images: list[Any] = []
        self.entries = {name: self._entry(name) for name in ("a", "b")}
        self.lock = FIFOLock()
        self._modules()
        self.put_model("a", Model())

    def put_model(self, name: str, model: nn.Module) -> None:
        """Load a checkpoint as the WebUI would."""
        model.sd_checkpoint_info, model.sd_model_hash = self.entries[name], name * 10
        self.data.sd_model = self.shared.sd_model = model

    @property
    def model(self) -> Any:
        return self.data.sd_model

    @property
    def words(self) -> Words:
        return self.hijack.model_hijack.embedding_db

    def put_scripts(self, *scripts: Script) -> Runner:
        """Start with extensions; a built-in script is always there."""
        builtin = Script(
            self.root, "../program/extensions-builtin/soft-inpainting", [control("Soft inpainting", False), control("Bias", 1.0)]
        )
        self.scripts.scripts_txt2img = Runner([builtin, *scripts])
        return self.scripts.scripts_txt2img

    def _entry(self, name: str) -> Any:
        filename = str(self.root / "models/Stable-diffusion" / f"{name}.safetensors")
        return types.SimpleNamespace(filename=filename, name_for_extra=name, sha256=None, title=f"{name}.safetensors")

    def _add(self, name: str, **members: Any) -> types.ModuleType:
        module = types.ModuleType(name)
        module.__dict__.update(members)
        self._monkeypatch.setitem(sys.modules, name, module)
        return module

    def _modules(self) -> None:
        root = self.root
        self._add("modules")
        flags = types.SimpleNamespace(
            lowvram=False,
            medvram=False,
            lora_dir=str(root / "models/Lora"),
            ckpt_dir=None,
            embeddings_dir=str(root / "embeddings"),
            no_prompt_history=False,
            freeze_settings=False,
        )
        options = Options(flags, {"sd_model_checkpoint": "a.safetensors", "sd_vae": "Automatic"})
        options.save = lambda name: Path(name).write_text(json.dumps(options.data), encoding="utf-8")
        self.shared = self._add(
            "modules.shared",
            cmd_opts=flags,
            opts=options,
            state=State(),
            device=torch.device("cpu"),
            config_filename=str(root / "config.json"),
        )
        self._add("modules.call_queue", queue_lock=self.lock)
        self._add(
            "modules.paths",
            models_path=str(root / "models"),
            data_path=str(root),
            extensions_dir=str(root / "extensions"),
            extensions_builtin_dir=str(root / "program" / "extensions-builtin"),
        )
        self.scripts = self._add("modules.scripts", scripts_txt2img=None, scripts_data=[])
        self.put_scripts()
        self.devices = self._add("modules.devices", device=torch.device("cpu"), cpu=torch.device("cpu"), fp8=False)
        self.data = types.SimpleNamespace(sd_model=None)
        self.models = self._add(
            "modules.sd_models",
            model_data=self.data,
            check_fp8=lambda model: False,
            checkpoints_list={entry.title: entry for entry in self.entries.values()},
            select_checkpoint=lambda: next(e for e in self.entries.values() if e.title == options.data["sd_model_checkpoint"]),
            reload_model_weights=lambda info: self.put_model(info.name_for_extra, Model()),
            list_models=lambda: None,
        )
        self.vae = self._add("modules.sd_vae", loaded=None, vae_dict={}, refresh_vae_list=lambda: None)
        self.vae.get_loaded_vae_name = lambda: self.vae.loaded
        self.vae.resolve_vae = lambda filename: types.SimpleNamespace(vae=None)
        self.vae.reload_vae_weights = lambda vae_file: setattr(self.vae, "loaded", Path(vae_file).name if vae_file else None)
        self.lowvram = self._add("modules.lowvram", module_in_gpu=None, cpu=torch.device("cpu"))
        self.lowvram.send_everything_to_cpu = self._send_everything_to_cpu
        hijack = types.SimpleNamespace(
            optimization_method="sdp", circular_enabled=False, apply_circular=lambda on: None, embedding_db=Words()
        )
        self.hijack = self._add("modules.sd_hijack", model_hijack=hijack, current_optimizer=types.SimpleNamespace(name="sdp"))
        txt2img = type("Txt2Img", (Processing,), {"cached_hr_c": [None, None], "cached_hr_uc": [None, None]})
        self.processing = self._add(
            "modules.processing",
            StableDiffusionProcessing=Processing,
            StableDiffusionProcessingTxt2Img=txt2img,
            process_images=self._process_images,
        )
        self.page = types.SimpleNamespace(name="lora", lister=types.SimpleNamespace(resets=0))
        self.page.lister.reset = lambda: setattr(self.page.lister, "resets", self.page.lister.resets + 1)
        self._add("modules.ui_extra_networks", extra_pages=[self.page])
        self.networks = self._lora_extension()

    def _send_everything_to_cpu(self) -> None:
        self.lowvram.module_in_gpu = None

    def _process_images(self, p: Any) -> Any:
        from PIL import Image

        self.made.append(p)
        torch.rand(3)
        self.shared.state.job_no = 7
        if p.scripts is not None:
            p.scripts.ask(p, "process")
        self.during_picture()
        if p.scripts is not None:
            p.scripts.ask(p, "postprocess")
        return types.SimpleNamespace(
            images=[Image.new("RGB", (p.width, p.height))] * p.batch_size + self.extra_images, index_of_first_image=0
        )

    def _lora_extension(self) -> types.ModuleType:
        """`extensions-builtin/Lora/networks.py`: weights are patched in place at the next forward, by a backup on the CPU."""
        networks = self._add(
            "networks",
            loaded_networks=[],
            networks_in_memory={},
            available_networks={},
            available_network_aliases={},
            forbidden_network_aliases={},
        )

        def list_available_networks() -> None:
            networks.available_networks.clear()
            for file in (self.root / "models/Lora").glob("*.safetensors"):
                entry = types.SimpleNamespace(name=file.stem, alias=file.stem, filename=str(file))
                networks.available_networks[file.stem] = networks.available_network_aliases[file.stem] = entry

        networks.patches = Patches(networks, self.shared.opts)
        networks.network_apply_weights, networks.list_available_networks, networks.load_network, networks.load_networks = (
            networks.patches.apply,
            list_available_networks,
            self._load_network,
            self._load_networks,
        )
        return networks

    def _load_network(self, name: str, entry: Any) -> Any:
        from safetensors.torch import load_file

        found, words = {}, {}
        for key, value in load_file(entry.filename).items():
            module, _, part = key.partition(".")
            if module == "bundle_emb":
                word, kind = part.split(".", 1)
                assert kind.split(".")[0] == "string_to_param"
                words[word] = types.SimpleNamespace(name=word, vec=value, loaded=None)
            place = module.replace("lora_unet_", "diffusion_model_").replace("lora_te_", "transformer_")
            if place in self.model.network_layer_mapping:
                found[place] = types.SimpleNamespace(network_key=key)
        strengths = {"te_multiplier": 1.0, "unet_multiplier": 1.0, "dyn_dim": None}
        return types.SimpleNamespace(name=name, modules=found, network_on_disk=entry, bundle_embeddings=words, **strengths)

    def _load_networks(self, names: list[str]) -> None:
        """What each image begins with."""
        networks, words = self.networks, self.words
        for net in networks.loaded_networks:
            for word, embedding in getattr(net, "bundle_embeddings", {}).items():
                if embedding.loaded:
                    words.register_embedding_by_name(None, self.model, word)
        networks.loaded_networks.clear()
        for name in names:
            if name not in networks.networks_in_memory:
                networks.networks_in_memory[name] = networks.load_network(name, networks.available_networks[name])
            net = networks.networks_in_memory[name]
            networks.loaded_networks.append(net)
            for word, embedding in net.bundle_embeddings.items():
                if embedding.loaded is not None or word not in words.word_embeddings:  # else one of the folder goes first
                    embedding.loaded = True
                    words.register_embedding_by_name(embedding, self.model, word)

    def generate(self, lora: str | None = None) -> list[torch.Tensor]:
        """What a txt2img of the person leaves behind: the list of networks and patched weights; returns the weights it used."""
        strengths = {"te_multiplier": 1.0, "unet_multiplier": 1.0, "dyn_dim": None}
        entry = types.SimpleNamespace(filename=str(self.root / "models/Lora" / f"{lora}.safetensors"))
        self.networks.loaded_networks[:] = [types.SimpleNamespace(name=lora, network_on_disk=entry, **strengths)] if lora else []
        with torch.no_grad():
            for module in self.model.modules():
                if isinstance(module, nn.Linear | nn.Conv2d | nn.LayerNorm):
                    self.networks.patches.before_forward(module)
        return [parameter.detach().clone() for parameter in self.model.parameters()]
