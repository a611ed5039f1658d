"""Elementwise ONNX ops at the ends of their types: converted, run in LiteRT, held to numpy.

    "$(tests/peers/venv.sh)" tests/interop/check_onnx_elementwise.py target/release/mlctl

Integers over their whole range (what overflows wraps; shifts past the width leave nothing), floats with
infinities and NaN, operands that broadcast either way, ranks 0 to 6, empty arrays.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
from litert_process import LitertProcess
from mlctl import Mlctl
from onnx import helper
from report import Report, at_most, equal

TOLERANCE = 1e-5
SHAPES = [
    ((4, 5), (4, 5)),
    ((5,), (3, 4, 5)),
    ((2, 3, 1), (1, 3, 4)),
    ((), (7,)),
    ((2, 1, 3, 2, 4), (2, 2, 1, 2, 4)),
    ((1, 2, 1, 3, 2, 4), (2, 2, 2, 1, 2, 4)),
    ((0, 3), (1, 3)),
]
UNSIGNED = [np.uint8, np.uint16, np.uint32]
BITS = [np.int8, np.int16, np.int32, *UNSIGNED]
ALL = [*BITS, np.int64]


def truncated(a, b):
    """The quotient towards zero, in Python's own integers."""
    quotient = np.abs(a.astype(object)) // np.abs(b.astype(object))
    return (quotient * np.where((a < 0) != (b < 0), -1, 1)).astype(object)


def wrapped(values, kind):
    bits = np.dtype(kind).itemsize * 8
    values = np.asarray(values, dtype=object) % 2**bits
    low = 2 ** (bits - 1) if np.issubdtype(kind, np.signedinteger) else 2**bits
    return np.where(values >= low, values - 2**bits, values).astype(kind)


def exact(function):
    """`function` of Python integers, wrapped to the type of the first operand."""
    return lambda a, b: wrapped(function(a.astype(object), b.astype(object)), a.dtype)


def shifted(direction):
    def shift(a, b):
        bits = a.dtype.itemsize * 8
        amount = np.minimum(b.astype(object), bits)
        return wrapped(a.astype(object) << amount if direction == "LEFT" else a.astype(object) >> amount, a.dtype)

    return shift


# op, attributes, types, numpy's formula, what the second operand is drawn from
PAIRS = [
    ("BitwiseAnd", {}, BITS, np.bitwise_and, "any"),
    ("BitwiseOr", {}, BITS, np.bitwise_or, "any"),
    ("BitwiseXor", {}, BITS, np.bitwise_xor, "any"),
    ("BitShift", {"direction": "LEFT"}, UNSIGNED, shifted("LEFT"), "amounts"),
    ("BitShift", {"direction": "RIGHT"}, UNSIGNED, shifted("RIGHT"), "amounts"),
    ("Add", {}, ALL, exact(lambda a, b: a + b), "any"),
    ("Sub", {}, ALL, exact(lambda a, b: a - b), "any"),
    ("Mul", {}, ALL, exact(lambda a, b: a * b), "any"),
    ("Div", {}, ALL, lambda a, b: wrapped(truncated(a, b), a.dtype), "divisors"),
    ("Mod", {}, ALL, exact(lambda a, b: a % b), "divisors"),
    ("Mod", {"fmod": 1}, ALL, exact(lambda a, b: a - truncated(a, b) * b), "divisors"),
    ("Max", {}, ALL, np.maximum, "any"),
    ("Min", {}, ALL, np.minimum, "any"),
    ("Equal", {}, ALL, np.equal, "any"),
    ("Less", {}, ALL, np.less, "any"),
    ("GreaterOrEqual", {}, ALL, np.greater_equal, "any"),
]
FLOATS = [
    ("Atan2 of Asin", "Asin", np.arcsin, (-1.0, 1.0)),
    ("Acos", "Acos", np.arccos, (-1.0, 1.0)),
    ("Atan", "Atan", np.arctan, (-9.0, 9.0)),
    ("Sinh", "Sinh", np.sinh, (-9.0, 9.0)),
    ("Cosh", "Cosh", np.cosh, (-9.0, 9.0)),
    ("Asinh", "Asinh", np.arcsinh, (-9.0, 9.0)),
    ("Acosh", "Acosh", np.arccosh, (1.0, 9.0)),
    ("Atanh", "Atanh", np.arctanh, (-0.99, 0.99)),
    ("Tan", "Tan", np.tan, (-1.5, 1.5)),
]
# op, types in which the conversion is refused: words of the reason
REFUSED = {}


