"""The ONNX backend node tests as conversion cases: their families, the models tried, and what becomes of each."""

import os
import re
import shutil
import subprocess
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from queue import SimpleQueue

import numpy as np
import onnx
import onnxruntime
from litert_process import LitertFailure, LitertProcess
from onnx import numpy_helper
from peers import TfliteFile

# A case belongs to the first family that names one of its ops; an op that no family names makes it 'other'.
FAMILIES = {
    "conv": "Conv ConvTranspose ConvInteger QLinearConv",
    "recurrent": "LSTM GRU RNN",
    "control": "If Loop Scan",
    "pool": "MaxPool AveragePool LpPool GlobalMaxPool GlobalAveragePool GlobalLpPool",
    "resize": "Resize Upsample DepthToSpace SpaceToDepth",
    "normalization": "BatchNormalization InstanceNormalization LayerNormalization GroupNormalization RMSNormalization LRN"
    " LpNormalization MeanVarianceNormalization",
    "matmul": "MatMul Gemm Einsum MatMulInteger QLinearMatMul",
    "gather/scatter": "Gather GatherND GatherElements Scatter ScatterND ScatterElements OneHot NonMaxSuppression TopK ArgMax ArgMin",
    "reduce": "ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceSumSquare CumSum",
    "activation": "Relu Sigmoid Tanh Softmax LogSoftmax LeakyRelu PRelu Elu Selu Celu Gelu HardSwish HardSigmoid Mish Softplus Softsign"
    " ThresholdedRelu Shrink Clip Erf Swish Hardmax Dropout",
    "slice/concat/pad": "Slice Concat Split Pad Tile",
    "comparison/logic": "Equal Greater GreaterOrEqual Less LessOrEqual And Or Xor Not Where IsNaN IsInf BitwiseAnd BitwiseOr BitwiseXor"
    " BitwiseNot BitShift",
    "elementwise": "Add Sub Mul Div Mod Pow Sqrt Exp Log Neg Abs Ceil Floor Round Sign Reciprocal Max Min Sum Mean Sin Cos Tan Asin Acos"
    " Atan Sinh Cosh Asinh Acosh Atanh",
    "cast": "Cast CastLike QuantizeLinear DequantizeLinear DynamicQuantizeLinear",
    "shape": "Reshape Flatten Squeeze Unsqueeze Transpose Shape Size Expand ConstantOfShape Range Identity Constant EyeLike",
}
FAMILIES = {name: frozenset(ops.split()) for name, ops in FAMILIES.items()}
KNOWN_OPS = frozenset().union(*FAMILIES.values())

# Inputs that every exporter writes as constants and the node tests give at run time, by op: where they begin.
PARAMETERS = {
    **dict.fromkeys([op for op in FAMILIES["reduce"]], (1, 9)),
    **dict.fromkeys(["Reshape", "Unsqueeze", "Squeeze", "Split", "Slice", "Pad", "Expand", "Tile", "TopK", "Resize", "Upsample"], (1, 9)),
    **dict.fromkeys(["OneHot", "Clip", "Dropout", "QuantizeLinear", "DequantizeLinear", "CenterCropPad"], (1, 9)),
    **dict.fromkeys(["Conv", "ConvTranspose", "LSTM", "GRU", "RNN"], (1, 5)),
    **dict.fromkeys(["ConstantOfShape", "Range"], (0, 9)),
    **dict.fromkeys(["BatchNormalization", "InstanceNormalization", "LayerNormalization", "GroupNormalization", "RMSNormalization", "PRelu"], (1, 9)),
    "NonMaxSuppression": (2, 9),
    "QLinearConv": (1, 9),
    "QLinearMatMul": (1, 9),
    "ConvInteger": (1, 9),
    "MatMulInteger": (1, 9),
    "Loop": (0, 2),
}

# Types that no TFLite kernel computes with. A refused case that has one is not counted as attempted.
TYPES_OUTSIDE_TFLITE = frozenset(
    getattr(onnx.TensorProto, name)
    for name in """DOUBLE UINT64 UINT16 BFLOAT16 COMPLEX64 COMPLEX128 STRING INT4 UINT4 INT2 UINT2 FLOAT4E2M1 FLOAT8E4M3FN FLOAT8E4M3FNUZ
    FLOAT8E5M2 FLOAT8E5M2FNUZ FLOAT8E8M0""".split()
    if hasattr(onnx.TensorProto, name)
)

