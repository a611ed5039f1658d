//! What the families read TensorFlow's nodes with: a lite graph in the making.

use super::*;
use crate::format::tensorflow::{AttrValue, Attribute as FileAttribute};
use crate::kernels;
use crate::ops::infer::{Inferred, Known, Size, infer};
use std::collections::BTreeMap;

/// A node of TensorFlow's graph, and the lite tensors that it reads.
#[derive(Debug)]
pub struct GraphDefInput<'a> {
    pub name: &'a str,
    pub op: &'a str,
    pub inputs: Vec<TensorId>,
    pub attributes: &'a BTreeMap<String, AttrValue>,
    /// Of outputs that other nodes read: one more than the highest place.
    pub outputs: usize,
}

/// Ops that a file may become; functions in functions can multiply.
const MAX_NODES: usize = 200_000;

/// A lite graph to which nodes are added.
#[derive(Debug, Default)]
pub struct GraphDefReader {
    pub graph: Subgraph,
    sizes: HashMap<TensorId, Vec<Size>>,
    forms: HashMap<TensorId, Form>,
    names: HashMap<String, usize>,
    numbers: HashMap<(Vec<usize>, Vec<i32>), TensorId>,
    zeros: HashMap<usize, TensorId>,
    scope: String,
}

/// What a tensor is that only some reader can make an op of.
#[derive(Debug, Clone)]
pub enum Form {
    /// `factor · x`.
    Scaled { x: TensorId, factor: f64 },
    /// `factor · (shift + erf(x / √2))`.
    ErrorFunction { x: TensorId, factor: f64, shift: f64 },
    /// `x` with an axis of 1 at `axis`.
    Inserted { x: TensorId, axis: usize },
    /// `x` with an axis of `times` equal parts behind `axis`.
    Repeated { x: TensorId, axis: usize, times: usize },
    /// `x` with borders, cut into blocks: the first half of a dilated convolution.
    Blocks { x: TensorId, block: [usize; 2], borders: [[usize; 2]; 2] },
    /// Such blocks convolved, without the borders cut.
    BlockConvolution(Box<BlockConvolution>),
}

#[derive(Debug, Clone)]
pub struct BlockConvolution {
    pub x: TensorId,
    pub block: [usize; 2],
    pub borders: [[usize; 2]; 2],
    pub weights: TensorId,
    pub bias: Option<TensorId>,
    /// Outputs of each channel, where channels stay apart.
    pub multiplier: Option<usize>,
}

impl GraphDefInput<'_> {
    fn attribute(&self, name: &str) -> Option<&FileAttribute> {
        self.attributes.get(name)?.value.as_ref()
    }

    pub fn input(&self, index: usize) -> Result<TensorId> {
        let input = self.inputs.get(index);
        input.copied().with_context(|| format!("it lacks input {index}"))
    }

    /// `false` where it is not there.
    pub fn flag(&self, name: &str) -> bool {
        matches!(self.attribute(name), Some(FileAttribute::Bool(true)))
    }

    pub fn int(&self, name: &str) -> Option<i64> {
        match self.attribute(name) {
            Some(FileAttribute::Int(value)) => Some(*value),
            _ => None,
        }
    }

    pub fn float(&self, name: &str) -> Option<f32> {
        match self.attribute(name) {
            Some(FileAttribute::Float(value)) => Some(*value),
            _ => None,
        }
    }

    /// Empty where it is not there.
    pub fn text(&self, name: &str) -> &str {
        match self.attribute(name) {
            Some(FileAttribute::Text(text)) => std::str::from_utf8(text).unwrap_or_default(),
            _ => "",
        }
    }

    pub fn texts(&self, name: &str) -> Vec<&str> {
        match self.attribute(name) {
            Some(FileAttribute::List(list)) => {
                list.s.iter().map(|text| std::str::from_utf8(text).unwrap_or_default()).collect()
            }
            _ => vec![],
        }
    }

    pub fn ints(&self, name: &str) -> Vec<i64> {
        match self.attribute(name) {
            Some(FileAttribute::List(list)) => list.i.clone(),
            _ => vec![],
        }
    }

    pub fn element(&self, name: &str) -> Result<Option<ElementType>> {
        match self.attribute(name) {
            Some(FileAttribute::Type(number)) => element_of(*number).map(Some),
            _ => Ok(None),
        }
    }
}

