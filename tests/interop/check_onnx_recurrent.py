"""Recurrent layers and control flow of ONNX: converted, run in LiteRT twice each, held to onnxruntime.

    "$(tests/peers/venv.sh)" tests/interop/check_onnx_recurrent.py target/release/mlctl [REGEX]

What the ONNX backend's node tests lack: both directions, lengths of sequences, initial states, activations,
sequences too long to be written out, a dynamic batch and sequence, float16 files.
"""

import itertools
import re
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from mlctl import Mlctl
from onnx import TensorProto, helper, numpy_helper
from peers import litert_interpreter, silent_stderr
from report import Report, at_most, equal

TOLERANCE = 1e-5
FLOAT, INT32, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT32, TensorProto.INT64, TensorProto.BOOL
KINDS = {FLOAT: np.float32, INT32: np.int32, INT64: np.int64, BOOL: np.bool_}
GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}


# Cases that are refused, by words of the reason.
UNKNOWN_TURNS = "turns whose number is not known"
REFUSED = dict.fromkeys(
    ["loop of no turns", "loop of a given count", "loop that ends early", "loop without a count", "loop that reads the outer graph, given count", "loop of a dynamic batch and a given count"],
    UNKNOWN_TURNS,
)


class Case:
    """A model, and runs: arrays by input name."""

    def __init__(self, model, runs):
        self.model, self.runs = model, runs


