"""A server under load: no failed request and no wrong answer while versions replace each other every two seconds, memory that does
not grow, requests past what it can take refused at once, thousands of idle connections.

    python3 tests/long/serve_load.py target/release/mlctl SERVE-PEERS [SECONDS [SECONDS OF OVERLOAD]]
"""

import http.client
import json
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CONNECTIONS = 200
SWAP_SECONDS = 2
IDLE = 10_000


class Server:
    def __init__(self, mlctl, *arguments):
        command = [mlctl, "serve", "--port=0", "--rest_api_port=0", *map(str, arguments)]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        for line in self.process.stderr:
            if found := re.match(r"REST: http://(\S+)", line):
                self.address = found[1]
                break
        threading.Thread(target=lambda: [None for _ in self.process.stderr], daemon=True).start()
        while self.get("/readyz") != 200:
            time.sleep(0.05)

    def get(self, path):
        client = http.client.HTTPConnection(self.address, timeout=30)
        client.request("GET", path)
        return client.getresponse().status

    def resident(self):
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024

    def end(self):
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


class Load:
    """Requests from another process, in the background; `report` waits for its end."""

    def __init__(self, peers, server, path, body, connections, seconds, *more):
        command = [peers, "load", "--address", server.address, "--path", path, "--body", body]
        command += ["--connections", connections, "--seconds", seconds, *more]
        self.process = subprocess.Popen([str(word) for word in command], stdout=subprocess.PIPE, text=True)

    def report(self):
        text, _ = self.process.communicate()
        if self.process.returncode != 0:
            raise RuntimeError(f"the load exits {self.process.returncode}")
        return json.loads(text)


def train(mlctl, folder, seed):
    subprocess.run([mlctl, "train", "-q", "--epochs", "1", "--seed", str(seed), "--out", folder], check=True, capture_output=True)
    return folder / "0001"


def put(source, base, version):
    """It appears whole."""
    shutil.copytree(source, base / ".placing")
    (base / ".placing").rename(base / str(version))


def ask(client, path, body):
    client.request("POST", path, body)
    response = client.getresponse()
    return response.status, response.read().decode()


def check_swaps(mlctl, peers, folder, seconds):
    sources = [train(mlctl, folder / f"seed{seed}", seed) for seed in (1, 2)]
    base, body = folder / "digits", folder / "digits.json"
    body.write_text(json.dumps({"instances": [[[[0.5]] * 28] * 28]}))
    base.mkdir()
    put(sources[1], base, 1)
    server = Server(mlctl, base)
    client = http.client.HTTPConnection(server.address, timeout=30)
    known = {1: ask(client, "/v1/models/digits:predict", body.read_text())[1]}
    wrong, memory = [], []
    load = Load(peers, server, "/v1/models/digits:predict", body, CONNECTIONS, seconds, "--answers")
    version, started = 1, time.monotonic()
    while time.monotonic() - started < seconds - SWAP_SECONDS:
        version += 1
        put(sources[version % 2], base, version)
        time.sleep(SWAP_SECONDS)
        status, answer = ask(client, f"/v1/models/digits/versions/{version}:predict", body.read_text())
        if status != 200 or known.setdefault(version % 2, answer) != answer or known.get(0) == known[1]:
            wrong.append((version, status, answer[:200]))
        if version > 3:
            shutil.rmtree(base / str(version - 3))
        memory.append((time.monotonic() - started, server.resident()))
    report = load.report()
    failed = {status: count for status, count in report["status"].items() if status != "200"}
    strange = [answer for answer in report["answers"] if answer not in known.values()] if not failed else []
    early = [mb for at, mb in memory if at <= seconds / 5] or [memory[0][1]]
    late = [mb for at, mb in memory if at > seconds * 4 / 5] or [memory[-1][1]]
    growth = (sum(late) / len(late)) / (sum(early) / len(early)) - 1
    print(f"{report['requests']:,} answers at {CONNECTIONS} connections, {len(memory)} swaps in {seconds:.0f} s")
    print(f"failed {failed or 0}, of no version {len(strange)}, of the wrong version {len(wrong)}; p99 {report['times']['200']['ms']['p99']:.1f} ms")
    print(f"memory {min(early):.1f} to {max(early):.1f} MB in the first fifth, {min(late):.1f} to {max(late):.1f} MB in the last ({growth:+.1%} of the mean)")
    print(f"the generator took {report['generator_cpu_share']:.0%} of a core")
    if strange or wrong:
        print("shown:", strange[:2], wrong[:2])
    return not failed and not strange and not wrong and abs(growth) <= 0.05 and server.end() == 0


