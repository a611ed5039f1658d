"""TensorFlow, in a Python environment of its own, on SavedModels that mlctl has written."""

import json
import select
import subprocess
from pathlib import Path

import numpy as np

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


class TensorflowFailure(Exception):
    """TensorFlow refused the SavedModel, crashed on it, or took too long; says which."""


class TensorflowServer:
    """Calls the signatures of SavedModels in one process, which starts when first used and again after a crash."""

    def __init__(self, interpreter, folder, seconds=60):
        self.interpreter, self.folder, self.seconds, self.process = interpreter, folder, seconds, None

    def outputs(self, model, inputs):
        """The outputs by name."""
        given, made = self.folder / "given.npz", self.folder / "made.npz"
        made.unlink(missing_ok=True)
        np.savez(given, **inputs)
        if self.process is None:
            command = [self.interpreter, HERE / "tensorflow_process.py", "--serve"]
            self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        try:
            print(json.dumps(job(model, given, made)), file=self.process.stdin, flush=True)
            if not select.select([self.process.stdout], [], [], self.seconds)[0]:
                self.stop()
                raise TensorflowFailure(f"TensorFlow hangs: no answer after {self.seconds} s")
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            status = self.process.wait(5)
            self.stop()
            raise TensorflowFailure(f"TensorFlow crashes: exit status {status}")
        if error := json.loads(line).get("error"):
            raise TensorflowFailure(f"TensorFlow: {error}")
        with np.load(made) as file:
            return {name: file[name] for name in file}

    def stop(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None
