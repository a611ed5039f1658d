"""One-op ONNX models that mlctl refuses: each error names the node or its op, says why, and what would do.

    "$(tests/peers/venv.sh)" tests/interop/check_refusals.py target/release/mlctl
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper
from report import Report
from ways_out import WAY_OUT

FLOAT, DOUBLE, HALF, INT64, INT8, UINT8 = (getattr(TensorProto, n) for n in "FLOAT DOUBLE FLOAT16 INT64 INT8 UINT8".split())
BOOL, STRING, INT32 = TensorProto.BOOL, TensorProto.STRING, TensorProto.INT32


def constant(name, values, kind=np.float32):
    return onnx.numpy_helper.from_array(np.asarray(values, dtype=kind), name)


def model(op, inputs, constants=(), outputs=("y",), kind=FLOAT, domain="", opset=21, **attributes):
    """`inputs`: name → (type, shape), in the op's order with the constants behind; a name in `order` overrides it."""
    order = attributes.pop("order", [*inputs, *[c.name for c in constants]])
    node = helper.make_node(op, order, list(outputs), name="the_node", domain=domain, **attributes)
    ports = [helper.make_tensor_value_info(name, t, shape) for name, (t, shape) in inputs.items()]
    kinds = kind if isinstance(kind, list) else [kind] * len(outputs)
    results = [helper.make_tensor_value_info(name, t, None) for name, t in zip(outputs, kinds)]
    graph = helper.make_graph([node], "one_op", ports, results, list(constants))
    domains = [helper.make_opsetid("", opset)] + ([helper.make_opsetid(domain, 1)] if domain else [])
    return helper.make_model(graph, opset_imports=domains, ir_version=9)


def cases():
    """Name, model, words of the reason and of the way out."""
    wide = {"x": (FLOAT, ("N", 3, "H", "W"))}
    yield "float64", model("Add", {"x": (DOUBLE, (4,)), "z": (DOUBLE, (4,))}, kind=DOUBLE), "float32"
    yield "strings", model("Cast", {"x": (FLOAT, (4,))}, kind=STRING, to=STRING), "outside the model"
    yield "power of computed int64", model("Pow", {"x": (INT64, (4,)), "z": (INT64, (4,))}, kind=INT64), "constant"
    yield "xor of int64", model("BitwiseXor", {"x": (INT64, (4,)), "z": (INT64, (4,))}, kind=INT64), "Cast"
    yield "resize of open sizes", model("Resize", wide, [constant("scales", [1, 1, 1.7, 1.7])], order=["x", "", "scales"], mode="cubic"), "--set"
    yield "resize by computed scales", model("Resize", {"x": (FLOAT, (1, 3, 8, 8)), "scales": (FLOAT, (4,))}, order=["x", "", "scales"], mode="linear"), "constant"
    yield "ceil_mode of open sizes", model("MaxPool", wide, kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1), "--set"
    yield "edge padding of open sizes", model("Pad", wide, [constant("pads", [0, 0, 1, 1, 0, 0, 1, 1], np.int64)], mode="edge"), "--set"
    yield "kernel larger than the picture", model("MaxPool", {"x": (FLOAT, (1, 2, 3, 3))}, kernel_shape=[5, 5]), "larger input size"
    yield "LRN of an even size", model("LRN", {"x": (FLOAT, (1, 8, 4, 4))}, size=4), "use 5"
    yield "padding of six axes", model("Pad", {"x": (FLOAT, (1, 2, 3, 2, 2, 2))}, [constant("pads", [1] * 12, np.int64)]), "Reshape"
    yield "computed weights of an LSTM", model("LSTM", {"x": (FLOAT, (3, 1, 4)), "w": (FLOAT, (1, 8, 4)), "r": (FLOAT, (1, 8, 2))}, hidden_size=2), "constant"
    yield "quantization", model("DynamicQuantizeLinear", {"x": (FLOAT, (4,))}, outputs=("y", "s", "p"), kind=[UINT8, FLOAT, UINT8]), "float model"
    yield "scales of blocks", model("DequantizeLinear", {"x": (UINT8, (4, 4))}, [constant("s", np.ones((2, 4)))], opset=21, axis=0, block_size=2), "per tensor"
    yield "no form", model("DFT", {"x": (FLOAT, (1, 8, 2))}, opset=19, axis=1), "simpler ops"
    yield "an op tract lacks", model("Det", {"x": (FLOAT, (3, 3))}), "simpler ops"
    yield "a custom op", model("Whiten", {"x": (FLOAT, (3, 3))}, domain="com.example"), "standard ONNX ops"
    batch_norm = [constant(name, [1, 1, 1]) for name in ("scale", "bias", "mean", "variance")]
    yield "training", model("BatchNormalization", {"x": (FLOAT, (2, 3, 4, 4))}, batch_norm, outputs=("y", "m", "v"), training_mode=1), "inference"
    dropout = [constant("ratio", 0.5), constant("training", True, np.bool_)]
    yield "training dropout", model("Dropout", {"x": (FLOAT, (2, 3))}, dropout), "inference"
    yield "random numbers", model("RandomNormalLike", {"x": (FLOAT, (2, 3))}), "export"
    yield "strings in", model("StringNormalizer", {"x": (STRING, (3,))}, kind=STRING), "end the model before it"
    yield "a newer opset", model("Relu", {"x": (FLOAT, (3,))}, opset=99), "export"
    yield "sequences", sequence(), "simpler ops"


def sequence():
    nodes = [helper.make_node("SplitToSequence", ["x"], ["s"], name="the_node", axis=0), helper.make_node("SequenceAt", ["s", "i"], ["y"])]
    ports = [helper.make_tensor_value_info("x", FLOAT, (3, 2)), helper.make_tensor_value_info("i", INT64, ())]
    graph = helper.make_graph(nodes, "sequence", ports, [helper.make_tensor_value_info("y", FLOAT, None)])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=9)


def contains(words):
    return f"a refusal with {words!r}", lambda said: words in said


def refusal(mlctl, source, target):
    done = subprocess.run([mlctl, "convert", source, "-o", target, "-q"], capture_output=True, text=True, cwd=source.parent)
    said = " ".join(done.stderr.split())
    if done.returncode != 1 or target.exists():
        return f"exits {done.returncode}: {said}"
    if not any(word in said for word in ["'the_node'", "'x'", "'y'", "opset 99"]):
        return f"names no node: {said}"
    if not WAY_OUT.search(said):
        return f"tells no way out: {said}"
    return said


def main():
    report = Report("refusals")
    mlctl = str(Path(sys.argv[1]).resolve())
    with tempfile.TemporaryDirectory() as folder:
        for number, (name, made, words) in enumerate(cases()):
            source = Path(folder) / f"{number}.onnx"
            source.write_bytes(made.SerializeToString())
            said = refusal(mlctl, source, source.with_suffix(".tflite"))
            if "-v" in sys.argv:
                print(f"{name}: {said}")
            report.check(name, lambda: said, contains(words))
    return report.finish()


if __name__ == "__main__":
    raise SystemExit(main())
