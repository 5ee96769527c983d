"""What an attacker's page may ask of the API: nothing; what a broken program sends: an answer that names the field."""

import importlib.util
import json

import pytest

from lib_finetune.access import of_this_site

pytestmark = pytest.mark.skipif(importlib.util.find_spec("fastapi") is None, reason="fastapi belongs to the WebUI's library set")

HOST = {"host": "testserver"}
OURS = [
    {},
    {"sec-fetch-site": "same-origin"},
    {"sec-fetch-site": "none"},
    {"origin": "http://testserver"},
    {"origin": "HTTPS://TestServer"},
    {"sec-fetch-site": "same-origin", "origin": "https://behind-a-proxy.example"},
]
THEIRS = [
    {"sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "same-site"},
    {"sec-fetch-site": ""},
    {"sec-fetch-site": "same-origin, cross-site"},
    {"origin": "null"},
    {"origin": ""},
    {"origin": "http://testserver.evil.example"},
    {"origin": "http://testserver:81"},
    {"origin": "http://evil.example"},
    {"sec-fetch-site": "cross-site", "origin": "http://testserver"},
]


@pytest.fixture
def served(tmp_path):
    from tests.api.test_routes import Served

    return Served(tmp_path)


@pytest.mark.parametrize("headers", OURS, ids=str)
def test_the_page_itself_and_programs_pass(headers):
    assert of_this_site({**HOST, **headers})


@pytest.mark.parametrize("headers", THEIRS, ids=str)
def test_a_page_of_another_site_does_not(headers):
    assert not of_this_site({**HOST, **headers})


@pytest.mark.parametrize("headers", THEIRS, ids=str)
def test_no_route_answers_a_page_of_another_site(served, headers):
    routes = [
        (method, route.path) for route in served.client.app.routes if route.path.startswith(served.prefix) for method in route.methods
    ]
    changing = [(method, path) for method, path in routes if method not in ("GET", "HEAD")]
    assert len(changing) > 15
    for method, path in changing:
        answer = served.client.request(method, path.replace("{", "").replace("}", ""), json={}, headers=headers)
        assert answer.status_code == 403, (method, path, answer.text)


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "application/octet-stream", "", None])
def test_a_body_that_browsers_send_anywhere_without_asking_is_refused(served, kind):
    headers = {} if kind is None else {"content-type": kind}
    for path in ("/check", "/jobs", "/pictures", "/settings/file"):
        answer = served.ask("POST", path, content=json.dumps(served.values()).encode(), headers=headers)
        assert answer.status_code == 422 and "Send JSON" in answer.text, (path, answer.text)


def test_what_has_no_body_needs_no_content_type(served):
    assert served.ask("DELETE", "/jobs/none").status_code == 422  # there is no such job


ODD_TEXTS = ["a\x00b", "a\x07b", "a\ud800b", "\udfff"]
ODD_NAMES = [
    *ODD_TEXTS, "x" * 300, "字" * 100, "é" * 95, "a\u202eb", "a\u200fb", "a\u2066b", "\ufeffa", ".a", ".", "..", "CON", "con.txt", "COM1", "com¹.x", "LPT³",
    "x:y", "a/b", "a\\b", "", "   ", "a.", "a ", "a\tb", "a\nb", "a\x85b", "a\u200bb",
]  # fmt: skip


@pytest.mark.parametrize("name", ODD_NAMES, ids=ascii)
def test_names_that_can_be_no_files_name_are_refused(served, name):
    answer = _check(served, "name", name)
    assert answer.status_code == 422 and answer.json()["detail"][0]["field"] == "name", answer.text


@pytest.mark.parametrize("name", ["my-cat", "anna_v2", "猫", "a.b", "字" * 50, "e\u0301", "-rf", "~"], ids=ascii)
def test_names_that_people_give_pass(served, name):
    assert _check(served, "name", name).status_code == 200


TEXTS = (
    "name", "method", "data.images", "data.trigger", "data.class_word", "data.template", "data.class_images", "embedding.template",
    "embedding.init", "network.start", "network.kind", "preview.prompts", "optimizer.name", "data.crop", "saving.states",
)  # fmt: skip


@pytest.mark.parametrize("text", ODD_TEXTS, ids=ascii)
@pytest.mark.parametrize("path", TEXTS)
def test_a_text_that_no_text_is_is_named_with_its_field(served, path, text):
    answer = _check(served, path, text)
    assert answer.status_code == 422 and path in [problem["field"] for problem in answer.json()["detail"]], answer.text


@pytest.mark.parametrize("path", TEXTS[1:])
@pytest.mark.parametrize("value", [5, None, True, [1], {"a": 1}, float("nan")], ids=str)
def test_a_value_of_another_type_is_named_with_its_field(served, path, value):
    answer = _check(served, path, value)
    assert answer.status_code == 422 and path in [problem["field"].removesuffix(".a") for problem in answer.json()["detail"]], answer.text


@pytest.mark.parametrize("path", ["method", "network.kind", "optimizer.name", "data.crop", "saving.states", "optimizer.schedule"])
def test_a_choice_that_there_is_not_is_named_with_its_field(served, path):
    answer = _check(served, path, "none-such")
    assert answer.status_code == 422 and path in [problem["field"] for problem in answer.json()["detail"]], answer.text


NUMBERS = ("-5", "-1e300", "NaN", "Infinity", "-Infinity", "1e400", "9" * 400, "9" * 5000, "0.5", "true", '"' + "9" * 5000 + '"')


@pytest.mark.parametrize("number", NUMBERS, ids=lambda text: text[:12])
def test_a_number_that_cannot_be_is_named_with_its_field(served, number):
    answer = _check_text(served, json.dumps(served.values(training__steps="77")).replace("77", number, 1))
    assert answer.status_code == 422 and len(answer.text) < 600, answer.text[:300]


BODIES = {
    "nothing": b"", "half": b"{", "list": b"[]", "null": b"null", "deep list": b"[" * 100_000 + b"]" * 100_000,
    "deep table": b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "open": b"[" * 100_000, "no utf-8": b'{"name": "\xff"}', "nul": b"\x00" * 100,
}  # fmt: skip


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_a_body_that_holds_no_settings_is_wrong_input(served, body):
    answer = _check_text(served, body)
    assert answer.status_code == 422 and answer.json()["detail"][0]["message"], answer.text[:300]


def _check(served, path, value):
    values = json.loads(json.dumps(served.values()))
    *sections, leaf = path.split(".")
    table = values
    for section in sections:
        table = table[section]
    table[leaf] = value
    return _check_text(served, json.dumps(values))


def _check_text(served, body):
    return served.ask("POST", "/check", content=body, headers={"content-type": "application/json"})
