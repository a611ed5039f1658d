"""Models that TensorFlow and Keras write, with what they compute: tensorflow_models.py FOLDER [--only REGEX]

NAME/ is a SavedModel (or NAME/model.json, a graph-model of TensorFlow.js); NAME.npz has arrays `input X` and `output Y`
by the names of its signature. NAME.not_built tells why one could not be made. Runs in TensorFlow's environment.
"""

import argparse
import json
import os
import re
import traceback
from pathlib import Path

# oneDNN: as TensorFlow does by itself on newer processors; without it some convolutions run nowhere
os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "", "TF_ENABLE_ONEDNN_OPTS": "1", "KERAS_BACKEND": "tensorflow"}

import keras
import numpy as np
import tensorflow as tf
from keras import layers as L
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

v1 = tf.compat.v1
random = np.random.default_rng(7)


def normal(*shape):
    return random.standard_normal(shape).astype(np.float32)


def shaken(model):
    """With weights that no two layers share; variances stay above 0."""
    for variable in model.weights:
        if variable.dtype == "float32":
            positive = "variance" in variable.path or "gamma" in variable.path
            variable.assign(0.5 + random.random(variable.shape) if positive else 0.3 * random.standard_normal(variable.shape))
    return model


# --- Keras

def mlp():
    return keras.Sequential([keras.Input((28, 28)), L.Flatten(), L.Dense(100, activation="relu"), L.Dense(10, activation="softmax")])


def cnn():
    picture = keras.Input((17, 15, 3), name="picture")
    x = L.ReLU(6.0)(L.BatchNormalization()(L.Conv2D(8, 3, strides=2, padding="same", use_bias=False)(picture)))
    x = L.Activation("swish")(L.BatchNormalization()(L.DepthwiseConv2D(3, padding="same")(x)))
    x = L.ZeroPadding2D(((1, 2), (0, 1)))(L.MaxPooling2D()(L.Conv2D(16, 1)(x)))
    x = L.LeakyReLU()(L.Conv2D(12, 3, dilation_rate=2, padding="same")(x))
    y = L.Conv2DTranspose(6, 3, strides=2, padding="same")(x)
    classes = L.Dense(5, activation="softmax")(L.GlobalAveragePooling2D()(x))
    return keras.Model(picture, [classes, L.AveragePooling2D(2, padding="same")(y)])


def residual():
    picture = keras.Input((9, 9, 4))
    x = L.Conv2D(8, 3, padding="same", activation="relu")(picture)
    y = L.Conv2D(8, 3, padding="same")(L.BatchNormalization()(x))
    x = L.ReLU()(L.Add()([x, y]))
    x = L.SeparableConv2D(6, 3, dilation_rate=2)(x)
    x = L.GroupNormalization(2)(L.Conv2D(8, 3, groups=2)(x))
    return keras.Model(picture, L.Dense(3)(L.Flatten()(L.SpatialDropout2D(0.2)(x))))


def several():
    picture, number = keras.Input((6, 5, 2), name="picture"), keras.Input((3,), name="number")
    x = L.Conv2D(4, 3, padding="same", activation="gelu")(picture)
    x = L.LayerNormalization()(L.Add()([x, L.Conv2D(4, 3, padding="same")(x)]))
    x = L.UpSampling2D(2, interpolation="bilinear")(L.UpSampling2D(2)(x))
    x = L.Dense(7)(L.Reshape((-1, 4))(L.Permute((2, 1, 3))(x)))
    x = L.Concatenate()([L.PReLU()(L.GlobalMaxPooling1D()(x)), L.Dense(4, activation="hard_sigmoid")(number)])
    return keras.Model([picture, number], [L.Dense(2, activation="softplus")(x), L.Dense(3, activation="elu")(x)])


