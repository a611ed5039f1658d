"""The MNIST test digits, read from fixtures/mnist without any of mlctl's code."""

import gzip
from functools import cache
from pathlib import Path

import numpy as np

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures"


@cache
def test_images():
    """float32 [10000,28,28,1] in 0..1, scaled as Keras users do: pixels / 255."""
    with gzip.open(FIXTURES / "mnist/t10k-images-idx3-ubyte.gz") as f:
        pixels = np.frombuffer(f.read(), np.uint8, offset=16)
    return pixels.reshape(10_000, 28, 28, 1).astype(np.float32) / np.float32(255)


@cache
def test_labels():
    with gzip.open(FIXTURES / "mnist/t10k-labels-idx1-ubyte.gz") as f:
        return np.frombuffer(f.read(), np.uint8, offset=8)
