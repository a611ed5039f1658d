"""Converts every ONNX backend node test with mlctl and holds LiteRT's outputs to the suite's.

    "$(tests/peers/venv.sh)" tests/interop/check_onnx_node_tests.py target/release/mlctl [OPTION]

    --write-table     rewrites the table in tests/README.md
    --only REGEX      the cases whose name matches (whole names: write .*conv.*)
    --list OUTCOME    every case that ended so, with the reason: refused, 'not held', 'not loaded', type, ...

A case that converts to a wrong answer, or crashes, fails; a refusal with a reason and a way out does not.
"""

import argparse
import re
import sys
import tempfile
from collections import Counter
from pathlib import Path

import onnx_node_tests
from onnx_node_tests import ATTEMPTED, FAILURES, FAMILIES
from readme import write_block
from report import Report, between, equal
from ways_out import WAY_OUT

# What the families must reach, so that no change loses cases; raise `passed` when more do.
LEAST = {"attempted": 1110, "passed": 1070}
COLUMNS = ["cases", "attempted", "passed", "wrong", "refused", "not held", "not loaded", "type", "nothing computed", "excluded"]


def counts(results):
    by = Counter(r.outcome for r in results)
    by["cases"] = len(results)
    by["attempted"] = sum(by[o] for o in ATTEMPTED)
    by["wrong"] += by["crashed"]
    return by


def table(results):
    """Markdown: a row a family, the sum of the families, then what no family names."""
    rows = [(name, counts([r for r in results if r.family == name])) for name in FAMILIES]
    rows.append(("**families**", counts([r for r in results if r.family != "other"])))
    rows.append(("other", counts([r for r in results if r.family == "other"])))
    lines = ["| family | " + " | ".join(COLUMNS) + " | passed of attempted |", "|---" * (len(COLUMNS) + 2) + "|"]
    for name, by in rows:
        share = f"{100 * by['passed'] / by['attempted']:.1f} %" if by["attempted"] else "–"
        lines.append(f"| {name} | " + " | ".join(f"{by[c]:,}" for c in COLUMNS) + f" | {share} |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mlctl")
    parser.add_argument("--write-table", action="store_true")
    parser.add_argument("--only", default=".*")
    parser.add_argument("--list")
    options = parser.parse_args()
    chosen = [c for c in onnx_node_tests.cases() if re.fullmatch(options.only, c.name)]
    report = Report("ONNX backend node tests")
    with tempfile.TemporaryDirectory(prefix="mlctl-node-tests-") as folder:
        results = onnx_node_tests.run(options.mlctl, Path(folder), chosen)
    for result in results:
        if result.outcome == options.list:
            print(f"{result.outcome}  {result.case} ({result.family}): {result.reason}")
    print(table(results))
    if options.write_table:
        write_block("node tests", table(results))
    for name in [*FAMILIES, "other"]:
        members = [r for r in results if r.family == name]
        failures = {r.case: r.reason for r in members if r.outcome in FAILURES}
        for case, reason in failures.items():
            report.check(case, lambda: reason, equal("right or refused"))
        passed = [r for r in members if r.outcome == "passed"]
        report.check(f"{name}: wrong or crashed, beside {len(passed):,} that pass", lambda: len(failures), equal(0))
    helpless = {r.case: r.reason for r in results if r.outcome == "refused" and not WAY_OUT.search(r.reason)}
    report.check("refusals that tell no way out", lambda: helpless, equal({}))
    if len(chosen) == len(onnx_node_tests.cases()):
        by = counts([r for r in results if r.family != "other"])
        for column, least in LEAST.items():
            report.check(f"families: {column}", lambda: by[column], between(least, by["cases"]))
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
