"""The second try of a first step that finds no room: once, with gradient checkpointing, and remembered for a resumed run."""

from types import SimpleNamespace

import pytest

from lib_finetune.config import codec
from lib_finetune.config.fields import value_at
from lib_finetune.config.settings import Settings
from lib_finetune.errors import OutOfMemoryError
from lib_finetune.runs.folder import RunFolder
from lib_finetune.runs.second_try import with_second_try


class Training:
    """A session whose training raises these errors one after the other, each after so many steps."""

    def __init__(self, folder, *errors, can_checkpoint=True, steps=0):
        self.errors, self.steps, self.step, self.tries, self.did = list(errors), steps, 0, 0, []
        self.folder = RunFolder(folder)
        self.assembly = SimpleNamespace(
            can_checkpoint=can_checkpoint,
            checkpoint_gradients=lambda: self.did.append("checkpointing"),
            trainer=SimpleNamespace(forget_step=lambda: self.did.append("forgot")),
        )
        self.sink = SimpleNamespace(say=lambda line: self.did.append(line))

    def train(self):
        self.tries += 1
        self.step += self.steps
        if self.errors:
            raise self.errors.pop(0)


def test_a_first_step_without_room_is_tried_once_more_and_a_resumed_run_begins_so(tmp_path):
    training = Training(tmp_path, OutOfMemoryError("full"))
    settings = codec.with_values(Settings(), {"data.images": "/images", "training.gradient_checkpointing": "false"}.items())
    training.folder.write_settings(settings)
    with_second_try(training, training.train)
    assert training.tries == 2 and training.did[1:] == ["checkpointing", "forgot"] and "tried once more" in training.did[0]
    stored = training.folder.settings()
    assert stored is not None and stored != settings and value_at(stored, "training.gradient_checkpointing") is True


def test_without_stored_settings_it_is_tried_all_the_same(tmp_path):
    training = Training(tmp_path, OutOfMemoryError("full"))
    with_second_try(training, training.train)
    assert training.tries == 2 and training.folder.settings() is None


def test_a_training_with_room_is_one_try(tmp_path):
    training = Training(tmp_path)
    with_second_try(training, training.train)
    assert training.tries == 1 and training.did == []


@pytest.mark.parametrize(
    ("error", "how"),
    [
        (OutOfMemoryError("full"), {"steps": 1}),  # a later step
        (OutOfMemoryError("full"), {"can_checkpoint": False}),  # checkpointing is on
        (RuntimeError("shapes differ"), {}),
    ],
)
def test_other_failures_are_raised_at_once(tmp_path, error, how):
    training = Training(tmp_path, error, **how)
    with pytest.raises(type(error), match=str(error)):
        with_second_try(training, training.train)
    assert training.tries == 1 and training.did == []


def test_a_second_failure_is_raised(tmp_path):
    training = Training(tmp_path, OutOfMemoryError("full"), OutOfMemoryError("still full"))
    with pytest.raises(OutOfMemoryError, match="still full"):
        with_second_try(training, training.train)
    assert training.tries == 2
