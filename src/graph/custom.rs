//! Custom ops: what a graph cannot be asked about because nothing here computes them.

use super::*;

impl Model {
    /// The codes of the custom ops of all subgraphs, each once.
    pub fn custom_ops(&self) -> Vec<&str> {
        let mut codes = vec![];
        for node in self.subgraphs.iter().flat_map(|graph| &graph.nodes) {
            if let LiteOp::Custom { code, .. } = &node.op
                && !codes.contains(&code.as_str())
            {
                codes.push(code);
            }
        }
        codes
    }

    /// For each node of the entry graph of a valid model, whether it is a custom op, runs one in a subgraph,
    /// or reads what such a node gives.
    pub fn needs_custom_ops(&self) -> Vec<bool> {
        let is_custom = |node: &Node| matches!(node.op, LiteOp::Custom { .. });
        let mut holds: Vec<bool> =
            self.subgraphs.iter().map(|graph| graph.nodes.iter().any(is_custom)).collect();
        // one round for each link of the longest chain of calls
        loop {
            let calls = |graph: &Subgraph| {
                graph.nodes.iter().flat_map(|node| node.op.subgraphs()).any(|index| holds[index])
            };
            let next: Vec<bool> =
                self.subgraphs.iter().zip(&holds).map(|(graph, &h)| h || calls(graph)).collect();
            if next == holds {
                break;
            }
            holds = next;
        }
        let graph = self.main();
        let mut unknown = vec![false; graph.tensors.len()];
        let mut needs = vec![];
        for node in &graph.nodes {
            let need = is_custom(node)
                || node.op.subgraphs().into_iter().any(|index| holds[index])
                || node.inputs.iter().flatten().any(|&input| unknown[input]);
            node.outputs.iter().for_each(|&output| unknown[output] |= need);
            needs.push(need);
        }
        needs
    }
}
