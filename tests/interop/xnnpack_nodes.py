"""Which nodes of a file LiteRT's XNNPACK delegate takes."""

from collections import Counter

import numpy as np
from peers import Interpreter, silent_stderr


def left_on_bytes(path):
    """How often each op with 8-bit values is left to LiteRT's own kernels: {name: count}."""
    with silent_stderr():
        interpreter = Interpreter(model_path=str(path), num_threads=1)
        interpreter.allocate_tensors()
        nodes = interpreter._get_ops_details()
        types = {tensor["index"]: np.dtype(tensor["dtype"]) for tensor in interpreter.get_tensor_details()}
    made_by = {tensor: node["index"] for node in nodes if node["op_name"] != "DELEGATE" for tensor in node["outputs"]}
    taken = set()
    for delegate in (node for node in nodes if node["op_name"] == "DELEGATE"):
        given, wanted = set(delegate["inputs"]), list(delegate["outputs"])
        while wanted:
            node = made_by.get(wanted.pop())
            if node is not None and node not in taken:
                taken.add(node)
                wanted += [tensor for tensor in nodes[node]["inputs"] if tensor not in given]
    left = (node for node in nodes if node["op_name"] != "DELEGATE" and node["index"] not in taken)
    ends = lambda node: [*node["inputs"], *node["outputs"]]
    return Counter(node["op_name"] for node in left if any(types.get(tensor) in (np.int8, np.uint8) for tensor in ends(node)))
