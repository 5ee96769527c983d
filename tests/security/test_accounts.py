"""Behind the WebUI's login and ``--api-auth`` nothing of ours answers a stranger: a real server on loopback, asked in every way that we know.

The server is gradio's own, with its login; the flags are those of a stub of the WebUI. What reaches our services is counted there, so that
an answer that looks like a refusal and did something all the same is seen.
"""

import base64
import http.client
import importlib.util
import json
import re
import urllib.parse
from collections import Counter
from types import SimpleNamespace

import pytest

if importlib.util.find_spec("gradio") is None:
    pytest.skip("gradio belongs to the WebUI's library set", allow_module_level=True)

USER, PASSWORD = "anna", "the secret"


class WebuiUnderLogin:
    """Gradio's server with our tab and routes, as the WebUI launches it.

    Attributes:
        asked: how often a request came through to our services.
        routes: (method, path) of each of our routes.
        handlers: numbers of our gradio handlers.
    """

    def __init__(self, monkeypatch, root, *, gradio_auth="", api_auth=""):
        from lib_finetune.api.application import PREFIX, mount
        from lib_finetune.app.services import services_of
        from lib_finetune.host.webui import access
        from lib_finetune.jobs.queue import Jobs
        from lib_finetune.ui.tab import Tab
        from tests.fakes.host import FakeHost

        self.asked = Counter()
        services = services_of(Jobs(FakeHost(root)))

        def counted():
            self.asked["services"] += 1
            return services

        login = [tuple(gradio_auth.split(":"))] if gradio_auth else []
        stubs = {
            "shared_cmd_options": SimpleNamespace(cmd_opts=SimpleNamespace(api_auth=api_auth, gradio_auth=gradio_auth)),
            "initialize_util": SimpleNamespace(get_gradio_auth_creds=lambda: iter(login)),
        }
        monkeypatch.setattr(access, "webui", stubs.__getitem__)
        monkeypatch.setenv("GRADIO_ANALYTICS_ENABLED", "False")
        self.blocks = Tab(counted, list, in_webui=True).build()
        # The handlers of the queue too: ours do not use it, and a stranger may try.
        app, self.address, _ = self.blocks.queue().launch(
            auth=login or None, prevent_thread_lock=True, server_name="127.0.0.1", quiet=True, show_api=False, share=False
        )
        mount(app, counted, access.guard(app))
        self.routes = [
            (method, route.path) for route in app.routes if getattr(route, "path", "").startswith(PREFIX) for method in route.methods
        ]
        self.handlers = [number for number, event in enumerate(self.blocks.fns) if event.fn is not None]
        self.asked.clear()
        self._connection = http.client.HTTPConnection(urllib.parse.urlsplit(self.address).netloc, timeout=60)

    def ask(self, method, path, headers=None, body=None):
        """(status, text): the plain standard library, which sends whatever header it is handed."""
        data = None if body is None else json.dumps(body)
        kind = {} if body is None else {"content-type": "application/json"}
        self._connection.request(method, path, body=data, headers={**kind, **(headers or {})})
        answer = self._connection.getresponse()
        return answer.status, answer.read().decode("utf-8", "replace")

    def close(self):
        self._connection.close()
        self.blocks.close(verbose=False)

    def sign_in(self):
        form = urllib.parse.urlencode({"username": USER, "password": PASSWORD})
        self._connection.request("POST", "/login", body=form, headers={"content-type": "application/x-www-form-urlencoded"})
        answer = self._connection.getresponse()
        answer.read()
        cookies = [value.partition(";")[0] for name, value in answer.getheaders() if name == "set-cookie"]
        return {"cookie": next(cookie for cookie in cookies if cookie.startswith("access-token-unsecure"))}


@pytest.fixture
def behind_login(monkeypatch, tmp_path):
    server = WebuiUnderLogin(monkeypatch, tmp_path, gradio_auth=f"{USER}:{PASSWORD}", api_auth="bot:key")
    yield server
    server.close()


