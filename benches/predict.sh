#!/usr/bin/env bash
# `mlctl predict` of one image beside onnxruntime and LiteRT, whole processes: benches/predict.sh [MLCTL] [RUNS]
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
mlctl=$(realpath -e "${1:-${CARGO_TARGET_DIR:-$root/target}/release/mlctl}")
peers=$("$root/tests/peers/venv.sh")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cd "$work"
"$mlctl" train -q --seed 1
"$mlctl" convert -q
"$mlctl" convert -q --quantize f16
model=$work/my_mnist_model
image=$root/fixtures/images/7.png

"$mlctl" --version
"$peers" "$root/benches/measure.py" --runs "${2:-15}" \
    "mlctl predict, version directory" "'$mlctl' predict --model '$model' '$image'" \
    "mlctl predict, float32 .tflite" "'$mlctl' predict --model '$model.tflite' '$image'" \
    "mlctl predict, f16 .tflite" "'$mlctl' predict --model '$model-f16.tflite' '$image'" \
    "onnxruntime 1.31" "'$peers' '$root/benches/peers/onnxruntime_predict.py' '$model/0001/model.onnx' '$image'" \
    "LiteRT 2.3, float32" "'$peers' '$root/benches/peers/litert_predict.py' '$model.tflite' '$image'" \
    "LiteRT 2.3, f16" "'$peers' '$root/benches/peers/litert_predict.py' '$model-f16.tflite' '$image'"
