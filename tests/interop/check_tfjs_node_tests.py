"""Converts every ONNX backend node test to TensorFlow.js and holds what it computes in Node to the suite's outputs.

    "$(tests/peers/venv.sh)" tests/interop/check_tfjs_node_tests.py target/release/mlctl [OPTION]

    --only REGEX      the cases whose name matches (whole names: write .*conv.*)
    --list            every case that is refused, with the reason

A case is tried as it is and, where that is refused, with its parameters as constants. One that converts to a wrong answer
fails; a refusal does not. Exit 75: TensorFlow.js could not be installed.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx_node_tests import EXCLUSIONS, TOO_NEW, Case, cases, difference, older_model, onnxruntime_outputs, parameter_inputs, with_constants
from report import Report, at_least, equal
from tfjs_peer import NoPeer, Server, packages

# What must be reached, so that no change loses cases; raise it when more are.
LEAST_RIGHT = 1040
# What TensorFlow.js computes otherwise, each with its reason: a pattern of whole names.
KNOWN = {r"test_reduce_(max|min)_empty_set": "the largest of no numbers is not an infinity there"}
# Types of values that TensorFlow.js holds as others.
HELD_AS = {"float16": "float32", "int64": "int32", "int8": "int32", "uint8": "int32", "int16": "int32", "uint16": "int32"}
RELATIVE = {"float16": 5e-3, "float32": 1e-5}


@dataclass
class Written:
    case: Case
    folder: Path
    inputs: dict


def convert(mlctl, folder, case):
    """What was written, or why it was not."""
    arrays = {n for n, v in case.inputs.items() if isinstance(v, (np.ndarray, np.generic))}
    reason = ""
    for parameters in [set(), parameter_inputs(case.model) & arrays]:
        if not parameters and reason:
            break
        model, inputs = with_constants(case, parameters)
        source, out = folder / f"{case.name}.onnx", folder / case.name
        for _ in range(2):
            onnx.save(model, source)
            command = [mlctl, "convert", source, "--to", "tfjs", "-o", out, "-q"]
            done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=60)
            source.unlink()
            held_not = "not held: mlctl's own check" if done.returncode == 3 else f"exit {done.returncode}"
            reason = " ".join(done.stderr.split()) or held_not
            too_new = TOO_NEW.search(reason)
            older = older_model(model, int(too_new[1]), int(too_new[2])) if too_new else None
            if older is None:
                break
            model = older
        if done.returncode == 0:
            return Written(case, out, inputs)
        if done.returncode != 1 or "panicked" in reason:
            break
    return reason


def held(array):
    array = np.asarray(array)
    kind = HELD_AS.get(array.dtype.name, array.dtype.name)
    return array.astype(kind)


def job(server, written):
    signature = json.loads((written.folder / "model.json").read_text())["signature"]
    inputs = dict(zip(signature["inputs"], map(held, written.inputs.values()), strict=True))
    return server.job(written.folder, inputs, written.case.name, dynamic=True)


def wrong(case, outputs):
    """What of the outputs is not as expected; None if all is."""
    if isinstance(outputs, str):
        return outputs
    second = None
    for place, ((name, expected), got) in enumerate(zip(case.expected.items(), outputs.values(), strict=True)):
        expected = np.asarray(expected)
        relative = RELATIVE.get(expected.dtype.name)
        differs = difference(got, held(expected), relative)
        if differs and difference(got, held(expected), 1e-3) is None:
            second = second or onnxruntime_outputs(case)
            differs = difference(got, held(second[name]), relative) if name in second else differs
        if differs:
            return f"output {place}: {differs}"
    return None


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("mlctl")
    parser.add_argument("--only", default=".*")
    parser.add_argument("--list", action="store_true")
    options = parser.parse_args()
    report = Report("ONNX backend node tests in TensorFlow.js")
    try:
        installed = packages()
    except NoPeer as error:
        print(error)
        return 75
    mlctl = Path(options.mlctl).resolve()
    chosen = [c for c in cases() if re.fullmatch(options.only, c.name)]
    chosen = [c for c in chosen if not any(re.fullmatch(pattern, c.name) for pattern in [*EXCLUSIONS, *KNOWN])]
    with tempfile.TemporaryDirectory(prefix="mlctl-tfjs-node-") as temporary:
        folder = Path(temporary)
        server = Server(folder, installed)
        with ThreadPoolExecutor(2) as pool:
            converted = list(pool.map(lambda case: convert(mlctl, folder, case), chosen))
        written = [w for w in converted if isinstance(w, Written)]
        results = server.results([job(server, w) for w in written])
        server.close()
    refused = {case.name: w for case, w in zip(chosen, converted) if isinstance(w, str)}
    if options.list:
        for name, reason in refused.items():
            print(f"refused  {name}: {reason[:300]}")
    right = 0
    for w, outputs in zip(written, results, strict=True):
        found = wrong(w.case, outputs)
        right += found is None
        if found is not None:
            report.check(w.case.name, lambda: found, equal(None))
    crashed = {name: reason for name, reason in refused.items() if "panicked" in reason or not re.search("error:|not held", reason)}
    report.check("crashes of mlctl", lambda: crashed, equal({}))
    print(f"{len(chosen):,} cases, {len(refused):,} refused, {len(written):,} converted, {right:,} right", dict(Counter(w.case.family for w in written)))
    if options.only == ".*":
        report.check("right", lambda: right, at_least(LEAST_RIGHT))
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
