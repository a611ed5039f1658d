"""Layers-models of TensorFlow.js read: each of tfjs_layers.js is predicted by mlctl, and held to what TensorFlow.js predicts.

    "$(tests/peers/venv.sh)" tests/interop/check_tfjs_layers.py target/release/mlctl [REGEX]

Each is converted too, and run in LiteRT. Exit 75: Node or its packages could not be had.
"""

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

HERE = Path(__file__).resolve().parent
TOLERANCE = 1e-5
TYPES = {"float32": np.float32, "int32": np.int32}


def make_models(folder, only):
    installed = subprocess.run(["bash", HERE.parent / "peers/npm.sh"], capture_output=True, text=True)
    if installed.returncode != 0:
        print(installed.stderr.strip())
        raise SystemExit(75)
    environment = os.environ | {"NODE_PATH": f"{installed.stdout.strip()}/node_modules"}
    done = subprocess.run(["node", HERE / "tfjs_layers.js", folder, only], env=environment, capture_output=True, text=True, timeout=600)
    if done.returncode != 0:
        raise RuntimeError(done.stderr.strip()[-2000:])


def array(value):
    return np.array(value["data"], TYPES[value.get("dtype", "float32")]).reshape(value["shape"])


def difference(found, expected):
    """The largest difference of any output, relative to that output's largest value."""
    if sorted(found) != sorted(expected):
        raise ValueError(f"outputs {sorted(found)} instead of {sorted(expected)}")
    worst = 0.0
    for name, wanted in expected.items():
        if found[name].shape != wanted.shape:
            raise ValueError(f"'{name}' has shape {found[name].shape} instead of {wanted.shape}")
        off = np.abs(found[name].astype(np.float64) - wanted).max(initial=0)
        worst = max(worst, float(off / max(np.abs(wanted).max(initial=0), 1e-30)))
    return worst


def check(report, mlctl, litert, folder):
    if (folder / "not_made").exists():
        report.check(folder.name, lambda: (folder / "not_made").read_text(), equal("made"))
        return
    predicted = json.loads((folder / "predicted.json").read_text())
    inputs = {value["name"]: array(value) for value in predicted["inputs"]}
    expected = {value["name"]: array(value) for value in predicted["outputs"]}
    np.savez(folder / "in.npz", **inputs)
    model, out, tflite = folder / "model.json", folder / "out.npz", folder / "model.tflite"

    def by_mlctl():
        mlctl.predict(model, folder / "in.npz", out)
        with np.load(out) as file:
            return difference({name: file[name] for name in file}, expected)

    def by_litert():
        mlctl.run("convert", model, "-o", tflite, "-q", cwd=folder)
        return difference(litert.outputs(tflite, inputs, False), expected)

    report.check(folder.name, by_mlctl, at_most(TOLERANCE))
    report.check(f"{folder.name}, in LiteRT", by_litert, at_most(TOLERANCE))


def main():
    mlctl, litert, report = Mlctl(sys.argv[1]), LitertProcess(seconds=60), Report("layers-models of TensorFlow.js")
    with tempfile.TemporaryDirectory(prefix="mlctl-tfjs-layers-") as folder:
        make_models(folder, sys.argv[2] if len(sys.argv) > 2 else "")
        for case in sorted(Path(folder).iterdir()):
            check(report, mlctl, litert, case)
    litert.stop()
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
