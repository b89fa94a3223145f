"""What a confined process can and cannot do, tried in real ones, as root and as an ordinary user.

A stand-in for the agent waits beside it with a secret in its memory and one on disk.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

if sys.platform != "linux":
    pytest.skip("Linux confinement", allow_module_level=True)

DEADLINE_S = 120.0
NOBODY = 65534

# Where the interpreter lies in a directory that nobody else may enter, as under /root, the user is
# changed after the imports, and nothing can be imported afterwards.
BECOME = """
def become(user):
    if user is not None:
        os.setgroups([]); os.setresgid(user, user, user); os.setresuid(user, user, user)
"""

AGENT = (
    BECOME
    + """
import os, sys, workers.libc
from workers.hardening import harden_agent
become(int(sys.argv[1]) if sys.argv[1:] else None)
secret = "kept in memory"
harden_agent()
print("ready", flush=True)
sys.stdin.read()
"""
)

# Confines itself, then tries every line of TRIALS and prints {name: "ok" or errno name}.
SCRIPT = (
    BECOME
    + """
import ctypes, encodings.idna, errno, fcntl, json, os, signal, socket, sys, threading
from workers.confine import Confinement, confine
args = json.loads(sys.argv[1])
agent, secret, trials = args["agent"], args["secret"], args["trials"]
if args["user"] is not None:
    import psutil, resource, ssl, zoneinfo
    zoneinfo.ZoneInfo("UTC")
    become(args["user"])
libc = ctypes.CDLL(None, use_errno=True)
listener = socket.socket(socket.AF_UNIX); listener.bind(args["socket"]); listener.listen()
spool = os.open(args["spool"], os.O_RDWR | os.O_CREAT, 0o600)
def call(number, *arguments):
    ctypes.set_errno(0)
    if libc.syscall(number, *arguments) < 0:
        raise OSError(ctypes.get_errno(), "refused")
def forked(work):
    child = os.fork()
    if child == 0:
        work(); os._exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
def in_thread():
    done = []; t = threading.Thread(target=lambda: done.append(1)); t.start(); t.join(); assert done
def signal_myself():
    seen = []; signal.signal(signal.SIGUSR1, lambda *_: seen.append(1))
    signal.raise_signal(signal.SIGUSR1); os.kill(os.getpid(), signal.SIGUSR1); assert len(seen) == 2
def write(path):
    with open(path, "w") as file: file.write("x")
report = confine(Confinement(**{k: tuple(v) if isinstance(v, list) else v
                                for k, v in args["grants"].items()}))
answers = {"": report.applied, "missing": report.missing}
for name, trial in trials.items():
    try:
        exec(trial)
        answers[name] = "ok"
    except OSError as e:
        answers[name] = errno.errorcode.get(e.errno, repr(e))
    except BaseException as e:
        answers[name] = repr(e)
