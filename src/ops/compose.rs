//! What several families need to spell a tract op with several lite ops: casts, index tensors, shapes that
//! are computed at run time, and chains of elementwise ops.

use super::*;
use crate::graph::{Activation, BinaryOp, UnaryOp};
use std::ops::Range;

/// No shape that is computed at run time is longer.
const MAX_COMPUTED_DIMS: usize = 256;

/// Whether `value` holds dimensions that are not numbers.
pub fn has_symbols(value: &tract::Tensor) -> bool {
    value.datum_type() == DatumType::TDim
        && value
            .try_as_plain_ram()
            .and_then(|ram| ram.as_slice::<TDim>())
            .is_ok_and(|dims| dims.iter().any(|d| d.to_i64().is_err()))
}

impl LowerContext<'_> {
    /// # Errors
    /// A dimension is a symbol.
    pub fn known_shape(&self, outlet: OutletId) -> Result<Vec<usize>> {
        let known = |d: &TDim| {
            d.to_usize()
                .map_err(|_| refusal::unknown_size(format!("the dimension {d} is not known")))
        };
        self.shape(outlet)?.iter().map(known).collect()
    }

    pub fn add_i32_tensor(&mut self, name: &str, shape: &[usize], values: &[i32]) -> TensorId {
        let tensor = self.add_i32_constant(name, values);
        self.graph.tensors[tensor].shape = shape.iter().map(|&n| Dim::Known(n)).collect();
        tensor
    }

    /// A scalar constant of type `element`.
    pub fn add_scalar(&mut self, name: &str, value: f32, element: ElementType) -> Result<TensorId> {
        let value = tract::tensor0(value).cast_to_dt(datum_type(element)?)?.into_owned();
        self.add_constant(name, &value)
    }

    /// `tensor` as elements of type `element`: itself, or through a CAST.
    pub fn cast(&mut self, name: &str, tensor: TensorId, element: ElementType) -> TensorId {
        let from = self.graph.tensors[tensor].element;
        if from == element {
            return tensor;
        }
        let by_float32 = (from == ElementType::F16 && element != ElementType::F32)
            || (element == ElementType::F16 && from != ElementType::F32);
        let tensor = match by_float32 {
            true => self.emit_dims(name, LiteOp::Cast, &[tensor], ElementType::F32),
            false => tensor,
        };
        self.emit_dims(name, LiteOp::Cast, &[tensor], element)
    }

    /// Adds a node whose result has the shape of its first input.
    fn emit_dims(
        &mut self,
        name: &str,
        op: LiteOp,
        inputs: &[TensorId],
        element: ElementType,
    ) -> TensorId {
        let shape = self.graph.tensors[inputs[0]].shape.clone();
        let result = self.emit(name, op, inputs, element, &[]);
        self.graph.tensors[result].shape = shape;
        result
    }

    /// The value of `outlet` as elements of type `element`.
    pub fn tensor_as(&mut self, outlet: OutletId, element: ElementType) -> Result<TensorId> {
        let name = self.model.node(outlet.node).name.clone();
        if let Some(value) = self.constant(outlet).cloned() {
            let wanted = datum_type(element)?;
            if value.datum_type() != wanted {
                let value = value.cast_to_dt(wanted)?.into_owned();
                return self.add_constant(&name, &value);
            }
        }
        let symbolic = self.model.outlet_fact(outlet)?.konst.clone();
        if let Some(value) = symbolic.filter(|value| has_symbols(value)) {
            return self.add_symbolic(&name, &value, element);
        }
        let tensor = self.tensor(outlet)?;
        Ok(self.cast(&format!("{name}/cast"), tensor, element))
    }

    /// `tensor`, of `shape`, with only the elements at `places` of `axis`, in that order; `shape` follows.
    pub fn gather_places(
        &mut self,
        name: &str,
        tensor: TensorId,
        shape: &mut [TDim],
        axis: usize,
        places: &[usize],
    ) -> Result<TensorId> {
        let element = self.graph.tensors[tensor].element;
        let places: Vec<i32> =
            places.iter().map(|&p| i32::try_from(p)).collect::<Result<_, _>>()?;
        shape[axis] = places.len().into();
        let places = self.add_i32_constant(&format!("{name}/places"), &places);
        let op = LiteOp::Gather { axis: i32::try_from(axis)?, batch_dims: 0 };
        Ok(self.emit(name, op, &[tensor, places], element, shape))
    }

    /// A value of dimensions, some of them symbols, as elements of type `element`.
    pub fn add_symbolic(
        &mut self,
        name: &str,
        value: &tract::Tensor,
        element: ElementType,
    ) -> Result<TensorId> {
        let dims = value.try_as_plain_ram()?.as_slice::<TDim>()?.to_vec();
        ensure!(
            dims.len() <= MAX_COMPUTED_DIMS,
            refusal::too_large(format!("{} computed dimensions", dims.len()))
        );
        let vector = self.shape_tensor(name, &dims)?;
        let shape: Vec<TDim> = value.shape().iter().map(|&n| TDim::from(n)).collect();
        let tensor = self.reshape(name, vector, &[TDim::from(dims.len())], &shape)?;
        Ok(self.cast(name, tensor, element))
    }

    /// int32 indices into an axis of `len` elements; negative ones count from its end.
    pub fn indices(&mut self, name: &str, outlet: OutletId, len: &TDim) -> Result<TensorId> {
        let shape = self.shape(outlet)?;
        if let Some(value) = self.constant(outlet).cloned() {
            let value = value.cast_to::<i64>()?;
            let value = value.try_as_plain_ram()?.as_slice::<i64>()?.to_vec();
            if value.iter().all(|&v| v >= 0) || len.to_i64().is_ok() {
                let len = len.to_i64().unwrap_or(i64::MAX);
                let values: Vec<i32> = value
                    .iter()
                    .map(|&v| {
                        let place = if v < 0 { v + len } else { v };
                        ensure!((0..len).contains(&place), "the index {v} on an axis of {len}");
                        Ok(i32::try_from(place)?)
                    })
                    .collect::<Result<_>>()?;
                let shape: Vec<usize> =
                    shape.iter().map(|d| Ok(d.to_usize()?)).collect::<Result<_>>()?;
                return Ok(self.add_i32_tensor(name, &shape, &values));
            }
        }
        let raw = self.tensor_as(outlet, ElementType::I32)?;
        let len = self.shape_tensor(&format!("{name}/length"), std::slice::from_ref(len))?;
        let mut chain = Chain::new(self, name, ElementType::I32, &shape);
        Ok(chain.binary(BinaryOp::FloorMod, raw, len))
    }

    /// 0, 1, … up to `len` − 1, as int32.
    pub fn places_of_axis(&mut self, name: &str, len: &TDim) -> Result<TensorId> {
        if let Ok(n) = len.to_i64() {
            ensure!((0..=1 << 24).contains(&n), refusal::too_large(format!("the places of {n}")));
            return Ok(self.add_i32_constant(name, &(0..n as i32).collect::<Vec<_>>()));
        }
        let limit = self.add_symbolic(name, &tract::tensor0(len.clone()), ElementType::I32)?;
        let (zero, one) =
            (self.add_i32_tensor(name, &[], &[0]), self.add_i32_tensor(name, &[], &[1]));
        let inputs = [zero, limit, one];
        Ok(self.emit(name, LiteOp::Range, &inputs, ElementType::I32, std::slice::from_ref(len)))
    }

    /// `shape` as an int32 vector: a constant, or computed from tensors that have these dimensions.
    ///
    /// # Errors
    /// Names the dimension that no tensor of the graph has.
    pub fn shape_tensor(&mut self, name: &str, shape: &[TDim]) -> Result<TensorId> {
        let known: Option<Vec<i32>> =
            shape.iter().map(|d| i32::try_from(d.to_i64().ok()?).ok()).collect();
        if let Some(values) = known {
            return Ok(self.add_i32_constant(name, &values));
        }
        let mut parts = vec![];
        let mut at = 0;
        while at < shape.len() {
            let known = shape[at..].iter().map_while(|d| d.to_i64().ok());
            let known: Vec<i32> = known.map(i32::try_from).collect::<Result<_, _>>()?;
            if !known.is_empty() {
                at += known.len();
                parts.push(self.add_i32_constant(name, &known));
            } else if let Some((tensor, axes)) = self.tensor_with_dims(&shape[at..]) {
                at += axes.len();
                parts.push(self.dims_of(name, tensor, axes)?);
            } else {
                parts.push(self.dim_tensor(name, &shape[at])?);
                at += 1;
            }
        }
        if let &[part] = parts.as_slice() {
            return Ok(part);
        }
        let op = LiteOp::Concatenation { axis: 0, activation: Activation::None };
        Ok(self.emit(name, op, &parts, ElementType::I32, &[TDim::from(shape.len())]))
    }

    /// The first tensor that has the first of these dimensions, and the axes that have it and those after it. No
    /// known size but at the end of both is among them.
    fn tensor_with_dims(&self, wanted: &[TDim]) -> Option<(TensorId, Range<usize>)> {
        let told = |dim: &TDim| self.told_dims.contains_key(&dim.to_string());
        if wanted.first().is_none_or(told) {
            return None;
        }
        let wanted = dims(wanted);
        let (tensor, axis) = self.graph.tensors.iter().enumerate().find_map(|(id, tensor)| {
            Some((id, tensor.shape.iter().position(|d| Some(d) == wanted.first())?))
        })?;
        let shape = &self.graph.tensors[tensor].shape;
        if shape[axis..] == wanted {
            return Some((tensor, axis..shape.len()));
        }
        let same = |(a, b): &(&Dim, &Dim)| a == b && a.known().is_none();
        let count = shape[axis..].iter().zip(&wanted).take_while(same).count();
        Some((tensor, axis..axis + count))
    }

    /// The sizes of these axes of `tensor`, as int32.
    fn dims_of(&mut self, name: &str, tensor: TensorId, axes: Range<usize>) -> Result<TensorId> {
        let rank = self.graph.tensors[tensor].shape.len();
        let op = LiteOp::Shape { element: ElementType::I32 };
        let all =
            self.emit(&format!("{name}/all"), op, &[tensor], ElementType::I32, &[rank.into()]);
        if axes.len() == rank {
            return Ok(all);
        }
        let begin = self.add_i32_constant(&format!("{name}/begin"), &[i32::try_from(axes.start)?]);
        let size = self.add_i32_constant(&format!("{name}/size"), &[i32::try_from(axes.len())?]);
        let (inputs, count) = ([all, begin, size], TDim::from(axes.len()));
        Ok(self.emit(name, LiteOp::Slice, &inputs, ElementType::I32, &[count]))
    }

    /// `dim` as an int32 vector of one element.
    fn dim_tensor(&mut self, name: &str, dim: &TDim) -> Result<TensorId> {
        if let Ok(n) = dim.to_i64() {
            return Ok(self.add_i32_constant(name, &[i32::try_from(n)?]));
        }
        let one = [TDim::from(1)];
        if let Some(&told) = self.told_dims.get(&dim.to_string()) {
            return Ok(told);
        }
        if let Some((tensor, axes)) = self.tensor_with_dims(std::slice::from_ref(dim)) {
            return self.dims_of(name, tensor, axes);
        }
        let (op, parts) = match dim {
            TDim::MulInt(k, inner) => (BinaryOp::Mul, vec![TDim::from(*k), (**inner).clone()]),
            TDim::Mul(factors) => (BinaryOp::Mul, factors.clone()),
            TDim::Add(terms) => (BinaryOp::Add, terms.clone()),
            TDim::Div(inner, k) => {
                let k = i64::try_from(*k)?;
                (BinaryOp::FloorDiv, vec![(**inner).clone(), TDim::from(k)])
            }
            TDim::Min(parts) => (BinaryOp::Minimum, parts.clone()),
            TDim::Max(parts) => (BinaryOp::Maximum, parts.clone()),
            _ => {
                return Err(refusal::unknown_size(format!(
                    "no tensor of the graph has the dimension {dim}"
                )));
            }
        };
        let mut result = None;
        for part in &parts {
            let part = self.dim_tensor(name, part)?;
            result = Some(match result {
                None => part,
                Some(before) => {
                    let op = LiteOp::Binary { op, activation: Activation::None };
                    self.emit(name, op, &[before, part], ElementType::I32, &one)
                }
            });
        }
        result.with_context(|| format!("the dimension {dim} is empty"))
    }
}

