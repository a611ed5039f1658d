//! TensorFlow's SavedModels and TensorFlow.js' graph-models: what TensorFlow computed for them
//! (fixtures/make_saved_models.py), refusals, damaged and hostile files.
//! `tests/interop/check_tensorflow_files.py` holds each op and whole nets to TensorFlow itself.

use mlctl::commands::convert::{ConvertOptions, convert};
use mlctl::commands::inspect::inspect;
use mlctl::commands::predict::{PredictOptions, predict};
use mlctl::format::npy::{Array, read_npz, write_npz};
use mlctl::format::tensorflow::{
    ArgDef, AttrValue, Attribute, DataType, FunctionDef, FunctionLibrary, GraphDef, MetaGraph,
    MetaInfo, NameAttrList, NodeDef, OpDef, SavedModel, Signature, TensorInfo, TensorProto,
    TensorShape,
};
use mlctl::progress::Silent;
use prost::Message;
use rand_pcg::Pcg64;
use rand_pcg::rand_core::{Rng, SeedableRng};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/saved_models").join(name)
}

fn run(model: &Path, inputs: &Path, folder: &Path) -> Result<Vec<(String, Array)>, String> {
    let out = folder.join("out.npz");
    let options = PredictOptions {
        model: Some(model.to_path_buf()),
        inputs: vec![inputs.to_path_buf()],
        out: Some(out.clone()),
        top_k: 1,
        threads: 1,
        ..Default::default()
    };
    predict(&options).map_err(|e| format!("{e:#}"))?;
    Ok(read_npz(&fs::read(out).unwrap().into()).unwrap())
}

fn check_predictions(model: &Path, of: &str, folder: &Path) {
    let found = run(model, &fixture(&format!("{of}_input.npz")), folder).unwrap();
    let expected = fs::read(fixture(&format!("{of}_output.npz"))).unwrap();
    let expected = read_npz(&expected.into()).unwrap();
    assert_eq!(found.len(), expected.len());
    for (name, wanted) in expected {
        let (_, got) = found.iter().find(|(found, _)| *found == name).unwrap();
        assert_eq!(got.shape, wanted.shape);
        for (a, b) in got.to_f32().iter().zip(wanted.to_f32()) {
            assert!((a - b).abs() <= 1e-5 * b.abs().max(1.0), "{of}, '{name}': {a} {b}");
        }
    }
}

fn convert_to(model: &Path, out: &Path) -> Result<Vec<String>, String> {
    let options = ConvertOptions {
        model: Some(model.to_path_buf()),
        out: Some(out.to_path_buf()),
        ..Default::default()
    };
    match convert(&options, &Silent) {
        Ok(mlctl::commands::Outcome::Done(report)) => {
            Ok(report.ops.into_iter().map(|(op, _)| op).collect())
        }
        Ok(_) => Err("the check did not hold".into()),
        Err(error) => Err(format!("{error:#}")),
    }
}

#[test]
fn models_compute_what_tensorflow_computed() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["keras", "old"] {
        check_predictions(&fixture(name), name, folder.path());
        check_predictions(&fixture(name).join("saved_model.pb"), name, folder.path());
        let out = folder.path().join("model.tflite");
        let ops = convert_to(&fixture(name), &out).unwrap();
        check_predictions(&out, name, folder.path());
        // the normalization is in the weights, Flatten's shape a constant
        for gone in ["MUL", "SHAPE", "STRIDED_SLICE", "PACK", "TRANSPOSE", "RELU6"] {
            assert!(!ops.iter().any(|op| op == gone), "{name}: {ops:?}");
        }
        let mlctl::commands::Outcome::Done(report) = inspect(Some(&fixture(name))).unwrap() else {
            panic!()
        };
        assert_eq!(report.format, "TensorFlow SavedModel");
    }
}

/// `0001` in a model directory, as TF Serving takes it, and the directory itself.
#[test]
fn version_directories_are_found() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("my_model");
    for version in ["1", "2"] {
        let copy = model.join(version);
        fs::create_dir_all(copy.join("variables")).unwrap();
        for file in [
            "saved_model.pb",
            "variables/variables.index",
            "variables/variables.data-00000-of-00001",
        ] {
            fs::copy(fixture("old").join(file), copy.join(file)).unwrap();
        }
    }
    check_predictions(&model, "old", folder.path());
    let located = mlctl::model::locate(Some(&model)).unwrap();
    assert_eq!(located.name, "my_model");
    let empty = folder.path().join("empty");
    fs::create_dir(&empty).unwrap();
    let error = format!("{:#}", mlctl::model::locate(Some(&empty)).unwrap_err());
    assert!(error.contains("saved_model.pb") && error.contains("0001"), "{error}");
}

