"""Access: who may ask, and which folders a request may name."""

from __future__ import annotations

import base64
import binascii
import functools
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lib_finetune.errors import InputError, Problem
from lib_finetune.files import at_home


@dataclass(frozen=True)
class Folders:
    """Folders that a request may name.

    Attributes:
        allowed: None for any, where only the person at this machine can ask; else these and all below them.
        how: how another one is allowed, for the message.
    """

    allowed: tuple[Path, ...] | None = None
    how: str = ""

    def check(self, path: str, field_name: str) -> None:
        """
        Raises:
            InputError: the folder is not one of those that are allowed.
        """
        if self.allowed is None or not path.strip():
            return
        real = at_home(path).resolve()
        if not any(real == folder or folder in real.parents for folder in (allowed.resolve() for allowed in self.allowed)):
            raise InputError([Problem(field_name, f"{path} is outside the folders that other machines may use. {self.how}")])


@functools.cache
def page_key() -> str:
    """The key that this program's page carries; another one each time that the program starts."""
    return secrets.token_urlsafe(16)


def of_this_site(headers: Mapping[str, str]) -> bool:
    """Whether a request comes from the page itself or from a program; a page of another site in the person's browser is neither.

    Browsers of today name the relation of the two sites; older ones name the asking page alone, and a program names neither.
    Reference: W3C Fetch Metadata; RFC 6454 (Origin); RFC 9110 7.2 (Host).

    Args:
        headers: with names in small letters.
    """
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site is not None:
        return site in ("same-origin", "none")
    return origin is None or origin.lower().partition("://")[2] == headers.get("host", "").lower()


@dataclass(frozen=True)
class Guard:
    """Who may use the routes. Without accounts and login everybody may, as with the WebUI's own routes.

    Attributes:
        accounts: user → password for HTTP basic authentication.
        login: whether the page has a login of its own; then its session counts.
        signed_in: whether cookies are those of a session.
        key: opens images, curves and the files made here, and changes nothing; the page carries it, so whoever may see the page has it.
    """

    accounts: Mapping[str, str] = field(default_factory=dict)
    login: bool = False
    signed_in: Callable[[Mapping[str, str]], bool] = lambda _: False
    key: str = field(default_factory=page_key)

    def allows(self, authorization: str | None, cookies: Mapping[str, str]) -> bool:
        """Whether a request may pass."""
        if not self.accounts and not self.login:
            return True
        return self._known(authorization or "") or (self.login and self.signed_in(cookies))

    def opens(self, key: str) -> bool:
        """Whether this is the page's key."""
        return secrets.compare_digest(key.encode(), self.key.encode())

    def _known(self, authorization: str) -> bool:
        scheme, _, encoded = authorization.partition(" ")
        if scheme.lower() != "basic":
            return False
        try:
            user, _, password = base64.b64decode(encoded, validate=True).decode("utf-8").partition(":")
        except (binascii.Error, UnicodeDecodeError):
            return False
        # Compared for unknown users too, so that the time tells nothing.
        password_of_user = self.accounts.get(user)
        return secrets.compare_digest(password.encode(), (password_of_user or "").encode()) and password_of_user is not None


def accounts(pairs: Sequence[str]) -> dict[str, str]:
    """``user:password`` pairs as the WebUI's flags hold them."""
    passwords = {}
    for pair in pairs:
        user, colon, password = pair.strip().partition(":")
        if colon:
            passwords[user] = password
    return passwords
