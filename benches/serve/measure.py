"""Measures `mlctl serve` beside other servers, in turns, and prints Markdown tables. benches/serve.sh calls it.

Every server runs on the first core (taskset), the load generator on the second, and all servers wait while one is
measured. A round measures every server once; the figures are medians over the rounds, so noise on the machine meets
all of them alike. CPU time is user + system of the server with its children, over the requests it answered.
"""

import argparse
import json
import os
import platform
import re
import signal
import statistics
import subprocess
import sys
import time
import urllib.request
from contextlib import ExitStack
from pathlib import Path

HERE = Path(__file__).parent
SERVER_CORE, CLIENT_CORE = "0", "1"
PRIORITY = []  # --realtime


def on_cores(cores, command):
    return [str(word) for word in (*PRIORITY, "taskset", "-c", cores, *command)]


class Server:
    """A process that is started here, and ends with the measuring."""

    def __init__(self, command, log, cores=SERVER_CORE):
        self.log = Path(log)
        with open(log, "wb") as out:
            self.process = subprocess.Popen(on_cores(cores, command), stdin=subprocess.DEVNULL, stdout=out, stderr=out)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def wait_for(self, what, found):
        """Waits until `found` gives something; a server that ends instead is an error."""
        for _ in range(1200):
            if self.process.poll() is not None:
                break
            result = found(self.log.read_text(errors="replace"))
            if result:
                return result
            time.sleep(0.05)
        sys.exit(f"{what} did not start:\n{self.log.read_text(errors='replace')[-2000:]}")


def answers(url):
    try:
        return urllib.request.urlopen(url, timeout=5).status == 200
    except OSError:
        return False


class Mlctl(Server):
    def __init__(self, mlctl, folder, work, name, *options, cores=SERVER_CORE):
        ports = ["--port=0", "--rest_api_port=0", f"--model_name={name}"]
        super().__init__([mlctl, "serve", folder, *ports, *options], work / f"mlctl-{name}.log", cores)
        port = lambda text: lambda log: re.search(rf"{text}(\S+:\d+)", log)
        self.grpc = self.wait_for("mlctl serve", port("gRPC: "))[1]
        self.rest = self.wait_for("mlctl serve", port("REST: http://"))[1]
        self.wait_for("mlctl serve", lambda _: answers(f"http://{self.rest}/readyz"))


