"""Exit codes of every `jackline` command, named once.

Source: docs/reference/cli.rst; the numbers above 63 are those of BSD's sysexits.
"""

from __future__ import annotations

OK = 0
FAILED = 1
# The command line itself is wrong; argparse uses the same number.
USAGE = 2
PARTIAL = 3
NOT_FOUND = 4
# A policy, a limit or the kill switch said no.
REFUSED = 5
# No agent answers on the control socket, or the server cannot be reached.
UNAVAILABLE = 69
# Somebody else holds the state directory: another agent is running.
TRY_LATER = 75
NOT_PERMITTED = 77
CONFIGURATION = 78
