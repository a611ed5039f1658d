"""ONNX graphs of transformer blocks as exporters spell them: torch (Reshape, Transpose, MatMul) and Keras (Einsum)."""

import numpy as np
import onnx
from onnx import TensorProto, helper

WIDTH, HEADS, HIDDEN = 32, 4, 64
HEAD = WIDTH // HEADS


class Block:
    """Nodes, constants and inputs as they are added; each method gives the name of a result."""

    def __init__(self, seed=7):
        self.random = np.random.default_rng(seed)
        self.nodes, self.constants, self.inputs = [], [], []

    def input(self, name, shape, kind=TensorProto.FLOAT):
        self.inputs.append(helper.make_tensor_value_info(name, kind, shape))
        return name

    def constant(self, values, kind=np.float32):
        name = f"c{len(self.constants)}"
        self.constants.append(onnx.numpy_helper.from_array(np.asarray(values, kind), name))
        return name

    def integers(self, *values):
        return self.constant(values, np.int64)

    def weights(self, *shape, rows=None):
        return self.constant(self.random.standard_normal(shape) / np.sqrt(rows or shape[0]))

    def bias(self, *shape):
        return self.constant(self.random.standard_normal(shape) * 0.1)

    def op(self, kind, *inputs, domain=None, **attributes):
        name = f"{kind.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name=name, domain=domain, **attributes))
        return name

    def model(self, result, shape, opset=17):
        output = helper.make_tensor_value_info(result, TensorProto.FLOAT, shape)
        graph = helper.make_graph(self.nodes, "block", self.inputs, [output], self.constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
        onnx.checker.check_model(model, full_check=True)
        return model

    def layer_norm(self, x, fused):
        gain, shift = self.constant(1 + 0.1 * self.random.standard_normal(WIDTH)), self.bias(WIDTH)
        if fused:
            return self.op("LayerNormalization", x, gain, shift, axis=-1, epsilon=1e-5)
        centred = self.op("Sub", x, self.op("ReduceMean", x, axes=[-1]))
        variance = self.op("ReduceMean", self.op("Pow", centred, self.constant(2.0)), axes=[-1])
        deviation = self.op("Sqrt", self.op("Add", variance, self.constant(1e-5)))
        return self.op("Add", self.op("Mul", self.op("Div", centred, deviation), gain), shift)

    def gelu(self, x):
        gate = self.op("Add", self.op("Erf", self.op("Div", x, self.constant(np.sqrt(2.0)))), self.constant(1.0))
        return self.op("Mul", self.op("Mul", x, gate), self.constant(0.5))

    def dense(self, x, rows, columns):
        return self.op("Add", self.bias(columns), self.op("MatMul", x, self.weights(rows, columns)))

    def feed_forward(self, x, fused):
        middle = self.gelu(self.dense(x, WIDTH, HIDDEN))
        return self.layer_norm(self.op("Add", x, self.dense(middle, HIDDEN, WIDTH)), fused)


def torch_block(batch, length, masked, fused, computed_shapes=False):
    """An encoder layer as torch's exporter writes it: x [batch, length, WIDTH]; the mask [batch, length] holds 1 where a
    place counts. With `computed_shapes` the sizes of the heads come from Shape and Gather, as for dynamic axes."""
    b = Block()
    x = b.input("x", [batch, length, WIDTH])

    def target(*last):
        if not computed_shapes:
            return b.integers(0, 0, *last)
        shape = b.op("Shape", x)
        sizes = [b.op("Unsqueeze", b.op("Gather", shape, b.constant(i, np.int64)), b.integers(0)) for i in (0, 1)]
        return b.op("Concat", *sizes, b.integers(*last), axis=0)

    def heads(order):
        return b.op("Transpose", b.op("Reshape", b.dense(x, WIDTH, WIDTH), target(HEADS, HEAD)), perm=order)

    query, key, value = heads([0, 2, 1, 3]), heads([0, 2, 3, 1]), heads([0, 2, 1, 3])
    scores = b.op("Div", b.op("MatMul", query, key), b.constant(np.sqrt(HEAD)))
    if masked:
        mask = b.op("Unsqueeze", b.input("mask", [batch, length]), b.integers(1, 2))
        scores = b.op("Add", scores, b.op("Mul", b.op("Sub", b.constant(1.0), mask), b.constant(-10000.0)))
    mixed = b.op("Transpose", b.op("MatMul", b.op("Softmax", scores, axis=-1), value), perm=[0, 2, 1, 3])
    mixed = b.op("Reshape", mixed, target(WIDTH))
    x = b.layer_norm(b.op("Add", x, b.dense(mixed, WIDTH, WIDTH)), fused)
    result = b.feed_forward(x, fused)
    return b.model(result, [batch, length, WIDTH])


def keras_block(batch, length):
    """Keras' MultiHeadAttention and Dense as tf2onnx leaves them: Einsum over [batch, length, heads, head]."""
    b = Block()
    x = b.input("x", [batch, length, WIDTH])

    def heads():
        product = b.op("Einsum", x, b.weights(WIDTH, HEADS, HEAD), equation="abc,cde->abde")
        return b.op("Add", product, b.bias(HEADS, HEAD))

    query, key, value = heads(), heads(), heads()
    query = b.op("Mul", query, b.constant(1 / np.sqrt(HEAD)))
    scores = b.op("Einsum", key, query, equation="aecd,abcd->acbe")
    mixed = b.op("Einsum", b.op("Softmax", scores, axis=-1), value, equation="acbe,aecd->abcd")
    mixed = b.op("Einsum", mixed, b.weights(HEADS, HEAD, WIDTH, rows=WIDTH), equation="abcd,cde->abe")
    x = b.layer_norm(b.op("Add", x, b.op("Add", mixed, b.bias(WIDTH))), False)
    return b.model(b.feed_forward(x, False), [batch, length, WIDTH])


def pre_norm_block(batch, length, causal):
    """A block as torch's scaled_dot_product_attention exports it: normalizations first, query and key each times the root
    of the scale, a causal mask as a constant."""
    b = Block()
    x = b.input("x", [batch, length, WIDTH])
    normal = b.layer_norm(x, True)

    def heads(order):
        return b.op("Transpose", b.op("Reshape", b.dense(normal, WIDTH, WIDTH), b.integers(0, 0, HEADS, HEAD)), perm=order)

    root = b.constant(HEAD**-0.25)
    query = b.op("Mul", heads([0, 2, 1, 3]), root)
    key = b.op("Mul", b.op("Transpose", heads([0, 2, 1, 3]), perm=[0, 1, 3, 2]), root)
    scores = b.op("MatMul", query, key)
    if causal:
        scores = b.op("Add", scores, b.constant(np.triu(np.full((length, length), -1e9), 1)[None, None]))
    mixed = b.op("MatMul", b.op("Softmax", scores, axis=-1), heads([0, 2, 1, 3]))
    mixed = b.op("Reshape", b.op("Transpose", mixed, perm=[0, 2, 1, 3]), b.integers(0, 0, WIDTH))
    x = b.op("Add", x, b.dense(mixed, WIDTH, WIDTH))
    middle = b.gelu(b.dense(b.layer_norm(x, True), WIDTH, HIDDEN))
    return b.model(b.op("Add", x, b.dense(middle, HIDDEN, WIDTH)), [batch, length, WIDTH])


def single_head(batch, rows, columns):
    """softmax(x·yᵀ)·y without projections or heads: x [batch, rows, WIDTH], y [batch, columns, WIDTH]."""
    b = Block()
    x, y = b.input("x", [batch, rows, WIDTH]), b.input("y", [batch, columns, WIDTH])
    scores = b.op("MatMul", x, b.op("Transpose", y, perm=[0, 2, 1]))
    scores = b.op("Div", scores, b.constant(np.sqrt(WIDTH)))
    return b.model(b.op("MatMul", b.op("Softmax", scores, axis=-1), y), [batch, rows, WIDTH])


def weights_of_a_batch_of_one(batch, length):
    b = Block()
    x = b.input("x", [batch, length, WIDTH])
    return b.model(b.op("MatMul", x, b.constant(b.random.standard_normal((1, WIDTH, HIDDEN)))), [batch, length, HIDDEN])
