"""Compares mlctl with LiteRT's reference kernels on quantized nets: every output integer, and classes.

    "$(tests/peers/venv.sh)" tests/interop/check_quantized_nets.py target/release/mlctl
"""

import gzip
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from peers import Interpreter, OpResolverType, silent_stderr
from report import Report, at_most, equal

ROOT = Path(__file__).parents[2]
NETS = ["MNISTnet_uint8_quant", "MNISTnet_v2_uint8_quant", "cifar10_resnet_int8", "rock_paper_scissors_int8"]
ROWS = 40


def inputs(name, details):
    """Digits for nets of digits, smooth random pictures for the others, as the net takes them."""
    shape = (ROWS, *details["shape"][1:])
    if name.startswith("MNIST"):
        pixels = np.frombuffer(gzip.open(ROOT / "fixtures/mnist/t10k-images-idx3-ubyte.gz").read(), np.uint8, offset=16)
        pixels = pixels[: ROWS * 784].reshape(shape)
    else:
        random = np.random.default_rng(1)
        small = random.integers(0, 256, (ROWS, 7, 7, shape[3])).astype(np.uint8)
        pixels = small.repeat(shape[1] // 7 + 1, 1).repeat(shape[2] // 7 + 1, 2)[:, : shape[1], : shape[2]]
    if details["dtype"] == np.float32:
        return pixels.astype(np.float32) / 255
    return pixels if details["dtype"] == np.uint8 else (pixels.astype(np.int16) - 128).astype(np.int8)


def reference_outputs(path, arrays):
    with silent_stderr():
        interpreter = Interpreter(model_path=str(path), num_threads=1, experimental_op_resolver_type=OpResolverType.BUILTIN_REF)
        interpreter.allocate_tensors()
    given, found = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    rows = []
    for row in arrays:
        interpreter.set_tensor(given["index"], row[None])
        interpreter.invoke()
        rows.append(interpreter.get_tensor(found["index"])[0])
    return np.stack(rows)


def check_net(report, mlctl, name, folder):
    path = ROOT / "fixtures/models" / f"{name}.tflite"
    details = Interpreter(model_path=str(path)).get_input_details()[0]
    arrays = inputs(name, details)
    expected = reference_outputs(path, arrays)
    np.save(folder / "x.npy", arrays)
    command = [mlctl, "predict", "--model", path, folder / "x.npy", "-o", folder / "y.npy", "-q"]
    subprocess.run(command, check=True, capture_output=True)
    found = np.load(folder / "y.npy")
    # of float outputs a step is the softmax's
    step = 1 if expected.dtype != np.float32 else 1 / 256
    report.check(f"{name}, type", lambda: (str(found.dtype), found.shape), equal((str(expected.dtype), expected.shape)))
    differences = np.abs(found.astype(np.float64) - expected.astype(np.float64)) / step
    report.check(f"{name}, steps apart", lambda: float(differences.max()), at_most(1.0))
    report.check(f"{name}, integers that differ of {expected.size}", lambda: int((differences > 1e-6).sum()), at_most(0))
    report.check(f"{name}, classes", lambda: int((found.argmax(1) == expected.argmax(1)).sum()), equal(ROWS))


def main():
    report = Report("quantized nets")
    with tempfile.TemporaryDirectory() as folder, silent_stderr():
        for name in NETS:
            check_net(report, sys.argv[1], name, Path(folder))
    return report.finish()


if __name__ == "__main__":
    raise SystemExit(main())
