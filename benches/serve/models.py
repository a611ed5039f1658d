"""Makes the models that benches/serve.sh serves, as ONNX files of any batch size.

    models.py mlp FILE               784-300-100-10 with made-up weights
    models.py open_batch FROM FILE   FROM, whose batch size is 1
"""

import sys

import numpy
import onnx
from onnx import TensorProto, helper, numpy_helper

SIZES = [784, 300, 100, 10]


def mlp():
    random = numpy.random.default_rng(1)
    nodes, weights, last = [], [], "x"
    for layer, (size, width) in enumerate(zip(SIZES, SIZES[1:])):
        kernel = random.normal(0, size**-0.5, (size, width)).astype(numpy.float32)
        bias = numpy.zeros(width, numpy.float32)
        weights += [numpy_helper.from_array(kernel, f"kernel{layer}"), numpy_helper.from_array(bias, f"bias{layer}")]
        nodes.append(helper.make_node("Gemm", [last, f"kernel{layer}", f"bias{layer}"], [f"dense{layer}"]))
        nodes.append(helper.make_node("Softmax" if width == SIZES[-1] else "Relu", [f"dense{layer}"], [f"out{layer}"]))
        last = f"out{layer}"
    nodes[-1].output[0] = "y"
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", size]) for name, size in (("x", SIZES[0]), ("y", SIZES[-1]))]
    graph = helper.make_graph(nodes, "mlp", ends[:1], ends[1:], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def open_batch(path):
    model = onnx.load(path)
    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Reshape":
            shape = constants[node.input[1]]
            sizes = numpy_helper.to_array(shape).copy()
            sizes[0] = 0  # as the input has it
            shape.CopyFrom(numpy_helper.from_array(sizes, shape.name))
    ends = [end for end in (*graph.input, *graph.output) if end.name not in constants]
    for end in ends:
        end.type.tensor_type.shape.dim[0].dim_param = "N"
    del graph.value_info[:]
    return model


def main():
    command, *paths = sys.argv[1:]
    model = mlp() if command == "mlp" else open_batch(paths[0])
    onnx.checker.check_model(model)
    onnx.save(model, paths[-1])


if __name__ == "__main__":
    main()
