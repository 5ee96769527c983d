"""The host without a WebUI."""
