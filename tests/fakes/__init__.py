"""Stand-ins: a tiny model with SD1.5's names, a host on it, and images."""
