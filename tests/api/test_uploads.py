"""What comes in over the page: by routes of ours, with limits; no request names a file of this machine."""

import importlib.util
import io
import json
import struct

import pytest
from PIL import Image

from lib_finetune.access import Folders, Guard, accounts, page_key
from lib_finetune.app import datasets, settings_files
from lib_finetune.config import codec
from tests.api.test_routes import Served
from tests.fakes.runs import Bench

pytestmark = pytest.mark.skipif(importlib.util.find_spec("gradio") is None, reason="gradio belongs to the WebUI's library set")


def picture(colour="red"):
    content = io.BytesIO()
    Image.new("RGB", (16, 16), colour).save(content, "PNG")
    return content.getvalue()


@pytest.fixture
def served(tmp_path):
    return Served(tmp_path)


def sent(served, *files, **query):
    return served.ask("POST", "/pictures", files=[("files", file) for file in files], params=query)


def said(answer):
    assert answer.status_code == 422, answer.text
    return " ".join(problem["message"] for problem in answer.json()["detail"])


# -- images ----------------------------------------------------------------------------------------------------------


def test_pictures_come_in_parts_into_one_folder(served):
    first = sent(served, ("a.png", picture()), ("a.txt", b"red"))
    assert first.status_code == 201
    folder = first.json()["folder"]
    assert sent(served, ("a.png", picture("blue")), into=folder).json()["folder"] == folder
    names = sorted(path.name for path in (served.services.host.paths.data / "datasets").rglob("*.*"))
    assert names == ["a-2.png", "a.png", "a.txt"]
    assert sent(served, ("a.png", picture()), into=str(served.bench.images)).json()["folder"] != str(served.bench.images)
    assert sent(served, ("a.png", picture()), into="../..").json()["folder"].startswith(str(served.services.host.paths.data / "datasets"))


def test_two_drops_in_the_same_second_are_two_folders(served, monkeypatch):
    monkeypatch.setattr(datasets.time, "strftime", lambda *_: "20300101-000000")
    folders = {sent(served, ("a.png", picture(colour))).json()["folder"] for colour in ("red", "blue", "green")}
    assert len(folders) == 3


@pytest.mark.parametrize("into", ["", "given"])
def test_the_limits_are_told_before_anything_is_kept(served, monkeypatch, into):
    kept = served.services.host.paths.data / "datasets"
    query = {"folder": into}
    monkeypatch.setattr(datasets, "FILE_BYTES", 1000)
    answer = said(sent(served, ("a.png", picture()), ("big.png", bytes(1001)), **query))
    assert "big.png" in answer and "64 MB" in answer and "2,000 files" in answer and "2 GB" in answer
    monkeypatch.setattr(datasets, "DROP_BYTES", 1500)
    assert "2 GB" in said(sent(served, ("a.png", bytes(800)), ("b.png", bytes(800)), **query))
    monkeypatch.setattr(datasets, "FILES", 3)
    assert "2,000 files" in said(sent(served, *[(f"{number}.png", b"x") for number in range(4)], **query))
    assert "2,000 files" in said(sent(served, *[(f"{number}.png", b"x") for number in range(30)], **query))
    assert not list(kept.rglob("*.png"))
    assert sent(served, *[(f"{number}.png", b"x") for number in range(3)], **query).status_code == 201


def test_the_limits_hold_for_a_folder_that_is_filled_in_parts(served, monkeypatch):
    monkeypatch.setattr(datasets, "FILES", 3)
    folder = sent(served, ("a.png", b"1"), ("b.png", b"2")).json()["folder"]
    assert "2,000 files" in said(sent(served, ("c.png", b"3"), ("d.png", b"4"), into=folder))
    assert sent(served, ("c.png", b"3"), into=folder).status_code == 201
    monkeypatch.setattr(datasets, "FILES", 30)
    monkeypatch.setattr(datasets, "DROP_BYTES", 5)
    assert "2 GB" in said(sent(served, ("d.png", b"123"), into=folder))


