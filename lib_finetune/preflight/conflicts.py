"""What is wrong with a method's settings beside one another, the images and the names that exist."""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from lib_finetune.assembly import automatic_settings, initial_weights
from lib_finetune.assembly.automatic_settings import RATES, SPOKEN, prior_of
from lib_finetune.assembly.caption_templates import caption_template
from lib_finetune.assembly.dataset import Dataset, templates
from lib_finetune.assembly.method_traits import bundles_word, teaches_word
from lib_finetune.assembly.rate_plan import RatePlan
from lib_finetune.assembly.subjects import subjects_of
from lib_finetune.config.fields import replaced, value_at
from lib_finetune.config.optimizer_demands import demands_of
from lib_finetune.config.settings import Settings
from lib_finetune.data import caption_syntax
from lib_finetune.data.captions import template_caption
from lib_finetune.data.templates import load as load_templates
from lib_finetune.errors import DependencyError, InputError, Problem
from lib_finetune.export import embedding_file, embedding_picture
from lib_finetune.files import at_home
from lib_finetune.text import word_name
from lib_finetune.training import precision
from lib_finetune.training.optim import OPTIMIZERS

if TYPE_CHECKING:
    from lib_finetune.ports.files import Paths


def method_problems(settings: Settings) -> list[Problem]:
    """What is wrong with the method's own settings, as far as files tell."""
    begins = initial_weights.problems(settings)
    if not teaches_word(settings):
        return begins + _prior_problems(settings) + (_tuning_problems(settings) if settings.method == "dreambooth" else [])
    problems, own = begins, settings.embedding
    if settings.method == "pivotal_tuning":
        problems += _prior_problems(settings) + _pivot_problems(settings)
    else:
        class_settings = {"data.class_images": settings.data.class_images, "data.class_count": settings.data.class_count}
        message = "Class images teach an embedding nothing. Leave them out, or train a LoRA."
        problems += [Problem(field, message) for field, value in class_settings.items() if value]
    try:
        if own.template:
            load_templates(own.template, "embedding.template")
        if embedding_file.names_file(own.init):
            count = len(embedding_file.read(at_home(own.init), "embedding.init"))
            if count != own.vectors:
                problems.append(Problem("embedding.vectors", f"{own.vectors}, but {own.init} has {count}. Set it to {count}."))
    except InputError as error:
        problems += error.problems
    return problems


def _prior_problems(settings: Settings) -> list[Problem]:
    data, prior = settings.data, prior_of(settings)
    problems = []
    makes = prior == "pictures" and not data.class_images
    if (prior == "prediction" or (makes and data.class_count)) and not data.class_word.strip():
        problems.append(
            Problem("data.class_word", "is empty, but the class cannot be preserved without it. Say what the subject is: woman, dog, car.")
        )
    if makes and not data.class_count:
        message = "is 0, and there is no folder of class images. Set how many are to be made (200 is usual), or choose prediction."
        problems.append(Problem("data.class_count", message))
    return problems


def _tuning_problems(settings: Settings) -> list[Problem]:
    problems, tuning, training = [], settings.tuning, settings.training
    if not settings.data.trigger.strip():
        problems.append(
            Problem("data.trigger", "is empty. DreamBooth teaches a new word what your subject is; a rare one such as sks works best.")
        )
    if tuning.in_backward == "on" and training.accumulation > 1:
        message = "Gradients cannot be summed when each weight moves at once: set training.accumulation to 1, or tuning.in_backward to off."
        problems.append(Problem("tuning.in_backward", message))
    if tuning.weights == "bf16" and training.ema_decay:
        message = "An average in bf16 would not move: set tuning.weights to fp32, or training.ema_decay to 0."
        problems.append(Problem("training.ema_decay", message))
    if tuning.weights == "bf16" and training.precision in ("fp16", "fp32"):
        message = (
            f"bf16 weights are computed in bf16, not in {training.precision}: set training.precision to auto, or tuning.weights to fp32."
        )
        problems.append(Problem("tuning.weights", message))
    if demands_of(settings.optimizer.name).whole_gradient and (tuning.in_backward == "on" or tuning.weights == "bf16"):
        message = f"{settings.optimizer.name} finds one learning rate for all weights together: set tuning.weights and tuning.in_backward to auto."
        problems.append(Problem("optimizer.name", message))
    if tuning.in_backward == "on" and training.precision == "fp16":
        message = "The loss scaling that fp16 needs looks at all gradients together: choose bf16, or set tuning.in_backward to off."
        problems.append(Problem("tuning.in_backward", message))
    return problems


def optimizer_problems(settings: Settings, device: torch.device | None) -> list[Problem]:
    """What the optimizer demands and the settings do not give (`config.optimizer_demands`).

    Args:
        device: None where it is not known.
    """
    name = settings.optimizer.name
    demands = demands_of(name)
    problems = _rate_problems(settings) if demands.one_rate else []
    if device is not None and demands.devices and device.type not in demands.devices:
        kinds = " or ".join(demands.devices)
        problems.append(Problem("optimizer.name", f"{name} runs on {kinds} only, and this is {device.type}. Set it to adamw."))
    if demands.library:
        place = device if device is not None and device.type in demands.devices else torch.device("cpu")
        try:
            OPTIMIZERS[name].build({"unet": [nn.Parameter(torch.zeros(1, device=place))]}, settings.optimizer.weight_decay)
        except DependencyError as error:
            problems += error.problems
    return problems


