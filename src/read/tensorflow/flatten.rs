//! Nodes in an order in which they can run, functions put in the place of their calls.

use crate::format::tensorflow::{Attribute, FunctionDef, GraphDef, NodeDef, OpDef};
use crate::ops::output_place;
use anyhow::{Context, Result, bail, ensure};
use std::collections::{HashMap, HashSet};

/// A node outside of all functions, and what it reads.
#[derive(Debug)]
pub struct FlatNode<'a> {
    pub def: &'a NodeDef,
    pub inputs: Vec<FlatValue>,
    /// Whether what it makes is given instead of computed.
    pub is_fed: bool,
    /// Whether it stands in the graph itself, where names are unique.
    pub is_outside: bool,
}

/// An output of a node, both by place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FlatValue {
    pub node: usize,
    pub output: usize,
}

/// Nodes that functions in functions may multiply to.
const MAX_NODES: usize = 400_000;

/// Functions in functions.
const MAX_DEPTH: usize = 48;

/// The nodes that `wanted` (`node`, `node:1`) depend on.
///
/// # Errors
/// A node or function is missing, in a circle, or too many; names it.
pub fn flatten<'a>(
    graph: &'a GraphDef,
    wanted: &[&'a str],
    fed: &HashSet<&str>,
    with_control: bool,
) -> Result<(Vec<FlatNode<'a>>, Vec<FlatValue>)> {
    let functions = graph.library.iter().flat_map(|library| &library.function);
    let named = functions.filter_map(|f| Some((f.signature.as_ref()?.name.as_str(), f)));
    let mut flattener = Flattener {
        library: named.collect(),
        nodes: vec![],
        calls: vec![],
        visited: 0,
        fed,
        with_control,
        has_failed: false,
    };
    let mut scope = Scope::new(&graph.node, HashMap::new(), false)?;
    let values = flattener.walk(&mut scope, wanted)?;
    Ok((flattener.nodes, values))
}

struct Flattener<'a, 'b> {
    library: HashMap<&'a str, &'a FunctionDef>,
    nodes: Vec<FlatNode<'a>>,
    /// The functions that are being called.
    calls: Vec<&'a str>,
    visited: usize,
    fed: &'b HashSet<&'b str>,
    with_control: bool,
    has_failed: bool,
}

/// The nodes among which a name is looked up.
struct Scope<'a> {
    nodes: HashMap<&'a str, &'a NodeDef>,
    arguments: HashMap<&'a str, FlatValue>,
    made: HashMap<&'a str, Made<'a>>,
    is_function: bool,
}

#[derive(Debug, Clone)]
enum Made<'a> {
    Node(usize),
    /// What a function gave.
    Call(Vec<FlatValue>, Option<&'a OpDef>),
    /// It is being looked at.
    Pending,
}

impl<'a> Scope<'a> {
    fn new(
        nodes: &'a [NodeDef],
        arguments: HashMap<&'a str, FlatValue>,
        is_function: bool,
    ) -> Result<Scope<'a>> {
        let mut named = HashMap::with_capacity(nodes.len());
        for node in nodes {
            let before = named.insert(node.name.as_str(), node);
            ensure!(before.is_none(), "two nodes are named '{}'", node.name);
        }
        Ok(Scope { nodes: named, arguments, made: HashMap::new(), is_function })
    }
}

/// `node:output:place` in parts; the name alone of what is waited for.
fn parts(reference: &str) -> (&str, Option<&str>, usize) {
    let reference = reference.strip_prefix('^').unwrap_or(reference);
    let mut parts = reference.split(':');
    let name = parts.next().unwrap_or_default();
    match (parts.next(), parts.next()) {
        (None, _) => (name, None, 0),
        (Some(second), None) => match second.parse() {
            Ok(place) => (name, None, place),
            Err(_) => (name, Some(second), 0),
        },
        (Some(argument), Some(place)) => (name, Some(argument), place.parse().unwrap_or(0)),
    }
}

