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
    onnx.checker.check_model(model)
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


def cases():
    yield from recurrent_cases()


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
                    report.check(label, lambda: str(error), equal("converted"))
                    continue
                report.check(label, lambda: largest_difference(case, tflite, False), at_most(tolerance))
                report.check(f"{label}, XNNPACK", lambda: largest_difference(case, tflite, True), at_most(tolerance))
    return report.finish()


if __name__ == "__main__":
    raise SystemExit(main())
