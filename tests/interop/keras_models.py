"""Builds models in Keras, saves them as users do, and writes what Keras predicts. No check lives here.

    KERAS=3 python keras_models.py FOLDER [--only REGEX]      with Keras 3: <case>.keras and <case>.h5
    KERAS=2 python keras_models.py FOLDER                     with tf_keras, which is Keras 2: the same

Beside each file lies <case>.npz: `input <name>` and `output <number>`. `python` is of the environment that
tests/peers/venv.sh makes of tests/peers/keras.txt.
"""

import argparse
import os
import re
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# as TensorFlow does by itself on newer processors; without it some convolutions run nowhere
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
os.environ["KERAS_BACKEND"] = "tensorflow"
IS_KERAS_3 = os.environ.get("KERAS", "3") == "3"

import numpy as np

if IS_KERAS_3:
    import keras
    from keras import layers as L
else:
    import tf_keras as keras
    from tf_keras import layers as L

IMAGE = (9, 8, 4)
SERIES = (11, 4)
CUBE = (5, 6, 4, 2)


def one(layer, shape, **more):
    """A model of one layer, or of several after each other."""
    x = given = keras.Input(shape, **more)
    for part in layer if isinstance(layer, list) else [layer]:
        x = part(x)
    return keras.Model(given, x)