// --- graphs made by hand

fn node(name: &str, op: &str, inputs: &[&str], attributes: &[(&str, Attribute)]) -> NodeDef {
    let attr = attributes
        .iter()
        .map(|(key, value)| (key.to_string(), AttrValue { value: Some(value.clone()) }));
    NodeDef {
        name: name.into(),
        op: op.into(),
        input: inputs.iter().map(|input| input.to_string()).collect(),
        attr: attr.collect(),
    }
}

fn floats(name: &str, shape: &[i64], values: &[f32]) -> NodeDef {
    let tensor = TensorProto {
        dtype: DataType::Float as i32,
        tensor_shape: Some(TensorShape::of(shape.iter().copied())),
        float_val: values.to_vec(),
        ..TensorProto::default()
    };
    node(name, "Const", &[], &[("value", Attribute::Tensor(tensor))])
}

fn placeholder() -> NodeDef {
    node("x", "Placeholder", &[], &[("dtype", Attribute::Type(DataType::Float as i32))])
}

/// A SavedModel of constants with input `x` (`[N, 4]`) and output `y`.
fn saved(folder: &Path, nodes: Vec<NodeDef>, functions: Vec<FunctionDef>) -> PathBuf {
    let end = |name: &str| TensorInfo {
        name: format!("{name}:0"),
        dtype: DataType::Float as i32,
        tensor_shape: Some(TensorShape::of([-1, 4])),
    };
    let signature = Signature {
        inputs: [("x".to_string(), end("x"))].into(),
        outputs: [("y".to_string(), end("y"))].into(),
        method_name: "tensorflow/serving/predict".into(),
    };
    let meta_graph = MetaGraph {
        meta_info_def: Some(MetaInfo { tags: vec!["serve".into()], ..MetaInfo::default() }),
        graph_def: Some(GraphDef {
            node: nodes,
            library: Some(FunctionLibrary { function: functions }),
            versions: None,
        }),
        signature_def: [("serving_default".to_string(), signature)].into(),
        ..MetaGraph::default()
    };
    write(folder, &SavedModel { saved_model_schema_version: 1, meta_graphs: vec![meta_graph] })
}

fn write(folder: &Path, saved: &SavedModel) -> PathBuf {
    let model = folder.join("model");
    let _ = fs::remove_dir_all(&model);
    fs::create_dir_all(&model).unwrap();
    fs::write(model.join("saved_model.pb"), saved.encode_to_vec()).unwrap();
    model
}

fn function(name: &str, nodes: Vec<NodeDef>, made: &str) -> FunctionDef {
    let argument = |name: &str| ArgDef {
        name: name.into(),
        r#type: DataType::Float as i32,
        ..ArgDef::default()
    };
    FunctionDef {
        signature: Some(OpDef {
            name: name.into(),
            input_arg: vec![argument("a")],
            output_arg: vec![argument("made")],
            is_stateful: false,
        }),
        node_def: nodes,
        ret: [("made".to_string(), made.to_string())].into(),
        ..FunctionDef::default()
    }
}

fn call(name: &str, of: &str, input: &str) -> NodeDef {
    let function = NameAttrList { name: of.into() };
    node(name, "PartitionedCall", &[input], &[("f", Attribute::Function(function))])
}

fn input(folder: &Path, shape: &[usize], values: &[f32]) -> PathBuf {
    let path = folder.join("in.npz");
    let array = Array::from_f32(shape.to_vec(), values).unwrap();
    fs::write(&path, write_npz(&[("x".into(), array)]).unwrap()).unwrap();
    path
}

/// (x + 1) · 2 through two functions, one called twice; values repeated from one; an input by place.
#[test]
fn functions_stand_where_they_are_called() {
    let folder = tempfile::tempdir().unwrap();
    let add = function(
        "half",
        vec![floats("c", &[4], &[0.5]), node("sum", "AddV2", &["a", "c:output:0"], &[])],
        "sum:z:0",
    );
    let outer = function(
        "outer",
        vec![call("one", "half", "a"), call("two", "half", "one:output:0")],
        "two:output:0",
    );
    let nodes = vec![
        node("y", "Mul", &["called:0", "two"], &[]),
        floats("two", &[], &[2.0]),
        call("called", "outer", "x"),
        placeholder(),
        node("unused", "Frobnicate", &["x"], &[]),
    ];
    let model = saved(folder.path(), nodes, vec![outer, add]);
    let given = input(folder.path(), &[2, 4], &[0., 1., 2., 3., -1., -2., -3., -4.]);
    let found = run(&model, &given, folder.path()).unwrap();
    assert_eq!(found[0].1.to_f32(), [2., 4., 6., 8., 0., -2., -4., -6.]);
}

