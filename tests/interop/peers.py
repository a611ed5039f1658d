"""Runs models in onnxruntime and LiteRT, and opens .tflite files with LiteRT's own schema."""

import contextlib
import os

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import onnxruntime
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType


@contextlib.contextmanager
def silent_stderr():
    """LiteRT's C++ code logs to file descriptor 2 whatever the settings."""
    kept = os.dup(2)
    with open(os.devnull, "wb") as sink:
        os.dup2(sink.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def onnx_outputs(path, images):
    """The first output of an ONNX model whose one input is `images`."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: images})[0]


REFERENCE = "reference"
KERNELS = {True: OpResolverType.AUTO, False: OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES, REFERENCE: OpResolverType.BUILTIN_REF}


def litert_interpreter(path, xnnpack=True):
    """With XNNPACK, without, or on the REFERENCE kernels."""
    resolver = KERNELS[xnnpack]
    with silent_stderr():
        return Interpreter(model_path=str(path), num_threads=1, experimental_op_resolver_type=resolver)


def litert_outputs(path, images, xnnpack=True):
    """The first output of a .tflite, its input resized to all of `images` at once."""
    interpreter = litert_interpreter(path, xnnpack)
    (given,) = interpreter.get_input_details()
    with silent_stderr():
        interpreter.resize_tensor_input(given["index"], images.shape)
        interpreter.allocate_tensors()
    interpreter.set_tensor(given["index"], images)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])


def litert_signature_outputs(path, images):
    """The same through `serving_default`, by the names input and probabilities."""
    with silent_stderr():
        runner = litert_interpreter(path).get_signature_runner("serving_default")
        return runner(input=images)["probabilities"]


class TfliteFile:
    """A .tflite as LiteRT's generated schema sees it."""

    def __init__(self, path):
        self.bytes = path.read_bytes()
        self.root = schema.Model.GetRootAs(self.bytes, 0)
        self.model = schema.ModelT.InitFromObj(self.root)

    def buffer_starts(self):
        """File offset of each buffer that holds data inside the flatbuffer, by buffer number."""
        starts = {}
        for number in range(self.root.BuffersLength()):
            table = self.root.Buffers(number)._tab
            field = table.Offset(4)
            if field and table.VectorLen(field):
                starts[number] = table.Vector(field)
        return starts

    def unused_buffers(self):
        used = {0} | {m.buffer for m in self.model.metadata or []}
        used |= {tensor.buffer for subgraph in self.model.subgraphs for tensor in subgraph.tensors}
        return sorted(set(range(len(self.model.buffers))) - used)

    def metadata(self):
        return {m.name.decode(): bytes(np.asarray(self.model.buffers[m.buffer].data, np.uint8)) for m in self.model.metadata or []}

    def operators(self):
        """The op names of the first subgraph, in order."""
        names = {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}
        codes = self.model.operatorCodes
        return [names[codes[op.opcodeIndex].builtinCode] for op in self.model.subgraphs[0].operators]

    def float_constants(self):
        """Every float32 or float16 tensor of the first subgraph that has data."""
        kinds = {schema.TensorType.FLOAT32: np.float32, schema.TensorType.FLOAT16: np.float16}
        constants = []
        for tensor in self.model.subgraphs[0].tensors:
            data = self.model.buffers[tensor.buffer].data
            if data is not None and len(data) and tensor.type in kinds:
                constants.append(np.asarray(data, np.uint8).view(kinds[tensor.type]).reshape(tensor.shape))
        return constants

    def old_and_new_codes(self):
        return [(code.deprecatedBuiltinCode, code.builtinCode) for code in self.model.operatorCodes]
