"""What can be wrong before the first step."""
