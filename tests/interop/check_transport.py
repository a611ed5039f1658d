"""How `mlctl serve` is reached: TLS and mutual TLS on both ports, certificates that are renewed, gRPC's reflection and its
health protocol, each through the field's own clients.

    "$(tests/peers/venv.sh)" tests/interop/check_transport.py target/release/mlctl
"""

import http.client
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]

try:
    import grpc
    import trustme
except ImportError:
    made = subprocess.run(["bash", ROOT / "tests/peers/venv.sh", ROOT / "tests/peers/grpc.txt"], capture_output=True, text=True)
    if made.returncode != 0:
        print(made.stderr.strip())
        sys.exit(made.returncode)
    python = made.stdout.strip()
    os.execv(python, [python, *sys.argv])

from google.protobuf import descriptor_pool, message_factory
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from report import Report, at_most, equal

MODEL = ROOT / "fixtures/models/lenet_mnist.onnx"


class Server:
    def __init__(self, mlctl, *arguments, base, ready=True):
        command = [mlctl, "serve", f"--model_base_path={base}", "--model_name=lenet", *map(str, arguments)]
        command += ["--port=0", "--rest_api_port=0", "--file_system_poll_wait_seconds=0.1"]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        self.log, self.ready = "", ready
        for line in self.process.stderr:
            self.log += line
            if found := re.match(r"gRPC: (\S+)", line):
                self.grpc = found[1]
            if found := re.match(r"REST: (https?)://(\S+)", line):
                self.scheme, self.rest = found[1], found[2]
                break
        else:
            raise RuntimeError(f"the server ended: {self.log}")
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        for line in self.process.stderr:
            self.log += line

    def wait_for(self, text):
        for _ in range(300):
            if text in self.log:
                return self
            time.sleep(0.1)
        raise RuntimeError(f"no '{text}' in {self.log}")

    def __enter__(self):
        return self.wait_for("available after") if self.ready else self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(40)


def statuses(address, context, path="/readyz"):
    """The HTTP status over TLS, or what kept the client from one."""
    opener = urllib.request.build_opener(urllib.request.HTTPSHandler(context=context))
    try:
        return opener.open(f"https://{address}{path}", timeout=10).status
    except urllib.error.HTTPError as error:
        return error.code
    except (OSError, urllib.error.URLError) as error:
        return f"refused: {type(getattr(error, 'reason', error)).__name__}"


def trusting(ca, own=None):
    context = ssl.create_default_context()
    ca.configure_trust(context)
    if own:
        own.configure_cert(context)
    return context


def files(folder, name, certificate):
    chain, key = folder / f"{name}.pem", folder / f"{name}-key.pem"
    chain.write_bytes(b"".join(blob.bytes() for blob in certificate.cert_chain_pems))
    key.write_bytes(certificate.private_key_pem.bytes())
    return chain, key


def root_of(ca):
    return ca.cert_pem.bytes()


def channel_of(address, ca, own=None):
    pair = (own.private_key_pem.bytes(), b"".join(b.bytes() for b in own.cert_chain_pems)) if own else (None, None)
    return grpc.secure_channel(address, grpc.ssl_channel_credentials(root_of(ca), *pair))


def health(channel):
    try:
        stub = health_pb2_grpc.HealthStub(channel)
        answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=5)
        return health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
    except grpc.RpcError as error:
        return error.code().name


def serial(address, ca):
    """Of the certificate that the port shows."""
    with socket.create_connection(address.split(":"), timeout=10) as plain:
        with trusting(ca).wrap_socket(plain, server_hostname="127.0.0.1") as secured:
            return secured.getpeercert()["serialNumber"]


