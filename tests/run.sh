#!/usr/bin/env bash
# Runs every test: formatting, fixture checksums, `cargo test --release`, and the interop with the real peers
# (onnxruntime, onnx, LiteRT; tests/peers/venv.sh fetches them once).
#
#   tests/run.sh           everything
#   tests/run.sh --long    and the scripts of tests/long: fuzzing, load
#
# Only the release profile is built, since tract takes minutes to compile; CARGO_TARGET_DIR is honoured.
# The last line counts all tests. What could not be checked (no network for the peers) is named and counted as
# skipped; it does not fail the run.
set -euo pipefail

long=no
case "${1-}" in
    '') ;;
    --long) long=yes ;;
    *)
        sed -n 's/^# \{0,1\}//; 2,10p' "${BASH_SOURCE[0]}" >&2
        exit 2
        ;;
esac

cd "$(dirname "${BASH_SOURCE[0]}")/.."
work=$(mktemp -d "${TMPDIR:-/tmp}/mlctl-tests.XXXXXX")
trap 'rm -rf "$work"' EXIT
export PYTHONDONTWRITEBYTECODE=1

passed=0 failed=0 skipped=0
summary=()

# Adds every 'N passed' and 'N failed' (and cargo's 'N ignored') in a step's closing lines.
count() {
    local log=$1 word=$2
    { grep -E '^(test result: .*|[0-9]+ passed, [0-9]+ failed.*)$' "$log" || true; } |
        { grep -oE "[0-9]+ $word" || true; } | awk '{ total += $1 } END { print total + 0 }'
}

# What a step's log says failed, the first of them; a step that names nothing has its end shown.
failures() {
    grep -E '^(FAIL  |test .* FAILED$|error(\[|:))' "$1" | head -n 20 | cut -c -300 | grep . || tail -n 5 "$1" | cut -c -300
}

# step NAME COMMAND…: runs and shows a step; one that counts nothing itself counts as one test.
step() {
    local name=$1 status=0 started=$SECONDS ok bad ignored
    shift
    printf '\n== %s\n' "$name"
    # Errexit is off inside "$@" here: a function that is a step returns its failures itself.
    "$@" </dev/null 2>&1 | tee "$work/log" || status=${PIPESTATUS[0]}
    ok=$(count "$work/log" passed)
    bad=$(count "$work/log" failed)
    ignored=$(count "$work/log" ignored)
    if ((status == 75)); then
        skipped=$((skipped + 1))
        summary+=("not checked  $name: $(tail -n 1 "$work/log")")
        return 0
    fi
    if ((status != 0 && bad == 0)); then
        bad=1
    elif ((status == 0 && ok == 0)); then
        ok=1
    fi
    passed=$((passed + ok)) failed=$((failed + bad)) skipped=$((skipped + ignored))
    if ((status == 0)); then
        summary+=("passed       $name: $ok in $((SECONDS - started)) s")
    else
        summary+=("FAILED       $name: $bad failed, $ok passed, exit $status")
        while IFS= read -r line; do summary+=("             $line"); done < <(failures "$work/log")
    fi
    return 0
}

# Every fixture but text goldens is listed in fixtures/README.md with the sha256 it has.
check_fixture_checksums() {
    local file sum status=0
    while IFS= read -r file; do
        sum=$(sha256sum "fixtures/$file" | cut -d' ' -f1)
        if ! grep -F "$sum" fixtures/README.md | grep -qF "$file"; then
            echo "fixtures/$file ($sum) is not in fixtures/README.md with this sha256"
            status=1
        fi
    done < <(cd fixtures && find . -type f ! -name '*.md' ! -name '*.py' ! -name '*.js' ! -path '*/__pycache__/*' ! -path './goldens/*' | sed 's|^\./||' | sort)
    return "$status"
}

# The binary is copied before use: a build going on beside this one cannot swap it half-way.
build_binary() {
    local target
    cargo build --release --bin mlctl || return
    target=$(cargo metadata --no-deps --format-version 1 | sed -E 's/.*"target_directory":"([^"]*)".*/\1/') || return
    cp "$target/release/mlctl" "$work/mlctl"
}

make_peers() {
    tests/peers/venv.sh >"$work/python"
}

step "cargo fmt --check" cargo fmt --check
step "fixture checksums" check_fixture_checksums
step "cargo test --release" cargo test --release --no-fail-fast
step "build of mlctl" build_binary
step "peers (onnxruntime, onnx, LiteRT)" make_peers

for script in tests/interop/check_*.py; do
    name="interop: $(basename "$script")"
    if [[ ! -x $work/mlctl ]]; then
        summary+=("FAILED       $name: there is no mlctl to test")
        failed=$((failed + 1))
    elif [[ ! -s $work/python ]]; then
        summary+=("not checked  $name: no peers")
        skipped=$((skipped + 1))
    else
        step "$name" "$(<"$work/python")" "$script" "$work/mlctl"
    fi
done

if [[ $long == yes ]]; then
    for script in tests/long/*.sh; do
        if [[ -e $script ]]; then
            step "long: $(basename "$script")" env MLCTL="$work/mlctl" bash "$script"
        else
            summary+=("nothing      long: tests/long has no scripts yet")
        fi
    done
fi

printf '\n== summary\n'
printf '%s\n' "${summary[@]}"
printf '\n%d passed, %d failed, %d skipped\n' "$passed" "$failed" "$skipped"
((failed == 0))
