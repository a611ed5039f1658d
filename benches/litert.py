"""Two .tflite files of each net in LiteRT (XNNPACK), run in turns in one process: how long ours takes of theirs.

    python3 benches/litert.py [--pairs N] NET OURS.tflite THEIRS.tflite [NET OURS THEIRS]…

Each pair runs both files once, in an order that alternates; the ratios are medians over all pairs of the two times of one pair, so
other work on the machine meets both alike. The input is the same picture, moved to the layout of each file; `apart` is how far
their outputs are, relative to the largest. CPU time is that of the whole process, XNNPACK's threads included.
"""

import argparse
import os
import statistics
import sys
import time
from collections import Counter
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path[:0] = [str(Path(__file__).resolve().parents[1] / "tests/interop"), str(Path(__file__).resolve().parent)]

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from measure import machine
from peers import TfliteFile, silent_stderr


class File:
    def __init__(self, path, threads):
        with silent_stderr():
            self.interpreter = Interpreter(model_path=str(path), num_threads=threads)
            (self.given,) = self.interpreter.get_input_details()
            shape = [1, *map(int, self.given["shape"][1:])]
            if self.given["shape_signature"][0] == -1:
                self.interpreter.resize_tensor_input(self.given["index"], shape)
            self.interpreter.allocate_tensors()
        self.shape = shape

    def feed(self, picture):
        """A picture [1, height, width, channels], moved to what the file takes."""
        if self.shape != list(picture.shape):
            picture = picture.transpose(0, 3, 1, 2)
        self.interpreter.set_tensor(self.given["index"], np.ascontiguousarray(picture))

    def run(self):
        """Wall and CPU seconds of one run."""
        wall, cpu = time.perf_counter(), time.process_time()
        self.interpreter.invoke()
        return time.perf_counter() - wall, time.process_time() - cpu

    def output(self):
        return self.interpreter.get_tensor(self.interpreter.get_output_details()[0]["index"]).copy()


def difference(ours, theirs):
    """Of the outputs for one picture, relative to the largest."""
    side = sorted(ours.shape[1:])[-1]
    picture = np.random.default_rng(1).random((1, side, side, 3), np.float32)
    for file in (ours, theirs):
        file.feed(picture)
        file.run()
    a, b = ours.output().ravel(), theirs.output().ravel()
    return np.abs(a - b).max() / np.abs(b).max()


def time_pairs(files, pairs):
    """Wall and CPU seconds: (pairs, 2 files, 2)."""
    for file in files * 3:
        file.run()
    taken = []
    for number in range(pairs):
        order = (0, 1) if number % 2 == 0 else (1, 0)
        figures = {which: files[which].run() for which in order}
        taken.append([figures[0], figures[1]])
    return np.array(taken)


def ops(path):
    counts = Counter(TfliteFile(path).operators())
    return ", ".join(f"{count} {op}" for op, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--pairs", type=int, default=60)
    arguments.add_argument("files", nargs="+", metavar="NET OURS THEIRS")
    given = arguments.parse_args()
    if len(given.files) % 3:
        arguments.error("want NET OURS THEIRS")
    nets = [(given.files[i], Path(given.files[i + 1]), Path(given.files[i + 2])) for i in range(0, len(given.files), 3)]

    print(f"{machine()}; medians of {given.pairs} pairs\n")
    print("| net | threads | ours CPU ms | theirs CPU ms | CPU ratio | wall ratio | apart | input | ours MB | theirs MB | ours ops | theirs ops |")
    print("|---|---|---|---|---|---|---|---|---|---|---|---|", flush=True)
    for name, ours, theirs in nets:
        sizes = [path.stat().st_size / 1e6 for path in (ours, theirs)]
        counts = [len(TfliteFile(path).operators()) for path in (ours, theirs)]
        for threads in (1, 2):
            files = [File(path, threads) for path in (ours, theirs)]
            apart = difference(*files)
            taken = time_pairs(files, given.pairs)
            wall, cpu = (statistics.median(taken[:, 0, which] / taken[:, 1, which]) for which in (0, 1))
            ms = [statistics.median(taken[:, which, 1]) * 1e3 for which in (0, 1)]
            layout = "the same" if files[0].shape == files[1].shape else f"{files[0].shape} / {files[1].shape}"
            figures = f"{ms[0]:.1f} | {ms[1]:.1f} | {cpu:.3f} | {wall:.3f} | {apart:.0e} | {layout} | {sizes[0]:.2f} | {sizes[1]:.2f} | {counts[0]} | {counts[1]}"
            print(f"| {name} | {threads} | {figures} |", flush=True)
    print()
    for name, ours, theirs in nets:
        print(f"{name}: ours {ops(ours)}\n{name}: theirs {ops(theirs)}")


if __name__ == "__main__":
    main()