def layer_cases():
    """name → how to make a model of one layer, for each layer and option that mlctl reads"""
    yield "dense", lambda: one(L.Dense(5, activation="relu"), (6,))
    yield "dense_no_bias", lambda: one(L.Dense(5, use_bias=False), (6,))
    yield "dense_of_rank_3", lambda: one(L.Dense(5, activation="tanh"), (3, 6))
    for padding in ["valid", "same"]:
        for strides in [1, 2, (2, 3)]:
            name = f"{padding}_{strides}".replace("(", "").replace(")", "").replace(", ", "x")
            yield f"conv2d_{name}", lambda p=padding, s=strides: one(L.Conv2D(5, (3, 2), strides=s, padding=p, activation="relu"), IMAGE)
            yield f"max_pool2d_{name}", lambda p=padding, s=strides: one(L.MaxPooling2D((2, 3), strides=s, padding=p), IMAGE)
            yield f"average_pool2d_{name}", lambda p=padding, s=strides: one(L.AveragePooling2D((3, 2), strides=s, padding=p), IMAGE)
            yield f"conv2d_transpose_{name}", lambda p=padding, s=strides: one(L.Conv2DTranspose(5, (3, 2), strides=s, padding=p), IMAGE)
        for strides in [1, 2]:
            name = f"{padding}_{strides}"
            yield f"conv1d_{name}", lambda p=padding, s=strides: one(L.Conv1D(5, 3, strides=s, padding=p), SERIES)
            yield f"depthwise_conv2d_{name}", lambda p=padding, s=strides: one(L.DepthwiseConv2D(3, strides=s, padding=p, depth_multiplier=2), IMAGE)
            yield f"separable_conv2d_{name}", lambda p=padding, s=strides: one(L.SeparableConv2D(6, 3, strides=s, padding=p, depth_multiplier=2, activation="relu"), IMAGE)
            yield f"separable_conv1d_{name}", lambda p=padding, s=strides: one(L.SeparableConv1D(6, 3, strides=s, padding=p), SERIES)
            yield f"max_pool1d_{name}", lambda p=padding, s=strides: one(L.MaxPooling1D(3, strides=s, padding=p), SERIES)
            yield f"average_pool1d_{name}", lambda p=padding, s=strides: one(L.AveragePooling1D(3, strides=s, padding=p), SERIES)
            yield f"conv1d_transpose_{name}", lambda p=padding, s=strides: one(L.Conv1DTranspose(5, 4, strides=s, padding=p), SERIES)
    yield "conv2d_dilated", lambda: one(L.Conv2D(5, 3, dilation_rate=2, padding="same"), IMAGE)
    yield "conv2d_groups", lambda: one(L.Conv2D(6, 3, groups=2), IMAGE)
    yield "conv2d_no_bias", lambda: one(L.Conv2D(6, 3, use_bias=False), IMAGE)
    yield "conv1d_causal", lambda: one(L.Conv1D(5, 3, padding="causal", dilation_rate=2), SERIES)
    yield "depthwise_conv2d_dilated", lambda: one(L.DepthwiseConv2D(3, dilation_rate=2, padding="same"), IMAGE)
    yield "depthwise_conv1d", lambda: one(L.DepthwiseConv1D(3, padding="same"), SERIES)
    yield "conv3d", lambda: one(L.Conv3D(3, (2, 3, 2), strides=(1, 2, 1), padding="same", activation="relu"), CUBE)
    yield "conv2d_open_sizes", lambda: one([L.Conv2D(5, 3, strides=2, padding="same"), L.MaxPooling2D(2), L.GlobalAveragePooling2D()], (None, None, 4))
    yield "conv2d_transpose_output_padding", lambda: one(L.Conv2DTranspose(5, 3, strides=2, padding="same", output_padding=1), IMAGE)
    for name in ["GlobalAveragePooling", "GlobalMaxPooling"]:
        yield f"{name}1D", lambda n=name: one(getattr(L, n + "1D")(), SERIES)
        yield f"{name}2D", lambda n=name: one(getattr(L, n + "2D")(), IMAGE)
        yield f"{name}2D_keepdims", lambda n=name: one(getattr(L, n + "2D")(keepdims=True), IMAGE)
        yield f"{name}2D_channels_first", lambda n=name: one(getattr(L, n + "2D")(data_format="channels_first"), IMAGE)
    yield "max_pool2d_channels_first", lambda: one(L.MaxPooling2D(2, data_format="channels_first"), (4, 9, 8))
    yield "flatten_channels_first", lambda: one(L.Flatten(data_format="channels_first"), (4, 3, 2))
    yield "zero_padding2d_channels_first", lambda: one(L.ZeroPadding2D(2, data_format="channels_first"), (4, 3, 2))
    yield "up_sampling2d_channels_first", lambda: one(L.UpSampling2D(2, data_format="channels_first"), (4, 3, 2))
    if IS_KERAS_3:
        yield "conv2d_channels_first", lambda: one(L.Conv2D(5, 3, padding="same", data_format="channels_first"), (4, 9, 8))

    yield "batch_normalization", lambda: one(L.BatchNormalization(epsilon=0.01), IMAGE)
    yield "batch_normalization_plain", lambda: one(L.BatchNormalization(scale=False, center=False), (6,))
    yield "batch_normalization_axis_1", lambda: one(L.BatchNormalization(axis=1, scale=False), IMAGE)
    yield "batch_normalization_after_conv", lambda: one([L.Conv2D(5, 3, use_bias=False), L.BatchNormalization(), L.ReLU()], IMAGE)
    yield "layer_normalization", lambda: one(L.LayerNormalization(), (3, 6))
    yield "layer_normalization_axes", lambda: one(L.LayerNormalization(axis=[1, 2], center=False), (3, 6, 2))
    yield "group_normalization", lambda: one(L.GroupNormalization(groups=2), IMAGE)
    yield "unit_normalization", lambda: one(L.UnitNormalization(), (6,))
    if IS_KERAS_3:
        yield "rms_normalization", lambda: one(L.RMSNormalization(), (3, 6))

    names = "elu exponential gelu hard_sigmoid linear relu selu sigmoid softmax softplus softsign swish tanh mish".split()
    if IS_KERAS_3:
        names += "celu glu hard_shrink hard_silu hard_tanh leaky_relu log_sigmoid log_softmax relu6 silu soft_shrink sparse_plus sparse_sigmoid squareplus tanh_shrink".split()
    for name in names:
        yield f"activation_{name}", lambda n=name: one(L.Activation(n), (7, 6))
        yield f"dense_{name}", lambda n=name: one(L.Dense(4, activation=n), (6,))
    yield "relu", lambda: one(L.ReLU(), IMAGE)
    yield "relu_6", lambda: one(L.ReLU(max_value=6.0), IMAGE)
    yield "relu_options", lambda: one(L.ReLU(max_value=1.5, negative_slope=0.2, threshold=0.3), IMAGE)
    yield "relu_slope", lambda: one(L.ReLU(negative_slope=0.2), IMAGE)
    yield "leaky_relu", lambda: one(L.LeakyReLU(), IMAGE)
    yield "leaky_relu_slope", lambda: one(L.LeakyReLU(0.1), IMAGE)
    yield "p_relu", lambda: one(L.PReLU(), (3, 4))
    yield "p_relu_shared", lambda: one(L.PReLU(shared_axes=[1, 2]), IMAGE)
    yield "elu", lambda: one(L.ELU(0.7), IMAGE)
    yield "softmax", lambda: one(L.Softmax(), (3, 4))
    yield "softmax_axis", lambda: one(L.Softmax(axis=1), (3, 4))

    yield "reshape", lambda: one(L.Reshape((3, -1, 2)), IMAGE)
    yield "reshape_flat", lambda: one(L.Reshape((-1,)), IMAGE)
    yield "permute", lambda: one(L.Permute((3, 1, 2)), IMAGE)
    yield "flatten", lambda: one([L.Flatten(), L.Dense(3)], IMAGE)
    yield "repeat_vector", lambda: one(L.RepeatVector(3), (4,))
    yield "zero_padding1d", lambda: one(L.ZeroPadding1D((1, 2)), SERIES)
    yield "zero_padding2d", lambda: one(L.ZeroPadding2D(((1, 0), (2, 3))), IMAGE)
    yield "zero_padding3d", lambda: one(L.ZeroPadding3D((1, 0, 2)), CUBE)
    yield "cropping1d", lambda: one(L.Cropping1D((1, 2)), SERIES)
    yield "cropping2d", lambda: one(L.Cropping2D(((1, 0), (2, 3))), IMAGE)
    yield "cropping3d", lambda: one(L.Cropping3D((1, 0, 1)), CUBE)
    yield "up_sampling1d", lambda: one(L.UpSampling1D(3), SERIES)
    yield "up_sampling2d", lambda: one(L.UpSampling2D((2, 3)), IMAGE)
    yield "up_sampling2d_bilinear", lambda: one(L.UpSampling2D(2, interpolation="bilinear"), IMAGE)
    for name in ["Add", "Multiply", "Average", "Maximum", "Minimum", "Subtract", "Concatenate"]:
        def merged(name=name):
            ends = [keras.Input((5, 4)) for _ in range(2 if name == "Subtract" else 3)]
            return keras.Model(ends, getattr(L, name)()(ends))

        yield name.lower(), merged
    yield "add_broadcast", lambda: merge(L.Add(), (5, 4), (1, 4))
    yield "concatenate_axis_1", lambda: merge(L.Concatenate(axis=1), (5, 4), (2, 4))
    yield "dot", lambda: merge(L.Dot(axes=1), (5,), (5,))
    yield "dot_normalized", lambda: merge(L.Dot(axes=-1, normalize=True), (5,), (5,))
    yield "dot_of_matrices", lambda: merge(L.Dot(axes=(2, 1)), (3, 4), (4, 5))

    yield "rescaling", lambda: one(L.Rescaling(1 / 127.5, offset=-1), IMAGE)
    yield "rescaling_uint8", lambda: one(L.Rescaling(1 / 255), IMAGE, dtype="uint8")
    yield "normalization", lambda: one(L.Normalization(mean=[1.0, 2.0, 0.5, 3.0], variance=[1.0, 4.0, 2.0, 0.1]), (4,))
    yield "normalization_adapted", adapted_normalization
    yield "resizing", lambda: one(L.Resizing(5, 7), IMAGE)
    yield "resizing_nearest", lambda: one(L.Resizing(5, 7, interpolation="nearest"), IMAGE)
    yield "center_crop", lambda: one(L.CenterCrop(4, 5), IMAGE)
    yield "embedding", lambda: one([L.Embedding(10, 6), L.GlobalAveragePooling1D(), L.Dense(2)], (7,), dtype="int32")
    yield "embedding_mask_zero", lambda: one([L.Embedding(10, 6, mask_zero=True), L.Dropout(0.1), L.Dense(5, activation="relu"), L.GlobalAveragePooling1D(), L.Dense(2)], (7,), dtype="int32")
    yield "embedding_open_length", lambda: one([L.Embedding(10, 6, mask_zero=True), L.GlobalAveragePooling1D()], (None,), dtype="int32")
    yield "masking", lambda: one([L.ReLU(), L.Masking(), L.LayerNormalization(), L.GlobalAveragePooling1D()], (7, 2))
    yield "embedding_of_floats", lambda: keras.Sequential([L.Embedding(10, 6, input_length=7), L.Flatten(), L.Dense(2)]) if not IS_KERAS_3 else one([L.Embedding(10, 6), L.Flatten()], (7,))
    yield "time_distributed", lambda: one([L.TimeDistributed(L.Conv2D(3, 3, activation="relu")), L.TimeDistributed(L.Flatten()), L.TimeDistributed(L.Dense(4))], (3, 6, 6, 2))
    quiet = [L.Dropout(0.5), L.GaussianNoise(0.1), L.GaussianDropout(0.1), L.AlphaDropout(0.1), L.SpatialDropout2D(0.2), L.ActivityRegularization(0.1), L.RandomFlip(), L.RandomRotation(0.1), L.RandomZoom(0.1), L.RandomContrast(0.1)]
    yield "layers_for_training", lambda: one([*quiet, L.Conv2D(3, 3), L.SpatialDropout2D(0.2, name="last")], IMAGE)


