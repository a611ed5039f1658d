//! What the families raise with.

use super::*;

/// Raises all nodes of a context's graph.
pub type RaiseWalk = fn(&mut RaiseContext) -> Result<()>;

/// What a raise may see and do: the lite graph to read, tract's graph to build.
pub struct RaiseContext<'a> {
    pub graph: &'a Subgraph,
    pub(super) subgraphs: &'a [Subgraph],
    pub(super) walk: RaiseWalk,
    pub model: TypedModel,
    outlets: Vec<Option<OutletId>>,
    /// Names of nodes, and how many others were made from each.
    names: HashMap<String, usize>,
}

impl<'a> RaiseContext<'a> {
    pub fn new(
        graph: &'a Subgraph,
        subgraphs: &'a [Subgraph],
        walk: RaiseWalk,
    ) -> RaiseContext<'a> {
        let outlets = vec![None; graph.tensors.len()];
        let (model, names) = (TypedModel::default(), HashMap::new());
        RaiseContext { graph, subgraphs, walk, model, outlets, names }
    }

    /// Which outlet each tensor became.
    pub fn into_parts(self) -> (TypedModel, Vec<Option<OutletId>>) {
        (self.model, self.outlets)
    }

    pub fn set(&mut self, tensor: TensorId, outlet: OutletId) {
        self.outlets[tensor] = Some(outlet);
    }

    /// Puts another outlet in a tensor's place, and gives what was there.
    pub fn replace(&mut self, tensor: TensorId, outlet: Option<OutletId>) -> Option<OutletId> {
        std::mem::replace(&mut self.outlets[tensor], outlet)
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
        let outlet = self.add_constant(&constant.name, value)?;
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
        Ok(self.wire_all(name, op, inputs)?[0])
    }

    /// As [`RaiseContext::wire`], for an op of several outlets.
    pub fn wire_all(
        &mut self,
        name: &str,
        op: impl Into<Box<dyn TypedOp>>,
        inputs: &[OutletId],
    ) -> Result<tract::TVec<OutletId>> {
        let name = self.unique(name);
        Ok(self.model.wire_node(name, op.into(), inputs)?)
    }

    pub fn add_constant(&mut self, name: &str, value: Arc<tract::Tensor>) -> Result<OutletId> {
        let name = self.unique(name);
        if value.as_plain_ram().is_none() {
            // it stays in its file
            return Ok(self.model.wire_node(name, MappedConst(value), &[])?[0]);
        }
        Ok(self.model.add_const(name, value)?)
    }

    pub fn add_source(&mut self, name: &str, fact: tract::TypedFact) -> Result<OutletId> {
        let name = self.unique(name);
        Ok(self.model.add_source(name, fact)?)
    }

    /// A name for a node that no other has: `wanted` itself, or with a number behind.
    fn unique(&mut self, wanted: &str) -> String {
        let mut name = wanted.to_string();
        while self.names.contains_key(&name) {
            let others = self.names.entry(wanted.to_string()).or_default();
            *others += 1;
            name = format!("{wanted}.{others}");
        }
        self.names.insert(name.clone(), 0);
        name
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
        self.add_constant("scalar", scalar.into_arc_tensor())
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
                outlet = self.wire(&format!("{name}/rank"), AxisOp::Add(0), &[outlet])?;
            }
            Ok(outlet)
        };
        Ok([grow(a)?, grow(b)?])
    }
}
