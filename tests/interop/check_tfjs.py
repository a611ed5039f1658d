"""Converts nets to TensorFlow.js and runs them there, in Node and in headless Chromium.

    "$(tests/peers/venv.sh)" tests/interop/check_tfjs.py target/release/mlctl [--only NAME] [--screenshot OUT.png]

Outputs are held to onnxruntime's. Exit 75: TensorFlow.js or Chromium could not be installed.
"""

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
from check_real_nets import Net, expected_outputs, nets, relative_difference
from mlctl import Mlctl
from mnist import FIXTURES, test_images, test_labels
from report import Report, at_least, at_most, equal
from strokes import WRITTEN, of_picture
from tfjs_peer import NoPeer, Server, has_chromium, packages

NAMES = {"squeezenet1_1", "blazeface_front", "resnet50", "pnet", "rnet", "magika"}
# Thousands of places of a picture are judged, and some lie so near the middle that rounded weights turn them.
FLOAT_ONLY = {"pnet"}
# Hundreds of millions of products a picture are too slow in plain JavaScript.
WASM = {"squeezenet1_1", "resnet50"}
SCHEMES = {"float32": 1e-4, "f16": 2e-3, "uint8": None}
# Bytes of MNIST's folder.
MOST_BYTES = {"float32": 324_000, "f16": 165_000, "uint8": 85_500}
SHARDS = 5
DRAWN = 10


def chosen_nets(mnist):
    yield Net("mnist", mnist, {"digits": {"input": test_images()[:64]}, "one digit": {"input": test_images()[:1]}}, ("probabilities",))
    lenet = FIXTURES / "models/lenet_mnist.onnx"
    given, made = (onnx.load(lenet).graph.input[0].name, onnx.load(lenet).graph.output[0].name)
    yield Net("lenet_mnist", lenet, {"digits": {given: test_images()[:64]}}, (made,))
    yield from nets(lambda name: name in NAMES, False)


def plain(arrays):
    """By the names of a TensorFlow.js signature: it has no `:0`."""
    return {name.removesuffix(":0"): array for name, array in arrays.items()}


def same_classes(expected, outputs, classes):
    """The share of rows with the same largest output."""
    shares = [np.mean(expected[c].argmax(-1) == outputs[c].argmax(-1)) for c in classes]
    return float(min(shares))


