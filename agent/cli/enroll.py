"""Make this machine known to a hub, with a one-time token or by a person's approval.

What the state directory holds is written as its owner, the configuration as who gives the command:
root enrols the machine for the account that its service runs as. Exit codes: 0 enrolled; 2 usage; 4
no such file; 5 the hub refused; 69 the hub cannot be reached; 77 the configuration cannot be
written; 78 a broken identity, which is never replaced without `--replace`, or another's directory.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any, get_args

from agent import config, configfile, dirs, exits, identity
from agent.cli import output
from agent.config import Options
from agent.dirs import Dirs
from agent.enrolment import exchange, files, machine, pending, token_files
from agent.errors import DirectoryError, EnrolmentError, IdentityError
from agent.identity import Identity
from wire import __version__, enroltoken
from wire.enrolment import (
    DeviceCodeRequest,
    DeviceCodeResponse,
    EnrollRequest,
    EnrollResponse,
    Profile,
)
from wire.errors import WireError
from workers import certificates, policy_file
from workers.errors import CertificateError
from workers.https import Access
from workers.policy import tenant_document

STDIN_BYTES = 8192


def run(argv: list[str]) -> int:
    """Carry out `jackline enroll`."""
    options = _parser().parse_args(argv)
    try:
        return _Enrolment(options, dirs.find()).run()
    except EnrolmentError as e:
        output.note(str(e))
        return e.code
    except WireError as e:
        output.note(e.detail)
        return exits.USAGE
    except CertificateError as e:
        output.note(str(e))
        return exits.FAILED
    except (IdentityError, DirectoryError) as e:
        output.note(str(e))
        return exits.CONFIGURATION


def _parser() -> argparse.ArgumentParser:
    parser = output.parser("enroll", "Make this machine known to a hub.")
    parser.add_argument("--hub", metavar="URL", help="the hub's address, unless the token has it")
    how = parser.add_mutually_exclusive_group(required=True)
    how.add_argument("--token-stdin", action="store_true", help="read the token from stdin")
    how.add_argument(
        "--token-file", type=Path, metavar="FILE", help="read it, then remove it there"
    )
    how.add_argument("--token", help="on the command line, where others can read it")
    how.add_argument("--device", action="store_true", help="show a code that a person approves")
    parser.add_argument("--profile", choices=get_args(Profile), default="reporter")
    parser.add_argument("--tenant", metavar="NAME", help="with --device; else checked")
    parser.add_argument("--config", type=Path, metavar="FILE", help="the agent's configuration")
    parser.add_argument("--ca-file", type=Path, metavar="FILE", help="the hub's CA, PEM")
    parser.add_argument("--insecure", action="store_true", help="do not check the certificate")
    parser.add_argument("--replace", action="store_true", help="even where an identity is")
    output.add_format(parser)
    return parser


class _Enrolment:
    """One run of the command."""

    def __init__(self, options: argparse.Namespace, where: Dirs) -> None:
        self._options = options
        self._where = where

    def run(self) -> int:
        self._refuse_a_second()
        token = self._token()
        config_file = self._config_file()
        files.check(config_file)
        access = self._access(token)
        key = self._key(token)
        if token is None:
            request = self._by_device(access, key)
        else:
            request = self._request(key, token=token.token)
        given = exchange.enrol(access, request, key)
        group = dirs.service_group(self._where.state)
        written = files.write(config_file, self._options.profile, group)
        self._keep(self._identity(given, key, access))
        self._scrub()
        self._tell(given, written)
        return exits.OK

    def _key(self, token: enroltoken.Carried | None) -> str:
        """Return the key that the request is signed with, in a state directory that is fit for it.

        With a token it is kept: the token may have been burnt for it before.
        """
        state, fresh = self._where.state, certificates.new_key()
        with dirs.as_owner(state):
            dirs.prepare(state)
            if token is None:
                return fresh
            return pending.key_for(state, enroltoken.digest(token.token), fresh)

    def _keep(self, made: Identity) -> None:
        with dirs.as_owner(self._where.state):
            identity.write(self._where.state, made)
            pending.forget(self._where.state)

    def _refuse_a_second(self) -> None:
        """Is there an identity? A broken one is told, and stays."""
        if self._options.replace:
            return
        with dirs.as_owner(self._where.state):
            known = identity.read(self._where.state)
        if known is not None:
            raise EnrolmentError(
                exits.REFUSED,
                f"this machine is enrolled as {known.agent_id}; `jackline unenroll` first, "
                "or --replace",
            )

    def _token(self) -> enroltoken.Carried | None:
        options = self._options
        if options.device:
            return None
        if options.token is not None:
            output.note("warning: --token: whoever lists this machine's processes can read it")
            return enroltoken.read(options.token)
        if options.token_stdin:
            return enroltoken.read(sys.stdin.read(STDIN_BYTES))
        return enroltoken.read(token_files.read(options.token_file))

    def _access(self, token: enroltoken.Carried | None) -> Access:
        carried = token.hub_url if token is not None else None
        url = self._options.hub or carried
        if url is None:
            raise EnrolmentError(exits.USAGE, "--hub is needed: the token does not name the hub")
        access = Access(
            base_url=url,
            ca_data=self._ca_data(),
            skip_verify=self._options.insecure,
            proxies=config.proxies(os.environ),
        )
        pin = token.ca_sha256 if token is not None else None
        return (
            access if pin is None or not url.startswith("https") else exchange.pinned(access, pin)
        )

    def _ca_data(self) -> str | None:
        path = self._options.ca_file
        if self._options.insecure:
            output.note("warning: --insecure: anybody on the way can take this machine over")
        if path is None:
            return None
        try:
            return str(path.read_text(encoding="ascii"))
        except (OSError, UnicodeDecodeError) as e:
            raise EnrolmentError(exits.NOT_FOUND, f"{path}: cannot be read") from e

    def _by_device(self, access: Access, key: str) -> EnrollRequest:
        facts = machine.facts()
        code = exchange.device_code(
            access,
            DeviceCodeRequest(
                client_id="agent",
                tenant=self._options.tenant,
                key_thumbprint=certificates.thumbprint(key),
                hostname=facts["hostname"],
                platform=facts["platform"],
            ),
        )
        _show_code(code, certificates.thumbprint(key))
        exchange.approval(access, code)
        return self._request(key, device_code=code.device_code)

    def _request(
        self, key: str, token: str | None = None, device_code: str | None = None
    ) -> EnrollRequest:
        facts = machine.facts()
        try:
            machine_id = machine.machine_id(self._where)
        except OSError as e:
            raise EnrolmentError(exits.FAILED, f"this machine has no id: {e.strerror}") from e
        return EnrollRequest(
            csr=certificates.request(key, facts["hostname"]),
            machine_id=machine_id,
            agent_version=__version__,
            token=token,
            device_code=device_code,
            tenant=self._options.tenant,
            profile=self._options.profile,
            **facts,
        )

    def _identity(self, given: EnrollResponse, key: str, access: Access) -> Identity:
        good = certificates.life(given.certificate, key)
        return Identity(
            agent_id=given.agent_id,
            asset_id=given.asset_id,
            hub_url=access.base_url,
            server_url=given.server_url,
            agents_url=given.agents_url,
            service_account_token=given.service_account_token,
            auth_token=given.auth_token,
            certificate=given.certificate,
            key=key,
            ca_chain=given.ca_chain,
            not_before=good.not_before,
            not_after=good.not_after,
            server_ca=access.ca_data,
            policy=_usable(given.policy),
        )

    def _scrub(self) -> None:
        path = self._options.token_file
        if path is None:
            return
        left = token_files.scrub(path, token_files.read(path))
        if left is not None:
            output.note(f"warning: {left}")

    def _config_file(self) -> Path:
        """Where the configuration is or belongs; one in the working directory is nobody's."""
        named = config.named_file(Options(config=self._options.config), os.environ)
        if named is not None:
            return named
        folder = self._where.config
        there = [folder / f"{config.FILE_NAME}{suffix}" for suffix in configfile.SUFFIXES]
        return next((path for path in there if os.path.lexists(path)), there[0])

    def _tell(self, given: EnrollResponse, written: list[Path]) -> None:
        if output.wants_json(self._options):
            output.print_json(
                {
                    "agent_id": given.agent_id,
                    "asset_id": given.asset_id,
                    "state": given.state,
                    "written": list(map(str, written)),
                }
            )
            return
        output.print_fields(
            [
                ("agent", given.agent_id),
                ("asset", given.asset_id),
                ("state", given.state),
                ("written", ", ".join(map(str, written)) or None),
            ]
        )
        if given.state == "pending":
            output.note("somebody must approve this machine at the hub before it is listened to")


def _usable(said: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return the tenant's policy where it can be understood; else the first beat brings another."""
    document = tenant_document(said)
    faults = [] if document is None else policy_file.check(document)
    for fault in faults:
        output.note(f"warning: the tenant's policy is not used: {fault}")
    return None if faults else said


def _show_code(code: DeviceCodeResponse, thumbprint: str) -> None:
    """Show code, address and QR, and what the approver should compare."""
    whole = code.verification_uri_complete or code.verification_uri
    if sys.stderr.isatty():
        import segno  # only who looks at a terminal needs it

        segno.make(whole, micro=False).terminal(out=sys.stderr, compact=True)
    output.note(f"open {code.verification_uri} and enter {code.user_code}")
    output.note(f"or open {whole}")
    output.note(f"key fingerprint: {thumbprint}")
    output.note(f"waiting for an approval, at most {output.duration(float(code.expires_in))}")
