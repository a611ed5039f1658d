"""`mlctl serve` asked as clients ask TensorFlow Serving, its answers held to onnxruntime's.

    "$(tests/peers/venv.sh)" tests/interop/check_serve.py target/release/mlctl
"""

import gzip
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnxruntime
import tensorflow_peer
from report import Report, at_most, equal
from serving import Server

HERE = Path(__file__).resolve().parent
FIXTURES = HERE.parents[1] / "fixtures"


def post(url, body, packed=False):
    """The answer to a body of JSON, as the standard library asks for it."""
    data, headers = json.dumps(body).encode(), {"Content-Type": "application/json"}
    if packed:
        data, headers["Content-Encoding"], headers["Accept-Encoding"] = gzip.compress(data), "gzip", "gzip"
    with urllib.request.urlopen(urllib.request.Request(url, data, headers)) as response:
        answer = response.read()
        if response.headers.get("Content-Encoding") == "gzip":
            answer = gzip.decompress(answer)
    return json.loads(answer)


def book_client(url, X_new):
    """The client of "Hands-On Machine Learning" (Géron, 3rd edition, chapter 19), with urllib for requests.post."""
    request_json = json.dumps({"signature_name": "serving_default", "instances": X_new.tolist()})
    response = urllib.request.urlopen(urllib.request.Request(url, request_json.encode()))
    response = json.loads(response.read())
    y_proba = np.array(response["predictions"])
    return y_proba


def difference(a, b):
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    assert a.shape == b.shape, f"shapes {a.shape} and {b.shape}"
    return float(np.abs(a - b).max())


def nets():
    """Name, ONNX file, sizes of its open dimensions."""
    yield "pnet", "pnet.onnx", (2, 24, 31)
    yield "rnet", "rnet.onnx", (3,)
    yield "lenet", "lenet_mnist.onnx", (5,)
    yield "squeezenet", "squeezenet1_1.onnx", (2,)


def inputs_of(session, sizes):
    """Random values; open dimensions take the sizes in turn, the last again where there are too few."""
    random, made = np.random.default_rng(1), {}
    for port in session.get_inputs():
        left, shape = list(sizes), []
        for dimension in port.shape:
            if isinstance(dimension, int):
                shape.append(dimension)
            else:
                shape.append(left.pop(0) if len(left) > 1 else left[0])
        made[port.name] = random.random(shape, np.float32)
    return made


def check_nets(report, mlctl, folder):
    for name, file, sizes in nets():
        version = folder / name / "1"
        version.mkdir(parents=True)
        (version / "model.onnx").write_bytes((FIXTURES / "models" / file).read_bytes())
        session = onnxruntime.InferenceSession(version / "model.onnx")
        inputs = inputs_of(session, sizes)
        expected = dict(zip([o.name for o in session.get_outputs()], session.run(None, inputs)))
        names = list(expected)
        with Server(mlctl, folder / name) as server:
            url = f"{server.url}/v1/models/{name}:predict"
            columns = post(url, {"inputs": {n: v.tolist() for n, v in inputs.items()}}, packed=True)["outputs"]
            columns = columns if len(names) > 1 else {names[0]: columns}
            for output, value in expected.items():
                limit = 1e-5 * max(1.0, float(np.abs(value).max()))
                report.check(f"{name}, columns, {output}", lambda: difference(columns[output], value), at_most(limit))
            rows = post(url, {"instances": next(iter(inputs.values())).tolist()})["predictions"]
            for output in names:
                own = [row[output] for row in rows] if len(names) > 1 else rows
                report.check(f"{name}, rows, {output}", lambda: difference(own, columns[output]), at_most(0.0))


