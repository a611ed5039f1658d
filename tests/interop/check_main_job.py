"""Trains, converts and predicts with mlctl, and asks onnxruntime, onnx and LiteRT whether it is right.

    "$(tests/peers/venv.sh)" tests/interop/check_main_job.py target/release/mlctl
"""

import hashlib
import json
import sys
import tempfile
import zipfile
from functools import cached_property
from pathlib import Path

import numpy as np
import onnx
from mlctl import FLATTEN, Mlctl, dense, recipe, test_accuracy
from mnist import FIXTURES, test_images, test_labels
from peers import TfliteFile, litert_interpreter, litert_outputs, litert_signature_outputs, onnx_outputs
from PIL import Image
from report import Report, at_most, between, equal

LABELS = [str(digit) for digit in range(10)]
KERAS_ACCURACY = 0.9242

RECIPES = {
    "sigmoid": [FLATTEN, dense(64, "sigmoid"), dense(10, "softmax")],
    "tanh": [FLATTEN, dense(64, "tanh"), dense(10, "softmax")],
    "linear": [FLATTEN, dense(32, "linear"), dense(10, "softmax")],
    "softmax regression": [FLATTEN, dense(10, "softmax")],
    "deep": [FLATTEN, dense(48, "relu"), dense(40, "tanh"), dense(33, "sigmoid"), dense(10, "softmax")],
}


def largest_difference(a, b):
    if a.shape != b.shape:
        raise ValueError(f"shapes {a.shape} and {b.shape}")
    return float(np.abs(a.astype(np.float64) - b).max())


def relative_difference(a, b):
    """DESIGN's comparison: the largest difference over the largest value."""
    return largest_difference(a, b) / float(np.abs(a).max())


def same_classes(a, b):
    return int((a.argmax(1) == b.argmax(1)).sum())


def contents(folder):
    """Every file below `folder`, by relative path."""
    return {str(f.relative_to(folder)): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()}


def differing_files(a, b):
    one, other = contents(a), contents(b)
    return sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))


class Job:
    """The main job's files, each made when first asked for."""

    def __init__(self, mlctl, folder):
        self.mlctl, self.folder = mlctl, folder

    @cached_property
    def trained(self):
        return {seed: self.mlctl.train(self.folder / f"seed{seed}", "--seed", seed) for seed in (1, 2, 3)}

    @cached_property
    def version(self):
        """What `mlctl train` makes without arguments."""
        return self.mlctl.train(self.folder / "default")[0]

    @cached_property
    def onnx(self):
        return self.version / "model.onnx"

    @cached_property
    def f32(self):
        return self.mlctl.convert(self.version.parents[1])

    @cached_property
    def f16(self):
        return self.mlctl.convert(self.version.parents[1], "--quantize", "f16")

    @cached_property
    def expected(self):
        return onnx_outputs(self.onnx, test_images())

    @cached_property
    def f32_outputs(self):
        return litert_outputs(self.f32, test_images())

    @cached_property
    def f16_outputs(self):
        return litert_outputs(self.f16, test_images())

    def retrained(self, name, *arguments):
        return self.mlctl.train(self.folder / name, *arguments)[0]

    def reconverted(self, name, *arguments):
        """The same conversion again; returns the bytes."""
        out = self.folder / f"{name}.tflite"
        self.mlctl.run("convert", self.version, "-o", out, "-q", *arguments, cwd=self.folder)
        return out.read_bytes()

    def predicted(self, model, source):
        """`mlctl predict`'s probabilities for `source`: a file, or rows of the test images."""
        out = self.folder / "out.npz"
        out.unlink(missing_ok=True)
        if isinstance(source, np.ndarray):
            np.savez(self.folder / "digits.npz", input=source)
            source = self.folder / "digits.npz"
        self.mlctl.predict(model, source, out)
        with np.load(out) as arrays:
            return arrays["probabilities"]


