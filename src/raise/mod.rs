//! LiteGraph → tract's `TypedModel`: the walk. How one op raises is known in `ops/`.

mod shapes;

pub use shapes::{compute_shapes, set_dimension};

use crate::graph::{Dim, Model, Node, shape_text};
use crate::ops::{self, RaiseContext, datum_type};
use crate::tract::{DatumType, OneRow, OutletId, TDim, TypedFact, TypedModel};
use anyhow::{Context, Result, ensure};

/// A raised graph and which outlet each lite tensor became.
#[derive(Debug)]
pub struct Raised {
    pub model: TypedModel,
    pub outlets: Vec<Option<OutletId>>,
}

/// Raises the entry graph of a valid model.
///
/// # Errors
/// Names the node that cannot be computed here.
pub fn raise(model: &Model) -> Result<Raised> {
    let mut ctx = RaiseContext::new(model.main(), &model.subgraphs, raise_nodes);
    add_inputs(&mut ctx)?;
    raise_nodes(&mut ctx)?;
    finish(ctx)
}

/// As [`raise`], without custom ops and what depends on them: those tensors have no outlet.
fn raise_known(model: &Model) -> Result<Raised> {
    let mut ctx = RaiseContext::new(model.main(), &model.subgraphs, raise_nodes);
    add_inputs(&mut ctx)?;
    let skipped = model.needs_custom_ops();
    for (i, node) in ctx.graph.nodes.iter().enumerate().filter(|(i, _)| !skipped[*i]) {
        raise_node(&mut ctx, i, node)?;
    }
    if !skipped.contains(&true) {
        return finish(ctx);
    }
    let (model, outlets) = ctx.into_parts();
    Ok(Raised { model, outlets })
}

fn add_inputs(ctx: &mut RaiseContext) -> Result<()> {
    let graph = ctx.graph;
    for &input in &graph.inputs {
        let tensor = &graph.tensors[input];
        let at = || format!("input '{}'", tensor.name);
        let shape = tensor.shape.iter().map(|dim| match dim {
            Dim::Known(n) => Ok(TDim::from(*n)),
            Dim::Symbol(text) => ctx.model.symbols.parse_tdim(text),
        });
        let shape: Vec<TDim> = shape.collect::<Result<_, _>>().with_context(at)?;
        let fact = TypedFact::dt_shape(datum_type(tensor.element).with_context(at)?, &*shape);
        let outlet = ctx.add_source(&tensor.name, fact)?;
        ctx.set(input, outlet);
    }
    Ok(())
}

fn raise_nodes(ctx: &mut RaiseContext) -> Result<()> {
    let nodes = ctx.graph.nodes.iter().enumerate();
    nodes.into_iter().try_for_each(|(i, node)| raise_node(ctx, i, node))
}

fn raise_node(ctx: &mut RaiseContext, place: usize, node: &Node) -> Result<()> {
    ops::raise(ctx, node).with_context(|| format!("node {place} ({})", node.op.name()))
}

/// Ends a graph whose nodes are all raised.
fn finish(mut ctx: RaiseContext) -> Result<Raised> {
    let graph = ctx.graph;
    let mut outputs = vec![];
    for &output in &graph.outputs {
        let outlet = ctx.outlet(output)?;
        let tensor = &graph.tensors[output];
        let is_shape = ctx.model.outlet_fact(outlet)?.datum_type == DatumType::TDim;
        outputs.push(match is_shape {
            true => ctx.cast(&tensor.name, outlet, datum_type(tensor.element)?)?,
            false => outlet,
        });
    }
    ensure!(!outputs.is_empty(), "the graph has no outputs");
    let (mut model, outlets) = ctx.into_parts();
    model.select_output_outlets(&outputs)?;
    Ok(Raised { model, outlets })
}

/// Whether every value of a graph has the rank, the sizes and the type that the graph declares; those of custom
/// ops, and what is computed from them, are not looked at.
///
/// # Errors
/// Names the tensor, its declared shape and the computed one; or the node that cannot be computed here.
pub fn check_shapes(model: &Model) -> Result<()> {
    let raised = raise_known(model)?;
    for (tensor, outlet) in model.main().tensors.iter().zip(&raised.outlets) {
        let Some(outlet) = outlet else { continue };
        let fact = raised.model.outlet_fact(*outlet)?;
        let computed = ops::dims(&fact.shape);
        let sizes = tensor.shape.iter().zip(&computed);
        let fits = tensor.shape.len() == computed.len()
            && sizes.clone().all(|(a, b)| a == b || a.known().is_none() || b.known().is_none());
        ensure!(
            fits && [datum_type(tensor.element)?, DatumType::TDim].contains(&fact.datum_type),
            "tensor '{}' is declared as {}{}; what computes it gives {:?}{}",
            tensor.name,
            tensor.element,
            shape_text(&tensor.shape),
            fact.datum_type,
            shape_text(&computed)
        );
    }
    Ok(())
}

/// The dimensions of the entry graph's tensors with a batch of one; open ones are `None`.
///
/// # Errors
/// As [`raise`].
pub fn shapes_of_one_row(model: &Model) -> Result<Vec<Vec<Option<usize>>>> {
    let raised = raise_known(model)?;
    let row = OneRow::of(&raised.model)?;
    let tensors = model.main().tensors.iter().zip(&raised.outlets);
    let dims = tensors.map(|(tensor, outlet)| match outlet {
        Some(outlet) => row.dims(*outlet),
        None => Ok(tensor.shape.iter().map(Dim::known).collect()),
    });
    dims.collect()
}
