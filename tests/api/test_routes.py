"""The HTTP API, asked by a plain client: jobs, errors with their field, access, images, storage."""

import importlib.util
import io
import time
from pathlib import Path

import pytest
from PIL import Image

from lib_finetune.access import Folders, Guard, accounts, page_key
from lib_finetune.config import codec
from lib_finetune.jobs.queue import Jobs
from tests.fakes.runs import Bench, settings

pytestmark = pytest.mark.skipif(importlib.util.find_spec("fastapi") is None, reason="fastapi belongs to the WebUI's library set")


class Served:
    """A services on a fake host, and a client of its API."""

    def __init__(self, root, guard=None, folders=None):
        from fastapi.testclient import TestClient

        from lib_finetune.api.application import PREFIX, application
        from lib_finetune.app.services import services_of

        self.bench = Bench(root)
        self.services = services_of(Jobs(self.bench.host()), folders)
        self.client = TestClient(application(lambda: self.services, guard or Guard()))
        self.prefix = PREFIX

    def values(self, **changes):
        return codec.to_dict(settings(self.bench.images, {path.replace("__", "."): value for path, value in changes.items()}))

    def ask(self, method, path, **more):
        return self.client.request(method, self.prefix + path, **more)

    def job(self, **changes):
        answer = self.ask("POST", "/jobs", json=self.values(**changes))
        assert answer.status_code == 201, answer.text
        return answer.json()["id"]

    def settle(self, name, seconds=180):
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            found = self.ask("GET", f"/jobs/{name}").json()
            if found["state"] in ("done", "stopped", "discarded", "failed"):
                return found
            time.sleep(0.03)
        raise AssertionError(found)


@pytest.fixture
def served(tmp_path):
    return Served(tmp_path)


def test_a_training_from_submit_to_file(served):
    name = served.job()
    found = served.settle(name)
    assert found["state"] == "done" and found["file"].endswith("cat.safetensors") and found["steps"] == 4
    assert found["call"] == "<lora:cat:0.8> zxq cat" and list(found["choices"]) == ["4"]
    events = served.ask("GET", f"/jobs/{name}/events").json()
    assert len(events["losses"]) == 4 and any("exactly as it was" in line for line in events["log"])
    assert served.ask("GET", f"/jobs/{name}/events?line={events['line']}&step={events['step']}").json()["losses"] == []
    assert served.ask("GET", f"/jobs/{name}/settings").json()["network"]["rank"] == 2


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"data": {"images": "/no/such/folder"}}, "data.images"),
        ({"name": "a/b"}, "name"),
        ({"training": {"steps": 0}}, "training.steps"),
        ({"training": {"steps": "many"}}, "training.steps"),
        ({"network": {"ranc": 4}}, "network.ranc"),
    ],
)
def test_wrong_input_names_its_field_and_starts_nothing(served, changes, field):
    values = served.values()
    for section, new in changes.items():
        values[section] = {**values[section], **new} if isinstance(new, dict) else new
    for path in ("/jobs", "/check"):
        answer = served.ask("POST", path, json=values)
        assert answer.status_code == 422
        assert field in [problem["field"] for problem in answer.json()["detail"]]
        assert all(problem["message"] for problem in answer.json()["detail"])
    assert served.ask("GET", "/jobs").json()["jobs"] == []


def test_a_second_submit_of_the_same_name_is_refused(served):
    served.services.jobs.hold()
    served.job()
    answer = served.ask("POST", "/jobs", json=served.values())
    assert answer.status_code == 422 and "running or waits" in answer.json()["detail"][0]["message"]


def test_what_is_not_there_is_said(served):
    assert served.ask("GET", "/jobs/nobody").status_code == 422
    assert served.ask("POST", "/queue/fly").status_code == 404
    assert served.ask("GET", "/sheets/none.png").status_code == 404
    assert served.ask("POST", "/unfinished/nobody").status_code == 422


def test_the_queue_is_reordered_cloned_edited_and_cancelled(served):
    served.ask("POST", "/queue/hold")
    first, second = served.job(name="a"), served.job(name="b")
    assert served.ask("POST", f"/jobs/{second}/move", json={"before": first}).json()["queue"] == [second, first]
    clone = served.ask("POST", f"/jobs/{first}/clone", json={"changes": {"network.rank": "4"}}).json()
    assert clone["name"] == "a-2"
    assert served.ask("GET", f"/jobs/{clone['id']}/settings").json()["network"]["rank"] == 4
    assert served.ask("PUT", f"/jobs/{second}/settings", json=served.values(name="b", training__steps="2")).status_code == 200
    assert served.ask("DELETE", f"/jobs/{first}").status_code == 200
    assert served.ask("POST", "/queue/go").json() == {"held": False}
    assert served.settle(second)["steps"] == 2 and served.settle(clone["id"])["state"] == "done"
    assert served.settle(first)["state"] == "discarded"


