"""Prunes the models of an rsl_rl runner once, before it learns."""

from __future__ import annotations

from typing import Any, TypeVar, Unpack

from torch import nn

from kanbatsu.integrations.networks import Choices, Networks

PARTS = {"actor": "actor", "critic": "critic", "student": "actor"}
"""Models of rsl_rl's algorithms that are pruned, and the part that each belongs to."""
Runner = TypeVar("Runner")


def prune_runner(
    runner: Runner,
    actor: float | None = None,
    critic: float | None = None,
    **choices: Unpack[Choices],
) -> Runner:
    """Remove a share of the weights of an rsl_rl runner's models, once, at random, in place.

    Call it when the runner was built, before `runner.learn`. Its optimizer stays valid.
    `runner.save` writes the masks; `runner.load` takes them into a runner that is pruned in the
    same layers, with whatever seed. `export_policy_to_jit` writes the pruned policy.

    Args:
        runner: `rsl_rl.runners.OnPolicyRunner` (PPO) or `DistillationRunner`.
        actor: share of the actor's weights to remove, in [0, 1), 0.8 by default; 0 leaves it
            dense. In a distillation it is the student's, and the teacher stays dense.
        critic: the same for the critic, 0.8 by default. Convolutions that actor and critic share
            belong to the actor; recurrent layers stay dense.
        **choices: `seed`, `distribution`, `pattern`, `group_size`, `include`, `exclude` and
            `compute`, as for `kanbatsu.torch.prune`. Paths are such as `actor.actor.mlp.0`.

    Returns:
        The same runner.

    Raises:
        ValueError: for another object, a sparsity outside [0, 1) or for a part that the runner does
            not have, a runner that is pruned or has learned, or whatever `kanbatsu.torch.prune`
            refuses. The runner is then as it was.

    Example:
        >>> from rsl_rl.runners import OnPolicyRunner  # doctest: +SKIP
        >>> runner = OnPolicyRunner(env, train_cfg, log_dir=None, device="cpu")  # doctest: +SKIP
        >>> prune_runner(runner, actor=0.8, critic=0.9)  # doctest: +SKIP
        >>> runner.learn(1_000)  # doctest: +SKIP
    """
    algorithm: Any = getattr(runner, "alg", None)
    parts: dict[str, dict[str, nn.Module]] = {}
    for name, part in PARTS.items():
        # rsl_rl keeps the module itself there, where the public name may be a compiled one.
        model = getattr(algorithm, f"_raw_{name}", getattr(algorithm, name, None))
        if isinstance(model, nn.Module):
            parts.setdefault(part, {})[name] = model
    if not parts:
        raise ValueError(
            f"this {type(runner).__name__} is no runner of rsl_rl 4 or later, with models such as "
            "runner.alg.actor. A model alone, such as runner.alg.policy of older ones, goes to "
            "kanbatsu.torch.prune"
        )
    networks = Networks(f"this {type(runner).__name__}", parts, {}, (algorithm.optimizer,))
    networks.prune({"actor": actor, "critic": critic}, **choices)
    return runner
