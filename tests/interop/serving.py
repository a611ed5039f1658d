"""`mlctl serve` on free ports, for as long as it is asked."""

import re
import signal
import subprocess
import time
import urllib.error
import urllib.request


class Server:
    def __init__(self, mlctl, *arguments):
        command = [mlctl, "serve", *map(str, arguments), "--port=0", "--rest_api_port=0", "--file_system_poll_wait_seconds=0.2"]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        for line in self.process.stderr:
            if found := re.match(r"gRPC: (\S+)", line):
                self.grpc = found[1]
            if found := re.match(r"REST: (http://\S+)", line):
                self.url, self.http = found[1], found[1].removeprefix("http://")
                break
        else:
            raise RuntimeError("the server ended")

    def __enter__(self):
        for _ in range(300):
            try:
                urllib.request.urlopen(self.url + "/readyz")
                return self
            except urllib.error.HTTPError:
                time.sleep(0.1)
        raise RuntimeError("the server does not become ready")

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(30)
        self.process.stderr.close()
