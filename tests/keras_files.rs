//! Keras' files: what Keras predicted for them (fixtures/make_keras.py), refusals, damaged files.
//! `tests/interop/check_keras_files.py` holds each layer to Keras itself.

use mlctl::commands::convert::{ConvertOptions, convert};
use mlctl::commands::inspect::inspect;
use mlctl::commands::predict::{PredictOptions, predict};
use mlctl::commands::save::{SaveOptions, save};
use mlctl::format::npy::{Array, read_npz, write_npz};
use mlctl::progress::Silent;
use rand_pcg::Pcg64;
use rand_pcg::rand_core::{Rng, SeedableRng};
use serde_json::{Value, json};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

const FILES: [(&str, &str); 4] = [
    ("net_3.keras", "net_3"),
    ("net_3.h5", "net_3"),
    ("net_2.keras", "net_2"),
    ("net_2.h5", "net_2"),
];

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/keras").join(name)
}

/// The largest difference of any output from Keras', with the outputs' names.
fn check_predictions(model: &Path, of: &str, folder: &Path) {
    let out = folder.join("out.npz");
    let options = PredictOptions {
        model: Some(model.to_path_buf()),
        inputs: vec![fixture(&format!("{of}_input.npz"))],
        out: Some(out.clone()),
        top_k: 1,
        threads: 1,
        ..Default::default()
    };
    predict(&options).unwrap();
    let found = read_npz(&fs::read(out).unwrap().into()).unwrap();
    let expected =
        read_npz(&fs::read(fixture(&format!("{of}_output.npz"))).unwrap().into()).unwrap();
    assert_eq!(found.len(), expected.len());
    for (name, wanted) in expected {
        let (_, got) = found.iter().find(|(found, _)| *found == name).unwrap();
        assert_eq!(got.shape, wanted.shape);
        for (a, b) in got.to_f32().iter().zip(wanted.to_f32()) {
            assert!(
                (a - b).abs() <= 1e-5 * b.abs().max(1.0),
                "{}: '{name}': {a} {b}",
                model.display()
            );
        }
    }
}

#[test]
fn models_predict_what_keras_predicts() {
    let folder = tempfile::tempdir().unwrap();
    for (file, of) in FILES {
        check_predictions(&fixture(file), of, folder.path());
    }
}

#[test]
fn models_are_converted_saved_and_inspected() {
    let folder = tempfile::tempdir().unwrap();
    for (file, of) in FILES {
        let out = folder.path().join(format!("{file}.tflite"));
        let model = Some(fixture(file));
        let options =
            ConvertOptions { model: model.clone(), out: Some(out.clone()), ..Default::default() };
        let mlctl::commands::Outcome::Done(report) = convert(&options, &Silent).unwrap() else {
            panic!("{file}: the check did not hold");
        };
        let names: Vec<&str> = report.inputs.iter().map(|i| i.name.as_str()).collect();
        assert_eq!(names, ["picture", "number"], "{file}");
        let names: Vec<&str> = report.outputs.iter().map(|o| o.name.as_str()).collect();
        assert_eq!(names, ["classes", "shared"].map(|n| if n == "shared" { "sum" } else { n }));
        // the normalization went into the convolution, its activation too
        let ops: Vec<&str> = report.ops.iter().map(|(op, _)| op.as_str()).collect();
        assert!(!ops.contains(&"RELU6") && !ops.contains(&"TRANSPOSE"), "{ops:?}");
        check_predictions(&out, of, folder.path());

        let to = folder.path().join(format!("saved_{}", file.replace('.', "_")));
        save(&SaveOptions { model: model.clone(), to: to.clone(), ..Default::default() }).unwrap();
        check_predictions(&to.join("0001"), of, folder.path());
        let mlctl::commands::Outcome::Done(report) = inspect(Some(&to)).unwrap() else { panic!() };
        assert!(report.format.starts_with("Keras"), "{}", report.format);
    }
}