def test_pause_resume_and_stop(served):
    name = served.job(training__steps="4000")
    while not served.services.jobs.known.find(name).progress.losses:
        time.sleep(0.02)
    served.ask("POST", f"/jobs/{name}/pause")
    until = time.monotonic() + 60
    while served.ask("GET", f"/jobs/{name}").json()["state"] != "paused" and time.monotonic() < until:
        time.sleep(0.02)
    steps = served.ask("GET", f"/jobs/{name}").json()["done"]
    time.sleep(0.3)
    assert served.ask("GET", f"/jobs/{name}").json()["done"] == steps
    served.ask("POST", f"/jobs/{name}/resume")
    until = time.monotonic() + 60
    while served.ask("GET", f"/jobs/{name}").json()["done"] <= steps and time.monotonic() < until:
        time.sleep(0.02)
    served.ask("POST", f"/jobs/{name}/stop", json={"keep": False})
    found = served.settle(name)
    assert found["state"] == "discarded" and found["file"] is None
    assert served.ask("GET", "/unfinished").json() == [name]


def test_a_sweep_is_trained_and_compared_on_one_sheet(served):
    answer = served.ask("POST", "/sweep", json={"settings": served.values(), "path": "network.rank", "values": ["1", "2"]})
    jobs = answer.json()
    assert [job["name"] for job in jobs] == ["cat-rank-1", "cat-rank-2"] and len({job["group"] for job in jobs}) == 1
    assert all(served.settle(job["id"])["state"] == "done" for job in jobs)
    until = time.monotonic() + 60
    while not served.ask("GET", "/sheets").json() and time.monotonic() < until:
        time.sleep(0.05)
    (sheet,) = served.ask("GET", "/sheets").json()
    picture = Image.open(io.BytesIO(served.ask("GET", f"/sheets/{sheet}").content))
    assert picture.width == 3 * 64  # the base and two results


def test_a_grid_of_chosen_results_is_made_and_tells_its_settings(served):
    name = served.job()
    served.settle(name)
    assert [(run["job"], run["steps"]) for run in served.ask("GET", "/sheet-choices").json()] == [(name, [4])]
    asked = {"chosen": [f"{name}:4"], "weights": [0.5, 1], "prompts": ["{trigger}"], "seeds": [7]}
    assert served.ask("POST", "/sheets", json=asked).status_code == 201
    until = time.monotonic() + 60
    while not served.ask("GET", "/sheets").json() and time.monotonic() < until:
        time.sleep(0.05)
    (grid,) = served.ask("GET", "/sheets").json()
    told = served.ask("GET", f"/sheets/{grid}/settings").json()
    assert [label for label, _ in told["columns"]] == ["base", "cat × 0.5", "cat × 1"] and told["rows"] == [["zxq", 7]]
    image = Image.open(io.BytesIO(served.ask("GET", f"/sheets/{grid}").content))
    assert image.width == 3 * 64 and image.info["parameters"].startswith("zxq\nSteps: ")


@pytest.mark.parametrize(
    ("change", "field"), [({"chosen": ["none:4"]}, "chosen"), ({"weights": [0]}, "weights"), ({"seeds": [-1]}, "seeds")]
)
def test_a_grid_that_cannot_be_names_its_field(served, change, field):
    answer = served.ask("POST", "/sheets", json={"chosen": [], **change})
    assert answer.status_code == 422 and field in [problem["field"] for problem in answer.json()["detail"]]
    assert served.ask("GET", "/sheets/none.png/settings").status_code == 422


def test_a_sweep_with_a_wrong_value_queues_nothing(served):
    answer = served.ask("POST", "/sweep", json={"settings": served.values(), "path": "network.rank", "values": ["1", "0"]})
    assert answer.status_code == 422 and answer.json()["detail"][0]["field"] == "network.rank"
    assert served.ask("GET", "/jobs").json()["jobs"] == []


def test_a_sweep_that_names_a_value_twice_or_has_no_name_queues_nothing(served):
    for values, name in ((["2", "2", "4"], "cat"), (["2", "4"], "")):
        answer = served.ask("POST", "/sweep", json={"settings": served.values(name=name), "path": "network.rank", "values": values})
        assert answer.status_code == 422 and answer.json()["detail"][0]["field"] == "name"
    assert served.ask("POST", "/compare", json=served.values(name=" ")).status_code == 422
    assert served.ask("GET", "/jobs").json()["jobs"] == []


