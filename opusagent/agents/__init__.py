"""Who answers the telephone: one TOML file per agent."""

from opusagent.agents.directory import DEFAULT, AgentDirectory
from opusagent.agents.files import load_agent
from opusagent.agents.folder import AgentFolder

__all__ = ["DEFAULT", "AgentDirectory", "AgentFolder", "load_agent"]
