"""Quantizes real nets to int8 and holds LiteRT's outputs on them to onnxruntime's on the float model.

    "$(tests/peers/venv.sh)" tests/interop/check_int8_nets.py target/release/mlctl [OPTION]

    --long            also the nets that take LiteRT's reference kernels minutes
    --only REGEX      the checks whose net or subject matches
    --write-table     rewrites the tables in tests/README.md

Calibrated on crops of fixtures/photos, tested on other crops of them.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Callable

import numpy as np
import onnxruntime
from check_real_nets import PHOTOS, bgr_minus_mean, table
from litert_process import LitertProcess
from mlctl import Mlctl
from mnist import FIXTURES, test_images, test_labels
from peers import Interpreter, OpResolverType, silent_stderr
from PIL import Image
from readme import write_block
from report import Report, at_most, equal
from xnnpack_nodes import left_on_bytes

sys.path.append(str(Path(__file__).resolve().parents[1] / "peers"))
sys.path.append(str(FIXTURES))
import light_nets  # noqa: E402
import make_fixtures  # noqa: E402

# Outputs of LiteRT on the int8 file against onnxruntime's on the float model, each output by itself.
CORRELATION = 0.97
CORRELATIONS = {"squeezenet": 0.985, "vgg19": 0.985}
LONG = {"bvlc_alexnet", "densenet121", "inception_v1", "inception_v2", "resnet50", "vgg19", "zfnet512"}
SAME_BYTES = {"blazeface_front", "pnet", "squeezenet"}
SAMPLES, TESTS = 64, 6
SMALL = """activations average_pool batch_matmul batch_norm concat_split conv_depthwise conv_relu_pool conv_transpose dense depth_to_space einsum
gather_nd grid_sample grid_sample_cubic layer_norm pad reduce resize resize_cubic slice tile_expand transpose_reshape where""".split()
# XNNPACK has kernels for these, but not for all scales, sizes and strides.
BY_PARAMETERS = {"ADD", "SUB", "SLICE", "MAX_POOL_2D", "RESHAPE", "CONCATENATION"}
DIGIT_BYTES = 85_500
DIGIT_CHANGE = 0.031  # of a probability
POINTS_LOST = {"mnist": 0.1, "lenet_mnist": 0.2}


@dataclass
class Net:
    name: str
    path: Path
    inputs: Callable  # uint8 crops [N,H,W,3] → what the model takes, by name
    size: tuple  # height and width of a crop


@cache
def photo(name):
    return np.asarray(Image.open(FIXTURES / f"photos/{name}.png").convert("RGB"))


def crops(count, height, width, seed):
    """uint8 [count,height,width,3]: squares of 80 to 224 pixels out of the photos, some mirrored."""
    random = np.random.default_rng(seed)
    made = []
    for number in range(count):
        picture = photo(list(PHOTOS)[number % len(PHOTOS)])
        side = int(random.integers(80, 225))
        y, x = (int(random.integers(0, size - side + 1)) for size in picture.shape[:2])
        crop = picture[y : y + side, x : x + side]
        crop = crop[:, ::-1] if random.integers(2) else crop
        made.append(np.asarray(Image.fromarray(crop).resize((width, height), Image.BILINEAR)))
    return np.stack(made)


def imagenet(pixels):
    """NCHW as torchvision scales it."""
    mean, deviation = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    return ((pixels / 255 - mean) / deviation).transpose(0, 3, 1, 2).astype(np.float32)


def caffe(pixels):
    mean = np.array([103.939, 116.779, 123.68])
    return (pixels[..., ::-1] - mean).transpose(0, 3, 1, 2).astype(np.float32)


def nets(wanted):
    """The nets whose name `wanted` takes; those of light_nets are made on the way."""
    yield from filter(lambda net: wanted(net.name), fixture_nets())
    yield from map(light_net, filter(wanted, light_nets.NAMES))


def fixture_nets():
    models = FIXTURES / "models"
    yield Net("squeezenet1_1", models / "squeezenet1_1.onnx", lambda p: {"data": caffe(p)}, (224, 224))
    yield Net("blazeface_front", models / "blazeface_front.onnx", lambda p: {"input:0": (p / 127.5 - 1).astype(np.float32)}, (128, 128))
    for name, given, size in ("pnet", "input_1", (60, 80)), ("rnet", "input_2", (24, 24)), ("onet", "input_3", (48, 48)):
        yield Net(name, models / f"{name}.onnx", lambda p, given=given: {given: ((p - 127.5) / 128).astype(np.float32)}, size)


def light_net(name):
    path = light_nets.net(name)
    (given,) = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"]).get_inputs()
    return Net(name, path, lambda p: {given.name: imagenet(p)}, tuple(given.shape[2:]))


def rows_of(inputs):
    """The inputs one row at a time."""
    count = len(next(iter(inputs.values())))
    return [{name: a[i : i + 1] for name, a in inputs.items()} for i in range(count)]


def float_outputs(path, inputs):
    """onnxruntime's outputs by name, the rows run one by one."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [o.name for o in session.get_outputs()]
    rows = [session.run(None, row) for row in rows_of(inputs)]
    return {name: np.concatenate(values) for name, values in zip(names, zip(*rows))}


