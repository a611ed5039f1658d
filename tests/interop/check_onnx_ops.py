"""One-op ONNX models with a dynamic batch: converted, run in LiteRT at two batch sizes, held to onnxruntime.

    "$(tests/peers/venv.sh)" tests/interop/check_onnx_ops.py target/release/mlctl

The ONNX backend's node tests have fixed shapes; these are the cases they lack. A case may be refused with a
reason only where it is listed in REFUSED.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from mlctl import Mlctl
from onnx import TensorProto, helper
from peers import litert_interpreter, silent_stderr
from report import Report, at_most, equal

TOLERANCE = 1e-5
BATCHES = [1, 3]
FLOAT, INT32, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT32, TensorProto.INT64, TensorProto.BOOL

# name of the case: words of the reason
REFUSED = {}


def constant(name, values, kind=np.int64):
    return onnx.numpy_helper.from_array(np.asarray(values, dtype=kind), name)


def image(op, constants=(), out=FLOAT, outputs=1, shape=("N", 3, 8, 6), kind=FLOAT, **attributes):
    """`op` on one input of a dynamic batch, with constants behind it."""
    return [(op, ["x", *[c.name for c in constants]], attributes, outputs)], {"x": (kind, shape)}, list(constants), out


def pair(op, left, right, kind=FLOAT, out=None):
    return [(op, ["x", "y"], {}, 1)], {"x": (kind, left), "y": (kind, right)}, [], out or kind


def cases():
    wide = ("N", 3, 8, 6)
    for op in ["Add", "Sub", "Mul", "Max", "Min"]:
        yield f"{op} broadcast", pair(op, wide, (3, 1, 6))
        yield f"{op} int32", pair(op, ("N", 4), ("N", 1), INT32)
        yield f"{op} rank 5", pair(op, ("N", 2, 3, 2, 4), (2, 1, 2, 4))
    for op in ["Equal", "Less", "Greater", "GreaterOrEqual", "LessOrEqual"]:
        yield f"{op} broadcast", pair(op, ("N", 3, 4), (3, 1), out=BOOL)
        yield f"{op} int64", pair(op, ("N", 4), (4,), INT64, BOOL)
    for op in ["And", "Or", "Xor"]:
        yield f"{op} broadcast", pair(op, ("N", 3, 4), (3, 1), BOOL)
    for op in ["Elu", "Selu", "HardSigmoid", "HardSwish", "Softplus", "Softsign", "Mish", "Erf", "Sinh", "Sign", "LogSoftmax", "Softmax"]:
        yield op, image(op)
    yield "Softmax axis 1", image("Softmax", axis=1)
    yield "PRelu", image("PRelu", [constant("slope", np.linspace(0.1, 0.9, 3).reshape(3, 1, 1), np.float32)])
    for op in ["ReduceSum", "ReduceMean", "ReduceMax", "ReduceProd", "ReduceL2", "ReduceLogSumExp"]:
        yield f"{op} spatial", image(op, [constant("axes", [2, 3])], keepdims=0)
    for op in ["ArgMax", "ArgMin"]:
        yield f"{op} axis 1", image(op, out=INT64, axis=1, keepdims=0)
        yield f"{op} last index", image(op, out=INT64, axis=2, keepdims=1, select_last_index=1)
    yield "CumSum reverse", image("CumSum", [constant("axis", 2)], reverse=1)
    yield "Slice", image("Slice", [constant("starts", [1, -4]), constant("ends", [3, 100]), constant("axes", [1, 3])])
    yield "Slice steps", image("Slice", [constant("starts", [-1, 0]), constant("ends", [-100, 6]), constant("axes", [2, 3]), constant("steps", [-2, 2])])
    yield "Split", image("Split", [constant("split", [1, 2])], outputs=2, axis=1)
    yield "Concat constant", ([("Concat", ["x", "x"], {"axis": 1}, 1)], {"x": (FLOAT, wide)}, [], FLOAT)
    for mode in ["constant", "reflect", "edge"]:
        yield f"Pad {mode}", image("Pad", [constant("pads", [0, 0, 1, 2, 0, 0, 3, 0])], mode=mode)
    yield "Pad value", image("Pad", [constant("pads", [0, 0, 1, 2, 0, 0, 3, 0]), constant("value", 1.5, np.float32)])
    yield "Gather", image("Gather", [constant("indices", [[2, 0], [-1, 1]])], axis=1)
    yield "Tile", image("Tile", [constant("repeats", [1, 2, 1, 3])])
    yield "Transpose", image("Transpose", perm=[0, 2, 3, 1])
    yield "Flatten", image("Flatten")
    yield "Reshape", image("Reshape", [constant("shape", [0, 3, -1])])
    yield "Squeeze", image("Squeeze", [constant("axes", [1])], shape=("N", 1, 4))
    yield "Unsqueeze", image("Unsqueeze", [constant("axes", [0, 3])])
    yield "Expand", image("Expand", [constant("shape", [1, 5, 1, 1])], shape=("N", 1, 2, 3))
    yield "Cast to int32", image("Cast", out=INT32, to=INT32)
    yield "Cast to bool", image("Cast", out=BOOL, to=BOOL)
    for mode, how in [("nearest", "asymmetric"), ("linear", "half_pixel"), ("linear", "align_corners"), ("linear", "asymmetric"), ("cubic", "half_pixel")]:
        scales = [onnx.numpy_helper.from_array(np.float32([1, 1, 2, 1.5]), "scales")]
        nodes = [("Resize", ["x", "", "scales"], {"mode": mode, "coordinate_transformation_mode": how, "nearest_mode": "floor"}, 1)]
        yield f"Resize {mode} {how}", (nodes, {"x": (FLOAT, wide)}, scales, FLOAT)
    yield "DepthToSpace", image("DepthToSpace", shape=("N", 8, 3, 2), blocksize=2)
    yield "SpaceToDepth", image("SpaceToDepth", blocksize=2)
    yield "MatMul batched", pair("MatMul", ("N", 3, 4), ("N", 4, 5))
    yield "TopK", image("TopK", [constant("k", [2])], outputs=2, axis=2, out=[FLOAT, INT64])
    shape_nodes = [("Shape", ["x"], {}, 1), ("Gather", ["h0", "zero"], {"axis": 0}, 1), ("Unsqueeze", ["h1", "first"], {}, 1)]
    shape_nodes += [("Concat", ["h2", "rest"], {"axis": 0}, 1), ("Reshape", ["x", "h3"], {}, 1)]
    constants = [constant("zero", 0), constant("first", [0]), constant("rest", [-1])]
    yield "Reshape to computed shape", (shape_nodes, {"x": (FLOAT, wide)}, constants, FLOAT)


def build(nodes, inputs, constants, out, path):
    made = []
    for i, (op, names, attributes, outputs) in enumerate(nodes):
        last = i == len(nodes) - 1
        results = [f"y{k}" for k in range(outputs)] if last else [f"h{i}"]
        made.append(helper.make_node(op, names, results, **attributes))
    kinds = out if isinstance(out, list) else [out] * outputs
    ports = [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in inputs.items()]
    ends = [helper.make_tensor_value_info(name, kind, None) for name, kind in zip(results, kinds)]
    graph = helper.make_graph(made, "case", ports, ends, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(onnx.shape_inference.infer_shapes(model), path)


def values(kind, shape, batch, random):
    shape = [batch if d == "N" else d for d in shape]
    if kind == BOOL:
        return random.random(shape) < 0.5
    if kind == FLOAT:
        return random.standard_normal(shape).astype(np.float32)
    return random.integers(-5, 6, shape).astype(np.int32 if kind == INT32 else np.int64)


def litert_outputs(path, arrays, names, xnnpack):
    interpreter = litert_interpreter(path, xnnpack)
    with silent_stderr():
        given = {d["name"]: d["index"] for d in interpreter.get_input_details()}
        for name, array in arrays.items():
            interpreter.resize_tensor_input(given[name], array.shape)
        interpreter.allocate_tensors()
        for name, array in arrays.items():
            interpreter.set_tensor(given[name], array)
        interpreter.invoke()
    found = {d["name"]: d["index"] for d in interpreter.get_output_details()}
    return [interpreter.get_tensor(found[name]) for name in names]


def difference(got, expected):
    if got.shape != expected.shape or got.dtype != expected.dtype:
        raise ValueError(f"{got.dtype} {got.shape} instead of {expected.dtype} {expected.shape}")
    if expected.dtype != np.float32:
        return float(np.count_nonzero(got != expected))
    return float(np.abs(got.astype(np.float64) - expected).max() / max(np.abs(expected).max(), 1e-30))


def largest_difference(model, tflite, inputs, xnnpack):
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    names = [o.name for o in session.get_outputs()]
    worst = 0.0
    for batch in BATCHES:
        random = np.random.default_rng(batch)
        arrays = {name: values(kind, shape, batch, random) for name, (kind, shape) in inputs.items()}
        expected = session.run(names, arrays)
        got = litert_outputs(tflite, arrays, names, xnnpack)
        worst = max([worst, *(difference(g, e) for g, e in zip(got, expected))])
    return worst


def main():
    report = Report("ONNX ops of a dynamic batch")
    mlctl = Mlctl(sys.argv[1])
    with tempfile.TemporaryDirectory() as folder:
        for number, (name, (nodes, inputs, constants, out)) in enumerate(cases()):
            model, tflite = Path(folder) / f"{number}.onnx", Path(folder) / f"{number}.tflite"
            build(nodes, inputs, constants, out, model)
            if name in REFUSED:
                report.check(f"{name}, refused", lambda: refusal(mlctl, model, tflite, REFUSED[name]), equal(True))
                continue
            try:
                mlctl.run("convert", model, "-o", tflite, "-q", cwd=folder)
            except RuntimeError as error:
                report.check(name, lambda: str(error), equal("converted"))
                continue
            report.check(name, lambda: largest_difference(model, tflite, inputs, False), at_most(TOLERANCE))
            report.check(f"{name}, XNNPACK", lambda: largest_difference(model, tflite, inputs, True), at_most(TOLERANCE))
    return report.finish()


def refusal(mlctl, model, tflite, words):
    try:
        mlctl.run("convert", model, "-o", tflite, "-q", cwd=model.parent)
    except RuntimeError as error:
        return words in str(error)
    return False


if __name__ == "__main__":
    raise SystemExit(main())