#[test]
fn layers_models_of_tensorflow_js_predict_what_it_predicts() {
    let folder = tempfile::tempdir().unwrap();
    for file in ["model.json", "shard1.bin", "shard2.bin"] {
        fs::copy(fixture("tfjs").join(file), folder.path().join(file)).unwrap();
    }
    let json: Value =
        serde_json::from_slice(&fs::read(fixture("tfjs/predicted.json")).unwrap()).unwrap();
    let numbers = |key: &str| -> Vec<f32> {
        json[key].as_array().unwrap().iter().map(|v| v.as_f64().unwrap() as f32).collect()
    };
    let input = folder.path().join("picture.npz");
    let array = Array::from_f32(vec![2, 6, 5, 2], &numbers("input")).unwrap();
    fs::write(&input, write_npz(&[("picture".into(), array)]).unwrap()).unwrap();
    let out = folder.path().join("out.npz");
    let model = folder.path().join("model.json");
    let run = || {
        let (inputs, out) = (vec![input.clone()], Some(out.clone()));
        let model = Some(model.clone());
        predict(&PredictOptions { model, inputs, out, top_k: 1, threads: 1, ..Default::default() })
    };
    run().unwrap();
    let found = read_npz(&fs::read(&out).unwrap().into()).unwrap();
    let [(name, found)] = found.as_slice() else { panic!() };
    assert_eq!((name.as_str(), found.shape.as_slice()), ("classes", &[2, 3][..]));
    for (a, b) in found.to_f32().iter().zip(numbers("output")) {
        assert!((a - b).abs() <= 1e-5, "{a} {b}");
    }

    let says = |expected: &str| {
        let error = format!("{:#}", run().unwrap_err());
        assert!(error.contains(expected), "'{expected}' is not in: {error}");
    };
    let text = fs::read_to_string(&model).unwrap();
    let replaced = |from: &str, to: &str| fs::write(&model, text.replace(from, to)).unwrap();
    replaced("shard1.bin", "../shard1.bin");
    says("outside the folder");
    replaced("shard1.bin", "absent.bin");
    says("cannot read");
    replaced("\"shard2.bin\"", "\"shard2.bin\",\"shard1.bin\"");
    says("longer than model.json says");
    replaced("shard1.bin", "");
    says("outside the folder");
    replaced("shard1.bin", "/etc/passwd");
    says("outside the folder");
    replaced("layers-model", "graph-model");
    says("not a TensorFlow.js model");
    replaced("layers-model", "other-model");
    says("unknown format 'other-model'");
    replaced("conv/kernel", "other/kernel");
    says("layer 'conv'");
    replaced("[3,3,2,4]", "[4294967295,4294967295,4294967295,4294967295]");
    says("weights 'conv/kernel' reach past the end of shard1.bin, shard2.bin (508 bytes)");
    replaced("[3,3,2,4]", "[3,3,4,2]");
    says("conv");
    replaced("\"weightsManifest\"", "\"weights\"");
    says("weightsManifest");
    replaced("\"modelTopology\"", "\"topology\"");
    says("model");
    fs::write(&model, &text[..text.len() / 2]).unwrap();
    says("not a model of TensorFlow.js, or damaged");
    fs::write(&model, "[".repeat(100_000)).unwrap();
    says("not a model of TensorFlow.js, or damaged");
    fs::write(&model, &text).unwrap();
    fs::write(folder.path().join("shard2.bin"), b"short").unwrap();
    says("past the end of shard1.bin, shard2.bin (257 bytes)");
    fs::remove_file(folder.path().join("shard2.bin")).unwrap();
    fs::create_dir(folder.path().join("shard2.bin")).unwrap();
    says("shard2.bin");
}

