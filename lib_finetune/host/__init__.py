"""The hosts. Only files of this room know the WebUI."""
