"""What is written at the end: files that the WebUI and others read."""
