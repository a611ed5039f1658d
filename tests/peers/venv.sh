#!/usr/bin/env bash
# Makes (once) a Python environment with the packages of a requirements file and prints its python.
#
#   tests/peers/venv.sh [REQUIREMENTS]      left out: requirements.txt beside this script
#
# It lives in ${MLCTL_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/mlctl}/peers, in a folder named after the
# hash of the requirements and of the Python version, so a changed pin makes a new one.
# Exit 75: it could not be made (no network, no venv module); one line on stderr says why.
set -euo pipefail

requirements=${1:-$(dirname "${BASH_SOURCE[0]}")/requirements.txt}
cache=${MLCTL_CACHE:-${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/mlctl}/peers

cannot() {
    echo "no Python environment for $requirements: $1" >&2
    exit 75
}

command -v python3 >/dev/null || cannot "python3 is not installed"
command -v flock >/dev/null || cannot "flock (package util-linux) is not installed"
key=$({
    python3 -c 'import sys, sysconfig; print(sys.version, sysconfig.get_platform(), sys.base_prefix)'
    cat "$requirements"
} | sha256sum | cut -c1-16)
environment=$cache/$key
python=$environment/bin/python

mkdir -p "$cache" 2>/dev/null || cannot "$cache cannot be made"
exec 9>"$cache/$key.lock" || cannot "$cache is not writable"
flock 9

if [[ ! -e $environment ]] || ! "$python" -c '' 2>/dev/null; then
    making=$environment.making
    rm -rf "$making" "$environment"
    python3 -m venv "$making" 2>&1 | tail -n 3 >&2 ||
        cannot "python3 has no working venv module (Debian: apt-get install python3-venv)"
    if ! "$making/bin/python" -m pip install --quiet --disable-pip-version-check --no-input \
        --retries 2 -r "$requirements" >"$making/pip.log" 2>&1 </dev/null; then
        reason=$(grep -m1 '^ERROR' "$making/pip.log" || tail -n 1 "$making/pip.log")
        rm -rf "$making"
        cannot "pip: ${reason:-failed}"
    fi
    mv "$making" "$environment"
fi
echo "$python"