#[test]
fn what_cannot_be_read_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("model.tflite");
    let check = |nodes: Vec<NodeDef>, functions: Vec<FunctionDef>, expected: &[&str]| {
        let model = saved(folder.path(), nodes, functions);
        let error = convert_to(&model, &out).unwrap_err();
        for part in expected {
            assert!(error.contains(part), "{part}: {error}");
        }
        assert!(error.contains("saved_model.pb"), "{error}");
        assert!(!out.exists());
    };
    let relu = |name: &str, input: &str| node(name, "Relu", &[input], &[]);
    let plain = |op: &str, input: &str| node("y", op, &[input], &[]);
    // all that are not known, those behind one another too
    check(
        vec![
            placeholder(),
            node("a", "Frobnicate", &["x"], &[]),
            relu("b", "a"),
            plain("Twist", "b"),
        ],
        vec![],
        &["2 ops", "Frobnicate 'a'", "Twist 'y'"],
    );
    check(vec![placeholder(), relu("y", "z"), relu("z", "y")], vec![], &["depends on itself"]);
    check(vec![placeholder(), relu("y", "gone")], vec![], &["no node 'gone'"]);
    check(vec![placeholder(), relu("y", "x:7")], vec![], &["Relu 'y'"]);
    check(vec![placeholder()], vec![], &["output 'y': there is no node 'y:0'"]);
    check(vec![relu("y", "x")], vec![], &["input 'x'"]);
    check(
        vec![placeholder(), relu("y", "x"), relu("y", "x")],
        vec![],
        &["two nodes are named 'y'"],
    );
    check(vec![placeholder(), call("y", "f", "x")], vec![], &["'f', which is missing"]);
    let cyclic = function("f", vec![call("again", "g", "a")], "again:output:0");
    let other = function("g", vec![call("again", "f", "a")], "again:output:0");
    check(
        vec![placeholder(), call("y", "f", "x")],
        vec![cyclic, other],
        &["function 'f' calls itself"],
    );
    // a chain of functions that each call the next twice
    let doubling = |i: usize| {
        let next = format!("f{}", i + 1);
        function(
            &format!("f{i}"),
            vec![call("one", &next, "a"), call("two", &next, "one:output:0")],
            "two:output:0",
        )
    };
    let mut functions: Vec<FunctionDef> = (0..40).map(doubling).collect();
    functions.push(function("f40", vec![relu("r", "a")], "r:activations:0"));
    check(vec![placeholder(), call("y", "f0", "x")], functions, &["more than", "calls"]);
    let deep = |i: usize| {
        function(&format!("f{i}"), vec![call("one", &format!("f{}", i + 1), "a")], "one:output:0")
    };
    check(
        vec![placeholder(), call("y", "f0", "x")],
        (0..200).map(deep).collect(),
        &["functions lie more than"],
    );
    let wide = function("f", vec![relu("r", "a")], "r:activations:0");
    let two = node(
        "y",
        "PartitionedCall",
        &["x", "x"],
        &[("f", Attribute::Function(NameAttrList { name: "f".into() }))],
    );
    check(vec![placeholder(), two], vec![wide], &["takes 1 values and is given 2"]);
    // giant, negative and lying constants
    for (shape, values, expected) in [
        (vec![1 << 40, 1 << 40], 1, "impossible shape"),
        (vec![-5], 1, "impossible shape"),
        (vec![1 << 33], 1, "one value repeated"),
        (vec![2], 3, "a constant of 12 where its shape needs 8"),
    ] {
        let constant = floats("c", &shape, &vec![1.0; values]);
        check(
            vec![placeholder(), constant, node("y", "AddV2", &["x", "c"], &[])],
            vec![],
            &[expected],
        );
    }
    // a constant that would be made of a giant shape
    let int = |name: &str, values: &[i32]| {
        let tensor = TensorProto {
            dtype: DataType::Int32 as i32,
            tensor_shape: Some(TensorShape::of([values.len() as i64])),
            int_val: values.to_vec(),
            ..TensorProto::default()
        };
        node(name, "Const", &[], &[("value", Attribute::Tensor(tensor))])
    };
    let bomb = vec![
        placeholder(),
        int("s", &[2_000_000_000, 2_000_000_000]),
        floats("v", &[], &[1.0]),
        node("f", "Fill", &["s", "v"], &[]),
        node("y", "AddV2", &["x", "f"], &[]),
    ];
    let error = convert_to(&saved(folder.path(), bomb, vec![]), &out).unwrap_err();
    assert!(error.contains("too large") && !out.exists(), "{error}");
    let variable = vec![
        placeholder(),
        node("v", "VarHandleOp", &[], &[]),
        node("r", "ReadVariableOp", &["v"], &[]),
        node("y", "AddV2", &["x", "r"], &[]),
    ];
    check(variable, vec![], &["ReadVariableOp 'r'", "variables.index"]);
    let training = node(
        "y",
        "FusedBatchNormV3",
        &["x", "x", "x", "x", "x"],
        &[("is_training", Attribute::Bool(true))],
    );
    check(vec![placeholder(), training], vec![], &["training=False"]);
}

