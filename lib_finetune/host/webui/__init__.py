"""The door to the WebUI 1.10.1."""