/// The element type of TensorFlow's number. Float64 and bfloat16 are computed as float32.
///
/// # Errors
/// Nothing here computes with such values.
pub fn element_of(number: i32) -> Result<ElementType> {
    Ok(match DataType::try_from(number) {
        Ok(DataType::Float | DataType::Double | DataType::Bfloat16) => ElementType::F32,
        Ok(DataType::Half) => ElementType::F16,
        Ok(DataType::Int8) => ElementType::I8,
        Ok(DataType::Uint8) => ElementType::U8,
        Ok(DataType::Int16) => ElementType::I16,
        Ok(DataType::Uint16) => ElementType::U16,
        Ok(DataType::Int32) => ElementType::I32,
        Ok(DataType::Uint32) => ElementType::U32,
        Ok(DataType::Int64) => ElementType::I64,
        Ok(DataType::Bool) => ElementType::Bool,
        _ => bail!("values of {} are not supported", DataType::describe(number)),
    })
}

impl GraphDefReader {
    /// Nodes are named for `name` from now on.
    pub fn begin(&mut self, name: &str) {
        self.scope = name.to_string();
    }

    /// Names what the node of this name makes.
    pub fn end(&mut self, name: &str, outputs: &[TensorId], first: usize) {
        if let [output, ..] = outputs
            && *output >= first
            && !self.graph.inputs.contains(output)
        {
            let name = self.free_name(name);
            let tensor = &mut self.graph.tensors[*output];
            tensor.origin = Some(name.clone());
            tensor.name = name;
        }
    }

    fn free_name(&mut self, wanted: &str) -> String {
        let mut name = wanted.to_string();
        while self.names.contains_key(&name) {
            let count = self.names.entry(wanted.to_string()).or_default();
            *count += 1;
            name = format!("{wanted}_{count}");
        }
        self.names.insert(name.clone(), 0);
        name
    }

    pub fn add_input(&mut self, name: &str, element: ElementType, shape: Vec<Dim>) -> TensorId {
        let mut tensor = Tensor::variable(self.free_name(name), element, shape);
        tensor.origin = Some(tensor.name.clone());
        let id = self.graph.add_tensor(tensor);
        self.graph.inputs.push(id);
        id
    }

    pub fn add_constant(
        &mut self,
        name: &str,
        element: ElementType,
        shape: &[usize],
        data: Bytes,
    ) -> TensorId {
        let mut tensor = Tensor::constant(self.free_name(name), element, shape, data);
        tensor.origin = Some(tensor.name.clone());
        self.graph.add_tensor(tensor)
    }

    pub fn shape(&self, tensor: TensorId) -> &[Dim] {
        &self.graph.tensors[tensor].shape
    }

    pub fn rank(&self, tensor: TensorId) -> usize {
        self.shape(tensor).len()
    }

    pub fn element(&self, tensor: TensorId) -> ElementType {
        self.graph.tensors[tensor].element
    }

    pub fn is_constant(&self, tensor: TensorId) -> bool {
        self.graph.tensors[tensor].data.is_some()
    }

    pub fn known_dim(&self, tensor: TensorId, axis: usize) -> Result<usize> {
        let dim = self.shape(tensor).get(axis).and_then(Dim::known);
        dim.with_context(|| format!("axis {axis} of {} is open", shape_text(self.shape(tensor))))
    }

    /// The integers of a constant; `None` where it is computed.
    pub fn ints_of(&self, tensor: TensorId) -> Option<Vec<i64>> {
        let Tensor { element, data, .. } = &self.graph.tensors[tensor];
        let data = data.as_ref()?;
        Some(match element {
            ElementType::I32 => {
                data.as_chunks().0.iter().map(|b| i32::from_le_bytes(*b).into()).collect()
            }
            ElementType::I64 => data.as_chunks().0.iter().map(|b| i64::from_le_bytes(*b)).collect(),
            _ => return None,
        })
    }

    /// The constant integers at `node`'s input `index`.
    pub fn ints(&self, node: &GraphDefInput, index: usize) -> Result<Vec<i64>> {
        let ints = self.ints_of(node.input(index)?);
        ints.with_context(|| format!("input {index} is computed; it must be constant here"))
    }

    pub fn int(&self, node: &GraphDefInput, index: usize) -> Result<i64> {
        match self.ints(node, index)?.as_slice() {
            [one] => Ok(*one),
            several => bail!("input {index} is {} integers, not one", several.len()),
        }
    }

    /// The value of a constant of one float32.
    pub fn number_of(&self, tensor: TensorId) -> Option<f64> {
        match self.graph.tensors[tensor].f32_values()?.as_slice() {
            [one] => Some(f64::from(*one)),
            _ => None,
        }
    }

    /// `axis`, which may count from the end, in `0..rank`.
    pub fn axis(&self, axis: i64, rank: usize) -> Result<usize> {
        let place = if axis < 0 { axis + rank as i64 } else { axis };
        let place = usize::try_from(place).ok().filter(|place| *place < rank);
        place.with_context(|| format!("axis {axis} of rank {rank}"))
    }

