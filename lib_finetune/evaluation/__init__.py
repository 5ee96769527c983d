"""What is measured of a training while it goes on."""