def test_a_body_of_the_wrong_form_is_told_by_field(served):
    name = served.job()
    answer = served.ask("POST", f"/jobs/{name}/more", json={"steps": "many"})
    assert answer.status_code == 422 and answer.json()["detail"][0]["field"] == "steps"
    served.settle(name)


def test_the_result_can_be_fetched(served):
    found = served.settle(served.job())
    answer = served.ask("GET", f"/jobs/{found['id']}/files/lora")
    assert answer.status_code == 200 and len(answer.content) == Path(found["file"]).stat().st_size
    assert served.ask("GET", f"/jobs/{found['id']}/files/checkpoint").status_code == 404


def test_more_steps_go_on_from_the_point_that_was_picked(served):
    found = served.settle(served.job(saving__every_steps="2", saving__states="all"))
    assert found["states"] == [2, 4]
    served.ask("POST", f"/jobs/{found['id']}/pick", json={"step": 2})
    more = served.ask("POST", f"/jobs/{found['id']}/more", json={"steps": 1}).json()["id"]
    assert served.settle(more)["steps"] == 3


def test_a_job_that_failed_can_have_one_of_its_files_as_the_result(served, monkeypatch):
    from lib_finetune.training.loop import Trainer

    real = Trainer._one_step

    def fail(self, rates, *batches):
        if self.step == 3:
            raise RuntimeError("no")
        return real(self, rates, *batches)

    monkeypatch.setattr(Trainer, "_one_step", fail)
    found = served.settle(served.job(saving__every_steps="2"))
    assert found["state"] == "failed" and not found["files"] and list(found["choices"]) == ["2"]
    answer = served.ask("POST", f"/jobs/{found['id']}/pick", json={"step": 2})
    assert answer.status_code == 200 and answer.json()["lora"].endswith("cat.safetensors")
    now = served.ask("GET", f"/jobs/{found['id']}").json()
    assert now["steps"] == 2 and now["call"] == "<lora:cat:0.8> zxq cat"


def test_pictures_of_one_name_are_both_kept_and_more_can_be_added(served):
    red, blue = (io.BytesIO() for _ in range(2))
    Image.new("RGB", (64, 64), "red").save(red, "PNG")
    Image.new("RGB", (64, 64), "blue").save(blue, "PNG")
    place = served.services.datasets.keep([("a/IMG.png", red.getvalue()), ("b/IMG.png", blue.getvalue())])
    assert {path.name for path in place.iterdir()} == {"IMG.png", "IMG-2.png"}
    assert served.services.datasets.keep([("IMG.txt", b"red")], into=str(place)) == place
    assert served.services.datasets.keep([("IMG.txt", b"red")], into=str(place.parent / "..")).parent == place.parent


def test_pictures_are_sent_and_trained_from(served):
    files = [("files", (path.name, path.read_bytes())) for path in sorted(served.bench.images.iterdir())]
    files.append(("files", ("../../evil.txt", b"a text")))
    folder = served.ask("POST", "/pictures", files=files).json()["folder"]
    assert folder.startswith(str(served.services.host.paths.data / "datasets"))
    assert not (served.services.host.paths.data / "evil.txt").exists()
    assert served.ask("POST", "/check", json=served.values(data__images=folder)).status_code == 200
    answer = served.ask("POST", "/pictures", files=[("files", ("a.exe", b"MZ"))])
    assert answer.status_code == 422 and "a.exe" in answer.text


def test_captions_are_written_for_pictures_without_one(served, monkeypatch):
    assert served.ask("GET", "/captioners").json() == []
    body = {"settings": served.values(), "captioner": "BLIP"}
    refused = served.ask("POST", "/captions", json=body)
    assert refused.status_code == 422 and "inside the WebUI" in refused.text
    monkeypatch.setattr(served.services.host.captions, "captioners", lambda: ("BLIP",))
    monkeypatch.setattr(served.services.host.captions, "describe", lambda captioner, image: f"{captioner} sees {image.width} px")
    unread = {path.stem for path in served.bench.images.glob("*.png")}
    own = served.bench.images / f"{min(unread)}.txt"
    own.write_text("mine", encoding="utf-8")
    errand = served.ask("POST", "/captions", json=body).json()["id"]
    until = time.monotonic() + 60
    while served.ask("GET", f"/errands/{errand}").json()["state"] != "done" and time.monotonic() < until:
        time.sleep(0.02)
    captions = {path.stem: path.read_text(encoding="utf-8") for path in served.bench.images.glob("*.txt")}
    assert captions.pop(own.stem) == "mine" and captions.keys() == unread - {own.stem}
    assert all(text.startswith("BLIP sees ") for text in captions.values())
    assert "has its caption already" in served.ask("POST", "/captions", json=body).text


