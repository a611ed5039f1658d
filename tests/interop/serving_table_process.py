"""Runs where TensorFlow's serving API is installed: asks a server the gRPC rows of the table through the API's own messages.

    python serving_table_process.py ADDRESS [NAME=VALUE of metadata]… < ROWS.json      (code and answer of each row as JSON on stdout)

A row whose method is "health" asks gRPC's health service.
"""

import json
import sys

import grpc
from google.protobuf import json_format
from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc
from tensorflow_serving.apis import classification_pb2, get_model_metadata_pb2, get_model_status_pb2, inference_pb2
from tensorflow_serving.apis import model_management_pb2, predict_pb2, regression_pb2

REQUESTS = {
    "Predict": predict_pb2.PredictRequest,
    "Classify": classification_pb2.ClassificationRequest,
    "Regress": regression_pb2.RegressionRequest,
    "MultiInference": inference_pb2.MultiInferenceRequest,
    "GetModelMetadata": get_model_metadata_pb2.GetModelMetadataRequest,
    "GetModelStatus": get_model_status_pb2.GetModelStatusRequest,
    "HandleReloadConfigRequest": model_management_pb2.ReloadConfigRequest,
}


def main():
    channel = grpc.insecure_channel(sys.argv[1])
    metadata = [tuple(pair.split("=", 1)) for pair in sys.argv[2:]]
    stubs = {
        "PredictionService": prediction_service_pb2_grpc.PredictionServiceStub(channel),
        "ModelService": model_service_pb2_grpc.ModelServiceStub(channel),
    }
    found = []
    for method, request, _, _ in json.load(sys.stdin):
        try:
            if method == "health":
                check = channel.unary_unary("/grpc.health.v1.Health/Check", bytes, bytes)
                found.append(["OK", check(b"", timeout=10).hex()])
                continue
            service, name = method.split("/")
            message = json_format.Parse(request, REQUESTS[name]())
            answer = getattr(stubs[service], name)(message, timeout=10, metadata=metadata)
            found.append(["OK", json_format.MessageToDict(answer)])
        except grpc.RpcError as error:
            found.append([error.code().name, error.details()])
    print(json.dumps(found))


if __name__ == "__main__":
    main()
