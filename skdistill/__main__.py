"""``python -m skdistill``."""

import sys

from skdistill.cli import main

sys.exit(main())
