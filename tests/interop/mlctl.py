"""Everything these checks assume of mlctl's command line, recipes and JSON; no check lives here."""

import json
import subprocess
from pathlib import Path


class Mlctl:
    """The binary under test. A call that does not exit 0 raises with what it said."""

    def __init__(self, binary):
        self.binary = Path(binary).resolve()

    def run(self, *arguments, cwd, seconds=300):
        command = [str(self.binary), *map(str, arguments)]
        done = subprocess.run(command, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=seconds)
        if done.returncode != 0:
            said = done.stderr.strip().splitlines() or ["nothing on stderr"]
            raise RuntimeError(f"`mlctl {' '.join(command[1:])}` exited {done.returncode}: {said[-1]}")
        return done.stdout

    def train(self, folder, *arguments):
        """Trains in `folder` (made here); returns the version directory and the JSON report."""
        folder.mkdir(parents=True, exist_ok=True)
        report = json.loads(self.run("train", *arguments, "--json", cwd=folder))
        (version,) = folder.glob("*/0001")
        return version, report

    def convert(self, folder, *arguments):
        """Converts the one model directory below `folder`; returns the new .tflite."""
        before = set(folder.glob("*.tflite"))
        self.run("convert", *arguments, "-q", cwd=folder)
        (written,) = set(folder.glob("*.tflite")) - before
        return written

    def predict(self, model, source, out):
        self.run("predict", "--model", model, source, "-o", out, "-q", cwd=out.parent)


def recipe(layers, **training):
    """A recipe's text: `layers` are Keras-like dicts, `training` the training section's settings."""

    def table(values):
        return "".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items())

    text = "[training]\n" + table(training)
    return text + "".join("\n[[layers]]\n" + table(layer) for layer in layers)


def dense(units, activation):
    return {"type": "dense", "units": units, "activation": activation}


FLATTEN = {"type": "flatten"}


def test_accuracy(document):
    """The test accuracy in `train --json` or mlctl.json: the one number whose path names test and accuracy."""

    def numbers(value, path):
        if isinstance(value, dict):
            for key, inner in value.items():
                yield from numbers(inner, f"{path}.{key}".lower())
        elif isinstance(value, float):
            yield path, value

    found = [(path, value) for path, value in numbers(document, "") if "test" in path and "accuracy" in path]
    if len(found) != 1:
        raise LookupError(f"want one test accuracy, found {found}")
    return found[0][1]
