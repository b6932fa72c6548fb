"""What works on this machine, as facts: versions, devices, cores, environments, matching pairs."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from kanbatsu.engine.worker import shares
from kanbatsu.machine import cpu_name, usable_cores, versions

NEEDED = (
    "kanbatsu",
    "jaxtyping",
    "numpy",
    "scipy",
    "safetensors",
    "tyro",
    "rich",
    "matplotlib",
    "jinja2",
)
"""Packages without which nothing works."""

WITH_JAX = ("jax", "jaxlib", "equinox", "optax", "gymnasium")
"""Packages that pruning Equinox models and training kanbatsu's own agents need, all or none."""

OPTIONAL = {
    "torch": "for kanbatsu.torch",
    "stable_baselines3": "for kanbatsu.integrations.sb3",
    "onnx": "for policy.onnx",
}
"""Packages that parts of kanbatsu work with, and which."""

PAIR = {"dm_control": "1.0.43", "mujoco": "3.10.0"}
"""Known to work together; each of the two works with one version of the other only."""

SETTINGS = ("JAX_PLATFORMS", "XLA_FLAGS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MUJOCO_GL")
"""Variables that change how fast a run is, or whether it starts."""

TASKS = {"gym/Pendulum-v1": True, "dmc/cartpole-balance": False}
"""Environments to try, and whether the extra `jax` brings what they need."""

LOADING_SECONDS = 120.0
"""Seconds that an environment may take to load."""


@dataclass(frozen=True)
class Fact:
    """One thing that was looked at."""

    section: str
    name: str
    value: str
    state: Literal["good", "absent", "broken"] = "good"
    """Absent is not broken: an extra that is not installed."""
    advice: str = ""
    """Advice on what to do about it."""


def examine() -> list[Fact]:
    """Examine packages, machine, kernels and environments, which takes a few seconds.

    Returns:
        The facts, in the order in which they are worth reading.
    """
    installed = versions((*NEEDED, *WITH_JAX, *OPTIONAL, *PAIR))
    return [
        *package_facts(installed),
        pair_fact(installed),
        *machine_facts(),
        *kernel_facts(),
        *(environment_fact(task, always and "jax" in installed) for task, always in TASKS.items()),
        renderer_fact(),
    ]


def healthy(facts: Iterable[Fact]) -> bool:
    """Return whether nothing is broken."""
    return all(fact.state != "broken" for fact in facts)


def package_facts(installed: Mapping[str, str]) -> list[Fact]:
    """Say which version of each package there is, needed or optional.

    Args:
        installed: versions by package.

    Example:
        >>> [fact.name for fact in package_facts({"jax": "0.10.2"}) if fact.state == "good"]
        ['python', 'jax']
    """
    facts = [Fact("versions", "python", platform.python_version())]
    for name in NEEDED:
        if name in installed:
            facts.append(Fact("versions", name, installed[name]))
        else:
            advice = "pip install kanbatsu brings everything that is needed"
            facts.append(Fact("versions", name, "not installed", "broken", advice))
    has_jax = "jax" in installed
    for name in WITH_JAX:
        if name in installed:
            facts.append(Fact("versions", name, installed[name]))
            continue
        advice = "for Equinox models and kanbatsu's own agents: pip install 'kanbatsu[jax]'"
        lacking: Literal["absent", "broken"] = "broken" if has_jax else "absent"
        facts.append(Fact("versions", name, "not installed", lacking, advice))
    for name, use in OPTIONAL.items():
        state: Literal["good", "absent"] = "good" if name in installed else "absent"
        facts.append(Fact("versions", name, installed.get(name, f"not installed ({use})"), state))
    return facts


def pair_fact(installed: Mapping[str, str]) -> Fact:
    """Say whether dm_control and mujoco fit each other.

    Args:
        installed: versions by package.

    Example:
        >>> pair_fact({"dm_control": "1.0.43", "mujoco": "3.10.0"}).state
        'good'
        >>> pair_fact({"dm_control": "1.0.43", "mujoco": "4.0.0"}).state
        'broken'
        >>> pair_fact({}).state
        'absent'
    """
    found = {name: installed.get(name) for name in PAIR}
    value = ", ".join(f"{name} {version or 'not installed'}" for name, version in found.items())
    wanted = " and ".join(f"{name} {version}" for name, version in PAIR.items())
    install = "pip install 'kanbatsu[dmc]' installs the pair that fits"
    if not any(found.values()):
        return Fact("pairs", "dmc/ tasks", value, "absent", f"for dmc/ tasks: {install}")
    if found == PAIR:
        return Fact("pairs", "dmc/ tasks", value)
    if found["dm_control"] is None:  # mujoco alone serves Gymnasium's tasks
        return Fact("pairs", "dmc/ tasks", value, "absent", f"for dmc/ tasks: {install}")
    advice = (
        f"dm_control works only beside one version of mujoco; {wanted} are known to fit. An "
        f"install without pinned versions takes mujoco 4, beside which dm_control crashes: "
        f"{install}"
    )
    return Fact("pairs", "dmc/ tasks", value, "broken", advice)


