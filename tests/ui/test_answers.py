"""What goes wrong with a button becomes words."""

import logging

import pytest

from lib_finetune.errors import HostError, InputError, Problem

pytest.importorskip("gradio", reason="gradio belongs to the WebUI's library set")


def answer(error=None):
    from lib_finetune.ui.answers import Answers

    def action():
        if error:
            raise error
        return "done"

    return Answers(lambda: ["peft is missing."]).of(action)


def test_an_answer_passes_through():
    assert answer() == "done"


def test_wrong_input_stands_under_the_labels_that_the_person_sees():
    message = answer(InputError([Problem("training.steps", "is <none>."), Problem("", "Choose a job.")]))
    assert "Steps: is &lt;none&gt;." in message and "Choose a job." in message


def test_what_cannot_be_done_now_is_said_as_it_is():
    assert "No checkpoint is loaded." in answer(HostError("No checkpoint is loaded.")) and "peft" not in answer(HostError("x"))


def test_a_mistake_of_ours_is_logged_and_names_missing_libraries(caplog):
    with caplog.at_level(logging.ERROR):
        message = answer(ValueError("<odd>"))
    assert "That did not work" in message and "peft is missing." in message and "<odd>" not in message
    assert "Traceback" in caplog.text
