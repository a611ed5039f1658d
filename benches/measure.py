"""Measures whole commands side by side: medians of wall time, CPU time and peak memory, as a Markdown table.

    python3 benches/measure.py [--runs N] [--items N UNIT] NAME COMMAND [NAME COMMAND]…

Each round runs every command once, each in a new empty folder, after one round that is not counted; so noise
on the machine meets all of them alike. COMMAND is split as a shell would, but no shell runs it: use absolute
paths. --items says how much work a command does, and adds work per CPU second. The peak memory is what
/usr/bin/time sees (asked of Python itself, no figure could be smaller than Python).
"""

import argparse
import os
import platform
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TIME = "/usr/bin/time"


def run(command):
    """Wall seconds, CPU seconds (user + system) and peak MB of one run."""
    with tempfile.TemporaryDirectory() as folder, tempfile.NamedTemporaryFile("r") as peak, tempfile.TemporaryFile() as said:
        started = time.perf_counter()
        process = subprocess.Popen(
            [TIME, "-f", "%M", "-o", peak.name, *command], cwd=folder, stdin=subprocess.DEVNULL, stdout=said, stderr=said
        )
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            said.seek(0)
            sys.exit(f"{shlex.join(command)} exited {process.returncode}:\n{said.read().decode(errors='replace')[-2000:]}")
        return wall, usage.ru_utime + usage.ru_stime, int(peak.read().split()[-1]) / 1024


def machine():
    models = [line.split(":", 1)[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    load = os.getloadavg()[0]
    return f"{models[0] if models else platform.machine()}, {os.cpu_count()} cores, {platform.system()} {platform.release()}, load {load:.1f} before"


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--runs", type=int, default=5)
    arguments.add_argument("--items", nargs=2, metavar=("N", "UNIT"))
    arguments.add_argument("pairs", nargs="+", metavar="NAME COMMAND")
    given = arguments.parse_args()
    if len(given.pairs) % 2 or given.runs < 1:
        arguments.error("want NAME COMMAND pairs, and at least one run")
    if not os.access(TIME, os.X_OK):
        sys.exit(f"{TIME} is missing (Debian: apt-get install time)")
    commands = {name: shlex.split(command) for name, command in zip(given.pairs[::2], given.pairs[1::2])}

    print(f"{machine()}; median of {given.runs}\n", flush=True)
    taken = {name: [] for name in commands}
    for round_number in range(given.runs + 1):
        for name, command in commands.items():
            figures = run(command)
            if round_number > 0:
                taken[name].append(figures)

    items = f" {given.items[1]} / CPU s |" if given.items else ""
    print(f"| | wall s (fastest) | CPU s | peak MB |{items}")
    print("|---|---|---|---|" + ("---|" if given.items else ""))
    for name, figures in taken.items():
        wall, cpu, peak = (statistics.median(column) for column in zip(*figures))
        rate = f" {float(given.items[0]) / cpu:,.0f} |" if given.items else ""
        print(f"| {name} | {wall:.3f} ({min(figures)[0]:.3f}) | {cpu:.3f} | {peak:.0f} |{rate}")
    print()
    for name, command in commands.items():
        print(f"{name}: `{shlex.join(Path(word).name if word.startswith('/') else word for word in command)}`")


if __name__ == "__main__":
    main()
