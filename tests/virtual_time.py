"""The virtual-time loop of the test kit, under the name that these tests know it by."""

from opusagent.simulators.virtual_time import VirtualTimeLoop, run

__all__ = ["VirtualTimeLoop", "run"]
