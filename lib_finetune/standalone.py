"""The tab and the API without the WebUI, on one port of this machine."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from lib_finetune.access import Guard
from lib_finetune.errors import DependencyError, HostError

if TYPE_CHECKING:
    from lib_finetune.app.services import Services

_ADDRESS = "127.0.0.1"


def application(services: Services, missing: Callable[[], list[str]]) -> Any:
    """The API with its ``/openapi.json``, and the tab as the page.

    Raises:
        DependencyError: gradio of the WebUI's version is not there.
    """
    try:
        from lib_finetune.api import application as api
        from lib_finetune.ui import page
    except ImportError as error:
        python = f"{sys.version_info.major}.{sys.version_info.minor}"
        message = f"The page needs gradio 3.41.2, which comes with the WebUI's libraries on Python 3.10 and 3.11; this is Python {python}. "
        message += "Make such an environment with `python3.11 quickstart.py test`, and use its Python."
        raise DependencyError(message) from error
    return page.mounted(api.application(lambda: services, Guard()), lambda: services, missing)


def serve(services: Services, missing: Callable[[], list[str]], port: int, say: Callable[[str], None]) -> None:
    """Serve until the program is ended.

    Raises:
        DependencyError: see `application`.
        HostError: the port is taken.
    """
    app = application(services, missing)
    import uvicorn

    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_ADDRESS, port))
        except OSError as error:
            raise HostError(f"Port {port} cannot be used: {error.strerror}. Choose another one with --port.") from error
    say(f"Finetune is ready: http://{_ADDRESS}:{port}")
    uvicorn.run(app, host=_ADDRESS, port=port, log_level="warning")
