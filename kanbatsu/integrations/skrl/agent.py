"""Prunes the models of a skrl agent once, before it learns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar, Unpack

from torch import nn
from torch.optim import Optimizer

from kanbatsu.integrations.networks import Choices, Networks

PARTS = {
    "policy": "actor",
    "value": "critic",
    "critic": "critic",
    "critic_1": "critic",
    "critic_2": "critic",
    "q_network": "critic",
}
"""Keys of `agent.models` that are pruned, and the part that each belongs to. What follows one is
called `target_` and its key; others, such as AMP's discriminator, stay dense."""
Agent = TypeVar("Agent")


def prune_agent(
    agent: Agent,
    actor: float | None = None,
    critic: float | None = None,
    **choices: Unpack[Choices],
) -> Agent:
    """Remove a share of the weights of a skrl agent's models, once, at random, in place.

    Call it when the agent was built, before a trainer runs it. Target models get the masks of what
    they follow; optimizers stay valid. `agent.save` writes the masks. `agent.load` takes them into
    an agent that is pruned in the same layers, with whatever seed.

    Args:
        agent: of `skrl.agents.torch`: SAC, TD3, DDPG, PPO, A2C, TRPO, RPO, AMP, DQN, DDQN or CEM.
        actor: share of the policy's weights to remove, in [0, 1), 0.8 by default; 0 leaves it
            dense. DQN and DDQN have none.
        critic: the same for the value model, all critics together, or the Q-network, 0.8 by
            default. Where policy and value are one model, `actor` is the share of it.
        **choices: `seed`, `distribution`, `pattern`, `group_size`, `include`, `exclude` and
            `compute`, as for `kanbatsu.torch.prune`. Paths begin with the part and skrl's name of
            the model, such as `critic.critic_1.*`.

    Returns:
        The same agent.

    Raises:
        ValueError: for another object, a sparsity outside [0, 1) or for a part that the agent does
            not have, an agent that is pruned or has learned, or whatever `kanbatsu.torch.prune`
            refuses. The agent is then as it was.

    Example:
        >>> from skrl.agents.torch.sac import SAC  # doctest: +SKIP
        >>> agent = SAC(models=models, memory=memory, cfg=cfg)  # doctest: +SKIP
        >>> prune_agent(agent, actor=0.8, critic=0.9)  # doctest: +SKIP
    """
    owner = f"this {type(agent).__name__}"
    models = getattr(agent, "models", None)
    modules: Any = getattr(agent, "checkpoint_modules", None)
    if not isinstance(models, Mapping) or not isinstance(modules, Mapping):
        raise ValueError(
            f"{owner} is no agent of skrl: give what skrl.agents.torch has, such as SAC, once it "
            "is built. A model alone goes to kanbatsu.torch.prune"
        )
    parts: dict[str, dict[str, nn.Module]] = {}
    for name, model in models.items():
        if isinstance(model, Mapping):
            raise ValueError(
                f"{owner} has several agents, {', '.join(map(repr, models))}: give the models of "
                "each to kanbatsu.torch.prune, before the agents are built"
            )
        is_shared = name == "value" and model is models.get("policy")
        if name in PARTS and model is not None and not is_shared:
            parts.setdefault(PARTS[name], {})[name] = model
    if not parts:
        raise ValueError(f"{owner} has no models to prune, only {', '.join(models) or 'none'}")
    if critic and models.get("value") is not None and models["value"] is models.get("policy"):
        raise ValueError(
            f"policy and value of {owner} are one model, which has one sparsity: give it as actor, "
            f"and leave critic={critic} out"
        )
    targets = {
        f"{part}.{name}": models[f"target_{name}"]
        for part, named in parts.items()
        for name in named
        if models.get(f"target_{name}") is not None
    }
    optimizers = tuple(x for x in modules.values() if isinstance(x, Optimizer))
    Networks(owner, parts, targets, optimizers).prune({"actor": actor, "critic": critic}, **choices)
    return agent