    pub fn form(&self, tensor: TensorId) -> Option<&Form> {
        self.forms.get(&tensor)
    }

    pub fn set_form(&mut self, tensor: TensorId, form: Form) {
        self.forms.insert(tensor, form);
    }

    pub fn sizes_of(&self, tensor: TensorId) -> Option<Vec<Size>> {
        match self.ints_of(tensor) {
            Some(ints) => Some(ints.into_iter().map(Size::Number).collect()),
            None => self.sizes.get(&tensor).cloned(),
        }
    }

    /// A constant of int32, made once.
    pub fn i32s(&mut self, shape: &[usize], values: &[i64]) -> Result<TensorId> {
        let values: Vec<i32> =
            values.iter().map(|&v| i32::try_from(v)).collect::<Result<_, _>>()?;
        let key = (shape.to_vec(), values);
        if let Some(&made) = self.numbers.get(&key) {
            return Ok(made);
        }
        let data: Vec<u8> = key.1.iter().flat_map(|v| v.to_le_bytes()).collect();
        let listed: Vec<String> = key.1.iter().take(8).map(i32::to_string).collect();
        let name = format!("integers/{}", listed.join("_"));
        let id = self.add_constant(&name, ElementType::I32, shape, data.into());
        self.numbers.insert(key, id);
        Ok(id)
    }

    pub fn i32_scalar(&mut self, value: i64) -> Result<TensorId> {
        self.i32s(&[], &[value])
    }

    pub fn i32_vector(&mut self, values: &[i64]) -> Result<TensorId> {
        self.i32s(&[values.len()], values)
    }

    /// A number of type `element` and no dimensions.
    pub fn scalar(&mut self, value: f32, element: ElementType) -> Result<TensorId> {
        let name = format!("{}/constant", self.scope);
        let data = value.to_le_bytes().to_vec();
        let scalar = self.add_constant(&name, ElementType::F32, &[], data.into());
        self.cast(scalar, element)
    }

    pub fn f32s(&mut self, name: &str, shape: &[usize], values: &[f32]) -> TensorId {
        let data: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.add_constant(name, ElementType::F32, shape, data.into())
    }

    /// A bias of nothing.
    pub fn zeros(&mut self, length: usize) -> TensorId {
        if let Some(&made) = self.zeros.get(&length) {
            return made;
        }
        let id = self.f32s(&format!("zeros/{length}"), &[length], &vec![0.0; length]);
        self.zeros.insert(length, id);
        id
    }

    /// Integers as int32: the constant in that type, or a cast.
    pub fn as_i32(&mut self, tensor: TensorId) -> Result<TensorId> {
        self.cast(tensor, ElementType::I32)
    }

    pub fn cast(&mut self, tensor: TensorId, element: ElementType) -> Result<TensorId> {
        match self.element(tensor) == element {
            true => Ok(tensor),
            false => self.emit_as(LiteOp::Cast, &[tensor], element),
        }
    }

    /// As [`Self::emit_as`] of integers that are computed from open dimensions: what they are is known by rule.
    pub fn emit_sizes(
        &mut self,
        op: LiteOp,
        inputs: &[TensorId],
        shape: &[usize],
        sizes: Vec<Size>,
    ) -> Result<TensorId> {
        let element = self.element(*inputs.first().context("it reads nothing")?);
        let number = |size: &Size| match size {
            Size::Number(number) => Some(*number),
            Size::Symbol(_) => None,
        };
        if let Some(numbers) = sizes.iter().map(number).collect::<Option<Vec<i64>>>() {
            let constant = self.i32s(shape, &numbers)?;
            return self.cast(constant, element);
        }
        let shape = shape.iter().map(|&n| Dim::Known(n)).collect();
        let inferred = Inferred { element, shape, data: None, sizes: Some(sizes) };
        Ok(self.add_node(op, inputs, vec![inferred])?[0])
    }

    /// Adds a node of one output, of the type that the op gives, or of the first input's.
    pub fn emit(&mut self, op: LiteOp, inputs: &[TensorId]) -> Result<TensorId> {
        let first = inputs.first().map_or(ElementType::F32, |&input| self.element(input));
        self.emit_as(op, inputs, first)
    }

    pub fn emit_as(
        &mut self,
        op: LiteOp,
        inputs: &[TensorId],
        element: ElementType,
    ) -> Result<TensorId> {
        Ok(self.emit_all(op, inputs, &[element])?[0])
    }