impl<'a> Flattener<'a, '_> {
    /// What `wanted` are, all that they depend on made first.
    fn walk(&mut self, scope: &mut Scope<'a>, wanted: &[&'a str]) -> Result<Vec<FlatValue>> {
        enum Step<'a> {
            Visit(&'a str),
            Make(&'a NodeDef),
        }
        let mut stack: Vec<Step> = wanted.iter().rev().map(|name| Step::Visit(name)).collect();
        while let Some(step) = stack.pop() {
            match step {
                Step::Visit(reference) => {
                    let (name, ..) = parts(reference);
                    if scope.arguments.contains_key(name) {
                        continue;
                    }
                    match scope.made.get(name) {
                        Some(Made::Pending) => bail!(
                            "node '{name}' depends on itself; loops of TensorFlow 1 have no lite form"
                        ),
                        Some(_) => continue,
                        None => {}
                    }
                    let node = scope.nodes.get(name);
                    let node = *node.with_context(|| format!("there is no node '{name}'"))?;
                    self.visited += 1;
                    ensure!(self.visited <= MAX_NODES, "more than {MAX_NODES} nodes");
                    if !scope.is_function && self.fed.contains(name) {
                        let flat =
                            FlatNode { def: node, inputs: vec![], is_fed: true, is_outside: true };
                        scope.made.insert(name, Made::Node(self.nodes.len()));
                        self.nodes.push(flat);
                        continue;
                    }
                    scope.made.insert(name, Made::Pending);
                    stack.push(Step::Make(node));
                    let read = node.input.iter().rev();
                    let read = read.filter(|input| self.with_control || !input.starts_with('^'));
                    stack.extend(read.map(|input| Step::Visit(input)));
                }
                Step::Make(node) => {
                    let made = self.make(scope, node)?;
                    scope.made.insert(&node.name, made);
                }
            }
        }
        wanted.iter().map(|reference| value(scope, reference, self)).collect()
    }

    fn make(&mut self, scope: &Scope<'a>, node: &'a NodeDef) -> Result<Made<'a>> {
        let read = node.input.iter().filter(|input| !input.starts_with('^'));
        let inputs: Vec<FlatValue> =
            read.map(|input| value(scope, input, self)).collect::<Result<_>>()?;
        if let Some(name) = callee(node) {
            let function = self.library.get(name);
            let function = *function.with_context(|| {
                format!("node '{}' calls '{name}', which is missing", node.name)
            })?;
            return Ok(Made::Call(self.call(function, &inputs)?, None));
        }
        if let Some(&function) = self.library.get(node.op.as_str()) {
            let values = self.call(function, &inputs)?;
            return Ok(Made::Call(values, function.signature.as_ref()));
        }
        let is_outside = !scope.is_function;
        self.nodes.push(FlatNode { def: node, inputs, is_fed: false, is_outside });
        Ok(Made::Node(self.nodes.len() - 1))
    }

    fn call(&mut self, function: &'a FunctionDef, given: &[FlatValue]) -> Result<Vec<FlatValue>> {
        let signature = function.signature.as_ref().context("a function without a signature")?;
        let name = signature.name.as_str();
        ensure!(!self.calls.contains(&name), "function '{name}' calls itself");
        ensure!(self.calls.len() < MAX_DEPTH, "functions lie more than {MAX_DEPTH} deep");
        self.visited += 1;
        ensure!(self.visited <= MAX_NODES, "more than {MAX_NODES} calls");
        let lists = signature.input_arg.iter().chain(&signature.output_arg);
        ensure!(
            lists.clone().all(|arg| arg.number_attr.is_empty() && arg.type_list_attr.is_empty()),
            "function '{name}' has lists as arguments"
        );
        ensure!(
            signature.input_arg.len() == given.len(),
            "function '{name}' takes {} values and is given {}",
            signature.input_arg.len(),
            given.len()
        );
        let names = signature.input_arg.iter().map(|arg| arg.name.as_str());
        let arguments = names.zip(given.iter().copied()).collect();
        let mut scope = Scope::new(&function.node_def, arguments, true)
            .with_context(|| format!("function '{name}'"))?;
        let mut wanted = vec![];
        for output in &signature.output_arg {
            let made = function.ret.get(&output.name);
            let made =
                made.with_context(|| format!("function '{name}' gives no '{}'", output.name))?;
            wanted.push(made.as_str());
        }
        // an effect is all that some functions have
        let effects = function.control_ret.values().filter(|_| self.with_control);
        let count = wanted.len();
        wanted.extend(effects.map(String::as_str));
        self.calls.push(name);
        let values = self.walk(&mut scope, &wanted);
        self.calls.pop();
        // the innermost is what users look for
        let is_first = !std::mem::replace(&mut self.has_failed, values.is_err());
        let mut values = match values {
            Err(error) if is_first => Err(error.context(format!("function '{name}'"))),
            other => other,
        }?;
        values.truncate(count);
        Ok(values)
    }
}

/// What a reference is, its node made before.
fn value<'a>(
    scope: &Scope<'a>,
    reference: &str,
    flattener: &Flattener<'a, '_>,
) -> Result<FlatValue> {
    let (name, argument, place) = parts(reference);
    if let Some(&given) = scope.arguments.get(name) {
        return Ok(given);
    }
    let missing = || format!("'{reference}' is read, which '{name}' does not make");
    match scope.made.get(name) {
        Some(Made::Node(node)) => {
            let op = &flattener.nodes[*node].def.op;
            let first = argument.map_or(0, |argument| output_place(op, argument));
            let output = first.checked_add(place).filter(|output| *output < 1 << 16);
            Ok(FlatValue { node: *node, output: output.with_context(missing)? })
        }
        Some(Made::Call(values, signature)) => {
            let outputs = signature.iter().flat_map(|s| &s.output_arg);
            let first =
                outputs.map(|arg| arg.name.as_str()).position(|name| Some(name) == argument);
            let place = first.unwrap_or(0).checked_add(place);
            match place.and_then(|place| values.get(place)) {
                Some(value) => Ok(*value),
                // of what is only waited for
                None if reference.starts_with('^') || values.is_empty() => {
                    Ok(FlatValue { node: usize::MAX, output: 0 })
                }
                None => bail!(missing()),
            }
        }
        Some(Made::Pending) | None => bail!("'{name}' is read before it is made"),
    }
}

/// The function that a node runs once, on its inputs.
fn callee(node: &NodeDef) -> Option<&str> {
    if !matches!(node.op.as_str(), "PartitionedCall" | "StatefulPartitionedCall") {
        return None;
    }
    match node.attr.get("f")?.value.as_ref()? {
        Attribute::Function(function) => Some(&function.name),
        _ => None,
    }
}