def model_of(nodes, inputs, outputs, constants):
    ports = [helper.make_tensor_value_info(name, kind, shape) for name, kind, shape in inputs]
    ends = [helper.make_tensor_value_info(name, kind, shape) for name, kind, shape in outputs]
    initializers = [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()]
    graph = helper.make_graph(nodes, "case", ports, ends, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return model


def layer(op, direction="forward", steps=5, batch=2, bias=True, lengths=None, states=False, peepholes=False, dynamic="", outputs=None, size=3, hidden=4, **attributes):
    """`dynamic` names the axes that are symbols; `lengths` is "given" or a list that is a constant."""
    random = np.random.default_rng(7)
    draw = lambda *shape: random.uniform(-0.7, 0.7, shape).astype(np.float32)
    many, gates = 2 if direction == "bidirectional" else 1, GATES[op]
    constants = {"W": draw(many, gates * hidden, size), "R": draw(many, gates * hidden, hidden)}
    names = ["X", "W", "R", "", "", "", "", ""]
    if bias:
        names[3], constants["B"] = "B", draw(many, 2 * gates * hidden)
    time, rows = ("T" if "T" in dynamic else steps), ("N" if "N" in dynamic else batch)
    x_shape = [rows, time, size] if attributes.get("layout") else [time, rows, size]
    inputs = [("X", FLOAT, x_shape)]
    if lengths == "given":
        names[4] = "lengths"
        inputs.append(("lengths", INT32, [rows]))
    elif lengths:
        names[4], constants["lengths"] = "lengths", np.int32(lengths)
    if states:
        state = [rows, many, hidden] if attributes.get("layout") else [many, rows, hidden]
        for place, name in [(5, "h0"), (6, "c0")][: 2 if op == "LSTM" else 1]:
            names[place] = name
            inputs.append((name, FLOAT, state))
    if peepholes:
        names[7], constants["P"] = "P", draw(many, 3 * hidden)
    while not names[-1]:
        names.pop()
    all_outputs = ["Y", "Y_h", "Y_c"][: 3 if op == "LSTM" else 2]
    outputs = outputs or all_outputs
    node = helper.make_node(op, names, [o if o in outputs else "" for o in all_outputs], hidden_size=hidden, direction=direction, **attributes)
    rank = {"Y": 4, "Y_h": 3, "Y_c": 3}
    model = model_of([node], inputs, [(o, FLOAT, [None] * rank[o]) for o in outputs], constants)
    runs = []
    for more in [0, 2] if dynamic else [0]:
        sizes = {"T": steps + more, "N": batch + more}
        random = np.random.default_rng(more)
        run = {}
        for name, kind, shape in inputs:
            shape = [sizes.get(d, d) for d in shape]
            if name == "lengths":
                run[name] = random.integers(0, sizes["T"] + 1 if "T" in dynamic else steps + 1, shape).astype(np.int32)
            else:
                run[name] = random.standard_normal(shape).astype(np.float32)
        runs.append(run)
    return Case(model, runs)


def recurrent_cases():
    for op, direction in itertools.product(GATES, ["forward", "reverse", "bidirectional"]):
        for steps in [1, 5, 40]:
            yield f"{op} {direction} {steps} steps", layer(op, direction, steps)
            yield f"{op} {direction} {steps} steps of given lengths", layer(op, direction, steps, batch=4, lengths="given", states=True)
        yield f"{op} {direction} of constant lengths", layer(op, direction, batch=3, lengths=[5, 2, 3])
        yield f"{op} {direction} of full lengths", layer(op, direction, batch=3, lengths=[5, 5, 5])
        for steps in [5, 40]:
            yield f"{op} {direction} dynamic batch {steps} steps", layer(op, direction, steps, dynamic="N", states=True, lengths="given")
        yield f"{op} {direction} dynamic batch, no states", layer(op, direction, 40, dynamic="N")
        yield f"{op} {direction} dynamic sequence", layer(op, direction, dynamic="T", states=True)
        yield f"{op} {direction} dynamic both", layer(op, direction, dynamic="TN")
        yield f"{op} {direction} dynamic both, lengths", layer(op, direction, dynamic="TN", lengths="given", states=True)
        yield f"{op} {direction} last state only", layer(op, direction, 30, outputs=["Y_h"])
        yield f"{op} {direction} all states only", layer(op, direction, 30, outputs=["Y"])
        yield f"{op} {direction} clip", layer(op, direction, clip=0.3, states=True)
        yield f"{op} {direction} no bias", layer(op, direction, 20, bias=False)
    for steps in [6, 40]:
        for direction in ["forward", "bidirectional"]:
            yield f"GRU linear before reset {direction} {steps}", layer("GRU", direction, steps, linear_before_reset=1, states=True)
            yield f"LSTM peepholes {direction} {steps}", layer("LSTM", direction, steps, peepholes=True, states=True)
        yield f"LSTM coupled {steps}", layer("LSTM", steps=steps, input_forget=1)
    for name in ["Relu", "Tanh", "Sigmoid", "Softsign", "HardSigmoid", "LeakyRelu", "ScaledTanh", "Elu", "Affine"]:
        alpha = {"activation_alpha": [0.3]} if name in ["HardSigmoid", "LeakyRelu", "ScaledTanh", "Elu", "Affine"] else {}
        beta = {"activation_beta": [0.4]} if name in ["HardSigmoid", "ScaledTanh", "Affine"] else {}
        yield f"RNN {name}", layer("RNN", activations=[name], **alpha, **beta)
    yield "GRU activations", layer("GRU", "bidirectional", activations=["HardSigmoid", "Softsign", "Sigmoid", "ScaledTanh"], activation_alpha=[0.25, 1.2], activation_beta=[0.4, 0.7])
    yield "LSTM activations", layer("LSTM", "bidirectional", activations=["HardSigmoid", "Softsign", "Tanh", "Sigmoid", "Tanh", "Softsign"])
    yield "LSTM wide", layer("LSTM", "bidirectional", 25, batch=3, size=20, hidden=64)
    yield "GRU wide, dynamic", layer("GRU", "bidirectional", 25, batch=3, size=20, hidden=64, dynamic="TN")


def value(name, kind, shape):
    return helper.make_tensor_value_info(name, kind, shape)


def graph(nodes, inputs, outputs, constants=()):
    initializers = [numpy_helper.from_array(np.asarray(v), k) for k, v in dict(constants).items()]
    return helper.make_graph(nodes, "body", [value(*i) for i in inputs], [value(*o) for o in outputs], initializers)


def loop(count, condition="", captured=False, dynamic=False, given_count=False):
    """Doubles x, stacks x + turn; `condition` is "" or a limit of x[0], and the loop ends where that is passed."""
    body_nodes = [
        helper.make_node("Cast", ["i"], ["turn"], to=FLOAT),
        helper.make_node("Add", ["x_in", "x_in"], ["x_out"]),
        helper.make_node("Add", ["x_in", "turn"], ["element"]),
    ]
    if captured:
        body_nodes[1:2] = [helper.make_node("MatMul", ["x_in", "weights"], ["product"]), helper.make_node("Add", ["product", "shift"], ["x_out"])]
    constants = {"first": np.int64(0)}
    if condition:
        body_nodes += [helper.make_node("Gather", ["x_out", "first"], ["row"], axis=0), helper.make_node("ReduceMax", ["row"], ["x0"], keepdims=0), helper.make_node("Less", ["x0", "limit"], ["go_out"])]
        constants["limit"] = np.float32(condition)
    else:
        body_nodes += [helper.make_node("Identity", ["go"], ["go_out"])]
    shape = ["N" if dynamic else 2, 3]
    body = graph(body_nodes, [("i", INT64, []), ("go", BOOL, []), ("x_in", FLOAT, shape)], [("go_out", BOOL, []), ("x_out", FLOAT, shape), ("element", FLOAT, shape)], constants)
    inputs, outer = [("x", FLOAT, shape)], {}
    if given_count:
        inputs.append(("count", INT64, []))
    elif count is not None:
        outer["count"] = np.int64(count)
    if captured:
        inputs.append(("shift", FLOAT, [3]))
        outer["weights"] = np.float32([[0.5, 0.1, 0], [0.2, 0.3, 0.4], [0, 0.6, 0.1]])
    nodes = [helper.make_node("Loop", ["" if count is None else "count", "", "x"], ["last", "all"], body=body)]
    model = model_of(nodes, inputs, [("last", FLOAT, None), ("all", FLOAT, None)], outer)
    runs = []
    for rows in [2, 4] if dynamic else [2]:
        run = {"x": np.linspace(0.1, 1, rows * 3, dtype=np.float32).reshape(rows, 3)}
        if given_count:
            run["count"] = np.array(count, np.int64)
        if captured:
            run["shift"] = np.float32([0.1, -0.2, 0.3])
        runs.append(run)
    return Case(model, runs)


def growing():
    """A state that is longer after every turn."""
    nodes = [helper.make_node("Concat", ["s_in", "x"], ["s_out"], axis=0), helper.make_node("Identity", ["go"], ["go_out"])]
    body = graph(nodes, [("i", INT64, []), ("go", BOOL, []), ("s_in", FLOAT, ["K"])], [("go_out", BOOL, []), ("s_out", FLOAT, ["K2"])])
    outer = [helper.make_node("Loop", ["count", "", "x"], ["y"], body=body)]
    return Case(model_of(outer, [("x", FLOAT, [3])], [("y", FLOAT, None)], {"count": np.int64(4)}), [{"x": np.float32([1, 2, 3])}])


def swapping():
    """Fibonacci: each state becomes what another was."""
    nodes = [helper.make_node("Add", ["a", "b"], ["sum"]), helper.make_node("Identity", ["go"], ["go_out"]), helper.make_node("Identity", ["b"], ["next"])]
    body = graph(nodes, [("i", INT64, []), ("go", BOOL, []), ("a", FLOAT, [2]), ("b", FLOAT, [2])], [("go_out", BOOL, []), ("next", FLOAT, [2]), ("sum", FLOAT, [2])])
    outer = [helper.make_node("Loop", ["count", "", "x", "y"], ["p", "q"], body=body)]
    model = model_of(outer, [("x", FLOAT, [2]), ("y", FLOAT, [2]), ("count", INT64, [])], [("p", FLOAT, None), ("q", FLOAT, None)], {})
    return Case(model, [{"x": np.float32([0, 1]), "y": np.float32([1, 3]), "count": np.array(n, np.int64)} for n in [0, 1, 10]])


def scan(reverse=False, axis=0, dynamic=False):
    shape = [4, 2]
    shape.insert(axis, "T" if dynamic else 20)
    nodes = [helper.make_node("Add", ["s_in", "x_t"], ["s_out"]), helper.make_node("Mul", ["s_out", "scale"], ["y_t"])]
    body = graph(nodes, [("s_in", FLOAT, [4, 2]), ("x_t", FLOAT, [4, 2])], [("s_out", FLOAT, [4, 2]), ("y_t", FLOAT, [4, 2])])
    ways = {"scan_input_axes": [axis], "scan_output_axes": [axis]}
    if reverse:
        ways |= {"scan_input_directions": [1], "scan_output_directions": [1]}
    outer = [helper.make_node("Scan", ["s", "x"], ["last", "y"], body=body, num_scan_inputs=1, **ways)]
    model = model_of(outer, [("s", FLOAT, [4, 2]), ("x", FLOAT, shape), ("scale", FLOAT, [2])], [("last", FLOAT, None), ("y", FLOAT, None)], {})
    random = np.random.default_rng(3)
    runs = []
    for steps in [20, 7] if dynamic else [20]:
        sizes = [steps if d == "T" else d for d in shape]
        runs.append({"s": random.random((4, 2), np.float32), "x": random.random(sizes, np.float32), "scale": np.float32([2, -1])})
    return Case(model, runs)


def conditional(dynamic=False, nested=False, passes=False):
    """`passes`: a branch gives what it is given, the other a constant."""
    shape = ["N" if dynamic else 2, 3]
    then_nodes, then_constants = [helper.make_node("MatMul", ["x", "w"], ["a"])], {"w": np.eye(3, dtype=np.float32) * 2}
    if nested:
        inner = [graph([helper.make_node(op, ["x", "y"], [f"inner_{op}"])], [], [(f"inner_{op}", FLOAT, None)]) for op in ["Add", "Mul"]]
        then_nodes = [helper.make_node("If", ["second"], ["a"], then_branch=inner[0], else_branch=inner[1])]
    other_nodes = [helper.make_node("Sub", ["x", "y"], ["b"])]
    if passes:
        then_nodes, other_nodes = [helper.make_node("Identity", ["x"], ["a"])], [helper.make_node("Identity", ["k"], ["b"])]
    then_graph = graph(then_nodes, [], [("a", FLOAT, None)], {} if nested or passes else then_constants)
    other_graph = graph(other_nodes, [], [("b", FLOAT, None)], {"k": np.ones((2, 3), np.float32)} if passes else {})
    outer = [helper.make_node("If", ["first"], ["z"], then_branch=then_graph, else_branch=other_graph)]
    inputs = [("first", BOOL, []), ("x", FLOAT, shape), ("y", FLOAT, [3])] + ([("second", BOOL, [])] if nested else [])
    runs = []
    for first, second, rows in itertools.product([True, False], [True, False], [2, 4] if dynamic else [2]):
        run = {"first": np.array(first), "x": np.linspace(-1, 1, rows * 3, dtype=np.float32).reshape(rows, 3), "y": np.float32([1, 2, 3])}
        runs.append(run | ({"second": np.array(second)} if nested else {}))
    return Case(model_of(outer, inputs, [("z", FLOAT, None)], {}), runs)


def control_cases():
    yield "loop of a constant count", loop(5)
    yield "loop of no turns", loop(0)
    yield "loop of a given count", loop(5, given_count=True)
    yield "loop that ends early", loop(50, condition=9.0)
    yield "loop without a count", loop(None, condition=100.0)
    yield "loop that reads the outer graph", loop(6, captured=True)
    yield "loop that reads the outer graph, given count", loop(6, captured=True, given_count=True)
    yield "loop of a dynamic batch", loop(5, dynamic=True)
    yield "loop of a dynamic batch and a given count", loop(5, dynamic=True, given_count=True)
    yield "loop whose state grows", growing()
    yield "loop whose states swap", swapping()
    yield "scan", scan()
    yield "scan from the end", scan(reverse=True)
    yield "scan along another axis", scan(axis=1)
    yield "scan of a dynamic sequence", scan(dynamic=True)
    yield "scan of a dynamic sequence from the end along another axis", scan(True, 2, True)
    yield "if", conditional()
    yield "if of a dynamic batch", conditional(dynamic=True)
    yield "if in an if", conditional(nested=True)
    yield "if that passes values on", conditional(passes=True)


def cases():
    yield from recurrent_cases()
    yield from control_cases()


def litert_outputs(path, run, names, xnnpack):
    """Of the second of two runs on the same interpreter."""
    interpreter = litert_interpreter(path, xnnpack)
    with silent_stderr():
        given = {d["name"]: d["index"] for d in interpreter.get_input_details()}
        for name, array in run.items():
            if name in given:
                interpreter.resize_tensor_input(given[name], array.shape)
        interpreter.allocate_tensors()
        for _ in range(2):
            for name, array in run.items():
                if name in given:
                    interpreter.set_tensor(given[name], array)
            interpreter.invoke()
    found = {d["name"]: d["index"] for d in interpreter.get_output_details()}
    return [interpreter.get_tensor(found[name]) for name in names]


def difference(got, expected):
    if got.shape != expected.shape or got.dtype != expected.dtype:
        raise ValueError(f"{got.dtype} {got.shape} instead of {expected.dtype} {expected.shape}")
    if expected.dtype != np.float32:
        return float(np.count_nonzero(got != expected))
    if expected.size == 0:
        return 0.0
    return float(np.abs(got.astype(np.float64) - expected).max() / max(np.abs(expected).max(), 1e-30))


def largest_difference(case, tflite, xnnpack):
    session = onnxruntime.InferenceSession(case.model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [o.name for o in session.get_outputs()]
    worst = 0.0
    for run in case.runs:
        expected = session.run(names, run)
        got = litert_outputs(tflite, run, names, xnnpack)
        worst = max([worst, *(difference(g, e) for g, e in zip(got, expected))])
    return worst


def main():
    report = Report("recurrent layers and control flow")
    mlctl = Mlctl(sys.argv[1])
    chosen = re.compile(sys.argv[2] if len(sys.argv) > 2 else "")
    with tempfile.TemporaryDirectory() as folder:
        model, tflite = Path(folder) / "case.onnx", Path(folder) / "case.tflite"
        for name, case in cases():
            if not chosen.search(name):
                continue
            onnx.save(case.model, model)
            for scheme, tolerance in [([], TOLERANCE), (["--quantize", "f16"], 2e-2)]:
                label = f"{name} {' '.join(scheme[1:])}".strip()
                try:
                    mlctl.run("convert", model, "-o", tflite, "-q", *scheme, cwd=folder)
                except RuntimeError as error:
                    words = REFUSED.get(name, "no reason: it is supported")
                    report.check(f"{label}, refused", lambda: words in str(error) or str(error), equal(True))
                    continue
                report.check(f"{label} is converted", lambda: name not in REFUSED, equal(True))
                report.check(label, lambda: largest_difference(case, tflite, False), at_most(tolerance))
                report.check(f"{label}, XNNPACK", lambda: largest_difference(case, tflite, True), at_most(tolerance))
    return report.finish()


if __name__ == "__main__":
    raise SystemExit(main())
