"""Transformer blocks converted: as few ops as the arithmetic needs, and in LiteRT what onnxruntime computes.

    "$(tests/peers/venv.sh)" tests/interop/check_attention.py target/release/mlctl

The ops of a block: six products with weights (FULLY_CONNECTED), two of activations (BATCH_MATMUL), a TRANSPOSE and a
RESHAPE for query, key, value and the mixed heads, nine ops for each normalization (seven where gain and shift went into
the products behind it), and nothing for the scale. A shape of two open sizes takes SHAPE, SLICE and CONCATENATION, once.
"""

import sys
import tempfile
from collections import Counter
from pathlib import Path

import attention_graphs as graphs
import numpy as np
import onnx
import onnxruntime
from mlctl import Mlctl
from peers import TfliteFile, litert_interpreter, silent_stderr
from report import Report, at_most, equal

TOLERANCE = 1e-5
PRODUCTS = {"FULLY_CONNECTED": 6, "BATCH_MATMUL": 2, "TRANSPOSE": 4, "RESHAPE": 4, "SOFTMAX": 1, "GELU": 1}
NORMAL = {"MEAN": 2, "SUB": 1, "SQUARE": 1, "ADD": 2, "RSQRT": 1, "MUL": 2}
FOLDED = NORMAL | {"ADD": 1, "MUL": 1}


def ops(*parts, **more):
    return dict(sum(map(Counter, [*parts, more]), Counter()))


def cases():
    """name → model, the sizes it is run at, its ops"""
    open_sizes = [{"N": 1, "S": 4}, {"N": 3, "S": 11}]
    post, pre, computed = [PRODUCTS, NORMAL, NORMAL], [PRODUCTS, FOLDED, FOLDED], {"SHAPE": 1, "SLICE": 1, "CONCATENATION": 1}
    yield "torch", graphs.torch_block(1, 10, False, False), [{}], ops(*post, ADD=2)
    yield "torch with a mask", graphs.torch_block("N", 10, True, True), [{"N": 1}, {"N": 3}], ops(*post, ADD=3, SUB=1, MUL=1, RESHAPE=1)
    masked = ops(*post, computed, ADD=3, SUB=1, MUL=1, EXPAND_DIMS=2)
    yield "torch with a mask, open sizes", graphs.torch_block("N", "S", True, False, True), open_sizes, masked
    yield "torch, open sizes", graphs.torch_block("N", "S", False, True), open_sizes, ops(*post, computed, ADD=2)
    yield "Keras", graphs.keras_block("N", 10), [{"N": 1}, {"N": 3}], ops(*post, ADD=2)
    yield "Keras, open sizes", graphs.keras_block("N", "S"), open_sizes, ops(*post, computed, ADD=2)
    yield "normalized first, causal", graphs.pre_norm_block("N", 10, True), [{"N": 1}, {"N": 3}], ops(*pre, ADD=3)
    yield "normalized first, open sizes", graphs.pre_norm_block("N", "S", False), open_sizes, ops(*pre, computed, ADD=2)
    sizes = [{"N": 1, "R": 5, "C": 7}, {"N": 3, "R": 8, "C": 2}]
    yield "one head without weights", graphs.single_head("N", "R", "C"), sizes, {"BATCH_MATMUL": 2, "MUL": 1, "SOFTMAX": 1}
    yield "weights of a batch of one", graphs.weights_of_a_batch_of_one("N", "S"), open_sizes, {"FULLY_CONNECTED": 1}


def inputs(model, sizes):
    random = np.random.default_rng(3)
    arrays = {}
    for given in model.graph.input:
        shape = [sizes.get(d.dim_param, d.dim_value) for d in given.type.tensor_type.shape.dim]
        values = random.standard_normal(shape).astype(np.float32)
        arrays[given.name] = (values > -0.5).astype(np.float32) if given.name == "mask" else values
    return arrays


def difference(model, path, sizes, xnnpack):
    arrays = inputs(model, sizes)
    (expected,) = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, arrays)
    interpreter = litert_interpreter(path, xnnpack)
    with silent_stderr():
        for given in interpreter.get_input_details():
            interpreter.resize_tensor_input(given["index"], arrays[given["name"]].shape)
        interpreter.allocate_tensors()
        for given in interpreter.get_input_details():
            interpreter.set_tensor(given["index"], arrays[given["name"]])
        interpreter.invoke()
    got = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    if got.shape != expected.shape:
        raise ValueError(f"{got.shape} instead of {expected.shape}")
    return float(np.abs(got - expected).max() / np.abs(expected).max())


def main():
    report = Report("attention in few ops")
    mlctl = Mlctl(sys.argv[1])
    with tempfile.TemporaryDirectory() as folder:
        for number, (name, model, sizes, wanted) in enumerate(cases()):
            source, path = Path(folder) / f"{number}.onnx", Path(folder) / f"{number}.tflite"
            onnx.save(model, source)

            def converted():
                mlctl.run("convert", source, "-o", path, "-q", cwd=folder)
                return dict(Counter(TfliteFile(path).operators()))

            report.check(f"{name}: ops", converted, equal(wanted))
            for xnnpack in (True, False):
                worst = max_over(lambda at: difference(model, path, at, xnnpack), sizes)
                report.check(f"{name}: relative difference{'' if xnnpack else ' without XNNPACK'}", worst, at_most(TOLERANCE))
    return report.finish()


def max_over(measure, values):
    return lambda: max(map(measure, values))


if __name__ == "__main__":
    raise SystemExit(main())
