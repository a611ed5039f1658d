"""TensorFlow's and Keras' SavedModels read, and TensorFlow.js' graph-models: predicted, converted, run in LiteRT, held to TensorFlow.

    "$(tests/peers/venv.sh)" tests/interop/check_tensorflow_files.py target/release/mlctl [--only REGEX] [--models FOLDER]

tensorflow_models.py makes the models, in TensorFlow's own environment; FOLDER keeps them. Exit 75: that could not be made.
"""

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from litert_process import LitertProcess
from mlctl import Mlctl
from report import Report, at_most, equal
from tensorflow_peer import NoTensorflow, python

HERE = Path(__file__).parent
TOLERANCE = 1e-5
# What weights of less precision cost, relative to the net with all of it.
COARSE = {"js_float16": 2e-3, "js_uint16": 2e-3, "js_uint8": 0.2}


def arrays(source, kind):
    with np.load(f"{source}.npz") as file:
        return {name.removeprefix(f"{kind} "): file[name] for name in file if name.startswith(f"{kind} ")}


def difference(found, expected):
    if sorted(found) != sorted(expected):
        raise ValueError(f"outputs {sorted(found)} instead of {sorted(expected)}")
    off = 0.0
    for name, wanted in expected.items():
        got = found[name]
        if got.shape != wanted.shape or got.dtype != wanted.dtype:
            raise ValueError(f"'{name}' is {got.dtype}{got.shape} instead of {wanted.dtype}{wanted.shape}")
        wanted = wanted.astype(np.float64)
        off = max(off, float(np.abs(got - wanted).max(initial=0) / max(np.abs(wanted).max(initial=0), 1e-30)))
    return off


def predicted(mlctl, source, work, model=None):
    """How far `model`, otherwise the source itself, is from TensorFlow on the source."""
    given, out = work / "in.npz", work / "out.npz"
    np.savez(given, **arrays(source, "input"))
    out.unlink(missing_ok=True)
    mlctl.predict(model or source, given, out)
    with np.load(out) as file:
        return difference({name: file[name] for name in file}, arrays(source, "output"))


def converted(mlctl, litert, source, work):
    out = work / "model.tflite"
    out.unlink(missing_ok=True)
    mlctl.run("convert", source, "-o", out, "-q", cwd=work)
    kernels = [litert.outputs(out, arrays(source, "input"), xnnpack) for xnnpack in [False, True]]
    return max(difference(found, arrays(source, "output")) for found in kernels)


def of_the_book(report, mlctl, source, work):
    """The book's commands, in mlctl's spelling, where TensorFlow wrote the version directory."""
    version = work / "my_mnist_model/0001"
    version.parent.mkdir()
    shutil.copytree(source, version)
    mlctl.run("convert", "./my_mnist_model/0001", "--to", "tflite", "-q", cwd=work)
    report.check("the book's command: file", lambda: (work / "my_mnist_model.tflite").exists(), equal(True))
    mlctl.run("convert", "my_mnist_model", "-o", "newest.tflite", "-q", cwd=work)
    same = lambda: (work / "newest.tflite").read_bytes() == (work / "my_mnist_model.tflite").read_bytes()
    report.check("the book's command: the newest version is the same", same, equal(True))
    mlctl.run("convert", "./my_mnist_model/0001", "--to", "tfjs", "-o", "./my_tfjs_model", "-q", cwd=work)
    report.check("the book's command for browsers", lambda: predicted(mlctl, source, work, work / "my_tfjs_model"), at_most(1e-5))


def round_trip(mlctl, net, form, work):
    """What mlctl writes it reads: the exit status of comparing the folder with what it was made from."""
    folder = work / f"{net.stem}{''.join(form)}"
    mlctl.run("convert", net, "--to", "saved-model", *form, "-o", folder, "-q", cwd=work)
    return subprocess.run([mlctl.binary, "compare", net, folder, "--tolerance", "1e-5", "-q"], capture_output=True).returncode


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("mlctl")
    parser.add_argument("--only", default="")
    parser.add_argument("--models", type=Path)
    given = parser.parse_args()
    mlctl, litert, report = Mlctl(given.mlctl), LitertProcess(seconds=60), Report("TensorFlow's files")
    with tempfile.TemporaryDirectory(prefix="mlctl-tensorflow-") as temporary:
        work = Path(temporary)
        models = given.models or work / "models"
        if not models.exists():
            models.mkdir(parents=True)
            try:
                command = [python(), HERE / "tensorflow_models.py", models, "--only", given.only]
            except NoTensorflow as error:
                print(error)
                return 75
            done = subprocess.run(command, capture_output=True, text=True, timeout=1800)
            if done.returncode != 0:
                raise RuntimeError(done.stderr.strip()[-2000:])
        wanted = given.only.replace(" ", "_")
        for source in sorted(path for path in models.iterdir() if path.is_dir() and re.search(wanted, path.name)):
            tolerance = COARSE.get(source.name, TOLERANCE)
            report.check(f"{source.name}: predicted", lambda: predicted(mlctl, source, work), at_most(tolerance))
            report.check(f"{source.name}: in LiteRT", lambda: converted(mlctl, litert, source, work), at_most(tolerance))
        if (models / "keras_mlp").exists() and not given.only:
            of_the_book(report, mlctl, models / "keras_mlp", work)
        for net in sorted((HERE.parents[1] / "fixtures/models").glob("*.onnx")) if not given.only else []:
            for form in [[], ["--frozen"]]:
                report.check(f"{net.stem} {' '.join(form)}: written and read back", lambda: round_trip(mlctl, net, form, work), equal(0))
        not_built = {path.stem: path.read_text() for path in models.glob("*.not_built")}
        report.check("TensorFlow makes all models", lambda: not_built, equal({}))
    litert.stop()
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