/// y = x · w + b with w of 8 bits, (4 · 0.5 − 1), and b of half precision, 0.25; by hand.
#[test]
fn quantized_weights_of_tensorflow_js_become_floats() {
    let folder = tempfile::tempdir().unwrap();
    let layer = json!({"class_name": "Dense", "config": {
        "name": "d", "units": 1, "activation": "linear", "batch_input_shape": [null, 1],
    }});
    let weight = |name: &str, shape: &[usize], quantization: Value| {
        json!({
            "name": name, "shape": shape, "dtype": "float32", "quantization": quantization,
        })
    };
    let model = |kernel: &str| {
        json!({
            "format": "layers-model",
            "modelTopology": {"class_name": "Sequential", "config": {"name": "m", "layers": [layer]}},
            "weightsManifest": [{"paths": ["w.bin"], "weights": [
                weight("d/kernel", &[1, 1], json!({"dtype": kernel, "scale": 0.5, "min": -1.0})),
                weight("d/bias", &[1], json!({"dtype": "float16"})),
            ]}],
        })
    };
    let path = folder.path().join("model.json");
    let given = folder.path().join("in.npz");
    let out = folder.path().join("out.npz");
    let array = Array::from_f32(vec![2, 1], &[3.0, -2.0]).unwrap();
    fs::write(&given, write_npz(&[("d_input".into(), array)]).unwrap()).unwrap();
    let run = |kernel: &str, weights: &[u8]| {
        fs::write(&path, model(kernel).to_string()).unwrap();
        fs::write(folder.path().join("w.bin"), weights).unwrap();
        let (model, inputs) = (Some(path.clone()), vec![given.clone()]);
        let out = Some(out.clone());
        predict(&PredictOptions { model, inputs, out, top_k: 1, threads: 1, ..Default::default() })
    };
    for (kernel, weights) in [("uint8", &[4, 0, 0x34][..]), ("uint16", &[4, 0, 0, 0x34])] {
        run(kernel, weights).unwrap();
        let found = read_npz(&fs::read(folder.path().join("out.npz")).unwrap().into()).unwrap();
        assert_eq!(found[0].1.to_f32(), [3.25, -1.75], "{kernel}");
    }
    let refused = format!("{:#}", run("uint4", &[4, 0, 0x34]).unwrap_err());
    assert!(refused.contains("weights 'd/kernel' of type uint4 are not read"), "{refused}");
}

