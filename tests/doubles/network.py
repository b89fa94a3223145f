"""A network of its own for a hub and an agent, which can swallow every packet without a word.

Rules: Linux, root; a name space, so that nothing of the machine's own network changes; a process
that sleeps holds it, and `close` ends that one.
"""

from __future__ import annotations

import subprocess
from types import TracebackType
from typing import Self

from tests.doubles.hubs import HubOptions, ScriptedHub
from tests.doubles.sandbox import need_namespaces
from tests.facilities import require

CHAIN = "add table inet jl; add chain inet jl in {{ type filter hook input priority 0; {} }}"
HOOK = "type filter hook input priority 0;"
HOLD = "ip link set lo up && echo && exec sleep 3600"


class Network:
    """See the module; `prefix` starts a program in it."""

    def __init__(self) -> None:
        need_namespaces()
        argv = [require("unshare"), "-n", "sh", "-c", HOLD]
        require("ip")
        self._holder = subprocess.Popen(argv, stdout=subprocess.PIPE)
        assert self._holder.stdout is not None
        self._holder.stdout.readline()
        self.prefix = [require("nsenter"), f"--net=/proc/{self._holder.pid}/ns/net"]

    def swallow(self, swallows: bool) -> None:
        """Drop every packet, both ways and without a reset; or let them through again."""
        rules = CHAIN.format("policy drop;" if swallows else "policy accept;")
        subprocess.run([*self.prefix, require("nft"), rules], check=True)

    def refuse(self, port: int, start: bytes) -> None:
        """Drop what is sent to a port and starts so, as a firewall does that looks inside."""
        rule = f"tcp dport {port} @ih,0,{len(start) * 8} 0x{start.hex()} drop"
        table = f"add table inet fw; add chain inet fw in {{ {HOOK} }}; add rule inet fw in {rule}"
        subprocess.run([*self.prefix, require("nft"), table], check=True)

    def allow(self) -> None:
        """Take the firewall away."""
        subprocess.run([*self.prefix, require("nft"), "delete table inet fw"], check=True)

    def close(self) -> None:
        self._holder.kill()
        self._holder.wait(10)
        assert self._holder.stdout is not None
        self._holder.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class HubInside(ScriptedHub):
    """The extended hub, in such a network."""

    def __init__(self, network: Network, options: HubOptions | None = None) -> None:
        super().__init__(options)
        self._network = network

    def argv(self) -> list[str]:
        return [*self._network.prefix, *super().argv()]
