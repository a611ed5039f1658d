"""Makes the nine light_*.onnx of the onnx wheel runnable: their weights are zeros there, and get seeded values here.

    "$(tests/peers/venv.sh)" tests/peers/light_nets.py [NAME...]      all nine left out; prints each path

Convolutions and dense layers get He-normal weights, biases are near 0; BatchNorm and the scales after it have mean and bias near 0,
variance and scale near 1. The last layer is scaled by a power of two so that its outputs spread by about 2: no softmax saturates.
The bytes depend on the packages' versions only. The files lie in ${MLCTL_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/mlctl}/light_nets
(1.4 GB for all nine, 575 MB of it vgg19) and are made once.
"""

import math
import os
import sys
import zlib
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper

RECIPE = 1  # part of the folder's name: raise it when other bytes are made
NAMES = ["bvlc_alexnet", "densenet121", "inception_v1", "inception_v2", "resnet50", "shufflenet", "squeezenet", "vgg19", "zfnet512"]
SOURCES = Path(onnx.__file__).parent / "backend/test/data/light"
CARRIERS = {"Unsqueeze", "Reshape", "Squeeze", "Identity"}
BATCH_NORM = {1: (1, 0.1), 2: (0, 0.1), 3: (0, 0.1), 4: (1, 0.1)}
ELEMENTWISE = {"Mul": (1, 0.1), "Add": (0, 0.1), "Sum": (0, 0.1)}


def cache_folder():
    caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    cache = Path(os.environ.get("MLCTL_CACHE") or Path(caches) / "mlctl")
    return cache / "light_nets" / f"onnx-{onnx.__version__}-recipe-{RECIPE}"


def net(name):
    """The path of a net, which is made now if it is not there."""
    path = cache_folder() / f"{name}.onnx"
    if not path.exists():
        model = filled(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        making = path.with_suffix(f".making.{os.getpid()}")
        onnx.save(model, making)
        making.rename(path)
    return path


def image(name, seed=0):
    """Seeded inputs of a net by name: one picture of normal values."""
    session = onnxruntime.InferenceSession(str(net(name)), providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    return {given.name: np.random.default_rng(seed).standard_normal(given.shape, np.float32)}


def filled(name):
    model = onnx.load(SOURCES / f"light_{name}.onnx")
    graph = model.graph
    weights = {i.name: list(i.dims) for i in graph.initializer if i.data_type == onnx.TensorProto.FLOAT}
    shapes = {i.name: numpy_helper.to_array(i).tolist() for i in graph.initializer if i.data_type == onnx.TensorProto.INT64}
    makers = [n for n in graph.node if n.op_type == "ConstantOfShape"]
    weights |= {n.output[0]: shapes[n.input[0]] for n in makers}
    made_shapes = {n.input[0] for n in makers}

    nodes = [n for n in graph.node if n.op_type != "ConstantOfShape"]
    readers = {}
    for node in nodes:
        for position, value in enumerate(node.input):
            readers.setdefault(value, []).append((node, position))

    initializers = {i.name: i for i in graph.initializer if i.name not in made_shapes and i.name not in weights}
    last = None
    for weight, shape in weights.items():
        node, position = role(readers, weight)
        if node is None:
            continue
        values = seeded_values(f"{name}/{weight}", shape, node, position)
        initializers[weight] = numpy_helper.from_array(values, weight)
    for node in nodes:
        if node.op_type in ("Conv", "Gemm"):
            last = node

    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend(initializers[name] for name in sorted(initializers))
    inputs = [i for i in graph.input if i.name not in initializers and i.name in readers and i.name not in made_shapes]
    del graph.input[:]
    graph.input.extend(inputs)
    model.ir_version = 4  # initializers need not be inputs
    scale_last_layer(model, last.output[0], {weight for weight in weights if role(readers, weight)[0] is last})
    return model


def role(readers, value):
    """The op that reads a weight, through reshapes, and as which input."""
    for node, position in readers.get(value, []):
        return role(readers, node.output[0]) if node.op_type in CARRIERS else (node, position)
    return None, None


def seeded_values(seed, shape, node, position):
    normal = np.random.default_rng(zlib.crc32(seed.encode())).standard_normal(shape, np.float32)
    if node.op_type == "BatchNormalization":
        mean, deviation = BATCH_NORM[position]
        # A variance of 0.1 or less would need a draw of nine deviations; clipped all the same.
        values = normal * np.float32(deviation) + np.float32(mean)
        return np.maximum(values, np.float32(0.1)) if position == 4 else values
    if node.op_type in ELEMENTWISE:
        mean, deviation = ELEMENTWISE[node.op_type]
        return normal * np.float32(deviation) + np.float32(mean)
    if position == 2:
        return normal * np.float32(0.01)
    transposed = any(a.name == "transB" and a.i for a in node.attribute)
    inputs = math.prod(shape[1:]) if node.op_type == "Conv" or transposed else shape[0]
    return normal * np.float32(math.sqrt(2 / inputs))


def scale_last_layer(model, output, weights):
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    del probe.graph.output[:]
    probe.graph.output.append(onnx.helper.make_tensor_value_info(output, onnx.TensorProto.FLOAT, None))
    session = onnxruntime.InferenceSession(probe.SerializeToString(), providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    picture = np.random.default_rng(1).standard_normal(given.shape, np.float32)
    spread = float(session.run(None, {given.name: picture})[0].std())
    factor = np.float32(2.0 ** -round(math.log2(spread / 2)))
    for initializer in model.graph.initializer:
        if initializer.name in weights:
            initializer.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(initializer) * factor, initializer.name))


if __name__ == "__main__":
    for name in sys.argv[1:] or NAMES:
        print(net(name))
