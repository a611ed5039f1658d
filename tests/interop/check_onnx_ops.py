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
REFUSED = {"Shape times int64": "Undetermined symbol"}


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
    for shape in [("N", 18, 3, 2), (1, 18, 3, 2), (2, 9, 1, 1)]:
        for mode in ["DCR", "CRD"]:
            yield f"DepthToSpace {mode} {shape}", image("DepthToSpace", shape=shape, blocksize=3, mode=mode)
    yield "SpaceToDepth", image("SpaceToDepth", blocksize=2)
    for mode in ["constant", "reflect", "edge", "wrap"]:
        pads = constant("pads", [0, 1, 2, 0, 0, 3])
        yield f"Pad bool {mode}", image("Pad", [pads], out=BOOL, shape=("N", 3, 4), kind=BOOL, mode=mode)
    true = constant("value", True, np.bool_)
    yield "Pad bool with true", image("Pad", [constant("pads", [0, 1, 2, 0, -1, 3]), true], out=BOOL, shape=(2, 3, 4), kind=BOOL)
    for depth in (1, 2):
        indices = constant("indices", np.random.default_rng(0).integers(0, 3, (2, 2, depth)))
        yield f"GatherND of batches, depth {depth}", image("GatherND", [indices], shape=(2, 3, 4), batch_dims=1)
    for shape in [("N", 3, 4), ("N", 5)]:
        nodes = [("Mod", ["y", "three"], {}, 1), ("GatherND", ["x", "h0"], {"batch_dims": 1}, 1)]
        given = {"x": (FLOAT, shape), "y": (INT64, ("N", 2, 1))}
        yield f"GatherND of a dynamic batch {shape}", (nodes, given, [constant("three", 3)], FLOAT)
    largest = [("Abs", ["y"], {}, 1), ("Mod", ["h0", "three"], {}, 1), ("Add", ["h1", "one"], {}, 1)]
    for axis, direction in [(1, 1), (0, 1), (1, 0)]:
        nodes = [*largest, ("TopK", ["x", "h2"], {"axis": axis, "largest": direction}, 2)]
        given = {"x": (FLOAT, (5, 4)), "y": (INT64, (1,))}
        yield f"TopK of a computed k, axis {axis}, largest {direction}", (nodes, given, [constant("three", 3), constant("one", 1)], [FLOAT, INT64])
    yield "MatMul batched", pair("MatMul", ("N", 3, 4), ("N", 4, 5))
    yield "TopK", image("TopK", [constant("k", [2])], outputs=2, axis=2, out=[FLOAT, INT64])
    shape_nodes = [("Shape", ["x"], {}, 1), ("Gather", ["h0", "zero"], {"axis": 0}, 1), ("Unsqueeze", ["h1", "first"], {}, 1)]
    shape_nodes += [("Concat", ["h2", "rest"], {"axis": 0}, 1), ("Reshape", ["x", "h3"], {}, 1)]
    constants = [constant("zero", 0), constant("first", [0]), constant("rest", [-1])]
    yield "Reshape to computed shape", (shape_nodes, {"x": (FLOAT, wide)}, constants, FLOAT)
    yield from computed_shapes()
    yield from selections()
    yield from scatters()