def adapted_normalization():
    layer = L.Normalization()
    layer.adapt(np.random.default_rng(1).normal(3, 2, (50, 4)).astype(np.float32))
    return one(layer, (4,))


def merge(layer, *shapes):
    ends = [keras.Input(shape) for shape in shapes]
    return keras.Model(ends, layer(ends))


def lenet():
    return keras.Sequential([
        keras.Input((28, 28, 1)) if IS_KERAS_3 else L.InputLayer((28, 28, 1)),
        L.Conv2D(6, 5, padding="same", activation="tanh"), L.AveragePooling2D(2), L.Conv2D(16, 5, activation="tanh"),
        L.AveragePooling2D(2), L.Flatten(), L.Dense(120, activation="tanh"), L.Dense(84, activation="tanh"), L.Dense(10, activation="softmax"),
    ], name="lenet")


def residual():
    given = keras.Input((16, 16, 8), name="image")
    x = given
    for _ in range(2):
        y = L.Conv2D(24, 1, use_bias=False)(x)
        y = L.ReLU(6.0)(L.BatchNormalization()(y))
        y = L.DepthwiseConv2D(3, padding="same", use_bias=False)(y)
        y = L.ReLU(6.0)(L.BatchNormalization()(y))
        y = L.BatchNormalization()(L.Conv2D(8, 1, use_bias=False)(y))
        x = L.Add()([x, y])
    return keras.Model(given, L.Dense(4, activation="softmax", name="classes")(L.GlobalAveragePooling2D()(x)))


