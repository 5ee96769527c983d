"""Sets everything up and trains a first LoRA (`python quickstart.py`), shows the tab (`… ui`), or runs all tests (`… test`).

This file stays readable for any Python, however old, so that an unsupported one gets a sentence and not a syntax error.
"""

import sys

SUPPORTED = ((3, 10), (3, 13))

if not SUPPORTED[0] <= sys.version_info[:2] <= SUPPORTED[1]:
    sys.exit(
        "Finetune needs Python 3.10, 3.11, 3.12 or 3.13; this is Python %d.%d (%s).\n"
        "Install one of them and run this file with it, for example: python3.11 quickstart.py"
        % (sys.version_info[0], sys.version_info[1], sys.executable)
    )

from lib_finetune.installation.environment import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