def float64_outputs(onnx_path, images):
    """The default model's probabilities in float64, by its definition."""
    w = {i.name: onnx.numpy_helper.to_array(i).astype(np.float64) for i in onnx.load(onnx_path).graph.initializer}
    hidden = np.maximum(images.reshape(len(images), -1).astype(np.float64) @ w["dense/kernel"] + w["dense/bias"], 0)
    logits = hidden @ w["dense_1/kernel"] + w["dense_1/bias"]
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def batch_differences(path, expected):
    """The largest difference over several batch sizes, resized in turn."""
    sizes = [1, 7, 32]
    return max(largest_difference(expected[:n], litert_outputs(path, test_images()[:n])) for n in sizes)


def signature_shapes(path):
    interpreter = litert_interpreter(path)
    details = interpreter.get_input_details() + interpreter.get_output_details()
    return [(d["name"], d["dtype"].__name__, d["shape_signature"].tolist()) for d in details]


def weights_not_kept(onnx_path, tflite_path, kind):
    """The ONNX weights that the .tflite does not hold, as they are or transposed: bit for bit, in `kind` rounded to nearest."""
    held = TfliteFile(tflite_path).float_constants()

    def is_held(weight):
        wanted = weight.astype(kind)
        return any(c.dtype == kind and (np.array_equal(c, wanted) or np.array_equal(c, wanted.T)) for c in held)

    return [i.name for i in onnx.load(onnx_path).graph.initializer if i.data_type == onnx.TensorProto.FLOAT and not is_held(onnx.numpy_helper.to_array(i))]


def misaligned_buffers(path):
    starts = TfliteFile(path).buffer_starts()
    assert starts, "no buffer holds data"
    return [number for number, start in starts.items() if start % 16]


def labels_in_zip(path):
    with zipfile.ZipFile(path) as archive:
        return archive.read("labels.txt").decode().split()


def check_onnx(report, job):
    def checked():
        onnx.checker.check_model(str(job.onnx), full_check=True)
        return True

    def interface():
        graph = onnx.load(job.onnx).graph
        values = [*graph.input, *graph.output]
        shapes = [[d.dim_value for d in v.type.tensor_type.shape.dim] for v in values]
        return [(v.name, shape) for v, shape in zip(values, shapes)]

    report.check("onnx.checker accepts model.onnx", checked, equal(True))
    report.check("model.onnx: names and shapes, batch open", interface, equal([("input", [0, 28, 28, 1]), ("probabilities", [0, 10])]))