@pytest.fixture
def behind_api_auth(monkeypatch, tmp_path):
    server = WebuiUnderLogin(monkeypatch, tmp_path, api_auth=f"{USER}:{PASSWORD}")
    yield server
    server.close()


def _basic(text):
    return "Basic " + base64.b64encode(text if isinstance(text, bytes) else text.encode()).decode()


HEADERS = [
    {},
    *(
        {"authorization": value}
        for value in (
            "Basic", "Basic ", "Basic !", "Basic =", "basic " + "A" * 5000, "Bearer x", "Bearer undefined", f"Bearer {PASSWORD}", "Digest x", "null",
            f"{USER}:{PASSWORD}", _basic(""), _basic(":"), _basic(f"{USER}:"), _basic(USER), _basic(f":{PASSWORD}"), _basic(f"{USER}:wrong"),
            _basic(f"{USER}:{PASSWORD} "), _basic(f" {USER}:{PASSWORD}"), _basic(f"{USER.upper()}:{PASSWORD}"), _basic(f"{USER}:{PASSWORD}\0"),
            _basic(f"{USER}:{PASSWORD[:-1]}"), _basic("nobody:"), _basic("nobody:None"), _basic(b"\xff\xfe:\xff"), _basic(f"{USER}\0:{PASSWORD}"),
            _basic(f"{PASSWORD}:{USER}"), "Negotiate x", _basic("admin:admin"), _basic("root:"),
        )
    ),
    *({"cookie": f"{name}={value}"} for name in ("access-token", "access-token-unsecure") for value in ("", "x", "None", "null", USER, "0")),
    {"cookie": "access-token=x; access-token-unsecure=y"},
    {"x-forwarded-for": "127.0.0.1"},
    {"x-forwarded-user": USER},
    {"x-original-url": "/finetune/v1/schema"},
    {"x-http-method-override": "GET"},
    {"sec-fetch-site": "same-origin"},
    {"x-finetune-key": "x"},
    {"host": "localhost"},
]  # fmt: skip
"""What a stranger may send along."""
QUERIES = [{}, {"key": ""}, {"key": "x"}, {"key": "None"}, {"__sign": "x"}, {"token": "x"}]
NAMES = ["x", "..", "%2e%2e%2fx", "%00"]
"""What stands for the parameters of a path."""
_PARAMETER = re.compile(r"\{[^}]*\}")


def _tries(routes):
    for method, path in routes:
        for headers in HEADERS:
            yield method, _PARAMETER.sub("x", path), headers, {}
        for query in QUERIES[1:]:
            yield method, _PARAMETER.sub("x", path), {}, query
        if "{" in path:
            yield from ((method, _PARAMETER.sub(name, path), {}, {}) for name in NAMES[1:])
    # Other forms of a path, and methods that a route does not have.
    for path in sorted({_PARAMETER.sub("x", path) for _, path in routes}):
        forms = (
            path + "/",
            path.replace("/finetune", "//finetune"),
            path.replace("/v1", "/./v1"),
            path.upper(),
            path.replace("/v1", "/%76%31"),
            path + "%20",
        )
        yield from ((method, form, {}, {}) for method in ("GET", "POST") for form in forms)
        yield from ((method, path, {}, {}) for method in ("HEAD", "OPTIONS", "PUT", "PATCH", "DELETE", "TRACE", "PROPFIND"))


def _refused(server):
    """Try everything on all routes: (number of tries, what was answered how often)."""
    exact, answers, tries = set(server.routes), Counter(), 0
    for method, path, headers, query in _tries(server.routes):
        where = f"{path}?{urllib.parse.urlencode(query)}" if query else path
        status, text = server.ask(method, where, headers, {} if method in ("POST", "PUT", "PATCH", "DELETE") else None)
        tries += 1
        answers[status] += 1
        assert status in (401, 404, 405, 307), (method, where, headers, status, text[:200])
        if (method, path) in exact:
            assert status == 401, (method, where, headers, status, text[:200])
    assert server.asked == {}
    return tries, dict(answers)