    /// Adds a node; where all that it reads is constant, its outputs become constants instead.
    pub fn emit_all(
        &mut self,
        op: LiteOp,
        inputs: &[TensorId],
        outputs: &[ElementType],
    ) -> Result<Vec<TensorId>> {
        let known: Vec<Known> = inputs
            .iter()
            .map(|&input| Known {
                tensor: &self.graph.tensors[input],
                sizes: self.sizes.get(&input).map(Vec::as_slice),
            })
            .collect();
        let inferred = infer(&op, &known, outputs)?;
        Ok(self.add_node(op, inputs, inferred)?)
    }

    /// As [`Self::emit_as`], where the shape is known by rule.
    pub fn emit_shaped(
        &mut self,
        op: LiteOp,
        inputs: &[TensorId],
        element: ElementType,
        shape: Vec<Dim>,
    ) -> Result<TensorId> {
        let inferred = Inferred { element, shape, data: None, sizes: None };
        Ok(self.add_node(op, inputs, vec![inferred])?[0])
    }

    fn add_node(
        &mut self,
        op: LiteOp,
        inputs: &[TensorId],
        inferred: Vec<Inferred>,
    ) -> Result<Vec<TensorId>> {
        ensure!(self.graph.nodes.len() < MAX_NODES, "more than {MAX_NODES} ops");
        if let Some(&stand_in) = inputs.iter().find(|input| self.is_stand_in(**input)) {
            let name = &self.graph.tensors[stand_in].name;
            bail!("what it reads ('{name}') has a form only as part of other ops");
        }
        let is_constant = inferred.iter().all(|output| output.data.is_some());
        let base = format!("{}/{}", self.scope, op.name().to_ascii_lowercase());
        let mut outputs = vec![];
        for made in inferred {
            let name = self.free_name(&base);
            let id = self.graph.add_tensor(Tensor {
                origin: Some(name.clone()),
                name,
                element: made.element,
                shape: made.shape,
                quantization: None,
                data: made.data.filter(|_| is_constant),
            });
            if let Some(sizes) = made.sizes {
                self.sizes.insert(id, sizes);
            }
            outputs.push(id);
        }
        if !is_constant {
            let inputs = inputs.iter().map(|&input| Some(input)).collect();
            self.graph.nodes.push(Node { op, inputs, outputs: outputs.clone() });
        }
        Ok(outputs)
    }

    /// A tensor that stands for what `form` describes, which no single op computes.
    pub fn stand_in(&mut self, form: Form, element: ElementType, shape: Vec<Dim>) -> TensorId {
        let name = self.free_name(&self.scope.clone());
        let id = self.graph.add_tensor(Tensor::variable(name, element, shape));
        self.forms.insert(id, form);
        id
    }

    /// Whether no node computes `tensor`, though it is no constant and no input.
    pub fn is_stand_in(&self, tensor: TensorId) -> bool {
        match self.forms.get(&tensor) {
            Some(Form::Scaled { .. } | Form::Inserted { .. } | Form::Repeated { .. }) | None => {
                false
            }
            Some(Form::ErrorFunction { .. } | Form::Blocks { .. } | Form::BlockConvolution(_)) => {
                true
            }
        }
    }

    pub fn unary(&mut self, op: UnaryOp, x: TensorId) -> Result<TensorId> {
        self.emit(LiteOp::Unary(op), &[x])
    }

    pub fn binary(&mut self, op: BinaryOp, x: TensorId, y: TensorId) -> Result<TensorId> {
        self.emit(LiteOp::Binary { op, activation: Activation::None }, &[x, y])
    }

    /// `x op value`.
    pub fn with_number(&mut self, op: BinaryOp, x: TensorId, value: f32) -> Result<TensorId> {
        let value = self.scalar(value, self.element(x))?;
        self.binary(op, x, value)
    }

    /// `x` with its axes in the order `order`; a constant is moved at once.
    pub fn transpose(&mut self, x: TensorId, order: &[usize]) -> Result<TensorId> {
        ensure!(order.len() == self.rank(x), "an order of axes for another rank");
        if order.is_sorted() {
            return Ok(x);
        }
        let tensor = &self.graph.tensors[x];
        if let (Some(data), Some(shape)) = (tensor.data.clone(), tensor.known_shape())
            && let Some(width) = tensor.element.bits().filter(|bits| bits % 8 == 0)
        {
            let element = tensor.element;
            let moved = kernels::reorder(&data, width / 8, &shape, order)?;
            let data = moved.map_or(data, Bytes::from);
            let shape: Vec<usize> = order.iter().map(|&axis| shape[axis]).collect();
            return Ok(self.instead_of(x, element, &shape, data));
        }
        let order: Vec<i64> = order.iter().map(|&axis| axis as i64).collect();
        let order = self.i32_vector(&order)?;
        self.emit(LiteOp::Transpose, &[x, order])
    }

