"""Exit codes of the hub's commands: the same numbers as the endpoint's.

Source: docs/reference/cli.rst.
"""

from __future__ import annotations

OK = 0
FAILED = 1
USAGE = 2
PARTIAL = 3
NOT_FOUND = 4
REFUSED = 5
UNAVAILABLE = 69
TRY_LATER = 75
NOT_PERMITTED = 77
CONFIGURATION = 78
EXEC_FAILED = 125
