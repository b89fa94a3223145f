"""The hub's own command line, `jackline hub …`, and what the operators' words share."""
