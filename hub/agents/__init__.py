"""Machines: assets, their agents, and the live links to them."""
