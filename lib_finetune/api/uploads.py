"""Files that are sent to us: by whom, how many and how large, streamed to disk before anything reads them."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import TYPE_CHECKING, Any, BinaryIO

from fastapi import Depends, HTTPException, Request
from starlette.datastructures import UploadFile as UploadedFile
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.formparsers import MultiPartException

from lib_finetune.api.routing import refuse_other_sites
from lib_finetune.errors import InputError, Problem, SaveError

if TYPE_CHECKING:
    from lib_finetune.access import Guard

FILES_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {"type": "object", "properties": {"files": {"type": "array", "items": {"type": "string", "format": "binary"}}}}
            }
        },
    }
}
_FORM_BYTES = 10**6
"""What a form may have beside the files."""
_UNREAD = [Problem("data.images", "No images were sent.")]


def may_send(guard: Guard) -> Any:
    """As `may_use`; the page proves itself by its key, for with accounts alone its browser has no password to send along."""

    def check(request: Request) -> None:
        refuse_other_sites(request)
        known = guard.allows(request.headers.get("authorization"), request.cookies)
        if not known and not guard.opens(request.headers.get("x-finetune-key", "")):
            raise HTTPException(401, "Sign in first.", {"WWW-Authenticate": "Basic"} if guard.accounts else None)

    return Depends(check)


@contextlib.asynccontextmanager
async def sent_files(request: Request, files: int, size: int, limits: str) -> AsyncIterator[list[tuple[str, BinaryIO]]]:
    """The files of a form, (name, content) each; read after it is known who sends them, and no further than may be.

    Raises:
        InputError: they are more than ``files``, or larger than ``size`` bytes together.
    """
    length = request.headers.get("content-length", "")
    if length.isdigit() and int(length) > size + _FORM_BYTES:
        raise InputError([Problem("", limits)])
    try:
        form = await Request(request.scope, _counted(request, size + _FORM_BYTES, limits)).form(max_files=files, max_fields=files)
    except (StarletteHTTPException, MultiPartException) as error:
        message = str(getattr(error, "detail", None) or getattr(error, "message", error))
        raise InputError([Problem("", limits)] if message.startswith("Too many files") else _UNREAD) from error
    except (ValueError, KeyError) as error:  # what the form's parser says to other broken forms
        raise InputError(_UNREAD) from error
    except OSError as error:
        raise SaveError(f"The files could not be stored: {error.strerror or error}. Send fewer files at once.") from error
    try:
        yield [(file.filename or "", file.file) for file in form.getlist("files") if isinstance(file, UploadedFile)]
    finally:
        await form.close()


def _counted(request: Request, most: int, limits: str) -> Callable[[], Coroutine[Any, Any, Any]]:
    seen = 0

    async def receive() -> Any:
        nonlocal seen
        message = await request.receive()
        seen += len(message.get("body", b""))
        if seen > most:
            raise InputError([Problem("", limits)])
        return message

    return receive
