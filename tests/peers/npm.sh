#!/usr/bin/env bash
# Installs (once) the packages of a package.json and prints the folder that holds its node_modules.
#
#   tests/peers/npm.sh [FOLDER]      left out: tfjs beside this script
#
# It lives in ${MLCTL_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/mlctl}/peers, in a folder named after the hash of the
# package.json and of Node's version, so a changed pin makes a new one.
# Exit 75: it could not be made (no network, no Node); one line on stderr says why.
set -euo pipefail

packages=${1:-$(dirname "${BASH_SOURCE[0]}")/tfjs}/package.json
cache=${MLCTL_CACHE:-${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/mlctl}/peers

cannot() {
    echo "no packages of $packages: $1" >&2
    exit 75
}

for tool in node npm flock; do
    command -v "$tool" >/dev/null || cannot "$tool is not installed (Debian: apt-get install nodejs npm util-linux)"
done
key=npm-$({
    node --version
    cat "$packages"
} | sha256sum | cut -c1-16)
folder=$cache/$key

mkdir -p "$cache" 2>/dev/null || cannot "$cache cannot be made"
exec 9>"$cache/$key.lock" || cannot "$cache is not writable"
flock 9

if [[ ! -e $folder ]]; then
    making=$folder.making
    rm -rf "$making"
    mkdir "$making"
    cp "$packages" "$making/package.json"
    if ! (cd "$making" && npm install --no-audit --no-fund --no-package-lock --ignore-scripts) \
        >"$making/npm.log" 2>&1 </dev/null; then
        reason=$(grep -m1 -E '^npm (error|ERR!)' "$making/npm.log" || tail -n 1 "$making/npm.log")
        rm -rf "$making"
        cannot "npm: ${reason:-failed}"
    fi
    mv "$making" "$folder"
fi
echo "$folder"
