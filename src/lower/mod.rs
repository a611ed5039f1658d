//! tract's `TypedModel` → LiteGraph: the walk. How one op lowers is known in `ops/`.

mod names;
mod stored;

pub use names::{Contents, restore_constant_names};
pub use stored::{StoredConstant, stored_constants};

use crate::graph::{Model, Signature, UnsupportedOp, UnsupportedOps};
use crate::ops::{self, LowerContext};
use crate::tract::mapped::MappedConst;
use crate::tract::ops::{konst::Const, source::TypedSource};
use crate::tract::{TypedModel, TypedNode};
use anyhow::{Context, Result, bail, ensure};

/// Lowers a decluttered graph; `inputs` and `outputs` name its ends in order.
///
/// # Errors
/// Every op that TFLite cannot express, together.
pub fn lower(model: &TypedModel, inputs: &[String], outputs: &[String]) -> Result<Model> {
    let mut ctx = LowerContext::new(model, lower_nodes);
    for (&outlet, name) in model.input_outlets()?.iter().zip(inputs) {
        ctx.add_input(outlet, name).with_context(|| format!("input '{name}'"))?;
    }
    lower_nodes(&mut ctx)?;
    for (&outlet, name) in model.output_outlets()?.iter().zip(outputs) {
        ctx.add_output(outlet, name).with_context(|| format!("output '{name}'"))?;
    }
    let mut graphs = ctx.into_graphs();
    graphs.iter_mut().for_each(names::restore_value_names);
    let graph = &mut graphs[0];
    graph.name = "main".into();
    let named =
        |ids: &[usize], names: &[String]| names.iter().cloned().zip(ids.iter().copied()).collect();
    let signature = Signature {
        key: "serving_default".into(),
        subgraph: 0,
        inputs: named(&graph.inputs, inputs),
        outputs: named(&graph.outputs, outputs),
    };
    Ok(Model {
        description: format!("mlctl {}", env!("CARGO_PKG_VERSION")),
        subgraphs: graphs,
        signatures: vec![signature],
        metadata: vec![],
    })
}

fn lower_nodes(ctx: &mut LowerContext) -> Result<()> {
    let model = ctx.model;
    let mut unsupported = vec![];
    let mut missing = false;
    for id in model.eval_order()? {
        let node = model.node(id);
        if node.op_is::<Const>() || node.op_is::<MappedConst>() || node.op_is::<TypedSource>() {
            continue;
        }
        check_sizes(node)?;
        let known = node.inputs.iter().all(|&i| ctx.is_known(i));
        if !known {
            missing = true;
            continue;
        }
        if let Err(reason) = ops::lower(ctx, node) {
            unsupported.push(UnsupportedOp {
                node: node.name.clone(),
                op: node.op.name().to_string(),
                reason: format!("{reason:#}"),
            });
            // what depends on it can still be looked at
            missing |= ctx.stand_in(node).is_err();
        }
    }
    if !unsupported.is_empty() {
        bail!(UnsupportedOps { ops: unsupported, incomplete: missing });
    }
    ensure!(!missing, "a value of the graph is never computed");
    Ok(())
}

/// No value may have more elements than this, 4 GB of float32.
const MAX_ELEMENTS: usize = 1 << 30;

fn check_sizes(node: &TypedNode) -> Result<()> {
    for output in &node.outputs {
        let Some(shape) = output.fact.shape.as_concrete() else { continue };
        let count = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
        ensure!(
            count.is_some_and(|n| n <= MAX_ELEMENTS),
            "node '{}' ({}) makes a value of shape {shape:?}, which is too large",
            node.name,
            node.op.name()
        );
    }
    Ok(())
}
