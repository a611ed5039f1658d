"""Converts nets to SavedModels and asks TensorFlow to load, call, differentiate, save and convert them.

    "$(tests/peers/venv.sh)" tests/interop/check_saved_model.py target/release/mlctl

Outputs are held to onnxruntime's. Exit 75: TensorFlow could not be installed.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
from check_real_nets import Net, expected_outputs, nets, relative_difference
from mlctl import Mlctl
from mnist import FIXTURES, test_images
from peers import litert_interpreter, silent_stderr
from report import Report, at_most, equal
from tensorflow_peer import NoTensorflow, job, python, results

MNIST_BYTES = 345_000
RELATIVE = 1e-5
# The variables TensorFlow must find: initializers of the ONNX file, by name.
MNIST_VARIABLES = {"dense/kernel": [784, 100], "dense/bias": [100], "dense_1/kernel": [100, 10], "dense_1/bias": [10]}
OTHER_NAMES = {"resnet50": 1.0, "blazeface_front": 0.3}
FROZEN = "-frozen"
NAMES = {"squeezenet1_1", "blazeface_front", "resnet50"}


def chosen_nets(mnist):
    yield Net("mnist", mnist, {"digits": {"input": test_images()[:64]}, "one digit": {"input": test_images()[:1]}}, ("probabilities",))
    lenet = FIXTURES / "models/lenet_mnist.onnx"
    given, made = (onnx.load(lenet).graph.input[0].name, onnx.load(lenet).graph.output[0].name)
    yield Net("lenet_mnist", lenet, {"digits": {given: test_images()[:64]}}, (made,))
    yield from nets(lambda name: name in NAMES, False)


def plain(arrays):
    """By the names of a SavedModel's signature: it has no `:0`."""
    return {name.removesuffix(":0"): array for name, array in arrays.items()}


def folder_bytes(folder):
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def litert_outputs(path, inputs):
    """A .tflite's outputs by the names of its signature."""
    with silent_stderr():
        interpreter = litert_interpreter(path)
        runner = interpreter.get_signature_runner("serving_default")
        return runner(**inputs)


class Written:
    """A net as a SavedModel, and what TensorFlow said of it, a run at a time."""

    def __init__(self, net, folder, title, path=None):
        """`path` is where it is, if not where this says."""
        self.net, self.title, base = net, title, folder / title.replace(" ", "_")
        self.path, self.tflite = path or base, base.with_name(f"{base.name}.tflite")
        self.jobs = []
        for number, inputs in enumerate(map(plain, net.runs.values())):
            given, made = (base.with_name(f"{base.name}.{number}.{kind}.npz") for kind in ("in", "out"))
            np.savez(given, **inputs)
            first = number == 0
            self.jobs.append(job(self.path, given, made, self.tflite if first else None, base.with_name(f"{base.name}.resaved") if first else None, first))

    def outputs(self, number):
        with np.load(self.jobs[number]["outputs"]) as file:
            return {name: file[name] for name in file}