def computed_shapes():
    """Shapes, lengths and bounds that follow from the batch."""
    given = {"x": (FLOAT, ("N", 4))}
    zero, one, five = constant("zero", [0]), constant("one", [1]), constant("five", [5])
    rows = [("Shape", ["x"], {}, 1), ("Slice", ["h0", "zero", "one", "zero"], {}, 1)]  # h1: [N]
    scalar = [("Shape", ["x"], {}, 1), ("Gather", ["h0", "first"], {"axis": 0}, 1)]  # h1: N
    first, unit, column = constant("first", 0), constant("unit", 1), constant("column", [[2.0]], np.float32)
    as_int32 = [
        ("Shape", ["x"], {}, 1),
        ("Cast", ["h0"], {"to": INT32}, 1),
        ("Slice", ["h1", "zero", "one", "zero"], {}, 1),
        ("Concat", ["h2", "five"], {"axis": 0}, 1),
        ("Cast", ["h3"], {"to": INT64}, 1),
        ("Expand", ["column", "h4"], {}, 1),
    ]
    yield "Expand to an int32 shape", (as_int32, given, [zero, one, constant("five", [5], np.int32), column], FLOAT)
    target = [*rows, ("Concat", ["h1", "five"], {"axis": 0}, 1)]
    yield "ConstantOfShape", ([*target, ("ConstantOfShape", ["h2"], {}, 1)], given, [zero, one, five], FLOAT)
    yield "Reshape to twice the batch", (
        [("Shape", ["x"], {"start": 0, "end": 1}, 1), ("Mul", ["h0", "two"], {}, 1), ("Concat", ["h1", "two"], {"axis": 0}, 1), ("Reshape", ["x", "h2"], {}, 1)],
        given,
        [constant("two", [2])],
        FLOAT,
    )
    yield "Range of the batch", ([*scalar, ("Range", ["first", "h1", "unit"], {}, 1)], given, [first, unit], INT64)
    as_float = [*scalar, ("Cast", ["h1"], {"to": FLOAT}, 1), ("Div", ["x", "h2"], {}, 1)]
    yield "Div by the batch", (as_float, given, [first], FLOAT)
    yield "Shape as int32", ([("Shape", ["x"], {}, 1), ("Cast", ["h0"], {"to": INT32}, 1)], given, [], INT32)
    yield "Shape times int64", ([*rows, ("Mul", ["h1", "y"], {}, 1)], {"x": (FLOAT, ("N", 4)), "y": (INT64, (3,))}, [zero, one], INT64)
    repeats = [*rows, ("Concat", ["one", "h1"], {"axis": 0}, 1), ("Tile", ["x", "h2"], {}, 1)]
    yield "Tile by the batch", (repeats, given, [zero, one], FLOAT)
    yield "Trilu of dynamic rows", image("Trilu", [constant("k", 1)], shape=("N", 4), upper=0)
    yield "Trilu of a dynamic k", ([("Trilu", ["x", "y"], {"upper": 1}, 1)], {"x": (FLOAT, ("N", 4)), "y": (INT64, ())}, [], FLOAT)
    for kind in (np.int32, np.int64):
        bounds = [constant("starts", [0, 1], kind), constant("ends", [1_000_000_000, 2_000_000_000], kind), constant("axes", [0, 1], kind)]
        yield f"Slice far past the end, {np.dtype(kind)}", image("Slice", bounds, shape=("N", 4))
    backwards = [constant("starts", [2_000_000_000]), constant("ends", [-2_000_000_000]), constant("axes", [0]), constant("steps", [-1])]
    yield "Slice backwards from far past the end", image("Slice", backwards, shape=("N", 4))
    yield "Cast of data to int64", image("Cast", out=INT64, shape=("N", 4), to=INT64)


