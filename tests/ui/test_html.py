"""Pieces of HTML that panels share, as text."""

import re

import pytest

from lib_finetune.ui import html


@pytest.mark.parametrize(("limits", "choose"), [({"files": 3}, "Choose files"), (None, "Choose a file")])
def test_a_field_for_files_has_a_button_of_ours_in_the_pages_language(limits, choose):
    field = html.drop("pictures", "or drop images here", "key", limits)
    name = re.search(r'<input type="file" id="(\w+)"', field)[1]
    assert f'<label for="{name}" id="{name}_choose" class="finetune-files-button">{choose}</label>' in field
    assert f'aria-labelledby="{name}_choose {name}_label"' in field and f'<span id="{name}_label">or drop images here</span>' in field
    assert field.index("<input") < field.index("<label"), "the style marks the label behind the field that has the focus"
    assert (" multiple>" in field) == (limits is not None)
