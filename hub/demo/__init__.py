"""Hub and agent on this machine in one go: to look at, or to check that all of it works."""
