"""What a run ran on: versions and hardware, kept apart from its results."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from resource import RUSAGE_SELF, getrusage
from typing import Any

PACKAGES = (
    "kanbatsu",
    "jax",
    "jaxlib",
    "equinox",
    "optax",
    "numpy",
    "gymnasium",
    "dm_control",
    "mujoco",
)


def machine_facts() -> dict[str, Any]:
    """Return versions, platform, processor, cores that this process may use, and the device.

    Example:
        >>> sorted(machine_facts())
        ['cores', 'cpu', 'device', 'platform', 'python', 'versions']
    """
    import jax

    return {
        "versions": versions(PACKAGES),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": cpu_name(),
        "cores": len(usable_cores()),
        "device": str(jax.devices()[0].device_kind),
    }


def versions(packages: tuple[str, ...]) -> dict[str, str]:
    """Return the installed version of each package that is installed."""
    found = {}
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def commit() -> str | None:
    """Return the commit that kanbatsu was built or is run from; None where it is not known.

    A build writes it beside this file (CMakeLists.txt); a checkout knows its own, and says whether
    files differ from it.
    """
    package = Path(__file__).parent
    if (package.parent / ".git").exists():
        git = ["git", "-C", str(package.parent)]
        try:
            head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, check=True)
            changed = subprocess.run([*git, "diff", "--quiet", "HEAD"], capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            return None
        return head.stdout.decode().strip() + (", changed" if changed.returncode else "")
    built = package / "commit.txt"
    return built.read_text().strip() if built.exists() else None


def cpu_name() -> str:
    """Return the processor's name, as the system tells it."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def peak_resident_bytes() -> int:
    """Return the most memory that this process has held.

    Linux's own count begins with the program; `getrusage` would begin with its parent's peak.

    Example:
        >>> peak_resident_bytes() > 1 << 20
        True
    """
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
    return 1024 * getrusage(RUSAGE_SELF).ru_maxrss


def usable_cores() -> list[int]:
    """Return the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))
