"""Asks onnxruntime and LiteRT whether convolutions, pools, resizes, grid samples and LRN mean after conversion what they meant in ONNX.

    "$(tests/peers/venv.sh)" tests/interop/check_onnx_conv.py target/release/mlctl [NAME…]

Each case is a one-op ONNX model made here, converted by the binary, run by LiteRT with XNNPACK and without.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from peers import TfliteFile, litert_interpreter, silent_stderr
from report import Report, at_most, equal
from ways_out import WAY_OUT

TOLERANCE = 1e-5


class Case:
    """A graph of nodes from `x` to `y`; `shape` may hold names, `fed` are the numbers for them."""

    def __init__(self, shape, nodes, constants=(), fed=None, refused=None, inputs=(), element=np.float32, outputs=("y",)):
        self.shape, self.nodes, self.constants = shape, nodes, dict(constants)
        self.fed = fed or shape
        self.refused = refused
        self.inputs = dict(inputs)
        self.element, self.outputs = np.dtype(element), outputs

    def values(self):
        values = random(0, *self.fed)
        return values.astype(self.element) if self.element.kind == "f" else (values * 40 + 100).clip(0, 120).astype(self.element)

    def save(self, path):
        element = helper.np_dtype_to_tensor_dtype(self.element)
        inputs = [helper.make_tensor_value_info("x", element, self.shape)]
        inputs += [helper.make_tensor_value_info(name, TensorProto.FLOAT, value.shape) for name, value in self.inputs.items()]
        initializers = [numpy_helper.from_array(value, name) for name, value in self.constants.items()]
        outputs = [helper.make_tensor_value_info(name, element if name == "y" else TensorProto.INT64, None) for name in self.outputs]
        graph = helper.make_graph(self.nodes, "case", inputs, outputs, initializers)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
        onnx.save(model, path)


def random(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def node(op, inputs=("x",), outputs=("y",), **attributes):
    return helper.make_node(op, list(inputs), list(outputs), **attributes)


def conv(shape, weights, bias=True, fed=None, refused=None, op="Conv", computed=False, element=np.float32, **attributes):
    kernel = (random(1, *weights) / np.float32(np.sqrt(np.prod(weights[1:])))).astype(element)
    outputs = weights[1] * attributes.get("group", 1) if op == "ConvTranspose" else weights[0]
    constants, inputs = {"w": kernel}, ["x", "w"]
    if bias:
        constants["b"] = random(2, outputs).astype(element)
        inputs.append("b")
    return Case(shape, [node(op, inputs, **attributes)], {} if computed else constants, fed, refused, constants if computed else (), element)


def pool(op, shape, fed=None, refused=None, element=np.float32, outputs=("y",), **attributes):
    return Case(shape, [node(op, outputs=outputs, **attributes)], fed=fed, refused=refused, element=element, outputs=outputs)


def resize(shape, scales=(), sizes=(), roi=(), fed=None, refused=None, element=np.float32, **attributes):
    constants = {"roi": np.asarray(roi, np.float32), "scales": np.asarray(scales, np.float32)}
    inputs = ["x", "roi" if len(roi) else "", "scales" if len(scales) else ""]
    if len(sizes):
        constants["sizes"] = np.asarray(sizes, np.int64)
        inputs.append("sizes")
    constants = {name: value for name, value in constants.items() if value.size}
    return Case(shape, [node("Resize", inputs, **attributes)], constants, fed, refused, element=element)


def grid_sample(shape, grid, fed=None, computed=True, refused=None, **attributes):
    points = (random(5, *grid) * np.float32(0.9)).astype(np.float32)
    nodes = [node("GridSample", ["x", "g"], **attributes)]
    return Case(shape, nodes, {} if computed else {"g": points}, fed, refused, {"g": points} if computed else ())


def norm(channels):
    scale, offset, mean, variance = (random(i, channels) for i in range(10, 14))
    return {"scale": scale, "offset": offset, "mean": mean, "variance": np.abs(variance) + np.float32(0.5)}


def conv_norm_relu(group):
    constants = norm(8) | {"w": random(1, 8, 8 // group, 3, 3)}
    nodes = [
        node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1], group=group),
        node("BatchNormalization", ["c", "scale", "offset", "mean", "variance"], ["n"]),
        node("Relu", ["n"]),
    ]
    return Case(["N", 8, 9, 11], nodes, constants, [2, 8, 9, 11])


def cases():
    square = [2, 4, 9, 9]
    wide = [2, 4, 10, 13]
    dynamic, fed = ["N", 4, 9, 11], [3, 4, 9, 11]
    free, size = ["N", 4, "H", "W"], [2, 4, 9, 13]
    yield "conv", conv(square, [6, 4, 3, 3])
    yield "conv no bias", conv(square, [6, 4, 3, 3], bias=False)
    yield "conv computed weights", conv(square, [6, 4, 3, 3], computed=True, pads=[1, 1, 1, 1])
    yield "conv pads 1", conv(square, [6, 4, 3, 3], pads=[1, 1, 1, 1])
    yield "conv stride 2 pads 1", conv(square, [6, 4, 3, 3], pads=[1, 1, 1, 1], strides=[2, 2])
    yield "conv stride 2 pads 1 even", conv([1, 4, 10, 12], [6, 4, 3, 3], pads=[1, 1, 1, 1], strides=[2, 2])
    yield "conv stem", conv([1, 3, 24, 24], [8, 3, 7, 7], pads=[3, 3, 3, 3], strides=[2, 2])
    yield "conv uneven pads", conv(wide, [6, 4, 3, 2], pads=[2, 0, 1, 3], strides=[2, 3])
    yield "conv dilated", conv(wide, [6, 4, 3, 3], dilations=[2, 3], pads=[2, 3, 2, 3])
    yield "conv dilated stride", conv(wide, [6, 4, 3, 3], dilations=[2, 2], strides=[2, 2], pads=[1, 1, 1, 1])
    for pad in ["SAME_UPPER", "SAME_LOWER", "VALID"]:
        yield f"conv {pad}", conv(wide, [6, 4, 4, 3], auto_pad=pad, strides=[2, 2])
        yield f"conv {pad} stride 1", conv(wide, [6, 4, 4, 4], auto_pad=pad)
    yield "conv 1x1", conv(dynamic, [6, 4, 1, 1], fed=fed)
    yield "conv 1x1 stride 2", conv(dynamic, [6, 4, 1, 1], fed=fed, strides=[2, 2])
    yield "conv 3x3 dilation 2 stride 2", conv(wide, [6, 4, 3, 3], strides=[2, 2], dilations=[2, 2])
    yield "conv 1x1 pads 1", conv(square, [6, 4, 1, 1], pads=[1, 1, 1, 1])
    yield "conv groups 2", conv(square, [6, 2, 3, 3], group=2, pads=[1, 1, 1, 1])
    yield "conv groups 2 stride", conv(square, [6, 2, 3, 3], group=2, strides=[2, 2])
    yield "conv depthwise", conv(square, [4, 1, 3, 3], group=4, pads=[1, 1, 1, 1])
    yield "conv depthwise stride 2", conv(wide, [4, 1, 3, 3], group=4, pads=[1, 1, 1, 1], strides=[2, 2])
    yield "conv depthwise multiplier 3", conv(wide, [12, 1, 3, 3], group=4, pads=[0, 1, 1, 0])
    yield "conv depthwise dilated", conv(wide, [4, 1, 3, 3], group=4, dilations=[2, 2])
    yield "conv depthwise computed weights", conv(square, [4, 1, 3, 3], group=4, computed=True)
    yield "conv one channel", conv([2, 1, 8, 8], [3, 1, 3, 3])
    yield "conv batch dynamic", conv(dynamic, [6, 4, 3, 3], fed=fed, pads=[1, 1, 1, 1], strides=[2, 2])
    yield "conv size dynamic", conv(free, [6, 4, 3, 3], fed=size, pads=[1, 1, 1, 1])
    yield "conv size dynamic stride 2", conv(free, [6, 4, 3, 3], fed=size, pads=[1, 1, 1, 1], strides=[2, 2])
    yield "conv size dynamic SAME_UPPER", conv(free, [6, 4, 3, 3], fed=size, auto_pad="SAME_UPPER", strides=[2, 2])
    yield "conv 1-D", conv([2, 4, 12], [6, 4, 3], pads=[1, 1])
    yield "conv 1-D stride", conv(["N", 4, 12], [6, 4, 4], fed=[3, 4, 12], pads=[2, 1], strides=[3])
    yield "conv 1-D dilated groups", conv([2, 4, 12], [6, 2, 3], dilations=[2], group=2)
    yield "conv 1-D depthwise", conv([2, 4, 12], [4, 1, 3], group=4, pads=[1, 1])
    yield "conv 3-D", conv([2, 3, 5, 6, 7], [4, 3, 3, 3, 3], pads=[1, 1, 1, 1, 1, 1])
    yield "conv 3-D stride", conv([1, 3, 6, 6, 7], [4, 3, 2, 3, 3], strides=[1, 2, 2], pads=[0, 1, 1, 1, 1, 1])
    yield "conv 3-D batch dynamic", conv(["N", 3, 5, 6, 7], [4, 3, 3, 3, 3], fed=[2, 3, 5, 6, 7], pads=[1, 1, 1, 1, 1, 1], strides=[2, 2, 2])
    yield "conv 3-D SAME_UPPER", conv([1, 3, 5, 6, 7], [4, 3, 3, 3, 2], auto_pad="SAME_UPPER", strides=[2, 2, 2])
    yield "conv 3-D SAME_LOWER", conv([1, 3, 5, 6, 7], [4, 3, 3, 3, 2], auto_pad="SAME_LOWER", strides=[2, 2, 2])
    yield "conv 3-D uneven pads", conv([1, 3, 5, 6, 7], [4, 3, 3, 3, 2], pads=[0, 1, 2, 2, 1, 0])
    yield "conv 3-D groups", conv([2, 4, 5, 6, 7], [6, 2, 3, 3, 3], group=2, pads=[1, 1, 1, 1, 1, 1], strides=[2, 1, 2])
    yield "conv 3-D depthwise", conv(["N", 4, 5, 6, 7], [4, 1, 3, 3, 3], fed=[3, 4, 5, 6, 7], group=4, pads=[1, 1, 1, 1, 1, 1])
    yield "conv 3-D depthwise dilated", conv([1, 4, 7, 6, 7], [8, 1, 3, 2, 3], group=4, dilations=[2, 2, 1], pads=[2, 1, 1, 2, 1, 1])
    yield "conv 3-D size dynamic groups", conv(["N", 4, "D", "H", "W"], [4, 2, 3, 3, 3], fed=[2, 4, 5, 6, 7], group=2, pads=[1, 1, 1, 1, 1, 1])
    yield "conv 3-D 1x1", conv([2, 3, 5, 6, 7], [4, 3, 1, 1, 1])
    for shape, weights, attributes in [(square, [6, 4, 3, 3], {"pads": [1, 1, 1, 1]}), (square, [4, 1, 3, 3], {"group": 4}), (dynamic, [6, 4, 1, 1], {})]:
        yield f"conv float16 {weights}", conv(shape, weights, fed=[2, *shape[1:]], element=np.float16, **attributes)
    yield "conv 3-D dilated", conv([1, 3, 7, 7, 7], [4, 3, 2, 3, 2], dilations=[2, 2, 3])

    def deconv(*arguments, **attributes):
        return conv(*arguments, op="ConvTranspose", **attributes)

    yield "deconv", deconv([2, 4, 5, 6], [4, 3, 3, 3])
    yield "deconv no bias", deconv([2, 4, 5, 6], [4, 3, 3, 3], bias=False)
    yield "deconv stride 2", deconv([2, 4, 5, 6], [4, 3, 2, 2], strides=[2, 2])
    yield "deconv 4x4 stride 2 pads 1", deconv([2, 4, 5, 6], [4, 3, 4, 4], strides=[2, 2], pads=[1, 1, 1, 1])
    yield "deconv 3x3 stride 2 output padding", deconv([2, 4, 5, 6], [4, 3, 3, 3], strides=[2, 2], pads=[1, 1, 1, 1], output_padding=[1, 1])
    yield "deconv output padding alone", deconv([2, 4, 5, 6], [4, 3, 3, 3], strides=[3, 2], output_padding=[2, 1])
    yield "deconv uneven", deconv([2, 4, 5, 6], [4, 3, 3, 5], strides=[3, 2], pads=[0, 1, 2, 3])
    yield "deconv kernel under stride", deconv([2, 4, 5, 6], [4, 3, 1, 2], strides=[3, 3])
    yield "deconv dilated", deconv([1, 4, 5, 6], [4, 3, 3, 2], dilations=[2, 3])
    yield "deconv groups", deconv([1, 4, 5, 6], [4, 3, 3, 3], group=2, strides=[2, 2])
    yield "deconv depthwise", deconv([1, 4, 5, 6], [4, 1, 4, 4], group=4, strides=[2, 2], pads=[1, 1, 1, 1])
    for shape in [[11, 13], [10, 12], [9, 10], [12, 14]]:
        yield f"deconv output_shape {shape}", deconv([2, 4, 5, 6], [4, 3, 3, 3], strides=[2, 2], output_shape=shape)
        for pad in ["SAME_UPPER", "SAME_LOWER"]:
            yield f"deconv output_shape {shape} {pad}", deconv([2, 4, 5, 6], [4, 3, 3, 3], strides=[2, 2], output_shape=shape, auto_pad=pad)
    yield "deconv output_shape batch dynamic", deconv(["N", 4, 5, 6], [4, 3, 3, 3], fed=[2, 4, 5, 6], strides=[2, 2], output_shape=[10, 12])
    yield "deconv output_shape and padding", deconv([1, 4, 5, 6], [4, 3, 3, 3], strides=[2, 3], output_padding=[1, 1], output_shape=[10, 17])
    yield "deconv SAME_UPPER", deconv([1, 4, 5, 6], [4, 3, 3, 3], strides=[2, 2], auto_pad="SAME_UPPER")
    yield "deconv SAME_LOWER", deconv([1, 4, 5, 6], [4, 3, 3, 3], strides=[2, 2], auto_pad="SAME_LOWER")
    yield "deconv 1-D", deconv([2, 4, 5], [4, 3, 3], strides=[2], pads=[1, 0])
    yield "deconv computed weights", deconv([2, 4, 5, 6], [4, 3, 3, 3], computed=True, strides=[2, 2])
    yield "deconv batch dynamic", deconv(["N", 4, 5, 6], [4, 3, 3, 3], fed=[2, 4, 5, 6])
    yield "deconv batch dynamic SAME", deconv(["N", 4, 5, 6], [4, 3, 4, 4], fed=[2, 4, 5, 6], strides=[2, 2], pads=[1, 1, 1, 1])
    yield "deconv batch dynamic pads", deconv(["N", 4, 5, 6], [4, 3, 3, 3], fed=[2, 4, 5, 6], strides=[2, 2], pads=[1, 1, 1, 1], output_padding=[1, 1])
    yield "deconv batch dynamic groups", deconv(["N", 4, 5, 6], [4, 3, 3, 3], fed=[2, 4, 5, 6], strides=[2, 2], group=2)
    yield "deconv size dynamic SAME", deconv(free, [4, 3, 4, 4], fed=size, strides=[2, 2], pads=[1, 1, 1, 1])
    yield "deconv size dynamic", deconv(free, [4, 3, 3, 3], fed=size, strides=[2, 3])
    yield "deconv size dynamic pads", deconv(free, [4, 3, 3, 3], fed=size, strides=[2, 2], pads=[1, 0, 0, 1])
    yield "deconv size dynamic depthwise", deconv(free, [4, 1, 3, 3], fed=size, strides=[2, 2], pads=[1, 0, 0, 1], group=4)
    yield "deconv 1-D groups", deconv(["N", 4, 5], [4, 2, 4], fed=[3, 4, 5], strides=[2], pads=[1, 2], group=2)
    yield "deconv 1-D depthwise dilated", deconv([2, 4, 5], [4, 1, 3], strides=[3], dilations=[2], pads=[1, 2], output_padding=[1], group=4)
    yield "deconv stride under output padding", deconv([2, 4, 5, 6], [4, 3, 2, 2], strides=[3, 3], dilations=[2, 4], output_padding=[2, 1])
    yield "deconv pads over kernel", deconv([1, 4, 5, 6], [4, 3, 2, 2], strides=[2, 2], pads=[3, 0, 2, 4], group=2)
    yield "deconv depthwise large", deconv([1, 64, 7, 7], [64, 1, 4, 4], group=64, strides=[2, 2], pads=[1, 1, 1, 1])
    yield "deconv multiplier", deconv([1, 4, 5, 6], [4, 3, 3, 3], group=4, strides=[2, 1], pads=[1, 1, 1, 1])
    yield "deconv 3-D", deconv([2, 3, 4, 5, 3], [3, 2, 3, 2, 3], strides=[2, 2, 1], pads=[1, 0, 1, 0, 1, 1], output_padding=[1, 0, 0])
    yield "deconv 3-D groups", deconv(["N", 4, 4, 5, 3], [4, 2, 3, 2, 3], fed=[2, 4, 4, 5, 3], strides=[2, 2, 1], group=2)
    yield "deconv float16", deconv([2, 4, 5, 6], [4, 3, 3, 3], strides=[2, 2], element=np.float16)

    for op in ["MaxPool", "AveragePool"]:
        yield f"{op}", pool(op, square, kernel_shape=[2, 2], strides=[2, 2])
        yield f"{op} batch dynamic", pool(op, dynamic, fed=fed, kernel_shape=[3, 3], strides=[2, 2])
        yield f"{op} size dynamic", pool(op, free, fed=size, kernel_shape=[2, 3], strides=[2, 2])
        yield f"{op} pads 1", pool(op, square, kernel_shape=[3, 3], pads=[1, 1, 1, 1])
        yield f"{op} pads 1 stride 2", pool(op, square, kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2])
        yield f"{op} pads 1 stride 2 even", pool(op, [1, 4, 10, 12], kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2])
        yield f"{op} uneven pads", pool(op, wide, kernel_shape=[3, 4], pads=[2, 0, 1, 3], strides=[1, 2])
        yield f"{op} ceil", pool(op, [1, 4, 10, 10], kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)
        yield f"{op} ceil pads", pool(op, [1, 4, 10, 10], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1], ceil_mode=1)
        yield f"{op} SAME_UPPER", pool(op, wide, kernel_shape=[3, 2], strides=[2, 2], auto_pad="SAME_UPPER")
        yield f"{op} SAME_LOWER", pool(op, wide, kernel_shape=[3, 2], strides=[2, 2], auto_pad="SAME_LOWER")
        yield f"{op} 1-D", pool(op, ["N", 4, 13], fed=[2, 4, 13], kernel_shape=[3], strides=[2], pads=[1, 1])
        yield f"{op} 3-D", pool(op, [1, 4, 6, 6, 6], kernel_shape=[2, 2, 2])
        yield f"{op} 3-D batch dynamic", pool(op, ["N", 3, 5, 6, 7], fed=[2, 3, 5, 6, 7], kernel_shape=[3, 2, 2], strides=[2, 1, 2], pads=[1, 1, 0, 1, 0, 1])
        yield f"{op} 3-D size dynamic", pool(op, ["N", 3, "D", "H", "W"], fed=[2, 3, 5, 6, 7], kernel_shape=[3, 2, 2], strides=[2, 2, 2])
        yield f"{op} 3-D ceil", pool(op, [1, 3, 6, 8, 7], kernel_shape=[3, 3, 2], strides=[2, 2, 2], pads=[1, 0, 1, 1, 1, 0], ceil_mode=1)
        yield f"{op} 3-D SAME_LOWER", pool(op, [1, 3, 6, 8, 7], kernel_shape=[3, 3, 2], strides=[2, 2, 3], auto_pad="SAME_LOWER")
        yield f"{op} 3-D one axis", pool(op, [1, 3, 6, 8, 7], kernel_shape=[3, 1, 1], strides=[2, 1, 1])
        yield f"{op} dilated", pool(op, wide, kernel_shape=[2, 3], dilations=[2, 3])
        yield f"{op} dilated one axis", pool(op, wide, kernel_shape=[3, 3], dilations=[1, 3], strides=[2, 2], pads=[1, 1, 1, 1])
        yield f"{op} dilated size dynamic", pool(op, free, fed=size, kernel_shape=[2, 3], dilations=[2, 2], strides=[3, 2])
        yield f"{op} dilated ceil", pool(op, wide, kernel_shape=[2, 3], dilations=[2, 3], strides=[2, 2], pads=[1, 1, 0, 1], ceil_mode=1)
        yield f"{op} dilated 1-D", pool(op, ["N", 4, 13], fed=[2, 4, 13], kernel_shape=[3], dilations=[3], strides=[2])
        yield f"{op} float16", pool(op, square, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1], element=np.float16)
        yield f"Global{op}", pool(f"Global{op}", dynamic, fed=fed)
    yield "MaxPool size dynamic pads", pool("MaxPool", free, fed=size, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    yield "MaxPool size dynamic ceil", pool("MaxPool", free, fed=size, kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1, refused="ceil_mode")
    yield "AveragePool size dynamic pads", pool("AveragePool", free, fed=size, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1], refused="unknown size")
    yield "AveragePool size dynamic include", pool("AveragePool", free, fed=size, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1], count_include_pad=1)
    for name, attributes in {"": {}, " stride 2": {"strides": [2, 2]}, " uneven": {"pads": [2, 0, 1, 2]}}.items():
        attributes = {"pads": [1, 1, 1, 1]} | attributes
        yield f"AveragePool include{name}", pool("AveragePool", wide, kernel_shape=[3, 3], count_include_pad=1, **attributes)
    yield "AveragePool include SAME_UPPER", pool("AveragePool", wide, kernel_shape=[3, 3], count_include_pad=1, auto_pad="SAME_UPPER")
    yield "AveragePool include ceil", pool("AveragePool", [1, 4, 10, 10], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1], count_include_pad=1, ceil_mode=1)
    yield "AveragePool SAME_UPPER leaves pixels out", pool("AveragePool", [1, 2, 6, 6], kernel_shape=[1, 1], strides=[3, 3], auto_pad="SAME_UPPER", refused="leave 2 pixels out")
    yield "MaxPool larger than the input", pool("MaxPool", [1, 2, 3, 8], kernel_shape=[3, 3], dilations=[2, 2], refused="larger than the padded input")
    yield "LpPool 3-D strided taps", pool("LpPool", [1, 2, 6, 7, 8], kernel_shape=[3, 1, 1], dilations=[2, 1, 1], strides=[2, 1, 1])
    yield "AveragePool include 3-D", pool("AveragePool", [1, 3, 5, 6, 7], kernel_shape=[3, 2, 2], strides=[2, 1, 2], pads=[1, 1, 0, 1, 0, 1], count_include_pad=1)
    yield "AveragePool include dilated", pool("AveragePool", wide, kernel_shape=[3, 2], dilations=[2, 2], pads=[1, 1, 0, 1], count_include_pad=1)
    for element in [np.uint8, np.int8]:
        yield f"MaxPool {np.dtype(element)}", pool("MaxPool", wide, kernel_shape=[3, 2], pads=[1, 1, 1, 0], element=element)
        yield f"MaxPool {np.dtype(element)} ceil", pool("MaxPool", wide, kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1, element=element)
    both = ("y", "at")
    yield "MaxPool indices", pool("MaxPool", wide, kernel_shape=[2, 2], strides=[2, 2], outputs=both)
    yield "MaxPool indices pads", pool("MaxPool", wide, kernel_shape=[3, 2], strides=[2, 1], pads=[1, 0, 1, 1], outputs=both)
    yield "MaxPool indices batch dynamic", pool("MaxPool", dynamic, fed=fed, kernel_shape=[3, 3], strides=[2, 2], outputs=both)
    yield "MaxPool indices column major", pool("MaxPool", wide, kernel_shape=[2, 3], storage_order=1, outputs=both)
    yield "MaxPool indices dilated ceil", pool("MaxPool", wide, kernel_shape=[2, 2], strides=[2, 3], dilations=[2, 3], ceil_mode=1, outputs=both)
    yield "MaxPool indices 1-D", pool("MaxPool", [2, 3, 11], kernel_shape=[3], strides=[2], pads=[1, 1], outputs=both)
    yield "MaxPool indices 3-D", pool("MaxPool", [2, 3, 4, 5, 6], kernel_shape=[2, 2, 2], strides=[2, 1, 2], pads=[0, 1, 0, 0, 0, 1], outputs=both)
    for p in [1, 2, 3]:
        yield f"LpPool {p}", pool("LpPool", wide, kernel_shape=[3, 2], strides=[2, 1], p=p)
        yield f"LpPool {p} pads", pool("LpPool", dynamic, fed=fed, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 0, 1, 2], p=p)
    yield "LpPool SAME_UPPER", pool("LpPool", wide, kernel_shape=[3, 2], strides=[2, 2], auto_pad="SAME_UPPER")
    yield "LpPool 1-D", pool("LpPool", ["N", 4, 13], fed=[2, 4, 13], kernel_shape=[3], strides=[2])
    yield "LpPool 3-D dilated", pool("LpPool", [1, 2, 6, 7, 8], kernel_shape=[2, 3, 2], dilations=[2, 1, 2])
    yield "LpPool ceil", pool("LpPool", wide, kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)
    for p in [1, 2, 3, 4]:
        yield f"GlobalLpPool {p}", pool("GlobalLpPool", dynamic, fed=fed, p=p)
    for seed in range(12):
        draw = np.random.default_rng(seed)
        attributes = {"kernel_shape": draw.integers(1, 5, 2).tolist(), "strides": draw.integers(1, 4, 2).tolist()}
        attributes["pads"] = [int(draw.integers(0, attributes["kernel_shape"][i % 2])) for i in range(4)]
        shape = [1, 3, *draw.integers(6, 14, 2).tolist()]
        yield f"MaxPool random {seed}", pool("MaxPool", shape, **attributes)
        yield f"AveragePool random {seed}", pool("AveragePool", shape, **attributes)
        yield f"AveragePool include random {seed}", pool("AveragePool", shape, count_include_pad=1, **attributes)
        kernel, strides, pads = attributes["kernel_shape"], attributes["strides"], attributes["pads"]
        yield f"conv random {seed}", conv(shape, [5, 3, *kernel], strides=strides, pads=pads)

    crop = {"coordinate_transformation_mode": "tf_crop_and_resize", "roi": [0, 0, 0.2, -0.1, 1, 1, 0.9, 1.2]}
    for mode in ["linear", "cubic", "nearest"]:
        yield f"Resize {mode} crop", resize([1, 3, 8, 10], sizes=[1, 3, 5, 7], mode=mode, extrapolation_value=7.5, **crop)
        yield f"Resize {mode} crop to one", resize([1, 3, 8, 10], sizes=[1, 3, 1, 4], mode=mode, **crop)
        for policy in ["not_larger", "not_smaller"]:
            attributes = {"mode": mode, "keep_aspect_ratio_policy": policy, "axes": [2, 3]}
            yield f"Resize {mode} {policy}", resize([1, 3, 8, 10], sizes=[5, 13], **attributes)
            yield f"Resize {mode} {policy} larger", resize([1, 3, 8, 10], sizes=[17, 19], **attributes)
    yield "Resize batch dynamic half_pixel", resize(dynamic, [1, 1, 1.5, 2], fed=fed, mode="linear")
    for how in ["half_pixel", "pytorch_half_pixel", "asymmetric", "align_corners"]:
        attributes = {"mode": "linear", "coordinate_transformation_mode": how}
        yield f"Resize size dynamic {how}", resize(free, [1, 1, 2, 3], fed=size, **attributes)
    nearest = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    yield "Resize size dynamic nearest", resize(free, [1, 1, 2, 3], fed=size, **nearest)
    yield "Resize size dynamic one axis", resize(free, [1, 1, 1, 5], fed=size, **nearest)
    yield "Resize float16 linear", resize(square, [1, 1, 2, 2], mode="linear", element=np.float16)
    yield "Resize float16 cubic", resize(square, [1, 1, 2, 3], mode="cubic", element=np.float16)
    yield "Resize float16 nearest", resize(square, [1, 1, 2, 3], mode="nearest", element=np.float16)

    for mode in ["bilinear", "nearest", "bicubic"]:
        for padding in ["zeros", "border", "reflection"]:
            for corners in [0, 1]:
                attributes = {"mode": mode, "padding_mode": padding, "align_corners": corners}
                attributes["refused"] = "runtimes" if (mode, padding) == ("bicubic", "border") else None
                yield f"GridSample {attributes}", grid_sample([2, 3, 5, 7], [2, 6, 4, 2], **attributes)
                yield f"GridSample constant grid {attributes}", grid_sample([1, 2, 6, 3], [1, 5, 5, 2], computed=False, **attributes)
        yield f"GridSample {mode} one row", grid_sample([2, 1, 1, 7], [2, 6, 4, 2], mode=mode, padding_mode="reflection", align_corners=1)

    yield "LRN", pool("LRN", dynamic, fed=fed, size=3)
    yield "LRN 5", pool("LRN", [1, 16, 5, 5], size=5, alpha=0.1, beta=0.6, bias=2.0)
    yield "LRN even", pool("LRN", [1, 16, 5, 5], size=4, refused="even")
    yield "BatchNormalization", Case(["N", 4, 5, 6], [node("BatchNormalization", ["x", "scale", "offset", "mean", "variance"])], norm(4), [2, 4, 5, 6])
    yield "Conv BatchNormalization Relu", conv_norm_relu(1)
    yield "depthwise Conv BatchNormalization Relu", conv_norm_relu(8)
    yield "grouped Conv BatchNormalization Relu", conv_norm_relu(2)
    nodes = [
        node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]),
        node("Clip", ["c", "low", "high"], ["r"]),
        node("MaxPool", ["r"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
        node("Flatten", ["p"], ["f"]),
        node("Gemm", ["f", "m", "v"], transB=1),
    ]
    constants = {"w": random(1, 6, 1, 3, 3), "low": np.float32(0), "high": np.float32(6), "m": random(2, 10, 96), "v": random(3, 10)}
    yield "LeNet", Case(["N", 1, 8, 8], nodes, {k: np.asarray(v) for k, v in constants.items()}, [3, 1, 8, 8])
    nodes = [
        node("Conv", ["x", "w"], ["a"], pads=[1, 1, 1, 1]),
        node("Conv", ["a", "u"], ["b"], pads=[1, 1, 1, 1]),
        node("Add", ["a", "b"], ["s"]),
        node("Relu", ["s"], ["r"]),
        node("Concat", ["r", "a"], ["j"], axis=1),
        node("GlobalAveragePool", ["j"], ["g"]),
        node("Flatten", ["g"]),
    ]
    yield "residual and concat", Case(["N", 3, 8, 8], nodes, {"w": random(1, 6, 3, 3, 3), "u": random(2, 6, 6, 3, 3)}, [2, 3, 8, 8])


def convert(binary, source, target):
    command = [str(binary), "convert", str(source), "-o", str(target), "--json"]
    return subprocess.run(command, capture_output=True, text=True, timeout=600)


def run_litert(path, feeds, xnnpack):
    interpreter = litert_interpreter(path, xnnpack)
    with silent_stderr():
        details = interpreter.get_input_details()
        for given in details:
            interpreter.resize_tensor_input(given["index"], feeds[given["name"]].shape)
        interpreter.allocate_tensors()
        for given in details:
            interpreter.set_tensor(given["index"], feeds[given["name"]])
        interpreter.invoke()
    return [interpreter.get_tensor(result["index"]) for result in interpreter.get_output_details()]


def difference(path, feeds, expected, xnnpack):
    largest = 0.0
    got = run_litert(path, feeds, xnnpack)
    if sorted(g.shape for g in got) != sorted(e.shape for e in expected):
        raise ValueError(f"shapes {[g.shape for g in got]} instead of {[e.shape for e in expected]}")
    for one, other in zip(got, expected):
        one, other = one.astype(np.float64), other.astype(np.float64)
        if not np.isfinite(one).all():
            return float("inf")
        largest = max(largest, float(np.abs(one - other).max() / max(1e-30, np.abs(other).max())))
    return largest


def check_case(report, binary, folder, name, case):
    source, target = folder / "case.onnx", folder / "case.tflite"
    target.unlink(missing_ok=True)
    case.save(source)
    done = convert(binary, source, target)
    if case.refused is not None:
        report.check(f"{name}, refused", lambda: done.returncode == 1 and not target.exists() and (case.refused == "any" or case.refused in done.stderr) and bool(WAY_OUT.search(done.stderr)) or done.stderr[-300:], equal(True))
        return
    if done.returncode != 0:
        report.check(name, lambda: (done.stderr + done.stdout)[-600:], equal("converted"))
        return
    feeds = {"x": case.values(), **case.inputs}
    tolerance = {"f": {2: 2e-3, 4: TOLERANCE}.get(case.element.itemsize)}.get(case.element.kind, 0)
    session = onnxruntime.InferenceSession(str(source), providers=["CPUExecutionProvider"])
    expected = session.run(None, feeds)
    report.check(name, lambda: difference(target, feeds, expected, False), at_most(tolerance))
    report.check(f"{name}, XNNPACK", lambda: difference(target, feeds, expected, True), at_most(tolerance))
    operators = TfliteFile(target).operators()
    if sys.flags.dev_mode:
        print(" ".join(operators))


def main():
    binary = Path(sys.argv[1]).resolve()
    wanted = sys.argv[2:]
    report = Report("ONNX convolutions, pools and resizes")
    with tempfile.TemporaryDirectory() as folder:
        for name, case in cases():
            if not wanted or name in wanted:
                check_case(report, binary, Path(folder), name, case)
    return report.finish()


if __name__ == "__main__":
    raise SystemExit(main())
