"""`python -m kvllama` is the command."""

import sys

from kvllama import run

sys.exit(run(sys.argv[1:], check=False).returncode)