def test_too_much_is_refused_before_it_has_come(served):
    answer = served.ask(
        "POST", "/pictures", content=b"x", headers={"content-length": str(10**12), "content-type": "multipart/form-data; boundary=b"}
    )
    assert "2 GB" in said(answer)


def test_too_much_without_a_length_is_refused_while_it_comes(served, monkeypatch):
    from lib_finetune.api import uploads

    monkeypatch.setattr(datasets, "DROP_BYTES", 10_000)
    monkeypatch.setattr(uploads, "_FORM_BYTES", 0)
    read = []

    def parts():
        yield b'--b\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
        for number in range(1000):
            read.append(number)
            yield bytes(1000)

    assert "2 GB" in said(served.ask("POST", "/pictures", content=parts(), headers={"content-type": "multipart/form-data; boundary=b"}))


@pytest.mark.parametrize(
    "how",
    [
        {"json": {}}, {"content": b""}, {"files": [("other", ("a.png", b"x"))]},
        {"content": b"no form", "headers": {"content-type": "multipart/form-data; boundary=b"}},
        {"content": b"--b\r\nbroken", "headers": {"content-type": "multipart/form-data; boundary=b"}},
        {"content": b"--b\r\n\r\nx\r\n--b--", "headers": {"content-type": "multipart/form-data; boundary=b"}},
        {"content": b"", "headers": {"content-type": "multipart/form-data"}},
    ],
)  # fmt: skip
def test_what_is_no_form_of_files_is_told(served, how):
    assert "No images were sent" in said(served.ask("POST", "/pictures", **how))
    assert not list((served.services.host.paths.data / "datasets").rglob("*"))


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("../../evil.png", "evil.png"),
        ("a\\b\\c.png", "c.png"),
        ("/etc/x.png", "x.png"),
        ("a:b?.png", "a_b_.png"),
        ("é ü.png", "é ü.png"),
        ("a\x01b.png", "a_b.png"),
        ("x" * 300 + ".png", None),
        ("..", None),
        (".png", None),
        ("", None),
        ("a.png/", None),
        ("a.svg", None),
    ],
)
def test_names_stay_in_the_folder(served, name, kept):
    try:
        place = served.services.datasets.keep([(name, picture())])
    except datasets.InputError:
        place = None
    found = [path.name for path in (served.services.host.paths.data / "datasets").rglob("*.*")]
    assert found == ([kept] if kept else []) or (kept is None and place is not None and len(found) == 1 and len(found[0]) < 256)


def test_who_may_send(tmp_path):
    served = Served(tmp_path, Guard(accounts(["anna:secret"])))
    file = [("files", ("a.png", picture()))]
    for path in ("/pictures", "/settings/file"):
        assert served.ask("POST", path, files=file).status_code == 401
        assert served.ask("POST", path, files=file, headers={"x-finetune-key": "wrong"}).status_code == 401
        assert served.ask("POST", path, files=file, params={"key": page_key()}).status_code == 401
        for site in ("cross-site", "same-site"):
            assert served.ask("POST", path, files=file, auth=("anna", "secret"), headers={"sec-fetch-site": site}).status_code == 403
    assert served.ask("POST", "/pictures", files=file, auth=("anna", "secret")).status_code == 201
    assert served.ask("POST", "/pictures", files=file, headers={"x-finetune-key": page_key()}).status_code == 201
    assert served.ask("POST", "/jobs", json={}, headers={"x-finetune-key": page_key()}).status_code == 401


def test_nobody_unknown_has_anything_stored_for_them(tmp_path, monkeypatch):
    """Not even for a moment: the form is read after it was asked who sends it."""
    import starlette.formparsers

    served = Served(tmp_path, Guard(accounts(["anna:secret"])))
    monkeypatch.setattr(starlette.formparsers, "SpooledTemporaryFile", lambda **_: pytest.fail("a file was stored"))
    assert sent(served, ("a.png", picture())).status_code == 401


# -- settings ----------------------------------------------------------------------------------------------------------


def settings_sent(served, name, content):
    return served.ask("POST", "/settings/file", files=[("files", (name, content))])


