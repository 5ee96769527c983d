"""What is said of each method before anything was measured."""

import dataclasses

from lib_finetune.config.settings import METHODS
from lib_finetune.estimates.method_prospects import PROSPECTS


def test_every_method_has_its_prospects():
    assert tuple(PROSPECTS) == METHODS and all(all(dataclasses.astuple(prospect)) for prospect in PROSPECTS.values())


def test_no_number_is_told_that_nobody_measured():
    texts = [text for prospect in PROSPECTS.values() for text in dataclasses.astuple(prospect)]
    assert [text for text in texts if any(character.isdigit() for character in text)] == []
