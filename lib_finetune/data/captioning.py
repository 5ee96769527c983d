"""Which caption an image has, and how a step varies it; a function of the settings and a key alone."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass, replace

from lib_finetune.data import caption_syntax, captions
from lib_finetune.data.captions import Captioned


@dataclass(frozen=True)
class Captioning:
    """Where captions come from, and what varies them.

    Attributes:
        trigger, class_word, template: see `captions.final_caption`.
        own_labels: see `captions.subject_of`.
        class_template: the template of class images; None takes ``template``.
        templates: if there are any, an image without a text file gets one of them, drawn anew each time; see `templates`.
        templates_win: whether templates go before the text files.
        shuffle_tags, keep_tags, tag_dropout, caption_dropout: see `captions.compose`.
        is_read: whether the text encoder reads a text, as the beginning of a caption, to its end; the rest is cut off. None: no limit.
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
        """Whether an image's caption is one of the templates, drawn anew each time."""
        return (
            bool(self.templates)
            and (self.templates_win or picture.caption is None)
            and self.subject(picture) == (self.trigger, self.class_word)
        )

    def subject(self, picture: Captioned) -> tuple[str, str]:
        """Trigger and class word of what an image shows."""
        return captions.subject_of(picture, self.trigger, self.class_word, self.own_labels)

    def has_alternatives(self, picture: Captioned) -> bool:
        """Whether an image has several captions, of which each time one is used: templates, lines of its file, choices in a line."""
        return self.uses_templates(picture) or (picture.caption is not None and caption_syntax.read(picture.caption).varies)

    def plain(self, picture: Captioned, key: str | None = None) -> str:
        """An image's caption before a missing trigger is put in front.

        Args:
            key: decides which of its alternatives; without one the first is taken.
        """
        if self.uses_templates(picture):
            template = self.templates[0] if key is None else random.Random(f"{key}/template").choice(self.templates)
            return self._filled(template, captions.own_caption(picture, _alternative(key)))
        return self._around(captions.own_caption(picture, _alternative(key)), picture)

    def final(self, picture: Captioned, key: str | None = None) -> str:
        """An image's caption before its tags are varied; ``key`` as of `plain`."""
        return self._called(self.plain(picture, key), picture)

    def every(self, picture: Captioned) -> list[str]:
        """All texts that `final` may give for an image; if there are very many, only the first of them."""
        own = [None] if picture.caption is None else caption_syntax.read(picture.caption).every()
        if self.uses_templates(picture):
            texts = [self._filled(template, words) for template in self.templates for words in own]
        else:
            texts = [self._around(words, picture) for words in own]
        return list(dict.fromkeys(self._called(text, picture) for text in texts))

    def of_class(self, picture: Captioned, key: str | None = None) -> str:
        """A class image's caption: its file's, else the template with the class word alone; ``key`` as of `plain`."""
        template = self.template if self.class_template is None else self.class_template
        return captions.plain_caption(picture, template, "", self.class_word, _alternative(key))

    def varied(self, picture: Captioned, caption: str, key: str) -> str:
        """One step's variant of the image's final ``caption``; the same key gives the same."""
        if self.has_alternatives(picture):
            caption = self.final(picture, key)
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

    def _called(self, caption: str, picture: Captioned) -> str:
        """The caption with the trigger of what the image shows, in the part that the text encoder reads."""
        trigger = self.subject(picture)[0]
        return self._with_trigger_read(captions.with_trigger(caption, trigger), trigger)

    def _with_trigger_read(self, caption: str, trigger: str) -> str:
        """The caption with the trigger in front if it stood in the part that is cut off, where it would never be learned."""
        beginning = captions.up_to_word(caption, trigger)
        if self.is_read is None or beginning is None or self.is_read(beginning):
            return caption
        return f"{trigger}, {caption}"

    @property
    def template_captions(self) -> tuple[str, ...]:
        """The captions that the templates give, without what the images' own captions add."""
        return tuple(self._with_trigger_read(self._filled(template, None), self.trigger) for template in self.templates)

    def steady(self) -> Captioning:
        """The same captioning without dropout and without shuffling."""
        return replace(self, shuffle_tags=False, tag_dropout=0.0, caption_dropout=0.0)

    def _filled(self, template: str, own: str | None) -> str:
        own = captions.filled(own or "", self.trigger, self.class_word)
        return captions.template_caption(template, self.trigger, self.class_word, own)

    def _around(self, own: str | None, picture: Captioned) -> str:
        own = None if own is None else captions.filled(own, *self.subject(picture))
        return captions.around(own, picture.folder_words, self.template, self.trigger, self.class_word)


def _alternative(key: str | None) -> random.Random | None:
    return None if key is None else random.Random(f"{key}/alternative")
