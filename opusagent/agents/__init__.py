"""Who answers the telephone: one TOML file per agent."""

from opusagent.agents.files import AgentDirectory, load_agent

__all__ = ["AgentDirectory", "load_agent"]
