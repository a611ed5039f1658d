"""`mlctl serve` asked by Triton's client over HTTP and gRPC, its answers held to onnxruntime's.

    "$(tests/peers/venv.sh)" tests/interop/check_kserve.py target/release/mlctl

The client has an environment of its own (tests/peers/triton.txt), in which the script starts itself again. Exit 75: it
cannot be made.
"""

import asyncio
import os
import queue
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper
from report import Report, at_most, equal
from serving import Server

HERE = Path(__file__).resolve().parent
FIXTURES = HERE.parents[1] / "fixtures"


def with_triton():
    """Goes on in the environment that has Triton's client."""
    try:
        import tritonclient.grpc  # noqa: F401
    except ImportError:
        venv = subprocess.run([HERE.parent / "peers/venv.sh", HERE.parent / "peers/triton.txt"], stdout=subprocess.PIPE, text=True)
        if venv.returncode != 0:
            sys.exit(venv.returncode)
        if os.environ.get("MLCTL_TRITON"):
            raise
        os.execve(venv.stdout.strip(), [venv.stdout.strip(), *sys.argv], os.environ | {"MLCTL_TRITON": "1"})


def kinds_model():
    """Every kind of number that the protocol and onnxruntime share: doubled, turned over, or put behind itself."""
    kinds = {
        "f32": TensorProto.FLOAT,
        "f16": TensorProto.FLOAT16,
        "i8": TensorProto.INT8,
        "u8": TensorProto.UINT8,
        "i32": TensorProto.INT32,
        "i64": TensorProto.INT64,
        "flag": TensorProto.BOOL,
    }
    nodes, inputs, outputs = [], [], []
    for name, kind in kinds.items():
        shape = ["N", 2, 3] if name == "f32" else ["N", 4]
        inputs.append(helper.make_tensor_value_info(name, kind, shape))
        if name == "flag":
            nodes.append(helper.make_node("Not", [name], [f"{name}_out"]))
        elif name in ("i8", "u8"):
            shape = ["N", 8]
            nodes.append(helper.make_node("Concat", [name, name], [f"{name}_out"], axis=1))
        else:
            nodes.append(helper.make_node("Add", [name, name], [f"{name}_out"]))
        outputs.append(helper.make_tensor_value_info(f"{name}_out", kind, shape))
    graph = helper.make_graph(nodes, "kinds", inputs, outputs)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def doubling_model(shape):
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Add", ["x", "x"], ["y"])], "doubling", ends[:1], ends[1:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def kinds_inputs(rows):
    random = np.random.default_rng(4)
    return {
        "f32": random.standard_normal((rows, 2, 3)).astype(np.float32),
        "f16": random.standard_normal((rows, 4)).astype(np.float16),
        "i8": random.integers(-128, 128, (rows, 4), np.int8),
        "u8": random.integers(0, 256, (rows, 4), np.uint8),
        "i32": random.integers(-(2**30), 2**30, (rows, 4), np.int32),
        "i64": random.integers(-(2**61), 2**61, (rows, 4), np.int64),
        "flag": random.integers(0, 2, (rows, 4)).astype(bool),
    }


def difference(found, expected):
    worst = 0.0
    for name, value in expected.items():
        own = found.as_numpy(name)
        assert own is not None, f"no output {name}"
        assert own.shape == value.shape and own.dtype == value.dtype, f"{name}: {own.dtype}{own.shape}, {value.dtype}{value.shape}"
        if value.dtype.kind == "f":
            worst = max(worst, float(np.abs(own.astype(np.float64) - value.astype(np.float64)).max(initial=0)))
        else:
            assert (own == value).all(), f"{name} differs"
    return worst


def tensors(module, inputs, **how):
    from tritonclient.utils import np_to_triton_dtype

    made = []
    for name, value in inputs.items():
        tensor = module.InferInput(name, list(value.shape), np_to_triton_dtype(value.dtype))
        # the client itself sends float16 in no other form
        as_json = how and not how["binary_data"] and value.dtype != np.float16
        tensor.set_data_from_numpy(value, **({"binary_data": not as_json} if how else {}))
        made.append(tensor)
    return made


