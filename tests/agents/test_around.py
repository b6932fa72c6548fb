"""Agents around other agents: whatever loops and probes ask an agent, its wrapper answers."""

import dataclasses

import pytest

from kanbatsu.agents import AGENTS
from kanbatsu.agents.hooked import Hooked
from kanbatsu.agents.remedied import Remedied

INSIDE = {
    "exploration",
    "learn",
    "losses",
    "remedies",
    "target_entropy",
    "training_interactions",
}
"""What only an agent itself, or the wrapper that it stands in, asks of it."""


@pytest.mark.parametrize("wrapper", [Hooked, Remedied])
@pytest.mark.parametrize("name", AGENTS)
def test_a_wrapper_answers_all_that_is_asked_of_an_agent(name: str, wrapper: type) -> None:
    agent = AGENTS[name].agent
    public = {word for word in dir(agent) if not word.startswith("_")}
    own = {field.name for field in dataclasses.fields(agent)}
    assert public - own - INSIDE <= set(dir(wrapper))
