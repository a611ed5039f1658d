//! LiteGraph → SavedModel: `saved_model.pb`, `variables/`, `assets/`, `fingerprint.pb`.
//!
//! TensorFlow's own form has the weights as variables, which two functions read: one for Python's calls, and around it
//! one for the signature. What restores the variables is a graph for sessions and servers, and objects for Python.

use super::graphdef::ConstantValues::InNodes;
use super::graphdef::{
    End, GraphDefModel, References, Replaced, VERSIONS, constant_shape, free_name, function_def,
    function_name, node_defs, strings, tensor_shape,
};
use super::object_graph::{self, Objects, Variable, checkpoint_key};
use crate::format::mmap;
use crate::format::tensorflow::{
    ArgDef, AssetFileDef, AttrList, AttrValue, Attribute, BundleWriter, DataType, FingerprintDef,
    FunctionDef, FunctionLibrary, GraphDef, MetaGraph, MetaInfo, NameAttrList, NodeDef, OpDef,
    SavedModel, SaverDef, Signature, TensorInfo, TensorShape, VersionDef,
};
use crate::ops::{GraphDefAttribute, data_type, node_name};
use anyhow::{Context, Result, ensure};
use prost::Message;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;

/// What becomes of the weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SavedModelForm {
    /// Variables that can be trained.
    Variables,
    /// Constants of the graph.
    Frozen,
}

const SIGNATURE: &str = "serving_default";

const PREDICT: &str = "tensorflow/serving/predict";

const LABELS: &str = "labels.txt";

const LABELS_NODE: &str = "mlctl_labels_path";

/// The functions that objects call: by Python's call, and by the signature.
const CALL: &str = "__inference_call_1";
const SERVE: &str = "__inference_signature_wrapper_2";

/// Writes the files into the empty `folder` and returns how many bytes they have. The same model gives the same
/// bytes.
///
/// # Errors
/// The graph is over 2 GB, which protocol buffers cannot hold, or the file system.
pub fn write_saved_model(
    folder: &Path,
    model: &GraphDefModel,
    labels: &[String],
    form: SavedModelForm,
) -> Result<u64> {
    let mut meta_graph = MetaGraph {
        meta_info_def: Some(MetaInfo {
            tags: vec!["serve".into()],
            tensorflow_version: "2.21.0".into(),
        }),
        ..MetaGraph::default()
    };
    let called = model.functions.iter().enumerate().skip(1);
    let library: Result<Vec<FunctionDef>> = called
        .map(|(index, function)| function_def(function, function_name(index), InNodes))
        .collect();
    let mut graph = GraphDef {
        node: vec![],
        library: Some(FunctionLibrary { function: library? }),
        versions: Some(VERSIONS),
    };
    let checkpoint = match form {
        SavedModelForm::Frozen => {
            frozen(model, &mut graph, &mut meta_graph)?;
            None
        }
        SavedModelForm::Variables => {
            let objects = with_variables(model, &mut graph, &mut meta_graph, !labels.is_empty())?;
            Some((object_graph::checkpointed(&objects), objects.variables))
        }
    };
    meta_graph.graph_def = Some(graph);

    let mut bytes = 0;
    if !labels.is_empty() {
        let text: String = labels.iter().map(|label| format!("{label}\n")).collect();
        fs::create_dir(folder.join("assets"))?;
        fs::write(folder.join("assets").join(LABELS), &text)?;
        bytes += text.len() as u64;
    }
    let index = match &checkpoint {
        Some((objects, variables)) => {
            let (written, index) =
                write_bundle(&folder.join("variables"), &objects.encode_to_vec(), variables)?;
            bytes += written;
            index
        }
        None => vec![],
    };
    let fingerprint = fingerprint(&meta_graph, &index);
    let saved = SavedModel { saved_model_schema_version: 1, meta_graphs: vec![meta_graph] };
    ensure!(
        i32::try_from(saved.encoded_len()).is_ok(),
        "the graph is over 2 GB, which a SavedModel's file cannot hold{}",
        match form {
            SavedModelForm::Frozen => "; without --frozen the weights go into files of their own",
            SavedModelForm::Variables => "",
        }
    );
    let saved = saved.encode_to_vec();
    fs::write(folder.join("saved_model.pb"), &saved)?;
    fs::write(folder.join("fingerprint.pb"), &fingerprint)?;
    Ok(bytes + (saved.len() + fingerprint.len()) as u64)
}

fn tensor_info(end: &End, node: String) -> Result<TensorInfo> {
    let dtype = data_type(end.element)? as i32;
    Ok(TensorInfo { name: node, dtype, tensor_shape: Some(tensor_shape(&end.shape)) })
}

