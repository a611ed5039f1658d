#!/usr/bin/env bash
# `mlctl serve` beside servers that give a fixed reply (axum, tonic) and beside MLServer; p99 at half the saturation
# load; batches beside `mlctl bench`:
#
#   benches/serve.sh [MLCTL] [ROUNDS] [OPTIONS…]     options: benches/serve/measure.py --help
#
# Builds the load generator and the fixed servers into the cache folder.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
mlctl=$(realpath -e "${1:-${CARGO_TARGET_DIR:-$root/target}/release/mlctl}")
rounds=${2:-5}
shift $(($# > 2 ? 2 : $#))
here=$root/benches/serve
cache=${MLCTL_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/mlctl}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

CARGO_TARGET_DIR=$cache/serve-peers cargo build --quiet --release --locked --manifest-path "$here/peers/Cargo.toml"
python=$("$root/tests/peers/venv.sh")
mkdir -p "$work"/{mlp,resnet}/1 "$work/mlserver/mlp"
"$python" "$here/models.py" mlp "$work/mlp/1/model.onnx"
options=()

if net=$(PYTHONPATH=$root/tests/peers "$python" -c 'import light_nets; print(light_nets.net("resnet50"))'); then
    "$python" "$here/models.py" open_batch "$net" "$work/resnet/1/model.onnx"
else
    rm -r "$work/resnet"
    echo "no ResNet50: batches are not measured" >&2
fi

if mlserver=$("$root/tests/peers/venv.sh" "$here/mlserver/requirements.txt"); then
    cp "$here/mlserver/runtime.py" "$work/mlserver/mlp/"
    cat >"$work/mlserver/mlp/model-settings.json" <<<"{\"name\": \"mlp\", \"implementation\": \"runtime.OnnxModel\", \"parameters\": {\"uri\": \"$work/mlp/1/model.onnx\"}}"
    cat >"$work/mlserver/settings.json" <<<'{"host": "127.0.0.1", "http_port": 18503, "grpc_port": 18504, "metrics_port": 18505, "parallel_workers": 0, "debug": false}'
    options+=(--mlserver "$mlserver")
else
    echo "MLServer is not measured" >&2
fi

"$mlctl" --version
"$python" "$here/measure.py" --mlctl "$mlctl" --peers "$cache/serve-peers/release/serve-peers" --work "$work" \
    --rounds "$rounds" "${options[@]}" "$@"
