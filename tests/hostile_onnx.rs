//! ONNX files that nobody should trust: each ends with one clear error or a right file, in bounded time and
//! memory. The files are built here, as protobufs.

use mlctl::tract::pb;
use pb::attribute_proto::AttributeType;
use pb::tensor_proto::{DataLocation, DataType};
use prost::Message;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// KiB of address space, and the time, that a conversion may use.
const MOST_MEMORY: &str = "4000000";
const MOST_TIME: Duration = Duration::from_secs(10);

/// The longest message that a person should have to read.
const LONGEST_ERROR: usize = 4_000;

enum Expected {
    /// Exit code 1, and one error that has this in it.
    Error(&'static str),
    /// A file that was checked against the original.
    Converts,
}
use Expected::{Converts, Error};

/// Converts `bytes`, written as `m.onnx` in `folder`, and tells what is not as expected.
fn try_conversion(folder: &Path, bytes: &[u8], expected: &Expected) -> Result<(), String> {
    fs::write(folder.join("m.onnx"), bytes).unwrap();
    let start = Instant::now();
    let command = format!(
        "ulimit -v {MOST_MEMORY}; exec timeout -k 1 60 {} convert m.onnx -o out.tflite",
        env!("CARGO_BIN_EXE_mlctl")
    );
    let output = Command::new("sh")
        .args(["-c", &command])
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let time = start.elapsed();
    let said = String::from_utf8_lossy(&output.stderr);
    let short: String = said.chars().take(600).collect();
    let written = folder.join("out.tflite").exists();
    let _ = fs::remove_file(folder.join("out.tflite"));
    if time > MOST_TIME {
        return Err(format!("took {time:?}: {short}"));
    }
    if said.contains("panicked") || said.len() > LONGEST_ERROR {
        return Err(format!("{} bytes of error: {short}", said.len()));
    }
    match expected {
        Converts if output.status.code() == Some(0) && written => Ok(()),
        Error(text) if output.status.code() == Some(1) && !written => {
            let errors = said.lines().filter(|l| l.starts_with("error: ")).count();
            match errors == 1 && said.contains(text) {
                true => Ok(()),
                false => Err(format!("says: {short}")),
            }
        }
        _ => Err(format!("{}, file written: {written}: {short}", output.status)),
    }
}

fn check(cases: Vec<(&str, pb::ModelProto, Expected)>) {
    let mut wrong = vec![];
    for (name, model, expected) in cases {
        let folder = tempfile::tempdir().unwrap();
        if let Err(how) = try_conversion(folder.path(), &model.encode_to_vec(), &expected) {
            wrong.push(format!("{name}: {how}"));
        }
    }
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

fn value(name: &str, element: DataType, dims: &[i64]) -> pb::ValueInfoProto {
    use pb::tensor_shape_proto::{Dimension, dimension};
    let dim =
        |&d: &i64| Dimension { value: Some(dimension::Value::DimValue(d)), ..Default::default() };
    let tensor = pb::type_proto::Tensor {
        elem_type: element as i32,
        shape: Some(pb::TensorShapeProto { dim: dims.iter().map(dim).collect() }),
    };
    let value = Some(pb::type_proto::Value::TensorType(tensor));
    pb::ValueInfoProto {
        name: name.into(),
        r#type: Some(pb::TypeProto { value, ..Default::default() }),
        ..Default::default()
    }
}

fn floats(name: &str, dims: &[i64]) -> pb::ValueInfoProto {
    value(name, DataType::Float, dims)
}

fn node(op: &str, inputs: &[&str], outputs: &[&str]) -> pb::NodeProto {
    let names = |list: &[&str]| list.iter().map(|s| s.to_string()).collect();
    pb::NodeProto {
        op_type: op.into(),
        name: outputs.first().map(|o| format!("node_{o}")).unwrap_or_default(),
        input: names(inputs),
        output: names(outputs),
        ..Default::default()
    }
}

fn ints(mut node: pb::NodeProto, name: &str, values: &[i64]) -> pb::NodeProto {
    node.attribute.push(pb::AttributeProto {
        name: name.into(),
        r#type: AttributeType::Ints as i32,
        ints: values.to_vec(),
        ..Default::default()
    });
    node
}

fn int(mut node: pb::NodeProto, name: &str, value: i64) -> pb::NodeProto {
    node.attribute.push(pb::AttributeProto {
        name: name.into(),
        r#type: AttributeType::Int as i32,
        i: value,
        ..Default::default()
    });
    node
}

fn i64s(name: &str, values: &[i64]) -> pb::TensorProto {
    pb::TensorProto {
        name: name.into(),
        data_type: DataType::Int64 as i32,
        dims: vec![values.len() as i64],
        int64_data: values.to_vec(),
        ..Default::default()
    }
}

fn f32s(name: &str, dims: &[i64], values: &[f32]) -> pb::TensorProto {
    pb::TensorProto {
        name: name.into(),
        data_type: DataType::Float as i32,
        dims: dims.to_vec(),
        float_data: values.to_vec(),
        ..Default::default()
    }
}

fn scalar(tensor: pb::TensorProto) -> pb::TensorProto {
    pb::TensorProto { dims: vec![], ..tensor }
}

fn model(
    inputs: Vec<pb::ValueInfoProto>,
    constants: Vec<pb::TensorProto>,
    nodes: Vec<pb::NodeProto>,
    outputs: Vec<pb::ValueInfoProto>,
) -> pb::ModelProto {
    pb::ModelProto {
        ir_version: 8,
        opset_import: vec![pb::OperatorSetIdProto { domain: String::new(), version: 17 }],
        graph: Some(pb::GraphProto {
            name: "g".into(),
            input: inputs,
            initializer: constants,
            node: nodes,
            output: outputs,
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// `x [1, 4]` through nodes to `y`.
fn row(constants: Vec<pb::TensorProto>, nodes: Vec<pb::NodeProto>) -> pb::ModelProto {
    model(vec![floats("x", &[1, 4])], constants, nodes, vec![floats("y", &[])])
}

#[test]
fn graphs_that_do_not_hang_together() {
    let relu = |from: &str, to: &str| node("Relu", &[from], &[to]);
    let mut no_graph = row(vec![], vec![relu("x", "y")]);
    no_graph.graph = None;
    let mut no_outputs = row(vec![], vec![relu("x", "y")]);
    no_outputs.graph.as_mut().unwrap().output.clear();
    let mut twice = row(vec![], vec![relu("x", "y")]);
    twice.graph.as_mut().unwrap().input.push(floats("x", &[1, 4]));
    let one = || f32s("c", &[1], &[1.0]);
    let mut newer = row(vec![], vec![relu("x", "y")]);
    newer.opset_import[0].version = 99;
    let mut newer_ir = row(vec![], vec![relu("x", "y")]);
    newer_ir.ir_version = 99;
    let mut no_opset = row(vec![], vec![relu("x", "y")]);
    no_opset.opset_import.clear();
    let unnamed = pb::NodeProto { name: String::new(), ..relu("a", "y") };
    let same_names = vec![
        pb::NodeProto { name: "n".into(), ..relu("x", "a") },
        pb::NodeProto { name: "n".into(), ..relu("a", "b") },
        pb::NodeProto { name: "n".into(), ..relu("b", "y") },
    ];
    let untyped = model(
        vec![pb::ValueInfoProto { name: "x".into(), ..Default::default() }],
        vec![],
        vec![relu("x", "y")],
        vec![floats("y", &[])],
    );
    check(vec![
        (
            "cycle",
            row(vec![], vec![relu("b", "a"), relu("a", "b"), relu("a", "y")]),
            Error("cycle"),
        ),
        ("self", row(vec![], vec![relu("y", "y")]), Error("cycle")),
        ("dangling", row(vec![], vec![relu("gone", "y")]), Error("reads 'gone', which nothing")),
        ("no producer", row(vec![], vec![relu("x", "z")]), Error("'y' is computed by no node")),
        (
            "two producers",
            row(vec![], vec![relu("x", "y"), relu("x", "y")]),
            Error("defined twice"),
        ),
        ("output is an input's name", row(vec![], vec![relu("x", "x")]), Error("defined twice")),
        (
            "constant and node",
            row(vec![one()], vec![relu("x", "c"), relu("c", "y")]),
            Error("'c' is defined twice"),
        ),
        ("input twice", twice, Error("'x' is declared twice")),
        (
            "constant twice",
            row(vec![one(), one()], vec![node("Add", &["x", "c"], &["y"])]),
            Error("'c' is defined twice"),
        ),
        ("nodes of one name", row(vec![], same_names), Converts),
        ("nodes out of order", row(vec![], vec![unnamed, relu("x", "a")]), Converts),
        ("no graph", no_graph, Error("not an ONNX model")),
        ("no outputs", no_outputs, Error("not an ONNX model")),
        ("no type", untyped, Error("has no type")),
        ("newer opset", newer, Error("newer than this mlctl knows: opset 99")),
        ("newer IR", newer_ir, Error("IR 99")),
        ("no opset", no_opset, Error("opset")),
    ]);
}

#[test]
fn ends_of_every_kind() {
    let x = || floats("x", &[1, 4]);
    let relu = || node("Relu", &["x"], &["y"]);
    let y = || floats("y", &[]);
    let unused = || vec![x(), floats("unused", &[7])];
    let c = || f32s("c", &[2], &[1.0, 2.0]);
    let constant = || node("Identity", &["c"], &["k"]);
    check(vec![
        ("empty: an output is an input", model(vec![x()], vec![], vec![], vec![x()]), Converts),
        ("an input nobody reads", model(unused(), vec![], vec![relu()], vec![y()]), Converts),
        ("an output twice", model(vec![x()], vec![], vec![relu()], vec![y(), y()]), Error("twice")),
        (
            "an output is a constant",
            model(vec![x()], vec![c()], vec![relu()], vec![y(), floats("c", &[2])]),
            Converts,
        ),
        (
            "an output is computed from constants",
            model(vec![x()], vec![c()], vec![relu(), constant()], vec![y(), floats("k", &[2])]),
            Converts,
        ),
        (
            "an output is an input, beside others",
            model(vec![x()], vec![], vec![relu()], vec![y(), x()]),
            Converts,
        ),
        (
            "no inputs",
            model(vec![], vec![c()], vec![node("Relu", &["c"], &["y"])], vec![y()]),
            Converts,
        ),
        (
            "negative dimensions are open",
            model(vec![floats("x", &[-1, 4])], vec![], vec![relu()], vec![y()]),
            Converts,
        ),
        (
            "a huge input",
            model(vec![floats("x", &[1 << 20, 1 << 20])], vec![], vec![relu()], vec![y()]),
            Error("is too large"),
        ),
        (
            "an input past all numbers",
            model(vec![floats("x", &[i64::MAX, i64::MAX])], vec![], vec![relu()], vec![y()]),
            Error("'x'"),
        ),
    ]);
}

#[test]
fn small_files_that_ask_for_huge_tensors() {
    let shape = |dims: &[i64]| i64s("s", dims);
    let huge = || shape(&[1 << 20, 1 << 20]);
    let from_shape = |to: &str| node("ConstantOfShape", &["s"], &[to]);
    let add = || node("Add", &["x", "big"], &["y"]);
    let constant_node = |name: &str, tensor: pb::TensorProto| {
        let mut node = node("Constant", &[], &[name]);
        node.attribute.push(pb::AttributeProto {
            name: "value".into(),
            r#type: AttributeType::Tensor as i32,
            t: Some(tensor),
            ..Default::default()
        });
        node
    };
    let mul = || node("Mul", &["s", "s"], &["s2"]);
    let range = |limit: f32, delta: f32| {
        let number = |name, v| scalar(f32s(name, &[], &[v]));
        let constants = vec![number("a", 0.0), number("b", limit), number("d", delta)];
        let nodes = vec![node("Range", &["a", "b", "d"], &["r"])];
        let sum = node("ReduceSum", &["r"], &["big"]);
        row(constants, nodes.into_iter().chain([sum, add()]).collect())
    };
    let picture = |constants, nodes| {
        model(vec![floats("x", &[1, 1, 4, 4])], constants, nodes, vec![floats("y", &[])])
    };
    let resized = |scales: &[f32]| {
        let scales = f32s("scales", &[4], scales);
        picture(vec![scales], vec![node("Resize", &["x", "", "scales"], &["y"])])
    };
    let sized = |sizes: &[i64]| {
        let sizes = i64s("sizes", sizes);
        picture(vec![sizes], vec![node("Resize", &["x", "", "", "sizes"], &["y"])])
    };
    let tensor =
        |dims: &[i64]| row(vec![f32s("c", dims, &[1.0])], vec![node("Add", &["x", "c"], &["y"])]);
    let one_hot = |depth: i64| {
        let constants = vec![
            scalar(i64s("depth", &[depth])),
            f32s("values", &[2], &[0.0, 1.0]),
            i64s("indices", &[1, 2]),
        ];
        let nodes = vec![
            node("OneHot", &["indices", "depth", "values"], &["hot"]),
            node("ReduceSum", &["hot"], &["big"]),
            add(),
        ];
        row(constants, nodes)
    };
    let bomb = Error("asks for");
    let again = || Error("asks for");
    check(vec![
        ("constant of shape", row(vec![huge()], vec![from_shape("big"), add()]), bomb),
        (
            "its shape from a node",
            row(vec![], vec![constant_node("s", huge()), from_shape("big"), add()]),
            again(),
        ),
        (
            "its shape computed",
            row(
                vec![shape(&[1 << 20])],
                vec![mul(), node("ConstantOfShape", &["s2"], &["big"]), add()],
            ),
            Error(""),
        ),
        ("negative shape", row(vec![shape(&[-4])], vec![from_shape("big"), add()]), again()),
        (
            "expand",
            row(vec![shape(&[1 << 30, 4])], vec![node("Expand", &["x", "s"], &["y"])]),
            again(),
        ),
        (
            "tile",
            row(vec![shape(&[1 << 20, 1 << 20])], vec![node("Tile", &["x", "s"], &["y"])]),
            again(),
        ),
        ("range", range(1e15, 1.0), again()),
        ("range of small steps", range(1.0, 1e-12), again()),
        ("range without end", range(1.0, 0.0), Error("Range")),
        (
            "pad",
            row(vec![shape(&[0, 1 << 40, 0, 0])], vec![node("Pad", &["x", "s"], &["y"])]),
            again(),
        ),
        ("one-hot", one_hot(1 << 40), again()),
        ("resize by scales", resized(&[1.0, 1.0, 1e6, 1e6]), again()),
        ("resize to sizes", sized(&[1, 1, 1 << 20, 1 << 20]), again()),
        ("scale without end", resized(&[1.0, 1.0, f32::INFINITY, 1.0]), Error("node_y")),
        ("scale that is no number", resized(&[1.0, 1.0, f32::NAN, 1.0]), Error("node_y")),
        ("dimensions of a constant", tensor(&[1 << 20, 1 << 20]), Error("impossible shape")),
        ("dimensions that overflow", tensor(&[i64::MAX, i64::MAX]), Error("impossible shape")),
        ("negative dimension", tensor(&[-1]), Error("impossible shape")),
        ("too few values", tensor(&[1 << 20]), Error("needs 1048576 values, the file holds 1")),
    ]);
}

#[test]
fn attributes_that_make_no_sense() {
    let weights = |dims: &[i64]| f32s("w", dims, &vec![0.1; dims.iter().product::<i64>() as usize]);
    let conv = |change: &dyn Fn(pb::NodeProto) -> pb::NodeProto| {
        model(
            vec![floats("x", &[1, 4, 8, 8])],
            vec![weights(&[4, 4, 3, 3])],
            vec![change(node("Conv", &["x", "w"], &["y"]))],
            vec![floats("y", &[])],
        )
    };
    let wide = |constants, node| {
        model(vec![floats("x", &[2, 3, 4])], constants, vec![node], vec![floats("y", &[])])
    };
    let one = |op: &str| node(op, &["x"], &["y"]);
    check(vec![
        ("no stride", conv(&|n| ints(n, "strides", &[0, 0])), Error("node_y")),
        ("negative stride", conv(&|n| ints(n, "strides", &[-1, 1])), Error("node_y")),
        ("no dilation", conv(&|n| ints(n, "dilations", &[0, 1])), Error("node_y")),
        ("huge dilation", conv(&|n| ints(n, "dilations", &[1 << 40, 1])), Error("")),
        ("negative pads", conv(&|n| ints(n, "pads", &[-9, 0, 0, 0])), Error("")),
        ("huge pads", conv(&|n| ints(n, "pads", &[1 << 40, 0, 0, 0])), Error("")),
        ("no group", conv(&|n| int(n, "group", 0)), Error("node_y")),
        ("a group of 3", conv(&|n| int(n, "group", 3)), Error("node_y")),
        ("kernel unlike weights", conv(&|n| ints(n, "kernel_shape", &[5, 5])), Error("node_y")),
        (
            "permutation twice",
            wide(vec![], ints(one("Transpose"), "perm", &[0, 0, 1])),
            Error("node_y"),
        ),
        (
            "permutation outside",
            wide(vec![], ints(one("Transpose"), "perm", &[0, 1, 7])),
            Error("node_y"),
        ),
        ("axis outside", wide(vec![], int(one("Softmax"), "axis", 9)), Error("")),
        ("negative axis outside", wide(vec![], int(one("Softmax"), "axis", -9)), Error("")),
        ("flatten outside", wide(vec![], int(one("Flatten"), "axis", 9)), Error("")),
        (
            "two open dimensions",
            wide(vec![i64s("s", &[-1, -1])], node("Reshape", &["x", "s"], &["y"])),
            Error("node_y"),
        ),
        (
            "another volume",
            wide(vec![i64s("s", &[5, 5])], node("Reshape", &["x", "s"], &["y"])),
            Error("node_y"),
        ),
        (
            "an index outside",
            wide(vec![i64s("i", &[99])], node("Gather", &["x", "i"], &["y"])),
            Error(""),
        ),
        (
            "parts that do not add up",
            wide(vec![i64s("s", &[5, 5])], node("Split", &["x", "s"], &["y", "z"])),
            Error(""),
        ),
        ("no inputs at all", wide(vec![], node("Add", &[], &["y"])), Error("node_y")),
        ("too few inputs", wide(vec![], node("Add", &["x"], &["y"])), Error("node_y")),
    ]);
}

fn with_graph(mut node: pb::NodeProto, name: &str, graph: &pb::GraphProto) -> pb::NodeProto {
    node.attribute.push(pb::AttributeProto {
        name: name.into(),
        r#type: AttributeType::Graph as i32,
        g: Some(graph.clone()),
        ..Default::default()
    });
    node
}

#[test]
fn axes_past_the_rank() {
    let data = || vec![floats("x", &[2, 3]), value("i", DataType::Int64, &[2, 3])];
    let case = |op: &str, inputs: &[&str], axis: i64| {
        let node = int(node(op, inputs, &["y"]), "axis", axis);
        model(data(), vec![], vec![node], vec![floats("y", &[2, 3])])
    };
    check(vec![
        ("gather", case("GatherElements", &["x", "i"], 2), Error("axis 2")),
        ("gather from the end", case("GatherElements", &["x", "i"], -3), Error("node_y")),
        ("scatter", case("ScatterElements", &["x", "i", "x"], 17), Error("node_y")),
        ("scatter from the end", case("ScatterElements", &["x", "i", "x"], -9), Error("node_y")),
        ("gather within", case("GatherElements", &["x", "i"], -1), Converts),
    ]);
}

/// tract reads a number where a tensor has none.
#[test]
fn numbers_from_tensors_without_elements() {
    let none = || pb::TensorProto { dims: vec![0], int64_data: vec![], ..i64s("none", &[]) };
    let one = |name: &str| scalar(f32s(name, &[], &[1.0]));
    let hidden = |op: &str, inputs: &[&str]| {
        let nodes = vec![node("Identity", &["none"], &["n"]), node(op, inputs, &["y"])];
        row(vec![none(), one("one"), scalar(i64s("three", &[3]))], nodes)
    };
    let cut = |op: &str, inputs: &[&str]| {
        let slice = node("Slice", &["k", "zero", "e"], &["n"]);
        let ends = vec![floats("x", &[1, 4]), value("e", DataType::Int64, &[1])];
        let constants = vec![i64s("k", &[1, 1]), i64s("zero", &[0])];
        model(ends, constants, vec![slice, node(op, inputs, &["y"])], vec![floats("y", &[])])
    };
    check(vec![
        ("the axis of a sum", hidden("CumSum", &["x", "n"]), Error("node_y")),
        ("the largest", hidden("TopK", &["x", "n"]), Error("node_y")),
        ("a range", hidden("Range", &["n", "three", "three"]), Error("node_y")),
        ("a bound", hidden("Clip", &["x", "n"]), Error("node_y")),
        ("a bound behind none", hidden("Clip", &["x", "", "n"]), Error("node_y")),
        ("a diagonal", hidden("Trilu", &["x", "n"]), Error("node_y")),
        ("a depth", hidden("OneHot", &["x", "n", "x"]), Error("node_y")),
        ("a fill", hidden("Pad", &["x", "three", "n"]), Error("node_y")),
        ("training or not", hidden("Dropout", &["x", "one", "n"]), Error("node_y")),
        ("indices without an axis", hidden("GatherND", &["x", "three"]), Error("node_y")),
        ("as many as there are at run time", cut("TopK", &["x", "n"]), Error("node_y")),
    ]);
}

/// tract reads outside of shapes that are too short for a window, or for channels.
#[test]
fn windows_over_too_few_axes() {
    let weights = |dims: &[i64]| f32s("w", dims, &vec![0.1; dims.iter().product::<i64>() as usize]);
    let number = |name: &str, v| scalar(f32s(name, &[], &[v]));
    let given = |dims: &[i64], n: pb::NodeProto| {
        model(vec![floats("x", dims)], vec![weights(&[4])], vec![n], vec![floats("y", &[])])
    };
    let ranged = |n: pb::NodeProto| {
        let range = node("Range", &["x", "b", "d"], &["r"]);
        let constants = vec![number("b", 5.0), number("d", 1.0), weights(&[1])];
        model(vec![floats("x", &[])], constants, vec![range, n], vec![floats("y", &[])])
    };
    let pool = |op: &str, from: &str| ints(node(op, &[from], &["y"]), "kernel_shape", &[2, 2]);
    let conv = |from: &str| node("Conv", &[from, "w"], &["y"]);
    let norm = node("BatchNormalization", &["x", "w", "w", "w", "w"], &["y"]);
    let short = |n: pb::NodeProto| ints(n, "strides", &[2]);
    check(vec![
        ("average of a row", ranged(pool("AveragePool", "r")), Error("node_y")),
        ("maximum of a row", ranged(pool("MaxPool", "r")), Error("node_y")),
        ("power of a row", ranged(pool("LpPool", "r")), Error("node_y")),
        ("convolution of a row", ranged(conv("r")), Error("node_y")),
        ("convolution of one axis", given(&[4], conv("x")), Error("node_y")),
        ("average of a number", given(&[], pool("AveragePool", "x")), Error("node_y")),
        ("average of two axes", given(&[3, 4], pool("AveragePool", "x")), Error("node_y")),
        ("average of three axes", given(&[1, 3, 4], pool("AveragePool", "x")), Error("of rank 3")),
        ("maximum of five", given(&[1, 1, 2, 3, 4], pool("MaxPool", "x")), Error("of rank 5")),
        ("strides for one", given(&[1, 1, 3, 4], short(pool("MaxPool", "x"))), Error("node_y")),
        ("channels of a row", given(&[4], norm), Error("node_y")),
    ]);
}

/// x `[1, 4]` goes through loops and branches that lack what they need, or do not end.
#[test]
fn loops_and_branches() {
    let ends = |inputs: &[&str], outputs: &[&str], nodes: Vec<pb::NodeProto>| pb::GraphProto {
        name: "body".into(),
        input: inputs
            .iter()
            .map(|&name| match name {
                "turn" => value(name, DataType::Int64, &[]),
                "go" => value(name, DataType::Bool, &[]),
                _ => floats(name, &[1, 4]),
            })
            .collect(),
        output: outputs
            .iter()
            .map(|&name| match name {
                "goes" => value(name, DataType::Bool, &[]),
                _ => floats(name, &[]),
            })
            .collect(),
        node: nodes,
        ..Default::default()
    };
    let same = |from: &str, to: &str| node("Identity", &[from], &[to]);
    let nodes = || vec![same("go", "goes"), node("Relu", &["s"], &["t"])];
    let body = ends(&["turn", "go", "s"], &["goes", "t"], nodes());
    let stacking = ends(&["turn", "go", "s"], &["goes", "t", "s2"], {
        nodes().into_iter().chain([same("s", "s2")]).collect()
    });
    let constants = || {
        let truth = pb::TensorProto {
            name: "true".into(),
            data_type: DataType::Bool as i32,
            int32_data: vec![1],
            ..Default::default()
        };
        vec![truth, scalar(i64s("three", &[3])), scalar(i64s("many", &[i64::MAX]))]
    };
    let graph = |node: pb::NodeProto| row(constants(), vec![node]);
    let repeat = |inputs: &[&str], body: &pb::GraphProto| {
        graph(with_graph(node("Loop", inputs, &["y"]), "body", body))
    };
    let branch = |inputs: &[&str]| {
        let given = ends(&[], &["b"], vec![node("Relu", &["x"], &["b"])]);
        let node = with_graph(node("If", inputs, &["y"]), "then_branch", &given);
        graph(with_graph(node, "else_branch", &given))
    };
    let stack = |count: &str| {
        let node = with_graph(node("Loop", &[count, "", "x"], &["y", "z"]), "body", &stacking);
        model(vec![floats("x", &[1, 4])], constants(), vec![node], vec![floats("z", &[])])
    };
    check(vec![
        ("a loop", repeat(&["three", "", "x"], &body), Converts),
        ("a state is left out", repeat(&["three", "", ""], &body), Error("node_y")),
        ("no state", repeat(&["three", "true"], &body), Error("node_y")),
        ("no input at all", repeat(&[], &body), Error("node_y")),
        ("a body of no results", repeat(&["three", ""], &ends(&["turn", "go"], &[], vec![])), {
            Error("node_y")
        }),
        ("a branch", branch(&["true"]), Converts),
        ("no condition", branch(&[]), Error("node_y")),
        ("a condition is left out", branch(&[""]), Error("node_y")),
        ("two conditions", branch(&["true", "true"]), Error("node_y")),
        ("a stack", stack("three"), Converts),
        ("a stack past all memory", stack("many"), Error("")),
    ]);
}

#[test]
fn long_and_deep() {
    let chain = |op: &str, count: usize| {
        let name = |i: usize| match i {
            0 => "x".to_string(),
            _ if i == count => "y".into(),
            _ => format!("v{i}"),
        };
        let nodes = (0..count).map(|i| match op {
            "Add" => node("Add", &[&name(i), "c"], &[&name(i + 1)]),
            _ => node(op, &[&name(i)], &[&name(i + 1)]),
        });
        row(vec![f32s("c", &[1], &[1e-3])], nodes.collect())
    };
    // each value is the sum of the one before with itself: a tree of 2^64 leaves, a graph of 64 nodes
    let doubling = {
        let name = |i: usize| if i == 0 { "x".to_string() } else { format!("d{i}") };
        let nodes = (0..64).map(|i| {
            let to = if i == 63 { "y".to_string() } else { name(i + 1) };
            node("Max", &[&name(i), &name(i)], &[&to])
        });
        row(vec![], nodes.collect())
    };
    let nested = |depth: usize| {
        let mut graph = pb::GraphProto {
            name: "inner".into(),
            node: vec![node("Relu", &["x"], &["r"])],
            output: vec![floats("r", &[])],
            ..Default::default()
        };
        for level in 0..depth {
            let out = format!("r{level}");
            let mut choice = node("If", &["flag"], &[&out]);
            for name in ["then_branch", "else_branch"].into_iter().take(1 + (level == 0) as usize) {
                choice.attribute.push(pb::AttributeProto {
                    name: name.into(),
                    r#type: AttributeType::Graph as i32,
                    g: Some(graph.clone()),
                    ..Default::default()
                });
            }
            graph = pb::GraphProto {
                name: "outer".into(),
                node: vec![choice],
                output: vec![floats(&out, &[])],
                ..Default::default()
            };
        }
        let inputs = vec![floats("x", &[1, 4]), value("flag", DataType::Bool, &[])];
        let mut model = model(inputs, vec![], graph.node, graph.output);
        model.ir_version = 8;
        model
    };
    let long = "n".repeat(1 << 20);
    let mut named =
        row(vec![], vec![node("Relu", &["x"], &[&long]), node("Relu", &[&long], &["y"])]);
    named.producer_name = long.clone();
    let mut refused = row(vec![], vec![node("NoSuchOp", &["x"], &["y"])]);
    refused.graph.as_mut().unwrap().node[0].name = long.clone();
    let dangling = row(vec![], vec![node("Relu", &[&long], &["y"])]);
    check(vec![
        ("10,000 activations", chain("Sigmoid", 10_000), Converts),
        ("10,000 idempotent activations", chain("Relu", 10_000), Converts),
        ("10,000 identities", chain("Identity", 10_000), Converts),
        ("3,000 sums", chain("Add", 3_000), Converts),
        ("doubling", doubling, Converts),
        ("graphs 40 deep", nested(40), Error("")),
        ("graphs 150 deep", nested(150), Error("not an ONNX model")),
        ("a name of a megabyte", named, Converts),
        ("a refused node of such a name", refused, Error("NoSuchOp")),
        ("a missing value of such a name", dangling, Error("which nothing defines")),
    ]);
}

/// `y = x + w`, `w` of 4 floats in another file.
fn external(entries: &[(&str, &str)], dims: &[i64]) -> pb::ModelProto {
    let entry = |(key, value): &(&str, &str)| pb::StringStringEntryProto {
        key: key.to_string(),
        value: value.to_string(),
    };
    let weights = pb::TensorProto {
        name: "w".into(),
        data_type: DataType::Float as i32,
        dims: dims.to_vec(),
        data_location: Some(DataLocation::External as i32),
        external_data: entries.iter().map(entry).collect(),
        ..Default::default()
    };
    row(vec![weights], vec![node("Add", &["x", "w"], &["y"])])
}

#[test]
fn external_data_stays_in_the_models_folder() {
    let around = tempfile::tempdir().unwrap();
    let folder = around.path().join("model");
    fs::create_dir_all(folder.join("sub")).unwrap();
    let weights: Vec<u8> = [1f32, 2.0, 3.0, 4.0].iter().flat_map(|v| v.to_le_bytes()).collect();
    for name in ["w.bin", "sub/w.bin", "../outside.bin"] {
        fs::write(folder.join(name), &weights).unwrap();
    }
    fs::write(folder.join("empty.bin"), b"").unwrap();
    std::os::unix::fs::symlink("w.bin", folder.join("inside")).unwrap();
    std::os::unix::fs::symlink("../outside.bin", folder.join("out")).unwrap();
    std::os::unix::fs::symlink("/dev/zero", folder.join("zero")).unwrap();
    std::os::unix::fs::symlink(around.path(), folder.join("up")).unwrap();
    let absolute = folder.join("w.bin").display().to_string();
    let at = |location| vec![("location", location)];
    let part = |location, offset, length| {
        vec![("location", location), ("offset", offset), ("length", length)]
    };
    let cases: Vec<(&str, Vec<(&str, &str)>, Expected)> = vec![
        ("whole file", at("w.bin"), Converts),
        ("in a folder below", at("sub/w.bin"), Converts),
        ("from here", at("./w.bin"), Converts),
        ("a link inside", at("inside"), Converts),
        ("with its range", part("w.bin", "0", "16"), Converts),
        ("no location", vec![("offset", "0")], Error("'w': no location")),
        ("empty location", at(""), Error("''")),
        ("missing", at("gone.bin"), Error("'w': its data in 'gone.bin': cannot read")),
        ("absolute", at(&absolute), Error("outside the model's folder")),
        ("above", at("../outside.bin"), Error("outside the model's folder")),
        ("above and back", at("../model/w.bin"), Error("outside the model's folder")),
        ("a link out", at("out"), Error("outside the model's folder")),
        ("a folder that leads out", at("up/outside.bin"), Error("outside the model's folder")),
        ("a device", at("/dev/zero"), Error("outside the model's folder")),
        ("a link to a device", at("zero"), Error("outside the model's folder")),
        ("a folder", at("sub"), Error("is no file")),
        ("an empty file", at("empty.bin"), Error("needs 16 bytes")),
        ("an offset past the end", part("w.bin", "32", "16"), Error("beyond the file's 16 bytes")),
        ("a length past the end", part("w.bin", "0", "1024"), Error("needs 16 bytes")),
        ("a range past the end", part("w.bin", "4", "16"), Error("beyond the file's 16 bytes")),
        ("a range past all numbers", part("w.bin", "18446744073709551615", "16"), Error("beyond")),
        ("a negative offset", part("w.bin", "-4", "16"), Error("offset '-4' is no number")),
        ("a negative length", part("w.bin", "0", "-16"), Error("length '-16' is no number")),
        ("an offset that is no number", part("w.bin", "four", "16"), Error("no number")),
        ("too short", part("w.bin", "0", "12"), Error("needs 16 bytes")),
    ];
    let mut wrong = vec![];
    for (name, entries, expected) in cases {
        let model = external(&entries, &[4]);
        if let Err(how) = try_conversion(&folder, &model.encode_to_vec(), &expected) {
            wrong.push(format!("{name}: {how}"));
        }
    }
    // more than the file can hold
    let model = external(&[("location", "w.bin")], &[1 << 30]);
    let expected = Error("needs 4294967296 bytes");
    if let Err(how) = try_conversion(&folder, &model.encode_to_vec(), &expected) {
        wrong.push(format!("a shape beyond the file: {how}"));
    }
    // two tensors that share some bytes, and two that share all
    for (offset, expected) in [("8", Error("overlap")), ("0", Converts)] {
        let mut model = external(&part("w.bin", "0", "8"), &[2]);
        let graph = model.graph.as_mut().unwrap();
        let mut other = graph.initializer[0].clone();
        other.name = "v".into();
        other.external_data[1].value = if offset == "8" { "4".into() } else { "0".into() };
        graph.initializer.push(other);
        graph.input = vec![floats("x", &[1, 2])];
        graph.node = vec![node("Add", &["x", "w"], &["a"]), node("Mul", &["a", "v"], &["y"])];
        if let Err(how) = try_conversion(&folder, &model.encode_to_vec(), &expected) {
            wrong.push(format!("two tensors, the second at {offset}: {how}"));
        }
    }
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}