def litert_rows(litert, path, inputs, xnnpack=True):
    rows = [litert.outputs(path, row, xnnpack) for row in rows_of(inputs)]
    return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}


def reference_outputs(path, inputs):
    """The same on LiteRT's reference kernels, by the signature's names."""
    with silent_stderr():
        interpreter = Interpreter(model_path=str(path), num_threads=1, experimental_op_resolver_type=OpResolverType.BUILTIN_REF)
        runner = interpreter.get_signature_runner("serving_default")
        rows = [{name: a.copy() for name, a in runner(**row).items()} for row in rows_of(inputs)]
    return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}


def correlations(expected, found):
    """By output; shapes and types must be the same."""
    if expected.keys() != found.keys():
        raise ValueError(f"outputs {sorted(found)} instead of {sorted(expected)}")
    for name, a in expected.items():
        b = found[name]
        if a.shape != b.shape or a.dtype != b.dtype:
            raise ValueError(f"{name}: {b.dtype} {list(b.shape)} instead of {a.dtype} {list(a.shape)}")
    return {name: float(np.corrcoef(a.ravel(), found[name].ravel())[0, 1]) for name, a in expected.items()}


def sqnr(expected, found):
    """Decibels over all outputs; infinite where they are equal."""
    signal = sum(float((a.astype(np.float64) ** 2).sum()) for a in expected.values())
    noise = sum(float(((a.astype(np.float64) - found[name]) ** 2).sum()) for name, a in expected.items())
    return 10 * float(np.log10(signal / noise)) if noise else float("inf")


def at_least(limit):
    return f"at least {limit:g}", lambda value: value >= limit


class Quantizer:
    def __init__(self, mlctl, folder):
        self.mlctl, self.folder, self.made = mlctl, folder, 0

    def arrays(self, inputs, suffix="npz"):
        self.made += 1
        path = self.folder / f"{self.made}.{suffix}"
        np.savez(path, **inputs) if suffix == "npz" else np.save(path, inputs)
        return path

    def convert(self, model, *arguments):
        """The file, and the JSON report."""
        self.made += 1
        out = self.folder / f"{self.made}.tflite"
        said = self.mlctl.run("convert", model, "--quantize", "int8", "-o", out, "--json", *arguments, cwd=self.folder, seconds=1200)
        return out, json.loads(said)

    def predict(self, model, inputs):
        """mlctl's outputs by name."""
        out = self.arrays({})
        self.mlctl.predict(model, self.arrays(inputs), out)
        return dict(np.load(out))


def integer_inputs(path, inputs):
    """`inputs` as an int8 file's own inputs hold them."""
    signature = Interpreter(model_path=str(path)).get_signature_runner("serving_default").get_input_details()
    integers = {}
    for name, a in inputs.items():
        scale, zero_point = signature[name]["quantization"]
        integers[name] = np.clip(np.round(a / np.float32(scale)) + zero_point, -128, 127).astype(np.int8)
    return integers


def steps_apart(expected, found):
    """The largest difference of int8 outputs, in steps."""
    for name, a in expected.items():
        if a.dtype != np.int8 or found[name].dtype != np.int8 or found[name].shape != a.shape:
            raise ValueError(f"{name}: {found[name].dtype} {list(found[name].shape)} instead of {a.dtype} {list(a.shape)}")
    return max(int(np.abs(a.astype(int) - found[name]).max()) for name, a in expected.items())