def sequence():
    tokens = keras.Input((None,), dtype="int32", name="tokens")
    e = L.Embedding(12, 8)(tokens)
    x = L.LayerNormalization()(L.MultiHeadAttention(2, 4)(e, e) + e)
    x = L.Dense(5, activation="tanh")(L.Conv1D(6, 3, padding="causal")(x))
    return keras.Model(tokens, L.Dense(2)(L.GlobalAveragePooling1D()(x)))


def activations():
    given = keras.Input((6,))
    names = ["relu", "relu6", "elu", "selu", "sigmoid", "tanh", "softplus", "softsign", "silu", "hard_silu", "exponential", "mish", "log_softmax", "leaky_relu"]
    return keras.Model(given, [L.Activation(name)(given) for name in names])


def for_the_browser():
    picture = keras.Input((9, 9, 4))
    x = L.ReLU(6.0)(L.BatchNormalization()(L.Conv2D(8, 3, strides=2, padding="same")(picture)))
    x = L.Add()([x, L.DepthwiseConv2D(3, padding="same")(x)])
    return keras.Model(picture, L.Dense(3, activation="softmax")(L.Flatten()(L.MaxPooling2D(2)(x))))


KERAS = {
    "mlp": mlp,
    "cnn": cnn,
    "residual": residual,
    "several": several,
    "sequence": sequence,
    "activations": activations,
    "MobileNetV2": lambda: keras.applications.MobileNetV2(weights=None, input_shape=(96, 96, 3), classes=10),
    "EfficientNetB0": lambda: keras.applications.EfficientNetB0(weights=None, input_shape=(64, 64, 3), classes=10),
    "ResNet50V2": lambda: keras.applications.ResNet50V2(weights=None, input_shape=(64, 64, 3), classes=10),
}

# --- single ops: a function, and the shapes (with None where open) or arrays of what it takes