def check_trained(report, mlctl, folder):
    subprocess.run([mlctl, "train", "-q"], cwd=folder, check=True, capture_output=True)
    base = folder / "my_mnist_model"
    session = onnxruntime.InferenceSession(base / "0001" / "model.onnx")
    digits = np.random.default_rng(2).random((7, 28, 28, 1), np.float32)
    expected = session.run(None, {"input": digits})[0]
    batching = folder / "batching.txt"
    batching.write_text("max_batch_size { value: 16 } batch_timeout_micros { value: 1000 }")
    flags = ("--enable_batching=true", f"--batching_parameters_file={batching}", "--rest-api-timeout-in-ms=5000")
    for what, more in (("alone", ()), ("in batches", flags)):
        with Server(mlctl, "--model_name=digits", f"--model_base_path={base}", *more) as server:
            url = f"{server.url}/v1/models/digits:predict"
            report.check(f"{what}: the book's client", lambda: difference(book_client(url, digits), expected), at_most(1e-5))

            def ask(i):
                own = slice(i % 5, i % 5 + 1 + i % 3)
                return difference(book_client(url, digits[own]), expected[own])

            with ThreadPoolExecutor(8) as pool:
                report.check(f"{what}: 8 clients at once", lambda: max(pool.map(ask, range(200))), at_most(1e-5))
            examples = {"examples": [{"input": digit.reshape(-1).tolist()} for digit in digits]}
            results = post(f"{server.url}/v1/models/digits:classify", examples)["results"]
            scores = [[score for _, score in row] for row in results]
            report.check(f"{what}: classify", lambda: difference(scores, expected), at_most(1e-5))
            report.check(f"{what}: labels", lambda: [label for label, _ in results[0]], equal(list("0123456789")))


SERVING_API = "tensorflow-serving-api==2.21.0"


def serving_api():
    """TensorFlow's interpreter, and a folder with its serving API: generated stubs, made on first use."""
    python = Path(tensorflow_peer.python())
    folder = python.parents[1] / SERVING_API
    if not folder.is_dir():
        command = [python, "-m", "pip", "install", "-q", "--no-deps", "--target", folder, SERVING_API]
        subprocess.run(command, check=True)
    return python, folder


def check_grpc(report, mlctl, folder):
    try:
        python, api = serving_api()
    except tensorflow_peer.NoTensorflow as error:
        print(f"not checked: gRPC through TensorFlow's stubs: {error}")
        return
    base = folder / "my_mnist_model"
    session = onnxruntime.InferenceSession(base / "0001" / "model.onnx")
    digits = np.random.default_rng(3).random((7, 28, 28, 1), np.float32)
    expected = session.run(None, {"input": digits})[0]
    arrays = folder / "arrays.npz"
    np.savez(arrays, digits=digits, expected=expected)
    with Server(mlctl, "--model_name=digits", f"--model_base_path={base}") as server:
        command = [python, HERE / "serving_api_process.py", server.grpc, arrays, "digits", base]
        environment = os.environ | {"PYTHONPATH": str(api), "TF_CPP_MIN_LOG_LEVEL": "3"}
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
        if done.returncode != 0:
            raise RuntimeError(f"the client exits {done.returncode}: {done.stderr[-2000:]}")
        told = json.loads(done.stdout.splitlines()[-1])
    expectations = {
        "Predict, spec": equal(["digits", 1, "serving_default"]),
        "Classify, labels": equal(list("0123456789")),
        "Regress of a classifier": equal(
            "INVALID_ARGUMENT: Expected regression signature method_name to be tensorflow/serving/regress. Was: "
            "tensorflow/serving/predict"
        ),
        "GetModelMetadata": equal([1, [-1, 28, 28, 1]]),
        "GetModelStatus": equal([[1, "AVAILABLE", 0]]),
        "no such model": equal("NOT_FOUND: Servable not found for request: Latest(none)"),
        "no such version": equal("NOT_FOUND: Servable not found for request: Specific(digits, 7)"),
        "no such label": equal("INVALID_ARGUMENT: Unrecognized servable version label: L"),
        "no such signature": equal('FAILED_PRECONDITION: Serving signature key "X" not found.'),
        "no model": equal("INVALID_ARGUMENT: Missing ModelSpec"),
        "no inputs": equal(
            "INVALID_ARGUMENT: input size does not match signature: 0!=1 len({}) != len({input}). Sent extra: {}. "
            "Missing but required: {input}."
        ),
        "wrong type": equal("INVALID_ARGUMENT: input 'input' is expected to be float but int64 is provided"),
        "wrong shape": equal("INVALID_ARGUMENT: input 'input' takes shape [N, 28, 28, 1], got [7, 5, 28, 1]"),
        "lying sizes": equal(
            "INVALID_ARGUMENT: Tensor 'input': tensor_content: there are 21952 bytes, the shape [1099511627776, 28, 28, 1] "
            "needs 3448068464705536"
        ),
        "no time": equal("DEADLINE_EXCEEDED"),
        "no such method": equal("UNIMPLEMENTED: unknown method /tensorflow.serving.PredictionService/Nothing"),
        "no message": equal("INTERNAL"),
        "health": equal("0801"),
        "HandleReloadConfigRequest": equal(0),
        "label of no version": equal(
            "FAILED_PRECONDITION: Request to assign label to version 9 of model renamed, which is not currently available "
            "for inference"
        ),
    }
    for name, found in told.items():
        report.check(f"gRPC, {name}", lambda: found, expectations.get(name, at_most(1e-5)))


