"""`python -m kanbatsu.cli`."""

import sys

from kanbatsu.cli import main

sys.exit(main())
