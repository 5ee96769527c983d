"""Preparation: class images and encoded latents, made before the first step."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from lib_finetune.assembly import dataset
from lib_finetune.errors import device_errors_in_words
from lib_finetune.files import write_atomically
from lib_finetune.runs import repair, saved_states, snapshots
from lib_finetune.runs.class_images import ClassPictures

if TYPE_CHECKING:
    from lib_finetune.assembly.dataset import Dataset
    from lib_finetune.assembly.run_plans import ClassImagesPlan
    from lib_finetune.data.scan import Report
    from lib_finetune.ports.checkpoint import CheckpointInfo
    from lib_finetune.ports.events import ProgressSink
    from lib_finetune.ports.host import Host
    from lib_finetune.runs.folder import RunFolder
    from lib_finetune.runs.room import DiskRoom
    from lib_finetune.runs.session import Session
    from lib_finetune.runs.waiting import Waiting
    from lib_finetune.runs.write_journal import WriteJournal


def with_class_images(
    plan: ClassImagesPlan | None, images: Dataset, info: CheckpointInfo, host: Host, sink: ProgressSink, waiting: Waiting, room: DiskRoom
) -> Dataset | None:
    """The dataset with its class images, which are made now if they are missing; None if the person stopped it."""
    if plan is None or images.classes:
        return images
    reports = {}
    for word, prompt in plan.prompts.items():
        report = _class_images(plan, prompt, info, host, sink, waiting, room)
        if report is None:
            return None
        reports[word] = report
    # The words of a folder name an image without a text file; without them it shows the settings' class.
    pictures = [
        picture if word == plan.own else dataclasses.replace(picture, folder_words=word)
        for word, report in reports.items()
        for picture in report.pictures
    ]
    return dataclasses.replace(images, classes=dataclasses.replace(next(iter(reports.values())), pictures=tuple(pictures)))


def _class_images(
    plan: ClassImagesPlan, prompt: str, info: CheckpointInfo, host: Host, sink: ProgressSink, waiting: Waiting, room: DiskRoom
) -> Report | None:
    """The images of one class; None if the person stopped it."""
    clip_skip = plan.clip_skip or host.text_tools().clip_skip
    classes = ClassPictures(host.pictures, host.paths.data, info, prompt, plan.side_px, clip_skip)
    sink.say(classes.announce(plan.count))
    with device_errors_in_words():
        complete = classes.make(
            plan.count,
            lambda done, total: sink.stage("class images", done, total),
            sink.say,
            waiting.stop_asked,
            waiting.is_called,
            lambda file, content: room.insist(lambda: write_atomically(file, content)),
        )
    if not complete:
        return None
    report = dataset.class_report(classes.folder, plan.count, waiting.heed)
    for line in report.lines():
        sink.say(line)
    return report


def encode_latents(session: Session) -> None:
    """Encode the images of the coming steps. Encoding takes turns too."""
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


def clear_rests(folder: RunFolder, journal: WriteJournal, sink: ProgressSink) -> None:
    """Remove the leftovers of the same run after a kill; the caller holds the folder's lock."""
    for path in journal.clear(forget=not folder.resumes()):
        sink.say(f"Half a file of before was removed: {path.name}.")
    snapshots.withdraw(folder, journal, lent=False)
    saved_states.drop(folder.preview_checkpoint)
    if folder.resumes():
        for line in repair.mend(folder):
            sink.say(line)
