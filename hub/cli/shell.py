"""Open a shell on an agent, in this terminal; it survives a restart of the hub.

Rules: raw, with the terminal's size; `~.` ends it, `~d` leaves it running. The exit code is the
remote shell's; 128 and the signal's number where one ended it.
Source: docs/howto/shells.rst.
"""

from __future__ import annotations

import argparse
import signal
from typing import Any

from hub.cli import exits, machines, output
from hub.cli.client import Client, reporting, segment
from hub.cli.escapes import HELP, Command, Escapes
from hub.cli.remote_shell import RemoteShell
from hub.cli.terminal import END_OF_INPUT, Terminal
from hub.errors import CliError

TURN_S = 1.0
_REFUSED = frozenset({"disabled", "policy_denied", "busy", "rate_limited"})
_LOST = "the connection is lost; trying again (~. leaves)"


@reporting
def run(argv: list[str]) -> int:
    """Run `jackline shell`."""
    options = _options(argv)
    client = Client.from_login()
    terminal = Terminal()
    shell = RemoteShell(client, terminal.wake)
    if options.attach or options.observe:
        shell.attach(options.attach or options.observe, read_only=bool(options.observe))
    elif options.agent is None:
        raise CliError("say which agent, or --attach SESSION", exits.USAGE)
    else:
        asset_id = machines.find(client, options.agent)
        shell.open(asset_id, *terminal.size(), options.purpose)
    with terminal.taken():
        return Turns(client, terminal, shell, is_writer=not options.observe).run()


def _options(argv: list[str]) -> argparse.Namespace:
    parser = output.parser("shell", "Open a shell on an agent, in this terminal.")
    parser.add_argument("agent", nargs="?", metavar="AGENT", help="its name or id")
    parser.add_argument("--attach", metavar="SESSION", help="go on with a session that runs")
    parser.add_argument("--observe", metavar="SESSION", help="look on, and type nothing")
    parser.add_argument("--purpose", default="", metavar="TEXT", help="what it is for")
    return parser.parse_args(argv)


class Turns:
    """Keys one way, output the other, until the session is over."""

    def __init__(
        self, client: Client, terminal: Terminal, shell: RemoteShell, *, is_writer: bool
    ) -> None:
        self._client = client
        self._terminal = terminal
        self._shell = shell
        self._escapes = Escapes()
        self._is_writer = is_writer
        self._code: int | None = None

    def run(self) -> int:
        """Take turns; return the exit code."""
        if self._terminal.is_interactive:
            self._terminal.tell("recorded at the hub; ~? for help")
        if self._is_writer:
            self._shell.resize(*self._terminal.size())
        while self._code is None:
            typed = self._terminal.wait(TURN_S)
            if self._terminal.is_at_end and not typed and not self._shell.news:
                typed = END_OF_INPUT  # whoever reads now may not have read the one before
            self._take_news()
            self._take_signals()
            if typed and self._code is None:
                self._take_keys(typed)
            self._shell.shown(at_once=not typed and not self._shell.news)
        self._shell.hang_up()
        return self._code

    def _take_news(self) -> None:
        while self._shell.news and self._code is None:
            event, payload = self._shell.news.popleft()
            if event == "shell_output":
                self._terminal.show(self._shell.bytes_of(payload))
                self._shell.shown()
            else:
                self._take_event(event, payload)

    def _take_event(self, event: str, payload: dict[str, Any]) -> None:
        match event:
            case "shell_gap":
                self._shell.position = payload["to"]
                self._terminal.tell(f"{payload['to'] - payload['from']} bytes were lost")
            case "shell_closed":
                self._end(payload)
            case "shell_detached":
                self._leave(f"detached: {payload['reason']}", exits.REFUSED)
            case "shell_link":
                self._shell.is_up = payload["up"]
                state = "is back" if payload["up"] else "has lost its link; the shell goes on there"
                self._terminal.tell(f"the agent {state}")
            case "lost":
                self._terminal.tell(_LOST)
            case "back":
                self._terminal.tell("connected again")
                self._terminal.has_new_size = True  # it may have changed meanwhile
            case "gone":
                self._end_unseen(payload)
            case _:  # `dropped`: the connection ends right behind it
                return

    def _take_signals(self) -> None:
        if self._terminal.has_new_size and self._is_writer and self._shell.is_up:
            self._terminal.has_new_size = False
            self._shell.resize(*self._terminal.size())
        if self._terminal.left_by is not None:
            self._leave("", 128 + self._terminal.left_by)

    def _take_keys(self, text: str) -> None:
        pieces = self._escapes.take(text) if self._terminal.is_interactive else [(text, None)]
        for data, command in pieces:
            if data and self._shell.is_up and self._is_writer:
                self._shell.type(data)
            elif data and self._terminal.is_interactive:
                self._terminal.show(b"\a")
            if command is not None:
                self._obey(command)

    def _obey(self, command: Command) -> None:
        match command:
            case Command.HELP:
                self._terminal.show(HELP)
            case Command.LEAVE:
                self._leave(f"it goes on: jackline shell --attach {self._shell.session}", exits.OK)
            case Command.END:
                if self._is_writer:
                    self._shell.close()
                self._leave("ended" if self._is_writer else "", exits.OK)

    def _leave(self, sentence: str, code: int) -> None:
        if sentence:
            self._terminal.tell(sentence)
        self._code = code

    def _end(self, ended: dict[str, Any]) -> None:
        self._code = exit_code(ended)
        reason, detail = ended["reason"], ended.get("detail")
        if reason != "exit":
            self._terminal.tell(f"the session ended: {reason}" + (f" ({detail})" if detail else ""))

    def _end_unseen(self, refused: dict[str, Any]) -> None:
        """It ended, or was taken away, while we could not look."""
        try:
            found = self._client.get(f"/api/v1/shells/{segment(self._shell.session)}")
        except CliError as error:
            self._leave(str(error), error.exit_code)
            return
        if found["state"] == "ended":
            self._end(found)
        else:
            self._leave(str(refused["detail"]), exits.REFUSED)


def exit_code(ended: dict[str, Any]) -> int:
    """Return the exit code for how a session ended."""
    if ended.get("code") is not None:
        return int(ended["code"]) & 0xFF
    if ended.get("signal") is not None:
        return 128 + _signal_number(str(ended["signal"]))
    if ended["reason"] in ("exit", "closed"):
        return exits.OK
    if ended["reason"] == "operator_lost":
        return exits.NOT_PERMITTED
    return exits.REFUSED if ended["reason"] in _REFUSED else exits.FAILED


def _signal_number(text: str) -> int:
    if text.isdigit():
        return int(text)
    found = getattr(signal, text, None)
    return int(found) if isinstance(found, signal.Signals) else 0
