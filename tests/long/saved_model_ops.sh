#!/usr/bin/env bash
# Every op of a SavedModel in TensorFlow, frozen too.  MLCTL names the binary.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/../.."
python=$(tests/peers/venv.sh)
exec "$python" tests/interop/check_saved_model_ops.py "${MLCTL:-target/release/mlctl}" --long