def u_net():
    given = keras.Input((16, 16, 2))
    down = L.Conv2D(6, 3, padding="same", activation="relu")(given)
    low = L.Conv2D(8, 3, padding="same", activation="relu")(L.MaxPooling2D()(down))
    up = L.Conv2DTranspose(6, 2, strides=2, padding="same")(low)
    x = L.Concatenate()([up, down])
    return keras.Model(given, L.Conv2D(1, 1, activation="sigmoid", name="mask")(x))


def two_ends():
    a, b = keras.Input((5,), name="a"), keras.Input((3,), name="b")
    x = L.Concatenate(name="both")([L.Dense(4, activation="relu")(a), b])
    return keras.Model([b, a], [L.Dense(2, name="first")(x), L.Dense(1, activation="sigmoid", name="second")(x)])


def block(name, trainable=True):
    inner = keras.Sequential([keras.Input((4,)) if IS_KERAS_3 else L.InputLayer((4,)), L.Dense(4), L.BatchNormalization(), L.ReLU()], name=name)
    inner.layers[0].trainable = trainable
    return inner


def nested():
    given = keras.Input((4,))
    middle = keras.Input((4,), name="middle")
    outer = keras.Model(middle, [block("deep", False)(middle), L.Dense(4)(middle)], name="outer")
    shared = block("shared")
    one, two = outer(shared(given))
    return keras.Model(given, L.Dense(2)(L.Add()([shared(one), two])))


def shared_layer():
    a, b = keras.Input((4,), name="left"), keras.Input((4,), name="right")
    dense = L.Dense(3, activation="relu", name="shared")
    return keras.Model([a, b], L.Dense(1, name="distance")(L.Subtract()([dense(a), dense(b)])))


