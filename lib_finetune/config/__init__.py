"""The settings: one tree for the tab, the command line, the file and the API."""

from lib_finetune.config.settings import Settings

__all__ = ["Settings"]