fn frozen(model: &GraphDefModel, graph: &mut GraphDef, meta_graph: &mut MetaGraph) -> Result<()> {
    let main = &model.functions[0];
    graph.node = node_defs(main, References::InGraph, InNodes, &Replaced::new())?;
    let mut signature = Signature { method_name: PREDICT.into(), ..Signature::default() };
    let infos = |ends: &[End], values: &[_]| -> Result<BTreeMap<String, TensorInfo>> {
        let info = |(end, value): (&End, &_)| {
            let node = References::InGraph.of(main, *value);
            Ok((end.name.clone(), tensor_info(end, format!("{node}:0"))?))
        };
        ends.iter().zip(values).map(info).collect()
    };
    signature.inputs = infos(&model.inputs, &main.inputs)?;
    signature.outputs = infos(&model.outputs, &main.outputs)?;
    meta_graph.signature_def.insert(SIGNATURE.into(), signature);
    Ok(())
}

fn node<'a>(
    name: impl Into<String>,
    op: &str,
    input: Vec<String>,
    attr: impl IntoIterator<Item = (&'a str, Attribute)>,
) -> NodeDef {
    let attr = attr.into_iter().map(|(name, value)| (name.to_string(), AttrValue::from(value)));
    NodeDef { name: name.into(), op: op.into(), input, attr: attr.collect() }
}

fn type_of(dtype: DataType) -> Attribute {
    Attribute::Type(dtype as i32)
}