def selections():
    """Ops whose number of results depends on values."""
    yield "NonZero", image("NonZero", out=INT64, shape=("N", 3, 2), kind=INT32)
    yield "NonZero of floats", ([("Round", ["x"], {}, 1), ("NonZero", ["h0"], {}, 1)], {"x": (FLOAT, ("N", 3, 2))}, [], INT64)
    yield "NonZero of bools", image("NonZero", out=INT64, shape=("N", 5), kind=BOOL)
    for axis in (0, 1, -1):
        chosen = {"x": (FLOAT, ("N", 3, 4)), "y": (BOOL, ({0: "N", 1: 3, -1: 4}[axis],))}
        yield f"Compress axis {axis}", ([("Compress", ["x", "y"], {"axis": axis}, 1)], chosen, [], FLOAT)
    yield "Compress without axis", ([("Compress", ["x", "y"], {}, 1)], {"x": (INT64, ("N", 3)), "y": (BOOL, (3,))}, [], INT64)
    # coordinates of a normal distribution: many overlap, corners are in any order; rounded scores: many are equal
    boxes = {"x": (FLOAT, (2, 30, 4)), "y": (FLOAT, (2, 3, 30))}
    rounded = [("Round", ["y"], {}, 1)]
    for overlap in (0.0, 0.3, 0.5, 0.9):
        most, threshold = constant("most", [7]), constant("threshold", [overlap], np.float32)
        name = f"NonMaxSuppression {overlap}"
        inputs = ["x", "h0", "most", "threshold"]
        yield name, ([*rounded, ("NonMaxSuppression", inputs, {}, 1)], boxes, [most, threshold], INT64)
        yield f"{name}, centers", ([*rounded, ("NonMaxSuppression", inputs, {"center_point_box": 1}, 1)], boxes, [most, threshold], INT64)
        score = constant("score", [0.5], np.float32)
        scored = [*rounded, ("NonMaxSuppression", [*inputs, "score"], {}, 1)]
        yield f"{name}, scores over a threshold", (scored, boxes, [most, threshold, score], INT64)
        none = constant("score", [9.0], np.float32)
        yield f"{name}, no score over the threshold", (scored, boxes, [most, threshold, none], INT64)
    overlap = constant("overlap", [0.4], np.float32)
    # every other box has no area
    flat = [*rounded, ("Mul", ["x", "flattened"], {}, 1), ("NonMaxSuppression", ["h1", "h0", "most", "overlap"], {"center_point_box": 1}, 1)]
    flattened = constant("flattened", np.resize([[1, 1, 1, 1], [1, 1, 1, 0]], (30, 4)), np.float32)
    yield "NonMaxSuppression of boxes without area", (flat, boxes, [flattened, constant("most", [20]), overlap], INT64)
    many = constant("most", [1000])
    yield "NonMaxSuppression, more than there are", ([*rounded, ("NonMaxSuppression", ["x", "h0", "most", "overlap"], {}, 1)], boxes, [many, overlap], INT64)


def scatters():
    """Several updates of one place, in data of dynamic size."""
    rows = constant("rows", [[[1], [3], [1], [3], [0]]])
    elements = constant("elements", [[3, 0, -1, 3, 3], [1, 1, 0, 2, 2]])
    random = np.random.default_rng(0)
    for kind, dtype in ((FLOAT, np.float32), (INT32, np.int32)):
        slices = constant("slices", random.integers(-3, 4, (1, 5, 4)), dtype)
        values = constant("values", random.integers(-3, 4, (2, 5)), dtype)
        for reduction in ("none", "add", "mul", "max", "min"):
            nodes = [("ScatterND", ["x", "rows", "slices"], {"reduction": reduction}, 1)]
            yield f"ScatterND {reduction} {np.dtype(dtype)}", (nodes, {"x": (kind, (4, 4))}, [rows, slices], kind)
            nodes = [("ScatterElements", ["x", "elements", "values"], {"reduction": reduction, "axis": 1}, 1)]
            yield f"ScatterElements {reduction} {np.dtype(dtype)}", (nodes, {"x": (kind, (3, 4))}, [elements, values], kind)
    wide = constant("places", [[0], [0]])
    update = constant("update", random.standard_normal((2, 4)), np.float32)
    for reduction in ("none", "add", "mul", "max", "min"):
        nodes = [("ScatterND", ["x", "places", "update"], {"reduction": reduction}, 1)]
        yield f"ScatterND {reduction} into dynamic rows", (nodes, {"x": (FLOAT, ("N", 4))}, [wide, update], FLOAT)
    for kind, dtype in ((INT64, np.int64), (BOOL, np.bool_)):
        slices = constant("slices", random.integers(0, 2, (1, 5, 4)), dtype)
        yield f"ScatterND none {np.dtype(dtype)}", ([("ScatterND", ["x", "rows", "slices"], {}, 1)], {"x": (kind, (4, 4))}, [rows, slices], kind)


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
