#!/usr/bin/env bash
# The weight-only schemes on all real nets.  MLCTL names the binary.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/../.."
python=$(tests/peers/venv.sh)
exec "$python" tests/interop/check_weight_schemes.py "${MLCTL:-target/release/mlctl}" --long
