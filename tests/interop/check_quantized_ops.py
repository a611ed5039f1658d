"""Asks LiteRT's reference kernels what each op on quantized values makes of the files of tests/quantized_ops.rs,
and compares every integer with mlctl's.

    "$(tests/peers/venv.sh)" tests/interop/check_quantized_ops.py target/release/mlctl
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from peers import Interpreter, OpResolverType, TfliteFile, silent_stderr
from report import Report, at_most, equal

ROOT = Path(__file__).parents[2]
# where the reference kernels cannot be the judge, LiteRT's optimized ones without XNNPACK are
OPTIMIZED = {
    "mean_over": "the reference kernel reads int8 and int16 as uint8",
    "sum_over": "the reference kernel reads int8 and int16 as uint8",
    "elu": "the reference kernels have none",
    "depth_to_space": "the reference kernels have none of int8",
    "tile": "the reference kernels have none of int8",
}
# begins of names: what LiteRT cannot be asked
NOT_IN_LITERT = {f"conv_{element}_without_bias": "LiteRT demands one" for element in ["int8", "uint8", "int16"]}


def write_fixtures(folder):
    command = "cargo test --release --quiet --test quantized_ops -- --exact write_quantized_op_fixtures".split()
    environment = os.environ | {"OPS_FIXTURES_DIR": str(folder)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=1800)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {(done.stdout + done.stderr).strip()[-2000:]}")
    return sorted(folder.glob("*.tflite"))


def judge(stem):
    optimized = any(stem.startswith(begin) for begin in OPTIMIZED) and not stem.endswith("uint8")
    return OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES if optimized else OpResolverType.BUILTIN_REF


def litert_outputs(path, arrays):
    with silent_stderr():
        interpreter = Interpreter(model_path=str(path), num_threads=1, experimental_op_resolver_type=judge(path.stem))
        interpreter.allocate_tensors()
        for given in interpreter.get_input_details():
            interpreter.set_tensor(given["index"], arrays[given["name"]])
        interpreter.invoke()
    return {found["name"]: interpreter.get_tensor(found["index"]) for found in interpreter.get_output_details()}


def mlctl_outputs(mlctl, path):
    out = path.with_name("out.npz")
    command = [mlctl, "predict", "--model", path, path.with_suffix(".npz"), "-o", out, "-q"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(done.stderr.strip())
    with np.load(out) as arrays:
        return {name: arrays[name] for name in arrays}


def largest_difference(mlctl, path, counts):
    with np.load(path.with_suffix(".npz")) as arrays:
        expected = litert_outputs(path, arrays)
    found = mlctl_outputs(mlctl, path)
    if found.keys() != expected.keys():
        raise ValueError(f"{sorted(found)} instead of {sorted(expected)}")
    most = 0.0
    for name in expected:
        a, b = found[name], expected[name]
        if a.shape != b.shape or a.dtype != b.dtype:
            raise ValueError(f"{a.dtype} {a.shape} instead of {b.dtype} {b.shape}")
        difference = np.abs(a.astype(np.float64) - b.astype(np.float64))
        counts[0] += a.size
        counts[1] += int((difference == 0).sum())
        most = max(most, float(difference.max(initial=0)))
    counts[2] += most == 0
    return most


def main():
    report, counts = Report("quantized ops"), [0, 0, 0]
    with tempfile.TemporaryDirectory() as folder:
        files = write_fixtures(Path(folder))
        for path in files:
            if any(path.stem.startswith(begin) for begin in NOT_IN_LITERT):
                continue
            report.check(path.stem, lambda: largest_difference(sys.argv[1], path, counts), at_most(1.0))
            report.check(f"{path.stem}, operators", lambda: len(TfliteFile(path).operators()), equal(1))
        report.check("number of files", lambda: len(files) > 200, equal(True))
    print(f"{counts[2]} of {len(files)} files bit-equal, {counts[1]:,} of {counts[0]:,} integers")
    return report.finish()


if __name__ == "__main__":
    raise SystemExit(main())
