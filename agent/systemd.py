"""The systemd unit of the agent, as text.

Pure. `packaging/systemd/*.service` are what it gives for an installation under /opt/jackline, and a
test keeps them equal; `jackline service install` writes it for the program that runs.
Source: systemd.exec(5), systemd.service(5), systemd.kill(5).
"""

from __future__ import annotations

from dataclasses import dataclass

UNIT = "jackline.service"

_HEAD = """\
# Jackline's agent. {what}
#
# `systemctl stop` and `restart` end the agent alone: shells and running commands stay, each for as
# long as its lease lasts, and the next agent takes them over. To end everything, jobs included:
# `jackline stop`.
[Unit]
Description=Jackline endpoint agent
Documentation=man:systemd.service(5) file:/usr/share/doc/jackline
Wants=network-online.target
After=network-online.target nss-user-lookup.target
# Try on for ever: a machine that is only reached through this agent must come back by itself.
StartLimitIntervalSec=0

[Service]
Type=exec
ExecStart={command}
{user}\
# Only the agent's own process: its jobs outlive it.
KillMode=process
# The agent makes a cgroup for each job below its own.
Delegate=yes
TimeoutStopSec=15
# 0 is `jackline stop`; 75: another agent runs; 78: the configuration is wrong, mend it, then start.
Restart=on-failure
RestartSec=2
RestartPreventExitStatus=75 78
# Bounded by each job's own cgroup instead.
TasksMax=infinity
OOMPolicy=continue
OOMScoreAdjust=-500

ConfigurationDirectory=jackline
StateDirectory=jackline
StateDirectoryMode=0700
LogsDirectory=jackline
LogsDirectoryMode=0700
RuntimeDirectory=jackline
RuntimeDirectoryMode=0700
# The sockets of jobs on lease are in it.
RuntimeDirectoryPreserve=yes
Environment=JACKLINE_CONFIG_DIR=/etc/jackline
Environment=JACKLINE_STATE_DIR=/var/lib/jackline
Environment=JACKLINE_RUN_DIR=/run/jackline
Environment=JACKLINE_LOG_DIR=/var/log/jackline
WorkingDirectory=/var/lib/jackline
EnvironmentFile=-/etc/default/jackline
"""

# Whatever is set here, every shell and command inherits. An operator's root shell must be able to
# do what root can: so nothing that takes away rights, privileges by set-user-id or parts of the
# file system.
_FULL = """
KeyringMode=private
"""

_STRICT = """
# A reporter runs no shell and no command of anybody: everything that it does not need is gone, save
# MemoryDenyWriteExecute, which Python's ctypes may not survive.
NoNewPrivileges=yes
CapabilityBoundingSet=
AmbientCapabilities=
ProtectSystem=strict
ProtectHome=read-only
PrivateTmp=yes
PrivateDevices=yes
ProtectClock=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
LockPersonality=yes
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
RemoveIPC=yes
KeyringMode=private
UMask=0077
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
# What its workers need to give up the rest by themselves.
SystemCallFilter=capset landlock_add_rule landlock_create_ruleset landlock_restrict_self seccomp
SystemCallFilter=prlimit64 setrlimit sched_setaffinity setpriority
SystemCallErrorNumber=EPERM
"""

_TAIL = """
[Install]
WantedBy=multi-user.target
"""


@dataclass(frozen=True)
class Service:
    """What differs between two units.

    `command` is the whole command line; `user` None is root; `is_strict` is for a machine whose
    policy's profile is `reporter`.
    """

    command: str
    user: str | None = None
    is_strict: bool = False


def unit(service: Service) -> str:
    """Return the text of jackline.service."""
    strict = "For a machine that only reports (policy profile `reporter`)."
    full = "For a machine on which operators work (policy profile `full` or `operator`)."
    user = f"User={service.user}\nGroup={service.user}\n" if service.user else ""
    head = _HEAD.format(
        what=strict if service.is_strict else full, command=service.command, user=user
    )
    return head + (_STRICT if service.is_strict else _FULL) + _TAIL
