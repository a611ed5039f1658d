"""Converts real nets to float32 and float16 and holds LiteRT's outputs to onnxruntime's.

    "$(tests/peers/venv.sh)" tests/interop/check_real_nets.py target/release/mlctl [OPTION]

    --long            also the nets of 240 to 575 MB, and the limits on time
    --only REGEX      the nets whose name matches
    --write-table     rewrites the table in tests/README.md

The nets are those of fixtures/models and the nine of tests/peers/light_nets.py.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
from litert_process import LitertProcess
from mnist import FIXTURES
from PIL import Image
from peers import TfliteFile, litert_interpreter, silent_stderr
from readme import write_block
from report import Report, at_most, equal

sys.path.append(str(Path(__file__).resolve().parents[1] / "peers"))
import light_nets  # noqa: E402

# The same nets by onnx2tf 2.6.9, float32 and float16 in one run: seconds and MB.
ONNX2TF = {"resnet50": (5.3, 1422), "vgg19": (None, 6305)}
LONG = {"bvlc_alexnet", "zfnet512", "vgg19"}
# A plain convolutional net needs one TRANSPOSE at most, at an input in NCHW; a shuffle of channels is a transpose of its own.
TRANSPOSES = dict.fromkeys(light_nets.NAMES, 1) | {"shufflenet": 17, "squeezenet1_1": 1, "blazeface_front": 0, "pnet": 0, "rnet": 0, "onet": 0}
# Where a figure is not yet what it should be the limit holds what was reached.
# Peak memory of the float16 conversion, in sizes of the source. Loose: a child's peak counts what this process held when it was
# forked, some 500 MB. From a shell it is 2.0 for resnet50 and 1.35 for vgg19 (aims 2.5 and 1.6).
MEMORY = {"resnet50": 8, "vgg19": 8}
SECONDS = {"resnet50": 4.0}
# XNNPACK sums each output of a dense layer in one float32 accumulator: over bvlc_alexnet's 9,216 inputs 3.5e-6 of the largest
# output from float64's, the same as a loop in numpy that does so; LiteRT's own kernels 1.0e-6, onnxruntime 3.6e-7. All layers
# together make 3.2e-6 of the logits, which reach 7.3; softmax turns a logit's absolute error into a probability's relative one.
# So the logits are held to 1e-5, and the probabilities to this.
PROBABILITIES = {"bvlc_alexnet": 3e-5}
# Nets that are refused today; each must be, with this in its reason.
REFUSED = {}
PHOTOS = {"mushroom": range(947, 948), "coffee": range(967, 968), "chelsea": range(281, 286)}  # ImageNet: 281 to 285 are domestic cats


@dataclass
class Net:
    name: str
    path: Path
    runs: dict  # what it is fed: title → inputs by name
    classes: tuple = ()  # the outputs that are probabilities of classes


def pixels(photo, width, height):
    """uint8 [1,height,width,3] of a photo of fixtures/photos."""
    picture = Image.open(FIXTURES / "photos" / f"{photo}.png").convert("RGB").resize((width, height), Image.BILINEAR)
    return np.asarray(picture)[None]


def bgr_minus_mean(photo):
    mean = np.array([103.939, 116.779, 123.68], np.float32)
    return np.ascontiguousarray((pixels(photo, 224, 224)[..., ::-1].astype(np.float32) - mean).transpose(0, 3, 1, 2))


def faces(photos, width, height):
    return np.concatenate([(pixels(p, width, height).astype(np.float32) - np.float32(127.5)) / np.float32(128) for p in photos])


def file_bytes(files, half=1024):
    """What magika looks at: the first and last bytes of a file, 256 where it is shorter."""
    rows = np.full((len(files), 2 * half), 256, np.int32)
    for row, file in zip(rows, files):
        data = np.frombuffer(file.read_bytes().strip(), np.uint8)
        row[: min(half, len(data))] = data[:half]
        row[2 * half - min(half, len(data)) :] = data[-half:]
    return rows


def nets(wanted, long):
    """The nets whose name `wanted` takes; those of light_nets are made on the way."""
    yield from filter(lambda net: wanted(net.name), fixture_nets())
    for name in light_nets.NAMES:
        if wanted(name) and (long or name not in LONG):
            path = light_nets.net(name)
            output = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"]).get_outputs()[0].name
            yield Net(name, path, {"seeded picture": light_nets.image(name)}, (output,))


def fixture_nets():
    models = FIXTURES / "models"
    here = Path(__file__).resolve()
    photos = list(PHOTOS)
    files = [here, FIXTURES / "README.md", here.parents[1] / "run.sh", FIXTURES / "images/7.png", here.parents[2] / "Cargo.toml"]
    yield Net(
        "squeezenet1_1",
        models / "squeezenet1_1.onnx",
        {p: {"data": bgr_minus_mean(p)} for p in photos} | {"batch of 3": {"data": np.concatenate([bgr_minus_mean(p) for p in photos])}},
        ("prob",),
    )
    yield Net("blazeface_front", models / "blazeface_front.onnx", {p: {"input:0": pixels(p, 128, 128).astype(np.float32) / np.float32(127.5) - 1} for p in photos})
    yield Net(
        "pnet",
        models / "pnet.onnx",
        {f"{w}x{h}, batch {n}": {"input_1": faces(photos[:n], w, h)} for w, h, n in [(12, 12, 1), (80, 60, 1), (113, 75, 3)]},
        ("softmax",),
    )
    yield Net("rnet", models / "rnet.onnx", {f"batch {n}": {"input_2": faces(photos[:n], 24, 24)} for n in (1, 3)}, ("softmax_1",))
    yield Net("onet", models / "onet.onnx", {f"batch {n}": {"input_3": faces(photos[:n], 48, 48)} for n in (1, 3)}, ("softmax_2",))
    yield Net("magika", models / "magika.onnx", {f"{n} files": {"bytes": file_bytes(files[:n])} for n in (1, len(files))}, ("target_label",))


@dataclass
class Converted:
    path: Path
    seconds: float
    megabytes: float  # peak resident memory of mlctl


def convert(mlctl, net, folder, scheme):
    """mlctl's file, and what it took to make."""
    out = folder / f"{net.name}-{scheme}.tflite"
    arguments = ["--quantize", "f16"] if scheme == "f16" else []
    with tempfile.TemporaryFile() as said:
        started = time.monotonic()
        child = subprocess.Popen(
            [str(mlctl), "convert", str(net.path), "-o", str(out), "-q", *arguments], stdin=subprocess.DEVNULL, stdout=said, stderr=said
        )
        _, status, usage = os.wait4(child.pid, 0)
        seconds = time.monotonic() - started
        child.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        text = " ".join(said.read().decode(errors="replace").split())
    if child.returncode != 0:
        raise RuntimeError(f"mlctl exits {child.returncode}: {text[:400]}")
    return Converted(out, seconds, usage.ru_maxrss / 1024)


