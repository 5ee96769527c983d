"""One run, from settings to a file that the host loads."""
