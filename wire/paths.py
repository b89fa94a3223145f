"""Where each call of the heartbeat link is found below the hub's base URL, and its query names.

Source: contract part 2.
"""

from __future__ import annotations

from typing import Final

ENROLL: Final = "/api/v1/agents/enroll"
RENEW: Final = "/api/v1/agents/renew"
UNENROLL: Final = "/api/v1/agents/unenroll"
HEARTBEAT: Final = "/api/v1/agents/heartbeat"
DEVICE_CODE: Final = "/api/v1/device/code"
DEVICE_TOKEN: Final = "/api/v1/device/token"
ARTIFACTS: Final = "/api/v1/artifacts"
COMMANDS: Final = "/api/v1/commands"
TIME: Final = "/api/v1/time"  # no credential needed: a clock is set before it can be proven
CA: Final = "/api/v1/ca"  # no credential needed; trusted only where its fingerprint is known

QUERY_COMMAND_ID: Final = "command_id"
QUERY_NAME: Final = "name"

JSON: Final = "application/json"
PROBLEM: Final = "application/problem+json"
FORM: Final = "application/x-www-form-urlencoded"
