"""The job of `mlctl convert --quantize f16` by TFLiteConverter: python tflite_convert.py SAVED_MODEL OUT [f32]"""

import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import tensorflow as tf

converter = tf.lite.TFLiteConverter.from_saved_model(sys.argv[1])
if sys.argv[3:] != ["f32"]:
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.target_spec.supported_types = [tf.float16]
Path(sys.argv[2]).write_bytes(converter.convert())
