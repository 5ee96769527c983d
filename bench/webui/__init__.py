"""Drives the extension in a real WebUI, with a real browser where there is one."""
