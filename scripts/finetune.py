"""Composition root in the WebUI: registers the tab. The WebUI may run this file again; the package stays as it is."""

import os

from modules import script_callbacks

import lib_finetune  # noqa: F401  found now, while the extension's folder is on the path; its parts are imported when needed

# MKL then gives the same bits in every run on the CPU, which "the same seed gives the same file" needs; other machines ignore it.
os.environ.setdefault("MKL_CBWR", "AUTO")


def _runner():
    from lib_finetune.host.webui import WebuiHost
    from lib_finetune.jobs import runner

    return runner("webui", WebuiHost)


def _tab():
    from lib_finetune.requirements import problems
    from lib_finetune.ui.tab import ELEMENT, Tab

    return [(Tab(_runner, problems).build(), "Finetune", ELEMENT)]


script_callbacks.on_ui_tabs(_tab)