/// Elementwise ops on tensors that broadcast to one shape.
pub struct Chain<'c, 'm> {
    pub ctx: &'c mut LowerContext<'m>,
    name: String,
    element: ElementType,
    shape: Vec<TDim>,
}

impl<'c, 'm> Chain<'c, 'm> {
    pub fn new(
        ctx: &'c mut LowerContext<'m>,
        name: &str,
        element: ElementType,
        shape: &[TDim],
    ) -> Chain<'c, 'm> {
        Chain { ctx, name: name.to_string(), element, shape: shape.to_vec() }
    }

    pub fn unary(&mut self, op: UnaryOp, x: TensorId) -> TensorId {
        self.ctx.emit(&self.name, LiteOp::Unary(op), &[x], self.element, &self.shape)
    }

    pub fn single(&mut self, op: LiteOp, x: TensorId) -> TensorId {
        self.ctx.emit(&self.name, op, &[x], self.element, &self.shape)
    }

    pub fn binary(&mut self, op: BinaryOp, x: TensorId, y: TensorId) -> TensorId {
        let lite = LiteOp::Binary { op, activation: Activation::None };
        self.ctx.emit(&self.name, lite, &[x, y], self.element, &self.shape)
    }

    /// As [`Chain::binary`], with a bool result.
    pub fn compare(&mut self, op: BinaryOp, x: TensorId, y: TensorId) -> TensorId {
        let lite = LiteOp::Binary { op, activation: Activation::None };
        self.ctx.emit(&self.name, lite, &[x, y], ElementType::Bool, &self.shape)
    }

