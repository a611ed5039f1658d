#!/usr/bin/env bash
# RUSTC_WORKSPACE_WRAPPER: rustc, with the coverage counters that libFuzzer reads in the crate mlctl alone. tract and the other
# dependencies stay as they are, and no nightly toolchain is needed.
set -euo pipefail

case " $* " in
    *" --crate-name mlctl "*)
        exec "$@" -C passes=sancov-module -C llvm-args=-sanitizer-coverage-level=4 -C llvm-args=-sanitizer-coverage-inline-8bit-counters \
            -C llvm-args=-sanitizer-coverage-pc-table -C llvm-args=-sanitizer-coverage-trace-compares
        ;;
    *) exec "$@" ;;
esac