#[test]
fn signatures_are_chosen_or_listed() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("model.tflite");
    let read = |change: &dyn Fn(&mut SavedModel)| {
        let model =
            saved(folder.path(), vec![placeholder(), node("y", "Relu", &["x"], &[])], vec![]);
        let bytes = fs::read(model.join("saved_model.pb")).unwrap();
        let mut saved = SavedModel::decode(&bytes[..]).unwrap();
        change(&mut saved);
        convert_to(&write(folder.path(), &saved), &out)
    };
    let rename = |saved: &mut SavedModel, names: &[&str]| {
        let signatures = &mut saved.meta_graphs[0].signature_def;
        let one = signatures.remove("serving_default").unwrap();
        signatures.extend(names.iter().map(|name| (name.to_string(), one.clone())));
    };
    assert_eq!(read(&|_| ()).unwrap(), ["RELU"]);
    assert_eq!(read(&|saved| rename(saved, &["predict"])).unwrap(), ["RELU"]);
    let error = |change: &dyn Fn(&mut SavedModel), expected: &str| {
        let error = read(change).unwrap_err();
        assert!(error.contains(expected), "{error}");
    };
    error(&|saved| rename(saved, &["encode", "decode"]), "signatures decode, encode");
    error(&|saved| rename(saved, &[]), "model.export(folder)");
    error(&|saved| saved.meta_graphs.clear(), "no graph");
    error(
        &|saved| {
            let end = saved.meta_graphs[0].signature_def.get_mut("serving_default").unwrap();
            end.inputs.get_mut("x").unwrap().tensor_shape =
                Some(TensorShape { unknown_rank: true, dim: vec![] });
        },
        "tf.TensorSpec",
    );
    error(
        &|saved| {
            let end = saved.meta_graphs[0].signature_def.get_mut("serving_default").unwrap();
            end.inputs.get_mut("x").unwrap().dtype = DataType::Double as i32;
        },
        "float32",
    );
}

// --- damage

/// A copy of a fixture with one file changed.
fn damaged(folder: &Path, name: &str, file: &str, change: impl Fn(&mut Vec<u8>)) -> PathBuf {
    let copy = folder.join("damaged");
    let _ = fs::remove_dir_all(&copy);
    fs::create_dir_all(copy.join("variables")).unwrap();
    for part in
        ["saved_model.pb", "variables/variables.index", "variables/variables.data-00000-of-00001"]
    {
        let mut bytes = fs::read(fixture(name).join(part)).unwrap();
        if part == file {
            change(&mut bytes);
        }
        fs::write(copy.join(part), bytes).unwrap();
    }
    copy
}

