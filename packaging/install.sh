#!/bin/sh
# Install Jackline's agent on this machine: an environment of its own under /opt/jackline, the unit
# for systemd, the command in /usr/local/bin. May be run again, to upgrade or to change options:
# the agent is restarted, its jobs go on.
#
# Needs root, and Python 3.11 or newer with venv.
set -eu

PREFIX=/opt/jackline
CONFIG=/etc/jackline
STATE=/var/lib/jackline
LOG=/var/log/jackline
UNIT=/etc/systemd/system/jackline.service
COMMAND=/usr/local/bin/jackline
PLUGIN_PTH=jackline-supervisor.pth

usage() {
    cat <<END
usage: install.sh [OPTIONS]

  --user NAME      run as this account, made when missing (default: root)
  --reporter       the strict unit, for a machine that only reports; needs --user
  --wheel FILE     install this wheel (default: this checkout)
  --wheelhouse DIR take everything from DIR and nothing from the network
  --python FILE    the Python to use (default: the newest one found)
  --supervisor     put the plugin on the path of the Python that supervisorctl runs under
  --no-start       do not enable or start the service
  --uninstall      take it away; configuration, state and log stay
  --purge          with --uninstall: they go, too
END
}

say() { echo "install.sh: $*" >&2; }
fail() { say "$*"; exit 1; }

user=root reporter= wheel= wheelhouse= python= supervisor= start=yes uninstall= purge=
while [ $# -gt 0 ]; do
    case "$1" in
        --user | --wheel | --wheelhouse | --python)
            [ $# -ge 2 ] || fail "$1 needs a value"
            case "$1" in
                --user) user=$2 ;;
                --wheel) wheel=$2 ;;
                --wheelhouse) wheelhouse=$2 ;;
                --python) python=$2 ;;
            esac
            shift
            ;;
        --reporter) reporter=yes ;;
        --supervisor) supervisor=yes ;;
        --no-start) start= ;;
        --uninstall) uninstall=yes ;;
        --purge) purge=yes ;;
        -h | --help) usage; exit 0 ;;
        *) usage >&2; exit 2 ;;
    esac
    shift
done

[ "$(id -u)" = 0 ] || fail "must be run as root"
[ -z "$purge" ] || [ -n "$uninstall" ] || fail "--purge goes with --uninstall"
[ -z "$reporter" ] || [ "$user" != root ] || fail "--reporter needs --user NAME"
case "$user" in
    '' | -* | *[!A-Za-z0-9._-]*) fail "not an account's name: $user" ;;
esac
source_dir=$(cd "$(dirname "$0")/.." && pwd)

is_systemd() { [ -d /run/systemd/system ] && command -v systemctl >/dev/null 2>&1; }

find_python() {
    for candidate in ${python:+"$python"} python3.14 python3.13 python3.12 python3.11 python3; do
        if "$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' \
            >/dev/null 2>&1; then
            command -v "$candidate"
            return
        fi
        [ -z "$python" ] || break
    done
    fail "Python 3.11 or newer with venv is needed (on Debian: apt-get install python3-venv)"
}

make_user() {
    [ "$user" != root ] || return 0
    if ! id "$user" >/dev/null 2>&1; then
        useradd --system --home-dir "$STATE" --no-create-home --shell /usr/sbin/nologin "$user"
        say "made the account $user"
    fi
}

make_directories() {
    install -d -m 0750 -o root -g "$(id -gn "$user")" "$CONFIG"
    for place in "$STATE" "$LOG"; do
        # Root's until now, so that nobody else can have put anything there: the account goes on.
        [ "$user" = root ] || [ ! -O "$place" ] || chown -R -h "$user:$(id -gn "$user")" "$place"
        install -d -m 0700 -o "$user" -g "$(id -gn "$user")" "$place"
    done
    for name in agent-config.json agent-config.yaml policy.yaml; do
        [ ! -e "$CONFIG/$name" ] || {
            chown "root:$(id -gn "$user")" "$CONFIG/$name"
            chmod 0640 "$CONFIG/$name"
        }
    done
}

