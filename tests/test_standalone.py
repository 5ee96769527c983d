"""The page without the WebUI: who may ask, from where, and which files are given out."""

import asyncio
import importlib.util
import json
import os
import socket
import stat
import threading
import time
import urllib.parse
from http.client import HTTPConnection
from pathlib import Path

import pytest

from lib_finetune.jobs.queue import Jobs
from tests.fakes.runs import Bench

pytestmark = pytest.mark.skipif(importlib.util.find_spec("gradio") is None, reason="gradio belongs to the WebUI's library set")

API = "/finetune/v1"


class Served:
    """The page on a real server of this machine."""

    def __init__(self, root, files=None):
        import uvicorn

        from lib_finetune import standalone
        from lib_finetune.app.services import services_of

        self.desk = services_of(Jobs(Bench(root).host()))
        self.files = files
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.own = f"127.0.0.1:{self.port}"
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("GRADIO_TEMP_DIR", str(files or root / "none"))
            self.app = standalone.application(self.desk, list, files)
        self.server = uvicorn.Server(uvicorn.Config(self.app, log_level="warning"))
        self.thread = threading.Thread(target=self.server.run, args=([self.socket],), daemon=True)
        self.thread.start()
        until = time.monotonic() + 30
        while not self.server.started and time.monotonic() < until:
            time.sleep(0.02)

    def ask(self, method="GET", path="/", host=None, body=None, **headers):
        """(status, headers, text); header names with "_" for "-", a host of "" sends none."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        if host != "":
            connection.putheader("Host", host or self.own)
        for name, value in headers.items():
            connection.putheader(name.replace("_", "-"), value)
        content = json.dumps(body).encode() if body is not None else b""
        if method != "GET":
            connection.putheader("Content-Length", str(len(content)))
            connection.putheader("Content-Type", "application/json")
        connection.endheaders(content or None)
        answer = connection.getresponse()
        found = answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read().decode("utf-8", "replace")
        connection.close()
        return found

    def status(self, *given, **headers):
        return self.ask(*given, **headers)[0]

    def cookie(self):
        return self.ask()[1]["set-cookie"].split(";")[0]

    def socket_answer(self, **headers):
        """The first line that a websocket's handshake is answered with."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as opened:
            lines = ["GET /queue/join HTTP/1.1", "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13",
                     "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", f"Host: {headers.pop('host', self.own)}"]  # fmt: skip
            lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
            opened.sendall("\r\n".join([*lines, "", ""]).encode())
            return opened.recv(4096).decode("latin-1").splitlines()[0]

    def close(self):
        self.server.should_exit = True
        self.thread.join(20)
        self.socket.close()


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    root = tmp_path_factory.mktemp("served")
    files = root / "files"
    (files / "inner").mkdir(parents=True)
    (files / "inner" / "settings.json").write_text("given out")
    (files / "link.json").symlink_to(Path.cwd() / "pyproject.toml")
    (root / "files-beside").mkdir()
    (root / "files-beside" / "x.json").write_text("secret")
    found = Served(root, files)
    yield found
    found.close()


# -- from where ------------------------------------------------------------------------------------------------------


def test_the_page_and_the_api_answer_on_the_machines_own_names(served):
    for name in ("127.0.0.1", "localhost", "LocalHost", "[::1]"):
        assert served.status("GET", "/", f"{name}:{served.port}") == 200
        assert served.status("GET", f"{API}/jobs", f"{name}:{served.port}") == 200
    assert served.status("GET", "/theme.css") == 200 and served.status("GET", "/config") == 200


@pytest.mark.parametrize("path", ["/", "/config", "/theme.css", f"{API}/jobs", "/openapi.json", "/static/img/logo.svg", "/file=x", "/no"])
@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:{port}", "127.0.0.1", "127.0.0.1:80", "127.0.0.1.evil.example:{port}", "localhost:1{port}", "localhost:{port}@evil",
             "localhost.:{port}", "", "[::1", "::1:{port}", "0.0.0.0:{port}", "127.0.0.1:{port}:{port}", "evil localhost:{port}", "127.0.0.1:x"],
)  # fmt: skip
def test_another_name_is_refused_everywhere(served, host, path):
    status, _, text = served.ask("GET", path, host.format(port=served.port))
    assert status in (400, 421)
    assert status == 400 or f"http://127.0.0.1:{served.port}" in text


def test_two_hosts_are_refused(served):
    with socket.create_connection(("127.0.0.1", served.port), timeout=10) as opened:
        opened.sendall(f"GET / HTTP/1.1\r\nHost: {served.own}\r\nHost: evil.example\r\n\r\n".encode())
        assert opened.recv(4096).split()[1] in (b"400", b"421")


