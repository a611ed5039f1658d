//! The objects by which Python knows a SavedModel: a root that can be called, with its variables as attributes, and
//! the signatures.

use super::graphdef::{End, GraphDefModel, constant_shape, tensor_shape};
use super::saved_model::sorted;
use crate::format::tensorflow::{
    BareConcreteFunction, CheckpointedObject, CheckpointedObjects, ConcreteFunction, DictValue,
    FunctionSpec, ListValue, NamedTupleValue, ObjectReference, PairValue, SavedAsset,
    SavedFunction, SavedObject, SavedObjectGraph, SavedObjectKind, SavedTensor, SavedUserObject,
    SavedVariable, StructuredKind, StructuredValue, TensorSpec, VersionDef,
};
use crate::ops::{GraphDefConstant, data_type};
use anyhow::Result;
use std::collections::HashSet;

/// A constant that training may change.
#[derive(Debug)]
pub struct Variable<'a> {
    /// Of its node in the entry function.
    pub place: usize,
    /// As users know it: no two have one.
    pub name: String,
    pub node: String,
    pub constant: &'a GraphDefConstant,
}

/// The objects in their order: root, signatures, call, variables, serving function, list of variables, labels.
#[derive(Debug)]
pub struct Objects<'a> {
    pub variables: Vec<Variable<'a>>,
    model: &'a GraphDefModel,
    /// The root's attributes of the variables.
    attributes: Vec<String>,
    has_labels: bool,
}

const SIGNATURES: i32 = 1;
const CALL: i32 = 2;
const VARIABLES: i32 = 3;

/// Attributes that the root has beside its variables.
const OWN: [&str; 4] = ["signatures", "variables", "trainable_variables", "labels"];

/// What a bundle calls the value of `variable`.
pub fn checkpoint_key(variable: &Variable) -> String {
    // `.` and `/` separate the parts of a key
    let escaped = variable.node.replace('.', "..").replace('/', ".S");
    format!("{escaped}/.ATTRIBUTES/VARIABLE_VALUE")
}

impl<'a> Objects<'a> {
    pub fn new(
        model: &'a GraphDefModel,
        variables: Vec<Variable<'a>>,
        has_labels: bool,
    ) -> Objects<'a> {
        let mut taken: HashSet<String> = OWN.iter().map(|name| name.to_string()).collect();
        let attribute = |variable: &Variable| {
            let mut name = variable.name.clone();
            while !taken.insert(name.clone()) {
                name.push('_');
            }
            name
        };
        let attributes = variables.iter().map(attribute).collect();
        Objects { variables, model, attributes, has_labels }
    }

    fn serving_function(&self) -> i32 {
        VARIABLES + self.variables.len() as i32
    }

    fn children(&self) -> Vec<Vec<ObjectReference>> {
        let child = |node_id: i32, name: &str| ObjectReference { node_id, local_name: name.into() };
        let serving = self.serving_function();
        let (list, labels) = (serving + 1, serving + 2);
        let mut root = vec![child(SIGNATURES, "signatures")];
        let variables = self.attributes.iter().zip(VARIABLES..);
        root.extend(variables.map(|(name, id)| child(id, name)));
        root.extend([child(list, "variables"), child(list, "trainable_variables")]);
        root.extend(self.has_labels.then(|| child(labels, "labels")));
        root.push(child(CALL, "__call__"));
        let listed = (0..self.variables.len() as i32).map(|i| child(VARIABLES + i, &i.to_string()));
        let mut children = vec![root, vec![child(serving, "serving_default")], vec![]];
        children.extend(self.variables.iter().map(|_| vec![]));
        children.extend([vec![], listed.collect()]);
        children.extend(self.has_labels.then(Vec::new));
        children
    }
}