def refusal(mlctl, base, *arguments):
    command = [mlctl, "serve", f"--model_base_path={base}", "--port=0", "--rest_api_port=0", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    return [done.returncode, done.stderr.strip()]


def check_tls(report, mlctl, folder, base):
    ca, other = trustme.CA(), trustme.CA()
    chain, key = files(folder, "server", ca.issue_cert("127.0.0.1"))
    own = [f"--tls-cert={chain}", f"--tls-key={key}"]
    with Server(mlctl, *own, base=base) as server:
        report.check("TLS: the log says https", lambda: server.scheme, equal("https"))
        report.check("TLS: REST", lambda: statuses(server.rest, trusting(ca)), equal(200))
        report.check("TLS: REST, another authority", lambda: statuses(server.rest, trusting(other)), equal("refused: SSLCertVerificationError"))
        probe = [mlctl, "serve", "--health_check", f"--rest_api_port={server.rest.split(':')[1]}"]
        asked = lambda *more: subprocess.run([*probe, *more], capture_output=True, timeout=20).returncode  # noqa: E731
        report.check("TLS: --health_check", lambda: [asked(*own), asked()], equal([0, 1]))
        report.check("TLS: gRPC", lambda: health(channel_of(server.grpc, ca)), equal("SERVING"))
        report.check("TLS: gRPC, another authority", lambda: health(channel_of(server.grpc, other)), equal("UNAVAILABLE"))
        report.check("TLS: gRPC in the clear", lambda: health(grpc.insecure_channel(server.grpc)), equal("UNAVAILABLE"))

        def in_the_clear():
            try:
                return urllib.request.urlopen(f"http://{server.rest}/readyz", timeout=10).status
            except (OSError, http.client.HTTPException):
                return "refused"

        report.check("TLS: REST in the clear", in_the_clear, equal("refused"))
        old = context_of_version(ssl.TLSVersion.TLSv1_1, ca)
        report.check("TLS 1.1", lambda: statuses(server.rest, old).split(":")[0], equal("refused"))
        # a handshake that does not come holds nobody up
        silent = [socket.create_connection(server.rest.split(":")) for _ in range(50)]
        report.check("TLS: beside silent clients", lambda: statuses(server.rest, trusting(ca)), equal(200))
        before = serial(server.rest, ca)
        files(folder, "server", ca.issue_cert("127.0.0.1"))
        server.process.send_signal(signal.SIGHUP)

        def renewed():
            for _ in range(100):
                if serial(server.rest, ca) != before:
                    return True
                time.sleep(0.05)
            return False

        report.check("TLS: SIGHUP takes a renewed certificate", renewed, equal(True))
        now = serial(server.rest, ca)
        chain.write_text("nothing")
        server.process.send_signal(signal.SIGHUP)
        server.wait_for("the certificates stay as they were")
        report.check("TLS: a broken one is not taken", lambda: serial(server.rest, ca) == now, equal(True))
        [connection.close() for connection in silent]

    chain, key = files(folder, "server", ca.issue_cert("127.0.0.1"))
    roots = folder / "roots.pem"
    roots.write_bytes(root_of(ca))
    known, stranger = ca.issue_cert("client"), other.issue_cert("client")
    with Server(mlctl, *own, f"--tls-client-ca={roots}", base=base) as server:
        report.check("mutual TLS: REST", lambda: statuses(server.rest, trusting(ca, known)), equal(200))
        for name, client in [("without a certificate", None), ("with a stranger's", stranger)]:
            report.check(f"mutual TLS: REST {name}", lambda: statuses(server.rest, trusting(ca, client)).split(":")[0], equal("refused"))
            report.check(f"mutual TLS: gRPC {name}", lambda: health(channel_of(server.grpc, ca, client)), equal("UNAVAILABLE"))
        report.check("mutual TLS: gRPC", lambda: health(channel_of(server.grpc, ca, known)), equal("SERVING"))

    config = folder / "ssl.config"
    quoted = lambda data: json.dumps(data.decode())
    text = f"server_key: {quoted(key.read_bytes())}\nserver_cert: {quoted(chain.read_bytes())}\n"
    config.write_text(text)
    with Server(mlctl, f"--ssl_config_file={config}", base=base) as server:
        report.check("ssl_config_file: gRPC", lambda: health(channel_of(server.grpc, ca)), equal("SERVING"))
        report.check("ssl_config_file: REST stays plain", lambda: [server.scheme, urllib.request.urlopen(f"http://{server.rest}/readyz").status], equal(["http", 200]))
    config.write_text(f"{text}custom_ca: {quoted(root_of(ca))}\nclient_verify: true\n")
    with Server(mlctl, f"--ssl_config_file={config}", base=base) as server:
        report.check("ssl_config_file: client_verify", lambda: health(channel_of(server.grpc, ca)), equal("UNAVAILABLE"))
        report.check("ssl_config_file: with a certificate", lambda: health(channel_of(server.grpc, ca, known)), equal("SERVING"))

    wrong_key = files(folder, "wrong", other.issue_cert("127.0.0.1"))[1]
    nothing = folder / "nothing.pem"
    nothing.write_text("")
    missing = folder / "missing.pem"
    for arguments, expected in [
        ((f"--tls-cert={missing}", f"--tls-key={key}"), f"{missing}: No such file or directory (os error 2)"),
        ((f"--tls-cert={nothing}", f"--tls-key={key}"), f"{nothing}: there is no certificate (-----BEGIN CERTIFICATE-----) in it"),
        ((f"--tls-cert={chain}", f"--tls-key={chain}"), f"{chain}: there is no private key in PEM in it"),
        ((f"--tls-cert={chain}", f"--tls-key={wrong_key}"), f"{chain} and {wrong_key}: "),
    ]:
        name = " ".join(Path(a).name for a in arguments)
        report.check(f"refused: {name}", lambda: [(told := refusal(mlctl, base, *arguments))[0], expected in told[1]] or told, equal([1, True]))


def context_of_version(version, ca):
    context = trusting(ca)
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = version
    return context


def check_reflection(report, mlctl, base):
    with Server(mlctl, base=base) as server:
        channel = grpc.insecure_channel(server.grpc)
        database = ProtoReflectionDescriptorDatabase(channel)
        services = [
            "grpc.health.v1.Health",
            "inference.GRPCInferenceService",
            "tensorflow.serving.ModelService",
            "tensorflow.serving.PredictionService",
        ]
        report.check("reflection: services", lambda: sorted(set(services) & set(database.get_services())), equal(services))
        pool = descriptor_pool.DescriptorPool(database)
        method = pool.FindServiceByName("tensorflow.serving.PredictionService").FindMethodByName("Predict")
        request = message_factory.GetMessageClass(method.input_type)()
        request.model_spec.name = "lenet"
        image = request.inputs["input"]
        image.dtype = 1
        for size in (2, 28, 28, 1):
            image.tensor_shape.dim.add(size=size)
        image.float_val.append(0.0)
        call = channel.unary_unary(
            "/tensorflow.serving.PredictionService/Predict",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=message_factory.GetMessageClass(method.output_type).FromString,
        )
        report.check("reflection: a call from its descriptors alone", lambda: called(call, request), equal([2, 10]))


def called(call, request):
    (output,) = call(request).outputs.values()
    return [dim.size for dim in output.tensor_shape.dim]


def check_watch(report, mlctl, folder):
    base = folder / "appears"
    base.mkdir()
    with Server(mlctl, base=base, ready=False) as server:
        channel = grpc.insecure_channel(server.grpc)
        stub = health_pb2_grpc.HealthStub(channel)
        seen = []
        name = health_pb2.HealthCheckResponse.ServingStatus.Name

        def watch():
            try:
                for answer in stub.Watch(health_pb2.HealthCheckRequest()):
                    seen.append(name(answer.status))
            except grpc.RpcError:
                pass

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()

        def after(count):
            for _ in range(300):
                if len(seen) >= count:
                    return seen[:]
                time.sleep(0.05)
            return seen[:]

        report.check("Watch: before there is a version", lambda: after(1), equal(["NOT_SERVING"]))
        unknown = stub.Watch(health_pb2.HealthCheckRequest(service="none"))
        report.check("Watch: no such service", lambda: name(next(unknown).status), equal("SERVICE_UNKNOWN"))
        unknown.cancel()
        making = folder / "making"
        making.mkdir()
        shutil.copy(MODEL, making / "model.onnx")
        making.rename(base / "1")
        report.check("Watch: a version answers", lambda: after(2), equal(["NOT_SERVING", "SERVING"]))
        server.process.send_signal(signal.SIGTERM)
        started = time.monotonic()
        server.process.wait(40)
        report.check("Watch does not hold up the end (s)", lambda: time.monotonic() - started, at_most(5.0))
        watcher.join(10)
        report.check("Watch: the end", lambda: seen, equal(["NOT_SERVING", "SERVING", "NOT_SERVING"]))


def main(mlctl):
    report = Report("check_transport")
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        base = folder / "lenet"
        (base / "1").mkdir(parents=True)
        shutil.copy(MODEL, base / "1/model.onnx")
        check_tls(report, mlctl, folder, base)
        check_reflection(report, mlctl, base)
        check_watch(report, mlctl, folder)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
