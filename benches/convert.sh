#!/usr/bin/env bash
# `mlctl convert` beside TFLiteConverter on the MNIST model, whole processes: benches/convert.sh [MLCTL] [RUNS]
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
mlctl=$(realpath -e "${1:-${CARGO_TARGET_DIR:-$root/target}/release/mlctl}")
tensorflow=$("$root/tests/peers/venv.sh" "$root/benches/peers/requirements.txt")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cd "$work"
"$mlctl" train -q --seed 1
"$tensorflow" "$root/benches/peers/keras_mnist.py" --epochs 1 --saved-model "$work/saved_model" >/dev/null 2>&1
model=$work/my_mnist_model/0001
tflite_convert="'$tensorflow' '$root/benches/peers/tflite_convert.py' '$work/saved_model'"

"$mlctl" --version
"$tensorflow" "$root/benches/measure.py" --runs "${2:-5}" \
    "mlctl convert, f16" "'$mlctl' convert '$model' --quantize f16 -o '$work/mlctl-f16.tflite' -q" \
    "TFLiteConverter 2.21, f16" "$tflite_convert '$work/peer-f16.tflite'" \
    "mlctl convert, float32" "'$mlctl' convert '$model' -o '$work/mlctl.tflite' -q" \
    "TFLiteConverter 2.21, float32" "$tflite_convert '$work/peer.tflite' f32"
echo
wc -c -- *.tflite
