#!/bin/sh
# Make sure of the programs in system-programs.txt.
#
# Root on Debian installs what is missing. Anybody else is told exactly what to install: then the
# tests that need it are skipped, and under CI=true this fails.
set -eu
export PATH="$PATH:/usr/sbin:/sbin"
list="$(dirname "$0")/system-programs.txt"

missing_packages() {
    while read -r program package _reason; do
        case "$program" in '' | '#'*) continue ;; esac
        command -v "$program" >/dev/null 2>&1 || echo "$package"
    done <"$list" | sort -u | tr '\n' ' '
}

install_packages() {
    # Nothing is started by its installation: the tests start their own sshd and cron.
    policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
        trap 'rm -f "$policy"' EXIT
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod +x "$policy"
    fi
    apt-get -qq update
    # shellcheck disable=SC2086  # one word per package
    DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends $1 >/dev/null
}

missing="$(missing_packages)"
[ -n "$missing" ] || exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "installing: $missing"
    install_packages "$missing"
    missing="$(missing_packages)"
    [ -n "$missing" ] || exit 0
fi
echo "missing: $missing" >&2
echo "on Debian: apt-get install $missing" >&2
if [ "${CI:-}" = true ]; then
    echo "CI runs every test: install them in the image" >&2
    exit 1
fi
echo "the tests that need them are skipped" >&2
