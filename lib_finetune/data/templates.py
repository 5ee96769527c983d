"""Captions for an embedding that has none: neutral sentences around the new word, after Gal et al., arXiv 2208.01618, appendix."""

from __future__ import annotations

from lib_finetune.data import caption_syntax
from lib_finetune.data.caption_syntax import is_comment
from lib_finetune.data.captions import holds_caption
from lib_finetune.errors import InputError, Problem, reason_of
from lib_finetune.files import at_home
from lib_finetune.text_files import NotTextError, read

_NOUNS = (
    "a photo of {}",
    "a picture of {}",
    "a close-up photo of {}",
    "a cropped photo of {}",
    "a bright photo of {}",
    "a dark photo of {}",
    "a good photo of {}",
    "a photo of one {}",
    "a rendition of {}",
    "an image that shows {}",
    "{} in the picture",
    "this is {}",
)
_STYLES = (
    "a painting in the style of {}",
    "a picture in the style of {}",
    "a rendering in the style of {}",
    "a drawing in the style of {}",
    "a close-up in the style of {}",
    "a cropped picture in the style of {}",
    "a bright painting in the style of {}",
    "a dark painting in the style of {}",
    "a small scene in the style of {}",
    "a large scene in the style of {}",
)
TEMPLATES = {
    "subject": tuple(line.format("{trigger}") for line in _NOUNS),
    "drawn": tuple(line.format("{trigger}").replace("photo", "drawing") for line in _NOUNS),
    "style": tuple(line.format("{trigger}") for line in _STYLES),
}
_PLACEHOLDERS = ("[name]", "{}", "{name}")
"""How other programs write the place of the word: the WebUI, diffusers, people."""


def plain(template: str) -> str:
    """A template as it is trained with: signs of prompts are read as they are in captions (`caption_syntax`), of a choice the first part."""
    text = template.replace("[filewords]", "{caption}").replace("[name]", "{trigger}")
    reading = caption_syntax.read(text)
    return reading.first if reading.kinds else template


def load(name: str, field: str) -> tuple[str, ...]:
    """A list by name, or the lines of a file. The WebUI's own files do too: ``[name]`` is the word, ``[filewords]`` the image's caption.

    Raises:
        InputError: no such list or file, or a line without a place for either.
    """
    if name in TEMPLATES:
        return TEMPLATES[name]
    path = at_home(name)
    try:
        lines = [line.strip() for line in read(path).split("\n")]
    except (OSError, NotTextError) as error:
        raise InputError(
            [Problem(field, f"{name!r} is neither {', '.join(TEMPLATES)} nor a text file that can be read ({reason_of(error)}).")]
        ) from error
    templates = tuple(_ours(line) for line in lines if line and not is_comment(line))
    # Where the image's caption has its place, the word is put in front of it.
    missing = next((line for line in templates if "{trigger}" not in line and not holds_caption(line)), None)
    if missing is not None or not templates:
        reason = f"the line {missing!r} has no {{trigger}}" if templates else "it is empty"
        message = (
            f"{path.name} cannot be used: {reason}. Write a caption on each line, with {{trigger}} for the word and [filewords] for the "
            "image's own caption."
        )
        raise InputError([Problem(field, message)])
    return templates


def _ours(line: str) -> str:
    for placeholder in _PLACEHOLDERS:
        line = line.replace(placeholder, "{trigger}")
    return " ".join(line.split()).rstrip(" ,")
