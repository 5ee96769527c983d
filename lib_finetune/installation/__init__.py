"""Packages and environments; standard library only, for install.py and quickstart.py."""