print(json.dumps(answers))
"""
)

# Harmless even where they succeed: a trial must not harm the machine that finds the fault.
FORBIDDEN = {
    "kill the agent": "os.kill(agent, signal.SIGTERM)",
    "kill its group": "os.kill(0, signal.SIGCONT)",
    "kill everybody": "os.kill(-1, signal.SIGCONT)",
    "kill the agent by pidfd": "signal.pidfd_send_signal(os.pidfd_open(agent), signal.SIGTERM)",
    "own a descriptor for the agent": "fcntl.fcntl(0, fcntl.F_SETOWN, agent)",
    "read the agent's memory": "open(f'/proc/{agent}/mem', 'rb')",
    "read the agent's environment": "open(f'/proc/{agent}/environ', 'rb').read()",
    "read through the agent's root": "os.listdir(f'/proc/{agent}/root/')",
    "open the agent's descriptors": "open(f'/proc/{agent}/fd/0', 'rb')",
    "limit the agent": "import resource; resource.prlimit(agent, resource.RLIMIT_NOFILE, (0, 0))",
    "slow the agent": "os.setpriority(os.PRIO_PROCESS, agent, 19)",
    "read the secret": "open(secret).read()",
    "list the secrets": "os.listdir(os.path.dirname(secret))",
    "change the secret": "os.open(secret, os.O_WRONLY)",
    "open up the secret": "os.chmod(secret, 0o666)",
    "give the secret away": "os.chown(secret, 1, 1)",
    "empty the secret": "os.truncate(secret, 0)",
    "date the secret": "os.utime(secret, (0, 0))",
    "remove the secret": "os.unlink(secret)",
    "rename the secret": "os.rename(secret, secret + '2')",
    "write anywhere": "write(os.path.join(os.path.dirname(args['socket']), 'x'))",
    "make a device": "os.mknod('/tmp/null', 0o20666, os.makedev(1, 3))",
    "run a program": "os.execv('/bin/true', ['true'])",
    "raw socket": "socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)",
    "packet socket": "socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)",
    "local socket": "socket.socket(socket.AF_UNIX)",
    "local datagrams": "socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)",
    "host name": "socket.sethostname(socket.gethostname())",
    "change root": "os.chroot('/')",
}
# Where Python has no wrapper: numbers of x86_64.
FORBIDDEN_BY_NUMBER = {
    "attach to the agent": "call(101, 16, agent, 0, 0)",
    "read by process_vm_readv": "call(310, agent, 0, 0, 0, 0, 0)",
    "take a descriptor": "call(438, os.pidfd_open(agent), 0, 0)",
    "mount": "call(165, b'none', b'/nowhere', b'tmpfs', 0, 0)",
    "unmount": "call(166, b'/nowhere', 2)",
    "bpf": "call(321, 0, 0, 0)",
    "keys": "call(250, 0, 0, 0)",
    "new namespaces": "call(272, 0x10000000)",
    "clone into a namespace": "call(56, 17 | 0x10000000, 0, 0, 0, 0)",
    "load a module": "call(313, 0, b'', 0)",
    "kexec": "call(246, 0, 0, 0, 0)",
    "io_uring": "call(425, 1, 0)",
    "perf": "call(298, 0, 0, 0, 0, 0)",
    "reboot": "call(169, 0xfee1dead, 672274793, 0)  # CAD_OFF",
    "set the clock": "call(227, 0, 0)",
    "a file by its handle": "call(304, 0, 0, 0)",
}
ALLOWED = {
    "read the kernel's figures": "open('/proc/stat').read(); open('/proc/net/dev').read()",
    "see who runs": "assert str(agent) in os.listdir('/proc'); open(f'/proc/{agent}/stat').read()",
    "space on disks": "os.statvfs('/'); os.statvfs(os.path.dirname(secret))",
    "telemetry": (
        "import psutil; psutil.cpu_times(); psutil.virtual_memory(); psutil.boot_time();"
        "psutil.net_io_counters(True); psutil.disk_partitions(all=True); psutil.net_if_addrs()"
    ),
    "modules loaded later": "import sqlite3, ssl, xml.dom.minidom, wire, workers.files",
    "threads": "in_thread()",
    "children": "forked(lambda: os.getcwd())",
    "signals to itself": "signal_myself()",
    "a pair of streams": "socket.socketpair()",
    "descriptors it had": "os.write(spool, b'kept'); os.ftruncate(spool, 0)",
    "own limits": "import resource; resource.setrlimit(resource.RLIMIT_CORE, (0, 0))",
    "the null device": "write('/dev/null'); os.urandom(8)",
    "time zones": "import zoneinfo; zoneinfo.ZoneInfo('UTC')",
    "its mailbox": (
        "pid = os.fork()\n"
        "listener.setblocking(False)\n"
        "if pid == 0: os._exit(0)\n"
        "os.waitpid(pid, 0)\n"
        "try: listener.accept()\n"
        "except BlockingIOError: pass"
    ),
}

USERS = [
    pytest.param(None, id="as-we-are"),
    pytest.param(
        NOBODY,
        id="as-nobody",
        marks=pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another"),
    ),
]


def run_confined(place: Path, agent: int, user: int | None, trials: dict, **grants) -> dict:
    arguments = {
        "agent": agent,
        "secret": str(place / "state" / "identity.json"),
        "socket": str(place / "run" / "s"),
        "spool": str(place / "run" / "spool"),
        "trials": trials,
        "grants": grants,
        "user": user,
    }
    (place / "run" / "s").unlink(missing_ok=True)
    return json.loads(run_script(SCRIPT, json.dumps(arguments)))


def run_script(script: str, *arguments: str) -> str:
    ran = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        capture_output=True,
        timeout=DEADLINE_S,
        cwd="/",
        check=False,
    )
    assert ran.returncode == 0, ran.stderr.decode()
    return ran.stdout.decode()


@pytest.fixture(scope="module", params=USERS)
def user(request) -> int | None:
    return request.param


@pytest.fixture(scope="module")
def place(tmp_path_factory, user) -> Path:
    path = tmp_path_factory.mktemp("confine")
    for name in ("state", "run", "granted"):
        (path / name).mkdir(mode=0o700)
    (path / "state" / "identity.json").write_text("kept on disk")
    (path / "granted" / "file").write_text("given")
    if user is not None:
        for each in (path, *path.parents):
            if each == Path(tempfile.gettempdir()):
                break
            each.chmod(0o755)
        for each in (path, *path.rglob("*")):
            os.chown(each, user, user)
    return path


@pytest.fixture(scope="module")
def agent(user):
    process = subprocess.Popen(
        [sys.executable, "-c", AGENT, *([] if user is None else [str(user)])],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin is not None and process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    yield process
    assert process.poll() is None, "the agent did not survive the trials"
    process.stdin.close()
    process.stdout.close()
    assert process.wait(DEADLINE_S) == 0


@pytest.fixture(scope="module")
def before(place) -> os.stat_result:
    return (place / "state" / "identity.json").stat()


@pytest.fixture(scope="module")
def answers(before, place, agent, user) -> dict:
    """One process tries everything that must fail, another all that must work."""
    trials = dict(FORBIDDEN)
    if os.uname().machine == "x86_64":
        trials |= FORBIDDEN_BY_NUMBER
    secrets = (str(place / "state"),)
    refused = run_confined(place, agent.pid, user, trials, secret_dirs=secrets)
    return refused | run_confined(place, agent.pid, user, ALLOWED)


def test_every_layer_is_applied_on_this_kernel(answers):
    assert [each.split()[0] for each in answers[""]] == [
        "landlock",
        "no_new_privs",
        "capabilities",
        "seccomp",
    ]
    assert answers["missing"] == []


@pytest.mark.parametrize("trial", FORBIDDEN)
def test_confined_process_cannot(answers, trial):
    assert answers[trial] in ("EPERM", "EACCES")


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="calls by their x86_64 numbers")
@pytest.mark.parametrize("trial", FORBIDDEN_BY_NUMBER)
def test_confined_process_cannot_call(answers, trial):
    assert answers[trial] == "EPERM"


@pytest.mark.parametrize("trial", ALLOWED)
def test_confined_process_still_can(answers, user, trial):
    if trial == "modules loaded later" and user is not None:
        pytest.skip("see BECOME")
    assert answers[trial] == "ok"


def test_secret_on_disk_is_untouched(before, answers, place):
    secret = place / "state" / "identity.json"
    assert secret.read_text() == "kept on disk"
    now = secret.stat()
    assert (now.st_mode, now.st_uid, now.st_mtime) == (
        before.st_mode,
        before.st_uid,
        before.st_mtime,
    )


def test_grants_are_what_they_say_and_no_more(place, agent, user):
    granted = str(place / "granted")
    trials = {
        "list": "assert os.listdir(granted) == ['file']",
        "read": "assert open(granted + '/file').read() == 'given'",
        "write": "write(granted + '/new'); os.rename(granted + '/new', granted + '/newer')",
        "remove": "os.unlink(granted + '/newer')",  # which only the right to write has made
    }
    trials = {name: f"granted = {granted!r}; {trial}" for name, trial in trials.items()}
    results = {
        kind: [
            run_confined(place, agent.pid, user, trials, **{kind: [granted]})[name]
            for name in trials
        ]
        for kind in ("list_dirs", "read_dirs", "write_dirs")
    }
    assert results["list_dirs"] == ["ok", "EACCES", "EACCES", "ENOENT"]
    assert results["read_dirs"] == ["ok", "ok", "EACCES", "ENOENT"]
    assert results["write_dirs"] == ["ok", "ok", "ok", "ok"]


def test_one_granted_file_gives_no_neighbour(place, agent, user):
    (place / "granted" / "neighbour").write_text("not given")
    if user is not None:
        os.chown(place / "granted" / "neighbour", user, user)
    trials = {
        "file": f"open({str(place / 'granted' / 'file')!r}).read()",
        "neighbour": f"open({str(place / 'granted' / 'neighbour')!r}).read()",
    }
    files = [str(place / "granted" / "file")]
    answers = run_confined(place, agent.pid, user, trials, read_files=files)
    (place / "granted" / "neighbour").unlink()
    assert (answers["file"], answers["neighbour"]) == ("ok", "EACCES")


def test_network_is_there_only_when_granted(place, agent, user):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        trials = {
            "resolve": "socket.getaddrinfo('localhost', 80)",
            "connect": f"socket.create_connection(('127.0.0.1', {port}))",
            "tls": "import ssl; ssl.create_default_context()",
            "listen": "socket.create_server(('127.0.0.1', 0))",
            "raw": "socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)",
        }
        with_network = run_confined(place, agent.pid, user, trials, network=True)
        without = run_confined(place, agent.pid, user, trials)
    assert [with_network[name] for name in ("resolve", "connect", "tls")] == ["ok"] * 3
    assert with_network["listen"] in ("EACCES", "EPERM")
    assert with_network["raw"] == "EPERM"
    assert without["connect"] == "EPERM"


def test_a_grant_that_holds_the_secrets_is_an_error(place, agent, user):
    script = (
        "import sys; from workers.confine import *; from workers.errors import ConfinementError\n"
        "try: confine(Confinement(read_dirs=(sys.argv[1],), secret_dirs=(sys.argv[2],)))\n"
        "except ConfinementError as e: print(e)"
    )
    said = run_script(script, str(place), str(place / "state"))
    assert "is granted, and" in said


def test_a_second_thread_is_an_error():
    script = (
        "import threading; from workers.confine import *\n"
        "from workers.errors import ConfinementError\n"
        "stop = threading.Event(); threading.Thread(target=stop.wait).start()\n"
        "try: confine(Confinement())\n"
        "except ConfinementError as e: print(e)\n"
        "stop.set()"
    )
    assert "second thread" in run_script(script)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has another to become")
def test_without_landlock_root_becomes_the_fallback_user_and_says_so():
    script = (
        "import os; from workers import landlock; landlock.version = lambda: 0\n"
        "from workers.confine import *\n"
        "report = confine(Confinement(fallback_user='nobody'))\n"
        "print(os.getresuid()); print(report.missing)"
    )
    uids, missing = run_script(script).splitlines()
    assert uids == str((NOBODY,) * 3)
    assert "became nobody" in missing


def test_without_a_call_filter_the_other_layers_hold_and_it_says_so():
    script = (
        "import os; from workers import syscall_numbers\n"
        "syscall_numbers.current = lambda: None\n"
        "from workers.confine import *\n"
        "report = confine(Confinement())\n"
        "print(report.missing)\n"
        "try: os.listdir('/root')\n"
        "except PermissionError: print('refused')"
    )
    missing, answer = run_script(script).splitlines()
    assert "no call filter" in missing and answer == "refused"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can hold on to it")
def test_a_kept_capability_is_kept_alone(place, agent):
    trials = {
        "kept": (
            "status = dict(l.split(':', 1) for l in open('/proc/self/status') if ':' in l)\n"
            "assert int(status['CapEff'], 16) == int(status['CapPrm'], 16) == 4\n"
            "assert int(status['CapInh'], 16) == int(status['CapAmb'], 16) == 0\n"
            "assert int(status['CapBnd'], 16) == 4 and int(status['NoNewPrivs']) == 1"
        )
    }
    script_grants = {"keep": [2]}
    assert run_confined(place, agent.pid, None, trials, **script_grants)["kept"] == "ok"
