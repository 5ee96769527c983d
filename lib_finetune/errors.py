"""The errors of Finetune; every one carries a sentence for the person who uses it.

`InputError` and its children are the person's to mend (exit code 2, a message at the field); the other
children of `FinetuneError` are failures of a run (exit code 1).
"""

from __future__ import annotations

import errno
import os
import re
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


class FinetuneError(Exception):
    """Base of all errors that are shown to the person as they are: what happened, which value or file, what to do."""


def reason_of(error: Exception) -> str:
    """Why, without the number and the path that Python puts around an error of the system."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or repr(error)


def denied_in_words(error: BaseException) -> str | None:
    """A sentence where the system refuses a file or a folder to this program; None for every other error."""
    if not isinstance(error, OSError) or error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
        return None
    place = error.filename if isinstance(error.filename, str) else os.fsdecode(error.filename) if error.filename else "A file or a folder"
    return f"{place} may not be used: {error.strerror}. Change its permissions, or choose another place."


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with the input.

    Attributes:
        field: dotted name of the setting ("network.rank"), or "" when none is to blame.
        message: one sentence with the offending value and what to do.
    """

    field: str
    message: str

    def __str__(self) -> str:
        return f"{self.field}: {self.message}" if self.field else self.message


class InputError(FinetuneError):
    """Wrong input; holds every problem that was found, so that they are mended in one go."""

    def __init__(self, problems: Sequence[Problem] | str) -> None:
        all_problems = [Problem("", problems)] if isinstance(problems, str) else list(problems)
        self.problems: tuple[Problem, ...] = tuple(all_problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class CheckpointError(InputError):
    """A checkpoint that is missing, broken or of a family that Finetune does not train."""


class DependencyError(InputError):
    """A library is missing or of a version that cannot do what is asked; the message names the command that adds it."""


class HostError(FinetuneError):
    """The WebUI is in a state in which training cannot continue (a flag, a failed load); the message says what to change."""


class InUseError(HostError):
    """Another program works in a folder."""

    def __init__(self, folder: object, message: str) -> None:
        super().__init__(f"{folder} is in use: {message}")


class OutdatedError(HostError):
    """The program's files were updated while it runs; it has to be started again."""


class DeviceLostError(HostError):
    """The driver of the GPU gave up on this program; whatever asks the GPU fails until it is started again."""

    def __init__(self, reason: str) -> None:
        """
        Args:
            reason: the driver's own words.
        """
        super().__init__(
            f"The GPU does not answer any more ({reason}). The WebUI (or the program that trains without it) has to be restarted; "
            "until then nothing can be trained and no image can be made. What was saved last is kept."
        )


class WeightsChangedError(HostError):
    """Something else wrote to the loaded model and it could not be put back: what is learned from there on is wrong."""

    def __init__(self, message: str, *, in_training: bool) -> None:
        """
        Args:
            in_training: whether it happened in a turn of training, so that what was learned in it is wrong already.
        """
        super().__init__(message)
        self.in_training = in_training


class CheckpointChangedError(HostError):
    """Another checkpoint or VAE is loaded than the one that training began on; the job waits for it."""

    def __init__(self, needed: str, loaded: str) -> None:
        """
        Args:
            needed: the checkpoint that training began on.
            loaded: the one that the WebUI has loaded.
        """
        self.needed = needed
        self.loaded = loaded
        super().__init__(f"Waiting for {needed}: the WebUI has loaded {loaded}. Load {needed} again, or stop and keep what was trained.")


class DivergedError(FinetuneError):
    """The loss stopped being a number."""

    def __init__(self, step: int, rate: float, *, ahead: bool = False) -> None:
        """
        Args:
            step: whose loss it was.
            ahead: that step has not been: its loss was looked at to know whether the one before it is good.
        """
        self.step = step
        self.rate = rate
        when = f"after step {step - 1}, the last one" if ahead else f"at step {step}"
        super().__init__(
            f"The loss was not a finite number {when} (learning rate {rate:.3g}). Training stopped; nothing of the bad steps is saved. "
            "Lower the learning rate (a third is a good next try), or use bf16 or fp32 precision."
        )


class StepsSkippedError(FinetuneError):
    """The loss scaler of fp16 skips every step, so that nothing is learned any more."""

    def __init__(self, count: int, step: int) -> None:
        """
        Args:
            count: steps that were skipped, one after the other.
            step: the last of them.
        """
        self.step = step
        super().__init__(
            f"The last {count} steps up to step {step} were skipped, because their gradients were not finite in fp16 at any loss scale: "
            "nothing was learned in them, so training stopped. Set training.precision to bf16 or fp32 (start the WebUI with --no-half for "
            "that), or lower the learning rate."
        )


class OutOfMemoryError(FinetuneError):
    """The device has no room left for the next step."""


class PictureInterruptedError(FinetuneError):
    """An image was left unfinished, because the request asked for that, or the person pressed Interrupt in the WebUI."""


class SaveError(FinetuneError):
    """A file could not be written; whatever stood there before still does."""


class DiskError(SaveError):
    """The disk or the folder takes no file now; once the person has made room, the same file can be written."""

    def __init__(self, message: str, path: Path) -> None:
        """
        Args:
            path: the file that could not be written.
        """
        self.path = path
        super().__init__(message)


class NothingLearnedError(FinetuneError):
    """Vectors of an embedding get no gradient, so training them would change nothing."""

    def __init__(self, vectors: list[int], count: int, steps: int) -> None:
        """
        Args:
            vectors: their numbers, from 1.
            count: how many there are.
            steps: after so many it was seen.
        """
        which = "None" if len(vectors) == count else f"Only {count - len(vectors)}"
        super().__init__(
            f"{which} of the {count} vectors of the word learned anything in {steps} steps, so training was stopped. Either the word stands "
            "behind the part of the captions that is read (raise data.max_tokens or shorten them), or the learned layers are cut off: "
            "try optimizer.name adamw and training.gradient_checkpointing off."
        )


_NO_ROOM = ("not enough memory", "out of memory", "can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED")
_DEVICE_ERROR = re.compile(r"\b(CUDA|HIP)( driver)? error\b.*")
_UNFIT = "no kernel image"
"""A GPU that this torch was not made for; it lives, and a restart would change nothing."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the device, or the machine, had no room left."""
    named = isinstance(error, MemoryError | OutOfMemoryError) or type(error).__name__ == "OutOfMemoryError"
    return named or any(words in str(error) for words in _NO_ROOM)


def device_loss(error: BaseException | None) -> str:
    """What the driver said when the GPU was lost, from an error or what caused it; "" for any other error.

    After such an error every further call to the GPU fails until the program is started again.
    """
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if reason := _words_of_driver(error):
            return reason
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return ""


def _words_of_driver(error: BaseException) -> str:
    if not isinstance(error, RuntimeError | FinetuneError) or isinstance(error, InputError) or is_out_of_memory(error):
        return ""
    match = _DEVICE_ERROR.search(str(error))
    # torch has a class for it since 2.8 and raises it for nothing else.
    named = type(error).__name__ == "AcceleratorError"
    if (match is None and not named) or _UNFIT in str(error):
        return ""
    return (match.group() if match else str(error).split("\n")[0]).rstrip(". ")


def let_go(error: BaseException) -> None:
    """Clear the finished frames of an error and of those that it came from: their local variables are tensors, which take room on the device."""
    seen: set[int] = set()
    left: list[BaseException | None] = [error]
    while left:
        each = left.pop()
        if each is not None and id(each) not in seen:
            seen.add(id(each))
            traceback.clear_frames(each.__traceback__)
            left += [each.__cause__, each.__context__]


@contextmanager
def device_errors_in_words() -> Iterator[None]:
    """Out of memory, or a lost GPU, as an error that says what to do; the traceback, which holds tensors, is released.

    Raises:
        OutOfMemoryError, DeviceLostError: in place of what was raised.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        reason = device_loss(error)
        if not reason and not is_out_of_memory(error):
            raise
        message = str(error).split("\n")[0]
    else:
        return
    if reason:
        raise DeviceLostError(reason)
    raise OutOfMemoryError(
        f"The device ran out of memory ({message}). What was trained is kept and the run can be resumed. Switch on "
        "training.gradient_checkpointing, lower data.resolution or training.batch, or close other programs that use the GPU."
    )
