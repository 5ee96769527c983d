"""Drives the tab without the WebUI in a real browser."""