/// A `.keras` file of this configuration, with the weights of a fixture.
fn keras_file(folder: &Path, config: &Value) -> PathBuf {
    let path = folder.join("model.keras");
    let mut zip = zip::ZipWriter::new(fs::File::create(&path).unwrap());
    let options = zip::write::SimpleFileOptions::default();
    for (name, bytes) in [
        ("metadata.json", br#"{"keras_version": "3.0.0"}"#.to_vec()),
        ("config.json", config.to_string().into_bytes()),
        ("model.weights.h5", fs::read(fixture("newest.h5")).unwrap()),
    ] {
        zip.start_file(name, options).unwrap();
        zip.write_all(&bytes).unwrap();
    }
    zip.finish().unwrap();
    path
}

fn sequential(layers: &[Value]) -> Value {
    let input =
        json!({"class_name": "InputLayer", "config": {"batch_shape": [null, 4, 4], "name": "x"}});
    let layers: Vec<Value> = [input].into_iter().chain(layers.iter().cloned()).collect();
    json!({"class_name": "Sequential", "config": {"name": "net", "layers": layers}})
}

/// Steps of zeros are left out of the mean over the steps.
#[test]
fn masked_steps_do_not_count() {
    let folder = tempfile::tempdir().unwrap();
    let layer = |class: &str, name: &str| json!({"class_name": class, "config": {"name": name}});
    let layers =
        [layer("Masking", "mask"), layer("ReLU", "r"), layer("GlobalAveragePooling1D", "g")];
    let model = keras_file(folder.path(), &sequential(&layers));
    let (input, out) = (folder.path().join("x.npz"), folder.path().join("out.npz"));
    let steps = [[1.0, 2.0, -3.0, 0.0], [0.0; 4], [3.0, 0.0, 5.0, 8.0], [0.0; 4]].concat();
    let array = Array::from_f32(vec![1, 4, 4], &steps).unwrap();
    fs::write(&input, write_npz(&[("x".into(), array)]).unwrap()).unwrap();
    let options = PredictOptions {
        model: Some(model),
        inputs: vec![input],
        out: Some(out.clone()),
        top_k: 1,
        threads: 1,
        ..Default::default()
    };
    predict(&options).unwrap();
    let found = read_npz(&fs::read(out).unwrap().into()).unwrap();
    assert_eq!(found[0].1.to_f32(), [2.0, 1.0, 2.5, 4.0]);
}

#[test]
fn what_cannot_be_read_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let check = |config: &Value, expected: &[&str]| {
        let model = keras_file(folder.path(), config);
        let out = folder.path().join("model.tflite");
        let options =
            ConvertOptions { model: Some(model), out: Some(out.clone()), ..Default::default() };
        let error = format!("{:#}", convert(&options, &Silent).unwrap_err());
        for part in expected {
            assert!(error.contains(part), "'{part}' is not in: {error}");
        }
        assert!(!out.exists());
    };
    let layer = |class: &str, name: &str| json!({"class_name": class, "config": {"name": name}});
    check(
        &sequential(&[layer("LSTM", "l"), layer("Lambda", "code"), layer("Mine>Special", "s")]),
        &[
            "3 ops are not supported",
            "LSTM 'l'",
            "Lambda 'code'",
            "Mine>Special 's'",
            "model.export(",
        ],
    );
    check(&json!({"class_name": "MyModel", "config": {}}), &["class 'MyModel'", "model.export("]);
    let dense =
        json!({"class_name": "Dense", "config": {"name": "d", "units": 3, "use_bias": false}});
    check(&sequential(&[dense]), &["Dense 'd'", "weights 0 are not in the file"]);
    let pool = json!({"class_name": "MaxPooling1D", "config": {"name": "p", "pool_size": [9]}});
    check(&sequential(&[pool]), &["MaxPooling1D 'p'", "a window of 9 for 4 pixels"]);
    let pad =
        json!({"class_name": "ZeroPadding1D", "config": {"name": "z", "padding": 1u64 << 40}});
    check(&sequential(&[pad]), &["ZeroPadding1D 'z'", "padding is"]);
    let circle = |name: &str, from: &str| {
        json!({"class_name": "ReLU", "name": name, "config": {"name": name},
            "inbound_nodes": [[[from, 0, 0, {}]]]})
    };
    check(
        &json!({"class_name": "Functional", "config": {"name": "net", "input_layers": [],
            "layers": [circle("a", "b"), circle("b", "a")], "output_layers": [["a", 0, 0]]}}),
        &["what layer 'a' gives is never computed"],
    );
    // models in models, each used twice, are 2^30 layers
    let mut inner = sequential(&[layer("ReLU", "r")]);
    for depth in 0..30 {
        let name = format!("m{depth}");
        inner["config"]["name"] = json!(name);
        inner["name"] = json!(name);
        let call = |from: &str, node: usize| json!([[from, node, 0, {}]]);
        inner["inbound_nodes"] = json!([call("x", 0), call(&name, 0)]);
        let input = json!({"class_name": "InputLayer", "name": "x",
            "config": {"batch_shape": [null, 4], "name": "x"}, "inbound_nodes": []});
        inner = json!({"class_name": "Functional", "config": {"name": "net", "layers": [input, inner],
            "input_layers": [["x", 0, 0]], "output_layers": [[name, 1, 0]]}});
    }
    check(&inner, &["more than"]);
}

#[test]
fn weights_alone_are_no_model() {
    let error = inspect(Some(&fixture("stored.h5"))).unwrap_err();
    assert!(format!("{error:#}").contains("model.save("), "{error:#}");
}

/// Every command on them ends with a result or an error.
#[test]
fn damaged_files_end_as_errors() {
    let folder = tempfile::tempdir().unwrap();
    let rounds = std::env::var("FLIPS").map_or(100, |n| n.parse().unwrap());
    let mut random = Pcg64::seed_from_u64(3);
    for (file, of) in FILES {
        let good = fs::read(fixture(file)).unwrap();
        for _ in 0..rounds {
            let mut bytes = good.clone();
            for _ in 0..1 + random.next_u32() % 3 {
                let at = random.next_u32() as usize % bytes.len();
                match random.next_u32() % 3 {
                    0 => bytes[at] = b"0129]}\",\xff"[random.next_u32() as usize % 9],
                    _ => bytes[at] ^= 1 << (random.next_u32() % 8),
                }
            }
            let model = folder.path().join(file);
            fs::write(&model, bytes).unwrap();
            let _ = inspect(Some(&model));
            let inputs = vec![fixture(&format!("{of}_input.npz"))];
            let options = PredictOptions {
                model: Some(model),
                inputs,
                top_k: 1,
                threads: 1,
                ..Default::default()
            };
            let _ = predict(&options);
        }
    }
}
