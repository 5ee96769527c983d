"""What is made before the first step: class images, the objects of the run, encoded latents."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from lib_finetune.assembly import automatic_settings, builder, dataset
from lib_finetune.assembly.subjects import classes_of, subjects_of
from lib_finetune.errors import device_errors_in_words
from lib_finetune.runs.class_images import ClassPictures
from lib_finetune.text.extra_networks import without_networks

if TYPE_CHECKING:
    from collections.abc import Callable

    from lib_finetune.assembly.dataset import Dataset
    from lib_finetune.config.settings import Settings
    from lib_finetune.data.scan import Report
    from lib_finetune.ports.checkpoint import CheckpointInfo
    from lib_finetune.ports.events import ProgressSink, StepReport
    from lib_finetune.ports.host import Host
    from lib_finetune.runs.session import Session
    from lib_finetune.runs.waiting import Waiting
    from lib_finetune.training.model_swap import ModelSwap


def with_class_images(
    settings: Settings, images: Dataset, info: CheckpointInfo, host: Host, sink: ProgressSink, waiting: Waiting
) -> Dataset | None:
    """The images with those of the class, made now where they are missing; None when the person stopped it."""
    if automatic_settings.prior_of(settings) != "pictures" or images.classes:
        return images
    prompts, reports = classes_of(settings, subjects_of(settings, images)), {}
    for word, prompt in prompts.items():
        report = _class_images(settings, without_networks(prompt)[0], info, host, sink, waiting)
        if report is None:
            return None
        reports[word] = report
    own, *others = reports
    # The words of a folder are what a picture without a text file is called by.
    pictures = [dataclasses.replace(picture, folder_words=word) for word in others for picture in reports[word].pictures]
    return dataclasses.replace(images, classes=dataclasses.replace(reports[own], pictures=(*reports[own].pictures, *pictures)))


def _class_images(settings: Settings, prompt: str, info: CheckpointInfo, host: Host, sink: ProgressSink, waiting: Waiting) -> Report | None:
    """Those of one class; None when the person stopped it."""
    side, count = min(512, settings.data.resolution), settings.data.class_count
    classes = ClassPictures(host, info, prompt, side, settings.training.clip_skip)
    sink.say(classes.announce(count))
    with device_errors_in_words():
        complete = classes.make(
            count,
            lambda done, total: sink.stage("class pictures", done, total),
            sink.say,
            waiting.stop_asked,
            waiting.is_called,
        )
    if not complete:
        return None
    report = dataset.class_report(classes.folder, count, waiting.heed)
    for line in report.lines():
        sink.say(line)
    return report


def bind(
    settings: Settings,
    images: Dataset,
    info: CheckpointInfo,
    host: Host,
    waiting: Waiting,
    report: Callable[[StepReport], None],
    swapped: Callable[[ModelSwap], None],
) -> builder.Assembly:
    """The objects of the run on the borrowed model.

    Args:
        swapped: hears of each time that the two models changed places.

    Raises:
        FinetuneError: as `builder.bind`.
    """
    cache = host.paths.data / "cache" / "latents"
    assembly = builder.bind(settings, images, host, info, cache, waiting.for_checkpoint, report)
    if assembly.swap:
        assembly.swap.on_swapped = swapped
    return assembly


def encode_latents(session: Session) -> None:
    """Encode what the coming steps will need. Encoding takes turns too."""
    assembly, trainer = session.assembly, session.assembly.trainer
    per_step = trainer.plan.accumulation
    missing = [(assembly.batches, variant) for variant in assembly.batches.missing(trainer.step * per_step, session.total * per_step)]
    if assembly.held and assembly.validation:
        missing += [(assembly.held, variant) for variant in assembly.held.missing(0, assembly.validation.pictures)]
    trainer.turns.use(("vae",))
    for done, (source, variant) in enumerate(missing):
        if session.control.pause_asked():
            trainer.turns.close()
        if session.waiting.stop_asked():
            break
        session.sink.stage("cache", done, len(missing))
        with trainer.turns.step():
            source.encode_variant(variant)
    trainer.turns.use(assembly.needs, assembly.swap)
