"""Asks LiteRT whether each op that mlctl writes means what mlctl takes it to mean.

    "$(tests/peers/venv.sh)" tests/interop/check_ops.py target/release/mlctl

The one-op files and the float64 values expected of them come from tests/ops.rs, which holds mlctl's own
runtime to the same values. The binary is not needed; cargo is.
"""

import os
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from peers import TfliteFile, litert_interpreter, silent_stderr
from report import Report, at_most, equal

ROOT = Path(__file__).parents[2]
TOLERANCE = 2e-6
NOT_IN_XNNPACK = {"dequantize_float16_constant": "XNNPACK cannot run a graph without inputs"}


def write_fixtures(folder):
    command = ["cargo", "test", "--release", "--quiet", "--test", "ops", "--", "--exact", "write_op_fixtures"]
    environment = os.environ | {"OPS_FIXTURES_DIR": str(folder)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=1800)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {(done.stdout + done.stderr).strip()[-2000:]}")
    return sorted(folder.glob("*.tflite"))


def outputs(path, arrays, xnnpack):
    """What LiteRT makes of the inputs, which are resized to the arrays' shapes."""
    interpreter = litert_interpreter(path, xnnpack)
    with silent_stderr():
        details = interpreter.get_input_details()
        for given in details:
            interpreter.resize_tensor_input(given["index"], arrays[given["name"]].shape)
        interpreter.allocate_tensors()
        for given in details:
            interpreter.set_tensor(given["index"], arrays[given["name"]])
        interpreter.invoke()
    return {details["name"]: interpreter.get_tensor(details["index"]) for details in interpreter.get_output_details()}


def largest_difference(path, xnnpack):
    with np.load(path.with_suffix(".npz")) as arrays:
        found = outputs(path, arrays, xnnpack)
        expected = {name.removeprefix("expected "): arrays[name] for name in arrays if name.startswith("expected ")}
    if found.keys() != expected.keys():
        raise ValueError(f"{sorted(found)} instead of {sorted(expected)}")
    return max(array_difference(found[name], expected[name]) for name in expected)


def array_difference(got, expected):
    if got.shape != expected.shape or got.dtype != expected.dtype:
        raise ValueError(f"{got.dtype} {got.shape} instead of {expected.dtype} {expected.shape}")
    return float((np.abs(got.astype(np.float64) - expected) / np.maximum(1, np.abs(expected.astype(np.float64)))).max(initial=0))


def main():
    report = Report("ops")
    with tempfile.TemporaryDirectory() as folder:
        files = write_fixtures(Path(folder))
        for path in files:
            report.check(path.stem, lambda: largest_difference(path, False), at_most(TOLERANCE))
            if path.stem not in NOT_IN_XNNPACK:
                report.check(f"{path.stem}, XNNPACK", lambda: largest_difference(path, True), at_most(TOLERANCE))
            report.check(f"{path.stem}, operators", lambda: len(TfliteFile(path).operators()), equal(1))
        report.check("number of ops", lambda: len(files) > 150, equal(True))
    return report.finish()


if __name__ == "__main__":
    raise SystemExit(main())