def wanted(module, names, **how):
    return [module.InferRequestedOutput(name, **how) for name in names]


def refusal(call):
    from tritonclient.utils import InferenceServerException

    try:
        call()
    except InferenceServerException as error:
        return f"{error.status()}: {error.message()}"
    return "no error"


def check_client(report, what, module, client, name, inputs, expected, ways):
    """`ways`: named keyword arguments of InferInput, of InferRequestedOutput and of infer."""
    names = list(expected)
    for way, (into, out, more) in ways.items():
        def ask():
            outputs = None if out is None else wanted(module, names, **out)
            return difference(client.infer(name, tensors(module, inputs, **into), outputs=outputs, **more), expected)

        report.check(f"{what}, {way}", ask, at_most(1e-5))

    def ask_chosen():
        found = client.infer(name, tensors(module, inputs), outputs=wanted(module, names[-1:]), request_id="seven", model_version="1")
        response = found.get_response()
        answered = response if isinstance(response, dict) else {"id": response.id, "model_version": response.model_version}
        others = [n for n in names[:-1] if found.as_numpy(n) is not None]
        return [answered["id"], answered["model_version"], others, difference(found, {names[-1]: expected[names[-1]]}) <= 1e-5]

    report.check(f"{what}, one output", ask_chosen, equal(["seven", "1", [], True]))


HTTP_WAYS = {
    "JSON both ways": ({"binary_data": False}, {"binary_data": False}, {}),
    "binary both ways": ({"binary_data": True}, {"binary_data": True}, {}),
    "binary in, JSON out": ({"binary_data": True}, {"binary_data": False}, {}),
    "JSON in, all outputs binary": ({"binary_data": False}, None, {}),
    "packed": ({"binary_data": True}, {"binary_data": True}, {"request_compression_algorithm": "gzip", "response_compression_algorithm": "gzip"}),
    "packed JSON": ({"binary_data": False}, {"binary_data": False}, {"request_compression_algorithm": "gzip", "response_compression_algorithm": "gzip"}),
}
GRPC_WAYS = {
    "raw": ({}, {}, {}),
    "all outputs": ({}, None, {}),
    "packed": ({}, {}, {"compression_algorithm": "gzip"}),
}


def check_pages(report, what, client, as_dict, codes):
    """What the server and its models say of themselves; `codes` are those of errors that are not found, and of bad arguments."""
    report.check(f"{what}: live, ready", lambda: [client.is_server_live(), client.is_server_ready()], equal([True, True]))
    ready = lambda *of: client.is_model_ready(*of)  # noqa: E731
    report.check(f"{what}: models ready", lambda: [ready("kinds"), ready("kinds", "1"), ready("kinds", "7"), ready("none")], equal([True, True, False, False]))
    report.check(f"{what}: server", lambda: as_dict(client.get_server_metadata())["name"], equal("mlctl"))
    metadata = as_dict(client.get_model_metadata("kinds"))
    told = [[port["name"], port["datatype"], [int(n) for n in port["shape"]]] for port in metadata["inputs"]]
    kinds = {"f32": "FP32", "f16": "FP16", "i8": "INT8", "u8": "UINT8", "i32": "INT32", "i64": "INT64", "flag": "BOOL"}
    report.check(f"{what}: metadata", lambda: told, equal([[n, k, [-1, 2, 3] if n == "f32" else [-1, 4]] for n, k in kinds.items()]))
    config = as_dict(client.get_model_config("kinds"))
    config = config.get("config", config)
    types = [port["data_type"] for port in config["output"]]
    report.check(f"{what}: config", lambda: types, equal([f"TYPE_{kind}" for kind in kinds.values()]))
    index = as_dict(client.get_model_repository_index())
    index = sorted((m["name"], m["version"], m["state"]) for m in (index if isinstance(index, list) else index["models"]))
    report.check(f"{what}: index", lambda: index, equal([(name, "1", "READY") for name in ("digits", "kinds", "pairs", "scalar")]))
    statistics = as_dict(client.get_inference_statistics("kinds"))["model_stats"][0]
    counts = [int(statistics["inference_stats"]["success"]["count"]) > 0, int(statistics["execution_count"]) > 0]
    report.check(f"{what}: statistics", lambda: counts, equal([True, True]))
    not_found, unavailable = codes
    report.check(
        f"{what}: unknown model",
        lambda: refusal(lambda: client.get_model_metadata("none")),
        equal(f"{not_found}: Request for unknown model: 'none' is not found"),
    )
    report.check(f"{what}: no loading", lambda: refusal(lambda: client.unload_model("kinds")).split(":")[0], equal(unavailable))


