"""Holds the weight-only schemes (dynamic, w8, w4) to the float nets, in LiteRT with XNNPACK and on its reference kernels.

    "$(tests/peers/venv.sh)" tests/interop/check_weight_schemes.py target/release/mlctl [OPTION]

    --long            all nets, not only the small ones
    --only REGEX      the nets and layers whose name matches

Layers of every kind that has weights, one at a time; MNIST; the nets of check_real_nets.py.
"""

import argparse
import re
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from check_real_nets import nets
from litert_process import LitertProcess
from mlctl import Mlctl
from mnist import test_images
from onnx import TensorProto, helper, numpy_helper
from peers import REFERENCE, TfliteFile, litert_outputs, onnx_outputs
from report import Report, at_most, equal

SMALL = {"squeezenet1_1", "pnet", "rnet", "onet", "blazeface_front", "squeezenet", "shufflenet"}
# Correlation with the float net's outputs: of all outputs of all runs together, and of the worst output of a run. The latter is
# that of BlazeFace's scores, on pictures that show no human face: all are near one value.
AT_LEAST = {"dynamic": (0.9995, 0.985), "w8": (0.9995, 0.99), "w4": (0.5, -1.0)}
MNIST_BYTES = 84_000
KERNELS = {"XNNPACK": True, "reference kernels": REFERENCE}
HYBRID = {"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"}


def at_least(limit):
    return f"at least {limit:g}", lambda value: value >= limit


@dataclass
class Layer:
    """One ONNX node on seeded values: the shape of its input, its weights by name, its attributes."""

    name: str
    op: str
    shape: list
    weights: dict
    attributes: dict = field(default_factory=dict)
    # how often DEQUANTIZE stands in the dynamic file
    dequantize: int = 0


LAYERS = [
    Layer("conv", "Conv", [3, 16, 9, 9], {"w": [20, 16, 3, 3], "b": [20]}, {"pads": [1] * 4}),
    Layer("conv without bias, strides", "Conv", [2, 16, 9, 8], {"w": [20, 16, 3, 3]}, {"strides": [2, 2], "auto_pad": "SAME_UPPER"}),
    Layer("conv, dilations", "Conv", [2, 16, 11, 11], {"w": [20, 16, 3, 3], "b": [20]}, {"dilations": [2, 2], "pads": [2] * 4}),
    Layer("conv, pointwise", "Conv", [2, 64, 5, 5], {"w": [24, 64, 1, 1], "b": [24]}),
    Layer("conv, groups", "Conv", [2, 32, 9, 9], {"w": [32, 8, 3, 3], "b": [32]}, {"group": 4, "pads": [1] * 4}),
    Layer("conv of one filter", "Conv", [2, 64, 9, 9], {"w": [1, 64, 3, 3], "b": [1]}),
    Layer("depthwise", "Conv", [2, 130, 9, 9], {"w": [130, 1, 3, 3], "b": [130]}, {"group": 130, "pads": [1] * 4}),
    Layer("depthwise, strides", "Conv", [3, 130, 8, 8], {"w": [130, 1, 3, 3], "b": [130]}, {"group": 130, "strides": [2, 2], "auto_pad": "SAME_UPPER"}),
    Layer("depthwise, two filters a channel", "Conv", [2, 40, 9, 9], {"w": [80, 1, 5, 5], "b": [80]}, {"group": 40}),
    Layer("depthwise, dilations", "Conv", [2, 130, 9, 9], {"w": [130, 1, 3, 3], "b": [130]}, {"group": 130, "dilations": [2, 2]}),
    Layer("dense", "Gemm", [5, 64], {"w": [64, 40], "b": [40]}),
    Layer("dense of one row", "Gemm", [1, 64], {"w": [64, 40], "b": [40]}),
    Layer("dense on three axes", "MatMul", [3, 7, 64], {"w": [64, 40]}),
    Layer("transposed conv", "ConvTranspose", [2, 16, 5, 5], {"w": [16, 20, 3, 3], "b": [20]}, {"strides": [2, 2]}, dequantize=1),
    Layer("conv in three dimensions", "Conv", [2, 16, 5, 5, 5], {"w": [8, 16, 3, 3, 3], "b": [8]}, {"pads": [1] * 6}, dequantize=1),
    Layer("product with a batch of matrices", "MatMul", [3, 7, 24], {"w": [3, 24, 40]}, dequantize=1),
    Layer("embedding", "Gather", [2, 6], {"w": [300, 24]}, dequantize=1),
]