#[test]
fn damaged_variables_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let given = fixture("old_input.npz");
    let (index, data) = ("variables/variables.index", "variables/variables.data-00000-of-00001");
    let check = |file: &str, change: &dyn Fn(&mut Vec<u8>), expected: &str| {
        let model = damaged(folder.path(), "old", file, change);
        let error = run(&model, &given, folder.path()).unwrap_err();
        assert!(error.contains(expected), "{expected}: {error}");
    };
    check(data, &|bytes| bytes[9] ^= 1, "another checksum than was saved");
    check(data, &|bytes| bytes.truncate(30), "lies outside");
    check(data, &|bytes| bytes.clear(), "lies outside");
    check(index, &|bytes| bytes[20] ^= 1, "the block at byte 0 has another checksum");
    check(index, &|bytes| bytes.truncate(60), "does not end as an index");
    check(index, &|bytes| bytes.clear(), "does not end as an index");
    check("saved_model.pb", &|bytes| bytes.truncate(2000), "not a SavedModel, or damaged");
    check("saved_model.pb", &|bytes| bytes.clear(), "empty");
    let model = damaged(folder.path(), "old", "", |_| ());
    fs::remove_file(model.join(data)).unwrap();
    let error = run(&model, &given, folder.path()).unwrap_err();
    assert!(error.contains("copied whole"), "{error}");
    fs::remove_dir_all(model.join("variables")).unwrap();
    let error = run(&model, &given, folder.path()).unwrap_err();
    assert!(error.contains("variables/variables.index"), "{error}");
}

/// Any bytes end in an answer.
#[test]
fn flipped_bits_panic_nowhere() {
    let folder = tempfile::tempdir().unwrap();
    for round in 0..150 {
        let name = ["old", "keras"][round % 2];
        let file = ["saved_model.pb", "variables/variables.index"][round / 2 % 2];
        let model = damaged(folder.path(), name, file, |bytes| {
            let rest = random_places(round as u64, bytes.len());
            for place in rest {
                bytes[place] ^= 1 << (place % 8);
            }
        });
        let _ = inspect(Some(&model));
    }
}

fn random_places(seed: u64, length: usize) -> Vec<usize> {
    let mut random = Pcg64::seed_from_u64(seed);
    (0..1 + seed % 4).map(|_| random.next_u64() as usize % length).collect()
}

// --- TensorFlow.js

/// y = relu(x · w + b) with the weights in two files; `change` spoils it.
fn graph_model(
    folder: &Path,
    quantization: Value,
    weights: &[u8],
    change: impl Fn(&mut Value),
) -> PathBuf {
    let model = folder.join("js");
    let _ = fs::remove_dir_all(&model);
    fs::create_dir_all(&model).unwrap();
    let constant = |name: &str| {
        json!({"name": name, "op": "Const", "attr": {
        "value": {"tensor": {"dtype": "DT_FLOAT", "tensorShape": {"dim": []}}}, "dtype": {"type": "DT_FLOAT"}}})
    };
    let end = |name: &str, last: &str| {
        json!({"name": format!("{name}:0"), "dtype": "DT_FLOAT",
        "tensorShape": {"dim": [{"size": "-1"}, {"size": last}]}})
    };
    let mut document = json!({
        "format": "graph-model",
        "signature": {"inputs": {"x": end("x", "2")}, "outputs": {"y": end("Identity", "2")}},
        "modelTopology": {"library": {}, "node": [
            {"name": "x", "op": "Placeholder", "attr": {"dtype": {"type": "DT_FLOAT"},
                "shape": {"shape": {"dim": [{"size": "-1"}, {"size": "2"}]}}}},
            constant("w"), constant("b"),
            {"name": "dense", "op": "_FusedMatMul", "input": ["x", "w", "b"], "attr": {
                "T": {"type": "DT_FLOAT"}, "transpose_a": {"b": false}, "transpose_b": {"b": false},
                "num_args": {"i": "1"}, "fused_ops": {"list": {"s": ["Qmlhc0FkZA==", "UmVsdQ=="]}}}},
            {"name": "Identity", "op": "Identity", "input": ["dense"], "attr": {"T": {"type": "DT_FLOAT"}}},
        ]},
        "weightsManifest": [{"paths": ["a.bin", "b.bin"], "weights": [
            {"name": "w", "shape": [2, 2], "dtype": "float32"},
            {"name": "b", "shape": [2], "dtype": "float32"}]}],
    });
    if !quantization.is_null() {
        document["weightsManifest"][0]["weights"][0]["quantization"] = quantization;
    }
    change(&mut document);
    fs::write(model.join("a.bin"), &weights[..3]).unwrap();
    fs::write(model.join("b.bin"), &weights[3..]).unwrap();
    fs::write(model.join("model.json"), document.to_string()).unwrap();
    model
}

fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

