"""install.py and the check of the libraries: what is missing is added, what is there stays, and the WebUI starts in any case.

The fast tests run install.py as the WebUI does, in a small environment whose pip is a fake that notes each call.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

import install
from lib_finetune.installation import requirements

ROOT = Path(__file__).resolve().parents[2]
HOST = requirements.ADD_ONS["host"]
OUR_PINS = [add_on.pin for add_on in HOST]

FAKE_PIP = """
import os, pathlib, sys
here = pathlib.Path(__file__).resolve().parent.parent
with (here / "pip-calls.txt").open("a") as log:
    log.write(" ".join(sys.argv[1:]) + "\\n")
name, version = sys.argv[-1].split("==")
if name in os.environ.get("FAKE_PIP_FAILS_ON", "").split(","):
    sys.exit(os.environ["FAKE_PIP_SAYS"])
folder = here / f"{name.replace('-', '_')}-{version}.dist-info"
folder.mkdir()
(folder / "METADATA").write_text(f"Metadata-Version: 2.1\\nName: {name}\\nVersion: {version}\\n")
"""


@dataclass(frozen=True)
class Site:
    """A virtual environment as the WebUI's, its packages only names and versions."""

    python: Path
    packages: Path

    def put(self, name: str, version: str) -> None:
        folder = self.packages / f"{name.replace('-', '_')}-{version}.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n", encoding="utf-8")

    def freeze(self) -> set[str]:
        return {path.name for path in self.packages.glob("*.dist-info")}

    def pip_calls(self) -> list[str]:
        log = self.packages / "pip-calls.txt"
        return log.read_text(encoding="utf-8").splitlines() if log.exists() else []

    def run_install(self, environ: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        kept = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "INDEX_URL"}}
        return subprocess.run(
            [self.python, ROOT / "install.py"],
            cwd=self.packages,
            env={**kept, **(environ or {})},
            capture_output=True,
            text=True,
            check=False,
        )


@pytest.fixture
def site(tmp_path: Path) -> Site:
    folder = tmp_path / "webui-env"
    venv.create(folder, symlinks=os.name != "nt")
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    packages = Path(
        subprocess.run(
            [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], capture_output=True, text=True, check=True
        ).stdout.strip()
    )
    (packages / "pip").mkdir()
    (packages / "pip" / "__init__.py").touch()
    (packages / "pip" / "__main__.py").write_text(FAKE_PIP, encoding="utf-8")
    site = Site(python, packages)
    site.put("transformers", "4.30.2")
    site.put("huggingface-hub", "0.36.2")
    return site


def dist_info(pin: str) -> str:
    return pin.replace("-", "_").replace("==", "-") + ".dist-info"


def test_exactly_our_libraries_are_added(site: Site) -> None:
    before = site.freeze()
    done = site.run_install()
    assert done.returncode == 0
    assert site.freeze() - before == {dist_info(pin) for pin in OUR_PINS}
    assert before <= site.freeze()
    assert all(f"added {add_on.name} {add_on.version}" in done.stdout for add_on in HOST)


def test_pip_is_never_allowed_to_touch_another_package(site: Site) -> None:
    site.run_install()
    assert [call.split()[-1] for call in site.pip_calls()] == OUR_PINS
    for call in site.pip_calls():
        assert "--no-deps" in call.split()
        assert not {"-U", "--upgrade", "--force-reinstall", "-r"} & set(call.split())


def test_a_copy_of_another_extension_is_left_alone_whatever_its_version(site: Site) -> None:
    site.put("diffusers", "0.21.0")
    site.put("peft", "0.14.0")
    site.run_install()
    names = {call.split()[-1].split("==")[0] for call in site.pip_calls()}
    assert names.isdisjoint({"diffusers", "peft"})
    assert {"diffusers-0.21.0.dist-info", "peft-0.14.0.dist-info"} <= site.freeze()


def test_a_copy_without_metadata_is_left_alone(site: Site) -> None:
    (site.packages / "toml").mkdir()
    (site.packages / "toml" / "__init__.py").touch()
    site.run_install()
    assert "toml==0.10.2" not in [call.split()[-1] for call in site.pip_calls()]


def test_nothing_happens_when_nothing_is_missing(site: Site) -> None:
    for add_on in HOST:
        site.put(add_on.name, add_on.version)
    done = site.run_install()
    assert (done.returncode, done.stdout, done.stderr, site.pip_calls()) == (0, "", "", [])


