"""Composition root in the WebUI: registers tab and routes. The WebUI may run this file again; the package stays as it is."""

import os

from modules import script_callbacks

from lib_finetune.installation import loaded_files  # found now, while the extension's folder is on the path; the rest when needed

# MKL then gives the same bits in every run on the CPU, which "the same seed gives the same file" needs; other machines ignore it.
os.environ.setdefault("MKL_CBWR", "AUTO")


loaded_files.remember()


def _services():
    from lib_finetune.app.services import services
    from lib_finetune.host.webui.access import folders
    from lib_finetune.host.webui.host import WebuiHost

    return services("webui", WebuiHost, folders, loaded_files.outdated)


def _tab():
    from lib_finetune.host.webui.other_hosts import refusal

    if reason := refusal():
        from lib_finetune.ui.sentence import sentence

        return [(sentence(reason), "Finetune", "finetune")]
    from lib_finetune.installation.requirements import problems
    from lib_finetune.ui.tab import ELEMENT, Tab

    return [(Tab(_services, lambda: [*filter(None, [loaded_files.outdated()]), *problems()], in_webui=True).build(), "Finetune", ELEMENT)]


def _routes(_page, app):
    from lib_finetune.host.webui.other_hosts import refusal

    if reason := refusal():
        from lib_finetune.api.refused import mount_refusal

        mount_refusal(app, reason)
        return
    from lib_finetune.api.application import mount
    from lib_finetune.host.webui.access import guard

    mount(app, _services, guard(app))


script_callbacks.on_ui_tabs(_tab)
script_callbacks.on_app_started(_routes)
