"""Proof on one's own machine: the three methods, the table and the grid, here and in a WebUI."""

import base64
import io
import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from bench import acceptance
from bench.__main__ import main as bench
from bench.acceptance import Trained
from bench.nano import checkpoint
from lib_finetune.errors import HostError


@pytest.mark.slow
def test_on_the_small_checkpoint_three_methods_give_a_table_and_a_grid(tmp_path, capsys):
    asked = ["--steps", "2", "--resolution", "64", "--output-root", str(tmp_path)]
    assert bench(["acceptance", "--checkpoint", str(checkpoint.FILE), *asked]) == 0, capsys.readouterr().out
    table = (tmp_path / "acceptance.md").read_text()
    assert table.count("| equal |") == 3 and table.count("all finite") == 3 and "nano-sd15.safetensors" in table
    assert Image.open(tmp_path / "acceptance.png").width == 4 * 128


class Failing:
    device = "cpu"

    def train(self, method, values):
        if method == "dreambooth":
            raise HostError("Out of memory | at step 1.\nLower the resolution.")
        path = values["data.images"].rsplit("images", 1)[0] + f"{method}.safetensors"
        save_file({"a": torch.tensor([1.0, float("nan") if method == "lora" else 2.0])}, path)
        return Trained(method, 10, 5.0, 2**30, 2**31, acceptance.Path(path), host="The model is exactly as it was: 3 tensors equal.")

    def paint(self, prompt, result):
        return Image.new("RGB", (8, 8))


def test_a_method_that_fails_is_a_row_and_a_file_of_no_numbers_is_said(tmp_path):
    results = acceptance.run(Failing(), tmp_path, {})
    table = acceptance.markdown("cpu", "some.safetensors", results)
    assert "| dreambooth | FAILED: Out of memory" in table and "Lower the resolution." in table
    assert "| lora | 10 | 5 | 2.00 | 1.0 (2.0) | 1 of 1 tensors hold no numbers | equal |" in table
    assert "| textual_inversion | 10 | 5 | 2.00 | 1.0 (2.0) | 1 tensor, all finite | equal |" in table


def test_the_defaults_are_kept_but_for_what_is_asked(tmp_path):
    values = acceptance.values_of("lora", tmp_path, {"training.steps": "7"})
    assert values["training.steps"] == "7" and "optimizer.unet_rate" not in values and values["name"] == "acceptance-lora"


def test_without_a_checkpoint_or_a_webui_it_says_what_to_name(tmp_path, capsys):
    assert bench(["acceptance", "--output-root", str(tmp_path)]) == 2
    assert "--checkpoint" in capsys.readouterr().err
    assert bench(["acceptance", "--webui", "http://127.0.0.1:9", "--output-root", str(tmp_path)]) == 2
    assert "Start the WebUI with --api" in capsys.readouterr().err


@pytest.fixture
def webui(tmp_path):
    """Answers as the WebUI does; ``asked`` holds (path, body)."""
    asked = []
    image = io.BytesIO()
    Image.new("RGB", (16, 16), "red").save(image, "PNG")
    save_file({"a": torch.ones(2)}, tmp_path / "made.safetensors")
    job = {
        "id": "j",
        "state": "done",
        "message": "",
        "done": 3,
        "started": 1.0,
        "ended": 4.0,
        "files": {"lora": str(tmp_path / "made.safetensors")},
    }

    class Handler(BaseHTTPRequestHandler):
        def answer(self, value):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(value).encode())

        def do_GET(self):
            answers = {
                "about": {"device": "cuda:0", "checkpoint": "v1-5"},
                "events": {"log": ["The model is exactly as it was: 3 tensors equal."]},
            }
            self.answer(answers.get(self.path.rsplit("/", 1)[1], job))

        def do_POST(self):
            asked.append((self.path, json.loads(self.rfile.read(int(self.headers["Content-Length"])))))
            picture = {"images": [base64.b64encode(image.getvalue()).decode()]}
            self.answer({**job, "ended": None} if self.path.endswith("/jobs") else picture)

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()


def test_a_webui_trains_and_paints(webui, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(acceptance, "_POLL_S", 0.01)
    url, asked = webui
    assert bench(["acceptance", "--webui", url, "--steps", "3", "--output-root", str(tmp_path / "out")]) == 0, capsys.readouterr().out
    jobs = [body for path, body in asked if path == "/finetune/v1/jobs"]
    assert [body["method"] for body in jobs] == list(acceptance.METHODS) and jobs[0]["training"]["steps"] == 3
    prompts = [body for path, body in asked if path == "/sdapi/v1/txt2img"]
    assert len(prompts) == 8 and any("<lora:made:1>" in body["prompt"] for body in prompts)
    assert any(body.get("override_settings") == {"sd_model_checkpoint": "made.safetensors"} for body in prompts)
    assert (tmp_path / "out" / "acceptance.md").read_text().count("| equal |") == 3