def build(layer, path):
    """Writes the layer's model; returns its inputs. Channels differ in size, and so do rows."""
    random = np.random.default_rng(11)
    weights = {}
    for name, shape in layer.weights.items():
        values = random.standard_normal(shape, np.float32)
        sizes = np.exp(random.standard_normal(shape[0] if layer.op == "Conv" else shape[-1])).astype(np.float32)
        weights[name] = values * (sizes.reshape(-1, *[1] * (len(shape) - 1)) if layer.op == "Conv" else sizes) if name == "w" and layer.op in ("Conv", "Gemm") else values
    if layer.op == "Gather":
        x, kind, operands = random.integers(0, layer.weights["w"][0], layer.shape), TensorProto.INT64, ["w", "x"]
    else:
        x, kind, operands = random.standard_normal(layer.shape, np.float32), TensorProto.FLOAT, ["x", *weights]
        x[0] *= 5
    node = helper.make_node(layer.op, operands, ["y"], **layer.attributes)
    shape = ["N", *layer.shape[1:]] if layer.name != "product with a batch of matrices" else layer.shape
    graph = helper.make_graph(
        [node],
        "layer",
        [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(onnx.shape_inference.infer_shapes(model), path)
    return {"x": x}


def pairs(expected, got):
    """The values of each output, expected and got."""
    for name, a in expected.items():
        if a.shape != got[name].shape or not np.isfinite(got[name]).all():
            raise ValueError(f"{name}: {got[name].shape} instead of {a.shape}, or not finite")
        yield a.astype(np.float64).ravel(), got[name].astype(np.float64).ravel()


def correlation(expected, got):
    """Of all outputs together."""
    a, b = (np.concatenate(values) for values in zip(*pairs(expected, got)))
    return float(np.corrcoef(a, b)[0, 1])


def converted(mlctl, source, out, *arguments):
    done = subprocess.run([mlctl, "convert", source, "-o", out, "-q", *arguments], capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"mlctl exits {done.returncode}: {' '.join((done.stderr or done.stdout).split())[:300]}")
    return out


def predicted(mlctl, path, arrays, folder):
    np.savez(folder / "x.npz", **arrays)
    subprocess.run([mlctl, "predict", "--model", path, folder / "x.npz", "-o", folder / "y.npz", "-q"], check=True, capture_output=True)
    return dict(np.load(folder / "y.npz"))


def relative_difference(expected, got):
    return max(float(np.abs(a - got[name]).max() / np.abs(a).max()) for name, a in expected.items())


def check_layer(report, mlctl, layer, folder, litert):
    source = folder / "layer.onnx"
    inputs = build(layer, source)
    expected = {"y": onnxruntime.InferenceSession(str(source), providers=["CPUExecutionProvider"]).run(None, inputs)[0]}
    if layer.op == "Gather":
        inputs = {"x": inputs["x"]}
    for scheme, flags in [("dynamic", []), ("dynamic", ["--per-tensor"]), ("w8", []), ("w8", ["--per-tensor"]), ("w4", [])]:
        title = " ".join([f"{layer.name} {scheme}", *flags])
        path = folder / "layer.tflite"
        report.check(f"{title}: converts", lambda: converted(mlctl, source, path, "--quantize", scheme, "--max-drop", "100%", *flags).exists(), equal(True))
        # int4 has 15 steps: what it loses is the net's, and only that it is the same everywhere can be held
        limit = {"dynamic": 0.9995, "w8": 0.9999, "w4": 0.98}[scheme] if not flags else 0.995
        outputs = {}
        for kernels, xnnpack in KERNELS.items():

            def measured():
                outputs[kernels] = litert.outputs(path, inputs, xnnpack)
                return correlation(expected, outputs[kernels])

            report.check(f"{title}: correlation, {kernels}", measured, at_least(limit))
        report.check(
            f"{title}: mlctl's relative difference from the reference kernels",
            lambda: relative_difference(outputs["reference kernels"], predicted(mlctl, path, inputs, folder)),
            at_most(1e-5),
        )
        operators = Counter(TfliteFile(path).operators())
        wanted = layer.dequantize if scheme == "dynamic" else 1
        report.check(f"{title}: DEQUANTIZE ops", lambda: operators["DEQUANTIZE"], equal(wanted))


def check_blocks(report, mlctl, folder, litert):
    """Dense layers with a scale for each block of inputs, which LiteRT has in XNNPACK alone."""
    layer = Layer("dense in blocks", "Gemm", [5, 256], {"w": [256, 40], "b": [40]})
    source, path = folder / "layer.onnx", folder / "blocks.tflite"
    inputs = build(layer, source)
    expected = {"y": onnxruntime.InferenceSession(str(source), providers=["CPUExecutionProvider"]).run(None, inputs)[0]}
    by_channel = correlation(expected, litert.outputs(converted(mlctl, source, folder / "w4.tflite", "--quantize", "w4"), inputs, True))
    for size in (32, 64, 128, 256):
        converted(mlctl, source, path, "--quantize", "w4", "--block-size", str(size))
        report.check(f"{layer.name} of {size}: correlation, XNNPACK", lambda: correlation(expected, litert.outputs(path, inputs, True)), at_least(0.985))
        report.check(f"{layer.name} of {size}: mlctl's correlation", lambda: correlation(expected, predicted(mlctl, path, inputs, folder)), at_least(0.985))
        report.check(f"{layer.name} of {size}: ops", lambda: TfliteFile(path).operators(), equal(["FULLY_CONNECTED"]))
    converted(mlctl, source, path, "--quantize", "w4", "--block-size", "32")
    report.check(f"{layer.name} of 32, over one scale a channel", lambda: correlation(expected, litert.outputs(path, inputs, True)), at_least(by_channel))


def check_mnist(report, mlctl, folder):
    tool = Mlctl(mlctl)
    version, _ = tool.train(folder / "digits", "--epochs", "1")
    expected = onnx_outputs(version / "model.onnx", test_images())
    for scheme, limit in [("dynamic", MNIST_BYTES), ("w8", MNIST_BYTES), ("w4", 45_000)]:
        path = converted(mlctl, version, folder / f"mnist-{scheme}.tflite", "--quantize", scheme)
        data = path.read_bytes()
        # the labels are a zip archive behind the flatbuffer
        report.check(f"mnist {scheme}: bytes without the labels", lambda: len(data[: data.index(b"PK\3\4")]), at_most(limit))
        for kernels, xnnpack in (("XNNPACK", True), ("LiteRT's kernels", False)):
            got = litert_outputs(path, test_images(), xnnpack)
            report.check(f"mnist {scheme}: correlation, {kernels}", lambda: correlation({"y": expected}, {"y": got}), at_least({"w4": 0.99}.get(scheme, 0.9995)))


def check_net(report, mlctl, net, folder, litert):
    session = onnxruntime.InferenceSession(str(net.path), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    expected = {title: dict(zip(names, session.run(None, inputs))) for title, inputs in net.runs.items()}
    size = net.path.stat().st_size
    for scheme in ("dynamic", "w8", "w4"):
        path = folder / f"{net.name}-{scheme}.tflite"
        share = 0.125 if scheme == "w4" else 0.25
        # small layers, biases and the graph itself stay as large; of dynamic and w8, weights that would lose most are float16
        limit = int(share * size * (1.12 if scheme == "w4" else 1.4)) + 190_000
        report.check(
            f"{net.name} {scheme}: bytes",
            lambda: converted(mlctl, net.path, path, "--quantize", scheme, "--no-verify").stat().st_size,
            at_most(limit),
        )
        for kernels, xnnpack in KERNELS.items():
            if scheme != "dynamic" and xnnpack == REFERENCE:
                continue

            found = []

            def together():
                for title, inputs in net.runs.items():
                    found.extend(pairs(expected[title], litert.outputs(path, inputs, xnnpack)))
                a, b = (np.concatenate(values) for values in zip(*found))
                return float(np.corrcoef(a, b)[0, 1])

            whole, worst = AT_LEAST[scheme]
            report.check(f"{net.name} {scheme}: correlation, {kernels}", together, at_least(whole))
            report.check(f"{net.name} {scheme}: of the worst output, {kernels}", lambda: min(float(np.corrcoef(a, b)[0, 1]) for a, b in found), at_least(worst))
        path.unlink(missing_ok=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mlctl", type=Path)
    parser.add_argument("--long", action="store_true")
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    mlctl = options.mlctl.resolve()
    report = Report("weight-only schemes in LiteRT")
    litert = LitertProcess(seconds=300)
    with tempfile.TemporaryDirectory(prefix="mlctl-weights-") as name:
        folder = Path(name)
        for layer in LAYERS:
            if re.search(options.only, layer.name):
                check_layer(report, mlctl, layer, folder, litert)
        if re.search(options.only, "dense in blocks"):
            check_blocks(report, mlctl, folder, litert)
        if re.search(options.only, "mnist"):
            check_mnist(report, mlctl, folder)
        for net in nets(lambda net: re.search(options.only, net) and net != "magika" and (options.long or net in SMALL), options.long):
            check_net(report, mlctl, net, folder, litert)
    litert.stop()
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
