"""Keras' files read: models of each layer and some nets, converted, run in LiteRT, held to what Keras predicts.

    "$(tests/peers/venv.sh)" tests/interop/check_keras_files.py target/release/mlctl [--only REGEX] [--keras 2|3]

keras_models.py makes the files, in the environment of tests/peers/keras.txt: with Keras 3 and with tf_keras, as .keras
and as .h5. Exit 75: that environment could not be made.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from litert_process import LitertProcess
from mlctl import Mlctl
from report import Report, at_most, equal

HERE = Path(__file__).parent
TOLERANCE = 1e-5

def make_models(folder, version, only):
    made = subprocess.run([HERE.parent / "peers/venv.sh", HERE.parent / "peers/keras.txt"], capture_output=True, text=True)
    if made.returncode != 0:
        print(made.stderr.strip())
        raise SystemExit(75)
    command = [made.stdout.strip(), HERE / "keras_models.py", folder, "--only", only]
    done = subprocess.run(command, env=os.environ | {"KERAS": version}, capture_output=True, text=True, timeout=1800)
    if done.returncode != 0:
        raise RuntimeError(done.stderr.strip()[-2000:])


def difference(mlctl, litert, source, work):
    """The largest difference of any output, relative to that output's largest value."""
    out = work / "model.tflite"
    out.unlink(missing_ok=True)
    mlctl.run("convert", source, "-o", out, "-q", cwd=work)
    with np.load(source.with_suffix(".npz")) as arrays:
        inputs = {name.removeprefix("input "): arrays[name] for name in arrays if name.startswith("input ")}
        expected = [arrays[f"output {i}"] for i in range(sum(name.startswith("output ") for name in arrays))]
    names = source.with_suffix(".names").read_text().splitlines()
    found = {}
    for xnnpack in [False, True]:
        outputs = litert.outputs(out, inputs, xnnpack)
        if sorted(outputs) != sorted(names):
            raise ValueError(f"outputs {sorted(outputs)} instead of {sorted(names)}")
        for name, wanted in zip(names, expected):
            got = outputs[name]
            if got.shape != wanted.shape:
                raise ValueError(f"'{name}' has shape {got.shape} instead of {wanted.shape}")
            off = np.abs(got.astype(np.float64) - wanted).max(initial=0) / max(np.abs(wanted).max(initial=0), 1e-30)
            found[name] = max(found.get(name, 0), float(off))
    return max(found.values())


def refusals(report, mlctl, folder):
    """Layers that are not read are listed, all of them, with what would help; nothing is written."""
    layers = ["LSTM 'lstm'", "Lambda 'lambda_1'", "Bidirectional 'both'"]
    config = {"class_name": "Sequential", "config": {"name": "net", "layers": [
        {"class_name": "InputLayer", "config": {"batch_shape": [None, 3, 4], "name": "x"}},
        *({"class_name": layer.split()[0], "config": {"name": layer.split("'")[1]}} for layer in layers),
    ]}}
    import zipfile

    path = folder / "refused.keras"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", json.dumps(config))
        archive.writestr("metadata.json", json.dumps({"keras_version": "3.0.0"}))
        archive.writestr("model.weights.h5", next(folder.glob("*.h5")).read_bytes())
    done = subprocess.run([mlctl.binary, "convert", path, "-o", folder / "refused.tflite"], capture_output=True, text=True)
    report.check("refused layers: exit status", lambda: done.returncode, equal(1))
    for layer in layers:
        report.check(f"refused: {layer}", lambda: layer in done.stderr and "model.export(" in done.stderr, equal(True))
    report.check("nothing written", lambda: (folder / "refused.tflite").exists(), equal(False))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("mlctl")
    parser.add_argument("--only", default="")
    parser.add_argument("--keras", choices=["2", "3"])
    given = parser.parse_args()
    mlctl, litert, report = Mlctl(given.mlctl), LitertProcess(seconds=60), Report("Keras files")
    for version in [given.keras] if given.keras else ["3", "2"]:
        with tempfile.TemporaryDirectory() as folder:
            folder = Path(folder)
            make_models(folder, version, given.only)
            for path in sorted([*folder.glob("*.keras"), *folder.glob("*.h5")]):
                name = f"Keras {version}, {path.name}"
                report.check(name, lambda: difference(mlctl, litert, path, folder), at_most(TOLERANCE))
            not_built = {path.stem: path.read_text() for path in folder.glob("*.not_built")}
            report.check(f"Keras {version} makes all models", lambda: not_built, equal({}))
            if not given.only:
                refusals(report, mlctl, folder)
    litert.stop()
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