def machine():
    names = [line.split(":", 1)[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return f"{names[0] if names else platform.machine()}, {os.cpu_count()} cores, {platform.system()} {platform.release()}"


class Bench:
    def __init__(self, given):
        self.given = given
        self.results = {"machine": machine(), "load_before": os.getloadavg()[0], "rounds": given.rounds}

    def load(self, server, *options, cores=CLIENT_CORE, seconds=None):
        seconds = seconds or self.given.seconds
        command = on_cores(cores, [self.given.peers, "load", "--pid", server.process.pid, "--seconds", seconds, *options])
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
        if ran.returncode != 0:
            sys.exit(f"{command}: {ran.stderr}")
        report = json.loads(ran.stdout)
        good = {"200", "0"}
        bad = {status: count for status, count in report["status"].items() if status not in good}
        report["times"] = next((times for status, times in report["times"].items() if status in good), None)
        if bad or not report["times"]:
            sys.exit(f"{' '.join(command)}: answers {report['status'] or 'none'}")
        return report

    def rounds(self, cases):
        """cases: name → a function that measures once and gives a report."""
        taken = {name: [] for name in cases}
        for number in range(self.given.rounds):
            for name, measure in cases.items():
                taken[name].append(measure())
            print(f"  round {number + 1} of {self.given.rounds}, load {os.getloadavg()[0]:.1f}", file=sys.stderr, flush=True)
        return taken


# measured at half the saturation load too
HALVES = ("axum, fixed reply", "mlctl, REST", "tonic, fixed reply", "mlctl, gRPC")


def median(reports, figure):
    return statistics.median(map(figure, reports))


def table(header, rows):
    print("| " + " | ".join(header) + " |")
    print("|" + "---|" * len(header))
    for row in rows:
        print("| " + " | ".join(row) + " |")
    print(flush=True)


def cpu(report):
    return report["cpu_us"]


def p(report, share):
    return report["times"]["ms"][share]


def on_time(reports):
    """How many windows there are, and those in which the generator itself was never late by a millisecond.

    Where it was, the machine took its core away: all that was due meanwhile is late too, whatever the server does.
    """
    windows = [window for report in reports for window in report["times"]["windows_ms"]]
    return len(windows), [window for window in windows if window["late"] < 1.0]


def measure_requests(bench, work, stack):
    """CPU time of a request, and latency at half the saturation."""
    given = bench.given
    mlctl = stack.enter_context(Mlctl(given.mlctl, work / "mlp", work, "mlp"))
    body = json.dumps({"instances": [[0.5] * 784]}).encode()
    reply = urllib.request.urlopen(f"http://{mlctl.rest}/v1/models/mlp:predict", body).read().decode()
    fixed = {}
    for name, options in {"axum": ["--reply", reply], "tonic": []}.items():
        port = {"axum": 18501, "tonic": 18500}[name]
        server = Server([given.peers, name, "--address", f"127.0.0.1:{port}", *options], work / f"{name}.log")
        fixed[name] = (stack.enter_context(server), f"127.0.0.1:{port}")
        server.wait_for(name, lambda log: "listening" in log)
    on = lambda server, address, *options: lambda *more: bench.load(server, "--address", address, "--model", "mlp", *options, *more)
    cases = {
        "axum, fixed reply": on(*fixed["axum"]),
        "mlctl, REST": on(mlctl, mlctl.rest),
        "mlctl, REST, a digit": on(mlctl, mlctl.rest, "--body", work / "digit.json"),
        "tonic, fixed reply": on(*fixed["tonic"], "--protocol", "grpc"),
        "mlctl, gRPC": on(mlctl, mlctl.grpc, "--protocol", "grpc"),
    }
    if answers(f"http://{mlctl.rest}/v2/health/live"):
        cases["mlctl, KServe V2 JSON"] = on(mlctl, mlctl.rest, "--protocol", "v2")
        cases["mlctl, KServe V2 binary"] = on(mlctl, mlctl.rest, "--protocol", "v2-binary")
    if given.mlserver and given.only != "latency":
        server = Server([given.mlserver, "-c", "from mlserver.cli import main; main()", "start", work / "mlserver"], work / "mlserver.log")
        stack.enter_context(server)
        server.wait_for("MLServer", lambda _: answers("http://127.0.0.1:18503/v2/models/mlp/ready"))
        cases["MLServer + onnxruntime, V2 JSON"] = on(server, "127.0.0.1:18503", "--protocol", "v2")
    write_digit(work / "digit.json")

    print(f"MLP 784-300-100-10, batch 1, {given.connections} connections, closed loop", file=sys.stderr)
    if given.only == "latency":
        cases = {name: cases[name] for name in HALVES}
    taken = bench.rounds({name: lambda case=case: case("--connections", given.connections) for name, case in cases.items()})
    rows = []
    base = {name: name.startswith(("axum", "tonic")) and name for name in cases}
    last = None
    for name, reports in taken.items():
        last = base[name] or last
        more = "" if base[name] or "MLServer" in name else f"{statistics.median(cpu(a) - cpu(b) for a, b in zip(reports, taken[last])):+.1f}"
        low, high = min(map(cpu, reports)), max(map(cpu, reports))
        rows.append([name, f"{median(reports, cpu):.1f}", f"{low:.1f}–{high:.1f}", more, f"{median(reports, lambda r: r['per_second']):,.0f}"])
        rows[-1] += [f"{median(reports, lambda r: p(r, share)):.2f}" for share in ("p50", "p99")]
    table(["closed loop", "CPU µs a request", "range", "over fixed reply", "requests/s", "p50 ms", "p99 ms"], rows)
    if "MLServer + onnxruntime, V2 JSON" in taken:
        peer = "MLServer + onnxruntime, V2 JSON"
        ratio = statistics.median(cpu(b) / cpu(a) for a, b in zip(taken["mlctl, REST"], taken[peer]))
        print(f"MLServer takes {ratio:.1f} times the CPU of mlctl, REST.\n")
    bench.results["closed"] = taken

    halves = {name: median(taken[name], lambda r: r["per_second"]) / 2 for name in HALVES}
    print("half the saturation load, requests at a fixed rate", file=sys.stderr)
    open_loop = lambda name: lambda: cases[name]("--rate", halves[name], "--connections", 4 * given.connections)
    taken = bench.rounds({name: open_loop(name) for name in halves})
    rows = []
    for name, reports in taken.items():
        own = [f"{median(reports, lambda r: p(r, share)):.3f}" for share in ("p50", "p90", "p99", "p99.9")]
        windows, kept = on_time(reports)
        ratio = [f"{statistics.median(w['p99'] / w['p50'] for w in kept):.1f}" if kept else "", f"{len(kept)} of {windows}"]
        rows.append([name, f"{halves[name]:,.0f}", *own, *ratio])
    table(["half the saturation load", "requests/s", "p50 ms", "p90 ms", "p99 ms", "p99.9 ms", "p99 / p50", "windows"], rows)
    bench.results["half"] = taken


def write_digit(path):
    """A picture as Python writes it: four of five pixels are 0, the others have 16 digits."""
    pixels = [0.0 if (place * 7919) % 5 else ((place * 104_729) % 255) / 255 for place in range(784)]
    path.write_text(json.dumps({"instances": [pixels]}))


def measure_batches(bench, work):
    """Rows a second with batching, beside `mlctl bench` at the same batch and threads."""
    given = bench.given
    model = work / "resnet" / "1" / "model.onnx"
    parameters = work / "batching.txt"
    rows = []
    for threads in (1, 2):
        batch = given.batch
        parameters.write_text(
            f"max_batch_size {{ value: {batch} }} batch_timeout_micros {{ value: 50000 }} "
            f"max_enqueued_batches {{ value: 100 }} num_batch_threads {{ value: {threads} }}\n"
        )
        cores = SERVER_CORE if threads == 1 else f"{SERVER_CORE},{CLIENT_CORE}"
        runs = max(3, 60 // batch)

        def bench_alone():
            command = [given.mlctl, "bench", model, "--batch", batch, "--threads", threads, "--runs", runs, "--json"]
            ran = subprocess.run(on_cores(cores, command), capture_output=True, text=True, check=True)
            # the mean of a run: rows_per_second has the time of warm-up runs in it
            return threads * batch / json.loads(ran.stdout)["latency_us"]["mean"] * 1e6

        def served(protocol, address):
            options = ["--address", address, "--model", "resnet", "--input", "gpu_0/data_0", "--shape", "1,3,224,224"]
            load = ["--connections", 3 * batch * threads, "--protocol", protocol, "--warm", 3]
            return bench.load(server, *options, *load, seconds=given.batch_seconds)["per_second"]

        print(f"ResNet50, batch {batch}, {threads} threads", file=sys.stderr)
        options = ["--enable_batching", "--batching_parameters_file", parameters]
        with Mlctl(given.mlctl, work / "resnet", work, "resnet", *options, cores=cores) as server:
            taken = bench.rounds({"bench": bench_alone, "gRPC": lambda: served("grpc", server.grpc)})
            metrics = urllib.request.urlopen(f"http://{server.rest}/monitoring/prometheus/metrics").read().decode()
        full = re.search(r"mlctl_batch_rows_sum\S* (\S+)\nmlctl_batch_rows_count\S* (\S+)", metrics)
        ratio = statistics.median(own / alone for alone, own in zip(taken["bench"], taken["gRPC"]))
        rows.append([
            f"batch {batch}, {threads} thread{'s' * (threads > 1)}",
            *(f"{statistics.median(taken[name]):.2f}" for name in ("bench", "gRPC")),
            f"{ratio:.3f}",
            f"{float(full[1]) / float(full[2]):.2f}" if full else "",
        ])
        bench.results[f"batches, {threads} threads"] = taken
    table(["ResNet50, rows a second", "mlctl bench", "mlctl serve, gRPC", "ratio", "rows a batch"], rows)


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--mlctl", required=True)
    arguments.add_argument("--peers", required=True, help="the binary of benches/serve/peers")
    arguments.add_argument("--mlserver", help="python of MLServer's environment; left out: not measured")
    arguments.add_argument("--work", type=Path, required=True, help="folder with mlp/1, resnet/1, mlserver")
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--seconds", type=float, default=2.0)
    arguments.add_argument("--connections", type=int, default=16)
    arguments.add_argument("--batch", type=int, default=4)
    arguments.add_argument("--batch-seconds", type=float, default=20.0)
    arguments.add_argument("--only", choices=["requests", "latency", "batches"])
    arguments.add_argument("--realtime", action="store_true", help="run everything before other work on the machine (chrt -r 1; needs root)")
    arguments.add_argument("--json", type=Path, help="write all reports here")
    given = arguments.parse_args()
    if (os.cpu_count() or 1) < 2:
        sys.exit("needs two cores: one for the server, one for its clients")

    if given.realtime:
        PRIORITY.extend(["chrt", "-r", "1"])
    bench = Bench(given)
    print(f"{bench.results['machine']}; load {bench.results['load_before']:.1f} before; medians of {given.rounds} rounds\n", flush=True)
    if given.only != "batches":
        with ExitStack() as stack:
            measure_requests(bench, given.work, stack)
    if given.only in (None, "batches") and (given.work / "resnet").exists():
        measure_batches(bench, given.work)
    bench.results["load_after"] = os.getloadavg()[0]
    print(f"load {bench.results['load_after']:.1f} after")
    if given.json:
        given.json.write_text(json.dumps(bench.results, indent=1))


if __name__ == "__main__":
    main()