@pytest.mark.timeout(300)
def test_no_route_answers_a_stranger_behind_the_login(behind_login):
    tries, answers = _refused(behind_login)
    print(f"{tries} tries on {len(behind_login.routes)} routes behind --gradio-auth and --api-auth, none through: {answers}")
    assert len(behind_login.routes) > 40 and tries > 2500


@pytest.mark.timeout(300)
def test_no_route_answers_a_stranger_behind_the_accounts_of_the_api(behind_api_auth):
    tries, answers = _refused(behind_api_auth)
    print(f"{tries} tries on {len(behind_api_auth.routes)} routes behind --api-auth, none through: {answers}")
    assert tries > 2500


def test_who_has_an_account_passes(behind_login, behind_api_auth):
    for server, account in ((behind_login, f"{USER}:{PASSWORD}"), (behind_login, "bot:key"), (behind_api_auth, f"{USER}:{PASSWORD}")):
        assert server.ask("GET", "/finetune/v1/jobs", {"authorization": _basic(account)})[0] == 200
    assert behind_login.ask("GET", "/finetune/v1/jobs", behind_login.sign_in())[0] == 200
    assert behind_login.asked["services"] >= 3


def _predicts(numbers):
    for number in numbers:
        yield from ((path, number, {}) for path in ("/run/predict", "/run/predict/", "/api/predict", "/api/predict/"))
        yield from (("/run/predict", number, headers) for headers in HEADERS[::5])


@pytest.mark.timeout(300)
def test_no_button_of_the_tab_is_pressed_by_a_stranger(behind_login):
    tries = 0
    for path, number, headers in _predicts(behind_login.handlers):
        status, text = behind_login.ask("POST", path, headers, {"fn_index": number, "data": [], "session_hash": "a"})
        tries += 1
        assert status == 401, (path, number, headers, status, text[:200])
    print(f"{tries} tries on {len(behind_login.handlers)} handlers of the tab behind --gradio-auth, none through")
    assert behind_login.asked == {} and len(behind_login.handlers) > 25
    for path in ("/config", "/info", "/queue/status", "/file=style.css", "/file/style.css"):  # what tells of the tab
        assert behind_login.ask("GET", path)[0] == 401, path
    measure = next(number for number in behind_login.handlers if behind_login.blocks.fns[number].fn.__name__ == "measure")
    press = {"fn_index": measure, "data": [], "session_hash": "a"}
    assert behind_login.ask("POST", "/run/predict", behind_login.sign_in(), press)[0] == 200 and behind_login.asked["services"]


def _queue_says(address, number, cookie):
    """What gradio's queue answers who joins it: the messages, or the reason for which it closed."""
    from websockets.exceptions import ConnectionClosed, InvalidStatus
    from websockets.sync.client import connect

    headers = {"Cookie": f"access-token={cookie}"} if cookie is not None else {}
    messages = []
    try:
        with connect(f"{address.replace('http', 'ws')}queue/join", additional_headers=headers, open_timeout=20) as socket:
            while True:
                message = json.loads(socket.recv(timeout=20))
                messages.append(message)
                if message["msg"] == "send_hash":
                    socket.send(json.dumps({"session_hash": "a", "fn_index": number}))
                elif message["msg"] == "send_data":
                    socket.send(json.dumps({"session_hash": "a", "fn_index": number, "data": []}))
                elif message["msg"] == "process_completed":
                    return messages
    except (ConnectionClosed, InvalidStatus) as error:
        return [*messages, {"msg": "closed", "reason": str(error)}]


@pytest.mark.timeout(300)
def test_gradios_queue_presses_no_button_for_a_stranger(behind_login):
    """It lets any cookie join, and then asks the route with it, which refuses."""
    tries = 0
    for number in behind_login.handlers[::4]:
        for cookie in (None, "", "x", "None"):
            last = _queue_says(behind_login.address, number, cookie)[-1]
            tries += 1
            assert last["msg"] == "closed" or last["success"] is False, (number, cookie, last)
    print(f"{tries} tries on gradio's queue behind --gradio-auth, none through")
    assert behind_login.asked == {} and tries > 20