    /// As [`Chain::binary`], of operands and with a result of type `element`.
    pub fn shaped(
        &mut self,
        op: BinaryOp,
        x: TensorId,
        y: TensorId,
        element: ElementType,
    ) -> TensorId {
        let lite = LiteOp::Binary { op, activation: Activation::None };
        self.ctx.emit(&self.name, lite, &[x, y], element, &self.shape)
    }

    /// As [`Chain::unary`], of type `element`.
    pub fn shaped_unary(&mut self, op: UnaryOp, x: TensorId, element: ElementType) -> TensorId {
        self.ctx.emit(&self.name, LiteOp::Unary(op), &[x], element, &self.shape)
    }

    /// `x` as elements of type `element`.
    pub fn convert(&mut self, x: TensorId, element: ElementType) -> TensorId {
        self.ctx.cast(&self.name, x, element)
    }

    pub fn select(&mut self, condition: TensorId, x: TensorId, y: TensorId) -> TensorId {
        self.ctx.emit(&self.name, LiteOp::Select, &[condition, x, y], self.element, &self.shape)
    }

    pub fn scalar(&mut self, value: f32) -> Result<TensorId> {
        self.ctx.add_scalar(&format!("{}/constant", self.name), value, self.element)
    }
}

impl RaiseContext<'_> {
    /// The dimensions that input `index` of `node` lists: a constant, or computed from shapes.
    pub fn dims_input(&mut self, node: &Node, index: usize) -> Result<Vec<TDim>> {
        let outlet = self.input(node, index)?;
        let value = self.model.outlet_fact(outlet)?.konst.clone();
        let value = value.with_context(|| {
            format!("{}: input {index} must be a constant or a shape", node.op.name())
        })?;
        let value = value.cast_to::<TDim>()?;
        Ok(value.try_as_plain_ram()?.as_slice::<TDim>()?.to_vec())
    }

    /// An axis that may count from the end, in `0..rank`.
    pub fn axis(&self, node: &Node, axis: i32, rank: usize) -> Result<usize> {
        let positive = if axis < 0 { i64::from(axis) + rank as i64 } else { i64::from(axis) };
        let axis_in = usize::try_from(positive).ok().filter(|&a| a < rank);
        axis_in.with_context(|| format!("{}: axis {axis} of rank {rank}", node.op.name()))
    }

    /// The axis that a constant int32 scalar input names.
    pub fn axis_input(&self, node: &Node, index: usize, rank: usize) -> Result<usize> {
        let values = self.i32_input(node, index)?;
        let &[axis] = values.as_slice() else {
            return Err(anyhow!("{}: {} axes", node.op.name(), values.len()));
        };
        self.axis(node, axis, rank)
    }

    /// `outlet` as elements of type `to`; shapes (of symbols) stay as they are.
    pub fn cast(&mut self, name: &str, outlet: OutletId, to: DatumType) -> Result<OutletId> {
        let from = self.model.outlet_fact(outlet)?.datum_type;
        if from == to {
            return Ok(outlet);
        }
        self.wire(&format!("{name}/cast"), tract::ops::cast::cast(to), &[outlet])
    }

    /// Operands of one type: where one is a shape of symbols, constants become such; beside data it becomes
    /// numbers.
    pub fn unify(&mut self, name: &str, outlets: &mut [OutletId]) -> Result<()> {
        let facts = outlets.iter().map(|&o| {
            let fact = self.model.outlet_fact(o)?;
            Ok((fact.datum_type, fact.konst.is_some()))
        });
        let facts: Vec<(DatumType, bool)> = facts.collect::<Result<_>>()?;
        if facts.iter().any(|(element, _)| *element == DatumType::TDim) {
            let data = facts.iter().find(|(e, constant)| *e != DatumType::TDim && !constant);
            let to = data.map_or(DatumType::TDim, |(element, _)| *element);
            for outlet in outlets {
                *outlet = self.cast(name, *outlet, to)?;
            }
        }
        Ok(())
    }
}

