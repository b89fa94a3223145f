"""The heartbeat: the worker that calls the hub, and the one that takes stock of the machine."""
