"""Who may ask a page that is served on this machine alone: nobody from outside, and no page of another site in this machine's browser.

The network card keeps other machines out; the browser does not keep other pages out. Reference: RFC 9110 7.2 (Host), RFC 6454 (Origin),
W3C Fetch Metadata. Without a login: who works on this machine, in a browser at the page itself or with a program, may ask.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]

_NAMES = ("127.0.0.1", "localhost", "[::1]")
_READING = ("GET", "HEAD", "OPTIONS")
_CLOSED = ("upload", "proxy", "stream")
"""Ways of gradio's that no part of our page takes."""
_HEADERS = (
    (b"x-frame-options", b"DENY"),  # another site could lay it under something else to be clicked at
    (b"content-security-policy", b"frame-ancestors 'none'"),
    (b"x-content-type-options", b"nosniff"),
    (b"cross-origin-resource-policy", b"same-origin"),
)


class Loopback:
    """An ASGI application around another one; see this file's first lines."""

    def __init__(self, inner: Application, files: Path | None = None) -> None:
        """
        Args:
            files: what ``/file=`` may give out; None for nothing.
        """
        self._inner = inner
        self._files = files.resolve() if files else None
        self._key = secrets.token_urlsafe(24)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] not in ("http", "websocket"):
            await self._inner(scope, receive, send)
            return
        refusal = self._refusal(scope)
        if refusal:
            await _refuse(scope, send, *refusal)
            return
        page = scope["type"] == "http" and scope["method"] in ("GET", "HEAD") and scope["path"] == "/"
        cookie = f"{_cookie_name(scope)}={self._key}; Path=/; HttpOnly; SameSite=Strict" if page else ""
        await self._inner(scope, receive, _with_headers(send, cookie) if scope["type"] == "http" else send)

    def _refusal(self, scope: Message) -> tuple[int, str] | None:
        """(status, sentence), or None for a request that may pass."""
        address = f"http://{_NAMES[0]}:{_port(scope)}"
        host, origin, site = (_only(scope, name) for name in ("host", "origin", "sec-fetch-site"))
        hosts = {f"{name}:{_port(scope)}" for name in _NAMES} | (set(_NAMES) if _port(scope) == 80 else set())  # browsers leave out 80
        if host is None or host.lower() not in hosts:
            return 421, f"This page is for its own machine alone. Open it there, as {address}."
        foreign = (origin is not None and origin.lower() != f"http://{host.lower()}") or site not in (None, "same-origin", "none")
        if foreign and not _follows_a_link(scope, origin):
            return 403, "Asked by a page of another site."
        changing = scope["type"] == "websocket" or scope["method"] not in _READING
        if changing and (origin is not None or site is not None) and not self._knows(scope):
            return 403, "This page is of an earlier start, or was not opened here. Reload the page."
        if not self._gives_out(scope["path"]):
            return 403, "This is not given out."
        return None

    def _knows(self, scope: Message) -> bool:
        """Whether the request carries the page's cookie."""
        # Not the library's reader: it gives up at the first odd cookie, and those of this machine's other servers come along.
        pairs = (part.strip().partition("=") for part in (_only(scope, "cookie") or "").split(";"))
        return any(name == _cookie_name(scope) and secrets.compare_digest(value.encode(), self._key.encode()) for name, _, value in pairs)

    def _gives_out(self, path: str) -> bool:
        """Gradio gives out all that lies below the folder in which it was started; here only what it has put aside for the page."""
        first = path.lstrip("/").lower()
        if not first.startswith("file"):
            return not first.startswith(_CLOSED)
        if self._files is None or not path.startswith("/file="):
            return False
        try:
            return self._files in Path(path.removeprefix("/file=")).resolve().parents
        except (OSError, ValueError, RuntimeError):
            return False


def _port(scope: Message) -> int:
    """That the socket has, whatever the request says."""
    return int((scope.get("server") or ("", 0))[1] or 0)


def _cookie_name(scope: Message) -> str:
    """Cookies are for all ports of a machine."""
    return f"finetune-{_port(scope)}"


def _only(scope: Message, name: str) -> str | None:
    """A header's value, None where it is missing; of several none can be trusted, and they are no value that passes."""
    values = [value.decode("latin-1") for key, value in scope["headers"] if key == name.encode()]
    return (values[0] if len(values) == 1 else "\n".join(values)) if values else None


def _follows_a_link(scope: Message, origin: str | None) -> bool:
    """Whether a person has come to the page from elsewhere; that shows it to them, and to nobody else."""
    if scope["type"] != "http" or scope["method"] not in ("GET", "HEAD") or scope["path"] != "/" or origin is not None:
        return False
    return _only(scope, "sec-fetch-mode") == "navigate" and _only(scope, "sec-fetch-dest") == "document"


async def _refuse(scope: Message, send: Send, status: int, sentence: str) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008})  # before it is accepted: the server answers 403
        return
    body = json.dumps({"detail": [{"field": "", "message": sentence}]}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()), *_HEADERS]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})


def _with_headers(send: Send, cookie: str) -> Send:
    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            added = [*_HEADERS, *([(b"set-cookie", cookie.encode())] if cookie else [])]
            message = {**message, "headers": [*message.get("headers", ()), *added]}
        await send(message)

    return send_with_headers