def check_tflite(report, job):
    # 2e-6 over all digits, 1e-6 over the first thousand: onnxruntime and LiteRT are each about 1e-6 from float64 on a few
    # of the 10,000, in opposite directions at worst. That the weights are held bit for bit is checked below.
    files = {
        "float32": (lambda: job.f32, lambda: job.f32_outputs, 2e-6, 321_000, "my_mnist_model.tflite", np.float32),
        "f16": (lambda: job.f16, lambda: job.f16_outputs, 5e-4, 162_500, "my_mnist_model-f16.tflite", np.float16),
    }
    shapes = [("input", "float32", [-1, 28, 28, 1]), ("probabilities", "float32", [-1, 10])]
    names = {"serving_default": {"inputs": ["input"], "outputs": ["probabilities"]}}
    for kind, (path, outputs, tolerance, size, name, weight_type) in files.items():
        for title, measure, expectation in [
            ("is named", lambda: path().name, equal(name)),
            ("in LiteRT is model.onnx in onnxruntime on 10,000 digits", lambda: largest_difference(job.expected, outputs()), at_most(tolerance)),
            ("the same on LiteRT's kernels without XNNPACK", lambda: largest_difference(job.expected, litert_outputs(path(), test_images(), xnnpack=False)), at_most(2 * tolerance)),
            ("weights of model.onnx it does not hold exactly", lambda: weights_not_kept(job.onnx, path(), weight_type), equal([])),
            ("batches of 1, 7 and 32", lambda: batch_differences(path(), job.expected), at_most(tolerance)),
            ("signature names", lambda: litert_interpreter(path()).get_signature_list(), equal(names)),
            ("through its signature", lambda: largest_difference(job.expected[:7], litert_signature_outputs(path(), test_images()[:7])), at_most(tolerance)),
            ("names, types and shape signatures", lambda: signature_shapes(path()), equal(shapes)),
            ("size in bytes", lambda: path().stat().st_size, at_most(size)),
            ("labels.txt in its zip", lambda: labels_in_zip(path()), equal(LABELS)),
            ("file identifier", lambda: path().read_bytes()[4:8], equal(b"TFL3")),
            ("version", lambda: TfliteFile(path()).model.version, equal(3)),
            ("buffers not at 16 bytes", lambda: misaligned_buffers(path()), equal([])),
            ("buffers nothing uses", lambda: TfliteFile(path()).unused_buffers(), equal([])),
            ("op codes where old and new differ", lambda: [c for c in TfliteFile(path()).old_and_new_codes() if c[0] != c[1]], equal([])),
            ("metadata it lacks", lambda: sorted({"TFLITE_METADATA", "min_runtime_version"} - TfliteFile(path()).metadata().keys()), equal([])),
        ]:
            report.check(f"{kind} .tflite: {title}", measure, expectation)
    report.check("float32 .tflite: in LiteRT is model.onnx in onnxruntime on 1,000 digits", lambda: largest_difference(job.expected[:1000], job.f32_outputs[:1000]), at_most(1e-6))
    report.check("float32 .tflite: in LiteRT is the model in float64", lambda: largest_difference(float64_outputs(job.onnx, test_images()), job.f32_outputs), at_most(1.5e-6))
    report.check("float32 .tflite: same class", lambda: same_classes(job.expected, job.f32_outputs), equal(10_000))
    report.check("float32 .tflite: ops", lambda: TfliteFile(job.f32).operators(), equal(["RESHAPE", "FULLY_CONNECTED", "FULLY_CONNECTED", "SOFTMAX"]))
    report.check("f16 .tflite: reduced_precision_support", lambda: TfliteFile(job.f16).metadata().get("reduced_precision_support"), equal(b"fp16accfp32"))


def check_same_bytes(report, job):
    report.check("bytes: float32 .tflite converted twice", lambda: job.f32.read_bytes() == job.reconverted("f32_again"), equal(True))
    report.check("bytes: f16 .tflite converted twice", lambda: job.f16.read_bytes() == job.reconverted("f16_again", "--quantize", "f16"), equal(True))
    for name, arguments in {"again": [], "one_thread": ["--threads", "1"], "two_threads": ["--threads", "2"]}.items():
        title = " ".join(["bytes: files that differ when trained", *(arguments or ["again"])])
        report.check(title, lambda: differing_files(job.version, job.retrained(name, *arguments)), equal([]))
    report.check("bytes: seeds 1 and 2 give the same model", lambda: job.onnx.read_bytes() == (job.trained[2][0] / "model.onnx").read_bytes(), equal(False))


def check_version(report, job):
    files = contents(job.version)
    recorded = json.loads(files.pop("mlctl.json"))["files"]
    names = ["assets/labels.txt", "fingerprint.pb", "model.onnx", "saved_model.pb", "variables/variables.data-00000-of-00001", "variables/variables.index"]
    report.check("version directory: files beside mlctl.json", lambda: sorted(files), equal(names))
    report.check("version directory: sha256 in mlctl.json", lambda: recorded, equal({name: hashlib.sha256(data).hexdigest() for name, data in files.items()}))


