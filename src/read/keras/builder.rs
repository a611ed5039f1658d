//! A lite graph in the making: names that are unique, shapes by rule.

use crate::graph::*;
use anyhow::{Result, ensure};
use bytes::Bytes;
use std::collections::HashMap;

/// Ops that a file may ask for; models in models can multiply.
const MAX_NODES: usize = 100_000;

#[derive(Debug, Default)]
pub struct Builder {
    pub graph: Subgraph,
    names: HashMap<String, usize>,
    constants: HashMap<String, TensorId>,
}

impl Builder {
    pub fn shape(&self, tensor: TensorId) -> Vec<Dim> {
        self.graph.tensors[tensor].shape.clone()
    }

    pub fn rank(&self, tensor: TensorId) -> usize {
        self.graph.tensors[tensor].shape.len()
    }

    pub fn element(&self, tensor: TensorId) -> ElementType {
        self.graph.tensors[tensor].element
    }

    /// `wanted`, or with a number behind it where that is taken.
    fn name(&mut self, wanted: &str) -> String {
        let count = self.names.entry(wanted.to_string()).or_default();
        *count += 1;
        match *count {
            1 => wanted.to_string(),
            n => {
                let name = format!("{wanted}_{}", n - 1);
                match self.names.contains_key(&name) {
                    true => self.name(&name),
                    false => {
                        self.names.insert(name.clone(), 1);
                        name
                    }
                }
            }
        }
    }

    /// Gives the result of a layer the layer's name.
    pub fn rename(&mut self, tensor: TensorId, name: &str) {
        let name = self.name(name);
        let tensor = &mut self.graph.tensors[tensor];
        tensor.origin = Some(name.clone());
        tensor.name = name;
    }

    pub fn input(&mut self, name: &str, element: ElementType, shape: Vec<Dim>) -> TensorId {
        let name = self.name(name);
        let mut tensor = Tensor::variable(name.clone(), element, shape);
        tensor.origin = Some(name);
        let id = self.graph.add_tensor(tensor);
        self.graph.inputs.push(id);
        id
    }

    /// A constant, made once for each `name`.
    pub fn constant(
        &mut self,
        name: &str,
        element: ElementType,
        shape: &[usize],
        data: impl FnOnce() -> Result<Bytes>,
    ) -> Result<TensorId> {
        if let Some(&made) = self.constants.get(name) {
            return Ok(made);
        }
        let mut tensor = Tensor::constant(self.name(name), element, shape, data()?);
        tensor.origin = Some(tensor.name.clone());
        let id = self.graph.add_tensor(tensor);
        self.constants.insert(name.to_string(), id);
        Ok(id)
    }

    pub fn f32s(&mut self, name: &str, shape: &[usize], values: &[f32]) -> Result<TensorId> {
        let bytes = || values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
        self.constant(name, ElementType::F32, shape, || Ok(bytes().into()))
    }

    /// A constant of no dimensions.
    pub fn scalar(&mut self, value: f32) -> Result<TensorId> {
        self.f32s(&format!("constant/{value}"), &[], &[value])
    }

    pub fn i32s(&mut self, name: &str, shape: &[usize], values: &[i32]) -> Result<TensorId> {
        let listed: Vec<String> = values.iter().map(i32::to_string).collect();
        let shape_text: Vec<String> = shape.iter().map(usize::to_string).collect();
        let name = format!("{name}/{}/{}", shape_text.join("x"), listed.join(","));
        let bytes = || values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
        self.constant(&name, ElementType::I32, shape, || Ok(bytes().into()))
    }

    pub fn op_as(
        &mut self,
        name: &str,
        op: LiteOp,
        inputs: &[TensorId],
        element: ElementType,
        shape: Vec<Dim>,
    ) -> Result<TensorId> {
        ensure!(self.graph.nodes.len() < MAX_NODES, "more than {MAX_NODES} ops");
        let name = self.name(name);
        let mut tensor = Tensor::variable(name.clone(), element, shape);
        tensor.origin = Some(name);
        let output = self.graph.add_tensor(tensor);
        let inputs = inputs.iter().map(|&input| Some(input)).collect();
        self.graph.nodes.push(Node { op, inputs, outputs: vec![output] });
        Ok(output)
    }

