"""The answers to buttons: the message above Train, whatever becomes of what was asked for."""

from __future__ import annotations

import logging
from collections.abc import Callable

from lib_finetune.config.codec import all_leaves
from lib_finetune.errors import FinetuneError, InputError
from lib_finetune.ui import form, status

_log = logging.getLogger(__name__)


class Answers:
    """Turns what goes wrong into words."""

    def __init__(self, missing: Callable[[], list[str]]) -> None:
        """
        Args:
            missing: sentences on libraries that are missing, with the command that adds them.
        """
        self._missing = missing

    def of(self, action: Callable[[], str]) -> str:
        """Run a button's action; returns its message, as HTML."""
        try:
            return action()
        except InputError as error:
            return status.problems(
                [form.in_words(problem) for problem in error.problems],
                [form.element(problem.field) if problem.field in all_leaves() else "" for problem in error.problems],
            )
        except FinetuneError as error:
            return status.problems([str(error)])
        except Exception as error:  # noqa: BLE001  an edge: shown or logged
            _log.exception("The tab could not do what was asked")
            return status.problems([*self._missing(), f"That did not work: {error!r}. The console has the details."])
