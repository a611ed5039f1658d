//! How every walk reports the ops that it cannot express.

use serde::Serialize;
use std::collections::HashMap;
use std::fmt;

/// An op of a model that cannot be used, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UnsupportedOp {
    pub node: String,
    pub op: String,
    pub reason: String,
}

/// All ops of a model that cannot be used: an error that says so, op by op.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnsupportedOps {
    pub ops: Vec<UnsupportedOp>,
    /// Ops that depend on these could not be looked at.
    pub incomplete: bool,
}

/// Names of nodes that are told where many are refused for one reason.
const MOST_NAMES: usize = 3;

impl UnsupportedOps {
    /// Ops and nodes under the names they have in the file that a graph was made from: `original` has op by
    /// node; a node made from part of another has its name and more, after a dot.
    pub fn renamed(mut self, original: &HashMap<&str, &str>) -> UnsupportedOps {
        for unsupported in &mut self.ops {
            let mut node = unsupported.node.as_str();
            let found = loop {
                match (original.get(node), node.rsplit_once('.')) {
                    (Some(op), _) => break Some((node.to_string(), op.to_string())),
                    (None, Some((longer, _))) => node = longer,
                    (None, None) => break None,
                }
            };
            if let Some((node, op)) = found {
                (unsupported.node, unsupported.op) = (node, op);
            }
        }
        self
    }
}

/// One line for each op and reason, with the nodes' names.
impl fmt::Display for UnsupportedOps {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let plural = if self.ops.len() == 1 { "op is" } else { "ops are" };
        write!(f, "{} {plural} not supported:", self.ops.len())?;
        let mut places: HashMap<(&str, &str), usize> = HashMap::new();
        let mut groups: Vec<Vec<&UnsupportedOp>> = vec![];
        for op in &self.ops {
            let place = *places.entry((&op.op, &op.reason)).or_insert(groups.len());
            match groups.get_mut(place) {
                Some(group) => group.push(op),
                None => groups.push(vec![op]),
            }
        }
        for group in groups {
            let UnsupportedOp { op, reason, node } = group[0];
            if group.len() == 1 {
                write!(f, "\n  {op} '{node}': {reason}")?;
                continue;
            }
            let names: Vec<String> =
                group.iter().take(MOST_NAMES).map(|op| format!("'{}'", op.node)).collect();
            let more = if group.len() > MOST_NAMES { ", …" } else { "" };
            write!(f, "\n  {} × {op}: {reason} ({}{more})", group.len(), names.join(", "))?;
        }
        if self.incomplete {
            write!(f, "\n  (ops that depend on these were not checked)")?;
        }
        Ok(())
    }
}

impl std::error::Error for UnsupportedOps {}

impl From<Vec<UnsupportedOp>> for UnsupportedOps {
    fn from(ops: Vec<UnsupportedOp>) -> UnsupportedOps {
        UnsupportedOps { ops, incomplete: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn op(op: &str, node: &str, reason: &str) -> UnsupportedOp {
        UnsupportedOp { node: node.into(), op: op.into(), reason: reason.into() }
    }

    #[test]
    fn ops_of_one_reason_are_one_line() {
        let one = UnsupportedOps::from(vec![op("Loop", "l", "no loops")]);
        assert_eq!(one.to_string(), "1 op is not supported:\n  Loop 'l': no loops");
        let several = ["a", "b", "c", "d"].map(|node| op("Fft", node, "no form"));
        let mut several = UnsupportedOps::from(several.to_vec());
        several.ops.insert(1, op("Fft", "e", "rank 5"));
        several.incomplete = true;
        assert_eq!(
            several.to_string(),
            "5 ops are not supported:\n  4 × Fft: no form ('a', 'b', 'c', …)\n  Fft 'e': rank 5\n  \
             (ops that depend on these were not checked)"
        );
    }

    #[test]
    fn parts_are_named_after_what_they_are_part_of() {
        let ops = [op("Deconv", "up.conv", "r"), op("Add", "a.b", "r"), op("Mul", "free", "r")];
        let original = HashMap::from([("up", "ConvTranspose"), ("a.b", "Sum")]);
        let renamed = UnsupportedOps::from(ops.to_vec()).renamed(&original);
        let named = renamed.ops.iter().map(|o| (o.op.as_str(), o.node.as_str()));
        let expected = [("ConvTranspose", "up"), ("Sum", "a.b"), ("Mul", "free")];
        assert_eq!(named.collect::<Vec<_>>(), expected);
    }
}