def header(metadata, tensors=True):
    text = json.dumps(
        {"__metadata__": metadata, **({"w": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 4 << 40]}} if tensors else {})}
    )
    return struct.pack("<Q", len(text)) + text.encode()


def test_exported_settings_are_read_from_what_is_sent(served):
    mine = codec.with_values(codec.from_dict(served.values()), [("network.rank", "48")])
    found = settings_sent(served, "mine.json", settings_files.exported(mine).encode()).json()
    assert found["settings"]["network"]["rank"] == 48 and found["subject"] is False
    assert settings_sent(served, "mine.toml", b"[network]\nrank = 7\n").json()["settings"]["network"]["rank"] == 7
    assert "network.ranc" in settings_sent(served, "mine.json", b'{"network": {"ranc": 1}}').text


def test_the_beginning_of_a_result_is_enough(served):
    values = served.values(network__rank="5")
    found = settings_sent(
        served, "x.safetensors", header({settings_files.METADATA_KEY: json.dumps({**values, "data": {"images": "gone"}})})
    ).json()
    assert found["settings"]["network"]["rank"] == 5 and found["subject"] is True and "gone" in found["missing"][0]


def test_of_an_old_form_the_name_is_enough(served):
    name = served.job()
    served.settle(name)
    made = settings_sent(served, "cat.ckpt", b"")
    assert "no run of this name" in said(made)
    name = served.job(
        method="textual_inversion", embedding__format="pt", embedding__vectors="1", data__trigger="", data__class_word="", name="zxqword"
    )
    served.settle(name)
    assert settings_sent(served, "zxqword.pt", b"").json()["settings"]["method"] == "textual_inversion"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.safetensors", b""), ("x.safetensors", b"1234567"), ("x.safetensors", struct.pack("<Q", 1 << 60)), ("x.safetensors", struct.pack("<Q", 9) + b"{"),
        ("x.safetensors", struct.pack("<Q", 2) + b"[]"), ("x.safetensors", struct.pack("<Q", 2) + b"\xff\xff"), ("x.safetensors", header({})),
        ("x.safetensors", header("text")), ("x.safetensors", header({settings_files.METADATA_KEY: "[1]"})),
        ("x.safetensors", header({settings_files.METADATA_KEY: 5})),
        ("x.json", b"{"), ("x.json", b"\xff"), ("x.json", b"[]"), ("x.toml", b"a ="), ("../../x.json", b"5"), ("x.ckpt", b""), ("x.json", b"[" * 100_000),
    ],
    ids=lambda value: repr(value)[:40],
)  # fmt: skip
def test_a_file_without_settings_is_told(served, name, content):
    answer = said(settings_sent(served, name, content))
    assert name.rsplit("/", 1)[-1].split(".")[0] in answer


def test_a_settings_file_has_its_limit(served):
    for name, size in (("x.json", 1_000_001), ("x.toml", 1_500_000), ("x.safetensors", 17_000_000)):
        assert "1 MB" in said(settings_sent(served, name, bytes(size)))
    assert said(served.ask("POST", "/settings/file", json={}))
    assert said(served.ask("POST", "/settings/file", files=[("files", ("a.json", b"{}")), ("files", ("b.json", b"{}"))]))


# -- the tab -----------------------------------------------------------------------------------------------------------

TYPED = {"textbox", "dropdown", "radio", "checkbox", "number", "slider", "state", "button"}
"""Components whose values are taken as they are typed."""


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    from fastapi import FastAPI
    from fastapi.testclient import TestClient

    from lib_finetune.app.services import services_of
    from lib_finetune.jobs.queue import Jobs
    from lib_finetune.ui import page

    root = tmp_path_factory.mktemp("page")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(root / "gradio"))
        services = services_of(Jobs(Bench(root).host()), Folders((root / "open",), "Allow it."))
        client = TestClient(page.mounted(FastAPI(), lambda: services, list))
    client.root, client.services = root, services
    return client


def test_no_component_that_reads_a_file_is_given_to_any_event(page):
    config = page.get("/config").json()
    kinds = {part["id"]: part["type"] for part in config["components"]}
    assert {kinds[one] for what in config["dependencies"] for one in what["inputs"]} <= TYPED
    assert not {"uploadbutton", "image", "gallery", "video", "audio"} & set(kinds.values())


