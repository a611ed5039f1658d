"""onnx2tf of one net: python onnx2tf_convert.py MODEL.onnx FOLDER

onnx2tf looks for mistakes in its own layout with 20 pictures that it fetches from GitHub; here they are seeded noise. It writes
the model that it has simplified over its input, so it gets a copy.
"""

import os
import shutil
import sys
from pathlib import Path

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["CUDA_VISIBLE_DEVICES"] = ""

import numpy as np
import onnx2tf.onnx2tf

model, folder = Path(sys.argv[1]), Path(sys.argv[2])
folder.mkdir(parents=True, exist_ok=True)
copy = shutil.copy(model, folder / model.name)
pictures = np.random.default_rng(0).random((20, 128, 128, 3), np.float32)
onnx2tf.onnx2tf.download_test_image_data = lambda: pictures
onnx2tf.onnx2tf.convert(input_onnx_file_path=str(copy), output_folder_path=str(folder), batch_size=1, non_verbose=True)
