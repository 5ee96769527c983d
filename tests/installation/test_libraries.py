"""The table of libraries is that of the requirements."""

from pathlib import Path

from lib_finetune.installation import libraries, requirements

ROOT = Path(__file__).resolve().parents[2]


def test_every_library_that_is_installed_says_what_it_is_for_and_none_that_is_not():
    assert libraries.names() == list(libraries.USES)


def test_the_document_holds_the_table():
    text = (ROOT / "docs" / "libraries.md").read_text(encoding="utf-8")
    assert libraries.table() in text, "print it anew: python -m lib_finetune.installation.libraries"


def test_the_versions_are_those_that_were_run():
    assert libraries.versions("diffusers") == {"host": ["0.29.2 to 0.35.2"], "newest": ["0.42.1"]}
    assert libraries.versions("gradio") == {"host": ["3.41.2"]}
    assert libraries.versions("numpy")["host"] == [next(span.oldest for span in requirements.RUN_WITH["host"] if span.name == "numpy")]
