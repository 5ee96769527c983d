"""Class images: which are made, in which batches, and what is told of the time."""

import pytest

from lib_finetune.errors import OutOfMemoryError, PictureInterruptedError
from lib_finetune.runs.class_images import ClassPictures
from tests.fakes.host import FakeHost


class Painting(FakeHost):
    """Notes the batches that it is asked for; (first seed, count)."""

    def __init__(self, root):
        super().__init__(root)
        self.batches, self.errors = [], []

    def paint(self, request, count):
        self.batches.append((request.seed, count))
        if self.errors and (error := self.errors.pop(0)):
            raise error
        return super().paint(request, count)


@pytest.fixture
def host(tmp_path):
    return Painting(tmp_path)


def classes(host):
    return ClassPictures(host.pictures, host.paths.data, host.checkpoint(), "a photo of cat", 64, 1)


def make(host, count, said=None, stop=lambda: False):
    done = []
    whole = classes(host).make(count, lambda *at: done.append(at), (said if said is not None else []).append, stop)
    return whole, done


def numbers(host):
    return sorted(int(path.stem) for path in classes(host).folder.glob("*.png"))


def test_a_batch_has_seeds_that_follow_one_another(host):
    assert make(host, 6) == (True, [(0, 6), (4, 6)]) and host.batches == [(1, 4), (5, 2)] and numbers(host) == [1, 2, 3, 4, 5, 6]
    for number in (2, 3, 5):
        (classes(host).folder / f"{number:05d}.png").unlink()
    host.batches.clear()
    assert classes(host).missing(7) == [2, 3, 5, 7]
    assert make(host, 7)[0] and host.batches == [(2, 2), (5, 1), (7, 1)] and numbers(host) == [1, 2, 3, 4, 5, 6, 7]


def test_the_time_that_an_image_took_is_told_before_the_next_run(host):
    assert "how long it takes is told after the first ones" in classes(host).announce(8)
    said = []
    make(host, 4, said)
    assert len(said) == 1 and said[0].startswith("A class image takes")
    assert classes(host).announce(8).startswith("Class images of 'a photo of cat': have 4, need 8, about ")
    make(host, 8, said)
    assert len(said) == 1 and "are there from an earlier run" in classes(host).announce(8)


def test_what_does_not_fit_at_once_is_made_one_at_a_time(host):
    host.errors = [OutOfMemoryError("full")]
    said = []
    assert make(host, 6, said)[0] and numbers(host) == [1, 2, 3, 4, 5, 6]
    assert host.batches == [(1, 4), *((number, 1) for number in range(1, 7))] and "no room on the device for 4" in said[0]
    host.errors = [OutOfMemoryError("full")]
    with pytest.raises(OutOfMemoryError):
        make(host, 7)


@pytest.mark.parametrize("stops", [False, True])
def test_an_interrupted_batch_is_made_again_unless_the_run_stops(host, stops):
    host.errors = [PictureInterruptedError("interrupted")]
    whole, _ = make(host, 2, stop=lambda: stops and bool(host.batches))
    assert whole != stops and host.batches == [(1, 2)] * (2 - stops) and numbers(host) == ([] if stops else [1, 2])