def test_a_caption_is_saved_where_the_folder_was_named_relative_and_in_quotes(served, monkeypatch):
    monkeypatch.chdir(served.bench.images.parent)
    view = served.ask("POST", "/dataset", json=served.values(data__images=f' "{served.bench.images.name}/" ')).json()
    assert view["folder"] == str(served.bench.images)
    monkeypatch.chdir("/")
    picture = view["pictures"][0]
    answer = served.ask("PUT", f"/captions/{picture['token']}", json={"text": "a cat"})
    assert answer.status_code == 200 and Path(answer.json()["file"]).read_text() == "a cat\n"


def test_a_stray_file_is_named_and_refuses_nothing(served):
    red = io.BytesIO()
    Image.new("RGB", (64, 64), "red").save(red, "PNG")
    files = [("files", ("a.png", red.getvalue())), ("files", ("Thumbs.db", b"x")), ("files", ("b.heic", b"x"))]
    answer = served.ask("POST", "/pictures", files=files)
    assert answer.status_code == 201 and len(answer.json()["left_out"]) == 2 and "b.heic" in str(answer.json()["left_out"])


def test_settings_are_read_back_from_a_result(served):
    file = served.settle(served.job(network__rank="3"))["file"]
    found = served.ask("POST", "/settings", json={"path": file}).json()
    assert found["settings"]["network"]["rank"] == 3
    assert served.ask("POST", "/settings", json={"path": "/no/such/file.toml"}).status_code == 422


def test_storage_is_measured_and_emptied(served):
    served.settle(served.job())
    sizes = {part["name"]: part["size"] for part in served.ask("GET", "/storage").json()}
    assert sizes["runs"] > 0 and sizes["cache"] > 0
    assert served.ask("DELETE", "/storage/runs").json()["freed"] == sizes["runs"]
    assert served.ask("GET", "/jobs").json()["jobs"] == []
    assert served.ask("DELETE", "/storage/..%2f..").status_code in (404, 422)


def test_a_result_is_picked_and_the_others_deleted(served):
    found = served.settle(served.job(saving__every_steps="2"))
    assert list(found["choices"]) == ["2", "4"]
    answer = served.ask("POST", f"/jobs/{found['id']}/pick", json={"step": 2, "delete_others": True})
    assert answer.json()["lora"] == found["file"]
    now = served.ask("GET", f"/jobs/{found['id']}").json()
    assert list(now["choices"]) == ["2"] and now["steps"] == 2 and now["picked"] == 2
    from tests.fakes.runs import metadata

    assert metadata(found["file"])["ss_output_name"] == "cat" and metadata(found["file"])["ss_steps"] == "2"
    assert [path.name for path in served.services.host.paths.lora.glob("*.safetensors")] == ["cat.safetensors"]


def test_a_result_is_trained_further_under_a_free_name(served):
    found = served.settle(served.job())
    answer = served.ask("POST", f"/jobs/{found['id']}/more", json={"steps": 3})
    assert answer.status_code == 201, answer.text
    more = served.settle(answer.json()["id"])
    assert (more["name"], more["steps"], more["state"]) == ("cat-2", 7, "done")
    refused = served.ask("POST", f"/jobs/{found['id']}/more", json={"steps": 3, "step": 2})
    assert refused.status_code == 422 and "2" in refused.text


def test_a_verdict_proposes_one_change(served):
    found = served.settle(served.job())
    assert served.ask("GET", f"/jobs/{found['id']}/verdict?said=too weak").json()["kind"] == "weight"
    assert served.ask("GET", f"/jobs/{found['id']}/verdict?said=pretty").status_code == 422


# --- who may ask ------------------------------------------------------------------------------------------------------


def test_every_route_asks_who_it_is(tmp_path):
    served = Served(tmp_path, Guard(accounts(["anna:secret"])))
    routes = [
        (method, route.path) for route in served.client.app.routes if route.path.startswith(served.prefix) for method in route.methods
    ]
    assert len(routes) > 25
    for method, path in routes:
        answer = served.client.request(method, path.replace("{", "").replace("}", ""), json={}, params={"key": "wrong"})
        assert answer.status_code == 401, (method, path)
    assert served.ask("GET", "/jobs", auth=("anna", "secret")).status_code == 200
    assert served.ask("GET", "/jobs", auth=("anna", "wrong")).status_code == 401