# Outputs of these do not depend on the values of their inputs.
SHAPE_ONLY = frozenset({"Shape", "Size", "EyeLike", "RandomUniformLike", "RandomNormalLike"})

# What mlctl says when the ONNX file does not become a TypedModel: tract's words, and those of mlctl's door to it.
NOT_LOADED = re.compile(
    r"no implementation in the runtime|custom domain|functions defined inside|newer than this mlctl knows|Translating node|translating to fact"
    r"|Failed analyse|Building node|Translating proto|Unknown DatumType|unknown enumeration value|not typed|training mode"
)

TOO_NEW = re.compile(r"newest known: opset (\d+), IR (\d+)")

RELATIVE = {np.dtype(np.float32): 1e-5, np.dtype(np.float16): 2e-3}
RELATIVE_OF_F16 = 2e-2
# With 1e-5 relative this asks for 1e-7 absolute at best, the suite's own atol: a sum that cancels has the error of its terms.
SMALLEST_SCALE = 1e-2

# The one list of node tests that are not judged, each with its reason: a pattern of whole names.
EXCLUSIONS = {
    r"test_bernoulli.*": "random numbers: the expected output is one draw",
    r"test_training_dropout(?!_zero_ratio).*": "training mode draws random numbers",
    r"test_random.*": "random numbers: the expected output is one draw",
    r"test_nllloss_NCd1d2d3d4d5_mean_weight_expanded": "LiteRT adds 10,000 float32 one after the other; that alone is 2.3e-5 off",
}


@dataclass
class Case:
    name: str
    model: onnx.ModelProto
    inputs: dict
    expected: dict
    family: str
    outside_types: bool


@dataclass
class Result:
    """What became of a case. `outcome`: passed, wrong, crashed, not held, refused, not loaded, type, nothing computed, excluded."""

    case: str
    family: str
    outcome: str
    reason: str = ""


FAILURES = ("wrong", "crashed")
ATTEMPTED = ("passed", "wrong", "crashed", "not held", "refused")


def subgraphs(graph):
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in [attribute.g, *attribute.graphs] if attribute.HasField("g") else attribute.graphs:
                yield from subgraphs(inner)


def ops(model):
    return {node.op_type if not node.domain else f"{node.domain}.{node.op_type}" for graph in subgraphs(model.graph) for node in graph.node}


def family(model):
    present = ops(model)
    if not present <= KNOWN_OPS:
        return "other"
    return next(name for name, members in FAMILIES.items() if present & members)


def element_types(value_type):
    kind = value_type.WhichOneof("value")
    return {value_type.tensor_type.elem_type} if kind == "tensor_type" else {onnx.TensorProto.STRING}


def has_outside_types(model):
    found = set()
    for value in [*model.graph.input, *model.graph.output]:
        found |= element_types(value.type)
    for graph in subgraphs(model.graph):
        found |= {a.i for node in graph.node if node.op_type == "Cast" for a in node.attribute if a.name == "to"}
        found |= {i.data_type for i in graph.initializer}
    return bool(found & TYPES_OUTSIDE_TFLITE)


def as_array(value):
    """The suite gives some tensors as protobufs."""
    return numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else value


