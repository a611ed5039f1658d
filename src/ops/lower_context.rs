//! What the families lower with.

use super::*;

/// Lowers all nodes of a context's model.
pub type LowerWalk = fn(&mut LowerContext) -> Result<()>;

/// What a lowering may see and do: tract's graph to read, the lite graph to build.
pub struct LowerContext<'a> {
    pub model: &'a TypedModel,
    pub graph: Subgraph,
    /// The subgraphs that nodes run; the first is the model's subgraph 1.
    pub(super) bodies: Vec<Subgraph>,
    /// Dimensions that a subgraph is told by inputs, int32 `[1]`.
    pub(super) told_dims: HashMap<String, TensorId>,
    pub(super) walk: LowerWalk,
    pub(super) tensors: HashMap<OutletId, TensorId>,
    pub(super) names: HashSet<String>,
}

impl<'a> LowerContext<'a> {
    pub fn new(model: &'a TypedModel, walk: LowerWalk) -> LowerContext<'a> {
        LowerContext {
            model,
            graph: Subgraph::default(),
            bodies: vec![],
            told_dims: HashMap::new(),
            walk,
            tensors: HashMap::new(),
            names: HashSet::new(),
        }
    }

    /// The value of an outlet that is constant; shapes with symbols are not.
    pub fn constant(&self, outlet: OutletId) -> Option<&Arc<tract::Tensor>> {
        let value = self.model.outlet_fact(outlet).ok()?.konst.as_ref()?;
        (!compose::has_symbols(value)).then_some(value)
    }

    /// Whether `outlet` has a tensor, or can have one: it is a constant or a shape.
    pub fn is_known(&self, outlet: OutletId) -> bool {
        self.tensors.contains_key(&outlet)
            || self.model.outlet_fact(outlet).is_ok_and(|fact| fact.konst.is_some())
    }

    pub fn shape(&self, outlet: OutletId) -> Result<Vec<TDim>> {
        Ok(self.model.outlet_fact(outlet)?.shape.iter().cloned().collect())
    }

    /// The type of the tensor that stands for `outlet`.
    pub fn element(&self, outlet: OutletId) -> Result<ElementType> {
        Ok(carrier(self.own_element(outlet)?))
    }

    fn own_element(&self, outlet: OutletId) -> Result<ElementType> {
        element_type(self.model.outlet_fact(outlet)?.datum_type)
    }

    /// The lite tensor that stands for `outlet`; a constant is added on first use.
    pub fn tensor(&mut self, outlet: OutletId) -> Result<TensorId> {
        if let Some(&tensor) = self.tensors.get(&outlet) {
            return Ok(tensor);
        }
        let value = self.model.outlet_fact(outlet)?.konst.clone();
        let name = &self.model.node(outlet.node).name;
        let value = value.with_context(|| format!("value '{name}' was not lowered"))?;
        let tensor = match compose::has_symbols(&value) {
            true => self.add_symbolic(name, &value, ElementType::I64)?,
            false => {
                let (element, data) = shared_bytes(&value)?;
                let name = self.free_name(name);
                self.graph.add_tensor(Tensor::constant(name, element, value.shape(), data))
            }
        };
        self.tensors.insert(outlet, tensor);
        Ok(tensor)
    }

    /// Tensors that nothing computes in place of what an unsupported `node` would; the graph is not to be used.
    pub fn stand_in(&mut self, node: &TypedNode) -> Result<()> {
        for slot in 0..node.outputs.len() {
            let outlet = OutletId::new(node.id, slot);
            let shape = dims(&self.shape(outlet)?);
            let tensor = Tensor::variable(node.name.clone(), self.element(outlet)?, shape);
            let tensor = self.graph.add_tensor(tensor);
            self.tensors.insert(outlet, tensor);
        }
        Ok(())
    }

    /// Makes `outlet` a graph output of that name.
    pub fn add_output(&mut self, outlet: OutletId, name: &str) -> Result<()> {
        let tensor = self.uncarried(outlet, name)?;
        let id = if self.graph.inputs.contains(&tensor) || self.graph.outputs.contains(&tensor) {
            let shape = self.shape(outlet)?;
            let target = reshape_target(&shape)?;
            let target = self.add_i32_constant(&format!("{name}/shape"), &target);
            let element = self.graph.tensors[tensor].element;
            self.emit(name, LiteOp::Reshape, &[tensor, target], element, &shape)
        } else {
            tensor
        };
        if self.graph.tensors[id].name != name {
            if let Some(other) = self.graph.tensors.iter().position(|t| t.name == name) {
                self.graph.tensors[other].name = self.free_name(name);
            }
            self.names.insert(name.to_string());
            self.graph.tensors[id].name = name.to_string();
        }
        self.graph.tensors[id].origin = Some(name.to_string());
        self.graph.outputs.push(id);
        Ok(())
    }

    /// `outlet` as a tensor of its own type.
    fn uncarried(&mut self, outlet: OutletId, name: &str) -> Result<TensorId> {
        let (tensor, own) = (self.tensor(outlet)?, self.own_element(outlet)?);
        if self.graph.tensors[tensor].element == own {
            return Ok(tensor);
        }
        let producer = self.graph.producer(tensor).map(|node| &self.graph.nodes[node]);
        let source = producer.filter(|n| n.op == LiteOp::Cast).and_then(|n| n.inputs[0]);
        Ok(match source.filter(|&source| self.graph.tensors[source].element == own) {
            Some(source) => source,
            None => self.cast(name, tensor, own),
        })
    }

    /// The graph, then the subgraphs that its nodes run.
    pub fn into_graphs(self) -> Vec<Subgraph> {
        std::iter::once(self.graph).chain(self.bodies).collect()
    }

    pub fn add_constant(&mut self, name: &str, value: &tract::Tensor) -> Result<TensorId> {
        let (element, data) = constant_bytes(value)?;
        let name = self.free_name(name);
        Ok(self.graph.add_tensor(Tensor::constant(name, element, value.shape(), data)))
    }

    /// The constant `value` with its axes in the order `order`, then as `shape`.
    pub fn add_reordered(
        &mut self,
        name: &str,
        value: &Arc<tract::Tensor>,
        order: &[usize],
        shape: &[usize],
    ) -> Result<TensorId> {
        let (element, data) = shared_bytes(value)?;
        let width = element.bits().filter(|b| b % 8 == 0).context("elements of part of a byte")?;
        let moved = crate::kernels::reorder(&data, width / 8, value.shape(), order)?;
        ensure!(value.len() == shape.iter().product::<usize>(), "{:?} as {shape:?}", value.shape());
        if moved.is_some() {
            mmap::release(&data);
        }
        let name = self.free_name(name);
        let data = moved.map_or(data, Into::into);
        Ok(self.graph.add_tensor(Tensor::constant(name, element, shape, data)))
    }

    pub fn add_i32_constant(&mut self, name: &str, values: &[i32]) -> TensorId {
        let data: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        let name = self.free_name(name);
        let tensor = Tensor::constant(name, ElementType::I32, &[values.len()], data.into());
        self.graph.add_tensor(tensor)
    }

    /// A graph input.
    pub fn add_input(&mut self, outlet: OutletId, name: &str) -> Result<()> {
        let shape = dims(&self.shape(outlet)?);
        self.names.insert(name.to_string());
        let tensor = Tensor::variable(name, self.own_element(outlet)?, shape);
        let id = self.graph.add_tensor(Tensor { origin: Some(name.into()), ..tensor });
        self.graph.inputs.push(id);
        let carried = self.cast(&format!("{name}/carried"), id, self.element(outlet)?);
        self.tensors.insert(outlet, carried);
        Ok(())
    }

    /// Adds a node whose one result is not (yet) an outlet of tract's graph.
    pub fn emit(
        &mut self,
        name: &str,
        op: LiteOp,
        inputs: &[TensorId],
        element: ElementType,
        shape: &[TDim],
    ) -> TensorId {
        let name = self.free_name(name);
        let tensor = self.graph.add_tensor(Tensor::variable(name, element, dims(shape)));
        let inputs = inputs.iter().map(|&i| Some(i)).collect();
        self.graph.nodes.push(Node { op, inputs, outputs: vec![tensor] });
        tensor
    }

    /// Adds a node whose result is `node`'s first outlet.
    pub fn emit_result(&mut self, node: &TypedNode, op: LiteOp, inputs: &[TensorId]) -> Result<()> {
        let outlet = OutletId::new(node.id, 0);
        let (element, shape) = (self.element(outlet)?, self.shape(outlet)?);
        let tensor = self.emit(&node.name, op, inputs, element, &shape);
        self.bind(node, tensor);
        Ok(())
    }

    /// Adds a node of several results.
    pub fn emit_several(
        &mut self,
        op: LiteOp,
        inputs: &[TensorId],
        results: &[(String, ElementType, Vec<TDim>)],
    ) -> Vec<TensorId> {
        let mut outputs = vec![];
        for (name, element, shape) in results {
            let name = self.free_name(name);
            outputs.push(self.graph.add_tensor(Tensor::variable(name, *element, dims(shape))));
        }
        let inputs = inputs.iter().map(|&i| Some(i)).collect();
        self.graph.nodes.push(Node { op, inputs, outputs: outputs.clone() });
        outputs
    }

    /// Says that `tensor` is `node`'s first outlet.
    pub fn bind(&mut self, node: &TypedNode, tensor: TensorId) {
        self.bind_outlet(OutletId::new(node.id, 0), tensor);
    }

    /// Says that `tensor` is `outlet`.
    pub fn bind_outlet(&mut self, outlet: OutletId, tensor: TensorId) {
        let tensor = self.wrapped(outlet, tensor);
        let node = self.model.node(outlet.node);
        let origin = self.model.outlet_label(outlet).unwrap_or(&node.name).to_string();
        self.graph.tensors[tensor].origin.get_or_insert(origin);
        self.tensors.insert(outlet, tensor);
    }

    /// `tensor` as a tensor of `shape`: itself, or through a RESHAPE.
    pub fn reshape(
        &mut self,
        name: &str,
        tensor: TensorId,
        from: &[TDim],
        shape: &[TDim],
    ) -> Result<TensorId> {
        if from == shape {
            return Ok(tensor);
        }
        let element = self.graph.tensors[tensor].element;
        let target_name = format!("{name}/shape");
        let target = match reshape_target(shape) {
            Ok(target) => self.add_i32_constant(&target_name, &target),
            Err(_) => self.shape_tensor(&target_name, shape)?,
        };
        Ok(self.emit(name, LiteOp::Reshape, &[tensor, target], element, shape))
    }

    /// `tensor` with its axes in the order `permutation`: itself, or through a TRANSPOSE.
    pub fn transpose(
        &mut self,
        name: &str,
        tensor: TensorId,
        from: &[TDim],
        permutation: &[usize],
    ) -> TensorId {
        if permutation.iter().enumerate().all(|(i, &p)| i == p) {
            return tensor;
        }
        let order: Vec<i32> = permutation.iter().map(|&p| p as i32).collect();
        let constant = self.add_i32_constant(&format!("{name}/permutation"), &order);
        let shape: Vec<TDim> = permutation.iter().map(|&p| from[p].clone()).collect();
        let element = self.graph.tensors[tensor].element;
        self.emit(name, LiteOp::Transpose, &[tensor, constant], element, &shape)
    }

    pub(super) fn free_name(&mut self, wanted: &str) -> String {
        let mut name = wanted.to_string();
        let mut suffix = 0;
        while !self.names.insert(name.clone()) {
            suffix += 1;
            name = format!("{wanted}_{suffix}");
        }
        name
    }
}