def check_errors(report, what, module, client, codes):
    not_found, invalid = codes
    one = {"input": np.zeros((1, 28, 28, 1), np.float32)}
    cases = {
        "unknown model": (lambda: client.infer("none", tensors(module, one)), f"{not_found}: Request for unknown model: 'none' is not found"),
        "unknown version": (
            lambda: client.infer("digits", tensors(module, one), model_version="7"),
            f"{not_found}: Request for unknown model: 'digits' version 7 is not found",
        ),
        "unknown input": (
            lambda: client.infer("digits", tensors(module, {"q": one["input"]})),
            f"{invalid}: unexpected inference input 'q' for model 'digits'",
        ),
        "unknown output": (
            lambda: client.infer("digits", tensors(module, one), outputs=wanted(module, ["q"])),
            f"{invalid}: unexpected inference output 'q' for model 'digits'",
        ),
        "wrong type": (
            lambda: client.infer("digits", tensors(module, {"input": one["input"].astype(np.int64)})),
            f"{invalid}: inference input 'input' data-type is 'INT64', but model 'digits' expects 'FP32'",
        ),
        "strings": (
            lambda: client.infer("digits", tensors(module, {"input": np.array([b"a"], np.object_)})),
            f"{invalid}: inference input 'input' data-type is 'BYTES', but model 'digits' expects 'FP32'",
        ),
        "wrong shape": (
            lambda: client.infer("digits", tensors(module, {"input": one["input"][:, :5]})),
            f"{invalid}: input 'input' takes shape [N, 28, 28, 1], got [1, 5, 28, 1]",
        ),
        "no rows": (lambda: client.infer("digits", tensors(module, {"input": one["input"][:0]})), f"{invalid}: the request has no rows"),
        "classes": (
            lambda: client.infer("digits", tensors(module, one), outputs=wanted(module, ["probabilities"], class_count=3)),
            f"{invalid}: 'classification' of outputs is not supported: take the scores, or ask /v1/models/NAME:classify",
        ),
    }
    for name, (call, expected) in cases.items():
        report.check(f"{what}: {name}", lambda: refusal(call), equal(expected))


def ask_in_a_stream(module, client, inputs):
    """Twenty answers and a failure, as the stream brought them: (answer, error) each."""
    answers = queue.Queue()
    client.start_stream(callback=lambda result, error: answers.put((result, error)))
    for i in range(20):
        client.async_stream_infer("kinds", tensors(module, inputs), request_id=str(i))
    client.async_stream_infer("none", tensors(module, inputs))
    found = [answers.get(timeout=30) for _ in range(21)]
    client.stop_stream()
    return found


async def ask_at_once(module, address, inputs, expected):
    async with module.InferenceServerClient(address) as client:
        names = list(expected)
        asked = [client.infer("kinds", tensors(module, inputs), outputs=wanted(module, names)) for _ in range(40)]
        return max(difference(found, expected) for found in await asyncio.gather(*asked))