RECORDS = """
import sys
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import classification_pb2, inference_pb2, predict_pb2, prediction_log_pb2

predict = predict_pb2.PredictRequest()
predict.inputs["input"].CopyFrom(tf.make_tensor_proto(np.zeros((2, 28, 28, 1), np.float32)))
feature = tf.train.Feature(float_list=tf.train.FloatList(value=[0.5] * 784))
example = tf.train.Example(features=tf.train.Features(feature={"input": feature}))
classify, multi = classification_pb2.ClassificationRequest(), inference_pb2.MultiInferenceRequest()
classify.input.example_list.examples.append(example)
multi.input.example_list.examples.append(example)
multi.tasks.add(method_name="tensorflow/serving/classify")
logs = [
    prediction_log_pb2.PredictionLog(predict_log=prediction_log_pb2.PredictLog(request=predict)),
    prediction_log_pb2.PredictionLog(classify_log=prediction_log_pb2.ClassifyLog(request=classify)),
    prediction_log_pb2.PredictionLog(multi_inference_log=prediction_log_pb2.MultiInferenceLog(request=multi)),
]
with tf.io.TFRecordWriter(sys.argv[1]) as writer:
    [writer.write(log.SerializeToString()) for log in logs]
"""


def check_warm_up(report, mlctl, folder):
    """Requests that TensorFlow's writer recorded run before the first."""
    try:
        python, api = serving_api()
    except tensorflow_peer.NoTensorflow as error:
        print(f"not checked: records that TensorFlow wrote: {error}")
        return
    base = folder / "warm"
    shutil.copytree(folder / "my_mnist_model" / "0001", base / "1")
    (base / "1" / "assets.extra").mkdir()
    records = base / "1" / "assets.extra" / "tf_serving_warmup_requests"
    environment = os.environ | {"PYTHONPATH": str(api), "TF_CPP_MIN_LOG_LEVEL": "3"}
    subprocess.run([python, "-c", RECORDS, records], check=True, capture_output=True, env=environment, timeout=300)
    with Server(mlctl, "--model_name=warm", f"--model_base_path={base}") as server:
        metrics = urllib.request.urlopen(server.url + "/monitoring/prometheus/metrics").read().decode()
    found = re.search(r'mlctl_batch_rows_sum{model="warm",version="1"} (\d+)', metrics)
    report.check("warm-up: rows of the recorded requests", lambda: int(found[1]), equal(4))


def main():
    mlctl, report = Path(sys.argv[1]).resolve(), Report("serve")
    with tempfile.TemporaryDirectory() as folder:
        check_nets(report, mlctl, Path(folder))
        check_trained(report, mlctl, Path(folder))
        check_grpc(report, mlctl, Path(folder))
        check_warm_up(report, mlctl, Path(folder))
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