def check(report, written, seen, expected):
    net, name = written.net, written.title
    for number, (title, outputs) in enumerate(expected.items()):
        report.check(f"{name}, {title}: TensorFlow runs it", lambda: seen[number].get("error"), equal(None))
        if "error" in seen[number]:
            return
        report.check(f"{name}, {title}: the signature against onnxruntime", lambda: relative_difference(outputs, written.outputs(number)), at_most(RELATIVE))
        scale = max(float(np.abs(a).max()) for a in outputs.values())
        report.check(f"{name}, {title}: in a session", lambda: seen[number]["session"] / scale, at_most(RELATIVE))
    first = seen[0]
    inputs, outputs = plain(next(iter(net.runs.values()))), next(iter(expected.values()))
    report.check(f"{name}: names of inputs", lambda: sorted(first["inputs"]), equal(sorted(inputs)))
    report.check(f"{name}: names of outputs", lambda: sorted(first["outputs"]), equal(sorted(outputs)))
    # TensorFlow adds up on several threads, in no fixed order
    scale = max(float(np.abs(a).max()) for a in outputs.values())
    report.check(f"{name}: saved again", lambda: first["resaved"] / scale, at_most(RELATIVE))
    report.check(f"{name}: through TensorFlow's converter, in LiteRT", lambda: relative_difference(outputs, litert_outputs(written.tflite, inputs)), at_most(RELATIVE))
    if name.endswith(FROZEN):
        return
    report.check(f"{name}: called", lambda: first["called"] / scale, at_most(RELATIVE))
    report.check(f"{name}: attributes are the variables", lambda: first["attributes"], equal(True))
    report.check(f"{name}: all variables are trainable", lambda: all(trainable for _, _, trainable in first["variables"]), equal(True))
    report.check(f"{name}: gradients", lambda: first["gradients"], equal({"missing": [], "all_zero": False}))
    variables = [variable for variable, _, _ in first["variables"]]
    report.check(f"{name}: names of variables that others have too", lambda: len(variables) - len(set(variables)), equal(0))
    others = set(variables) - {i.name.removesuffix(":0") for i in onnx.load(net.path).graph.initializer}
    # where a batch normalization went into a convolution there is no such initializer
    report.check(f"{name}: variables that no initializer is named like", lambda: len(others) / len(variables), at_most(OTHER_NAMES.get(net.name, 0.0)))


def main():
    report = Report("SavedModel")
    try:
        interpreter = python()
    except NoTensorflow as error:
        print(error)
        return 75
    mlctl = Mlctl(sys.argv[1])
    with tempfile.TemporaryDirectory(prefix="mlctl-saved-model-") as temporary:
        folder = Path(temporary)
        version, _ = mlctl.train(folder / "train", "--epochs", 1)
        found, jobs = [], []
        for net in chosen_nets(version / "model.onnx"):
            for form in ("", FROZEN):
                written = Written(net, folder, f"{net.name}{form}")
                source = version if net.name == "mnist" else net.path
                mlctl.run("convert", source, "--to", "saved-model", "-o", written.path, "-q", *(["--frozen"] if form else []), cwd=folder)
                found.append(written)
        mnist = found[0].net
        found.append(Written(mnist, folder, "what train saved", version))
        mlctl.run("convert", version, "-o", "lite.tflite", "-q", cwd=folder)
        mlctl.run("save", "lite.tflite", "--to", folder / "lite", cwd=folder)
        found.append(Written(mnist, folder, "what save made of a TFLite file", folder / "lite/0001"))
        for written in found:
            written.start = len(jobs)
            jobs += written.jobs
        seen = results(interpreter, jobs, folder)
        expected = {}
        for written in found:
            net = written.net
            if net.name not in expected:
                expected[net.name] = {title: plain(outputs) for title, outputs in expected_outputs(net).items()}
            check(report, written, seen[written.start : written.start + len(written.jobs)], expected[net.name])
        report.check("what train saved: bytes beside model.onnx", lambda: folder_bytes(version) - (version / "model.onnx").stat().st_size, at_most(MNIST_BYTES))
        report.check("mnist: bytes", lambda: folder_bytes(folder / "mnist"), at_most(MNIST_BYTES))
        report.check("mnist: variables", lambda: {name: shape for name, shape, _ in seen[0]["variables"]}, equal(MNIST_VARIABLES))
        report.check("mnist: labels", lambda: (folder / "mnist/assets/labels.txt").read_text().split(), equal([str(n) for n in range(10)]))
        again = folder / "again"
        mlctl.run("convert", version, "--to", "saved-model", "-o", again, "-q", cwd=folder)
        files = sorted(f.relative_to(again) for f in again.rglob("*") if f.is_file())
        report.check("mnist: the same bytes again", lambda: all((again / f).read_bytes() == (folder / "mnist" / f).read_bytes() for f in files), equal(True))
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
