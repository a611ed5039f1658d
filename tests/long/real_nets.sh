#!/usr/bin/env bash
# The real nets with the three of 240 to 575 MB, and the limits on time.  MLCTL names the binary.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/../.."
python=$(tests/peers/venv.sh)
exec "$python" tests/interop/check_real_nets.py "${MLCTL:-target/release/mlctl}" --long
