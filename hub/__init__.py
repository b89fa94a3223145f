"""The control plane: beside the agent, importing only `wire`."""
