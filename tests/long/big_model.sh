#!/usr/bin/env bash
# A model of 2.5 GB, past what one flatbuffer can hold: converted, inspected, run, and held to LiteRT. Takes 7 GB of
# disk where TMPDIR is, and minutes.  MLCTL names the binary.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/../.."
python=$(tests/peers/venv.sh)
exec "$python" tests/long/big_model.py "${MLCTL:-target/release/mlctl}"
