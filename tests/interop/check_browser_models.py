"""Published browser models read: what npm's @vladmandic/human (MIT) carries, predicted and held to TensorFlow.js itself.

    "$(tests/peers/venv.sh)" tests/interop/check_browser_models.py target/release/mlctl

The models have float16 weights and are kept in the cache folder only. Exit 75: npm's packages could not be fetched.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from mlctl import Mlctl
from report import Report, at_most, equal

HERE = Path(__file__).parent
PACKAGES = ["@tensorflow/tfjs@4.22.0", "@vladmandic/human@3.3.6"]
# An output whose values are all smaller counts as if this were its largest: what rounding leaves of a probability near 0 is the
# rounding of its logit, and facemesh's score of noise is 6e-5 (e to the -9.8).
LEAST_SCALE = 0.01
MODELS = ["antispoof", "blazeface", "emotion", "facemesh", "handlandmark-lite", "iris", "liveness", "movenet-lightning"]


def packages():
    """The node_modules folder with both packages, fetched on first use (370 MB)."""
    cache = Path(os.environ.get("MLCTL_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mlctl")
    folder = cache / "peers/browser-models"
    if not (folder / "done").exists():
        if shutil.which("npm") is None:
            print("no npm, which fetches the models")
            raise SystemExit(75)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "package.json").write_text("{}")
        command = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", *PACKAGES]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=900)
        if done.returncode != 0:
            print(f"npm could not fetch {', '.join(PACKAGES)}")
            raise SystemExit(75)
        (folder / "done").touch()
    return folder / "node_modules"


def difference(mlctl, modules, model, work):
    """The largest difference of any output that TensorFlow.js gives, relative to that output's largest value."""
    (given,) = json.loads(mlctl.run("inspect", model, "--json", cwd=work))["inputs"]
    shape = [int(size) if size.strip().isdigit() else 1 for size in given["shape"].strip("[]").split(",")]
    random = np.random.default_rng(1)
    x = random.random(shape).astype(np.float32) if given["type"] == "float32" else random.integers(0, 255, shape).astype(np.int32)
    x.tofile(work / "x.bin")
    (work / "x.bin.json").write_text(json.dumps({"shape": shape, "type": given["type"]}))
    np.savez(work / "x.npz", **{given["name"]: x})
    mlctl.predict(model, work / "x.npz", work / "y.npz")
    command = ["node", HERE / "browser_model.cjs", modules, model, work / "x.bin", work / "y.json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    if done.returncode != 0:
        raise RuntimeError(done.stderr.strip()[-500:])
    with np.load(work / "y.npz") as file:
        found = {name: file[name] for name in file}
    worst = 0.0
    for tensor in json.loads((work / "y.json").read_text()):
        wanted = np.array(tensor["data"], np.float64).reshape(tensor["shape"])
        scale = max(float(np.abs(wanted).max(initial=0)), LEAST_SCALE)
        # TensorFlow.js names no outputs: the nearest of that shape is it
        worst = max(worst, min(float(np.abs(got - wanted).max(initial=0)) / scale for got in found.values() if got.shape == wanted.shape))
    return worst


def main():
    mlctl, report, modules = Mlctl(sys.argv[1]), Report("published browser models"), packages()
    models = modules / "@vladmandic/human/models"
    with tempfile.TemporaryDirectory(prefix="mlctl-browser-") as temporary:
        work = Path(temporary)
        for name in MODELS:
            model = models / f"{name}.json"
            report.check(f"{name}: against TensorFlow.js", lambda: difference(mlctl, modules, model, work), at_most(1e-5))
            mlctl.run("convert", model, "-o", work / f"{name}.tflite", "-q", cwd=work)
            report.check(f"{name}: converted", lambda: (work / f"{name}.tflite").exists(), equal(True))
        done = subprocess.run([mlctl.binary, "convert", models / "handtrack.json", "-o", work / "handtrack.tflite"], capture_output=True, text=True)
        report.check("handtrack: its loop is named", lambda: "loops of TensorFlow 1" in done.stderr and done.returncode == 1, equal(True))
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
