"""The job of `mlctl predict IMAGE` by LiteRT: python litert_predict.py MODEL.tflite IMAGE"""

import sys

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from PIL import Image

pixels = np.asarray(Image.open(sys.argv[2]).convert("L"), np.float32)[None, :, :, None] / 255
interpreter = Interpreter(model_path=sys.argv[1])
interpreter.allocate_tensors()
interpreter.set_tensor(interpreter.get_input_details()[0]["index"], pixels)
interpreter.invoke()
probabilities = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])[0]
for digit in probabilities.argsort()[::-1][:3]:
    print(digit, f"{probabilities[digit]:.4f}")
