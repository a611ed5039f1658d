"""The inputs that fuzzing starts from: python fuzz/seeds.py MLCTL FOLDER

Writes FOLDER/onnx (the models of the ONNX backend node tests, with their parameters as inputs and as constants, and the fixtures)
and FOLDER/tflite (what mlctl makes of them, and the ops on integers of tests/quantized_ops.rs). Files over 24 kB are left out.
"""

import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "tests/interop"))

from check_quantized_ops import write_fixtures  # noqa: E402
from onnx_node_tests import cases, older_model, parameter_inputs, with_constants  # noqa: E402

LARGEST = 24_000
OPSET, IR = 26, 13


def models():
    for case in cases():
        for mark, model in [("", case.model), ("-constants", with_constants(case, names)[0] if (names := parameter_inputs(case.model)) else None)]:
            if model is None:
                continue
            if any(i.domain == "" and i.version > OPSET for i in model.opset_import) or model.ir_version > IR:
                model = older_model(model, OPSET, IR) or model
            yield case.name.removeprefix("test_") + mark, model.SerializeToString()
    for path in sorted(path for folder in ("bad", "fuzz", "training_reference") for path in ROOT.glob(f"fixtures/{folder}/*.onnx")):
        yield path.stem, path.read_bytes()


def main():
    mlctl, folder = Path(sys.argv[1]).resolve(), Path(sys.argv[2])
    for name in ("onnx", "tflite"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    paths = []
    for name, data in models():
        if 0 < len(data) <= LARGEST:
            paths.append(folder / "onnx" / f"{name}.onnx")
            paths[-1].write_bytes(data)

    def convert(path):
        out = folder / "tflite" / f"{path.stem}.tflite"
        subprocess.run([mlctl, "convert", path, "-o", out, "-q", "--no-verify"], stdin=subprocess.DEVNULL, capture_output=True, timeout=120)
        if out.exists() and out.stat().st_size > LARGEST:
            out.unlink()

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(convert, paths))
    with tempfile.TemporaryDirectory() as made:
        for path in write_fixtures(Path(made)):
            if path.stat().st_size <= LARGEST:
                shutil.copy(path, folder / "tflite" / f"integers_{path.name}")
    for name in ("onnx", "tflite"):
        print(f"{len(list((folder / name).iterdir()))} {name}")


if __name__ == "__main__":
    main()