NCHW = {"data_format": "NCHW"}
OPS = {
    "matmul": (lambda x: tf.matmul(x, normal(4, 5)), [(None, 4)]),
    "matmul_transposed": (lambda x: tf.matmul(x, normal(5, 4), transpose_b=True), [(None, 4)]),
    "matmul_a": (lambda x: tf.matmul(x, normal(3, 4), transpose_a=True), [(3, 2)]),
    "matmul_both": (lambda x, y: tf.matmul(x, y, transpose_b=True), [(None, 4), (6, 4)]),
    "batch_matmul": (lambda x, y: tf.matmul(x, y), [(None, 3, 4), (None, 4, 2)]),
    "batch_matmul_weights": (lambda x: tf.matmul(x, normal(4, 5)), [(None, 3, 4)]),
    "einsum_weights": (lambda x: tf.einsum("abc,cde->abde", x, normal(4, 2, 3)), [(None, 3, 4)]),
    "einsum_batch": (lambda x, y: tf.einsum("aecd,abcd->acbe", x, y), [(None, 3, 2, 4), (None, 5, 2, 4)]),
    "einsum_rows": (lambda x, y: tf.einsum("bij,bkj->bki", x, y), [(2, 3, 4), (2, 5, 4)]),
    "conv_explicit": (lambda x: tf.nn.conv2d(x, normal(3, 2, 2, 4), [1, 2, 1, 1], [[0, 0], [2, 0], [1, 3], [0, 0]]), [(None, 8, 7, 2)]),
    "conv_valid_strides": (lambda x: tf.nn.conv2d(x, normal(3, 3, 2, 4), 2, "VALID"), [(None, 8, 7, 2)]),
    "conv_dilations": (lambda x: tf.nn.conv2d(x, normal(3, 3, 2, 4), 1, "SAME", dilations=2), [(None, 8, 7, 2)]),
    "conv_groups": (lambda x: tf.nn.conv2d(x, normal(3, 3, 2, 6), 1, "SAME"), [(None, 5, 5, 4)]),
    "conv_open": (lambda x: tf.nn.conv2d(x, normal(3, 3, 2, 4), 2, "SAME"), [(None, None, None, 2)]),
    "convolution_dilated_open": (lambda x: tf.nn.convolution(x, normal(3, 3, 2, 4), 1, "VALID", dilations=[2, 3]), [(None, 11, 13, 2)]),
    "depthwise": (lambda x: tf.nn.depthwise_conv2d(x, normal(3, 3, 2, 3), [1, 2, 2, 1], "SAME"), [(None, 8, 7, 2)]),
    "transposed": (lambda x: tf.nn.conv2d_transpose(x, normal(3, 3, 5, 2), [2, 9, 9, 5], 2, "VALID"), [(2, 4, 4, 2)]),
    "conv3d": (lambda x: tf.nn.conv3d(x, normal(2, 3, 3, 2, 4), [1, 1, 2, 2, 1], "SAME"), [(None, 4, 6, 5, 2)]),
    "bias_channels_first": (lambda x: tf.nn.bias_add(x, normal(3), data_format="NCHW"), [(None, 3, 4, 5)]),
    "batch_norm": (lambda x: v1.nn.fused_batch_norm(x, normal(3), normal(3), normal(3), 0.5 + random.random(3).astype("f"), is_training=False)[0], [(None, 4, 5, 3)]),
    "max_pool": (lambda x: tf.nn.max_pool2d(x, [3, 2], [2, 1], "SAME"), [(None, 8, 7, 3)]),
    "avg_pool": (lambda x: tf.nn.avg_pool2d(x, 3, 2, "SAME"), [(None, 8, 7, 3)]),
    "lrn": (lambda x: tf.nn.lrn(x, 2, 1.0, 0.2, 0.7), [(None, 3, 3, 9)]),
    "reductions": (lambda x: [tf.reduce_sum(x, [1, -1]), tf.reduce_max(x, 2, keepdims=True), tf.reduce_min(x, 1), tf.reduce_prod(x, 2), tf.reduce_mean(x)], [(None, 3, 4)]),
    "bool_reductions": (lambda x: [tf.cast(tf.reduce_any(x > 0.5, 1), "int32"), tf.cast(tf.reduce_all(x > -1.0, 1), "int32")], [(None, 3, 4)]),
    "arg": (lambda x: [tf.argmax(x, 1), tf.argmin(x, -1, output_type="int32")], [(None, 3, 4)]),
    "top": (lambda x: list(tf.math.top_k(x, 3)), [(None, 7)]),
    "cumsum": (lambda x: tf.cumsum(x, 1, exclusive=True, reverse=True), [(None, 4, 3)]),
    "arithmetic": (lambda x, y: [x + y, x - y, x * y, x / (tf.abs(y) + 1), tf.maximum(x, y), tf.minimum(x, y), tf.abs(x) ** 1.5, tf.math.squared_difference(x, y), tf.math.floordiv(x, y), tf.math.floormod(x, y), tf.add_n([x, y, x])], [(None, 5), (None, 5)]),
    "comparisons": (lambda x, y: [tf.cast(t, "float32") for t in (x < y, x <= y, x > y, x >= y, tf.equal(x, y), tf.not_equal(x, y), tf.logical_and(x > 0, y > 0), tf.logical_or(x > 0, y > 0), tf.logical_not(x > 0))], [(None, 5), (None, 5)]),
    "elementwise": (lambda x: [tf.abs(x), tf.math.ceil(x), tf.cos(x), tf.exp(x), tf.floor(x), tf.math.log(tf.abs(x) + 1), tf.math.log1p(tf.abs(x)), tf.math.expm1(x), -x, tf.round(x), tf.math.rsqrt(tf.abs(x) + 1), tf.sin(x), tf.sqrt(tf.abs(x)), tf.square(x), tf.sign(x), tf.math.reciprocal(tf.abs(x) + 1), tf.clip_by_value(x, -0.5, 0.7), tf.zeros_like(x), tf.ones_like(x)], [(None, 5)]),
    "select": (lambda x, y: [tf.where(x > 0, x, y), v1.where(x[:, 0] > 0, x, y)], [(3, 4), (3, 4)]),
    "cast": (lambda x: [tf.cast(x * 3, "int32"), tf.cast(tf.cast(x, "bool"), "float32"), tf.cast(x, "int64")], [(None, 4)]),
    "shapes": (lambda x: [tf.reshape(x, [-1, 12]), tf.squeeze(tf.expand_dims(x, 1), 1), tf.transpose(x, [2, 0, 1]), tf.tile(x, [1, 2, 1]), tf.reshape(x, [tf.shape(x)[0], -1]), tf.broadcast_to(x[:, :1], tf.shape(x))], [(None, 3, 4)]),
    "flat_of_two_open": (lambda x: tf.reshape(tf.reshape(x, [-1, 4]) * 2.0, [tf.shape(x)[0], tf.shape(x)[1], 2, 2]), [(None, None, 4)]),
    "parts": (lambda x: [*tf.split(x, 2, 1), *tf.split(x, [1, 3], 1), *tf.unstack(x, axis=1), tf.concat([x, x], -1), tf.stack([x, x], 1), tf.reverse(x, [1])], [(None, 4, 3)]),
    "slices": (lambda x: [x[:, 1], x[:, -1:], x[:, ::2], x[:, ::-1], x[..., 1:3], x[:, tf.newaxis, 1:, ..., :2], tf.slice(x, [0, 1, 0], [-1, 2, 2])], [(3, 4, 5)]),
    "pad": (lambda x: [tf.pad(x, [[0, 0], [1, 2]]), tf.pad(x, [[0, 0], [1, 2]], constant_values=3.0), tf.pad(x, [[0, 0], [1, 2]], "REFLECT"), tf.pad(x, [[0, 0], [1, 2]], "SYMMETRIC")], [(None, 4)]),
    "gather": (lambda x: [tf.gather(x, [2, 0], axis=1), tf.gather(x, [[1], [2]], axis=2), tf.gather_nd(x, [[0, 1], [1, 2]])], [(2, 3, 4)]),
    "gather_batch": (lambda x: tf.gather(x, np.array([[0, 1], [2, 2]], "int32"), batch_dims=1), [(2, 3, 4)]),
    "one_hot": (lambda x: tf.one_hot(tf.argmax(x, 1), 4), [(None, 4)]),
    "filled": (lambda x: [tf.fill(tf.shape(x)[:1], 2.5), x + tf.range(4, dtype="float32")], [(None, 4)]),
    "scatter": (lambda x: [tf.scatter_nd([[1], [3]], x, [5, 4]), tf.math.unsorted_segment_sum(x, [1, 0], 3)], [(2, 4)]),
    "resize": (lambda x: [tf.image.resize(x, [7, 9]), tf.image.resize(x, [7, 9], "nearest"), v1.image.resize_bilinear(x, [7, 9], align_corners=True), v1.image.resize_nearest_neighbor(x, [7, 9])], [(None, 4, 5, 3)]),
    "space_and_depth": (lambda x: [tf.nn.depth_to_space(x, 2), tf.nn.space_to_depth(x, 2)], [(None, 4, 6, 8)]),
    "softmaxes": (lambda x: [tf.nn.softmax(x), tf.nn.log_softmax(x)], [(None, 3, 4)]),
    "gelu": (lambda x: [tf.nn.gelu(x), tf.nn.gelu(x, approximate=True), keras.activations.gelu(x, approximate=False)], [(None, 6)]),
    "half_weights": (lambda x: tf.matmul(x, tf.cast(tf.constant(normal(4, 5), "float16"), "float32")), [(None, 4)]),
    "double_weights": (lambda x: tf.matmul(x, tf.cast(tf.constant(normal(4, 5), "float64"), "float32")), [(None, 4)]),
    "constant_output": (lambda x: [x, x, tf.identity(x) * 1.0], [(None, 4)]),
    "numbers": (lambda x: [x // 2, x * x, tf.bitwise.bitwise_xor(x, 5)], [tf.TensorSpec((None, 4), "int32")]),
}


class Function(tf.Module):
    def __init__(self, function, shapes):
        super().__init__()
        specs = [shape if isinstance(shape, tf.TensorSpec) else tf.TensorSpec(shape, tf.float32) for shape in shapes]
        self.specs = [tf.TensorSpec(spec.shape, spec.dtype, name=f"x{i}") for i, spec in enumerate(specs)]

        def call(*arguments):
            made = function(*arguments)
            return {f"y{i:02}": t for i, t in enumerate(made if isinstance(made, list) else [made])}

        self.call = tf.function(call, input_signature=self.specs)


class Variables(tf.Module):
    """Variables in a list and in a module, one of them used twice; a second signature; a function in a function."""

    def __init__(self):
        super().__init__()
        self.w, self.parts = tf.Variable(normal(4, 3), name="w"), [tf.Variable(normal(3), name="b")]
        self.inner = tf.Module()
        self.inner.scale = tf.Variable(normal(3))

    @tf.function
    def product(self, x, b):
        return tf.matmul(x, self.w) + b

    @tf.function(input_signature=[tf.TensorSpec((None, 4), tf.float32, name="x")])
    def call(self, x):
        y = self.product(x, self.parts[0]) * self.inner.scale + self.product(x * 2.0, self.parts[0])
        return {"y": tf.nn.relu(y), "sum": tf.reduce_sum(y, 1, keepdims=True)}

    @tf.function(input_signature=[tf.TensorSpec((2, 2), tf.float32, name="x")])
    def other(self, x):
        return {"transposed": tf.transpose(x)}


def old(folder, resource, frozen):
    """As TensorFlow 1 saved: a session's variables by the names of nodes."""
    graph = v1.Graph()
    with graph.as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, (None, 8, 8, 1), name="x")
        variable = lambda name, *shape: v1.get_variable(name, initializer=normal(*shape), use_resource=resource)
        y = tf.nn.relu(tf.nn.bias_add(v1.nn.conv2d(x, variable("conv/kernel", 3, 3, 1, 4), [1, 2, 2, 1], "SAME"), variable("conv/bias", 4)))
        y = tf.nn.softmax(tf.matmul(tf.reshape(y, [-1, 64]), variable("dense", 64, 5)), name="out")
        session.run(v1.global_variables_initializer())
        if not frozen:
            v1.saved_model.simple_save(session, str(folder), {"x": x}, {"probabilities": y})
            return
        constants = v1.graph_util.convert_variables_to_constants(session, graph.as_graph_def(), ["out"])
    graph = v1.Graph()
    with graph.as_default(), v1.Session() as session:
        v1.import_graph_def(constants, name="")
        end = graph.get_tensor_by_name
        v1.saved_model.simple_save(session, str(folder), {"x": end("x:0")}, {"probabilities": end("out:0")})


def graph_model(folder, model, quantization=None):
    """A graph-model of TensorFlow.js, as its converter lays it out: constants apart, two weight files."""
    function = tf.function(lambda x: model(x)).get_concrete_function(tf.TensorSpec((None, *model.input_shape[1:]), tf.float32, name="x"))
    frozen = convert_variables_to_constants_v2(function)
    nodes, weights, data = [], [], b""
    for node in frozen.graph.as_graph_def().node:
        from google.protobuf import json_format

        if node.op == "Const":
            array = tf.make_ndarray(node.attr["value"].tensor)
            if array.dtype.kind not in "fib":
                raise ValueError(f"a constant of {array.dtype}")
            array = array.astype("int32") if array.dtype == np.int64 else array
            entry = {"name": node.name, "shape": list(array.shape), "dtype": array.dtype.name}
            if quantization == "float16" and array.dtype == np.float32:
                array, entry["quantization"] = array.astype("float16"), {"dtype": "float16"}
            elif quantization and array.dtype == np.float32 and array.size > 1:
                most = np.iinfo(quantization).max
                scale = float(array.max() - array.min()) / most or 1.0
                entry["quantization"] = {"dtype": quantization, "min": float(array.min()), "scale": scale}
                array = np.round((array - array.min()) / scale).clip(0, most).astype(quantization)
            weights.append(entry)
            data += np.ascontiguousarray(array).tobytes()
            node.attr["value"].tensor.ClearField("tensor_content")
            for field in ["float_val", "int_val", "int64_val", "bool_val"]:
                node.attr["value"].tensor.ClearField(field)
        nodes.append(json_format.MessageToDict(node))
    folder.mkdir()
    cut = len(data) // 2
    paths = ["group1-shard1of2.bin", "group1-shard2of2.bin"]
    for path, part in zip(paths, [data[:cut], data[cut:]]):
        (folder / path).write_bytes(part)
    end = lambda tensor: {"name": tensor.name, "dtype": "DT_FLOAT", "tensorShape": {"dim": [{"size": str(n or -1)} for n in tensor.shape]}}
    signature = {"inputs": {"x": end(frozen.inputs[0])}, "outputs": {"y": end(frozen.outputs[0])}}
    document = {"format": "graph-model", "signature": signature, "modelTopology": {"node": nodes, "library": {}}, "weightsManifest": [{"paths": paths, "weights": weights}]}
    (folder / "model.json").write_text(json.dumps(document))


def inputs_of(specs):
    def array(shape, dtype):
        shape = [(3 if axis == 0 else 8) if n is None else n for axis, n in enumerate(shape)]
        return normal(*shape) if dtype.is_floating else random.integers(0, 9, shape).astype(dtype.as_numpy_dtype)

    return {name: array(spec.shape, spec.dtype) for name, spec in specs.items()}


def write_arrays(path, inputs, outputs):
    arrays = {f"input {name}": array for name, array in inputs.items()} | {f"output {name}": np.asarray(array) for name, array in outputs.items()}
    np.savez(path, **arrays)


def run_saved(folder):
    signature = tf.saved_model.load(str(folder)).signatures["serving_default"]
    inputs = inputs_of(signature.structured_input_signature[1])
    write_arrays(f"{folder}.npz", inputs, signature(**{name: tf.constant(array) for name, array in inputs.items()}))


def makers():
    for name, build in KERAS.items():
        yield f"keras {name}", lambda folder, build=build: shaken(build()).export(folder, verbose=False)
    yield "keras cnn saved", lambda folder: tf.saved_model.save(shaken(cnn()), folder)
    yield "module", lambda folder: (m := Variables()) and tf.saved_model.save(m, folder, signatures={"serving_default": m.call, "other": m.other})
    yield "old variables", lambda folder: old(folder, False, False)
    yield "old resources", lambda folder: old(folder, True, False)
    yield "old frozen", lambda folder: old(folder, False, True)
    for name, (function, shapes) in OPS.items():

        def save(folder, function=function, shapes=shapes):
            module = Function(function, shapes)
            tf.saved_model.save(module, folder, signatures=module.call)

        yield f"op {name}", save


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", default="")
    given = parser.parse_args()
    for name, make in makers():
        if re.search(given.only, name):
            folder = given.folder / name.replace(" ", "_")
            try:
                make(str(folder))
                run_saved(folder)
            except Exception:
                (given.folder / f"{folder.name}.not_built").write_text(traceback.format_exc()[-1500:])
    for quantization in [None, "float16", "uint16", "uint8"]:
        name = f"js {quantization or 'float32'}"
        if re.search(given.only, name):
            folder = given.folder / name.replace(" ", "_")
            try:
                model = shaken(for_the_browser())
                graph_model(folder, model, quantization)
                x = normal(3, *model.input_shape[1:])
                write_arrays(f"{folder}.npz", {"x": x}, {"y": model(x)})
            except Exception:
                (given.folder / f"{folder.name}.not_built").write_text(traceback.format_exc()[-1500:])


if __name__ == "__main__":
    main()
