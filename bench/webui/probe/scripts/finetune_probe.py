"""The driver's ears inside the WebUI: routes that tell what no page tells. Runs in the WebUI's process."""

import hashlib
import random
import sys
import time

import numpy
import torch
from modules import call_queue, script_callbacks, sd_hijack, shared

_LIBRARIES = ("peft", "diffusers", "lycoris", "bitsandbytes", "prodigyopt")
_BEGAN = []  # time.monotonic() at which each image got its turn


def imported() -> list:
    """Libraries of ours that are in memory."""
    return [name for name in _LIBRARIES if name in sys.modules]


def jobs() -> list:
    """Status of every job of this session, oldest first."""
    module = sys.modules.get("lib_finetune.app.services")
    found = module and module._SERVICES.get("webui")
    if not found:
        return []
    from lib_finetune.jobs.status import status_of

    return [status_of(job) for job in found.jobs.known.all() if not job.old]


def began() -> list:
    """When each image got its turn, in this machine's monotonic seconds."""
    return list(_BEGAN)


def model() -> dict:
    """What must be as it was, a digest each; weights are compared clean of any <lora:…>."""
    with call_queue.queue_lock:
        rng = {"torch": torch.get_rng_state().numpy().tobytes(), "numpy": repr(numpy.random.get_state()), "python": repr(random.getstate())}
        _clean(shared.sd_model)
        modules = list(shared.sd_model.named_modules())
        return {
            "tensors": {name: _tensor(tensor) for name, tensor in _tensors(shared.sd_model).items()},
            "modules": {name: _module(module) for name, module in modules},
            "settings": dict(shared.opts.data),
            "attention": getattr(sd_hijack.model_hijack, "optimization_method", None),
            "random": {name: _sha(state) for name, state in rng.items()},
            "torch": {
                "grad": torch.is_grad_enabled(),
                "threads": torch.get_num_threads(),
                "dtype": str(torch.get_default_dtype()),
                "deterministic": torch.are_deterministic_algorithms_enabled(),
                "matmul": torch.get_float32_matmul_precision(),
            },
        }


def break_step(kind: str = "error", after: int = 5) -> bool:
    """Make the loss of the step after the next ``after`` raise, once."""
    from lib_finetune.training.methods.lora import LoraMethod

    honest, left = LoraMethod.loss, [after]

    def loss(self, *given, **named):
        left[0] -= 1
        if left[0] >= 0:
            return honest(self, *given, **named)
        LoraMethod.loss = honest
        raise torch.cuda.OutOfMemoryError("the probe says out of memory") if kind == "memory" else RuntimeError("the probe broke this step")

    LoraMethod.loss = loss
    return True


def conditioning(prompt: str, file: str) -> dict:
    """How far the WebUI's conditioning of a prompt that names an embedding, or a word of a LoRA file, lies from that of our path."""
    from pathlib import Path

    from safetensors.torch import load_file

    from lib_finetune.assembly import builder
    from lib_finetune.export import bundled_word, embedding_file
    from lib_finetune.host.webui.host import WebuiHost
    from lib_finetune.model.lora_merge import merged
    from lib_finetune.text.learned import LearnedVectors
    from lib_finetune.text.prompts import TextEncoder

    patches, words = bundled_word.parted(load_file(file))
    if not words:
        patches, words = {}, {Path(file).stem: embedding_file.read(Path(file))}
    networks = sys.modules["networks"]
    with call_queue.queue_lock, torch.no_grad():
        networks.load_networks([Path(file).stem] if patches else [], [1.0], [1.0], [None])
        theirs = shared.sd_model.cond_stage_model([prompt]).float()
        networks.load_networks([])
        _clean(shared.sd_model)
    host = WebuiHost()
    tools = host.text_tools()
    with host.lease() as lease, torch.no_grad():
        model = builder.borrowed(lease, tools)
        with model.bound(merged(lease.tensors, model, patches, 1.0)):
            plain = TextEncoder(model.text, tools.tokenizer, tools.clip_skip).encode([prompt]).float()
            learned = LearnedVectors(model.text, tools.tokenizer, {word: value.to(plain.device) for word, value in words.items()})
            ours = TextEncoder(model.text, tools.tokenizer, tools.clip_skip, learned=learned).encode([prompt]).float()
    largest = [float((theirs - other).abs().max()) for other in (ours, plain)]
    return {"shape": list(theirs.shape), "to ours": largest[0], "to ours without the embedding": largest[1]}


def _clean(loaded) -> None:
    networks = sys.modules.get("networks")
    if networks is not None:
        with torch.no_grad():
            networks.load_networks([])
            for module in loaded.modules():
                networks.network_apply_weights(module)


def _tensors(loaded) -> dict:
    # the WebUI writes alphas_cumprod anew for every image
    every = {**dict(loaded.named_parameters()), **dict(loaded.named_buffers())}
    return {name: tensor for name, tensor in every.items() if name != "alphas_cumprod"}


def _tensor(tensor) -> list:
    values = tensor.detach().contiguous().cpu().view(torch.uint8) if tensor.ndim else tensor.detach().cpu()
    return [_sha(values.numpy().tobytes()), str(tensor.dtype), str(tensor.device), tensor.requires_grad, tensor.grad is not None]


def _module(module) -> list:
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return [type(module).__qualname__, module.training, "forward" in vars(module), *(len(getattr(module, kind, ())) for kind in kinds)]


def _sha(content) -> str:
    return hashlib.sha256(content if isinstance(content, bytes) else content.encode()).hexdigest()[:16]


def _watch_turns() -> None:
    state = shared.state
    begin = getattr(state.begin, "honest", state.begin)

    def noting(job="(unknown)"):
        if str(job).endswith("txt2img"):
            _BEGAN.append(time.monotonic())
        return begin(job)

    noting.honest = begin
    state.begin = noting


def _routes(_demo, app) -> None:
    _watch_turns()
    for answer in (imported, jobs, began, model, break_step, conditioning):
        app.add_api_route(f"/finetune-probe/{answer.__name__}", answer, methods=["GET"])


script_callbacks.on_app_started(_routes)
