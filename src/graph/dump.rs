//! A text form for goldens and `inspect -v`: one line a node, in order.

use super::*;
use std::fmt::{self, Display};

impl Display for Subgraph {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let tensor = |id: &TensorId| {
            let t = &self.tensors[*id];
            let kind = if t.data.is_some() { "const " } else { "" };
            format!("{kind}{} {}{}", t.name, t.element, shape_text(&t.shape))
        };
        for input in &self.inputs {
            writeln!(f, "input  {}", tensor(input))?;
        }
        for node in &self.nodes {
            let inputs: Vec<String> =
                node.inputs.iter().map(|i| i.as_ref().map_or("-".to_string(), tensor)).collect();
            let outputs: Vec<String> = node.outputs.iter().map(tensor).collect();
            writeln!(f, "{:?} ({}) -> {}", node.op, inputs.join(", "), outputs.join(", "))?;
        }
        for output in &self.outputs {
            writeln!(f, "output {}", tensor(output))?;
        }
        Ok(())
    }
}