/// The constant int32 input `index` of `node`.
pub fn constant_i32(graph: &Subgraph, node: &Node, index: usize) -> Option<Vec<i32>> {
    graph.tensors[node.inputs.get(index).copied().flatten()?].i32_values()
}

/// An int32 constant of the shape of `like`, for a [`Passage`].
pub fn i32_like(graph: &Subgraph, node: &Node, index: usize, values: &[i32]) -> Option<Tensor> {
    let like = &graph.tensors[node.inputs.get(index).copied().flatten()?];
    let data: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    Some(Tensor { data: Some(data.into()), ..like.clone() })
}

/// An axis that may count from the end, in `0..rank`.
pub fn positive_axis(axis: i32, rank: usize) -> Option<usize> {
    let positive = if axis < 0 { i64::from(axis) + rank as i64 } else { i64::from(axis) };
    usize::try_from(positive).ok().filter(|&a| a < rank)
}

/// The permutation that is left when the axes `gone` (of the permuted input) are dropped.
pub fn without_axes(permutation: &[usize], gone: &[usize]) -> Vec<usize> {
    let kept: Vec<usize> =
        (0..permutation.len()).filter(|a| !gone.contains(a)).map(|a| permutation[a]).collect();
    kept.iter().map(|k| kept.iter().filter(|other| *other < k).count()).collect()
}

/// What a constant with one value an axis becomes.
pub fn moved<T: Copy>(values: &[T], permutation: &[usize]) -> Option<Vec<T>> {
    if values.len() != permutation.len() {
        return None;
    }
    let mut result = values.to_vec();
    for (axis, &p) in permutation.iter().enumerate() {
        result[p] = values[axis];
    }
    Some(result)
}

/// The sink of a permutation that changes nothing but the order of axes.
pub fn passage(op: LiteOp, constants: Vec<(usize, Tensor)>, node: &Node, p: &[usize]) -> Passage {
    Passage { op, constants, outputs: vec![p.to_vec(); node.outputs.len()] }
}
