"""Holds each op that mlctl writes into a SavedModel to what it must compute: TensorFlow runs one graph after the other.

    "$(tests/peers/venv.sh)" tests/interop/check_saved_model_ops.py target/release/mlctl [OPTION]

    --write-table     rewrites the table in tests/README.md
    --only REGEX      the cases whose name matches (whole names: write .*conv.*)
    --list OUTCOME    every case that ended so, with the reason: refused, 'not held', 'not loaded', type, ...
    --long            frozen SavedModels too

The graphs are the ONNX backend's node tests and those of the checks beside this one: they hold to the suite's values, and
to onnxruntime's; and the one-op files of tests/ops.rs, from the folder OPS_FIXTURES_DIR, or from cargo.
A wrong answer or a crash fails; a refusal that names the op, the reason and the way out does not. Exit 75: TensorFlow could not be installed.
"""

import argparse
import os
import re
import sys
import tempfile
from pathlib import Path

import check_onnx_conv
import check_onnx_elementwise
import check_onnx_ops
import check_onnx_recurrent
import numpy as np
import onnx
import onnx_node_tests
import onnxruntime
from check_onnx_node_tests import COLUMNS, counts
from check_ops import write_fixtures
from onnx_node_tests import FAILURES, FAMILIES, Case, Converter, Result, wrong_outputs
from readme import write_block
from report import Report, between, equal
from tensorflow_peer import NoTensorflow, TensorflowFailure, TensorflowServer, python
from ways_out import WAY_OUT

OP_FILES = "ops of tests/ops.rs"
GRAPHS = ["convolutions, pools, resizes", "elementwise, all types", "dynamic batches", "recurrent layers, control flow", OP_FILES]
FORMS = {"variables": [], "frozen": ["--frozen"]}
# What must pass, so that no change loses cases.
LEAST = {"node tests": 1158, **dict(zip(GRAPHS, [301, 868, 326, 279, 319]))}
WORKERS = 2
SECONDS = 60


def saved_name(name):
    """What a SavedModel calls an input or output."""
    plain = re.sub(r"[^A-Za-z0-9_./-]", "_", name.removesuffix(":0"))
    return plain if re.match(r"[A-Za-z0-9.]", plain) else f"n{plain}"


def file_name(name):
    return re.sub(r"[^\w.-]+", "_", name)


class ToSavedModel(Converter):
    """mlctl and TensorFlow on one case at a time."""

    to_float16 = False

    def __init__(self, mlctl, folder, interpreter, forms):
        super().__init__(mlctl, folder, SECONDS)
        folder.mkdir()
        self.forms = forms
        self.peer = TensorflowServer(interpreter, folder, SECONDS)

    def convert(self, case, model, scheme=()):
        source = self.folder / f"{case.name}.onnx"
        onnx.save(model, source)
        return self.to_saved_model(source, case)

    def to_saved_model(self, source, case):
        """All forms, in one folder."""
        out = self.folder / case.name
        onnx_node_tests.remove(out)
        out.mkdir()
        for form in self.forms:
            outcome, reason, _ = self.converted(source, out / form, ["--to", "saved-model", *FORMS[form]])
            if outcome != "converted":
                break
        return outcome, reason, out

    def judge(self, case, path, inputs, relative=None):
        names = {saved_name(name): name for name in case.expected}
        for form in self.forms:
            try:
                outputs = self.peer.outputs(path / form, {saved_name(n): np.asarray(v) for n, v in inputs.items()})
            except TensorflowFailure as failure:
                return ("crashed" if "TensorFlow:" not in str(failure) else "wrong"), f"{form}: {failure}"
            wrong = wrong_outputs(case, {names.get(name, name): value for name, value in outputs.items()}, relative)
            if wrong:
                return "wrong", f"{form}: {'; '.join(wrong)}"
        return "passed", ""

    def result(self, case):
        if isinstance(case.model, Path):
            outcome, reason, path = self.to_saved_model(case.model, case)
            if outcome == "converted":
                outcome, reason = self.judge(case, path, case.inputs)
            onnx_node_tests.remove(path)
            return Result(case.name, case.family, outcome, reason)
        return super().result(case)


def by_onnxruntime(model, runs, name, family):
    """A case for each of the runs (arrays by input name); none of what onnxruntime refuses too."""
    for number, run in enumerate(runs):
        try:
            options = onnxruntime.SessionOptions()
            options.log_severity_level = 4
            session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
            given = {i.name: run[i.name] for i in session.get_inputs()}
            expected = dict(zip([o.name for o in session.get_outputs()], session.run(None, given)))
        except Exception:
            continue
        yield Case(file_name(f"{name}_{number}"), model, given, expected, family, False)