def check_net(report, quantizer, litert, net):
    """Correlation, ops, bits: the checks of a net, and its row of the table."""
    calibration, test = (net.inputs(crops(count, *net.size, seed)) for count, seed in ((SAMPLES, 1), (TESTS, 2)))
    samples = quantizer.arrays(calibration)
    expected = float_outputs(net.path, test)
    row = {"net": net.name, "ONNX MB": f"{net.path.stat().st_size / 1e6:.2f}"}
    kept = {}

    ranges = samples.with_suffix(".json")

    def converted(key):
        if key not in kept:
            arguments = ["--calibrate", samples, "--save-ranges", ranges] if key == "float ends" else ["--ranges", ranges, "--io", "int8"]
            kept[key] = quantizer.convert(net.path, *arguments)
        return kept[key]

    def found():
        got = litert_rows(litert, converted("float ends")[0], test)
        row["SQNR dB"] = f"{sqnr(expected, got):.1f}"
        return got

    by_output = {}

    def least():
        by_output.update(correlations(expected, found()))
        path, said = converted("float ends")
        row["int8 MB"] = f"{path.stat().st_size / 1e6:.2f}"
        row["correlation"] = f"{min(by_output.values()):.4f}"
        row["float layers"] = str(len(said["quantization"]["float_layers"]))
        return min(by_output.values())

    report.check(f"{net.name}: correlation in LiteRT", least, at_least(CORRELATIONS.get(net.name, CORRELATION)))
    report.check(f"{net.name}: bytes", lambda: converted("float ends")[0].stat().st_size, at_most(int(0.27 * net.path.stat().st_size) + 150_000))

    # BUILTIN_REF takes seconds to minutes a picture
    few = {name: a[: 1 if net.name in LONG else 3] for name, a in test.items()}
    bits = {}

    def steps(who):
        path, _ = converted("int8 ends")
        if not bits:
            bits["inputs"] = integer_inputs(path, few)
            bits["reference"] = reference_outputs(path, bits["inputs"])
        got = quantizer.predict(path, bits["inputs"]) if who == "mlctl" else litert_rows(litert, path, bits["inputs"])
        bits[who] = steps_apart(bits["reference"], got)
        row[f"{who}, steps"] = str(bits[who])
        return bits[who]

    report.check(f"{net.name}: XNNPACK's steps from the reference kernels", lambda: steps("XNNPACK"), at_least(0))
    report.check(f"{net.name}: mlctl's steps from the reference kernels", lambda: steps("mlctl"), at_most(1))
    if net.name == "squeezenet1_1":
        for title, classes in PHOTOS.items():
            said = lambda title=title: int(litert.outputs(converted("float ends")[0], {"data": bgr_minus_mean(title)}, True)["prob"].argmax())
            report.check(f"{net.name}: says of {title}", said, (f"one of {list(classes)}", classes.__contains__))
    for path, _ in kept.values():
        path.unlink()
    samples.unlink()
    return row


def check_digits(report, quantizer, name, source, calibration):
    """Accuracy, probabilities and classes on all test digits, and the row of the table."""
    images, labels = test_images(), test_labels()
    float_model = source if source.is_file() else source / "0001/model.onnx"
    session = onnxruntime.InferenceSession(str(float_model), providers=["CPUExecutionProvider"])
    (expected,) = session.run(None, {"input": images})
    path, said = quantizer.convert(source, *calibration)
    found = only_output(path, {"input": images})
    accuracies = [100 * float((a.argmax(1) == labels).mean()) for a in (expected, found)]
    change = float(np.abs(expected - found).max())
    report.check(f"{name}: points of accuracy lost", lambda: accuracies[0] - accuracies[1], at_most(POINTS_LOST[name]))
    if name == "mnist":
        report.check(f"{name}: bytes", lambda: said["bytes"], at_most(DIGIT_BYTES))
        report.check(f"{name}: change of a probability", lambda: change, at_most(DIGIT_CHANGE))

    path, _ = quantizer.convert(source, *calibration, "--io", "int8")
    integers = integer_inputs(path, {"input": images})
    reference = only_output(path, integers, OpResolverType.BUILTIN_REF)
    xnnpack = only_output(path, integers)
    (ours,) = quantizer.predict(path, integers).values()
    apart = [steps_apart({"": reference}, {"": a}) for a in (xnnpack, ours)]
    same = 100 * float((ours.argmax(1) == reference.argmax(1)).mean())
    report.check(f"{name}: mlctl's steps from the reference kernels (XNNPACK's: {apart[0]})", lambda: apart[1], at_most(1))
    report.check(f"{name}: classes as the reference kernels', %", lambda: same, at_least(99.9))
    return {
        "net": name,
        "ONNX bytes": f"{float_model.stat().st_size:,}",
        "int8 bytes": f"{said['bytes']:,}",
        "float accuracy, %": f"{accuracies[0]:.2f}",
        "int8 accuracy, %": f"{accuracies[1]:.2f}",
        "probability changes by": f"{change:.4f}",
        "XNNPACK, steps": str(apart[0]),
        "mlctl, steps": str(apart[1]),
        "same class as reference kernels, %": f"{same:.2f}",
    }


