"""The control plane: beside the agent, importing only `wire`.

One folder a family, with the same file names in each: `models` (tables), `service` (what may
happen, in plain functions over a session), `api` (routes), `namespace` (events of the live
sockets), `commands` (words of the command line). Start at `hub/app.py`.
"""