def folder_bytes(folder):
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def check_demo(report, server, mlctl, version, folder, screenshot):
    """The page of --demo: drawn digits, picture files, models that it is not for, and TensorFlow.js left out."""

    def page(model, *flags):
        out = folder / f"demo-{len(list(folder.glob('demo-*')))}"
        mlctl.run("convert", model, "--to", "tfjs", "--demo", "-o", out, "-q", *flags, cwd=folder)
        shutil.copy(server.packages / "node_modules/@tensorflow/tfjs/dist/tf.min.js", out)
        return out

    def names(answers):
        return [answer["name"] for answer in answers]

    digits = page(version)
    images, labels = test_images()[:DRAWN, :, :, 0], [str(label) for label in test_labels()[:DRAWN]]
    pictures = sorted((FIXTURES / "images").glob("[0-9]*"))
    # a model that says nothing of how pictures are prepared, too
    for model, record in {digits: "", page(FIXTURES / "models/lenet_mnist.onnx"): " without a record"}.items():
        drawings = [of_picture(image) for image in images] if record else []
        seen = server.demo(model, drawings, pictures)
        report.check(f"demo{record}: nothing to complain of", lambda: seen["complaints"] + [seen["trouble"]], equal([""]))
        report.check(f"demo{record}: title", lambda: seen["title"], equal("Draw a digit"))
        report.check(f"demo{record}: digits as files", lambda: names(seen["opened"]), equal([picture.name[0] for picture in pictures]))
    right = sum(a == b for a, b in zip(names(seen["drawn"]), labels, strict=True))
    report.check(f"demo: of {DRAWN} of MNIST's digits, drawn", lambda: right, at_least(DRAWN - 1))
    order = [name for name in WRITTEN if name != "3"] + ["3"]
    seen = server.demo(digits, [WRITTEN[name] for name in order], (), screenshot)
    report.check("demo: digits as people write them", lambda: names(seen["drawn"]), equal(order))

    net, flags = FIXTURES / "models/squeezenet1_1.onnx", ["--scale", "1", "--mean", "103.939,116.779,123.68"]
    photos = [FIXTURES / "photos" / name for name in ("mushroom.png", "coffee.png")]
    seen = server.demo(page(net, *flags), [], photos)
    told = json.loads(mlctl.run("predict", "--model", net, *photos, *flags, "--top-k", 1, "--json", cwd=folder))
    first = [(f"class {p['classes'][0]['class']}", 100 * p["classes"][0]["score"]) for p in told["predictions"]]
    shown = [next((a["name"], float(share.split()[0])) for name, share in a["rows"] if name == a["name"]) for a in seen["opened"]]
    report.check("demo: classes of photos as predict has them", lambda: [a for a, _ in shown], equal([a for a, _ in first]))
    report.check("demo: and their probabilities in %", lambda: max(abs(a - b) for (_, a), (_, b) in zip(shown, first)), at_most(0.2))

    seen = server.demo(page(FIXTURES / "models/magika.onnx"), [])
    report.check("demo: no pictures", lambda: "none that it can show. Its input is bytes [N, 2048]" in seen["trouble"], equal(True))
    seen = server.demo(page(FIXTURES / "models/blazeface_front.onnx"), [])
    report.check("demo: no classes", lambda: "none has one number a class" in seen["trouble"], equal(True))
    (digits / "tf.min.js").unlink()
    seen = server.demo(digits, [])
    report.check("demo: without tf.min.js", lambda: "npm pack @tensorflow/tfjs@4.22.0" in seen["trouble"], equal(True))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("mlctl")
    parser.add_argument("--only", default="")
    parser.add_argument("--screenshot")
    arguments = parser.parse_args()
    report = Report("TensorFlow.js")
    try:
        installed = packages()
    except NoPeer as error:
        print(error)
        return 75
    if not has_chromium():
        print("there is no chromium, and it could not be installed")
        return 75
    mlctl = Mlctl(arguments.mlctl)
    with tempfile.TemporaryDirectory(prefix="mlctl-tfjs-") as temporary:
        folder = Path(temporary)
        server = Server(folder, installed)
        version, _ = mlctl.train(folder / "train", "--epochs", 1)
        runs = []
        expected = {}
        for net in chosen_nets(version / "model.onnx"):
            if arguments.only not in net.name:
                continue
            expected[net.name] = {title: plain(outputs) for title, outputs in expected_outputs(net).items()}
            source = version if net.name == "mnist" else net.path
            for scheme in ["float32"] if net.name in FLOAT_ONLY else SCHEMES:
                out = folder / f"{net.name}-{scheme}"
                quantize = [] if scheme == "float32" else ["--quantize", scheme]
                mlctl.run("convert", source, "--to", "tfjs", "-o", out, "--weight-shard-size", max(1024, net.path.stat().st_size // SHARDS // 4), "-q", *quantize, cwd=folder)
                shards = json.loads((out / "model.json").read_text())["weightsManifest"][0]["paths"]
                if scheme == "float32":
                    report.check(f"{net.name}: shards", lambda: len(shards) > 1 and all((out / s).is_file() for s in shards), equal(True))
                for title, inputs in net.runs.items():
                    backend = "wasm" if net.name in WASM else "cpu"
                    job = server.job(out, plain(inputs), f"{net.name}-{scheme}-{title}".replace(" ", "_"), backend)
                    runs.append((net, scheme, title, job))
        for where, in_browser in {"Node": False, "Chromium": True}.items() if runs else ():
            results = server.results([job for *_, job in runs], in_browser)
            for (net, scheme, title, _), outputs in zip(runs, results, strict=True):
                name, right = f"{net.name}, {title}, {scheme}, {where}", expected[net.name][title]
                if isinstance(outputs, str):
                    report.check(f"{name}: runs", lambda: outputs, equal(None))
                    continue
                report.check(f"{name}: names", lambda: list(outputs), equal(list(right)))
                tolerance = SCHEMES[scheme]
                if tolerance is not None:
                    report.check(f"{name}: outputs", lambda: relative_difference(right, outputs), at_most(tolerance))
                if net.classes:
                    report.check(f"{name}: classes", lambda: same_classes(right, outputs, net.classes), equal(1.0))
        for scheme, limit in MOST_BYTES.items():
            out = folder / f"again-{scheme}"
            quantize = [] if scheme == "float32" else ["--quantize", scheme]
            mlctl.run("convert", version, "--to", "tfjs", "-o", out, "-q", *quantize, cwd=folder)
            report.check(f"mnist, {scheme}: bytes", lambda: folder_bytes(out), at_most(limit))
        check_demo(report, server, mlctl, version, folder, arguments.screenshot)
        server.close()
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