def test_the_pages_key_opens_pictures_and_nothing_else(tmp_path):
    served = Served(tmp_path, Guard(accounts(["anna:secret"])))
    assert served.ask("GET", "/sheets/none.png", params={"key": page_key()}).status_code == 404
    assert served.ask("GET", "/sheets", params={"key": page_key()}).status_code == 401


def test_a_page_of_another_site_is_refused(served):
    assert served.ask("GET", "/jobs", headers={"sec-fetch-site": "cross-site"}).status_code == 403


def test_folders_elsewhere_are_refused_when_others_can_ask(tmp_path):
    served = Served(tmp_path, folders=Folders((tmp_path / "open",), "Allow it."))
    spaced = served.values(method="textual_inversion", data__images=str(tmp_path / "open"), embedding__init=" /etc/secret.pt ")
    for values in (served.values(), served.values(method="textual_inversion", embedding__init="/etc/secret.pt"), spaced):
        answer = served.ask("POST", "/check", json=values)
        assert answer.status_code == 422 and "outside the folders" in answer.text


@pytest.mark.parametrize("place", ["~", ".", "..", "~nobody-of-this-name", "tests"])
def test_a_folder_without_a_slash_is_a_folder_too(tmp_path, place):
    served = Served(tmp_path, folders=Folders((tmp_path / "open",), "Allow it."))
    for path in ("/dataset", "/check"):
        answer = served.ask("POST", path, json=served.values(data__images=place))
        assert answer.status_code == 422 and "outside the folders" in answer.text
    assert "outside" in served.ask("POST", "/check", json=served.values(method="textual_inversion", embedding__init=place)).text or (
        place == "~nobody-of-this-name"
    )


def test_words_are_not_taken_for_folders(tmp_path):
    served = Served(tmp_path, folders=Folders((tmp_path,), "Allow it."))
    values = served.values(method="textual_inversion", embedding__init="glass vase", name="zxqvase")
    assert served.ask("POST", "/check", json=values).json() == {"ok": True}


def test_no_picture_outside_its_folder_is_given_out(served):
    secret = served.services.host.paths.data / "secret.png"
    secret.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8)).save(secret)
    name = served.job()
    served.settle(name)
    for path in ("/sheets/..%2Fsecret.png", f"/jobs/{name}/previews/..%2F..%2F../secret.png", f"/jobs/{name}/previews/../settings.json"):
        assert served.ask("GET", path).status_code in (404, 405)


def test_the_routes_are_in_the_openapi_document(served):
    paths = served.client.get("/openapi.json").json()["paths"]
    body = paths[served.prefix + "/jobs"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert body["properties"]["network"]["properties"]["rank"]["maximum"] == 256
    assert all(operation.get("summary") for path in paths.values() for operation in path.values())


def test_a_client_with_a_cursor_gets_what_has_changed_and_one_without_gets_everything(served):
    name = served.job(training__steps="2")
    served.settle(name)
    first = served.ask("GET", "/jobs?since=").json()
    again = served.ask("GET", f"/jobs?since={first['cursor']}").json()
    assert first["whole"] and first["jobs"][0]["id"] == name and len(first["jobs"][0]["losses"]) == 2
    assert again == {"cursor": first["cursor"], "whole": False, "jobs": [], "gone": [], "errands": []}
    everything = served.ask("GET", "/jobs").json()
    assert everything["jobs"] == first["jobs"] and set(everything) == {"jobs", "queue", "held", "lost", "errands"}
    assert served.ask("DELETE", f"/jobs/{name}").status_code == 200
    assert served.ask("GET", f"/jobs?since={first['cursor']}").json()["gone"] == [name]


def test_a_lora_is_resized_by_the_api(served):
    name = served.job()
    served.settle(name)
    answer = served.ask("POST", "/tools/resize", json={"lora": "cat", "name": "small", "rank": 1})
    assert answer.status_code == 201 and "cat.safetensors" in served.ask("GET", "/tools").json()["lora"]
    until = time.monotonic() + 60
    while (task := served.ask("GET", f"/errands/{answer.json()['id']}").json())["state"] in ("queued", "running"):
        assert time.monotonic() < until
        time.sleep(0.03)
    assert task["state"] == "done" and task["result"]["file"] == "small.safetensors", task
    wrong = served.ask("POST", "/tools/extract", json={"checkpoint": "none", "rank": 0})
    assert wrong.status_code == 422 and {problem["field"] for problem in wrong.json()["detail"]} == {"checkpoint", "rank"}