def check_overload(peers, name, server, path, body, seconds):
    """Requests alone, as many as can be answered, and four times as many."""

    def p99(report, status="200"):
        return report["times"][status]["ms"]["p99"]

    Load(peers, server, path, body, 2, 2).report()
    saturated = Load(peers, server, path, body, 16, 6).report()
    most = saturated["status"]["200"] / saturated["seconds"]
    alone = Load(peers, server, path, body, 16, max(10, 300 / most), "--rate", most / 20, "--poisson").report()
    crowd = Load(peers, server, path, body, 2000, seconds, "--rate", 4 * most, "--poisson", "--warm", 0).report()
    counts, answered = crowd["status"], crowd["status"]["200"] / crowd["seconds"]
    refused = p99(crowd, "429") if "429" in counts else 0
    ratio = p99(crowd) / p99(alone)
    print(f"{name}: {most:.0f} requests/s saturate it; p99 {p99(alone):.2f} ms at a twentieth of that")
    print(f"{name}: at {4 * most:.0f}/s for {seconds:.0f} s: {counts}, {answered:.0f} answered a second ({crowd['unsent']} unsent)")
    print(f"{name}: p99 of the admitted {p99(crowd):.2f} ms, {ratio:.1f} times; of the refused {refused:.2f} ms; generator {crowd['generator_cpu_share']:.0%} of a core")
    return set(counts) <= {"200", "429"} and "429" in counts and ratio <= 4 and server.get("/healthz") == 200


def check_overloads(mlctl, peers, folder, seconds):
    """A net whose runs are most of the work."""
    version, body = folder / "squeezenet" / "1", folder / "squeezenet.json"
    version.mkdir(parents=True)
    shutil.copy(ROOT / "fixtures/models/squeezenet1_1.onnx", version / "model.onnx")
    server = Server(mlctl, folder / "squeezenet")
    client = http.client.HTTPConnection(server.address, timeout=30)
    client.request("GET", "/v1/models/squeezenet/metadata")
    signature = json.loads(client.getresponse().read())["metadata"]["signature_def"]["signature_def"]["serving_default"]
    (port,) = signature["inputs"].values()
    values = 0.5
    for dim in reversed(port["tensor_shape"]["dim"]):
        values = [values] * max(1, int(dim["size"]))
    body.write_text(json.dumps({"instances": values}))
    good = check_overload(peers, "squeezenet", server, "/v1/models/squeezenet:predict", body, seconds)
    return server.end() == 0 and good


def check_idle(mlctl, folder):
    """Idle connections, as many as this process may open, and a request beside them."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    count = min(IDLE, hard - 100)
    server = Server(mlctl, folder / "digits")
    before, (host, port) = server.resident(), server.address.rsplit(":", 1)
    idle = [socket.create_connection((host, int(port)), 30) for _ in range(count)]
    client = http.client.HTTPConnection(server.address, timeout=30)
    status, _ = ask(client, "/v1/models/digits:predict", (folder / "digits.json").read_text())
    print(f"{count:,} idle connections: a request gets {status}; {(server.resident() - before) * 1024 / count:.1f} KB each")
    [connection.close() for connection in idle]
    return status == 200 and count == IDLE and server.end() == 0


def main():
    mlctl, peers = Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve()
    seconds, overload = (float(word) for word in (sys.argv[3:] + ["300", "60"][len(sys.argv) - 3 :]))
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        passed = [check_swaps(mlctl, peers, folder, seconds), check_overloads(mlctl, peers, folder, overload), check_idle(mlctl, folder)]
    print(f"{sum(passed)} passed, {len(passed) - sum(passed)} failed")
    return 0 if all(passed) else 1


if __name__ == "__main__":
    sys.exit(main())
