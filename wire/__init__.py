"""The words that cross the network between an endpoint and a control plane.

`__version__` stands here because it crosses, too: as `agentVersion` when the link connects.
"""

__version__ = "0.1.0"
