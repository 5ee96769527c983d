"""The hosts: the only files that know the WebUI."""
