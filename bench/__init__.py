"""Measurements and the drawn world; never imported by the extension."""