fn types_of(dtypes: impl IntoIterator<Item = i32>) -> Attribute {
    let r#type = dtypes.into_iter().collect();
    Attribute::List(AttrList { r#type, ..AttrList::default() })
}

/// Fills the graph and gives the objects.
fn with_variables<'a>(
    model: &'a GraphDefModel,
    graph: &mut GraphDef,
    meta_graph: &mut MetaGraph,
    has_labels: bool,
) -> Result<Objects<'a>> {
    let main = &model.functions[0];
    let mut names: HashSet<String> = main.nodes.iter().map(|node| node.name.clone()).collect();
    let mut variables = vec![];
    let mut variable_names = HashSet::new();
    for (place, node) in main.nodes.iter().enumerate() {
        let constant = node.attributes.iter().find_map(|(_, attribute)| match attribute {
            GraphDefAttribute::Constant(constant) if constant.is_weight => Some(constant),
            _ => None,
        });
        let Some(constant) = constant else { continue };
        // a name with a colon loads, but TensorFlow cannot save it again
        let plain = constant.name.strip_suffix(":0").unwrap_or(&constant.name);
        let name = free_name(&mut variable_names, &node_name(plain));
        variables.push(Variable { place, name, node: node.name.clone(), constant });
    }
    let resources = variables.iter().map(|v| (v.node.clone(), DataType::Resource as i32));
    let resources: Vec<(String, i32)> = resources.collect();

    let mut replaced = Replaced::new();
    for variable in &variables {
        let read = free_name(&mut names, &format!("{}/Read", variable.node));
        let dtype = type_of(data_type(variable.constant.element)?);
        let read = node(read, "ReadVariableOp", vec![variable.node.clone()], [("dtype", dtype)]);
        replaced.insert(variable.place, read);
    }
    let call = {
        let named = |ends: &[End], values: &[_]| -> Result<Vec<(String, i32)>> {
            let argument = |(end, value): (&End, &_)| {
                let name = References::InGraph.of(main, *value);
                Ok((name, data_type(end.element)? as i32))
            };
            ends.iter().zip(values).map(argument).collect()
        };
        let mut given = named(&model.inputs, &main.inputs)?;
        given.extend(resources.clone());
        let made = named(&model.outputs, &main.outputs)?;
        let ret = main.outputs.iter().map(|value| References::InFunction.of(main, *value));
        // TensorFlow has values by name in the order of their names
        let order = sorted(&model.outputs);
        let made: Vec<(String, i32)> = order.iter().map(|&i| made[i].clone()).collect();
        let ret: Vec<String> = ret.collect();
        let ret = order.iter().map(|&i| ret[i].clone()).collect();
        let nodes = node_defs(main, References::InFunction, InNodes, &replaced)?;
        function(CALL, given, made, nodes, ret)
    };

    let input_order = sorted(&model.inputs);
    let output_order = sorted(&model.outputs);
    let argument = |place: usize| format!("arg_{place}");
    let mut given: Vec<(String, i32)> = vec![];
    for (place, &input) in input_order.iter().enumerate() {
        given.push((argument(place), data_type(model.inputs[input].element)? as i32));
    }
    given.extend(resources.clone());
    let position = |input| input_order.iter().position(|&i| i == input).unwrap_or(input);
    let mut passed: Vec<String> =
        (0..model.inputs.len()).map(|input| argument(position(input))).collect();
    passed.extend(resources.iter().map(|(name, _)| name.clone()));
    let signature = call.signature.clone().unwrap_or_default();
    let tin = types_of(signature.input_arg.iter().map(|arg| arg.r#type));
    let tout = types_of(signature.output_arg.iter().map(|arg| arg.r#type));
    let made: Vec<(String, i32)> =
        signature.output_arg.iter().map(|arg| (arg.name.clone(), arg.r#type)).collect();
    let inner = free_name(&mut names, "call");
    let run = node(
        inner.clone(),
        "StatefulPartitionedCall",
        passed,
        [("Tin", tin), ("Tout", tout.clone()), ("f", function_named(CALL))],
    );
    let ret = (0..made.len()).map(|place| format!("{inner}:output:{place}")).collect();
    let serve = function(SERVE, given.clone(), made, vec![run], ret);

    // the graph that sessions and servers run
    for variable in &variables {
        graph.node.push(node(
            variable.node.clone(),
            "VarHandleOp",
            vec![],
            [
                ("dtype", type_of(data_type(variable.constant.element)?)),
                ("shape", Attribute::Shape(constant_shape(variable.constant))),
                ("shared_name", Attribute::Text(variable.node.clone().into())),
                ("container", Attribute::Text("".into())),
            ],
        ));
    }
    let mut served = Signature { method_name: PREDICT.into(), ..Signature::default() };
    let mut passed = vec![];
    for &input in &input_order {
        let end = &model.inputs[input];
        let name = free_name(&mut names, &format!("{SIGNATURE}_{}", node_name(&end.name)));
        let attributes = [
            ("dtype", type_of(data_type(end.element)?)),
            ("shape", Attribute::Shape(tensor_shape(&end.shape))),
        ];
        graph.node.push(node(name.clone(), "Placeholder", vec![], attributes));
        served.inputs.insert(end.name.clone(), tensor_info(end, format!("{name}:0"))?);
        passed.push(name);
    }
    passed.extend(resources.into_iter().map(|(name, _)| name));
    let tin = types_of(given.iter().map(|(_, dtype)| *dtype));
    let run = free_name(&mut names, "StatefulPartitionedCall");
    graph.node.push(node(
        run.clone(),
        "StatefulPartitionedCall",
        passed,
        [("Tin", tin), ("Tout", tout), ("f", function_named(SERVE))],
    ));
    for (place, &output) in output_order.iter().enumerate() {
        let end = &model.outputs[output];
        served.outputs.insert(end.name.clone(), tensor_info(end, format!("{run}:{place}"))?);
    }
    meta_graph.signature_def.insert(SIGNATURE.into(), served);
    let library = graph.library.get_or_insert_default();
    library.function.extend([call, serve]);
    meta_graph.saver_def = Some(restore(graph, &variables, &mut names)?);
    if has_labels {
        let name = free_name(&mut names, LABELS_NODE);
        let value = strings(&[format!("assets/{LABELS}")], true);
        let mut path = node(name.clone(), "Const", vec![], [("dtype", type_of(DataType::String))]);
        path.attr.insert("value".into(), value);
        graph.node.push(path);
        meta_graph.asset_file_def.push(AssetFileDef {
            tensor_info: Some(TensorInfo {
                name: format!("{name}:0"),
                dtype: DataType::String as i32,
                tensor_shape: Some(TensorShape::default()),
            }),
            filename: LABELS.into(),
        });
    }
    let objects = Objects::new(model, variables, has_labels);
    meta_graph.object_graph_def = Some(object_graph::saved(&objects, [CALL, SERVE])?);
    Ok(objects)
}

/// Places of `ends` in the order of their names.
pub fn sorted(ends: &[End]) -> Vec<usize> {
    let mut places: Vec<usize> = (0..ends.len()).collect();
    places.sort_by_key(|&place| &ends[place].name);
    places
}

fn function_named(name: &str) -> Attribute {
    Attribute::Function(NameAttrList { name: name.into() })
}

fn function(
    name: &str,
    given: Vec<(String, i32)>,
    made: Vec<(String, i32)>,
    node_def: Vec<NodeDef>,
    ret: Vec<String>,
) -> FunctionDef {
    let arguments = |named: Vec<(String, i32)>| {
        named
            .into_iter()
            .map(|(name, r#type)| ArgDef { name, r#type, ..ArgDef::default() })
            .collect()
    };
    let output = |place: usize| format!("output_{place}");
    let made = made.into_iter().enumerate().map(|(i, (_, dtype))| (output(i), dtype)).collect();
    FunctionDef {
        signature: Some(OpDef {
            name: name.into(),
            input_arg: arguments(given),
            output_arg: arguments(made),
            is_stateful: true,
        }),
        node_def,
        ret: ret.into_iter().enumerate().map(|(place, value)| (output(place), value)).collect(),
        control_ret: BTreeMap::new(),
    }
}

/// Adds the nodes that read all variables from a bundle.
fn restore(
    graph: &mut GraphDef,
    variables: &[Variable],
    names: &mut HashSet<String>,
) -> Result<SaverDef> {
    let file = free_name(names, "saver_filename");
    let scalar = Attribute::Shape(TensorShape::default());
    let text = type_of(DataType::String);
    let attributes = [("dtype", text.clone()), ("shape", scalar)];
    graph.node.push(node(file.clone(), "Placeholder", vec![], attributes));
    let mut waited = vec![file.clone()];
    if !variables.is_empty() {
        let mut constant = |name: &str, texts: &[String]| {
            let name = free_name(names, name);
            let mut node = node(name.clone(), "Const", vec![], [("dtype", text.clone())]);
            node.attr.insert("value".into(), strings(texts, false));
            graph.node.push(node);
            name
        };
        let keys: Vec<String> = variables.iter().map(checkpoint_key).collect();
        let inputs = vec![
            file.clone(),
            constant("RestoreV2/tensor_names", &keys),
            constant("RestoreV2/shape_and_slices", &vec![String::new(); keys.len()]),
        ];
        let dtypes: Result<Vec<i32>> =
            variables.iter().map(|v| Ok(data_type(v.constant.element)? as i32)).collect();
        let restored = free_name(names, "RestoreV2");
        let attributes = [("dtypes", types_of(dtypes?))];
        graph.node.push(node(restored.clone(), "RestoreV2", inputs, attributes));
        for (place, variable) in variables.iter().enumerate() {
            let name = free_name(names, &format!("AssignVariableOp_{place}"));
            let dtype = type_of(data_type(variable.constant.element)?);
            let inputs = vec![variable.node.clone(), format!("{restored}:{place}")];
            graph.node.push(node(name.clone(), "AssignVariableOp", inputs, [("dtype", dtype)]));
            waited.push(format!("^{name}"));
        }
    }
    let all = free_name(names, "restore_all");
    graph.node.push(node(all.clone(), "Identity", waited, [("T", text)]));
    let file = format!("{file}:0");
    Ok(SaverDef {
        filename_tensor_name: file.clone(),
        save_tensor_name: file,
        restore_op_name: all,
        version: 2,
    })
}

/// The variables' values; returns how many bytes that is, and the index.
fn write_bundle(folder: &Path, objects: &[u8], variables: &[Variable]) -> Result<(u64, Vec<u8>)> {
    fs::create_dir(folder)?;
    let data = folder.join("variables.data-00000-of-00001");
    let mut bundle = BundleWriter::new(BufWriter::new(File::create(&data)?));
    bundle.add_text("_CHECKPOINTABLE_OBJECT_GRAPH", objects)?;
    for variable in variables {
        let bytes = variable.constant.bytes().with_context(|| variable.constant.name.clone())?;
        let dtype = data_type(variable.constant.element)?;
        let shape = constant_shape(variable.constant);
        bundle.add(&checkpoint_key(variable), dtype, shape, &bytes)?;
        mmap::release(&bytes);
    }
    let (mut file, index) = bundle.finish();
    file.flush()?;
    fs::write(folder.join("variables.index"), &index)?;
    Ok((fs::metadata(&data)?.len() + index.len() as u64, index))
}

/// TensorFlow compares fingerprints and computes none anew, so any function of the content will do.
fn fingerprint(meta_graph: &MetaGraph, index: &[u8]) -> Vec<u8> {
    let hash = |bytes: &[u8]| -> u64 {
        let digest = Sha256::digest(bytes);
        digest.iter().take(8).fold(0, |number, &byte| number << 8 | u64::from(byte))
    };
    let of_graph = meta_graph.graph_def.as_ref().map_or(0, |graph| hash(&graph.encode_to_vec()));
    let signatures = &meta_graph.signature_def;
    let of_signatures: Vec<u8> = signatures.values().flat_map(Message::encode_to_vec).collect();
    let objects = meta_graph.object_graph_def.as_ref();
    let of_objects = objects.map_or(0, |objects| hash(&objects.encode_to_vec()));
    let [of_signatures, of_index] = [hash(&of_signatures), hash(index)];
    let parts = [of_graph, of_signatures, of_objects, of_index];
    let all: Vec<u8> = parts.iter().flat_map(|part| part.to_le_bytes()).collect();
    let all = hash(&all);
    let fingerprint = FingerprintDef {
        saved_model_checksum: all,
        graph_def_program_hash: of_graph,
        signature_def_hash: of_signatures,
        saved_object_graph_hash: of_objects,
        checkpoint_hash: of_index,
        version: Some(VersionDef { producer: 4, min_consumer: 0 }),
        uuid: all.to_string(),
    };
    fingerprint.encode_to_vec()
}