    /// A constant of another shape, its numbers as they are.
    pub fn reshaped_constant(&mut self, x: TensorId, shape: &[usize]) -> Result<TensorId> {
        let Tensor { name, element, data, .. } = self.graph.tensors[x].clone();
        let data = data.context("it must be constant here")?;
        let count = shape.iter().try_fold(1usize, |n, &size| n.checked_mul(size));
        let bytes = count.and_then(|count| element.bytes(count));
        ensure!(bytes == Some(data.len()), "'{name}' is not of shape {shape:?}");
        Ok(self.instead_of(x, element, shape, data))
    }

    /// A constant in another layout, which takes the name of the one it is made from.
    fn instead_of(
        &mut self,
        x: TensorId,
        element: ElementType,
        shape: &[usize],
        data: Bytes,
    ) -> TensorId {
        let stored = self.free_name(&format!("{}/stored", self.graph.tensors[x].name));
        let name = std::mem::replace(&mut self.graph.tensors[x].name, stored);
        let mut tensor = Tensor::constant(name.clone(), element, shape, data);
        tensor.origin = Some(name);
        self.graph.add_tensor(tensor)
    }

    /// `x` as `dims`, whose open dimensions are among those of `source` or of the graph's inputs.
    pub fn reshape(&mut self, x: TensorId, dims: &[Dim], source: TensorId) -> Result<TensorId> {
        if self.shape(x) == dims {
            return Ok(x);
        }
        let open = dims.iter().filter(|dim| dim.known().is_none()).count();
        if open <= 1 {
            let target: Vec<i64> =
                dims.iter().map(|dim| dim.known().map_or(-1, |n| n as i64)).collect();
            let target = self.i32_vector(&target)?;
            return self.emit(LiteOp::Reshape, &[x, target]);
        }
        let element = ElementType::I32;
        let mut parts = vec![];
        for dim in dims {
            parts.push(match dim.known() {
                Some(n) => self.i32_vector(&[n as i64])?,
                None => {
                    let sources = [source].into_iter().chain(self.graph.inputs.clone());
                    let mut found = sources.filter_map(|source| {
                        let axis = self.shape(source).iter().position(|other| other == dim)?;
                        Some((source, axis))
                    });
                    let found = found.next();
                    let (source, axis) =
                        found.with_context(|| format!("the size {dim} is not to be had"))?;
                    let shape = self.emit_as(LiteOp::Shape { element }, &[source], element)?;
                    let begin = self.i32_vector(&[axis as i64])?;
                    let one = self.i32_vector(&[1])?;
                    self.emit(LiteOp::Slice, &[shape, begin, one])?
                }
            });
        }
        let concat = LiteOp::Concatenation { axis: 0, activation: Activation::None };
        let target = self.emit(concat, &parts)?;
        self.emit(LiteOp::Reshape, &[x, target])
    }

    /// `x` with `[before, after]` elements of `value` round it, axis by axis.
    pub fn pad(&mut self, x: TensorId, rows: &[[i64; 2]], value: f32) -> Result<TensorId> {
        if rows.iter().all(|row| *row == [0, 0]) {
            return Ok(x);
        }
        let rows_tensor = self.i32s(&[rows.len(), 2], rows.as_flattened())?;
        let mut inputs = vec![x, rows_tensor];
        if value != 0.0 {
            inputs.push(self.scalar(value, self.element(x))?);
        }
        self.emit(LiteOp::Pad, &inputs)
    }

    /// Float32 `x` from channels first to last, where it is a picture of that layout.
    pub fn to_channels_last(&mut self, node: &GraphDefInput, x: TensorId) -> Result<TensorId> {
        match is_channels_first(node) {
            true => {
                let rank = self.rank(x);
                let order: Vec<usize> = [0].into_iter().chain(2..rank).chain([1]).collect();
                self.transpose(x, &order)
            }
            false => Ok(x),
        }
    }

    /// Undoes [`Self::to_channels_last`].
    pub fn from_channels_last(&mut self, node: &GraphDefInput, x: TensorId) -> Result<TensorId> {
        match is_channels_first(node) {
            true => {
                let rank = self.rank(x);
                let order: Vec<usize> = [0, rank - 1].into_iter().chain(1..rank - 1).collect();
                self.transpose(x, &order)
            }
            false => Ok(x),
        }
    }
}

pub fn is_channels_first(node: &GraphDefInput) -> bool {
    node.text("data_format").starts_with("NC")
}
