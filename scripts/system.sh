#!/bin/bash
# Install the Debian packages that gr-emind stands on, where any is missing.
# usage: system.sh RECORD   RECORD gets one line a package with its version, rewritten only when something changed.
set -euo pipefail
cd "$(dirname "$0")/.."
record=$1
mkdir -p "$(dirname "$record")"
exec 9>build/lock
flock 9

packages=(gnuradio gnuradio-dev uhd-host cmake g++ python3-venv gir1.2-gtk-3.0)

if ! command -v dpkg-query >/dev/null; then
    echo "gr-emind: this is not a Debian system: install GNU Radio 3.10 with its headers, UHD, cmake, g++ and" \
         "Python's venv yourself; going on with what is here" >&2
    echo "root $PWD" >"$record.new"
else
    missing=()
    for package in "${packages[@]}"; do
        dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || missing+=("$package")
    done
    if ((${#missing[@]})); then
        echo "gr-emind: installing Debian packages: ${missing[*]}"
        as_root=()
        if ((EUID != 0)); then
            command -v sudo >/dev/null || {
                echo "gr-emind: not root and no sudo: have an administrator run: apt-get install ${missing[*]}" >&2
                exit 1
            }
            as_root=(sudo)
        fi
        # GNU Radio wants some terminal emulator; without this one apt would choose a desktop's.
        if [[ " ${missing[*]} " == *" gnuradio "* ]]; then missing+=(xterm); fi
        # The first command finishes what an interrupted run left half configured.
        "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive sh -c '
            dpkg --configure -a &&
            apt-get -o DPkg::Lock::Timeout=300 update -qq &&
            apt-get -o DPkg::Lock::Timeout=300 install -y -qq --no-install-recommends "$@"' sh "${missing[@]}" \
            >build/apt.log 2>&1 9>&- || { tail -n 20 build/apt.log >&2; exit 1; }
    fi
    { echo "root $PWD"; dpkg-query -W -f='${Package} ${Version}\n' gnuradio python3 python3-numpy; } >"$record.new"
fi

if cmp -s "$record.new" "$record"; then rm "$record.new"; else mv "$record.new" "$record"; fi