def check_accuracy(report, job):
    def measured(version):
        return float((onnx_outputs(version / "model.onnx", test_images()).argmax(1) == test_labels()).mean())

    def recorded(version):
        return test_accuracy(json.loads((version / "mlctl.json").read_text()))

    for seed in (1, 2, 3):
        report.check(f"accuracy: seed {seed}, `train --json` less onnxruntime's", lambda: abs(test_accuracy(job.trained[seed][1]) - measured(job.trained[seed][0])), at_most(1e-4))
        report.check(f"accuracy: seed {seed}, mlctl.json less onnxruntime's", lambda: abs(recorded(job.trained[seed][0]) - measured(job.trained[seed][0])), at_most(1e-4))
    report.check("accuracy: mean of seeds 1, 2, 3 as Keras gets", lambda: float(np.mean([measured(v) for v, _ in job.trained.values()])), between(KERAS_ACCURACY - 0.003, KERAS_ACCURACY + 0.003))


def check_predict(report, job):
    digits = test_images()[:1000]
    models = {
        "version directory": (lambda: job.version, lambda: job.expected),
        "model.onnx": (lambda: job.onnx, lambda: job.expected),
        "float32 .tflite": (lambda: job.f32, lambda: job.f32_outputs),
        "f16 .tflite": (lambda: job.f16, lambda: job.f16_outputs),
    }
    for kind, (model, expected) in models.items():
        report.check(f"predict: raw tensors, {kind}", lambda: largest_difference(expected()[:1000], job.predicted(model(), digits)), at_most(2e-6))
    report.check("predict: one row", lambda: largest_difference(job.expected[:1], job.predicted(job.f32, digits[:1])), at_most(2e-6))

    def image_difference(name):
        image = FIXTURES / "images" / name
        pixels = np.asarray(Image.open(image).convert("L"), np.float32)[None, :, :, None] / np.float32(255)
        return largest_difference(onnx_outputs(job.onnx, pixels), job.predicted(job.version, image))

    for name, tolerance in {"7.png": 2e-6, "2.bmp": 2e-6, "mnist_5.jpg": 0.02}.items():
        report.check(f"predict: {name} as Pillow reads it", lambda: image_difference(name), at_most(tolerance))


def check_recipes(report, job):
    for title, layers in RECIPES.items():
        folder = job.folder / f"recipe {title}"
        files = {}

        def made(kind):
            if not files:
                text = job.folder / f"{title}.toml"
                text.write_text(recipe(layers, epochs=1, batch_size=32))
                version, _ = job.mlctl.train(folder, text, "--seed", 1)
                files["onnx"] = version / "model.onnx"
                files["f32"] = job.mlctl.convert(folder)
                files["f16"] = job.mlctl.convert(folder, "--quantize", "f16")
            return files[kind]

        def difference(kind):
            expected = onnx_outputs(made("onnx"), test_images())
            return relative_difference(expected, litert_outputs(made(kind), test_images()))

        def learned():
            return float((onnx_outputs(made("onnx"), test_images()).argmax(1) == test_labels()).mean())

        report.check(f"recipe {title}: accuracy after one epoch", learned, between(0.5, 1))
        report.check(f"recipe {title}: float32 .tflite", lambda: difference("f32"), at_most(1e-5))
        report.check(f"recipe {title}: f16 .tflite", lambda: difference("f16"), at_most(2e-2))


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    report = Report("interop of the main job with onnxruntime, onnx and LiteRT")
    with tempfile.TemporaryDirectory(prefix="mlctl-interop-") as folder:
        job = Job(Mlctl(sys.argv[1]), Path(folder))
        report.check("mlctl train, seeds 1, 2, 3", lambda: [v.parent.name for v, _ in job.trained.values()], equal(["my_mnist_model"] * 3))
        if report.failed:
            sys.exit(report.finish())
        for section in (check_onnx, check_tflite, check_same_bytes, check_version, check_accuracy, check_predict, check_recipes):
            section(report, job)
    sys.exit(report.finish())


if __name__ == "__main__":
    main()
