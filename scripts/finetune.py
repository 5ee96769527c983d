"""Composition root in the WebUI: registers tab and routes. The WebUI may run this file again; the package stays as it is."""

import os

from modules import script_callbacks

from lib_finetune.host.webui.other_hosts import refusal  # found now, while the extension's folder is on the path; the rest when needed
from lib_finetune.installation import loaded_files

# MKL then gives the same bits in every run on the CPU, which "the same seed gives the same file" needs; other machines ignore it.
os.environ.setdefault("MKL_CBWR", "AUTO")
loaded_files.remember()


def _services():
    from lib_finetune.app.services import services
    from lib_finetune.host.webui import access, host

    return services("webui", host.WebuiHost, access.folders, loaded_files.outdated)


def _tab():
    if refusal():
        from lib_finetune.ui.sentence import tab
    else:
        from lib_finetune.ui.tab import tab
    return [(tab(refusal() or _services), "Finetune", "finetune")]


def _routes(_page, app):
    if refusal():
        from lib_finetune.api.refused import mount_refusal

        return mount_refusal(app, refusal())
    from lib_finetune.api.application import mount
    from lib_finetune.host.webui.access import guard

    return mount(app, _services, guard(app))


script_callbacks.on_ui_tabs(_tab)
script_callbacks.on_app_started(_routes)
