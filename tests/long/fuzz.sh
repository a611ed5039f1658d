#!/usr/bin/env bash
# Ten minutes of coverage-guided fuzzing of each target, two at once: tests/long/fuzz.sh [SECONDS [TARGET...]]
#
# The targets: onnx and tflite, SavedModels' graphs (graphdef) and variables (bundle), the server's requests (predict, infer) and
# config files (config).
#
# MLCTL names the binary that makes the .tflite seeds. The build is kept in the cache folder, and so is the corpus: each run
# goes on where the last one ended. Inputs that are findings are kept beside it. FUZZ_CLEAN=1 begins with the seeds alone.
# Exit 75: no C++ compiler for libFuzzer, or no onnx for the seeds.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/../.."
seconds=${1:-600}
shift $(($# > 0))
targets=("${@:-}")
[[ -n ${targets[0]} ]] || targets=(onnx tflite graphdef bundle predict infer config)
cache=${MLCTL_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/mlctl}/fuzz
command -v c++ >/dev/null || {
    echo "no C++ compiler, which libFuzzer needs (Debian: apt-get install g++)"
    exit 75
}
python=$(tests/peers/venv.sh) || exit 75
mkdir -p "${targets[@]/#/$cache/corpus-}" "$cache/findings"

CARGO_TARGET_DIR=$cache/target RUSTC_WORKSPACE_WRAPPER=$PWD/fuzz/rustc_with_coverage.sh cargo build --quiet --profile fuzz -p mlctl-fuzz
[[ -z ${FUZZ_CLEAN-} ]] || rm -rf "$cache"/corpus-*/*
rm -rf "$cache/seeds"
"$python" fuzz/seeds.py "${MLCTL:-${CARGO_TARGET_DIR:-target}/release/mlctl}" "$cache/seeds" "${targets[@]}"

# What a process writes goes to memory where there is a file system for that; the address space is bounded so that a single huge
# allocation is a finding too.
work=$(TMPDIR=$([[ -d /dev/shm ]] && echo /dev/shm || echo "${TMPDIR:-/tmp}") mktemp -d)
trap 'rm -rf "$work"' EXIT
ulimit -c 0

fuzz() {
    local kind=$1
    mkdir -p "$work/$kind/counts" "$cache/findings/$kind"
    TMPDIR=$work/$kind FUZZ_COUNTS=$work/$kind/counts/of "$cache/target/fuzz/fuzz_$kind" "$cache/corpus-$kind" "$cache/seeds/$kind" \
        -fork=1 -ignore_crashes=1 -ignore_timeouts=1 -ignore_ooms=1 -max_len=32768 -len_control=0 -mutate_depth=2 -timeout=100 -rss_limit_mb=4096 \
        -max_total_time="$seconds" -artifact_prefix="$cache/findings/$kind/" >"$work/$kind.log" 2>&1 || true
}
before=$(find "$cache/findings" -type f | sort)
for ((i = 0; i < ${#targets[@]}; i += 2)); do
    for kind in "${targets[@]:i:2}"; do
        fuzz "$kind" &
    done
    wait
done

# Adds up the counts of all processes, one line each: 'N inputs: N Refused, N Converted, …'.
status=0
for kind in "${targets[@]}"; do
    line=$(grep -E '^#[0-9]+: cov:' "$work/$kind.log" | tail -n 1)
    echo "fuzz_$kind, $seconds s: $line"
    cat "$work/$kind/counts"/* | tr ',:' '\n\n' |
        awk '$1 ~ /^[0-9]+$/ { total[$2] += $1 } /given up/ { up++ } END { for (name in total) print "  " total[name], name; print "  " up + 0, "given up by the guard" }' | sort -rn
    [[ -n $line ]] || {
        tail -n 20 "$work/$kind.log"
        status=1
    }
done
found=$(comm -13 <(echo "$before") <(find "$cache/findings" -type f | sort))
if [[ -n $found ]]; then
    echo "findings:"
    echo "$found"
    status=1
else
    echo "no finding"
fi
exit "$status"