install_packages() {
    interpreter=$(find_python)
    install -d -m 0755 "$PREFIX" "$PREFIX/bin"
    # Another Python than before: a new environment. The running agent keeps what it has loaded.
    "$PREFIX/venv/bin/python" -c '' 2>/dev/null || rm -rf "$PREFIX/venv"
    [ -x "$PREFIX/venv/bin/python" ] || "$interpreter" -m venv "$PREFIX/venv"
    set -- --quiet --disable-pip-version-check --no-input
    [ -z "$wheelhouse" ] || set -- "$@" --no-index --find-links "$wheelhouse"
    if [ -e "$source_dir/requirements.txt" ]; then
        "$PREFIX/venv/bin/pip" install "$@" --require-hashes -r "$source_dir/requirements.txt"
    fi
    # An endpoint has no console, whose files would be fetched with Node.
    JACKLINE_CONSOLE=no "$PREFIX/venv/bin/pip" install "$@" --no-deps --force-reinstall "${wheel:-$source_dir}"
    ln -sfn ../venv/bin/jackline "$PREFIX/bin/jackline"
    [ "$user" = root ] || runuser -u "$user" -- "$PREFIX/bin/jackline" --version >/dev/null ||
        fail "$user may not run $PREFIX/bin/jackline; is $interpreter in somebody's home?"
    install -d -m 0755 "$(dirname "$COMMAND")"
    ln -sfn "$PREFIX/bin/jackline" "$COMMAND"
    say "installed $("$COMMAND" --version) in $PREFIX"
}

install_plugin() {
    from=$("$PREFIX/venv/bin/python" -c 'from agent.supervisor import ctlplugin as p; print(p.__file__)')
    install -d -m 0755 "$PREFIX/supervisor/agent/supervisor"
    install -m 0644 "$from" "$PREFIX/supervisor/agent/supervisor/ctlplugin.py"
    [ ! -e "$source_dir/supervisor.conf" ] ||
        install -m 0644 "$source_dir/supervisor.conf" "$PREFIX/supervisor/supervisor.conf"
    [ -n "$supervisor" ] || return 0
    site=$(supervisor_site) || fail "supervisorctl was not found, or its Python could not be asked"
    echo "$PREFIX/supervisor" >"$site/$PLUGIN_PTH"
    say "put the plugin on the path of the Python that supervisorctl uses: $site/$PLUGIN_PTH"
}

supervisor_site() {
    # The first line of the script names its Python.
    script=$(command -v supervisorctl) || return 1
    line=$(head -n 1 "$script")
    case "$line" in
        '#!'*/env\ *) its=$(command -v "${line##* }") || return 1 ;;
        '#!'*) its=${line#'#!'}; its=${its%% *} ;;
        *) return 1 ;;
    esac
    "$its" -c 'import site, sysconfig
paths = site.getsitepackages() if hasattr(site, "getsitepackages") else []
print((paths or [sysconfig.get_path("purelib")])[0])'
}

install_unit() {
    set -- service install --no-start
    [ "$user" = root ] || set -- "$@" --user "$user"
    [ -z "$reporter" ] || set -- "$@" --strict
    "$PREFIX/bin/jackline" "$@"
    is_systemd && [ -n "$start" ] || return 0
    systemctl daemon-reload
    systemctl enable --quiet jackline.service
    if ls "$CONFIG"/agent-config.* >/dev/null 2>&1; then
        systemctl restart jackline.service
        say "the agent runs; see: jackline status"
    else
        say "enrol it (jackline enroll) or write $CONFIG/agent-config.json; then: systemctl start jackline"
    fi
}

uninstall() {
    if is_systemd && [ -e "$UNIT" ]; then
        systemctl disable --quiet --now jackline.service || say "the unit would not stop"
    fi
    [ ! -x "$PREFIX/bin/jackline" ] || "$PREFIX/bin/jackline" stop || say "something is left; see above"
    rm -f "$UNIT"
    ! is_systemd || systemctl daemon-reload
    if site=$(supervisor_site 2>/dev/null); then rm -f "$site/$PLUGIN_PTH"; fi
    [ "$(readlink "$COMMAND" 2>/dev/null)" != "$PREFIX/bin/jackline" ] || rm -f "$COMMAND"
    rm -rf "$PREFIX"
    if [ -n "$purge" ]; then
        rm -rf "$CONFIG" "$STATE" "$LOG" /run/jackline
        say "removed, with configuration, state and log"
    else
        say "removed; $CONFIG, $STATE and $LOG stay (--purge takes them, too)"
    fi
}

if [ -n "$uninstall" ]; then
    uninstall
    exit 0
fi
make_user
make_directories
install_packages
install_plugin
install_unit