def only_output(path, inputs, resolver=OpResolverType.AUTO):
    with silent_stderr():
        interpreter = Interpreter(model_path=str(path), num_threads=1, experimental_op_resolver_type=resolver)
        (output,) = interpreter.get_signature_runner("serving_default")(**inputs).values()
    return output


def check_kinds_of_data(report, quantizer, model):
    """The same digits as IDX, as pictures and as arrays give the same bytes."""
    pixels = (test_images()[:40, :, :, 0] * 255).round().astype(np.uint8)
    pictures = quantizer.folder / "pictures"
    pictures.mkdir()
    for number, digit in enumerate(pixels):
        Image.fromarray(digit).save(pictures / f"{number:03}.png")
    idx = quantizer.folder / "digits-idx3-ubyte"
    idx.write_bytes(b"\0\0\x08\x03" + np.array(pixels.shape, ">u4").tobytes() + pixels.tobytes())
    arrays = {"input": pixels[..., None] * np.float32(1 / 255)}
    data = {"pictures": pictures, "IDX": idx, "npz": quantizer.arrays(arrays), "npy": quantizer.arrays(arrays["input"], "npy")}
    files = {kind: quantizer.convert(model, "--calibrate", path)[0].read_bytes() for kind, path in data.items()}
    report.check("the same digits as pictures, IDX, npz, npy: files", lambda: len(set(files.values())), equal(1))
    half = quantizer.convert(model, "--calibrate", idx, "--samples", "20")[0].read_bytes()
    report.check("half of the samples: another file", lambda: half != files["IDX"], equal(True))


def check_same_bytes(report, quantizer, name, model, *calibration):
    """Threads do not count, nor whether ranges were saved between."""
    title = f"{name}: files from 1, 2, 3 threads"
    files = [quantizer.convert(model, *calibration, "--threads", n)[0].read_bytes() for n in (1, 2, 3)]
    report.check(title, lambda: len(set(files)), equal(1))
    ranges = quantizer.folder / f"{name}.json"

    def by_saved_ranges():
        first = quantizer.convert(model, *calibration, "--save-ranges", ranges)[0].read_bytes()
        again = quantizer.convert(model, "--ranges", ranges)[0].read_bytes()
        return first == files[0], again == files[0]

    report.check(f"{name}: files with saved ranges are the same", by_saved_ranges, equal((True, True)))


def check_poisoned_layer(report, quantizer, litert):
    """The report names the layer that spoils the net; left float, it spoils nothing, and --max-drop finds that it is enough."""
    pictures = make_fixtures.poisoned_pictures()
    calibration, test = ({"input": a} for a in (pictures[:SAMPLES], pictures[200:]))
    samples = quantizer.arrays(calibration)
    decibels, said = {}, {}
    for title, poison, arguments in (
        ("clean", 0.1, ()),
        ("poisoned", 100, ()),
        ("kept", 100, ("--keep-float", "^middle")),
        ("other", 100, ("--keep-float", "^last")),
        ("budget", 100, ("--max-drop", "0.5%")),
    ):
        path = quantizer.folder / f"{title}.onnx"
        path.write_bytes(make_fixtures.poisoned(poison))
        expected = float_outputs(path, test)
        made, found = quantizer.convert(path, "--calibrate", samples, *arguments)
        decibels[title] = sqnr(expected, litert_rows(litert, made, test))
        said[title] = found["quantization"]
    named = lambda layers: [layer["name"].split("/")[0] for layer in layers]
    report.check("poisoned layer: SQNR without the poison, dB", lambda: decibels["clean"], at_least(24))
    report.check("poisoned layer: SQNR, dB", lambda: decibels["poisoned"], at_most(10.0))
    report.check("poisoned layer: the report names first", lambda: named(said["poisoned"]["layers"])[0], equal("middle"))
    report.check("poisoned layer: SQNR with it float, dB", lambda: decibels["kept"], at_least(decibels["clean"] - 1))
    report.check("poisoned layer: SQNR with another float, dB", lambda: decibels["other"], at_most(10.0))
    report.check("poisoned layer: SQNR with --max-drop, dB", lambda: decibels["budget"], at_least(23.0))
    report.check("poisoned layer: --max-drop keeps float", lambda: named(said["budget"]["float_layers"]), equal(["middle"]))


