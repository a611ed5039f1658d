//! What one lite node gives, before its graph is whole: types, shapes, and values where all that it reads is known.
//! The rules are those by which nodes are raised.

use super::*;
use anyhow::bail;

/// An integer that is a number or depends on open dimensions (`2*N`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Size {
    Number(i64),
    Symbol(String),
}

/// A tensor that a node reads. Integers that are computed from open dimensions are known by `sizes`.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    pub tensor: &'a Tensor,
    pub sizes: Option<&'a [Size]>,
}

/// What a node makes.
#[derive(Debug, Clone, PartialEq)]
pub struct Inferred {
    pub element: ElementType,
    pub shape: Vec<Dim>,
    pub data: Option<bytes::Bytes>,
    pub sizes: Option<Vec<Size>>,
}

/// More integers than any shape has.
const MOST_SIZES: usize = 64;

/// What `op` makes of `inputs`: as many outputs as there are types in `outputs`.
///
/// # Errors
/// Why it cannot be computed from these.
pub fn infer(op: &LiteOp, inputs: &[Known], outputs: &[ElementType]) -> Result<Vec<Inferred>> {
    let mut graph = Subgraph::default();
    let is_known = |known: &Known| known.tensor.data.is_some() || known.sizes.is_some();
    let all_known = inputs.iter().all(is_known);
    for known in inputs {
        let mut tensor = known.tensor.clone();
        // weights are not worth moving about for a shape
        if !all_known && tensor.data.as_ref().is_some_and(|data| data.len() >= constants::LARGE) {
            tensor.data = None;
        }
        graph.add_tensor(tensor);
    }
    let made: Vec<TensorId> = outputs
        .iter()
        .enumerate()
        .map(|(i, &element)| {
            graph.add_tensor(Tensor::variable(format!("output{i}"), element, vec![]))
        })
        .collect();
    let numbered = (0..inputs.len()).map(Some).collect();
    let node = Node { op: op.clone(), inputs: numbered, outputs: made.clone() };
    graph.nodes.push(node.clone());
    let mut ctx = RaiseContext::new(&graph, &[], |_| bail!("subgraphs are not looked into"));
    for (id, known) in inputs.iter().enumerate() {
        let outlet = match known.sizes {
            Some(sizes) => {
                let dims: Vec<TDim> =
                    sizes.iter().map(|size| size.dim(&ctx.model)).collect::<Result<_>>()?;
                let value = match (dims.as_slice(), known.tensor.shape.is_empty()) {
                    ([one], true) => tract::tensor0(one.clone()),
                    _ => tract::tensor1(&dims),
                };
                ctx.add_constant("sizes", value.into_arc_tensor())?
            }
            None if graph.tensors[id].data.is_some() => continue,
            None => {
                let shape: Vec<TDim> = graph.tensors[id]
                    .shape
                    .iter()
                    .map(|dim| Size::from(dim).dim(&ctx.model))
                    .collect::<Result<_>>()?;
                let datum = datum_type(graph.tensors[id].element)?;
                ctx.add_source("input", tract::TypedFact::dt_shape(datum, &*shape))?
            }
        };
        ctx.set(id, outlet);
    }
    raise_values(&mut ctx, &node)?;
    let (model, outlets) = ctx.into_parts();
    let inferred = made.iter().zip(outputs).map(|(&id, &declared)| {
        let outlet = outlets[id].with_context(|| format!("{} gives nothing", op.name()))?;
        let fact = model.outlet_fact(outlet)?;
        let is_sizes = fact.datum_type == DatumType::TDim;
        let element = if is_sizes { declared } else { element_type(fact.datum_type)? };
        let shape = dims(&fact.shape.to_tvec());
        let (data, sizes) = match &fact.konst {
            Some(value) if is_sizes => sizes_of(value, element)?,
            Some(value) if all_known && value.as_plain_ram().is_some() => {
                (Some(constant_bytes(value)?.1), None)
            }
            _ => (None, None),
        };
        Ok(Inferred { element, shape, data, sizes })
    });
    inferred.collect()
}

type Values = (Option<bytes::Bytes>, Option<Vec<Size>>);

/// Integers as bytes where all are numbers, otherwise each by itself.
fn sizes_of(value: &tract::Tensor, element: ElementType) -> Result<Values> {
    let dims = value.try_as_plain_ram()?;
    let dims = dims.as_slice::<TDim>()?;
    if dims.len() > MOST_SIZES || value.rank() > 1 {
        return Ok((None, None));
    }
    if dims.iter().all(|dim| dim.to_i64().is_ok()) {
        let value = value.cast_to_dt(datum_type(element)?)?.into_owned();
        return Ok((Some(constant_bytes(&value)?.1), None));
    }
    let size = |dim: &TDim| match dim.to_i64() {
        Ok(number) => Size::Number(number),
        Err(_) => Size::Symbol(dim.to_string()),
    };
    Ok((None, Some(dims.iter().map(size).collect())))
}

impl Size {
    fn dim(&self, model: &TypedModel) -> Result<TDim> {
        match self {
            Size::Number(number) => Ok(TDim::from(*number)),
            Size::Symbol(text) => model.symbols.parse_tdim(text),
        }
    }
}

impl From<&Dim> for Size {
    fn from(dim: &Dim) -> Size {
        match dim {
            Dim::Known(n) => Size::Number(*n as i64),
            Dim::Symbol(text) => Size::Symbol(text.clone()),
        }
    }
}
