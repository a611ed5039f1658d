//! What must hold of every graph before it is written, raised or quantized.

use super::*;
use anyhow::{Context, Result, bail, ensure};

impl Model {
    /// Checks indices, order, names, constants' sizes and signatures.
    ///
    /// # Errors
    /// The first thing that does not hold, with the tensor or node it was found at.
    pub fn validate(&self) -> Result<()> {
        ensure!(!self.subgraphs.is_empty(), "the model has no graph");
        for (i, graph) in self.subgraphs.iter().enumerate() {
            let at = || format!("subgraph {i} '{}'", graph.name);
            graph.validate().with_context(at)?;
            graph.nodes.iter().try_for_each(|node| self.validate_call(node)).with_context(at)?;
        }
        self.validate_nesting()?;
        for signature in &self.signatures {
            let graph = self.subgraphs.get(signature.subgraph).with_context(|| {
                format!("signature '{}' names a missing subgraph", signature.key)
            })?;
            for (name, tensor) in &signature.inputs {
                ensure!(
                    graph.inputs.contains(tensor),
                    "signature '{}': '{name}' is not an input of its graph",
                    signature.key
                );
            }
            for (name, tensor) in &signature.outputs {
                ensure!(
                    graph.outputs.contains(tensor),
                    "signature '{}': '{name}' is not an output of its graph",
                    signature.key
                );
            }
        }
        Ok(())
    }

    /// The subgraphs that a node runs are there, and take and give what it does.
    fn validate_call(&self, node: &Node) -> Result<()> {
        let name = node.op.name();
        for index in node.op.subgraphs() {
            let callee = self.subgraphs.get(index);
            let callee =
                callee.with_context(|| format!("{name} runs the missing subgraph {index}"))?;
            ensure!(index != 0, "{name} runs the entry graph");
            let (given, wanted) = match node.op {
                LiteOp::If { .. } => (node.inputs.len().saturating_sub(1), node.outputs.len()),
                _ => (node.inputs.len(), node.outputs.len()),
            };
            let is_condition =
                matches!(node.op, LiteOp::While { condition, .. } if condition == index);
            let wanted = if is_condition { 1 } else { wanted };
            ensure!(
                callee.inputs.len() == given && callee.outputs.len() == wanted,
                "{name} gives subgraph {index} {given} values for {wanted}; it takes {} and gives {}",
                callee.inputs.len(),
                callee.outputs.len()
            );
            ensure!(node.inputs.iter().all(Option::is_some), "{name} lacks an input");
        }
        if let LiteOp::While { condition, body } = node.op {
            ensure!(condition != body, "{name} has one subgraph as condition and body");
            ensure!(node.inputs.len() == node.outputs.len(), "{name} changes the number of states");
        }
        Ok(())
    }

    /// No subgraph runs itself, and few run inside each other.
    fn validate_nesting(&self) -> Result<()> {
        const MAX_DEPTH: usize = 16;
        let callees = |graph: &Subgraph| -> Vec<usize> {
            graph.nodes.iter().flat_map(|node| node.op.subgraphs()).collect()
        };
        let callees: Vec<Vec<usize>> = self.subgraphs.iter().map(callees).collect();
        // the longest chain that begins at each graph; one round for each link
        let mut depths = vec![1; callees.len()];
        for _ in 0..=MAX_DEPTH {
            for graph in 0..callees.len() {
                let below = callees[graph].iter().map(|&callee| depths[callee]).max();
                depths[graph] = below.unwrap_or(0) + 1;
            }
        }
        ensure!(
            depths.iter().all(|&depth| depth <= MAX_DEPTH),
            "subgraphs run each other more than {MAX_DEPTH} deep, or in a circle"
        );
        Ok(())
    }
}

impl Subgraph {
    fn validate(&self) -> Result<()> {
        let mut ready: Vec<bool> = self.tensors.iter().map(|t| t.data.is_some()).collect();
        for tensor in &self.tensors {
            tensor.validate()?;
        }
        for &input in &self.inputs {
            let slot = ready.get_mut(input).context("an input names a missing tensor")?;
            ensure!(!*slot, "input '{}' is listed twice or constant", self.tensors[input].name);
            *slot = true;
        }
        for (i, node) in self.nodes.iter().enumerate() {
            let at = || format!("node {i} ({})", node.op.name());
            for &input in node.inputs.iter().flatten() {
                match ready.get(input) {
                    None => bail!("{} reads a missing tensor", at()),
                    Some(false) => {
                        bail!("{} reads '{}' before it is computed", at(), self.tensors[input].name)
                    }
                    Some(true) => {}
                }
            }
            for &output in &node.outputs {
                let slot =
                    ready.get_mut(output).with_context(|| format!("{} writes nowhere", at()))?;
                ensure!(
                    !*slot,
                    "{} writes '{}', which has a value already",
                    at(),
                    self.tensors[output].name
                );
                *slot = true;
            }
        }
        for &output in &self.outputs {
            ensure!(
                ready.get(output).copied().unwrap_or(false),
                "output {output} is never computed"
            );
        }
        Ok(())
    }
}

impl Tensor {
    fn validate(&self) -> Result<()> {
        let Some(data) = &self.data else { return Ok(()) };
        let shape = self
            .known_shape()
            .with_context(|| format!("constant '{}' has an unknown dimension", self.name))?;
        let count = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
        let expected = count.and_then(|n| self.element.bytes(n));
        ensure!(
            self.element == ElementType::String || expected == Some(data.len()),
            "constant '{}' of shape {} holds {} bytes of {}",
            self.name,
            shape_text(&self.shape),
            data.len(),
            self.element
        );
        Ok(())
    }
}
