"""The routes of a WebUI that is open to others: accounts, login, folders, and what ``/file=`` gives out.

    python -m bench.webui.guarded --webui DIR --python PYTHON --checkpoint FILE [--port P]

Starts it with --api-auth, --gradio-auth and --listen, then with --nowebui. One line a check; exit code 1 when one fails.
"""

from __future__ import annotations

import argparse
import base64
import json
import sys
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from http.cookiejar import CookieJar
from pathlib import Path
from typing import Any

from bench.webui.files import draw
from bench.webui.webui import WebUI

_FLAGS = ["--api-auth", "anna:secret", "--gradio-auth", "bert:word", "--listen"]
_API = "/finetune/v1"


class Client:
    """Asks with an account, a login, or nothing; keeps cookies."""

    def __init__(self, port: int, account: str = "") -> None:
        self._address = f"http://127.0.0.1:{port}"
        self._account = account
        self._http = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPCookieProcessor(CookieJar()))

    def ask(self, path: str, body: Any = None, *, form: bool = False) -> tuple[int, str]:
        """Status and text of the answer."""
        data = None if body is None else urllib.parse.urlencode(body).encode() if form else json.dumps(body).encode()
        request = urllib.request.Request(self._address + path, data)
        if data is not None and not form:
            request.add_header("Content-Type", "application/json")
        if self._account:
            request.add_header("Authorization", "Basic " + base64.b64encode(self._account.encode()).decode())
        try:
            with self._http.open(request, timeout=120) as answer:
                return answer.status, answer.read().decode("utf-8", "replace")
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode("utf-8", "replace")


def check(webui: WebUI, pictures: Path, page: bool) -> list[tuple[bool, str]]:
    """(whether it holds, what was seen) of everything."""
    nobody, anna, stranger, bert = (Client(webui.port, account) for account in ("", "anna:secret", "anna:wrong", ""))
    wanted = (("nobody", nobody, 401), ("anna", anna, 200), ("a wrong password", stranger, 401))
    found = [(client.ask(f"{_API}/jobs")[0] == code, f"{who}: {code}") for who, client, code in wanted]
    if page:
        code = bert.ask("/login", {"username": "bert", "password": "word"}, form=True)[0]
        found.append((code == 200 and bert.ask(f"{_API}/jobs")[0] == 200, "bert after signing in to the page: 200"))
    outside = anna.ask(f"{_API}/check", {"name": "x", "data": {"images": str(pictures), "trigger": "zxq"}})
    found.append((outside[0] == 422 and "gradio-allowed-path" in outside[1], f"a folder elsewhere: {outside[1][:140]}"))
    inside = webui.data / ".finetune" / "datasets" / "mine"
    inside.mkdir(parents=True, exist_ok=True)
    for path in pictures.iterdir():
        (inside / path.name).write_bytes(path.read_bytes())
    answer = anna.ask(f"{_API}/check", {"name": "x", "data": {"images": str(inside), "trigger": "zxq"}})
    found.append((answer == (200, '{"ok":true}'), f"a folder of dropped images: {answer[1][:140]}"))
    hidden = next(inside.glob("*.png"))
    if page:
        code = bert.ask(f"/file={hidden}")[0]
        found.append((code in (403, 404), f"/file= of a dropped image: {code}"))
    found.append((_API + "/jobs" in anna.ask("/openapi.json")[1], "the routes are in /openapi.json"))
    return found


def main() -> int:
    """Both starts."""
    parser = argparse.ArgumentParser(prog="bench.webui.guarded", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("webui", "python", "checkpoint"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--port", type=int, default=7895)
    given = parser.parse_args()
    failed = 0
    for more in ([], ["--nowebui"]):
        data = Path(tempfile.mkdtemp(prefix="finetune-guarded-"))
        webui = WebUI(given.webui.absolute(), given.python.absolute(), data, given.port, [*_FLAGS, *more])
        webui.prepare([given.checkpoint])
        try:
            webui.start()
            for holds, said in check(webui, draw(Path(tempfile.mkdtemp(prefix="finetune-elsewhere-"))), not more):
                failed += not holds
                print(f"{'ok' if holds else 'FAIL':5} {' '.join(more) or 'with the page':14} {said}", flush=True)
        finally:
            webui.kill()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
