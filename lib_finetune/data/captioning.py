"""Which caption a picture has, and how a step varies it; a function of the settings and a key alone."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from functools import cached_property

from lib_finetune.data import captions
from lib_finetune.data.captions import Captioned


@dataclass(frozen=True)
class Captioning:
    """Where captions come from, and what varies them.

    Attributes:
        trigger, class_word, template: see `captions.final_caption`.
        own_labels: see `captions.subject_of`.
        class_template: the same of class pictures; None takes ``template``.
        templates: where there are some, a picture without a text file gets one of them, another each time; see `templates`.
        templates_win: the text files give way to them.
        shuffle_tags, keep_tags, tag_dropout, caption_dropout: see `captions.compose`.
        is_read: whether a text that begins a caption is read whole; what is behind its limit is cut off. None: there is no limit.
    """

    trigger: str = ""
    class_word: str = ""
    template: str = "a photo of {trigger} {class}"
    _: KW_ONLY
    own_labels: Sequence[str] = ()
    class_template: str | None = None
    templates: Sequence[str] = ()
    templates_win: bool = False
    shuffle_tags: bool = False
    keep_tags: int = 1
    tag_dropout: float = 0.0
    caption_dropout: float = 0.0
    is_read: Callable[[str], bool] | None = None

    def uses_templates(self, picture: Captioned) -> bool:
        """Whether its caption is one of the templates, another each time."""
        return bool(self.templates) and (self.templates_win or picture.caption is None) and self._is_main(picture)

    def subject(self, picture: Captioned) -> tuple[str, str]:
        """Trigger and class word of what it shows."""
        return captions.subject_of(picture, self.trigger, self.class_word, self.own_labels)

    def _is_main(self, picture: Captioned) -> bool:
        return self.subject(picture) == (self.trigger, self.class_word)

    def plain(self, picture: Captioned) -> str:
        """A picture's caption before a missing trigger is put in front; the first of the templates where they are used."""
        if self.uses_templates(picture):
            return self._filled[0]
        return captions.plain_caption(picture, self.template, self.trigger, self.class_word)

    def final(self, picture: Captioned) -> str:
        """A picture's caption before it is varied."""
        trigger = self.subject(picture)[0]
        return self._with_trigger_read(captions.with_trigger(self.plain(picture), trigger), trigger)

    def of_class(self, picture: Captioned) -> str:
        """A class picture's caption: its file's, else the template with the class word alone."""
        template = self.template if self.class_template is None else self.class_template
        return captions.plain_caption(picture, template, "", self.class_word)

    def varied(self, picture: Captioned, caption: str, key: str) -> str:
        """One step's variant of the picture's final ``caption``; the same key gives the same."""
        if self.uses_templates(picture):
            caption = random.Random(f"{key}/template").choice(self._filled)
        trigger = self.subject(picture)[0]
        composed = captions.compose(
            caption,
            trigger=trigger,
            keep_tags=self.keep_tags,
            shuffle=self.shuffle_tags,
            tag_dropout=self.tag_dropout,
            caption_dropout=self.caption_dropout,
            rng=random.Random(f"{key}/caption"),
        )
        return self._with_trigger_read(composed, trigger)

    def _with_trigger_read(self, caption: str, trigger: str) -> str:
        """A trigger in the part that is cut off would never be learned: it is put in front."""
        beginning = captions.up_to_word(caption, trigger)
        if self.is_read is None or beginning is None or self.is_read(beginning):
            return caption
        return f"{trigger}, {caption}"

    @property
    def template_captions(self) -> tuple[str, ...]:
        """Captions that the templates make, one of them each time."""
        return tuple(self._with_trigger_read(caption, self.trigger) for caption in self._filled)

    def steady(self) -> Captioning:
        """The same with captions whole and in their own order."""
        return replace(self, shuffle_tags=False, tag_dropout=0.0, caption_dropout=0.0)

    @cached_property
    def _filled(self) -> list[str]:
        return [captions.template_caption(template, self.trigger, self.class_word) for template in self.templates]
