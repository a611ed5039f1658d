"""TensorFlow.js, in Node and in headless Chromium, on models that mlctl has written."""

import base64
import http.server
import json
import shutil
import subprocess
import threading
from functools import partial
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
TYPES = {np.float32: "float32", np.int32: "int32", np.bool_: "bool"}


class NoPeer(Exception):
    """It could not be installed; says why."""


def packages():
    """The folder whose node_modules holds TensorFlow.js, made on first use (320 MB)."""
    done = subprocess.run(["bash", HERE.parent / "peers/npm.sh"], capture_output=True, text=True)
    if done.returncode == 75:
        raise NoPeer(done.stderr.strip().splitlines()[-1])
    if done.returncode != 0:
        raise RuntimeError(f"npm.sh exits {done.returncode}: {done.stderr[-500:]}")
    return Path(done.stdout.strip())


def has_chromium():
    """Whether there is Debian's Chromium, which is installed where that is allowed."""
    if shutil.which("chromium") is None:
        command = ["apt-get", "install", "--yes", "--no-install-recommends", "chromium"]
        subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, timeout=900, check=False)
    return shutil.which("chromium") is not None


class Quiet(http.server.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass


class Patient(http.server.ThreadingHTTPServer):
    # a model's shards are all asked for at once
    request_queue_size = 256

    def handle_error(self, request, client_address):
        """A peer that hangs up is no error."""


class Server:
    """Serves `folder`, and the packages below `/packages/`, on this machine alone."""

    def __init__(self, folder, packages_folder):
        self.folder, self.packages = folder, packages_folder
        link = folder / "packages"
        link.symlink_to(packages_folder / "node_modules")
        self.server = Patient(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def url(self, path):
        return f"http://127.0.0.1:{self.server.server_address[1]}/{Path(path).relative_to(self.folder)}"

    def job(self, model, inputs, name, backend="cpu", dynamic=False):
        """What runs the model in the folder `model`; its inputs are written beside it under `name`."""
        given = {}
        for number, (key, array) in enumerate(inputs.items()):
            array = array.astype(np.int32) if array.dtype == np.int64 else array
            file = self.folder / f"{name}.{number}.bin"
            file.write_bytes(array.tobytes())
            given[key] = {"url": self.url(file), "dtype": TYPES[array.dtype.type], "shape": list(array.shape)}
        return {"model": self.url(model / "model.json"), "inputs": given, "backend": backend, "dynamic": dynamic}

    def results(self, jobs, in_browser=False, seconds=600):
        """What came of each job: outputs by name, or the error's text."""
        listed = self.folder / "jobs.json"
        listed.write_text(json.dumps(jobs))
        results = self.folder / "jobs.json.results"
        results.write_text("")
        command = ["node", HERE / "tfjs_process.js", self.packages, listed]
        if in_browser:
            page = self.folder / "blank.html"
            page.write_text("<!doctype html><link rel=icon href=data:,><title>jobs</title>")
            command += [self.profile(), self.url(page)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds)
        if done.returncode != 0:
            raise RuntimeError(f"TensorFlow.js exits {done.returncode}: {done.stderr[-2000:]}")
        return [decoded(json.loads(line)) for line in results.read_text().splitlines()]

    def demo(self, page, drawings, pictures=(), screenshot=None):
        """What the page of `--demo` in the folder `page` says of strokes and of picture files (tfjs_demo.js)."""
        job = self.folder / "demo.json"
        asked = {"url": self.url(page) + "/", "drawings": drawings, "pictures": [str(p) for p in pictures]}
        job.write_text(json.dumps(asked | {"screenshot": screenshot and str(screenshot)}))
        command = ["node", HERE / "tfjs_demo.js", self.packages, self.profile(), job]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        if done.returncode != 0:
            raise RuntimeError(f"the demo's page: {done.stderr[-2000:]}")
        return json.loads(done.stdout)

    def profile(self):
        """An empty folder for a browser."""
        folder = self.folder / "profile"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        return folder

    def close(self):
        self.server.shutdown()
        self.server.server_close()


def decoded(result):
    if "error" in result:
        return result["error"]
    types = {name: kind for kind, name in TYPES.items()}
    outputs = {}
    for name, output in result["outputs"].items():
        array = np.frombuffer(base64.b64decode(output["base64"]), types[output["dtype"]])
        if array.size != np.prod(output["shape"], dtype=int):
            return f"'{name}' has {array.size} values and is of shape {output['shape']}"
        outputs[name] = array.reshape(output["shape"])
    return outputs
