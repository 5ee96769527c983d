"""What the driver puts into a WebUI's data folder before it starts it."""

from pathlib import Path

from bench.webui.webui import WebUI


def test_the_extension_goes_in_without_the_bench_and_the_probe_beside_it(tmp_path):
    checkpoint = tmp_path / "tiny.safetensors"
    checkpoint.write_bytes(b"weights")
    webui = WebUI(tmp_path, Path("python"), tmp_path / "data", 7890)
    webui.prepare([checkpoint])
    extension = webui.data / "extensions" / "finetune"
    needed = [
        "install.py",
        "style.css",
        "scripts/finetune.py",
        "lib_finetune/ui/tab.py",
        "javascript/finetune.js",
        "localizations/zh_CN.json",
    ]
    assert all((extension / name).is_file() for name in needed)
    assert not [name for name in ("bench", "tests", "docs") if (extension / name).exists()]
    assert (webui.data / "extensions" / "finetune-probe" / "scripts" / "finetune_probe.py").is_file()
    assert (webui.data / "models" / "Stable-diffusion" / "tiny.safetensors").read_bytes() == b"weights"
