"""Three tables of 600 MB that are looked up and a product of 600 MB, from an ONNX file with external data.

    "$(tests/peers/venv.sh)" tests/long/big_model.py target/release/mlctl

The expected values are computed from the few rows and columns that a run reads. The tables are zero, and holes in
their file, but for those.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "interop"))
from litert_process import LitertProcess  # noqa: E402
from report import Report, at_most, between, equal  # noqa: E402
from tensorflow_peer import NoTensorflow, TensorflowServer, python  # noqa: E402

ROWS, WIDTH, TABLES = 2_400_000, 64, 3
COLUMNS = ROWS
READ = [0, 1, 1_234_567, ROWS - 2, ROWS - 1]
DISK = 10 << 30
# Resident, the pages of mapped files that the system may take back included: what runs a model holds its weights once, and
# the original and the copy run one after the other. A model that is only looked at stays in its file.
RUN_MB, INSPECT_MB = 4_000, 300


def row(table, place):
    """Values that float16 holds exactly."""
    return ((np.arange(WIDTH) * (table + 3) + place) % 17 - 8).astype(np.float32) / 8


def column(place):
    return ((np.arange(WIDTH) * 5 + place) % 13 - 6).astype(np.float32) / 16


def write_onnx(path):
    data = path.with_suffix(".bin")
    size = ROWS * WIDTH * 4
    with open(data, "wb") as file:
        file.truncate((TABLES + 1) * size)
        for table in range(TABLES):
            for place in READ:
                file.seek(table * size + place * WIDTH * 4)
                file.write(row(table, place).tobytes())
        for place in READ:
            for inner, value in enumerate(column(place)):
                file.seek(TABLES * size + (inner * COLUMNS + place) * 4)
                file.write(value.tobytes())

    def constant(name, number, dims):
        tensor = onnx.TensorProto(name=name, data_type=TensorProto.FLOAT, dims=dims, data_location=TensorProto.EXTERNAL)
        for key, value in {"location": data.name, "offset": number * size, "length": size}.items():
            tensor.external_data.add(key=key, value=str(value))
        return tensor

    constants = [constant(f"table{i}", i, [ROWS, WIDTH]) for i in range(TABLES)]
    constants.append(constant("product", TABLES, [WIDTH, COLUMNS]))
    nodes = [helper.make_node("Gather", [f"table{i}", "ids"], [f"row{i}"], axis=0) for i in range(TABLES)]
    nodes.append(helper.make_node("Sum", [f"row{i}" for i in range(TABLES)], ["hidden"]))
    nodes.append(helper.make_node("MatMul", ["hidden", "product"], ["scores"]))
    ports = [helper.make_tensor_value_info("ids", TensorProto.INT32, ["N"])]
    results = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["N", d]) for n, d in [("hidden", WIDTH), ("scores", COLUMNS)]]
    graph = helper.make_graph(nodes, "big", ports, results, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString())


def expected(ids):
    hidden = np.stack([sum(row(table, place) for table in range(TABLES)) for place in ids])
    scores = np.zeros((len(ids), COLUMNS), np.float32)
    for place in READ:
        scores[:, place] = hidden @ column(place)
    return hidden, scores


def run(folder, *arguments):
    """What the command prints, its seconds, and its largest resident memory in MB."""
    started = time.monotonic()
    process = subprocess.Popen([str(a) for a in arguments], cwd=folder, stdout=subprocess.PIPE, text=True)
    said = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise RuntimeError(f"{arguments[1:3]} ended with {status}")
    return said, time.monotonic() - started, usage.ru_maxrss / 1024


def difference(got, wanted):
    return max(float(np.abs(got[name] - values).max()) for name, values in zip(["hidden", "scores"], wanted))


def check_file(report, mlctl, folder, model, scheme, size):
    ids = np.int32(READ[1:4])
    wanted = expected(ids)
    file, arrays = folder / f"{scheme}.tflite", folder / "out.npz"
    np.save(folder / "ids.npy", ids)
    flags = ["--quantize", "f16"] if scheme == "f16" else []
    said, seconds, memory = run(folder, mlctl, "convert", model, "-o", file, "--data", "ids.npy", "--json", *flags)
    print(f"      convert to {scheme}: {seconds:.0f} s, {memory:,.0f} MB, {file.stat().st_size / 1e9:.2f} GB")
    checked = json.loads(said)["verification"]
    report.check(f"{scheme}: convert checks it", lambda: [checked["holds"], checked["inputs"]], equal([True, "ids.npy"]))
    report.check(f"{scheme}: bytes", file.stat().st_size.__int__, between(size, size + (1 << 20)))
    report.check(f"{scheme}: memory of convert", lambda: memory, at_most(RUN_MB))
    said, seconds, memory = run(folder, mlctl, "inspect", file, "--json")
    report.check(f"{scheme}: inspect counts the constants", lambda: json.loads(said)["parameters"], between((TABLES + 1) * ROWS * WIDTH, (TABLES + 1) * ROWS * WIDTH + COLUMNS + 100))
    report.check(f"{scheme}: memory of inspect", lambda: memory, at_most(INSPECT_MB))
    _, seconds, memory = run(folder, mlctl, "predict", "-m", file, "ids.npy", "-o", arrays, "-q")
    print(f"      predict of {scheme}: {seconds:.0f} s, {memory:,.0f} MB")
    with np.load(arrays) as got:
        report.check(f"{scheme}: predict", lambda: difference(got, wanted), at_most(1e-5))
    report.check(f"{scheme}: memory of predict", lambda: memory, at_most(RUN_MB))
    # a process of its own: what one takes before it becomes mlctl would count as mlctl's
    litert = LitertProcess(seconds=120)
    for xnnpack in (False, True):
        report.check(f"{scheme}: LiteRT, XNNPACK {xnnpack}", lambda: difference(litert.outputs(file, {"ids": ids}, xnnpack), wanted), at_most(1e-5))
    litert.stop()
    return file


def check_saved_model(report, mlctl, folder, model, size):
    """The weights lie in the variables' file: saved_model.pb itself could not hold them."""
    ids = np.int32(READ[1:4])
    wanted = expected(ids)
    saved, arrays = folder / "saved", folder / "saved.npz"
    np.save(folder / "ids.npy", ids)
    _, seconds, memory = run(folder, mlctl, "convert", model, "--to", "saved-model", "-o", saved, "--data", "ids.npy", "--json")
    print(f"      convert to saved-model: {seconds:.0f} s, {memory:,.0f} MB")
    report.check("saved-model: memory of convert", lambda: memory, at_most(RUN_MB))
    report.check("saved-model: bytes of the graph", (saved / "saved_model.pb").stat().st_size.__int__, at_most(1 << 20))
    report.check("saved-model: bytes of the variables", (saved / "variables/variables.data-00000-of-00001").stat().st_size.__int__, between(size - COLUMNS * 4, size + (1 << 20)))
    _, seconds, memory = run(folder, mlctl, "predict", "-m", saved, "ids.npy", "-o", arrays, "-q")
    print(f"      predict of saved-model: {seconds:.0f} s, {memory:,.0f} MB")
    with np.load(arrays) as got:
        report.check("saved-model: predict", lambda: difference(got, wanted), at_most(1e-5))
    # TensorFlow has the product's weights the other way round: they are turned in memory
    report.check("saved-model: memory of predict", lambda: memory, at_most(RUN_MB + ROWS * WIDTH * 4 / 1e6))
    try:
        interpreter = python()
    except NoTensorflow as reason:
        print(f"      not checked in TensorFlow: {reason}")
    else:
        server = TensorflowServer(interpreter, folder, seconds=300)
        report.check("saved-model: TensorFlow", lambda: difference(server.outputs(saved, {"ids": ids}), wanted), at_most(1e-5))
        server.stop()
    shutil.rmtree(saved)


def main():
    report = Report("a model of more than 2 GB")
    mlctl = Path(sys.argv[1]).resolve()
    with tempfile.TemporaryDirectory(prefix="mlctl-big-") as name:
        folder = Path(name)
        if shutil.disk_usage(folder).free < DISK:
            print(f"{folder} has less than {DISK >> 30} GB free")
            return 75
        model = folder / "big.onnx"
        write_onnx(model)
        # the tables, the product and its bias of zeros
        size = ((TABLES + 1) * ROWS * WIDTH + COLUMNS) * 4
        check_saved_model(report, mlctl, folder, model, size)
        float32 = check_file(report, mlctl, folder, model, "float32", size)
        narrow = check_file(report, mlctl, folder, model, "f16", size // 2)
        # what lies past 2 GB is read again
        again = folder / "again.tflite"
        run(folder, mlctl, "convert", float32, "-o", again, "--data", "ids.npy", "--json", "--quantize", "f16")
        report.check("f16 from the .tflite: bytes", again.stat().st_size.__int__, between(size // 2, size // 2 + (1 << 20)))
        narrow.unlink()
    return report.finish()


if __name__ == "__main__":
    raise SystemExit(main())