def test_no_file_that_a_client_names_is_copied_or_told(page):
    secret = page.root / "secret.txt"
    secret.write_text("the secret of this machine")
    named = {"name": str(secret), "orig_name": "a.png", "data": None, "is_file": True, "size": 26}
    config = page.get("/config").json()
    for number, what in enumerate(config["dependencies"]):
        if what["backend_fn"]:
            for given in (named, [named]):
                answer = page.post("/run/predict", json={"fn_index": number, "data": [given] * len(what["inputs"]), "session_hash": "x"})
                assert "the secret" not in answer.text
    copies = [path for path in page.root.rglob("*") if path.is_file() and path != secret and b"the secret" in path.read_bytes()]
    assert copies == []


def test_the_drop_zones_are_plain_and_named(page):
    parts = {part["props"].get("elem_id"): part["props"] for part in page.get("/config").json()["components"]}
    for name in ("finetune_files", "finetune_import"):
        html = parts[name]["value"]
        assert 'type="file"' in html and "<label" in html and page_key() in html and "aria-live" in html
    assert "multiple" in parts["finetune_files"]["value"] and "multiple" not in parts["finetune_import"]["value"]


def test_settings_that_were_sent_come_into_the_form(tmp_path):
    from lib_finetune.app.services import services_of
    from lib_finetune.jobs.queue import Jobs
    from lib_finetune.ui import form
    from lib_finetune.ui.tab import Tab

    services = services_of(Jobs(Bench(tmp_path).host()), Folders((tmp_path / "open",), "Allow it."))
    tab = Tab(lambda: services, list)
    tab.build()
    now = form.values_of(codec.with_values(codec.from_dict({}), [("name", "mine"), ("data.trigger", "zxq")]), tab.settings.paths)
    other = codec.to_dict(codec.with_values(codec.from_dict({}), [("name", "theirs"), ("network.rank", "9")]))
    place, rank = list(form.TOP).index("name"), len(form.TOP) + tab.settings.paths.index("network.rank")
    for subject, name in ((False, "mine"), (True, "theirs")):
        asked = json.dumps({"do": "import", "given": {"settings": other, "missing": ["<b>gone</b>"], "subject": subject}})
        page: dict = {}
        message, *filled = tab.page_buttons.act(asked, page, *now)
        assert (filled[place], str(filled[rank])) == (name, "9") and page["filled"] is True
        assert "&lt;b&gt;gone" in message and "in the form" in message
    for wrong in ({}, {"settings": 5}, {"settings": {"network": {"ranc": 1}}}, {"settings": other, "missing": 5}):
        message, *filled = tab.page_buttons.act(json.dumps({"do": "import", "given": wrong}), {}, *now)
        assert message and "That did not work" not in message


@pytest.mark.parametrize("written", ["secret.pt", '"secret.pt"', "file:secret.pt", "%73ecret.pt", " secret.pt"])
def test_a_file_outside_the_allowed_folders_cannot_be_named_in_another_spelling(tmp_path, monkeypatch, written):
    (tmp_path / "secret.pt").write_bytes(b"x")
    monkeypatch.chdir(tmp_path)
    served = Served(tmp_path / "served", folders=Folders((tmp_path / "served",), "Ask."))
    answer = served.ask("POST", "/check", json=served.values(method="textual_inversion", embedding__init=written))
    assert answer.status_code == 422 and "outside the folders" in answer.text


@pytest.mark.parametrize("written", ["{}", '"{}"', "file://{}", " {} "])
def test_a_folder_outside_the_allowed_ones_cannot_be_named_in_another_spelling(tmp_path, written):
    (tmp_path / "pics").mkdir()
    served = Served(tmp_path / "served", folders=Folders((tmp_path / "served",), "Ask."))
    answer = served.ask("POST", "/dataset", json=served.values(data__images=written.format(tmp_path / "pics")))
    assert answer.status_code == 422 and "outside the folders" in answer.text
