"""What one open page shows now, and what a button changes in it.

Handlers that take a `PageState` import it for good, not for the type checker alone: gradio evaluates the types of their arguments.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    from lib_finetune.config.settings import Settings


class PageState(TypedDict, total=False):
    """An object of its own for each page, changed in place.

    Attributes:
        shown: id of the job that the page shows, to which the buttons beside it belong; "" for none.
        followed: id of the job that ran, or had run last, when the page was refreshed last; "" for none.
        job: id of the job that was chosen; "" or absent: the one that runs or ran last is shown.
        feedback: the answer to "Too weak" or "Overdone" beneath that result.
        ended: how many ended runs are listed; absent: as many as at first.
        editing: id of the waiting job whose settings are in the form to be changed; "" for none.
        filled: other settings have come into the form, whose images are not shown yet.
        tool_problems: tool → (field, message) of what is wrong with what was asked of it.
        marks: panel → hash of its HTML on the page.
        buttons: which of the buttons beside the job the page shows.
    """

    shown: str
    followed: str
    job: str
    feedback: str
    ended: int
    editing: str
    filled: bool
    tool_problems: dict[str, list[tuple[str, str]]]
    marks: dict[str, int]
    buttons: dict[str, bool]


@dataclass(frozen=True)
class PageChange:
    """What a button changes.

    Attributes:
        message: a note above Train, or "".
        settings: those that come into the form; None leaves it as it is.
    """

    message: str = ""
    settings: Settings | None = None