FOREIGN = ["http://evil.example", "null", "http://127.0.0.1", "http://127.0.0.1:1", "https://127.0.0.1:{port}", "http://localhost:{port}", "http://evil@127.0.0.1:{port}",
           "http://127.0.0.1:{port}/", "http://127.0.0.1:{port}.evil", "file://", ""]  # fmt: skip


@pytest.mark.parametrize("origin", FOREIGN)
def test_a_page_of_another_origin_is_refused_whatever_it_asks(served, origin):
    cookie, origin = served.cookie(), origin.format(port=served.port)
    for method, path in (("GET", "/config"), ("GET", f"{API}/jobs"), ("POST", f"{API}/queue/hold"), ("DELETE", f"{API}/storage/runs"),
                         ("POST", "/run/predict"), ("POST", "/upload"), ("OPTIONS", f"{API}/jobs")):  # fmt: skip
        status, headers, _ = served.ask(method, path, body={}, Origin=origin, Cookie=cookie)
        assert status == 403, (method, path)
        assert not [name for name in headers if name.startswith("access-control")]
    assert " 403 " in served.socket_answer(Origin=origin, Cookie=cookie) + " "


@pytest.mark.parametrize("site", ["cross-site", "same-site", "strange"])
def test_what_the_browser_calls_foreign_is_refused_but_for_a_link_to_the_page(served, site):
    cookie = served.cookie()
    for method, path in (("GET", f"{API}/jobs"), ("GET", "/file=x"), ("GET", "/theme.css"), ("POST", f"{API}/queue/hold"), ("GET", "/")):
        assert served.status(method, path, Sec_Fetch_Site=site, Sec_Fetch_Mode="no-cors", Cookie=cookie) == 403
    followed = {"Sec_Fetch_Site": site, "Sec_Fetch_Mode": "navigate", "Sec_Fetch_Dest": "document"}
    assert served.status("GET", "/", **followed) == 200 and served.status("GET", "/?__theme=dark", **followed) == 200
    assert served.status("GET", f"{API}/jobs", **followed) == 403
    assert served.status("POST", "/", **followed, Cookie=cookie) == 403
    assert served.status("GET", "/", **{**followed, "Sec_Fetch_Dest": "iframe"}) == 403


def test_no_answer_can_be_read_by_other_pages_or_framed(served):
    for path in ("/", "/config", f"{API}/jobs"):
        _, headers, _ = served.ask("GET", path)
        assert not [name for name in headers if name.startswith("access-control")]
        assert headers["x-frame-options"] == "DENY" and "frame-ancestors 'none'" in headers["content-security-policy"]


# -- the cookie --------------------------------------------------------------------------------------------------------


def test_the_page_gives_a_cookie_that_scripts_and_other_sites_cannot_use(served):
    _, headers, text = served.ask()
    given = headers["set-cookie"]
    assert "SameSite=Strict" in given and "HttpOnly" in given and "Path=/" in given
    assert given.split(";")[0].split("=", 1)[1] not in text
    assert "set-cookie" not in served.ask("GET", f"{API}/jobs")[1] and "set-cookie" not in served.ask("GET", "/config")[1]
    assert "set-cookie" not in served.ask("GET", "/", "evil.example")[1]


@pytest.mark.parametrize("said", [{"Origin": "http://{own}"}, {"Sec_Fetch_Site": "same-origin"}, {"Sec_Fetch_Site": "none"}])
def test_a_browser_changes_nothing_without_the_cookie(served, said):
    said = {name: value.format(own=served.own) for name, value in said.items()}
    cookie = served.cookie()
    name, value = cookie.split("=", 1)
    for wrong in ({}, {"Cookie": f"{name}=x"}, {"Cookie": f"{name}="}, {"Cookie": f"x{name}={value}"}, {"Cookie": f"{name}={value}x"}):
        status, _, text = served.ask("POST", f"{API}/queue/go", **said, **wrong)
        assert status == 403 and "Reload" in text
        assert served.status("DELETE", f"{API}/storage/sheets", **said, **wrong) == 403
        assert served.status("GET", f"{API}/jobs", **said, **wrong) == 200
    assert served.status("POST", f"{API}/queue/go", **said, Cookie=f"a=b; {cookie}; c=d") == 200
    assert served.status("DELETE", f"{API}/storage/sheets", **said, Cookie=cookie) == 200


def test_a_page_presses_its_buttons_with_the_cookie(served):
    page = {"Origin": f"http://{served.own}", "Sec_Fetch_Site": "same-origin"}
    events = json.loads(served.ask("GET", "/config")[2])["dependencies"]
    asks_nothing = next(
        place for place, event in enumerate(events) if event["backend_fn"] and not event["inputs"] and len(event["outputs"]) == 1
    )
    body = {"fn_index": asks_nothing, "data": [], "session_hash": "x"}
    assert served.status("POST", "/run/predict", body=body, **page) == 403
    assert served.status("POST", "/run/predict", body=body, **page, Cookie=served.cookie()) == 200


