"""The subjects of a training: each is called by its own words, those of the settings or those of a folder that has words of its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from lib_finetune.assembly.caption_templates import caption_template, class_template
from lib_finetune.assembly.method_traits import teaches_word
from lib_finetune.data.captions import class_version, contains_word, parted, subject_of, template_caption

if TYPE_CHECKING:
    from lib_finetune.config.settings import Settings
    from lib_finetune.data.scan import Picture


@dataclass(frozen=True)
class Subject:
    """
    Attributes:
        trigger, class_word: that call it; either may be empty.
        pictures: how many images that are trained on show it.
        main: whether it is that of the settings.
    """

    trigger: str
    class_word: str
    pictures: int
    main: bool

    @property
    def words(self) -> str:
        """Trigger and class word, as they are written in a prompt."""
        return " ".join(word for word in (self.trigger, self.class_word) if word)


class Labelled(Protocol):
    """Images of a training, as `dataset.Dataset` holds them."""

    @property
    def pictures(self) -> Sequence[Picture]:
        """Those that are trained on."""

    @property
    def own_labels(self) -> Sequence[str]:
        """See `own_labels`."""


def own_labels(settings: Settings, pictures: Sequence[Picture]) -> tuple[str, ...]:
    """Words of folders that hold the subject of the settings: the only ones there are, or for a method that teaches a word those with the trigger."""
    labels = tuple(dict.fromkeys(picture.folder_words for picture in pictures if picture.folder_words))
    if len(labels) == 1 and all(picture.folder_words for picture in pictures):
        return labels
    called = (settings.data.trigger, settings.name) if teaches_word(settings) else ()
    return tuple(label for label in labels if any(contains_word(label, word) for word in called))


def subjects_of(settings: Settings, images: Labelled) -> tuple[Subject, ...]:
    """The subjects of a training's images, that of the settings first."""
    main = (settings.data.trigger, settings.data.class_word)
    counts: Counter[tuple[str, str]] = Counter()
    for picture in images.pictures:
        words = subject_of(picture, *main, images.own_labels)
        if not any(main) and picture.folder_words:
            words = parted(picture.folder_words)
        counts[words] += 1
    subjects = [Subject(*words, count, words == main) for words, count in counts.items()]
    return tuple(sorted(subjects, key=lambda subject: not subject.main))


def calling_words(settings: Settings, subjects: Sequence[Subject]) -> str:
    """What calls the subjects in a prompt; the settings' own words where nothing else is known."""
    words = [subject.words for subject in subjects if subject.words]
    return ", ".join(words) or " ".join(word for word in (settings.data.trigger, settings.data.class_word) if word)


def classes_of(settings: Settings, subjects: Sequence[Subject]) -> dict[str, str]:
    """Class word → the prompt of its class images; the settings' own first."""
    words = dict.fromkeys(subject.class_word for subject in subjects if subject.class_word)
    return {word: template_caption(class_template(settings), "", word) for word in words or [settings.data.class_word]}


def class_caption_of(settings: Settings, subjects: Sequence[Subject], caption: str) -> str:
    """What a caption says of the classes of its subjects: each trigger gives its place to its class word."""
    template = class_template(settings)
    bare = template_caption(template, "", settings.data.class_word)
    for subject in subjects or (Subject(settings.data.trigger, settings.data.class_word, 0, main=True),):
        if contains_word(caption, subject.trigger):
            bare = class_version(caption, subject.trigger, subject.class_word, template_caption(template, "", subject.class_word))
            caption = bare
    return bare


def subject_prompts(settings: Settings, subjects: Sequence[Subject]) -> list[str]:
    """The caption template, filled for each subject but that of the settings."""
    return [template_caption(caption_template(settings), subject.trigger, subject.class_word) for subject in subjects if not subject.main]


def subject_lines(subjects: Sequence[Subject]) -> list[str]:
    """A sentence for each of several subjects."""
    if len(subjects) < 2:
        return []
    return [
        f'Subject "{subject.words}": trigger word {subject.trigger or "none"}, class word {subject.class_word or "none"}, '
        f"images trained on: {subject.pictures}."
        for subject in subjects
    ]


def subject_notes(settings: Settings, subjects: Sequence[Subject]) -> list[str]:
    """What a person should know of the words."""
    trigger, class_word = settings.data.trigger.strip(), settings.data.class_word.strip()
    notes = []
    if trigger and class_word and contains_word(trigger, class_word):
        example = template_caption(caption_template(settings), trigger, class_word)
        notes.append(
            f'The trigger word "{trigger}" holds the class word "{class_word}", so captions read "{example}". '
            "Give the subject a word of its own, a rare one such as zxq."
        )
    if len(subjects) > 1:
        each = "; ".join(f'"{subject.words}" ({subject.pictures})' for subject in subjects)
        notes.append(f"Subjects, each called by its own words, with their images: {each}.")
    if trigger and subjects and not any(subject.main for subject in subjects):
        notes.append(f'No image is called by the trigger word "{trigger}": every folder sets words of its own.')
    return notes
