#!/usr/bin/env bash
# `mlctl train` beside the same job in Keras, whole processes: benches/train.sh [MLCTL] [RUNS]
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
mlctl=$(realpath -e "${1:-${CARGO_TARGET_DIR:-$root/target}/release/mlctl}")
tensorflow=$("$root/tests/peers/venv.sh" "$root/benches/peers/requirements.txt")

"$mlctl" --version
"$tensorflow" "$root/benches/measure.py" --runs "${2:-5}" --items 165000 samples \
    "mlctl train" "'$mlctl' train -q" \
    "mlctl train, 1 thread" "'$mlctl' train -q --threads 1" \
    "Keras 3.15, TensorFlow 2.21" "'$tensorflow' '$root/benches/peers/keras_mnist.py'"
