"""The job of `mlctl train` as a Keras user writes it: train, validate, test, save.

    python keras_mnist.py [--epochs N] [--saved-model DIR]
"""

import argparse
import gzip
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["KERAS_BACKEND"] = "tensorflow"
import keras
import numpy as np

MNIST = Path(__file__).resolve().parents[2] / "fixtures/mnist"


def read_digits(part):
    with gzip.open(MNIST / f"{part}-images-idx3-ubyte.gz") as f:
        images = np.frombuffer(f.read(), np.uint8, offset=16).reshape(-1, 28, 28, 1)
    with gzip.open(MNIST / f"{part}-labels-idx1-ubyte.gz") as f:
        labels = np.frombuffer(f.read(), np.uint8, offset=8)
    return images / np.float32(255), labels


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--epochs", type=int, default=3)
    arguments.add_argument("--saved-model", default="saved_model")
    given = arguments.parse_args()

    images, labels = read_digits("train")
    test_images, test_labels = read_digits("t10k")
    model = keras.Sequential([
        keras.Input((28, 28, 1), name="input"),
        keras.layers.Flatten(),
        keras.layers.Dense(100, activation="relu"),
        keras.layers.Dense(10, activation="softmax"),
    ])
    model.compile(optimizer=keras.optimizers.SGD(0.01), loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(
        images[5000:], labels[5000:], batch_size=32, epochs=given.epochs,
        validation_data=(images[:5000], labels[:5000]), verbose=2,
    )
    loss, accuracy = model.evaluate(test_images, test_labels, verbose=0)
    print(f"test loss {loss:.4f}, accuracy {accuracy:.4f}")
    model.export(given.saved_model, verbose=False)


if __name__ == "__main__":
    main()
