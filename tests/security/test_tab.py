"""The tab's events inside the WebUI: gradio's route takes what any page sends, so each handler looks who asks."""

import importlib.util

import pytest

pytestmark = pytest.mark.skipif(importlib.util.find_spec("gradio") is None, reason="gradio belongs to the WebUI's library set")


@pytest.fixture
def blocks(tmp_path):
    from lib_finetune.app.services import services_of
    from lib_finetune.jobs.queue import Jobs
    from lib_finetune.ui.tab import Tab
    from tests.fakes.host import FakeHost

    services = services_of(Jobs(FakeHost(tmp_path)))
    return Tab(lambda: services, list).build()


def test_each_handler_looks_who_asks(blocks):
    handlers = [event.fn for event in blocks.fns if event.fn is not None]
    assert len(handlers) > 20 and {handler.__code__.co_name for handler in handlers} == {"checked"}


@pytest.mark.parametrize(
    ("headers", "passes"),
    [
        ({}, True),
        ({"sec-fetch-site": "same-origin"}, True),
        ({"origin": "http://testserver"}, True),
        ({"sec-fetch-site": "cross-site"}, False),
        ({"sec-fetch-site": "same-site"}, False),
        ({"origin": "http://evil.example"}, False),
        ({"origin": "null"}, False),
    ],
    ids=str,
)
def test_a_page_of_another_site_presses_no_button(blocks, headers, passes):
    import gradio as gr
    from fastapi import FastAPI
    from fastapi.testclient import TestClient

    client = TestClient(gr.mount_gradio_app(FastAPI(), blocks, path="/"))
    number = next(place for place, event in enumerate(blocks.fns) if event.fn is not None and event.fn.__name__ == "measure")
    answer = client.post("/run/predict", json={"fn_index": number, "data": [], "session_hash": "a"}, headers=headers)
    assert (answer.status_code == 200 and "storage" in answer.text) is passes, answer.text[:300]
    assert passes or "another site" in answer.text