def arithmetic():
    a, b = keras.Input((4,), name="a"), keras.Input((4,), name="b")
    return keras.Model([a, b], (a + b * 2.0) / 3.0 - b)


def frozen():
    model = keras.Sequential([block("base"), L.Dense(2)])
    model.layers[0].trainable = False
    model.build((None, 4))
    return model


def no_input_layer():
    return keras.Sequential([L.Dense(3, input_shape=(4,), activation="relu"), L.Dropout(0.1), L.Dense(2)])


def many_layers():
    """More links in a group than one node of its tree holds."""
    x = given = keras.Input((4,))
    for index in range(150):
        x = L.Dense(4, name=f"a_dense_layer_with_a_long_name_number_{index}")(x)
        x = L.Add(name=f"sum_{index}")([x, given])
    return keras.Model(given, L.Dense(2)(x))


def layer_as_activation():
    return keras.Sequential([L.Dense(3, input_shape=(4,), activation=L.LeakyReLU(0.1)), L.Dense(2, activation=keras.activations.relu)])


def net_cases():
    yield from {f.__name__: f for f in [lenet, residual, u_net, two_ends, nested, shared_layer, arithmetic, frozen, no_input_layer, many_layers, layer_as_activation]}.items()
    yield "mobilenet_v2", lambda: keras.applications.MobileNetV2((96, 96, 3), alpha=0.35, weights=None, classes=10)
    yield "efficientnet_b0", lambda: keras.applications.EfficientNetB0(weights=None, classes=10, input_shape=(64, 64, 3))
    yield "resnet50", lambda: keras.applications.ResNet50(weights=None, classes=10, input_shape=(64, 64, 3))


def seed(model, random):
    """Weights of a size that keeps values near 1, variances positive."""
    for layer in model._flatten_layers():
        if getattr(layer, "layers", None) or isinstance(layer, (L.Normalization, L.Dropout, L.RandomFlip)):
            continue
        own = layer.get_weights()
        if not own or any(w.dtype.kind in "ui" for w in own):
            continue
        names = [w.name for w in layer.weights]
        new = []
        for name, weight in zip(names, own):
            fan = max(1, int(np.prod(weight.shape[:-1]))) if weight.ndim > 1 else 1
            values = random.standard_normal(weight.shape) / np.sqrt(fan) if weight.ndim > 1 else random.standard_normal(weight.shape) * 0.3
            if "variance" in name or "gamma" in name:
                values = 0.5 + random.random(weight.shape)
            new.append(values.astype(weight.dtype))
        layer.set_weights(new)


def arrays(model, random):
    found = []
    for given in model.inputs:
        shape = [3, *(12 if size is None else size for size in given.shape[1:])]
        dtype = np.dtype(getattr(given.dtype, "name", given.dtype))
        if dtype.kind in "ui":
            values = random.integers(0, 10 if dtype.name != "uint8" else 256, shape)
        else:
            values = random.standard_normal(shape) * 2
        found.append(values.astype(dtype))
    if any(isinstance(layer, L.Embedding) for layer in model.layers):
        found = [np.minimum(np.floor(np.abs(values)), 9).astype(values.dtype) for values in found]
    return found


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", default="")
    given = parser.parse_args()
    for name, build in [*layer_cases(), *net_cases()]:
        if not re.search(given.only, name):
            continue
        keras.backend.clear_session()
        try:
            model = build()
            random = np.random.default_rng(7)
            seed(model, random)
            values = arrays(model, random)
            outputs = model.predict(values if len(values) > 1 else values[0], verbose=0)
        except Exception as error:
            (given.folder / f"{name}.not_built").write_text(" ".join(str(error).split())[:300])
            continue
        outputs = outputs if isinstance(outputs, list) else [outputs]
        made_by = [t._keras_history.operation if IS_KERAS_3 else t._keras_history.layer for t in model.inputs]
        held = {f"input {layer.name}": value for layer, value in zip(made_by, values)}
        held |= {f"output {index}": value for index, value in enumerate(outputs)}
        np.savez(given.folder / f"{name}.npz", **held)
        names = getattr(model, "output_names", None) or [model.layers[-1].name]
        (given.folder / f"{name}.names").write_text("\n".join(names))
        model.save(given.folder / f"{name}.keras")
        model.save(given.folder / f"{name}.h5")


if __name__ == "__main__":
    main()