def refusal(mlctl, net, folder, scheme):
    """What mlctl says of a net that it cannot convert."""
    try:
        convert(mlctl, net, folder, scheme)
    except RuntimeError as error:
        return str(error)
    raise RuntimeError("it converts now: take it out of REFUSED")


def contains(text):
    return f"a reason with {text}", lambda said: "exits 1:" in said and text in said


def expected_outputs(net):
    session = onnxruntime.InferenceSession(str(net.path), providers=["CPUExecutionProvider"])
    names = [o.name for o in session.get_outputs()]
    return {title: dict(zip(names, session.run(None, inputs))) for title, inputs in net.runs.items()}


def degenerate(net, expected):
    """Outputs that would make a comparison easy: not finite, or all the same."""
    return [f"{title}, {name}" for title, outputs in expected.items() for name, a in outputs.items() if not np.isfinite(a).all() or np.ptp(a) < 1e-6]


def relative_difference(expected, got):
    """DESIGN's comparison over all outputs: the largest difference over the largest value."""
    if expected.keys() != got.keys():
        raise ValueError(f"outputs {sorted(got)} instead of {sorted(expected)}")
    worst = 0.0
    for name, a in expected.items():
        b = got[name]
        if a.shape != b.shape or a.dtype != b.dtype:
            raise ValueError(f"{name}: {b.dtype} {list(b.shape)} instead of {a.dtype} {list(a.shape)}")
        if not np.isfinite(b).all():
            raise ValueError(f"{name}: not finite")
        worst = max(worst, float(np.abs(a.astype(np.float64) - b).max()) / float(np.abs(a).max()))
    return worst


