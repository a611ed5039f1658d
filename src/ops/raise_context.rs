//! What the families raise with.

use super::*;

/// What a raise may see and do: the lite graph to read, tract's graph to build.
pub struct RaiseContext<'a> {
    pub graph: &'a Subgraph,
    pub model: TypedModel,
    outlets: Vec<Option<OutletId>>,
}

impl<'a> RaiseContext<'a> {
    pub fn new(graph: &'a Subgraph) -> RaiseContext<'a> {
        let outlets = vec![None; graph.tensors.len()];
        RaiseContext { graph, model: TypedModel::default(), outlets }
    }

    /// Which outlet each tensor became.
    pub fn into_parts(self) -> (TypedModel, Vec<Option<OutletId>>) {
        (self.model, self.outlets)
    }

    pub fn set(&mut self, tensor: TensorId, outlet: OutletId) {
        self.outlets[tensor] = Some(outlet);
    }

    /// The outlet of `node`'s input `index`; constants are added on first use.
    pub fn input(&mut self, node: &Node, index: usize) -> Result<OutletId> {
        let tensor = node.inputs.get(index).copied().flatten();
        let tensor = tensor.with_context(|| format!("{} lacks input {index}", node.op.name()))?;
        self.outlet(tensor)
    }

    pub fn has_input(&self, node: &Node, index: usize) -> bool {
        node.inputs.get(index).copied().flatten().is_some()
    }

    pub fn outlet(&mut self, tensor: TensorId) -> Result<OutletId> {
        if let Some(outlet) = self.outlets[tensor] {
            return Ok(outlet);
        }
        let constant = &self.graph.tensors[tensor];
        let value = tract_constant(constant)?;
        let outlet = self.model.add_const(unique(&self.model, &constant.name), value)?;
        self.outlets[tensor] = Some(outlet);
        Ok(outlet)
    }

    /// The values of a constant int32 input.
    pub fn i32_input(&self, node: &Node, index: usize) -> Result<Vec<i32>> {
        let tensor = node.inputs.get(index).copied().flatten();
        tensor
            .and_then(|t| self.graph.tensors[t].i32_values())
            .with_context(|| format!("{}: input {index} must be an int32 constant", node.op.name()))
    }

    pub fn shape(&self, outlet: OutletId) -> Result<Vec<TDim>> {
        Ok(self.model.outlet_fact(outlet)?.shape.iter().cloned().collect())
    }

    pub fn wire(
        &mut self,
        name: &str,
        op: impl Into<Box<dyn TypedOp>>,
        inputs: &[OutletId],
    ) -> Result<OutletId> {
        let name = unique(&self.model, name);
        Ok(self.model.wire_node(name, op.into(), inputs)?[0])
    }

    /// Ends `node`: its only output is `outlet`, under the output tensor's name.
    pub fn finish(&mut self, node: &Node, outlet: OutletId) -> Result<()> {
        let &[tensor] = node.outputs.as_slice() else {
            return Err(anyhow!("{} must have one output", node.op.name()));
        };
        self.set(tensor, outlet);
        Ok(())
    }

    /// Ends a `node` of several outputs.
    pub fn finish_all(&mut self, node: &Node, outlets: &[OutletId]) -> Result<()> {
        ensure!(
            outlets.len() == node.outputs.len(),
            "{} must have {} outputs",
            node.op.name(),
            outlets.len()
        );
        node.outputs.iter().zip(outlets).for_each(|(&tensor, &outlet)| self.set(tensor, outlet));
        Ok(())
    }

    pub fn output_name(&self, node: &Node) -> &'a str {
        node.outputs.first().map_or("", |&t| &self.graph.tensors[t].name)
    }

    /// A scalar constant of `like`'s rank and type.
    pub fn scalar_like(&mut self, value: f32, like: OutletId) -> Result<OutletId> {
        let fact = self.model.outlet_fact(like)?;
        let (rank, dt) = (fact.rank(), fact.datum_type);
        let scalar =
            tract::tensor0(value).cast_to_dt(dt)?.into_owned().broadcast_into_rank(rank)?;
        self.model.add_const(unique(&self.model, "scalar"), scalar.into_arc_tensor())
    }

    /// Gives both operands the same rank by leading 1s, as numpy's broadcasting does.
    pub fn equalize_ranks(
        &mut self,
        name: &str,
        a: OutletId,
        b: OutletId,
    ) -> Result<[OutletId; 2]> {
        let rank = |m: &TypedModel, o| m.outlet_fact(o).map(|f| f.rank());
        let target = rank(&self.model, a)?.max(rank(&self.model, b)?);
        let mut grow = |mut outlet: OutletId| -> Result<OutletId> {
            while rank(&self.model, outlet)? < target {
                let name = unique(&self.model, &format!("{name}/rank"));
                outlet = self.model.wire_node(name, AxisOp::Add(0), &[outlet])?[0];
            }
            Ok(outlet)
        };
        Ok([grow(a)?, grow(b)?])
    }
}

/// A node name that `model` has not used.
pub fn unique(model: &TypedModel, wanted: &str) -> String {
    let taken = |name: &str| model.nodes.iter().any(|n| n.name == name);
    if !taken(wanted) {
        return wanted.to_string();
    }
    (1..).map(|i| format!("{wanted}.{i}")).find(|n| !taken(n)).unwrap_or_default()
}
