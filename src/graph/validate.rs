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
            graph.validate().with_context(|| format!("subgraph {i} '{}'", graph.name))?;
        }
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
