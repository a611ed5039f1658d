"""TensorFlow, in a Python environment of its own, on SavedModels that mlctl has written."""

import json
import subprocess
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
REQUIREMENTS = ROOT / "benches/peers/requirements.txt"


class NoTensorflow(Exception):
    """It could not be installed; says why."""


def python():
    """The interpreter that has TensorFlow, made on first use (1.6 GB)."""
    done = subprocess.run(["bash", ROOT / "tests/peers/venv.sh", REQUIREMENTS], capture_output=True, text=True)
    if done.returncode == 75:
        raise NoTensorflow(done.stderr.strip().splitlines()[-1])
    if done.returncode != 0:
        raise RuntimeError(f"venv.sh exits {done.returncode}: {done.stderr[-500:]}")
    return done.stdout.strip()


def job(model, inputs, outputs, tflite=None, resaved=None, gradients=False):
    paths = {"model": model, "inputs": inputs, "outputs": outputs, "tflite": tflite, "resaved": resaved}
    return {name: path and str(path) for name, path in paths.items()} | {"gradients": gradients}


def results(interpreter, jobs, folder, seconds=1800):
    """What TensorFlow saw, a dict a job; with `error` where it could not run it."""
    listed = folder / "jobs.json"
    listed.write_text(json.dumps(jobs))
    done = subprocess.run([interpreter, HERE / "tensorflow_process.py", listed], capture_output=True, text=True, timeout=seconds)
    if done.returncode != 0:
        raise RuntimeError(f"TensorFlow's process exits {done.returncode}: {done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])