    pub fn op(
        &mut self,
        name: &str,
        op: LiteOp,
        inputs: &[TensorId],
        shape: Vec<Dim>,
    ) -> Result<TensorId> {
        self.op_as(name, op, inputs, ElementType::F32, shape)
    }

    pub fn unary(&mut self, name: &str, op: UnaryOp, x: TensorId) -> Result<TensorId> {
        let shape = self.shape(x);
        self.op(name, LiteOp::Unary(op), &[x], shape)
    }

    pub fn binary(
        &mut self,
        name: &str,
        op: BinaryOp,
        a: TensorId,
        b: TensorId,
    ) -> Result<TensorId> {
        let shape = broadcast(&self.shape(a), &self.shape(b));
        let shape = shape.ok_or_else(|| {
            let [a, b] = [a, b].map(|t| shape_text(&self.graph.tensors[t].shape));
            anyhow::anyhow!("{a} and {b} do not go together")
        })?;
        self.op(name, LiteOp::Binary { op, activation: Activation::None }, &[a, b], shape)
    }

    pub fn with_scalar(
        &mut self,
        name: &str,
        op: BinaryOp,
        x: TensorId,
        value: f32,
    ) -> Result<TensorId> {
        let value = self.scalar(value)?;
        self.binary(name, op, x, value)
    }

    /// `x` as `shape`, which may leave one dimension open.
    pub fn reshape(&mut self, name: &str, x: TensorId, shape: Vec<Dim>) -> Result<TensorId> {
        if self.shape(x) == shape {
            return Ok(x);
        }
        let open = shape.iter().filter(|dim| dim.known().is_none()).count();
        ensure!(
            open <= 1,
            "a shape {} with more than one open dimension; give keras.Input a size",
            shape_text(&shape)
        );
        let target = shape.iter().map(|dim| dim.known().map_or(Ok(-1), i32::try_from));
        let target: Vec<i32> = target.collect::<Result<_, _>>()?;
        let target = self.i32s("shape", &[target.len()], &target)?;
        let element = self.element(x);
        self.op_as(name, LiteOp::Reshape, &[x, target], element, shape)
    }

    pub fn transpose(&mut self, name: &str, x: TensorId, order: &[usize]) -> Result<TensorId> {
        if order.is_sorted() {
            return Ok(x);
        }
        let from = self.shape(x);
        let shape = order.iter().map(|&axis| from[axis].clone()).collect();
        let order: Vec<i32> = order.iter().map(|&axis| axis as i32).collect();
        let order = self.i32s("axes", &[order.len()], &order)?;
        let element = self.element(x);
        self.op_as(name, LiteOp::Transpose, &[x, order], element, shape)
    }

    pub fn reduce(
        &mut self,
        name: &str,
        op: ReduceOp,
        x: TensorId,
        axes: &[usize],
        keep_dims: bool,
    ) -> Result<TensorId> {
        let mut shape = vec![];
        for (axis, dim) in self.shape(x).into_iter().enumerate() {
            match (axes.contains(&axis), keep_dims) {
                (false, _) => shape.push(dim),
                (true, true) => shape.push(Dim::Known(1)),
                (true, false) => {}
            }
        }
        let axes: Vec<i32> = axes.iter().map(|&axis| axis as i32).collect();
        let axes = self.i32s("axes", &[axes.len()], &axes)?;
        self.op(name, LiteOp::Reduce { op, keep_dims }, &[x, axes], shape)
    }

    pub fn cast(&mut self, name: &str, x: TensorId, element: ElementType) -> Result<TensorId> {
        if self.element(x) == element {
            return Ok(x);
        }
        let shape = self.shape(x);
        self.op_as(name, LiteOp::Cast, &[x], element, shape)
    }

