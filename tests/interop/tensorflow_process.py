"""What TensorFlow makes of SavedModels: runs in TensorFlow's own Python environment, not in the peers'.

    python tensorflow_process.py JOBS.json      jobs: model, inputs (.npz), outputs (.npz to write), tflite (to write, or null), resaved (folder to make, or null)
    python tensorflow_process.py --serve        a job a line on stdin: model, inputs, outputs

Prints a JSON list: for each job the error, or what was seen; serving, a line a job.
"""

import json
import os
import sys
import traceback

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# as TensorFlow does by itself on newer processors; without it some convolutions run nowhere
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import numpy as np
import tensorflow as tf


def difference(one, other):
    return max(float(np.abs(np.asarray(one[name], np.float64) - np.asarray(other[name], np.float64)).max(initial=0)) for name in other)


def arrays(outputs):
    return {name: value.numpy() for name, value in outputs.items()}


def by_session(model, inputs):
    """As TensorFlow 1 and servers run it: restored by a session, fed and fetched by the signature."""
    with tf.compat.v1.Session(graph=tf.Graph()) as session:
        meta_graph = tf.compat.v1.saved_model.loader.load(session, ["serve"], model)
        signature = meta_graph.signature_def["serving_default"]
        feed = {signature.inputs[name].name: value for name, value in inputs.items()}
        return session.run({name: info.name for name, info in signature.outputs.items()}, feed)


def gradients(loaded, inputs, names):
    """Whether every variable has a finite gradient, of which some are not zero."""
    with tf.GradientTape() as tape:
        outputs = tf.nest.flatten(loaded(*[inputs[name] for name in names]))
        loss = sum(tf.reduce_sum(tf.cast(output, tf.float32) ** 2) for output in outputs)
    found = tape.gradient(loss, loaded.trainable_variables)
    missing = [v.name for v, g in zip(loaded.trainable_variables, found) if g is None or not np.isfinite(g.numpy()).all()]
    return {"missing": missing, "all_zero": all(not g.numpy().any() for g in found if g is not None)}


def seen(job):
    with np.load(job["inputs"]) as file:
        inputs = {name: file[name] for name in file}
    names = list(inputs)
    loaded = tf.saved_model.load(job["model"])
    signature = loaded.signatures["serving_default"]
    outputs = arrays(signature(**{name: tf.constant(value) for name, value in inputs.items()}))
    np.savez(job["outputs"], **outputs)
    report = {
        "inputs": {name: [str(s.dtype.name), s.shape.as_list()] for name, s in signature.structured_input_signature[1].items()},
        "outputs": {name: [str(s.dtype.name), s.shape.as_list()] for name, s in signature.structured_outputs.items()},
        "session": difference(by_session(job["model"], inputs), outputs),
    }
    if callable(loaded):
        called = loaded(*[inputs[name] for name in names])
        called = called if isinstance(called, dict) else {name: called for name in outputs}
        report["called"] = difference(arrays(called), outputs)
        report["variables"] = [[v.name.removesuffix(":0"), v.shape.as_list(), bool(v.trainable)] for v in loaded.variables]
        report["attributes"] = all(getattr(loaded, v.name.removesuffix(":0"), None) is v for v in loaded.variables)
        if job["gradients"]:
            report["gradients"] = gradients(loaded, {name: tf.constant(value) for name, value in inputs.items()}, names)
    if job["resaved"]:
        tf.saved_model.save(loaded, job["resaved"], signatures=loaded.signatures)
        again = tf.saved_model.load(job["resaved"]).signatures["serving_default"]
        report["resaved"] = difference(arrays(again(**{name: tf.constant(value) for name, value in inputs.items()})), outputs)
    if job["tflite"]:
        written = tf.lite.TFLiteConverter.from_saved_model(job["model"]).convert()
        with open(job["tflite"], "wb") as file:
            file.write(written)
        report["tflite_bytes"] = len(written)
    return report


def called(job):
    """Calls the signature; nothing is reported beside the outputs."""
    with np.load(job["inputs"]) as file:
        inputs = {name: tf.constant(file[name]) for name in file}
    np.savez(job["outputs"], **arrays(tf.saved_model.load(job["model"]).signatures["serving_default"](**inputs)))
    return {}


def result(job, function):
    try:
        return function(job)
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        place = [frame for frame in frames if frame.filename == __file__][-1]
        text = str(error).strip().splitlines() or [""]
        return {"error": f"{type(error).__name__} (line {place.lineno}): {text[0][:300]}"}


def serve():
    # what C++ code prints must not come between the answers
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    for number, line in enumerate(sys.stdin):
        print(json.dumps(result(json.loads(line), called)), file=answers, flush=True)
        if number % 100 == 99:
            tf.keras.backend.clear_session()


def main(path):
    if path == "--serve":
        return serve()
    with open(path) as file:
        jobs = json.load(file)
    results = []
    for job in jobs:
        results.append(result(job, seen))
        tf.keras.backend.clear_session()
    print(json.dumps(results))


if __name__ == "__main__":
    main(sys.argv[1])
