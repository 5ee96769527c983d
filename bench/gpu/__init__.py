"""What only a device can show, in about ten minutes: ``python -m bench gpu``."""

import os

# Before torch is imported: threads of the CPU that spin while they wait take the time from those that feed the device.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