def _rate_problems(settings: Settings) -> list[Problem]:
    """For each rate that was set beside another one, where the optimizer takes one for all that is trained."""
    resolved = automatic_settings.resolved(settings, 1, 1)[0]
    rates = {group: value_at(resolved, RATES[group]) for group in RatePlan(resolved).groups()}
    lead, rate = next(iter(rates.items()))
    return [
        Problem(
            RATES[group],
            f"is {own:g}, and the rate of the {SPOKEN.get(lead, lead)} is {rate:g}: {settings.optimizer.name} takes one rate for all that is "
            f"trained. Set {RATES[group]} to auto, or {RATES[lead]} to {own:g} as well.",
        )
        for group, own in rates.items()
        if own != rate
    ]


def idle_problems(rates: RatePlan) -> list[Problem]:
    """A problem for each part that is to be trained and would move in none of the steps, whatever made it so."""
    steps, further = rates.steps - rates.stretch.first, "further " if rates.stretch.first else ""
    problems = {}
    for group in rates.groups() if steps > 0 else ():
        if not rates.steps_of(group):
            path, part = _share_of(group, rates.method)
            remedy = f"Train more {further}steps, or change {path}" + ("." if path == "network.begin" else "; 0 leaves the part as it is.")
            message = f"leaves the {part} none of the {steps} {further}steps, so it would learn nothing. {remedy}"
            problems[path] = Problem(path, message)
    return list(problems.values())


def _share_of(group: str, method: str) -> tuple[str, str]:
    """The setting of a group's share of the steps, and what the part is called."""
    if method == "dreambooth":
        return "tuning.text_encoder_until", "text encoder"
    return ("embedding.until", "word") if group == "embedding" else ("network.begin", "patches")


def precision_problems(settings: Settings, device: torch.device) -> list[Problem]:
    """What is wrong with DreamBooth's form on this device, where its precision is chosen by the device."""
    tuning = settings.tuning
    if settings.method != "dreambooth" or settings.training.precision != "auto" or precision.computes_bf16(device):
        return []
    if tuning.weights == "bf16" or (tuning.in_backward == "on" and precision.scales("auto", device)):
        return [precision.scaled_apart(tuning.weights)]
    return []


def _pivot_problems(settings: Settings) -> list[Problem]:
    problems, name = [], settings.name
    if bundles_word(settings) and "." in name:
        message = f"{name!r} has a dot, at which the WebUI ends a word inside a LoRA file. Write {name.replace('.', '-')}, or switch off embedding.bundle."
        problems.append(Problem("name", message))
    if (
        settings.embedding.until == 0
        and not embedding_file.names_file(settings.embedding.init)
        and not initial_weights.brings_word(settings)
    ):
        message = "is 0, so the word would never learn. Set it to 0.5, or name an embedding file that it begins with (embedding.init)."
        problems.append(Problem("embedding.until", message))
    return problems


def word_problems(settings: Settings, images: Dataset | None, tokenizer: Any, paths: Paths) -> list[Problem]:
    """Whether the name of an embedding would get in the way: of words, of the captions', or of another embedding."""
    name = settings.name.strip()
    if not teaches_word(settings) or not name:
        return []
    problems = _label_problems(settings, images) if images else []
    own = None if bundles_word(settings) else paths.embeddings / f"{name}.{settings.embedding.format}"
    texts = _captions(images) if images else [], _around(settings)
    if reason := word_name.refusal(tokenizer, name, *texts):
        problems.append(Problem("name", f"{reason} Choose another, for example {word_name.proposal(tokenizer, name, *texts)}."))
    for path in paths.embeddings.rglob("*") if paths.embeddings.is_dir() else ():
        same = _as_read(path.stem) == _as_read(name) and path.suffix.lower() in (*embedding_file.SUFFIXES, *embedding_picture.ENDINGS)
        if same and path != own and not (own and own.exists() and own.samefile(path)):
            problems.append(Problem("name", f"There is an embedding {name} already: {path}. Choose another name, for example {name}-2."))
    return problems


def _label_problems(settings: Settings, images: Dataset) -> list[Problem]:
    """Folders with words of their own beside one word that is taught."""
    subjects = subjects_of(replaced(settings, "data.trigger", settings.name.strip()), images)
    others = ", ".join(subject.words for subject in subjects if not subject.main)
    if others and settings.method == "textual_inversion":
        message = (
            f"folders with words of their own ({others}) cannot be learned by Textual Inversion, which teaches one word alone: "
            "train them apart, or choose LoRA or pivotal tuning."
        )
        return [Problem("data.images", message)]
    if others and not any(subject.main for subject in subjects):
        message = (
            f"no image would teach the word {settings.name}: every folder sets words of its own ({others}). "
            "Write the trigger word as in one of the folders' names."
        )
        return [Problem("data.images", message)]
    return []


def _as_read(name: str) -> str:
    """As the WebUI's tokenizer reads it, without letter case."""
    return unicodedata.normalize("NFC", name).lower()


def _captions(images: Dataset) -> list[str]:
    return [text for picture in images.everything if picture.caption for text in caption_syntax.read(picture.caption).every()]


def _around(settings: Settings) -> list[str]:
    """Templates and class word, without the word that is taught; a list of templates that cannot be read is reported elsewhere."""
    try:
        around = templates(settings)
    except InputError:
        around = ()
    return [*(template_caption(template, "", "") for template in (*around, caption_template(settings))), settings.data.class_word]
