#!/usr/bin/env bash
# LiteRT's time on mlctl's files beside its time on onnx2tf's files of the same nets: benches/litert.sh [MLCTL] [PAIRS]
#
# onnx2tf takes minutes a net; its files are kept in the cache folder.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
mlctl=$(realpath -e "${1:-${CARGO_TARGET_DIR:-$root/target}/release/mlctl}")
peers=$("$root/tests/peers/venv.sh")
onnx2tf=$("$root/tests/peers/venv.sh" "$root/benches/peers/onnx2tf.txt")
kept=${MLCTL_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/mlctl}/onnx2tf-1.29.24
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$kept"

mapfile -t nets < <("$peers" "$root/tests/peers/light_nets.py" squeezenet resnet50 inception_v1 inception_v2)
nets+=("$root/fixtures/models/squeezenet1_1.onnx")
pairs=()
for net in "${nets[@]}"; do
    name=$(basename "$net" .onnx)
    theirs=$kept/${name}_float32.tflite
    "$mlctl" convert -q --layout nhwc "$net" -o "$work/$name.tflite"
    if [[ ! -s $theirs ]]; then
        if ! "$onnx2tf" "$root/benches/peers/onnx2tf_convert.py" "$net" "$work/$name" >"$work/log" 2>&1; then
            echo "onnx2tf cannot convert $name: $(grep -E '^[A-Za-z]*Error' "$work/log" | tail -n 1)"
            continue
        fi
        mv "$work/$name/${name}_float32.tflite" "$theirs"
    fi
    pairs+=("$name" "$work/$name.tflite" "$theirs")
done

"$mlctl" --version
"$peers" "$root/benches/litert.py" --pairs "${2:-60}" "${pairs[@]}"
