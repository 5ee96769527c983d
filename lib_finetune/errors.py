"""The errors of Finetune; every one carries a sentence for the person who uses it.

`InputError` and its children are the person's to mend (exit code 2, a message at the field); the other
children of `FinetuneError` are failures of a run (exit code 1).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass


class FinetuneError(Exception):
    """Base of all errors that are shown to the person as they are: what happened, which value or file, what to do."""


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
    """The WebUI is in a state in which training cannot go on (a flag, a failed load); the message says what to change."""


class CheckpointChangedError(HostError):
    """Another checkpoint or VAE is loaded than the one that training began on; the job waits for it."""

    def __init__(self, wanted: str, loaded: str) -> None:
        self.wanted = wanted
        self.loaded = loaded
        super().__init__(f"Waiting for {wanted}: the WebUI has loaded {loaded}. Load {wanted} again, or stop and keep what was trained.")


class DivergedError(FinetuneError):
    """The loss stopped being a number."""

    def __init__(self, step: int, rate: float) -> None:
        self.step = step
        self.rate = rate
        super().__init__(
            f"The loss was not a finite number at step {step} (learning rate {rate:.3g}). "
            "Training went back to the last good state and stopped; nothing of the bad steps is saved. "
            "Lower the learning rate (a third is a good next try), or use bf16 or fp32 precision."
        )


class OutOfMemoryError(FinetuneError):
    """The device has no room left for the next step."""


class SaveError(FinetuneError):
    """A file could not be written; whatever stood there before still does."""


class VerificationError(FinetuneError):
    """The saved file did not pass through the WebUI's own loader as it should."""


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


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the device, or the machine, had no room left."""
    words = ("not enough memory", "out of memory", "can't allocate memory")
    named = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return named or any(word in str(error) for word in words)


@contextmanager
def out_of_memory_in_words() -> Iterator[None]:
    """Out of memory becomes an error that says what to change; the traceback, which holds tensors, is let go of."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        message = str(error).split("\n")[0]
    else:
        return
    raise OutOfMemoryError(
        f"The device ran out of memory ({message}). What was trained is kept and the run can go on. Switch on "
        "training.gradient_checkpointing, lower data.resolution or training.batch, or close other programs that use the card."
    )
