//! Small graphs for tests.

use crate::kernels::test_values::values;
use crate::runtime::Tensor;
use crate::tract::ops::einsum::EinSum;
use crate::tract::ops::math;
use crate::tract::ops::nn::{Reduce, Reducer};
use crate::tract::{
    DatumType, IntoArcTensor, OutletId, SpecialOps, TDim, TVec, ToDim, TypedFact, TypedModel,
    TypedOp, tensor0,
};
use anyhow::Result;

/// Stands for the batch symbol in a shape.
pub const N: usize = usize::MAX;

pub type Build = fn(&mut Graph, &[OutletId]) -> Result<Vec<OutletId>>;

/// A graph that is made node by node.
pub struct Graph(pub TypedModel);

impl Graph {
    pub fn n(&self) -> TDim {
        self.0.symbols.sym("N").to_dim()
    }

    pub fn op(&mut self, op: impl Into<Box<dyn TypedOp>>, inputs: &[OutletId]) -> Result<OutletId> {
        let name = format!("node{}", self.0.nodes.len());
        Ok(self.0.wire_node(name, op.into(), inputs)?[0])
    }

    pub fn einsum(&mut self, axes: &str, inputs: &[OutletId]) -> Result<OutletId> {
        self.op(EinSum::new(axes.parse()?, DatumType::F32), inputs)
    }

    pub fn sum(&mut self, axes: &[usize], input: OutletId) -> Result<OutletId> {
        self.op(Reduce::new(axes.into(), Reducer::Sum), &[input])
    }

    /// Arbitrary constants, other ones at each call.
    pub fn weights(&mut self, shape: &[usize]) -> Result<OutletId> {
        let seed = self.0.nodes.len() as u64;
        let values = values(shape.iter().product(), seed);
        let name = format!("weights{seed}");
        Ok(self.0.add_const(name, Tensor::from_shape(shape, &values)?.into_arc_tensor())?)
    }

    pub fn number(&mut self, value: f32) -> Result<OutletId> {
        let name = format!("number{}", self.0.nodes.len());
        let value = tensor0(value).broadcast_into_rank(2)?;
        Ok(self.0.add_const(name, value.into_arc_tensor())?)
    }

    pub fn dense(&mut self, x: OutletId, inputs: usize, units: usize) -> Result<OutletId> {
        let (w, b) = (self.weights(&[inputs, units])?, self.weights(&[1, units])?);
        let y = self.einsum("mk,kn->mn", &[x, w])?;
        self.op(math::add(), &[y, b])
    }

    /// The graph that `build` makes over inputs of these shapes.
    pub fn built(inputs: &[&[usize]], build: Build) -> Result<TypedModel> {
        let mut graph = Graph(TypedModel::default());
        let mut sources = vec![];
        for (i, shape) in inputs.iter().enumerate() {
            let n = graph.n();
            let dim = |&d: &usize| if d == N { n.clone() } else { d.to_dim() };
            let shape: TVec<TDim> = shape.iter().map(dim).collect();
            let fact = TypedFact::dt_shape(DatumType::F32, shape);
            sources.push(graph.0.add_source(format!("input{i}"), fact)?);
        }
        let outputs = build(&mut graph, &sources)?;
        graph.0.select_output_outlets(&outputs)?;
        Ok(graph.0)
    }
}