def machine_facts() -> list[Fact]:
    """Say what runs would run on."""
    cores = usable_cores()
    each = len(shares(cores, len(cores))[0])
    settings = [f"{name}={os.environ[name]}" for name in SETTINGS if name in os.environ]
    return [
        Fact("machine", "platform", platform.platform()),
        Fact("machine", "processor", cpu_name()),
        Fact("machine", "cores", f"{len(cores)} usable of {os.cpu_count()}"),
        Fact(
            "machine",
            "workers",
            f"{len(cores)} by default, on {each} core each (kanbatsu study --workers N)",
        ),
        Fact("machine", "settings", ", ".join(settings) or "none of " + ", ".join(SETTINGS)),
        device_fact(),
    ]


def device_fact() -> Fact:
    """Say which devices JAX finds."""
    if not versions(("jax",)):
        return Fact("machine", "devices", "JAX is not installed", "absent")
    try:
        import jax

        devices = ", ".join(f"{device.platform}: {device.device_kind}" for device in jax.devices())
    except (ImportError, RuntimeError) as error:
        advice = "set JAX_PLATFORMS=cpu, or install the jax that fits the accelerator's driver"
        return Fact("machine", "devices", str(error), "broken", advice)
    return Fact("machine", "devices", devices)


def kernel_facts() -> list[Fact]:
    """Say which sparse kernels there are."""
    from kanbatsu.kernels.shared import shared_library

    loaded = shared_library()
    if loaded is None:
        advice = "install GCC or Clang, then install kanbatsu again: it builds them"
        return [Fact("kernels", "sparse kernels", "not built", "absent", advice)]
    return [Fact("kernels", "sparse kernels", loaded.kanbatsu_isa().decode())]


def renderer_fact() -> Fact:
    """Draw some frames, in a process of its own, and say with what and how fast."""
    name = "dmc-pixels/ tasks"
    if not versions(("dm_control",)):
        advice = "for dmc-pixels/ tasks: pip install 'kanbatsu[dmc]'"
        return Fact("environments", name, "dm_control not installed", "absent", advice)
    code = "from kanbatsu.envs.rendering import measure\nprint(measure())\n"
    done = _apart(code)
    if done is None:
        return Fact("environments", name, f"drew nothing in {LOADING_SECONDS:.0f} s", "broken")
    if done.returncode == 0:
        return Fact("environments", name, done.stdout.strip().splitlines()[-1])
    last = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
    value, _, advice = last[0].rpartition("TaskError: ")[2].partition(". ")
    return Fact("environments", name, value, "absent", advice)


def environment_fact(task: str, needed: bool = True) -> Fact:
    """Load an environment and take a step, in a process of its own: a wrong simulator may crash.

    Args:
        task: name of the task.
        needed: whether its absence is a fault.
    """
    code = (
        "import sys, numpy; from kanbatsu.envs.make import make\n"
        "environment = make(sys.argv[1]); environment.reset(0)\n"
        "environment.step(numpy.zeros(environment.spec.action_dim))\n"
    )
    done = _apart(code, task)
    if done is None:
        return Fact("environments", task, f"did not load in {LOADING_SECONDS:.0f} s", "broken")
    if done.returncode == 0:
        return Fact("environments", task, "loads and steps")
    last = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
    absent = not needed and len(versions(("jax", "dm_control"))) < 2
    return Fact("environments", task, last[0], "absent" if absent else "broken")


def _apart(code: str, *arguments: str) -> subprocess.CompletedProcess[str] | None:
    """Run some code in a process of its own; None where it does not come to an end in time."""
    try:
        return subprocess.run(
            [sys.executable, "-P", "-c", code, *arguments],
            capture_output=True,
            text=True,
            timeout=LOADING_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return None
