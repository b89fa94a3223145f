"""The call filter as the kernel would run it, for every architecture it is written for."""

from __future__ import annotations

import struct
import sys

import pytest

if sys.platform == "win32":
    pytest.skip("Linux filters", allow_module_level=True)

from workers import seccomp
from workers.seccomp import ABSENT, ALLOW, REFUSE
from workers.syscall_numbers import AARCH64, ARM, LAST_KNOWN, X86_64, number

OWN_PID = 4242
OTHER_PID = 1
ARCHITECTURES = pytest.mark.parametrize("machine", [X86_64, AARCH64, ARM], ids=lambda each: each[0])


def verdict(code, nr: int, audit: int, *arguments: int) -> int:
    """Run a classic BPF program over a struct seccomp_data."""
    slots = [each & (2**64 - 1) for each in (*arguments, 0, 0, 0, 0, 0, 0)[:6]]
    data = struct.pack("<iIQ6Q", nr, audit, 0, *slots)
    accumulator, at = 0, 0
    for _ in range(len(code) + 1):
        op, if_true, if_false, k = code[at]
        at += 1
        match op:
            case 0x20:
                (accumulator,) = struct.unpack_from("<I", data, k)
            case 0x54:
                accumulator &= k
            case 0x06:
                return k
            case 0x15 | 0x25 | 0x35:
                holds = {0x15: accumulator == k, 0x25: accumulator > k, 0x35: accumulator >= k}[op]
                at += if_true if holds else if_false
            case _:
                raise AssertionError(f"an instruction the kernel may refuse: {op:#x}")
    raise AssertionError("ran past its end")


def ask(machine, call: str, *arguments: int, network: bool = False, landlock: int = 7) -> int:
    nr = number(call, machine)
    assert nr is not None
    code = seccomp.program(machine, OWN_PID, network, landlock)
    return verdict(code, nr, machine.audit, *arguments)


@ARCHITECTURES
@pytest.mark.parametrize("network", [False, True])
def test_program_is_one_that_the_kernel_accepts(machine, network):
    code = seccomp.program(machine, OWN_PID, network, 0)
    assert len(code) <= 4096
    for at, (op, if_true, if_false, _) in enumerate(code):
        if op in (0x15, 0x25, 0x35):
            assert max(if_true, if_false) <= 255
            assert at + 1 + max(if_true, if_false) < len(code)
    assert code[-1][0] == 0x06


@ARCHITECTURES
def test_every_refused_call_of_the_machine_is_refused_whatever_its_arguments(machine):
    code = seccomp.program(machine, OWN_PID, True, 7)
    for call in seccomp.REFUSED:
        nr = number(call, machine)
        if nr is not None:
            assert verdict(code, nr, machine.audit, OWN_PID, 0, 0) == REFUSE, call


@ARCHITECTURES
def test_calls_that_no_rule_names_are_allowed(machine):
    code = seccomp.program(machine, OWN_PID, False, 7)
    named = {number(rule.call, machine) for rule in seccomp.rules(OWN_PID, False, 7)}
    for nr in range(LAST_KNOWN + 1):
        if nr not in named:
            assert verdict(code, nr, machine.audit) == ALLOW, nr


@ARCHITECTURES
def test_another_machines_calls_and_unknown_ones_do_not_pass(machine):
    code = seccomp.program(machine, OWN_PID, True, 7)
    assert verdict(code, 0, 0x40000003) == REFUSE  # i386 numbers, by int 0x80
    assert verdict(code, LAST_KNOWN + 1, machine.audit) == ABSENT
    assert verdict(code, 0x7FFFFFFF, machine.audit) in (ABSENT, REFUSE)


def test_x32_calls_do_not_pass():
    code = seccomp.program(X86_64, OWN_PID, True, 7)
    assert verdict(code, 0x40000000 | 1, X86_64.audit) == REFUSE


def test_arms_private_calls_pass():
    code = seccomp.program(ARM, OWN_PID, True, 7)
    cache_flush, set_tls = 0xF0002, 0xF0005
    assert verdict(code, cache_flush, ARM.audit) == ALLOW
    assert verdict(code, set_tls, ARM.audit) == ALLOW
    assert verdict(code, 0xF0007, ARM.audit) == ABSENT