/// The objects with their functions, `[call, serve]` by name.
pub fn saved(objects: &Objects, functions: [&str; 2]) -> Result<SavedObjectGraph> {
    let Objects { model, variables, .. } = objects;
    let [call, serve] = functions;
    let argument_names = python_names(&model.inputs);
    let specs: Vec<StructuredValue> = model
        .inputs
        .iter()
        .zip(&argument_names)
        .map(|(end, name)| tensor_spec(name, end))
        .collect::<Result<_>>()?;
    let by_name = |ends: &[End]| -> Result<StructuredValue> {
        let field = |end: &End| Ok((end.name.clone(), tensor_spec(&end.name, end)?));
        let fields = ends.iter().map(field).collect::<Result<_>>()?;
        Ok(StructuredKind::Dict(DictValue { fields }).into())
    };

    let mut kinds = vec![user_object("_generic_user_object"), user_object("signature_map")];
    kinds.push(SavedObjectKind::Function(SavedFunction {
        concrete_functions: vec![call.into()],
        function_spec: Some(FunctionSpec {
            fullargspec: Some(argument_spec(&argument_names)),
            is_method: false,
            input_signature: Some(tuple(specs.clone())),
        }),
    }));
    for variable in variables {
        kinds.push(SavedObjectKind::Variable(SavedVariable {
            dtype: data_type(variable.constant.element)? as i32,
            shape: Some(constant_shape(variable.constant)),
            trainable: true,
            name: variable.name.clone(),
        }));
    }
    let keywords = sorted(&model.inputs).into_iter().map(|i| model.inputs[i].name.clone());
    kinds.push(SavedObjectKind::BareConcreteFunction(BareConcreteFunction {
        concrete_function_name: serve.into(),
        argument_keywords: keywords.collect(),
        allowed_positional_arguments: 0,
    }));
    kinds.push(user_object("trackable_list_wrapper"));
    if objects.has_labels {
        kinds.push(SavedObjectKind::Asset(SavedAsset { asset_file_def_index: 0 }));
    }

    let bound_inputs: Vec<i32> = (0..variables.len() as i32).map(|i| VARIABLES + i).collect();
    let none = || StructuredValue::from(StructuredKind::Dict(DictValue::default()));
    let called = ConcreteFunction {
        bound_inputs: bound_inputs.clone(),
        canonicalized_input_signature: Some(tuple(vec![tuple(specs), none()])),
        output_signature: Some(match &model.outputs[..] {
            [one] => tensor_spec("", one)?,
            several => by_name(several)?,
        }),
    };
    let served = ConcreteFunction {
        bound_inputs,
        canonicalized_input_signature: Some(tuple(vec![tuple(vec![]), by_name(&model.inputs)?])),
        output_signature: Some(by_name(&model.outputs)?),
    };
    let nodes = objects.children().into_iter().zip(kinds);
    let nodes = nodes.map(|(children, kind)| SavedObject { children, kind: Some(kind) });
    Ok(SavedObjectGraph {
        nodes: nodes.collect(),
        concrete_functions: [(call.into(), called), (serve.into(), served)].into(),
    })
}

/// The objects as the bundle has them.
pub fn checkpointed(objects: &Objects) -> CheckpointedObjects {
    let mut nodes: Vec<CheckpointedObject> = objects
        .children()
        .into_iter()
        .map(|children| CheckpointedObject { children, attributes: vec![] })
        .collect();
    for (node, variable) in nodes[VARIABLES as usize..].iter_mut().zip(&objects.variables) {
        node.attributes.push(SavedTensor {
            name: "VARIABLE_VALUE".into(),
            full_name: variable.name.clone(),
            checkpoint_key: checkpoint_key(variable),
        });
    }
    CheckpointedObjects { nodes }
}

fn user_object(identifier: &str) -> SavedObjectKind {
    SavedObjectKind::UserObject(SavedUserObject {
        identifier: identifier.into(),
        version: Some(VersionDef { producer: 1, min_consumer: 1 }),
    })
}

fn tuple(values: Vec<StructuredValue>) -> StructuredValue {
    StructuredKind::Tuple(ListValue { values }).into()
}

fn tensor_spec(name: &str, end: &End) -> Result<StructuredValue> {
    let dtype = data_type(end.element)? as i32;
    let spec = TensorSpec { name: name.into(), shape: Some(tensor_shape(&end.shape)), dtype };
    Ok(StructuredKind::TensorSpec(spec).into())
}

/// Python's `FullArgSpec` of a function with these arguments and nothing else.
fn argument_spec(names: &[String]) -> StructuredValue {
    let none = || StructuredValue::from(StructuredKind::None(()));
    let texts = |texts: &[String]| -> StructuredValue {
        let values = texts.iter().map(|text| StructuredKind::Text(text.clone()).into()).collect();
        StructuredKind::List(ListValue { values }).into()
    };
    let values = [
        ("args", texts(names)),
        ("varargs", none()),
        ("varkw", none()),
        ("defaults", none()),
        ("kwonlyargs", texts(&[])),
        ("kwonlydefaults", none()),
        ("annotations", StructuredKind::Dict(DictValue::default()).into()),
    ];
    let values = values.map(|(key, value)| PairValue { key: key.into(), value: Some(value) });
    StructuredKind::NamedTuple(NamedTupleValue {
        name: "FullArgSpec".into(),
        values: values.to_vec(),
    })
    .into()
}

/// The ends' names as names of Python arguments.
fn python_names(ends: &[End]) -> Vec<String> {
    let mut taken = HashSet::new();
    let name = |end: &End| {
        let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
        let mut name: String = end.name.chars().map(plain).collect();
        if !name.starts_with(|c: char| c.is_ascii_alphabetic()) {
            name.insert_str(0, "arg_");
        }
        if KEYWORDS.contains(&name.as_str()) {
            name.push('_');
        }
        while !taken.insert(name.clone()) {
            name.push('_');
        }
        name
    };
    ends.iter().map(name).collect()
}

/// Python's, and the one that methods have already.
const KEYWORDS: [&str; 36] = [
    "False", "None", "True", "and", "as", "assert", "async", "await", "break", "class", "continue",
    "def", "del", "elif", "else", "except", "finally", "for", "from", "global", "if", "import",
    "in", "is", "lambda", "nonlocal", "not", "or", "pass", "raise", "return", "self", "try",
    "while", "with", "yield",
];