def check_small_graphs(report, quantizer, litert):
    """One-op graphs of fixtures/fuzz, of ops that compute, move or choose integers: SQNR in LiteRT, and mlctl's own word for it."""
    for name in SMALL:
        model = FIXTURES / f"fuzz/{name}.onnx"
        session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
        random = np.random.default_rng(1)
        inputs = {i.name: random.standard_normal([d if isinstance(d, int) else 16 for d in i.shape]).astype(np.float32) for i in session.get_inputs()}
        expected = dict(zip([o.name for o in session.get_outputs()], session.run(None, inputs)))
        ranges = quantizer.folder / f"{name}.json"

        def worst():
            path, _ = quantizer.convert(model, "--calibrate", quantizer.arrays(inputs), "--save-ranges", ranges)
            return min(sqnr(expected, litert.outputs(path, inputs, xnnpack)) for xnnpack in (True, False))

        report.check(f"small graph {name}: SQNR in LiteRT, dB", worst, at_least(30))
        report.check(f"small graph {name}: ops that XNNPACK leaves", lambda: wrongly_listed(*quantizer.convert(model, "--ranges", ranges, "--io", "int8")), equal({}))


def wrongly_listed(path, said):
    """What the report says of XNNPACK and LiteRT does not do, or the other way: {op: (said, left)}."""
    listed = {op: count for cause in said.get("slowdowns", []) if "XNNPACK" in cause["cause"] for op, count in cause["ops"]}
    left = left_on_bytes(path)
    both = {op: (listed.get(op, 0), left[op]) for op in listed.keys() | left.keys()}
    return {op: counts for op, counts in both.items() if counts[0] != counts[1] and not (op in BY_PARAMETERS and counts[0] == 0)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mlctl", type=Path)
    parser.add_argument("--long", action="store_true")
    parser.add_argument("--only", default="")
    parser.add_argument("--write-table", action="store_true")
    options = parser.parse_args()
    report = Report("int8 nets in LiteRT and onnxruntime")
    mlctl, litert, rows, digits = Mlctl(options.mlctl), LitertProcess(seconds=120), [], []
    wanted = lambda name: re.search(options.only, name)
    with tempfile.TemporaryDirectory(prefix="mlctl-int8-nets-") as folder:
        quantizer = Quantizer(mlctl, Path(folder))
        lenet = FIXTURES / "models/lenet_mnist.onnx"
        if wanted("mnist"):
            model = mlctl.train(Path(folder) / "train")[0].parent
            digits.append(check_digits(report, quantizer, "mnist", model, ()))
            check_kinds_of_data(report, quantizer, model)
            check_same_bytes(report, quantizer, "mnist", model)
        if wanted("lenet_mnist"):
            digits.append(check_digits(report, quantizer, "lenet_mnist", lenet, ("--calibrate", "mnist")))
            check_same_bytes(report, quantizer, "lenet_mnist", lenet, "--calibrate", "mnist")
        if wanted("small graph"):
            check_small_graphs(report, quantizer, litert)
        if wanted("poisoned layer"):
            check_poisoned_layer(report, quantizer, litert)
        for net in nets(lambda name: wanted(name) and (options.long or name not in LONG)):
            rows.append(check_net(report, quantizer, litert, net))
            if net.name in SAME_BYTES:
                samples = quantizer.arrays(net.inputs(crops(12, *net.size, 5)))
                check_same_bytes(report, quantizer, net.name, net.path, "--calibrate", samples)
    litert.stop()
    for name, found in ("int8 nets", rows), ("int8 digits", digits):
        if found:
            print(table(found))
        if found and options.write_table:
            write_block(name, table(found))
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