@ARCHITECTURES
@pytest.mark.parametrize("call", ["kill", "tkill", "tgkill", "rt_sigqueueinfo"])
def test_only_the_process_itself_may_be_signalled(machine, call):
    assert ask(machine, call, OWN_PID, 10, 15) == ALLOW
    assert ask(machine, call, OTHER_PID, 10, 15) == REFUSE
    everyone, own_group, another_group = -1, 0, -OWN_PID
    for target in (everyone, own_group, another_group):
        assert ask(machine, call, target, 10, 15) == REFUSE


@ARCHITECTURES
def test_limits_of_others_are_out_of_reach(machine):
    assert ask(machine, "prlimit64", 0, 7) == ALLOW
    assert ask(machine, "prlimit64", OWN_PID, 7) == ALLOW
    assert ask(machine, "prlimit64", OTHER_PID, 7) == REFUSE


AF_UNIX, AF_INET, AF_INET6, AF_NETLINK, AF_PACKET, AF_ALG, AF_VSOCK = 1, 2, 10, 16, 17, 38, 40
STREAM, DGRAM, RAW, CLOEXEC = 1, 2, 3, 0o2000000


@ARCHITECTURES
@pytest.mark.parametrize(
    "arguments, without, with_network",
    [
        ((AF_INET, STREAM | CLOEXEC, 6), REFUSE, ALLOW),
        ((AF_INET6, DGRAM, 0), REFUSE, ALLOW),
        ((AF_INET, RAW, 1), REFUSE, REFUSE),
        ((AF_INET6, RAW | CLOEXEC, 58), REFUSE, REFUSE),
        ((AF_PACKET, DGRAM, 0x300), REFUSE, REFUSE),
        ((AF_UNIX, STREAM, 0), REFUSE, REFUSE),
        ((AF_UNIX, DGRAM, 0), REFUSE, REFUSE),
        ((AF_ALG, 5, 0), REFUSE, REFUSE),
        ((AF_VSOCK, STREAM, 0), REFUSE, REFUSE),
        ((AF_NETLINK, RAW | CLOEXEC, 0), ALLOW, ALLOW),
        ((AF_NETLINK, RAW, 9), REFUSE, REFUSE),
    ],
)
def test_sockets_are_for_the_internet_and_the_routes_alone(
    machine, arguments, without, with_network
):
    assert ask(machine, "socket", *arguments) == without
    assert ask(machine, "socket", *arguments, network=True) == with_network


@ARCHITECTURES
def test_a_pair_of_datagram_sockets_could_be_aimed_elsewhere(machine):
    assert ask(machine, "socketpair", AF_UNIX, STREAM | CLOEXEC) == ALLOW
    assert ask(machine, "socketpair", AF_UNIX, DGRAM) == REFUSE


@ARCHITECTURES
def test_threads_and_forks_pass_and_new_namespaces_do_not(machine):
    sigchld, thread, new_user, new_mount = 17, 0x3D0F00, 0x10000000, 0x20000
    assert ask(machine, "clone", sigchld) == ALLOW
    assert ask(machine, "clone", thread) == ALLOW
    assert ask(machine, "clone", sigchld | new_user) == REFUSE
    assert ask(machine, "clone", sigchld | new_mount) == REFUSE
    assert ask(machine, "clone3") == ABSENT


@ARCHITECTURES
def test_descriptors_cannot_be_made_to_signal_others(machine):
    get_flags, set_owner, set_signal, set_owner_ex = 1, 8, 10, 15
    assert ask(machine, "fcntl", 3, get_flags) == ALLOW
    for command in (set_owner, set_signal, set_owner_ex):
        assert ask(machine, "fcntl", 3, command, OTHER_PID) == REFUSE
    window_size, push_input = 0x5413, 0x5412
    assert ask(machine, "ioctl", 0, window_size) == ALLOW
    assert ask(machine, "ioctl", 0, push_input) == REFUSE


@ARCHITECTURES
def test_truncating_while_opening_for_reading_is_refused_where_landlock_does_not_see_it(machine):
    read, truncate, write = 0, 0o1000, 1
    for landlock, expected in ((0, REFUSE), (2, REFUSE), (3, ALLOW)):
        opened = ask(machine, "openat", -100, 0, read | truncate, landlock=landlock)
        assert opened == expected
    assert ask(machine, "openat", -100, 0, read, landlock=0) == ALLOW
    assert ask(machine, "openat", -100, 0, write | truncate, landlock=0) == ALLOW
    assert ask(machine, "openat2", landlock=0) == ABSENT


def test_every_name_in_the_rules_is_in_the_table():
    for rule in seccomp.rules(OWN_PID, True, 0):
        assert any(number(rule.call, machine) is not None for machine in (X86_64, AARCH64, ARM))
