"""Access by the WebUI's flags: accounts, the login of its page, and folders while other machines can reach it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lib_finetune.access import Folders, Guard, accounts
from lib_finetune.host.webui.modules import webui


def folders() -> Folders:
    """Any folder while only this machine can ask (no --listen, --share, --ngrok, --server-name).

    Otherwise only the folder of dropped images and those of --gradio-allowed-path.
    """
    flags = webui("shared_cmd_options").cmd_opts
    if not flags.webui_is_non_local:
        return Folders()
    ours = Path(webui("paths").data_path) / ".finetune" / "datasets"
    allowed = (ours, *(Path(path) for path in flags.gradio_allowed_path or ()))
    return Folders(allowed, "Start the WebUI with --gradio-allowed-path and that folder, or drop the images into the tab.")


def guard(app: Any) -> Guard:
    """The login that --api-auth and --gradio-auth demand for the WebUI's own routes. The WebUI does not apply it to routes of extensions.

    Args:
        app: gradio's application; its sessions are looked up there. Without a page (--nowebui) the login's accounts count.
    """
    flags = webui("shared_cmd_options").cmd_opts
    login = dict(webui("initialize_util").get_gradio_auth_creds())
    known = accounts((flags.api_auth or "").split(",")) | login

    def signed_in(cookies: Mapping[str, str]) -> bool:
        token = cookies.get("access-token") or cookies.get("access-token-unsecure")
        return token is not None and getattr(app, "tokens", {}).get(token) is not None

    return Guard(known, bool(login), signed_in)