def main():
    import tritonclient.grpc
    import tritonclient.grpc.aio
    import tritonclient.http
    import tritonclient.http.aio

    mlctl, report = Path(sys.argv[1]).resolve(), Report("kserve")
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        subprocess.run([mlctl, "train", "-q"], cwd=folder, check=True, capture_output=True)
        own = {"kinds": kinds_model(), "scalar": doubling_model([]), "pairs": doubling_model([2, 3])}
        for name, model in own.items():
            (folder / name / "1").mkdir(parents=True)
            onnx.save(model, folder / name / "1/model.onnx")
        config = folder / "models.config"
        models = {name: folder / name for name in own} | {"digits": folder / "my_mnist_model"}
        entries = "".join(f'config {{ name: "{name}" base_path: "{path}" }}\n' for name, path in models.items())
        config.write_text(f"model_config_list {{ {entries} }}")

        def expected_of(path, inputs):
            session = onnxruntime.InferenceSession(path)
            return dict(zip([o.name for o in session.get_outputs()], session.run(None, inputs)))

        kinds = kinds_inputs(5)
        kinds_expected = expected_of(folder / "kinds/1/model.onnx", kinds)
        digits = {"input": np.random.default_rng(5).random((600, 28, 28, 1), np.float32)}
        digits_expected = expected_of(folder / "my_mnist_model/0001/model.onnx", digits)
        scalar, pairs = {"x": np.array(2.5, np.float32)}, {"x": np.arange(12, dtype=np.float32).reshape(4, 3)}
        scalar_expected = expected_of(folder / "scalar/1/model.onnx", scalar)
        halves = [expected_of(folder / "pairs/1/model.onnx", {"x": half})["y"] for half in np.split(pairs["x"], 2)]
        pairs_expected = {"y": np.concatenate(halves)}
        with Server(mlctl, f"--model_config_file={config}") as server:
            http, grpc = tritonclient.http, tritonclient.grpc
            with http.InferenceServerClient(server.http, concurrency=4) as client:
                check_client(report, "HTTP, every kind", http, client, "kinds", kinds, kinds_expected, HTTP_WAYS)
                check_client(report, "HTTP, digits", http, client, "digits", digits, digits_expected, HTTP_WAYS)
                check_client(report, "HTTP, a scalar", http, client, "scalar", scalar, scalar_expected, HTTP_WAYS)
                check_client(report, "HTTP, two rows at a time", http, client, "pairs", pairs, pairs_expected, HTTP_WAYS)
                asked = [client.async_infer("kinds", tensors(http, kinds)) for _ in range(20)]
                report.check("HTTP, async_infer", lambda: max(difference(a.get_result(), kinds_expected) for a in asked), at_most(1e-5))
                check_pages(report, "HTTP", client, lambda page: page, ("404", "503"))
                check_errors(report, "HTTP", http, client, ("404", "400"))
            with grpc.InferenceServerClient(server.grpc) as client:
                check_client(report, "gRPC, every kind", grpc, client, "kinds", kinds, kinds_expected, GRPC_WAYS)
                check_client(report, "gRPC, digits", grpc, client, "digits", digits, digits_expected, GRPC_WAYS)
                check_client(report, "gRPC, a scalar", grpc, client, "scalar", scalar, scalar_expected, GRPC_WAYS)
                check_client(report, "gRPC, two rows at a time", grpc, client, "pairs", pairs, pairs_expected, GRPC_WAYS)
                check_pages(report, "gRPC", client, as_dict, ("StatusCode.NOT_FOUND", "StatusCode.UNAVAILABLE"))
                check_errors(report, "gRPC", grpc, client, ("StatusCode.NOT_FOUND", "StatusCode.INVALID_ARGUMENT"))
                streamed = ask_in_a_stream(grpc, client, kinds)
                report.check("gRPC stream", lambda: max(difference(found, kinds_expected) for found, _ in streamed[:20]), at_most(1e-5))
                report.check("gRPC stream: in order", lambda: [found.get_response().id for found, _ in streamed[:20]], equal([str(i) for i in range(20)]))
                report.check("gRPC stream: a failure", lambda: str(streamed[20][1]), equal("Request for unknown model: 'none' is not found"))
                late = lambda: refusal(lambda: client.infer("digits", tensors(grpc, digits), client_timeout=1e-4))  # noqa: E731
                report.check("gRPC: no time", lambda: late().split(":")[0], equal("StatusCode.DEADLINE_EXCEEDED"))
            for what, module, address in (("HTTP", http.aio, server.http), ("gRPC", grpc.aio, server.grpc)):
                report.check(f"{what}, 40 at once", lambda: asyncio.run(ask_at_once(module, address, kinds, kinds_expected)), at_most(1e-5))
    return report.finish()


def as_dict(message):
    from google.protobuf import json_format

    return json_format.MessageToDict(message, preserving_proto_field_name=True)


if __name__ == "__main__":
    with_triton()
    sys.exit(main())
