"""A server under load: no failed request and no wrong answer while versions replace each other every two seconds, memory that does
not grow, requests past what it can take refused at once.

    python3 tests/long/serve_load.py target/release/mlctl [SECONDS]
"""

import http.client
import json
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

CONNECTIONS = 200
SWAP_SECONDS = 2


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


def train(mlctl, folder, seed):
    subprocess.run([mlctl, "train", "-q", "--epochs", "1", "--seed", str(seed), "--out", folder], check=True, capture_output=True)
    return folder / "0001"


def put(source, base, version):
    """It appears whole."""
    shutil.copytree(source, base / ".placing")
    (base / ".placing").rename(base / str(version))


BODY = json.dumps({"instances": [[[[0.5]] * 28] * 28]}).encode()


def ask(client, path):
    client.request("POST", path, BODY)
    response = client.getresponse()
    return response.status, response.read()


def load(server, path, stop, seen):
    """Asks again and again; `seen` counts the answers and keeps the times."""
    client = http.client.HTTPConnection(server.address, timeout=60)
    while not stop.is_set():
        started = time.monotonic()
        try:
            answer = ask(client, path)
        except OSError as error:
            answer = (0, repr(error).encode())
            client = http.client.HTTPConnection(server.address, timeout=60)
        seen.append((answer, time.monotonic() - started))


def run_load(server, path, connections, during):
    stop, lists = threading.Event(), [[] for _ in range(connections)]
    threads = [threading.Thread(target=load, args=(server, path, stop, seen)) for seen in lists]
    [thread.start() for thread in threads]
    during()
    stop.set()
    [thread.join() for thread in threads]
    return [answer for seen in lists for answer in seen]


def check_swaps(mlctl, folder, seconds):
    sources = [train(mlctl, folder / f"seed{seed}", seed) for seed in (1, 2)]
    base = folder / "digits"
    base.mkdir()
    put(sources[1], base, 1)
    server = Server(mlctl, base)
    client = http.client.HTTPConnection(server.address, timeout=30)
    path = "/v1/models/digits:predict"
    known = {1: ask(client, path)[1]}
    wrong, memory = [], []

    def swap():
        version, started = 1, time.monotonic()
        while time.monotonic() - started < seconds:
            version += 1
            put(sources[version % 2], base, version)
            time.sleep(SWAP_SECONDS)
            status, answer = ask(client, f"/v1/models/digits/versions/{version}:predict")
            if status != 200 or known.setdefault(version % 2, answer) != answer or known.get(0) == known[1]:
                wrong.append((version, status, answer[:200]))
            if version > 3:
                shutil.rmtree(base / str(version - 3))
            memory.append((time.monotonic() - started, server.resident()))

    answers = run_load(server, path, CONNECTIONS, swap)
    failed = [answer for answer, _ in answers if answer[0] != 200]
    strange = [answer for answer, _ in answers if answer[0] == 200 and answer[1] not in known.values()]
    early = [mb for at, mb in memory if at <= seconds / 5] or [memory[0][1]]
    first, last = max(early), memory[-1][1]
    print(f"{len(answers):,} answers at {CONNECTIONS} connections, {len(memory)} swaps in {seconds:.0f} s")
    print(f"failed {len(failed)}, of no version {len(strange)}, of the wrong version {len(wrong)}")
    print(f"memory {first:.1f} MB in the first fifth, {last:.1f} MB at the end")
    print("shown:", failed[:2], strange[:2], wrong[:2])
    return not failed and not strange and not wrong and last <= first * 1.05 + 2 and server.end() == 0


def percentile(times, share):
    return sorted(times)[min(len(times) - 1, int(len(times) * share))]


def check_overload(mlctl, folder):
    """One thread and a queue of two, asked by one client, then by 32 at once."""
    server = Server(mlctl, folder / "digits", "--threads=1", "--max-queue=2")
    path = "/v1/models/digits:predict"
    alone = run_load(server, path, 1, lambda: time.sleep(3))
    crowd = run_load(server, path, 32, lambda: time.sleep(10))
    counts = {}
    for (status, _), _ in crowd:
        counts[status] = counts.get(status, 0) + 1
    times = [percentile([t for (status, _), t in answers if status == 200], 0.99) * 1e3 for answers in (alone, crowd)]
    print(f"overload: answers by status {counts}; p99 {times[0]:.2f} ms alone, {times[1]:.2f} ms in the crowd (the client's own threads included)")
    return set(counts) <= {200, 429} and 200 in counts and server.end() == 0


def main():
    mlctl, seconds = Path(sys.argv[1]).resolve(), float(sys.argv[2]) if len(sys.argv) > 2 else 300
    with tempfile.TemporaryDirectory() as folder:
        swaps = check_swaps(mlctl, Path(folder), seconds)
        overload = check_overload(mlctl, Path(folder))
    print(f"{swaps + overload} passed, {2 - swaps - overload} failed")
    return 0 if swaps and overload else 1


if __name__ == "__main__":
    sys.exit(main())
