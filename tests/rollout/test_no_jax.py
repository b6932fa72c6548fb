"""A deployed controller has numpy and nothing else."""

import subprocess
import sys

MISSING = ["jax", "jaxlib", "jaxtyping", "equinox", "optax", "scipy", "matplotlib", "rich", "tyro"]


def test_the_control_loop_and_its_worker_run_without_jax():
    program = (
        f"import sys; sys.modules |= dict.fromkeys({MISSING})\n"
        "import kanbatsu.rollout, kanbatsu.rollout.policy.worker, kanbatsu.rollout.template\n"
        "from kanbatsu.deploy import load\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
