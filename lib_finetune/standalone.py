"""The tab and the API without the WebUI, on one port of this machine."""

from __future__ import annotations

import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lib_finetune.access import Guard
from lib_finetune.errors import DependencyError, HostError
from lib_finetune.jobs import end_signals
from lib_finetune.loopback import Loopback

if TYPE_CHECKING:
    from lib_finetune.app.services import Services

_ADDRESS = "127.0.0.1"
_TEMPORARY = "GRADIO_TEMP_DIR"


def application(services: Services, missing: Callable[[], list[str]], files: Path | None = None) -> Any:
    """The API with its ``/openapi.json``, and the tab as the page; for this machine alone.

    Args:
        files: the folder of what the page gives out, as gradio knows it.

    Raises:
        DependencyError: gradio of the WebUI's version is not there.
    """
    try:
        from lib_finetune.api import application as api
        from lib_finetune.ui import page
    except ImportError as error:
        python = f"{sys.version_info.major}.{sys.version_info.minor}"
        message = f"The page needs gradio 3.41.2, which comes with the WebUI's libraries on Python 3.10 and 3.11; this is Python {python}. "
        message += "Make such an environment with `python3.11 quickstart.py ui`, and use its Python."
        raise DependencyError(message) from error
    return Loopback(page.mounted(api.application(lambda: services, Guard()), lambda: services, missing), files)


def serve(services: Services, missing: Callable[[], list[str]], port: int, say: Callable[[str], None]) -> None:
    """Serve until the program is ended; a training that runs then saves its state first.

    Raises:
        DependencyError: see `application`.
        HostError: the port is taken.
    """
    with _own_temporary_folder() as files, end_signals.as_interrupt():
        app = application(services, missing, files)
        _refuse_taken(port)
        say(f"Finetune is ready: http://{_ADDRESS}:{port}")
        try:
            _run(app, port)
        finally:
            services.jobs.suspend(say)


def _refuse_taken(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_ADDRESS, port))
        except OSError as error:
            raise HostError(f"Port {port} cannot be used: {error.strerror}. Choose another one with --port.") from error


def _run(app: Any, port: int) -> None:
    import uvicorn

    uvicorn.run(app, host=_ADDRESS, port=port, log_level="warning", proxy_headers=False)


@contextmanager
def _own_temporary_folder() -> Iterator[Path]:
    """Where gradio puts what the page gives out: readable by nobody else, and gone afterwards."""
    before = os.environ.get(_TEMPORARY)
    folder = Path(tempfile.mkdtemp(prefix="finetune-page-")).resolve()
    os.environ[_TEMPORARY] = str(folder)
    try:
        yield folder
    finally:
        if before is None:
            del os.environ[_TEMPORARY]
        else:
            os.environ[_TEMPORARY] = before
        shutil.rmtree(folder, ignore_errors=True)