def drawn(kind, shape, random, what="any"):
    limits = np.iinfo(kind)
    bits = limits.bits
    if what == "amounts":
        return random.choice([0, 1, 2, bits // 2, bits - 1, bits, bits + 1, 100], shape).astype(kind)
    spread = random.integers(limits.min, limits.max, shape, dtype=kind, endpoint=True)
    ends = random.choice(np.array([limits.min, limits.min + 1, 0, 1, 2, 3, 7, limits.max - 1, limits.max], dtype=kind), shape)
    values = np.where(random.random(shape) < 0.5, spread, ends).astype(kind)
    if what == "divisors":
        # min / -1 overflows
        values = np.where((values == 0) | (values.astype(object) == -1), kind(3), values).astype(kind)
    return values


def build(op, attributes, operands, out, constants=()):
    names = ["x", "y", "z"][: len(operands)]
    ports = [helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape) for n, a in zip(names, operands) if n not in constants]
    held = [onnx.numpy_helper.from_array(a, n) for n, a in zip(names, operands) if n in constants]
    result = helper.make_tensor_value_info("result", helper.np_dtype_to_tensor_dtype(out), None)
    graph = helper.make_graph([helper.make_node(op, names, ["result"], **attributes)], "case", ports, [result], held)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def cases():
    """Name, model, inputs, expected."""
    random = np.random.default_rng(7)
    for op, attributes, kinds, formula, second in PAIRS:
        for kind in kinds:
            for left, right in SHAPES:
                a, b = drawn(kind, left, random), drawn(kind, right, random, second)
                with np.errstate(all="ignore"):
                    expected = np.asarray(formula(a, b))
                name = " ".join([op, *map(str, attributes.values()), np.dtype(kind).name, f"{list(left)} {list(right)}"])
                yield name, build(op, attributes, [a, b], expected.dtype), {"x": a, "y": b}, expected
            a, b = drawn(kind, (6, 5), random), drawn(kind, (5,), random, second)
            expected = np.asarray(formula(a, b))
            name = " ".join([op, *map(str, attributes.values()), np.dtype(kind).name, "by a constant"])
            yield name, build(op, attributes, [a, b], expected.dtype, ["y"]), {"x": a}, expected
    for kind in ALL:
        a = drawn(kind, (6, 5), random)
        if kind is not np.int64:
            yield f"BitwiseNot {np.dtype(kind).name}", build("BitwiseNot", {}, [a], a.dtype), {"x": a}, ~a
        yield f"Transpose {np.dtype(kind).name}", build("Transpose", {}, [a], a.dtype), {"x": a}, a.T
    for exponent in [1, 2, 3, 7]:
        a = random.integers(-9, 9, (4, 5))
        yield f"Pow int64 {exponent}", build("Pow", {}, [a, np.array(exponent)], a.dtype, ["y"]), {"x": a}, a**exponent
    for kind in [np.int32, np.int64, np.uint32]:
        a, b = random.random((4, 5)).astype(np.float32) * 3, random.integers(0, 9, (5,)).astype(kind)
        yield f"Pow float32 {np.dtype(kind).name}", build("Pow", {}, [a, b], a.dtype), {"x": a, "y": b}, a ** b.astype(np.float32)
    a, b = (random.random((1, 5)).astype(np.float32) - 0.5) * 9, (random.random((4, 5)).astype(np.float32) + 0.5)
    yield "Mod float32 of a broadcast dividend", build("Mod", {"fmod": 1}, [a, b], a.dtype), {"x": a, "y": b}, np.fmod(a, b)
    for name, op, formula, (low, high) in FLOATS:
        for shape in [(), (3, 50), (2, 3, 2, 2, 5), (0, 4)]:
            a = (low + (high - low) * random.random(shape)).astype(np.float32)
            yield f"{name} {list(shape)}", build(op, {}, [a], a.dtype), {"x": a}, formula(a.astype(np.float64)).astype(np.float32)
        a = np.float32([0, -0.0, 1, -1, np.nextafter(np.float32(1), 0), -1 + 1e-6, 1e-3, 1e-20, 2, -2, np.inf, -np.inf, np.nan])
        if op in ("Asin", "Acos", "Atan"):
            with np.errstate(all="ignore"):
                yield f"{name} at the ends", build(op, {}, [a], a.dtype), {"x": a}, formula(a.astype(np.float64)).astype(np.float32)


def difference(got, expected):
    if got.shape != expected.shape or got.dtype != expected.dtype:
        raise ValueError(f"{got.dtype} {got.shape} instead of {expected.dtype} {expected.shape}")
    if expected.dtype != np.float32:
        return float(np.count_nonzero(got != expected))
    if not np.array_equal(np.isnan(got), np.isnan(expected)):
        raise ValueError("NaN in other places")
    finite = np.isfinite(expected)
    if not finite.any():
        return 0.0
    return float(np.abs(got[finite].astype(np.float64) - expected[finite]).max() / max(np.abs(expected[finite]).max(), 1e-30))


def main():
    report = Report("ONNX elementwise ops")
    mlctl, litert = Mlctl(sys.argv[1]), LitertProcess()
    wanted = sys.argv[2] if len(sys.argv) > 2 else ""
    with tempfile.TemporaryDirectory() as folder:
        model, tflite = Path(folder) / "case.onnx", Path(folder) / "case.tflite"
        for name, proto, inputs, expected in cases():
            if wanted not in name:
                continue
            onnx.save(proto, model)
            try:
                mlctl.run("convert", model, "-o", tflite, "-q", cwd=folder)
            except RuntimeError as error:
                report.check(name, lambda: str(error), equal("converted"))
                continue
            for xnnpack in [False, True]:
                kernels = ", XNNPACK" if xnnpack else ""
                report.check(name + kernels, lambda: difference(litert.outputs(tflite, inputs, xnnpack)["result"], expected), at_most(TOLERANCE))
    litert.stop()
    return report.finish()


if __name__ == "__main__":
    raise SystemExit(main())