    /// The part of `x` from `before` to `after` elements before the end, axis by axis.
    pub fn crop(&mut self, name: &str, x: TensorId, cut: &[[usize; 2]]) -> Result<TensorId> {
        if cut.iter().all(|cut| *cut == [0, 0]) {
            return Ok(x);
        }
        let mut shape = self.shape(x);
        let rank = shape.len();
        let (mut begin, mut end) = (vec![0i32; rank], vec![0i32; rank]);
        let mut end_mask = 0;
        for (axis, &[before, after]) in cut.iter().enumerate() {
            begin[axis] = i32::try_from(before)?;
            let size = shape[axis].known();
            match (size, after) {
                (_, 0) => end_mask |= 1 << axis,
                (Some(size), _) => end[axis] = i32::try_from(size.saturating_sub(after))?,
                (None, after) => end[axis] = -i32::try_from(after)?,
            }
            if let Some(size) = size {
                let left = size.checked_sub(before).and_then(|size| size.checked_sub(after));
                let left = left.filter(|&left| left > 0);
                shape[axis] = Dim::Known(left.ok_or_else(|| {
                    anyhow::anyhow!("{before} and {after} cut from an axis of {size}")
                })?);
            } else if before + after > 0 {
                shape[axis] = open(&shape[axis]);
            }
        }
        let inputs = [x, self.i32s("begin", &[rank], &begin)?, self.i32s("end", &[rank], &end)?, {
            self.i32s("strides", &[rank], &vec![1; rank])?
        }];
        let op = LiteOp::StridedSlice {
            begin_mask: 0,
            end_mask,
            shrink_axis_mask: 0,
            new_axis_mask: 0,
            ellipsis_mask: 0,
        };
        let element = self.element(x);
        self.op_as(name, op, &inputs, element, shape)
    }

    /// `x` with `[before, after]` elements of `value` round it, axis by axis.
    pub fn pad(
        &mut self,
        name: &str,
        x: TensorId,
        rows: &[[usize; 2]],
        value: f32,
    ) -> Result<TensorId> {
        if rows.iter().all(|row| *row == [0, 0]) {
            return Ok(x);
        }
        let mut shape = self.shape(x);
        for (dim, [before, after]) in shape.iter_mut().zip(rows) {
            *dim = match dim.known() {
                Some(size) => {
                    let size = size.checked_add(*before).and_then(|size| size.checked_add(*after));
                    Dim::Known(size.ok_or_else(|| anyhow::anyhow!("an impossible padding"))?)
                }
                None if before + after > 0 => open(dim),
                None => dim.clone(),
            };
        }
        let flat: Vec<i32> =
            rows.iter().flatten().map(|&n| i32::try_from(n)).collect::<Result<_, _>>()?;
        let mut inputs = vec![x, self.i32s("paddings", &[rows.len(), 2], &flat)?];
        if value != 0.0 {
            inputs.push(self.scalar(value)?);
        }
        self.op(name, LiteOp::Pad, &inputs, shape)
    }
}

/// The dimension that something of an open one becomes: open as well, whatever it is.
pub fn open(dim: &Dim) -> Dim {
    Dim::Symbol(format!("{dim}'"))
}

/// numpy's rule; open dimensions take the other's size.
pub fn broadcast(a: &[Dim], b: &[Dim]) -> Option<Vec<Dim>> {
    let rank = a.len().max(b.len());
    let at = |shape: &[Dim], axis: usize| match (axis + shape.len()).checked_sub(rank) {
        Some(axis) => shape[axis].clone(),
        None => Dim::Known(1),
    };
    (0..rank)
        .map(|axis| match (at(a, axis), at(b, axis)) {
            (a, b) if a == b => Some(a),
            (Dim::Known(1), dim) | (dim, Dim::Known(1)) => Some(dim),
            (Dim::Known(_), Dim::Known(_)) => None,
            (Dim::Symbol(_), dim) | (dim, Dim::Symbol(_)) => Some(dim),
        })
        .collect()
}
