"""A worker of the bench: `python -m kanbatsu.plasticity OUT CORES` trains what OUT misses."""

from __future__ import annotations

import os
import sys
from pathlib import Path

if __name__ == "__main__":
    out, cores = sys.argv[1:]
    if hasattr(os, "sched_setaffinity"):  # before JAX sizes its pool of threads
        os.sched_setaffinity(0, map(int, cores.split(",")))
    from kanbatsu.plasticity.carry import work

    work(Path(out))
