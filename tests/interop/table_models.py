"""The models `half` and `scores` of src/serve/README.md as ONNX, a version each, in folders of FOLDER.

    python table_models.py FOLDER
"""

import sys
from pathlib import Path

from onnx import TensorProto, checker, helper, save


def model(name, nodes, inputs, outputs, constants=()):
    graph = helper.make_graph(nodes, name, inputs, outputs, [helper.make_tensor(n, TensorProto.FLOAT, [], [v]) for n, v in constants])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    checker.check_model(made)
    return made


def port(name, *inner):
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", *inner])


def main():
    folder = Path(sys.argv[1])
    half = [helper.make_node("Mul", ["x", "a"], ["h"]), helper.make_node("Add", ["h", "b"], ["y"])]
    models = {
        "half": model("half", half, [port("x")], [port("y")], [("a", 0.5), ("b", 2.0)]),
        "scores": model("scores", [helper.make_node("Add", ["x", "x"], ["scores"])], [port("x", 3)], [port("scores", 3)]),
    }
    for name, made in models.items():
        (folder / name / "1").mkdir(parents=True)
        save(made, folder / name / "1" / "model.onnx")


if __name__ == "__main__":
    main()