@cache
def cases():
    """Every node test of the onnx wheel; sequences and optionals stay as the suite gives them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnx.backend.test.loader import load_node_model_tests

        tests = load_node_model_tests()
    return [
        Case(
            test.name,
            test.model,
            dict(zip([i.name for i in test.model.graph.input], map(as_array, test.data_sets[0][0]))),
            dict(zip([o.name for o in test.model.graph.output], map(as_array, test.data_sets[0][1]))),
            family(test.model),
            has_outside_types(test.model),
        )
        for test in tests
    ]


def parameter_inputs(model):
    """Graph inputs that some node reads as a parameter and none as data."""
    inputs = {i.name for i in model.graph.input}
    parameters, data = set(), set()
    for node in model.graph.node:
        first, last = PARAMETERS.get(node.op_type, (99, 99))
        for position, name in enumerate(node.input):
            (parameters if first <= position < last else data).add(name)
    return (parameters - data) & inputs


def with_constants(case, names):
    """(model, inputs) with the values of some inputs in the model."""
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    kept = [i for i in model.graph.input if i.name not in names]
    del model.graph.input[:]
    model.graph.input.extend(kept)
    model.graph.initializer.extend(numpy_helper.from_array(np.asarray(case.inputs[n]), n) for n in sorted(names))
    return model, {name: value for name, value in case.inputs.items() if name not in names}


def older_model(model, opset, ir_version):
    """The same model under an older opset and IR, if its ops, attributes and types are valid there; otherwise None."""
    older = onnx.ModelProto()
    older.CopyFrom(model)
    older.ir_version = min(older.ir_version, ir_version)
    for imported in older.opset_import:
        if imported.domain == "":
            imported.version = min(imported.version, opset)
    try:
        onnx.checker.check_model(older)
        onnx.shape_inference.infer_shapes(older, check_type=True, strict_mode=True)
    except Exception:
        return None
    return older


def computes(model):
    """Whether an output depends on the values of an input."""
    live = {i.name for i in model.graph.input} - {i.name for i in model.graph.initializer}
    for node in model.graph.node:
        inner = {name for a in node.attribute if a.HasField("g") for g in subgraphs(a.g) for n in g.node for name in n.input}
        if node.op_type not in SHAPE_ONLY and (set(node.input) | inner) & live:
            live |= set(node.output)
    return any(o.name in live for o in model.graph.output)


def has_float_constants(model):
    constants = [i for graph in subgraphs(model.graph) for i in graph.initializer]
    constants += [a.t for graph in subgraphs(model.graph) for n in graph.node if n.op_type == "Constant" for a in n.attribute if a.name == "value"]
    return any(c.data_type == onnx.TensorProto.FLOAT for c in constants)


def difference(got, expected, relative=None):
    """None if equal within tolerance, otherwise what differs."""
    expected = np.asarray(expected)
    if got.dtype != expected.dtype:
        return f"{got.dtype} instead of {expected.dtype}"
    if got.shape != expected.shape:
        return f"shape {list(got.shape)} instead of {list(expected.shape)}"
    if expected.dtype not in RELATIVE:
        return None if np.array_equal(got, expected) else f"{int((got != expected).sum())} of {expected.size} values differ"
    finite = np.isfinite(expected)
    # LiteRT's ADD, MUL, … clamp to the finite range, and its REDUCE_MAX starts there: the largest finite value stands for infinity.
    largest = np.finfo(expected.dtype).max
    got = np.where(np.isinf(expected) & (got == np.copysign(largest, expected)), expected, got)
    if not np.array_equal(got[~finite], expected[~finite], equal_nan=True):
        return "infinities or NaN differ"
    if not finite.any():
        return None
    a, b = expected[finite].astype(np.float64), got[finite].astype(np.float64)
    largest = float(np.abs(a - b).max()) / max(SMALLEST_SCALE, float(np.abs(a).max()))
    limit = relative or RELATIVE[expected.dtype]
    return None if largest <= limit else f"{largest:.2g} relative"


def onnxruntime_outputs(case):
    try:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        session = onnxruntime.InferenceSession(case.model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return dict(zip([o.name for o in session.get_outputs()], session.run(None, case.inputs)))
    except Exception:
        return {}


def wrong_outputs(case, outputs, relative=None):
    """What of the outputs is not as expected. The suite's own values are good to 1e-3 only: where they are further
    from the file than 1e-5 but within 1e-3, onnxruntime's decide."""
    lacking = case.expected.keys() - outputs.keys()
    if lacking:
        return [f"outputs {sorted(outputs)} lack {sorted(lacking)}"]
    wrong = []
    for name, expected in case.expected.items():
        differs = difference(outputs[name], expected, relative)
        if differs and relative is None and difference(outputs[name], expected, 1e-3) is None:
            second = onnxruntime_outputs(case).get(name)
            differs = differs if second is None else difference(outputs[name], second)
        if differs:
            wrong.append(f"{name}: {differs}")
    return wrong


