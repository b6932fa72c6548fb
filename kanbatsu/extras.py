"""Which extra brings a library that is missing, said where a user meets it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

EXTRAS: Mapping[str, str] = {
    **dict.fromkeys(("equinox", "gymnasium", "jax", "jaxlib", "optax"), "jax"),
    "brax": "brax",
    **dict.fromkeys(("dm_control", "dm_env"), "dmc"),
    "flax": "flax",
    "gymnax": "gymnax",
    "huggingface_hub": "hub",
    "imageio_ffmpeg": "video",
    "mujoco": "mujoco",
    "mujoco_playground": "playground",
    "onnx": "onnx",
    "prometheus_client": "rollout",
    "ray": "ray",
    "river": "rollout",
    "sbx": "sbx",
    "stable_baselines3": "sb3",
    "submitit": "slurm",
    "tensorboard": "tensorboard",
    "torch": "torch",
    "wandb": "wandb",
}
"""The extra of each library that kanbatsu imports and does not depend on, by the library's name."""


class MissingLibrary(ModuleNotFoundError):
    """A library that an extra of kanbatsu brings, and that is not installed."""


@contextmanager
def needed_by(what: str) -> Iterator[None]:
    """Name the extra to install, where something imports a library that is not there.

    Args:
        what: what the user asked for.

    Raises:
        MissingLibrary: for a missing library of an extra, with what to install; any other one
            passes as it is.

    Example:
        >>> with needed_by("kanbatsu.prune"):
        ...     raise ModuleNotFoundError("No module named 'equinox'", name="equinox")
        Traceback (most recent call last):
        ...
        kanbatsu.extras.MissingLibrary: kanbatsu.prune needs equinox: pip install 'kanbatsu[jax]'
    """
    try:
        yield
    except ModuleNotFoundError as error:
        library = (error.name or "").partition(".")[0]
        if library not in EXTRAS:
            raise
        raise MissingLibrary(
            f"{what} needs {library}: pip install 'kanbatsu[{EXTRAS[library]}]'", name=error.name
        ) from error
