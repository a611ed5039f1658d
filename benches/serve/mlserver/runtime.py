"""A model for MLServer that runs an ONNX file with onnxruntime, on one thread."""

import onnxruntime
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceResponse


class OnnxModel(MLModel):
    async def load(self):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(self.settings.parameters.uri, options, providers=["CPUExecutionProvider"])
        return True

    async def predict(self, payload):
        given = NumpyCodec.decode_input(payload.inputs[0])
        name = self.session.get_inputs()[0].name
        (scores,) = self.session.run(None, {name: given.astype("float32", copy=False)})
        outputs = [NumpyCodec.encode_output(self.session.get_outputs()[0].name, scores)]
        return InferenceResponse(model_name=self.name, outputs=outputs)