def test_what_is_no_browser_passes(served):
    assert served.status("POST", f"{API}/queue/go") == 200
    assert served.status("POST", f"{API}/queue/go", "evil.example") == 421


def test_a_socket_is_refused_to_others(served):
    origin = f"http://{served.own}"
    assert " 403 " in served.socket_answer(Origin=origin) + " "
    assert " 403 " in served.socket_answer(host="evil.example", Origin="http://evil.example") + " "


@pytest.mark.parametrize(("cookie", "passes"), [("{key}", True), ("x", False), ("", False)])
def test_a_socket_wants_the_cookie_too(cookie, passes):
    from lib_finetune.loopback import Loopback

    reached, told = [], []

    async def inner(scope, receive, send):
        reached.append(scope)

    async def send(message):
        told.append(message)

    guard = Loopback(inner)
    value = cookie.format(key=guard._key)
    headers = [(b"host", b"localhost:5"), (b"origin", b"http://localhost:5"), (b"cookie", b'odd={"a"; finetune-5=' + value.encode())]
    asyncio.run(guard({"type": "websocket", "path": "/queue/join", "server": ("127.0.0.1", 5), "headers": headers}, None, send))
    assert (bool(reached), told) == (passes, [] if passes else [{"type": "websocket.close", "code": 1008}])


# -- files -------------------------------------------------------------------------------------------------------------


def test_only_what_the_page_itself_gives_out_can_be_fetched(served, tmp_path):
    given = served.files
    assert served.ask("GET", f"/file={given}/inner/settings.json")[2] == "given out"
    (tmp_path / "x.json").write_text("secret")
    asked = [Path.cwd() / "pyproject.toml", "pyproject.toml", "./pyproject.toml", "lib_finetune/../pyproject.toml", tmp_path / "x.json", "/etc/passwd",
             f"{given}/../files-beside/x.json", f"{given}-beside/x.json", f"{given}/link.json", f"{given}/inner/../../files-beside/x.json",
             "http://evil.example", ""]  # fmt: skip
    for path in map(str, asked):
        quoted = urllib.parse.quote(path, safe="")
        for form in (f"/file={path}", f"/file={quoted}", f"/file%3D{quoted}", f"/%66ile={quoted}", f"/file/{path}", f"//file={path}", f"/FILE={path}",
                     f"/./file={path}", f"/x/../file={path}", f"/file=/{path}", f"/file={urllib.parse.quote(quoted)}"):  # fmt: skip
            status, headers, text = served.ask("GET", form)
            assert status in (403, 404) and "secret" not in text and "[project]" not in text and "location" not in headers, form


def test_gradios_own_ways_in_are_closed(served):
    cookie = {"Cookie": served.cookie(), "Origin": f"http://{served.own}"}
    for path in ("/upload", "/upload/", "/%75pload"):
        assert served.status("POST", path, **cookie) == 403 and served.status("POST", path) == 403
    for path in ("/proxy=http://127.0.0.1:1/x", "/proxy%3Dhttp://evil.example", "/stream/a/1/2"):
        assert served.status("GET", path) == 403


def test_without_a_folder_no_file_is_given_out(tmp_path):
    served = Served(tmp_path)
    try:
        assert served.status("GET", "/file=pyproject.toml") == 403 and served.status("GET", "/") == 200
    finally:
        served.close()


def test_the_page_has_a_temporary_folder_of_its_own_while_it_is_served(tmp_path, monkeypatch):
    import uvicorn

    from lib_finetune import standalone
    from lib_finetune.app.services import services_of

    monkeypatch.setenv("GRADIO_TEMP_DIR", "/somebody/elses")
    seen = []

    def run(app, **how):
        folder = Path(os.environ["GRADIO_TEMP_DIR"])
        seen.append((folder, stat.S_IMODE(folder.stat().st_mode), how))
        (folder / "x").write_text("rest")
        raise KeyboardInterrupt

    monkeypatch.setattr(uvicorn, "run", run)
    with pytest.raises(KeyboardInterrupt):
        standalone.serve(services_of(Jobs(Bench(tmp_path).host())), list, 0, print)
    ((folder, mode, how),) = seen
    assert mode == 0o700 and not folder.exists() and os.environ["GRADIO_TEMP_DIR"] == "/somebody/elses"
    assert how["host"] == "127.0.0.1"


@pytest.mark.parametrize(
    ("port", "host", "status"), [(80, "127.0.0.1", 200), (80, "localhost:80", 200), (80, "evil.example", 421), (81, "127.0.0.1", 421)]
)
def test_the_port_that_browsers_leave_out_may_be_left_out(port, host, status):
    from lib_finetune.loopback import Loopback

    sent = []

    async def inner(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": "/", "server": ("127.0.0.1", port), "headers": [(b"host", host.encode())]}
    asyncio.run(Loopback(inner)(scope, None, send))
    assert sent[0]["status"] == status
