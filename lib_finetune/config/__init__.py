"""The settings: one tree for the tab, the command line, the file and the API."""