def graphs(folder):
    """The cases of the other checks."""
    path = folder / "case.onnx"
    for name, case in check_onnx_conv.cases():
        case.save(path)
        yield from by_onnxruntime(onnx.load(path), [{"x": case.values(), **case.inputs}], f"conv_{name}", GRAPHS[0])
    for number, (name, model, inputs, expected) in enumerate(check_onnx_elementwise.cases()):
        yield Case(file_name(f"elementwise_{number}_{name}"), model, inputs, {"result": expected}, GRAPHS[1], False)
    for name, (nodes, inputs, constants, out) in check_onnx_ops.cases():
        check_onnx_ops.build(nodes, inputs, constants, out, path)
        runs = []
        for batch in check_onnx_ops.BATCHES:
            random = np.random.default_rng(batch)
            runs.append({port: check_onnx_ops.values(kind, shape, batch, random) for port, (kind, shape) in inputs.items()})
        yield from by_onnxruntime(onnx.load(path), runs, f"batch_{name}", GRAPHS[2])
    for name, case in check_onnx_recurrent.cases():
        yield from by_onnxruntime(case.model, case.runs, f"recurrent_{name}", GRAPHS[3])
    written = os.environ.get("OPS_FIXTURES_DIR")
    for path in sorted(Path(written).glob("*.tflite")) if written else write_fixtures(folder):
        with np.load(path.with_suffix(".npz")) as file:
            arrays = {name: file[name] for name in file}
        expected = {name.removeprefix("expected "): value for name, value in arrays.items() if name.startswith("expected ")}
        inputs = {name: value for name, value in arrays.items() if not name.startswith("expected ")}
        yield Case(file_name(f"op_{path.stem}"), path.resolve(), inputs, expected, OP_FILES, False)


def table(results):
    """Markdown: a row a family of the node tests, their sum, then the other graphs."""
    row = lambda name, chosen: (name, counts([r for r in results if r.family in chosen]))
    rows = [row(name, [name]) for name in [*FAMILIES, "other"]]
    rows.append(row("**node tests**", [*FAMILIES, "other"]))
    rows += [row(name, [name]) for name in GRAPHS]
    lines = ["| family | " + " | ".join(COLUMNS) + " |", "|---" * (len(COLUMNS) + 1) + "|"]
    lines += [f"| {name} | " + " | ".join(f"{by[c]:,}" for c in COLUMNS) + " |" for name, by in rows if by["cases"]]
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mlctl")
    parser.add_argument("--write-table", action="store_true")
    parser.add_argument("--only", default=".*")
    parser.add_argument("--list")
    parser.add_argument("--long", action="store_true")
    options = parser.parse_args()
    report = Report("ops in SavedModels")
    try:
        interpreter = python()
    except NoTensorflow as error:
        print(error)
        return 75
    with tempfile.TemporaryDirectory(prefix="mlctl-saved-model-ops-") as temporary:
        folder = Path(temporary)
        cases = [case for case in [*onnx_node_tests.cases(), *graphs(folder)] if re.fullmatch(options.only, case.name)]
        forms = list(FORMS) if options.long else ["variables"]
        converters = [ToSavedModel(options.mlctl, folder / str(number), interpreter, forms) for number in range(WORKERS)]
        results = onnx_node_tests.run_with(converters, cases)
    for result in results:
        if result.outcome == options.list:
            print(f"{result.outcome}  {result.case} ({result.family}): {result.reason}")
    print(table(results))
    if options.write_table:
        write_block("saved model ops", table(results))
    for name in [*FAMILIES, "other", *GRAPHS]:
        members = [r for r in results if r.family == name]
        failures = {r.case: r.reason for r in members if r.outcome in FAILURES}
        for case, reason in failures.items():
            report.check(case, lambda: reason, equal("right or refused"))
        passed = [r for r in members if r.outcome == "passed"]
        report.check(f"{name}: wrong or crashed, beside {len(passed):,} that pass", lambda: len(failures), equal(0))
    known = tuple(check_onnx_ops.REFUSED.values())
    helpless = {r.case: r.reason for r in results if r.outcome == "refused" and not WAY_OUT.search(r.reason) and not any(words in r.reason for words in known)}
    report.check("refusals that tell no way out", lambda: helpless, equal({}))
    if options.only == ".*":
        for name, least in LEAST.items():
            passed = [r for r in results if r.outcome == "passed" and (r.family == name or name == "node tests" and r.family not in GRAPHS)]
            report.check(f"{name}: passed", lambda: len(passed), between(least, len(results)))
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
