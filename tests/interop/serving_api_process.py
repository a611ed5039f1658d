"""Runs where TensorFlow and its serving API are installed: asks a server through the generated stubs, every method.

    python serving_api_process.py ADDRESS ARRAYS.npz MODEL      (the answers as JSON on stdout)
"""

import json
import sys

import grpc
import numpy as np
import tensorflow as tf
from google.protobuf import wrappers_pb2
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    model_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)


def failure(call):
    try:
        call()
        return "no error"
    except grpc.RpcError as error:
        return f"{error.code().name}: {error.details()}"


def example(values):
    return tf.train.Example(features=tf.train.Features(feature={"input": tf.train.Feature(float_list=tf.train.FloatList(value=values))}))


def main():
    address, arrays, model = sys.argv[1], np.load(sys.argv[2]), sys.argv[3]
    digits, expected = arrays["digits"], arrays["expected"]
    channel = grpc.insecure_channel(address, options=[("grpc.max_receive_message_length", -1)])
    prediction = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    models = model_service_pb2_grpc.ModelServiceStub(channel)

    def spec(**more):
        return model_pb2.ModelSpec(name=model, **more)

    def request(values=digits, **more):
        made = predict_pb2.PredictRequest(model_spec=spec(**more))
        made.inputs["input"].CopyFrom(tf.make_tensor_proto(values))
        return made

    def difference(found, wanted=expected):
        found = np.asarray(found)
        return float(np.abs(found - wanted).max()) if found.shape == wanted.shape else f"shape {found.shape}"

    told = {}
    response = prediction.Predict(request(), timeout=10)
    told["Predict"] = difference(tf.make_ndarray(response.outputs["probabilities"]))
    told["Predict, spec"] = [response.model_spec.name, response.model_spec.version.value, response.model_spec.signature_name]
    named = request(version=wrappers_pb2.Int64Value(value=1), signature_name="serving_default")
    named.output_filter.append("probabilities")
    told["Predict, version and filter"] = difference(tf.make_ndarray(prediction.Predict(named).outputs["probabilities"]))
    values = predict_pb2.PredictRequest(model_spec=spec())
    values.inputs["input"].dtype = 1
    values.inputs["input"].tensor_shape.CopyFrom(tf.TensorShape(digits.shape).as_proto())
    values.inputs["input"].float_val.extend(digits.reshape(-1).tolist())
    told["Predict, float_val"] = difference(tf.make_ndarray(prediction.Predict(values).outputs["probabilities"]))
    packed = prediction.Predict(request(), compression=grpc.Compression.Gzip)
    told["Predict, gzip"] = difference(tf.make_ndarray(packed.outputs["probabilities"]))
    many = np.concatenate([digits] * 300)
    big = prediction.Predict(request(many), timeout=30)
    told["Predict, 6 MB"] = difference(tf.make_ndarray(big.outputs["probabilities"]), np.concatenate([expected] * 300))
    futures = [prediction.Predict.future(request(digits[i % 5 :])) for i in range(200)]
    found = [difference(tf.make_ndarray(f.result().outputs["probabilities"]), expected[i % 5 :]) for i, f in enumerate(futures)]
    told["Predict, 200 at once"] = max(found)

    examples = [example(digit.reshape(-1)) for digit in digits]
    classify = classification_pb2.ClassificationRequest(model_spec=spec())
    classify.input.example_list.examples.extend(examples)
    result = prediction.Classify(classify).result
    told["Classify"] = difference([[c.score for c in row.classes] for row in result.classifications])
    told["Classify, labels"] = [c.label for c in result.classifications[0].classes]
    regress = regression_pb2.RegressionRequest(model_spec=spec())
    regress.input.example_list.examples.extend(examples)
    told["Regress of a classifier"] = failure(lambda: prediction.Regress(regress))
    multi = inference_pb2.MultiInferenceRequest()
    multi.tasks.add(model_spec=spec(), method_name="tensorflow/serving/classify")
    multi.input.example_list_with_context.examples.extend([tf.train.Example()] * 2)
    multi.input.example_list_with_context.context.CopyFrom(examples[3])
    result = prediction.MultiInference(multi).results[0].classification_result
    told["MultiInference"] = difference([[c.score for c in row.classes] for row in result.classifications], expected[[3, 3]])

    metadata = get_model_metadata_pb2.GetModelMetadataRequest(model_spec=spec(), metadata_field=["signature_def"])
    signatures = get_model_metadata_pb2.SignatureDefMap()
    prediction.GetModelMetadata(metadata).metadata["signature_def"].Unpack(signatures)
    port = signatures.signature_def["serving_default"].inputs["input"]
    told["GetModelMetadata"] = [port.dtype, [d.size for d in port.tensor_shape.dim]]
    status = models.GetModelStatus(get_model_status_pb2.GetModelStatusRequest(model_spec=spec())).model_version_status
    told["GetModelStatus"] = [[v.version, v.State.Name(v.state), v.status.error_code] for v in status]

    told["no such model"] = failure(lambda: prediction.Predict(predict_pb2.PredictRequest(model_spec=model_pb2.ModelSpec(name="none"))))
    told["no such version"] = failure(lambda: prediction.Predict(request(version=wrappers_pb2.Int64Value(value=7))))
    told["no such label"] = failure(lambda: prediction.Predict(request(version_label="L")))
    told["no such signature"] = failure(lambda: prediction.Predict(request(signature_name="X")))
    told["no model"] = failure(lambda: prediction.Predict(predict_pb2.PredictRequest()))
    told["no inputs"] = failure(lambda: prediction.Predict(predict_pb2.PredictRequest(model_spec=spec())))
    told["wrong type"] = failure(lambda: prediction.Predict(request(digits.astype(np.int64))))
    told["wrong shape"] = failure(lambda: prediction.Predict(request(digits[:, :5])))
    lying = request()
    lying.inputs["input"].tensor_shape.dim[0].size = 1 << 40
    told["lying sizes"] = failure(lambda: prediction.Predict(lying))
    told["no time"] = failure(lambda: prediction.Predict(request(many), timeout=0.0001)).split(":")[0]
    unknown = channel.unary_unary("/tensorflow.serving.PredictionService/Nothing", lambda x: x, lambda x: x)
    told["no such method"] = failure(lambda: unknown(b""))
    broken = channel.unary_unary("/tensorflow.serving.PredictionService/Predict", lambda x: x, lambda x: x)
    told["no message"] = failure(lambda: broken(b"\xff\xff\xff")).split(":")[0]
    health = channel.unary_unary("/grpc.health.v1.Health/Check", lambda x: x, lambda x: x)
    told["health"] = health(b"").hex()

    reload = model_management_pb2.ReloadConfigRequest()
    config = reload.config.model_config_list.config
    base_path = sys.argv[4]
    config.add(name="renamed", base_path=base_path, model_platform="tensorflow").version_labels["stable"] = 1
    told["HandleReloadConfigRequest"] = models.HandleReloadConfigRequest(reload).status.error_code
    renamed = request(version_label="stable")
    renamed.model_spec.name = "renamed"
    told["reloaded"] = difference(tf.make_ndarray(prediction.Predict(renamed).outputs["probabilities"]))
    config[0].version_labels["stable"] = 9
    told["label of no version"] = failure(lambda: models.HandleReloadConfigRequest(reload))
    told["label stays"] = difference(tf.make_ndarray(prediction.Predict(renamed).outputs["probabilities"]))
    json.dump(told, sys.stdout)


if __name__ == "__main__":
    main()
