"""Soft actor-critic in one file of PyTorch, and the line that prunes it.

06_cleanrl_style_sac.py [env steps]
"""

import copy
import itertools
import math
import sys

import gymnasium
import numpy as np
import torch
from torch import nn

import kanbatsu.torch

ENV_STEPS = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
WIDTH, BATCH, LEARNING_RATE, DISCOUNT, TAU = 256, 256, 1e-3, 0.99, 0.005
WARMUP_STEPS = min(500, ENV_STEPS // 2)  # of random actions, before learning begins


def mlp(inputs: int, *widths: int) -> list[nn.Module]:
    """Linear layers, each with a ReLU."""
    pairs = itertools.pairwise((inputs, *widths))
    return [layer for m, n in pairs for layer in (nn.Linear(m, n), nn.ReLU())]


class Actor(nn.Module):
    """A Gaussian whose samples are squashed by tanh."""

    def __init__(self, obs_dim: int, action_dim: int):
        super().__init__()
        self.trunk = nn.Sequential(*mlp(obs_dim, WIDTH, WIDTH))
        self.mean, self.log_std = (nn.Linear(WIDTH, action_dim) for _ in range(2))

    def forward(self, obs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Draw actions; return them and their log densities."""
        features = self.trunk(obs)
        mean, log_std = self.mean(features), self.log_std(features).clamp(-10.0, 2.0)
        noise = torch.randn_like(mean)
        before = mean + log_std.exp() * noise
        gaussian = -0.5 * noise**2 - log_std - 0.5 * math.log(2.0 * math.pi)
        slope = 2.0 * (math.log(2.0) - before - nn.functional.softplus(-2.0 * before))
        return before.tanh(), (gaussian - slope).sum(dim=1)

    def act(self, obs: np.ndarray) -> np.ndarray:
        """Return the greedy action of one observation."""
        with torch.no_grad():
            return self.mean(self.trunk(torch.as_tensor(obs))).tanh().numpy()


def values(critics: nn.ModuleList, obs: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
    """One row for each critic, `[critics, batch]`."""
    pairs = torch.cat([obs, action], dim=1)
    return torch.stack([critic(pairs)[:, 0] for critic in critics])


def train(sparsity: float, seed: int = 0) -> None:
    """Train on Pendulum, evaluate, print a line."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    env = gymnasium.make("Pendulum-v1")
    obs_dim, action_dim = env.observation_space.shape[0], env.action_space.shape[0]
    strength = env.action_space.high  # the agent acts in [-1, 1]
    nets = nn.ModuleDict()
    nets["actor"] = actor = Actor(obs_dim, action_dim)
    nets["critics"] = critics = nn.ModuleList(
        nn.Sequential(*mlp(obs_dim + action_dim, WIDTH, WIDTH), nn.Linear(WIDTH, 1))
        for _ in range(2)
    )

    kanbatsu.torch.prune(nets, sparsity, seed=seed)  # the line; targets are copies, so sparse too

    targets = copy.deepcopy(critics)
    log_temperature = torch.zeros((), requires_grad=True)
    of_actor, of_critics, of_temperature = (
        torch.optim.Adam(parameters, LEARNING_RATE)
        for parameters in (actor.parameters(), critics.parameters(), [log_temperature])
    )
    # Observation, action, reward and next observation; Pendulum never terminates.
    replay = np.zeros((ENV_STEPS, 2 * obs_dim + action_dim + 1), np.float32)

    obs, _ = env.reset(seed=seed)
    for step in range(ENV_STEPS):
        action = rng.uniform(-1.0, 1.0, action_dim).astype(np.float32)
        if step >= WARMUP_STEPS:
            with torch.no_grad():
                action = actor(torch.as_tensor(obs)[None])[0][0].numpy()
        next_obs, reward, _, truncated, _ = env.step(strength * action)
        replay[step] = np.concatenate([obs, action, [reward], next_obs])
        obs = env.reset()[0] if truncated else next_obs
        if step < WARMUP_STEPS:
            continue

        batch = torch.as_tensor(replay[rng.integers(step + 1, size=BATCH)])
        o, a, r, o2 = batch.split([obs_dim, action_dim, 1, obs_dim], dim=1)
        temperature = log_temperature.exp().detach()
        with torch.no_grad():
            a2, log_prob2 = actor(o2)
            value2 = values(targets, o2, a2).amin(dim=0) - temperature * log_prob2
            target = r[:, 0] + DISCOUNT * value2
        descend(of_critics, ((values(critics, o, a) - target) ** 2).mean(dim=1).sum())
        sampled, log_prob = actor(o)
        gain = values(critics, o, sampled).amin(dim=0) - temperature * log_prob
        descend(of_actor, -gain.mean())
        surplus = -log_prob.mean().detach() + action_dim  # entropy beyond its target, -|A|
        descend(of_temperature, log_temperature.exp() * surplus)
        with torch.no_grad():
            for old, new in zip(targets.parameters(), critics.parameters(), strict=True):
                old.lerp_(new, TAU)

    returns = []
    for episode in range(3):
        (obs, _), truncated, total = env.reset(seed=1000 + episode), False, 0.0
        while not truncated:
            obs, reward, _, truncated, _ = env.step(strength * actor.act(obs))
            total += float(reward)
        returns.append(total)
    kept = kanbatsu.torch.count(nets)
    print(f"sparsity {sparsity}: {kept.kept:,} of {kept.total:,} weights kept, ", end="")
    print(f"mean return {np.mean(returns):.1f}")


def descend(optimizer: torch.optim.Optimizer, loss: torch.Tensor) -> None:
    """Take one step."""
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


for sparsity in (0.0, 0.8):
    train(sparsity)