def logit_difference(expected, got):
    """Of probabilities: the largest difference of their logarithms, over the largest distance of a logarithm from their mean."""
    a, b = expected.astype(np.float64), got.astype(np.float64)
    counts = np.minimum(a, b) > np.finfo(np.float32).tiny
    a, b = np.log(a[counts]), np.log(b[counts])
    return float(np.abs(a - b).max() / np.abs(a - a.mean()).max())


def other_classes(expected, got, margin):
    """Rows whose largest value stands elsewhere. [N,1000] and [N,1000,1,1] are one row a picture; in a map [N,H,W,2] a row that
    prefers its class by less than `margin` does not count."""
    is_map = expected.ndim == 4 and expected.shape[2:] != (1, 1)
    rows = expected.shape[:3] if is_map else expected.shape[:1]
    a, b = expected.reshape(np.prod(rows), -1), got.reshape(np.prod(rows), -1)
    preferred = a.max(1) - np.take_along_axis(a, b.argmax(1)[:, None], 1)[:, 0]
    return int(((a.argmax(1) != b.argmax(1)) & (preferred > (margin if is_map else 0))).sum())


class Outputs:
    """LiteRT's outputs on every run of a net, each computed once."""

    def __init__(self, litert, path, net):
        self.litert, self.path, self.net, self.kept = litert, path, net, {}

    def __call__(self, title, xnnpack=True):
        key = title, xnnpack
        if key not in self.kept:
            self.kept[key] = self.litert.outputs(self.path, self.net.runs[title], xnnpack)
        return self.kept[key]


def check_net(report, mlctl, net, folder, litert, long):
    """The checks of a net, and its row of the table."""
    expected = expected_outputs(net)
    report.check(f"{net.name}: outputs in onnxruntime that show nothing", lambda: degenerate(net, expected), equal([]))
    source = net.path.stat().st_size
    row = {"net": net.name, "ONNX MB": f"{source / 1e6:.1f}"}
    for scheme, tolerance in (("f32", 1e-5), ("f16", 2e-2)):
        converted = []

        def bytes_written():
            converted.append(convert(mlctl, net, folder, scheme))
            return converted[0].path.stat().st_size

        title = f"{net.name} {scheme}"
        if reason := REFUSED.get(net.name):
            report.check(f"{title}: is refused for {reason}", lambda: refusal(mlctl, net, folder, scheme), contains(reason))
            row |= {f"{scheme} {column}": "–" for column in ("MB", "s", "peak MB", "TRANSPOSE", "difference")}
            continue
        # The flatbuffer's tables and graph come on top of the weights.
        report.check(f"{title}: converts, to bytes", bytes_written, at_most(int(source * (1.0 if scheme == "f32" else 0.5)) + 150_000))
        if not converted:
            row |= {f"{scheme} {column}": "–" for column in ("MB", "s", "peak MB", "TRANSPOSE", "difference")}
            continue
        (made,) = converted
        outputs = Outputs(litert, made.path, net)
        worst = []

        def difference(xnnpack):
            worst.append(max(relative_difference(expected[t], outputs(t, xnnpack)) for t in net.runs))
            return worst[-1]

        limit = max(tolerance, PROBABILITIES.get(net.name, 0))
        report.check(f"{title}: relative difference in LiteRT", lambda: difference(True), at_most(limit))
        if net.name in PROBABILITIES and scheme == "f32":
            softmax = [(t, name) for t in net.runs for name in net.classes]
            report.check(f"{title}: logits in LiteRT", lambda: max(logit_difference(expected[t][n], outputs(t)[n]) for t, n in softmax), at_most(tolerance))
        if net.name not in LONG:
            report.check(f"{title}: on LiteRT's kernels without XNNPACK", lambda: difference(False), at_most(tolerance))
        if net.classes:
            classes = [(t, name) for t in net.runs for name in net.classes]
            report.check(f"{title}: other classes", lambda: sum(other_classes(expected[t][n], outputs(t)[n], tolerance) for t, n in classes), equal(0))
        if net.name == "squeezenet1_1":
            for photo, classes in PHOTOS.items():
                report.check(f"{title}: says of {photo}", lambda: int(outputs(photo)["prob"].argmax()), (f"expected one of {list(classes)}", classes.__contains__))
        transposes = TfliteFile(made.path).operators().count("TRANSPOSE")
        if net.name in TRANSPOSES:
            report.check(f"{title}: TRANSPOSE ops", lambda: transposes, at_most(TRANSPOSES[net.name]))
        if scheme == "f16" and net.name in MEMORY:
            report.check(f"{title}: peak memory over the source's size", lambda: made.megabytes * 2**20 / source, at_most(MEMORY[net.name]))
        if long and scheme == "f16" and net.name in SECONDS:
            report.check(f"{title}: seconds", lambda: made.seconds, at_most(SECONDS[net.name]))
        row[f"{scheme} MB"] = f"{made.path.stat().st_size / 1e6:.1f}"
        row[f"{scheme} s"] = f"{made.seconds:.2f}"
        row[f"{scheme} peak MB"] = f"{made.megabytes:,.0f}"
        row[f"{scheme} TRANSPOSE"] = str(transposes)
        row[f"{scheme} difference"] = f"{max(worst):.1e}" if worst else "fails"
        made.path.unlink()
    seconds, megabytes = ONNX2TF.get(net.name, (None, None))
    row["onnx2tf s, MB"] = ", ".join(f"{v:,}" if v else "–" for v in (seconds, megabytes)) if megabytes else ""
    return row


