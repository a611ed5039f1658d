//! What nobody reads goes.

use crate::graph::*;

/// Removes nodes that no output needs, then tensors that nothing names.
pub fn remove_unused(graph: &mut Subgraph) {
    remove_unused_and_number(graph);
}

/// As [`remove_unused`]; returns the new number of each tensor that stayed.
pub fn remove_unused_and_number(graph: &mut Subgraph) -> Vec<Option<TensorId>> {
    let mut needed = vec![false; graph.tensors.len()];
    graph.outputs.iter().for_each(|&t| needed[t] = true);
    let mut kept = vec![];
    for node in std::mem::take(&mut graph.nodes).into_iter().rev() {
        if node.outputs.iter().any(|&t| needed[t]) {
            node.inputs.iter().flatten().for_each(|&t| needed[t] = true);
            node.outputs.iter().for_each(|&t| needed[t] = true);
            kept.push(node);
        }
    }
    kept.reverse();
    graph.nodes = kept;
    graph.inputs.iter().for_each(|&t| needed[t] = true);

    let mut number = vec![0; needed.len()];
    let mut next = 0;
    for (old, keep) in needed.iter().enumerate() {
        number[old] = next;
        next += *keep as usize;
    }
    let mut keep = needed.iter();
    graph.tensors.retain(|_| *keep.next().unwrap_or(&false));
    for node in &mut graph.nodes {
        node.inputs.iter_mut().flatten().for_each(|t| *t = number[*t]);
        node.outputs.iter_mut().for_each(|t| *t = number[*t]);
    }
    graph.inputs.iter_mut().for_each(|t| *t = number[*t]);
    graph.outputs.iter_mut().for_each(|t| *t = number[*t]);
    needed.iter().zip(number).map(|(keep, number)| keep.then_some(number)).collect()
}

/// Signatures name the ends of their graph by place; after tensors were renumbered, so do they again.
pub fn renumber_signatures(model: &mut Model) {
    for signature in &mut model.signatures {
        let Some(graph) = model.subgraphs.get(signature.subgraph) else { continue };
        for (end, &tensor) in signature.inputs.iter_mut().zip(&graph.inputs) {
            end.1 = tensor;
        }
        for (end, &tensor) in signature.outputs.iter_mut().zip(&graph.outputs) {
            end.1 = tensor;
        }
    }
}
