"""The job of `mlctl predict IMAGE` by onnxruntime: python onnxruntime_predict.py MODEL.onnx IMAGE"""

import sys

import numpy as np
import onnxruntime
from PIL import Image

pixels = np.asarray(Image.open(sys.argv[2]).convert("L"), np.float32)[None, :, :, None] / 255
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
probabilities = session.run(None, {session.get_inputs()[0].name: pixels})[0][0]
for digit in probabilities.argsort()[::-1][:3]:
    print(digit, f"{probabilities[digit]:.4f}")