#[test]
fn graph_models_of_the_browser_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let given = input(folder.path(), &[1, 2], &[1.0, 2.0]);
    // w = [[1, 2], [-3, 0.5]], b = [10, 0.25]: by hand 1 − 6 + 10 = 5 and 2 + 1 + 0.25
    let bias = bytes(&[10.0, 0.25]);
    let half = [0x3c00u16, 0x4000, 0xc200, 0x3800].map(u16::to_le_bytes).concat();
    // −3 + 0.5 · number
    let small = json!({"dtype": "uint8", "scale": 0.5, "min": -3.0});
    let wide = json!({"dtype": "uint16", "scale": 0.5, "min": -3.0});
    let cases = [
        (Value::Null, bytes(&[1.0, 2.0, -3.0, 0.5])),
        (json!({"dtype": "float16"}), half),
        (small, vec![8, 10, 0, 7]),
        (wide, [8u16, 10, 0, 7].map(u16::to_le_bytes).concat()),
    ];
    for (quantization, weights) in cases {
        let model = graph_model(
            folder.path(),
            quantization.clone(),
            &[weights, bias.clone()].concat(),
            |_| (),
        );
        for named in [model.clone(), model.join("model.json")] {
            let found = run(&named, &given, folder.path()).unwrap();
            assert_eq!(found[0].0, "y");
            assert_eq!(found[0].1.to_f32(), [5.0, 3.25], "{quantization}");
        }
        convert_to(&model, &folder.path().join("js.tflite")).unwrap();
        let mlctl::commands::Outcome::Done(report) = inspect(Some(&model)).unwrap() else {
            panic!()
        };
        assert_eq!(report.format, "TensorFlow.js graph-model");
    }
}

#[test]
fn hostile_graph_models_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let given = input(folder.path(), &[1, 2], &[1.0, 2.0]);
    let whole = bytes(&[1.0, 2.0, -3.0, 0.5, 10.0, 0.25]);
    let check = |change: &dyn Fn(&mut Value), expected: &str| {
        let model = graph_model(folder.path(), Value::Null, &whole, change);
        let error = run(&model, &given, folder.path()).unwrap_err();
        assert!(error.contains(expected) && error.contains("model.json"), "{expected}: {error}");
    };
    let manifest = |document: &mut Value, key: &str, value: Value| {
        document["weightsManifest"][0][key] = value;
    };
    for path in ["../a.bin", "/etc/passwd", "..", "", "a\\..\\b"] {
        check(&|d| manifest(d, "paths", json!([path])), "not below the folder");
    }
    check(&|d| manifest(d, "paths", json!([7])), "not below the folder");
    check(&|d| manifest(d, "paths", json!(["a.bin", "gone.bin"])), "gone.bin");
    check(&|d| manifest(d, "paths", json!(["b.bin"])), "cut short");
    let weight = |document: &mut Value, key: &str, value: Value| {
        document["weightsManifest"][0]["weights"][0][key] = value;
    };
    check(&|d| weight(d, "shape", json!([1u64 << 40, 1u64 << 40])), "impossible shape");
    check(&|d| weight(d, "shape", json!([-1])), "impossible shape");
    check(&|d| weight(d, "shape", json!([3_000_000_000u64])), "cut short");
    check(&|d| weight(d, "dtype", json!("complex64")), "complex64");
    check(&|d| weight(d, "quantization", json!({"dtype": "uint8"})), "scale");
    check(&|d| weight(d, "quantization", json!({"dtype": "int3"})), "int3");
    check(&|d| weight(d, "name", json!("other")), "in no weight file");
    check(&|d| d["modelTopology"] = json!(null), "not a TensorFlow.js model");
    check(&|d| d["modelInitializer"] = json!({"node": [{"name": "table"}]}), "modelInitializer");
    check(&|d| d["modelTopology"]["node"][3]["op"] = json!("Mystery"), "Mystery 'dense'");
    check(&|d| d["modelTopology"]["node"][3]["input"][0] = json!("dense"), "depends on itself");
    check(&|d| d["modelTopology"]["node"][3]["input"] = json!([3]), "expected a text");
    check(
        &|d| {
            d["signature"]["inputs"]["x"]["tensorShape"]["dim"][1]["size"] =
                json!("9999999999999999999999")
        },
        "expected an integer",
    );
    check(
        &|d| {
            d["signature"]["inputs"]["x"]["tensorShape"]["dim"][1]["size"] =
                json!("4611686018427387904")
        },
        "",
    );
    let model = folder.path().join("js");
    fs::write(model.join("model.json"), "{").unwrap();
    assert!(run(&model, &given, folder.path()).unwrap_err().contains("damaged"));
}
