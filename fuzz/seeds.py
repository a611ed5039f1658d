"""The inputs that fuzzing starts from: python fuzz/seeds.py MLCTL FOLDER [TARGET...]

Writes FOLDER/onnx (the models of the ONNX backend node tests, with their parameters as inputs and as constants, and the fixtures)
and FOLDER/tflite (what mlctl makes of them, and the ops on integers of tests/quantized_ops.rs), FOLDER/graphdef (their SavedModels' graphs,
frozen) and FOLDER/bundle (variables: the index behind its length, then the data); FOLDER/predict, FOLDER/infer and FOLDER/config are those of
fixtures/fuzz. Files over 24 kB are left out. Models, which take minutes, are made where a TARGET wants one.
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

MODELS = ("onnx", "tflite", "graphdef", "bundle")
REQUESTS = ("predict", "infer", "config")
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


def write_bundle(model, out):
    index, data = model / "variables/variables.index", model / "variables/variables.data-00000-of-00001"
    if index.exists() and index.stat().st_size + data.stat().st_size <= LARGEST:
        out.write_bytes(index.stat().st_size.to_bytes(4, "little") + index.read_bytes() + data.read_bytes())


def write_models(mlctl, folder):
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

    def save(path):
        """Every third model: the graph with its constants, and the variables."""
        with tempfile.TemporaryDirectory() as work:
            for form, flags in [("frozen", ["--frozen"]), ("variables", [])]:
                saved = Path(work) / form
                command = [mlctl, "convert", path, "--to", "saved-model", "-o", saved, "-q", "--no-verify", *flags]
                subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=120)
            graph = Path(work) / "frozen/saved_model.pb"
            if graph.exists() and graph.stat().st_size <= LARGEST:
                shutil.copy(graph, folder / "graphdef" / f"{path.stem}.pb")
            write_bundle(Path(work) / "variables", folder / "bundle" / path.stem)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(convert, paths))
        list(pool.map(save, paths[::3]))
    for name in ("keras", "old"):
        write_bundle(ROOT / "fixtures/saved_models" / name, folder / "bundle" / f"tensorflow_{name}")
    shutil.copy(ROOT / "fixtures/saved_models/old/saved_model.pb", folder / "graphdef" / "tensorflow_old.pb")
    with tempfile.TemporaryDirectory() as made:
        for path in write_fixtures(Path(made)):
            if path.stat().st_size <= LARGEST:
                shutil.copy(path, folder / "tflite" / f"integers_{path.name}")


def main():
    mlctl, folder, *targets = Path(sys.argv[1]).resolve(), Path(sys.argv[2]), *sys.argv[3:]
    for name in MODELS + REQUESTS:
        (folder / name).mkdir(parents=True, exist_ok=True)
    for name in REQUESTS:
        for path in ROOT.glob(f"fixtures/fuzz/*.{name}"):
            shutil.copy(path, folder / name)
    if not targets or set(targets) & set(MODELS):
        write_models(mlctl, folder)
    for name in targets or MODELS + REQUESTS:
        print(f"{len(list((folder / name).iterdir()))} {name}")


if __name__ == "__main__":
    main()