class Converter:
    """mlctl and LiteRT on one case at a time; one a thread."""

    # whether what has float constants is converted to float16 too
    to_float16 = True

    def __init__(self, mlctl, folder, seconds):
        self.mlctl, self.folder, self.seconds = Path(mlctl).resolve(), folder, seconds
        self.peer = LitertProcess(seconds)

    def convert(self, case, model, scheme=()):
        """(outcome, reason, the .tflite's path)."""
        source, out = self.folder / f"{case.name}.onnx", self.folder / f"{case.name}.tflite"
        onnx.save(model, source)
        return self.converted(source, out, scheme)

    def converted(self, source, out, scheme=()):
        """As `convert`, of files."""
        remove(out)
        command = [str(self.mlctl), "convert", os.path.relpath(source, self.folder), "-o", os.path.relpath(out, self.folder), "-q", *scheme]
        try:
            done = subprocess.run(
                command, cwd=self.folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=self.seconds
            )
        except subprocess.TimeoutExpired:
            return "crashed", f"mlctl hangs: not done after {self.seconds} s", out
        said = " ".join(done.stderr.replace(f"{os.path.relpath(source, self.folder)}: ", "").split())
        said = said.removeprefix("error: ").removeprefix("converting: ")
        if done.returncode == 0:
            return ("converted", "", out) if out.exists() else ("crashed", "exit 0 and no file", out)
        if out.exists():
            return "crashed", f"exit {done.returncode} left a file", out
        if done.returncode == 3:
            return "not held", said, out
        if done.returncode != 1 or "panicked at" in said or not said:
            return "crashed", f"mlctl exits {done.returncode}: {said[-300:]}", out
        return ("not loaded" if NOT_LOADED.search(said) else "refused"), said, out

    def judge(self, case, path, inputs, relative=None):
        """(outcome, reason) of a converted case."""
        operators = TfliteFile(path).operators()
        for xnnpack in (False, True) if operators and inputs else (False,):
            kernels = "with XNNPACK" if xnnpack else "on LiteRT's own kernels"
            try:
                outputs = self.peer.outputs(path, {n: np.asarray(v) for n, v in inputs.items()}, xnnpack)
            except LitertFailure as failure:
                return ("crashed" if "LiteRT:" not in str(failure) else "wrong"), f"{kernels}: {failure} [{' '.join(operators)}]"
            wrong = wrong_outputs(case, outputs, relative)
            if wrong:
                return "wrong", f"{kernels}: {'; '.join(wrong)} [{' '.join(operators)}]"
        return ("passed" if operators else "nothing computed"), ""

    def tried(self, case, model, inputs):
        """(outcome, reason) of one of a case's models: to float32 and, if that passes and there are float constants, to float16.
        A model refused for its opset alone is relabelled with the newest that mlctl knows, where it is valid there."""
        outcome, reason, path = self.convert(case, model)
        too_new = TOO_NEW.search(reason)
        older = older_model(model, int(too_new[1]), int(too_new[2])) if too_new else None
        if older is not None:
            model = older
            outcome, reason, path = self.convert(case, model)
        if outcome == "converted":
            outcome, reason = self.judge(case, path, inputs)
        elif outcome in ("refused", "not held") and not computes(model):
            outcome = "nothing computed"
        elif outcome == "refused" and case.outside_types:
            outcome = "type"
        if outcome == "passed" and self.to_float16 and has_float_constants(model):
            outcome, reason, path = self.convert(case, model, ["--quantize", "f16"])
            if outcome == "converted":
                outcome, reason = self.judge(case, path, inputs, RELATIVE_OF_F16)
            reason = reason and f"to float16: {reason}"
        remove(path)
        remove(self.folder / f"{case.name}.onnx")
        return outcome, reason

    def result(self, case):
        """The case as it is; where mlctl refuses that, the case with its parameters as constants."""
        for pattern, reason in EXCLUSIONS.items():
            if re.fullmatch(pattern, case.name):
                return Result(case.name, case.family, "excluded", reason)
        outcome, reason = self.tried(case, case.model, case.inputs)
        parameters = parameter_inputs(case.model) & {n for n, v in case.inputs.items() if isinstance(v, (np.ndarray, np.generic))}
        if outcome in ("not loaded", "refused", "type") and parameters:
            second = self.tried(case, *with_constants(case, parameters))
            # A model that computes nothing, or does not load, does not hide the refusal of one that does.
            if second[0] not in ("not loaded", "nothing computed") or outcome == "not loaded":
                outcome, reason = second
        return Result(case.name, case.family, outcome, reason)


def remove(path):
    """A file or a folder, if it is there."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def run(mlctl, folder, chosen, workers=2, seconds=20):
    """The results of the chosen cases, in their order."""
    return run_with([Converter(mlctl, folder, seconds) for _ in range(workers)], chosen)


def run_with(converters, chosen):
    """As `run`, a thread a converter."""
    free = SimpleQueue()
    for converter in converters:
        free.put(converter)

    def one(case):
        converter = free.get()
        try:
            return converter.result(case)
        except Exception as error:
            return Result(case.name, case.family, "crashed", f"the check itself: {type(error).__name__}: {error}")
        finally:
            free.put(converter)

    with ThreadPoolExecutor(len(converters)) as pool:
        results = list(pool.map(one, chosen))
    for converter in converters:
        converter.peer.stop()
    return results