def check_set_dimensions(report, mlctl, folder):
    """`--set` on an ONNX file, and on the .tflite made of it: what is set is fixed, what is not can be resized."""
    source = FIXTURES / "models/pnet.onnx"
    session = onnxruntime.InferenceSession(str(source), providers=["CPUExecutionProvider"])
    out, again = folder / "set.tflite", folder / "set-again.tflite"

    def converted(path, to, *arguments):
        subprocess.run([mlctl, "convert", path, "-o", to, "-q", *arguments], check=True, capture_output=True)
        return [int(d) for d in litert_interpreter(to).get_input_details()[0]["shape_signature"]]

    def difference(path, shapes):
        interpreter, worst = litert_interpreter(path), 0.0
        (given,) = interpreter.get_input_details()
        for n, h, w in shapes:
            pixels = faces(list(PHOTOS)[:n], w, h)
            with silent_stderr():
                interpreter.resize_tensor_input(given["index"], pixels.shape)
                interpreter.allocate_tensors()
            interpreter.set_tensor(given["index"], pixels)
            interpreter.invoke()
            got = {o["name"]: interpreter.get_tensor(o["index"]) for o in interpreter.get_output_details()}
            names = [o.name for o in session.get_outputs()]
            worst = max(worst, relative_difference(dict(zip(names, session.run(None, {"input_1": pixels}))), got))
        return worst

    report.check("--set M1=40: input", lambda: converted(source, out, "--set", "M1=40"), equal([-1, 40, -1, 3]))
    report.check("--set M1=40: relative difference at two sizes", lambda: difference(out, [(1, 40, 56), (3, 40, 24)]), at_most(1e-5))
    report.check("--set d2=56 on that file: input", lambda: converted(out, again, "--set", "d2=56"), equal([-1, 40, 56, 3]))
    report.check("--set d2=56 on that file: relative difference at two batches", lambda: difference(again, [(1, 40, 56), (3, 40, 56)]), at_most(1e-5))


def table(rows):
    columns = max(rows, key=len).keys()
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    return "\n".join(lines + ["| " + " | ".join(row.get(c, "–") for c in columns) + " |" for row in rows])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mlctl", type=Path)
    parser.add_argument("--long", action="store_true")
    parser.add_argument("--only", default="")
    parser.add_argument("--write-table", action="store_true")
    options = parser.parse_args()
    report = Report("real nets in LiteRT and onnxruntime")
    litert = LitertProcess(seconds=120)
    with tempfile.TemporaryDirectory(prefix="mlctl-real-nets-") as folder:
        chosen = nets(lambda name: re.search(options.only, name), options.long)
        rows = [check_net(report, options.mlctl.resolve(), net, Path(folder), litert, options.long) for net in chosen]
        if re.search(options.only, "--set"):
            check_set_dimensions(report, options.mlctl.resolve(), Path(folder))
    litert.stop()
    print(table(rows))
    if options.write_table:
        write_block("real nets", table(rows))
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