def test_a_second_start_adds_nothing(site: Site) -> None:
    site.run_install()
    calls = site.pip_calls()
    assert site.run_install().stdout == ""
    assert site.pip_calls() == calls


def test_offline_ends_in_one_line_with_the_command(site: Site) -> None:
    before = site.freeze()
    done = site.run_install(
        {
            "FAKE_PIP_FAILS_ON": ",".join(add_on.name for add_on in HOST),
            "FAKE_PIP_SAYS": "WARNING: Retrying after NewConnectionError: Failed to establish a new connection\nERROR: No matching distribution found",
        }
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == 1
    assert "could not be reached" in done.stdout
    assert f"-m pip install --no-deps {' '.join(OUR_PINS)}" in done.stdout
    assert site.freeze() == before


def test_offline_is_tried_once_and_not_once_per_library(site: Site) -> None:
    site.run_install({"FAKE_PIP_FAILS_ON": HOST[0].name, "FAKE_PIP_SAYS": "Temporary failure in name resolution"})
    assert len(site.pip_calls()) == 1


def test_one_library_that_cannot_be_had_does_not_keep_the_others_out(site: Site) -> None:
    done = site.run_install({"FAKE_PIP_FAILS_ON": "peft", "FAKE_PIP_SAYS": "ERROR: No matching distribution found for peft==0.13.2"})
    assert done.returncode == 0
    assert {dist_info(pin) for pin in OUR_PINS} - site.freeze() == {"peft-0.13.2.dist-info"}
    assert "could not add peft==0.13.2: No matching distribution found for peft==0.13.2. The WebUI starts without" in done.stdout


def test_an_environment_without_pip_ends_in_one_line(site: Site) -> None:
    shutil.rmtree(site.packages / "pip")
    done = site.run_install()
    assert (done.returncode, done.stderr) == (0, "")
    assert "No module named pip" in done.stdout


def test_the_index_of_the_webui_is_used(site: Site) -> None:
    site.run_install({"INDEX_URL": "https://mirror.example/simple"})
    assert all("--index-url https://mirror.example/simple" in call for call in site.pip_calls())


def test_an_unforeseen_error_does_not_stop_the_webui(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def broken() -> list[requirements.AddOn]:
        raise ValueError("metadata of another extension is damaged")

    monkeypatch.setattr(requirements, "missing", broken)
    install.main()
    assert "damaged" in capsys.readouterr().out


def test_a_pip_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(install, "INSTALL_TIMEOUT_S", 0.3)
    monkeypatch.setattr(install, "pip_command", lambda pin, environ: [sys.executable, "-c", "import time; time.sleep(60)"])
    assert install.has_no_connection(install.run_pip("peft==0.13.2"))


# --- what the tab is told ---------------------------------------------------------------------------------------------


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The packages that the check sees; to be changed by the test."""
    packages = {
        "torch": "2.1.2+cu121",
        "transformers": "4.30.2",
        "numpy": "1.26.2",
        "huggingface-hub": "0.36.2",
        **{add_on.name: add_on.version for add_on in HOST},
    }
    monkeypatch.setattr(requirements, "installed_version", lambda name, module=None: packages.get(name))
    return packages


def test_the_pins_are_no_problem(installed: dict[str, str]) -> None:
    assert requirements.problems() == []


@pytest.mark.parametrize("name", [add_on.name for add_on in HOST])
def test_a_missing_library_is_named_with_its_use_and_the_command(installed: dict[str, str], name: str) -> None:
    del installed[name]
    (problem,) = requirements.problems()
    add_on = next(add_on for add_on in HOST if add_on.name == name)
    assert problem.endswith(f'run: "{sys.executable}" -m pip install --no-deps {add_on.pin}')
    assert add_on.needed_for in problem


@pytest.mark.parametrize(
    ("name", "version"), [("diffusers", "0.28.2"), ("diffusers", "0.42.1"), ("peft", "0.14.0"), ("lycoris-lora", "3.3.0")]
)
def test_a_version_outside_the_range_that_was_run_is_a_problem(installed: dict[str, str], name: str, version: str) -> None:
    installed[name] = version
    (problem,) = requirements.problems()
    assert problem.startswith(f"{name} {version} is installed")


@pytest.mark.parametrize(
    ("name", "version"), [("diffusers", "0.29.2"), ("diffusers", "0.35.2"), ("peft", "0.11.1"), ("lycoris-lora", "4.0.0")]
)
def test_another_version_within_the_range_is_no_problem(installed: dict[str, str], name: str, version: str) -> None:
    installed[name] = version
    assert requirements.problems() == []


@pytest.mark.parametrize(("name", "version"), [("torch", "2.0.1"), ("torch", "2.14.0"), ("transformers", "4.31.0"), ("numpy", "1.24.4")])
def test_a_library_of_the_webui_in_a_version_that_was_not_run_is_said(installed: dict[str, str], name: str, version: str) -> None:
    installed[name] = version
    (problem,) = requirements.problems()
    assert problem.startswith(f"{name} {version} is installed; Finetune was run with ") and "it is left as it is" in problem


@pytest.mark.parametrize(("name", "version"), [("torch", "2.7.0+cu128"), ("torch", "2.13.0+cpu"), ("numpy", "unknown")])
def test_a_library_of_the_webui_in_a_version_that_was_run_is_no_problem(installed: dict[str, str], name: str, version: str) -> None:
    installed[name] = version
    assert requirements.problems() == []


def test_a_library_of_the_webui_that_is_missing_is_said(installed: dict[str, str]) -> None:
    del installed["torch"]
    (problem,) = requirements.problems()
    assert problem.startswith("torch is missing; it is needed for all training")


@pytest.mark.parametrize("library_set", requirements.LIBRARY_SETS)
def test_the_pins_of_the_webui_lie_in_the_span_that_was_run(library_set: str) -> None:
    for python in requirements.PYTHONS_OF_SET[library_set]:
        pins = dict(pin.split("==") for pin in requirements.environment_pins(library_set, python)[0])
        for span in requirements.RUN_WITH[library_set]:
            assert requirements.release(span.oldest) <= requirements.release(pins[span.name]) <= requirements.release(span.newest)


def test_a_model_hub_client_that_is_too_old_is_a_problem(installed: dict[str, str]) -> None:
    installed["huggingface-hub"] = "0.20.3"
    (problem,) = requirements.problems()
    assert "0.23.4" in problem


def test_the_newest_transformers_asks_for_the_newest_set(installed: dict[str, str]) -> None:
    installed["transformers"] = "5.23.0"
    assert requirements.library_set_here() == "newest"


@pytest.mark.parametrize(("version", "numbers"), [("2.13.0+cpu", (2, 13, 0)), ("0.30.3", (0, 30, 3)), ("1.0rc1", (1, 0)), ("unknown", ())])
def test_the_numbers_of_a_version(version: str, numbers: tuple[int, ...]) -> None:
    assert requirements.release(version) == numbers


@pytest.mark.parametrize("library_set", requirements.LIBRARY_SETS)
def test_every_pin_lies_in_the_range_that_was_run(library_set: str) -> None:
    assert all(add_on.was_run_with(add_on.version) for add_on in requirements.ADD_ONS[library_set])


# --- the real thing ---------------------------------------------------------------------------------------------------


def real_freeze(python: Path) -> set[str]:
    return set(subprocess.run([python, "-m", "pip", "freeze", "--all"], capture_output=True, text=True, check=True).stdout.splitlines())


@pytest.mark.environment
@pytest.mark.timeout(900)
@pytest.mark.skipif(sys.version_info[:2] not in requirements.PYTHONS_OF_SET["host"], reason="the WebUI's pins need Python 3.10 or 3.11")
def test_on_the_webuis_pins_exactly_our_lines_are_added(tmp_path: Path) -> None:
    """All pins of the WebUI but torch (its size is gigabytes, and install.py never looks at it), each without dependencies."""
    folder = tmp_path / "env"
    venv.create(folder, symlinks=os.name != "nt", with_pip=True)
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    with_dependencies, _ = requirements.environment_pins("host", sys.version_info[:2])
    webui = [pin for pin in with_dependencies[1:] if not pin.startswith(("hypothesis", "import-linter", "mypy", "pytest", "ruff"))]
    subprocess.run([python, "-m", "pip", "install", "-q", "--no-deps", *webui, "setuptools==69.5.1"], check=True)
    before = real_freeze(python)
    done = subprocess.run([python, ROOT / "install.py"], capture_output=True, text=True, check=True)
    after = real_freeze(python)
    assert before - after == set()
    assert {line.lower().replace("_", "-") for line in after - before} == set(OUR_PINS)
    assert done.stderr == ""
    again = subprocess.run([python, ROOT / "install.py"], capture_output=True, text=True, check=True)
    assert (again.stdout, real_freeze(python)) == ("", after)
