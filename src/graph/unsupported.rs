//! How every walk reports the ops that it cannot express.

use serde::Serialize;

/// An op of a model that cannot be used, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UnsupportedOp {
    pub node: String,
    pub op: String,
    pub reason: String,
}

/// One line an op, as every command reports them.
pub fn unsupported_text(ops: &[UnsupportedOp]) -> String {
    let plural = if ops.len() == 1 { "op is" } else { "ops are" };
    let lines: Vec<String> =
        ops.iter().map(|u| format!("\n  {} '{}': {}", u.op, u.node, u.reason)).collect();
    format!("{} {plural} not supported:{}", ops.len(), lines.concat())
}
