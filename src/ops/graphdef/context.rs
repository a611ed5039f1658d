//! What the families write GraphDef nodes with.

use super::*;

/// What writing a node may see and do: the lite graph to read, nodes to add.
pub struct GraphDefContext<'a> {
    pub graph: &'a Subgraph,
    pub target: GraphDefTarget,
    nodes: Vec<GraphDefNode>,
    values: Vec<Option<GraphDefValue>>,
    constants: HashMap<(TensorId, Vec<usize>), GraphDefValue>,
    names: &'a mut HashSet<String>,
    scope: String,
}

impl<'a> GraphDefContext<'a> {
    /// `names` are those of nodes that there are in this file already.
    pub fn new(
        graph: &'a Subgraph,
        target: GraphDefTarget,
        names: &'a mut HashSet<String>,
    ) -> GraphDefContext<'a> {
        GraphDefContext {
            values: vec![None; graph.tensors.len()],
            graph,
            target,
            nodes: vec![],
            constants: HashMap::new(),
            names,
            scope: String::new(),
        }
    }

    /// Makes `tensor` an argument of that name.
    pub fn add_input(&mut self, tensor: TensorId, name: &str) -> Result<()> {
        let Tensor { element, shape, .. } = &self.graph.tensors[tensor];
        self.check_element(*element)?;
        let attributes = vec![
            ("dtype", GraphDefAttribute::Type(*element)),
            ("shape", GraphDefAttribute::Shape(shape.clone())),
        ];
        let name = self.free_name(name);
        let value = self.push(GraphDefNode { name, op: "Placeholder", inputs: vec![], attributes });
        self.values[tensor] = Some(value);
        Ok(())
    }

    /// The function that the nodes are; its outputs are nodes of these names. A condition is made a scalar.
    pub fn finish(mut self, names: &[String], is_condition: bool) -> Result<GraphDefFunction> {
        let mut outputs = vec![];
        for (&tensor, name) in self.graph.outputs.iter().zip(names) {
            let (mut value, element) = (self.value(tensor)?, self.graph.tensors[tensor].element);
            self.scope = node_name(name);
            if is_condition {
                value = self.reshape(value, element, &[]);
            }
            let attributes = vec![("T", GraphDefAttribute::Type(element))];
            self.release(name);
            let name = self.free_name(name);
            let node = GraphDefNode { name, op: "Identity", inputs: vec![value], attributes };
            outputs.push(self.push(node));
        }
        let inputs = self.graph.inputs.iter().map(|&t| self.value(t)).collect::<Result<_>>()?;
        Ok(GraphDefFunction { inputs, nodes: self.nodes, outputs })
    }

    /// What an op that cannot be written would compute, so that others can be looked at.
    pub fn stand_in(&mut self, node: &Node) {
        let node_of = GraphDefNode {
            name: String::new(),
            op: "Placeholder",
            inputs: vec![],
            attributes: vec![],
        };
        let value = self.push(node_of);
        node.outputs.iter().for_each(|&tensor| self.values[tensor] = Some(value));
    }

    /// Keeps a name for what is added later.
    pub fn reserve(&mut self, name: &str) {
        self.names.insert(node_name(name));
    }

    fn release(&mut self, name: &str) {
        self.names.remove(&node_name(name));
    }

    pub fn is_js(&self) -> bool {
        self.target == GraphDefTarget::TensorFlowJs
    }

    pub(super) fn begin(&mut self, node: &Node) -> Result<()> {
        let output = node.outputs.first().map(|&t| node_name(&self.graph.tensors[t].name));
        self.scope = output.unwrap_or_default();
        let tensors = node.inputs.iter().flatten().chain(&node.outputs);
        let tensors = tensors.map(|&t| &self.graph.tensors[t]);
        let mut scales = tensors.clone().filter_map(|tensor| tensor.quantization.as_ref());
        let first = scales.next();
        let takes_integers = matches!(node.op, LiteOp::Quantize | LiteOp::Dequantize)
            || is_of_any_numbers(&node.op)
                && matches!(first, Some(Quantization::PerTensor { .. }))
                && scales.all(|other| Some(other) == first);
        for tensor in tensors {
            self.check_element(tensor.element)?;
            ensure!(
                tensor.quantization.is_none() || takes_integers,
                "it works on quantized values, which TensorFlow's graph has no form for here; convert the float model"
            );
            ensure!(
                !self.is_js() || !is_narrow(tensor.element) || only_moves(node),
                "it computes with {} values, which TensorFlow.js holds as int32: they would not wrap around",
                tensor.element
            );
        }
        if let (true, LiteOp::Cast) = (self.is_js(), &node.op) {
            let (from, to) =
                (self.input_tensor(node, 0)?.element, self.output_tensor(node)?.element);
            ensure!(
                !is_narrow(to) || from == to || from == ElementType::Bool,
                "it makes {to} values of {from} ones, which TensorFlow.js would not cut to their range"
            );
        }
        Ok(())
    }

    fn check_element(&self, element: ElementType) -> Result<()> {
        data_type(element)?;
        use ElementType::{F16, F32, I32, I64};
        let is_known = matches!(element, F32 | F16 | I32 | I64 | ElementType::Bool);
        ensure!(
            !self.is_js() || is_known || is_narrow(element),
            "TensorFlow.js has no {element} values"
        );
        Ok(())
    }

    fn push(&mut self, node: GraphDefNode) -> GraphDefValue {
        self.nodes.push(node);
        GraphDefValue { node: self.nodes.len() - 1, output: 0 }
    }

    fn free_name(&mut self, name: &str) -> String {
        let plain = node_name(name);
        let numbered = (1..).map(|n| format!("{plain}_{n}"));
        let mut candidates = std::iter::once(plain.clone()).chain(numbered);
        let free = candidates.find(|name| !self.names.contains(name)).unwrap_or(plain);
        self.names.insert(free.clone());
        free
    }

    pub fn has_input(&self, node: &Node, index: usize) -> bool {
        node.inputs.get(index).copied().flatten().is_some()
    }

    /// The lite tensor at `node`'s input `index`.
    pub fn input_tensor(&self, node: &Node, index: usize) -> Result<&'a Tensor> {
        let tensor = node.inputs.get(index).copied().flatten();
        let tensor = tensor.with_context(|| format!("{} lacks input {index}", node.op.name()))?;
        Ok(&self.graph.tensors[tensor])
    }

    pub fn output_tensor(&self, node: &Node) -> Result<&'a Tensor> {
        let output = node.outputs.first().context("it has no output")?;
        Ok(&self.graph.tensors[*output])
    }

    /// The attribute for the element type of input `index`.
    pub fn type_of(&self, node: &Node, index: usize) -> Result<GraphDefAttribute> {
        Ok(GraphDefAttribute::Type(self.input_tensor(node, index)?.element))
    }

    /// The value at `node`'s input `index`; constants are added on first use.
    pub fn input(&mut self, node: &Node, index: usize) -> Result<GraphDefValue> {
        let tensor = node.inputs.get(index).copied().flatten();
        self.value(tensor.with_context(|| format!("{} lacks input {index}", node.op.name()))?)
    }

    /// All values that `node` reads.
    pub fn inputs(&mut self, node: &Node) -> Result<Vec<GraphDefValue>> {
        (0..node.inputs.len()).map(|index| self.input(node, index)).collect()
    }

    fn value(&mut self, tensor: TensorId) -> Result<GraphDefValue> {
        if let Some(value) = self.values[tensor] {
            return Ok(value);
        }
        let constant = &self.graph.tensors[tensor];
        let shape = constant.known_shape().filter(|_| constant.data.is_some());
        let shape = shape.with_context(|| format!("'{}' is never computed", constant.name))?;
        let order: Vec<usize> = (0..shape.len()).collect();
        self.constant(tensor, &order, &shape)
    }

    /// The constant `tensor` with its axes in the order `order`, then as `shape`.
    fn constant(
        &mut self,
        tensor: TensorId,
        order: &[usize],
        shape: &[usize],
    ) -> Result<GraphDefValue> {
        let key = (tensor, order.to_vec());
        if let Some(&value) = self.constants.get(&key) {
            return Ok(value);
        }
        let constant = &self.graph.tensors[tensor];
        self.check_element(constant.element)?;
        ensure!(constant.element != ElementType::String, "'{}' holds strings", constant.name);
        let data_shape = constant.known_shape().context("a constant of unknown shape")?;
        let data = constant.data.clone().context("a constant without a value")?;
        let constant = GraphDefConstant {
            name: constant.name.clone(),
            element: constant.element,
            shape: shape.to_vec(),
            is_weight: false,
            data,
            data_shape,
            order: order.to_vec(),
        };
        let value = self.add_constant(constant);
        self.constants.insert(key, value);
        Ok(value)
    }

    /// The value at `node`'s input `index`, which is a weight where it is a constant of several numbers.
    pub fn input_or_weight(&mut self, node: &Node, index: usize) -> Result<GraphDefValue> {
        let shape = self.input_tensor(node, index)?.known_shape();
        if let Some(shape) = shape.filter(|shape| shape.iter().product::<usize>() > 1) {
            let order: Vec<usize> = (0..shape.len()).collect();
            if let Some(weight) = self.weight(node, index, &order, &shape)? {
                return Ok(weight);
            }
        }
        self.input(node, index)
    }

    /// Input `index` as a weight: its axes in the order `order`, then as `shape`; `None` where it is computed.
    pub fn weight(
        &mut self,
        node: &Node,
        index: usize,
        order: &[usize],
        shape: &[usize],
    ) -> Result<Option<GraphDefValue>> {
        let tensor = node.inputs.get(index).copied().flatten();
        let tensor = tensor.with_context(|| format!("{} lacks input {index}", node.op.name()))?;
        if self.graph.tensors[tensor].data.is_none() {
            return Ok(None);
        }
        let value = self.constant(tensor, order, shape)?;
        if let Some((_, GraphDefAttribute::Constant(constant))) =
            self.nodes[value.node].attributes.last_mut()
        {
            constant.is_weight = constant.element == ElementType::F32;
        }
        Ok(Some(value))
    }

    fn add_constant(&mut self, constant: GraphDefConstant) -> GraphDefValue {
        let attributes = vec![
            ("dtype", GraphDefAttribute::Type(constant.element)),
            ("value", GraphDefAttribute::Constant(constant.clone())),
        ];
        let name = self.free_name(&constant.name);
        self.push(GraphDefNode { name, op: "Const", inputs: vec![], attributes })
    }

    /// A number that only this node reads.
    fn own_constant(
        &mut self,
        element: ElementType,
        shape: &[usize],
        data: Vec<u8>,
    ) -> GraphDefValue {
        self.add_constant(GraphDefConstant {
            name: format!("{}/Const", self.scope),
            element,
            shape: shape.to_vec(),
            is_weight: false,
            data: data.into(),
            data_shape: shape.to_vec(),
            order: (0..shape.len()).collect(),
        })
    }

    /// A number of the type of what it is computed with.
    pub fn scalar(&mut self, element: ElementType, number: f32) -> GraphDefValue {
        let value = self.f32_scalar(number);
        self.cast(value, ElementType::F32, element)
    }

    pub fn f32_scalar(&mut self, number: f32) -> GraphDefValue {
        self.own_constant(ElementType::F32, &[], number.to_le_bytes().to_vec())
    }

    pub fn i32_scalar(&mut self, number: i32) -> GraphDefValue {
        self.own_constant(ElementType::I32, &[], number.to_le_bytes().to_vec())
    }

    pub fn i32_vector(&mut self, numbers: &[i32]) -> GraphDefValue {
        self.i32_array(numbers, &[numbers.len()])
    }

    pub fn i32_array(&mut self, numbers: &[i32], shape: &[usize]) -> GraphDefValue {
        let data = numbers.iter().flat_map(|n| n.to_le_bytes()).collect();
        self.own_constant(ElementType::I32, shape, data)
    }

    /// Float32 numbers of that shape.
    pub fn f32_array(&mut self, numbers: &[f32], shape: &[usize]) -> GraphDefValue {
        let data = numbers.iter().flat_map(|n| n.to_le_bytes()).collect();
        self.own_constant(ElementType::F32, shape, data)
    }

    /// Adds a node and gives its first output.
    pub fn add(
        &mut self,
        op: &'static str,
        inputs: &[GraphDefValue],
        attributes: &[(&'static str, GraphDefAttribute)],
    ) -> GraphDefValue {
        let name = self.free_name(&format!("{}/{op}", self.scope));
        let (inputs, attributes) = (inputs.to_vec(), attributes.to_vec());
        self.push(GraphDefNode { name, op, inputs, attributes })
    }

    /// As [`Self::add`], of an op whose one attribute is the type of its operands.
    pub fn add_typed(
        &mut self,
        op: &'static str,
        element: ElementType,
        inputs: &[GraphDefValue],
    ) -> GraphDefValue {
        self.add(op, inputs, &[("T", GraphDefAttribute::Type(element))])
    }

    /// `value` cast to another type, or as it is where it has that.
    pub fn cast(
        &mut self,
        value: GraphDefValue,
        from: ElementType,
        to: ElementType,
    ) -> GraphDefValue {
        use GraphDefAttribute::Type;
        match from == to {
            true => value,
            false => self.add("Cast", &[value], &[("SrcT", Type(from)), ("DstT", Type(to))]),
        }
    }

    /// `value` reshaped.
    pub fn reshape(
        &mut self,
        value: GraphDefValue,
        element: ElementType,
        shape: &[i32],
    ) -> GraphDefValue {
        use GraphDefAttribute::Type;
        let shape = self.i32_vector(shape);
        self.add(
            "Reshape",
            &[value, shape],
            &[("T", Type(element)), ("Tshape", Type(ElementType::I32))],
        )
    }

    /// What `node` computes first is `value`.
    pub fn bind(&mut self, node: &Node, value: GraphDefValue) -> Result<()> {
        let output = node.outputs.first().context("it has no output")?;
        self.values[*output] = Some(value);
        Ok(())
    }

    /// What `node` computes are the outputs of the node that `value` is of, in order.
    pub fn bind_all(&mut self, node: &Node, value: GraphDefValue) -> Result<()> {
        for (output, &tensor) in node.outputs.iter().enumerate() {
            self.values[tensor] = Some(GraphDefValue { node: value.node, output });
        }
        Ok(())
    }

    /// Binds `value` behind the activation that `node` carries.
    pub fn bind_activated(
        &mut self,
        node: &Node,
        activation: Activation,
        value: GraphDefValue,
    ) -> Result<()> {
        let element = self.output_tensor(node)?.element;
        let value = activation::write_fused(self, activation, element, value)?;
        self.bind(node, value)
    }
}

/// Whether an op gives numbers that it takes, whatever they stand for.
fn is_of_any_numbers(op: &LiteOp) -> bool {
    matches!(
        op,
        LiteOp::Reshape
            | LiteOp::Transpose
            | LiteOp::Squeeze { .. }
            | LiteOp::ExpandDims
            | LiteOp::BroadcastTo
            | LiteOp::Tile
            | LiteOp::Concatenation { activation: Activation::None, .. }
            | LiteOp::Pack { .. }
            | LiteOp::Unpack { .. }
            | LiteOp::Split
            | LiteOp::SplitV
            | LiteOp::Slice
            | LiteOp::StridedSlice { .. }
            | LiteOp::MirrorPad { .. }
            | LiteOp::Reverse
            | LiteOp::Gather { .. }
            | LiteOp::GatherNd
            | LiteOp::DepthToSpace { .. }
            | LiteOp::SpaceToDepth { .. }
    )
}

/// Integers that TensorFlow.js has as int32.
fn is_narrow(element: ElementType) -> bool {
    use ElementType::{I8, I16, U8, U16};
    matches!(element, I8 | U8 | I16 | U16)
}

/// Whether `node` gives the integers that it reads as they are, as numbers of another type, or compared.
fn only_moves(node: &Node) -> bool {
    use BinaryOp::{Equal, Greater, GreaterEqual, Less, LessEqual, Maximum, Minimum, NotEqual};
    match &node.op {
        LiteOp::Binary { op, .. } => matches!(
            op,
            Equal | NotEqual | Less | LessEqual | Greater | GreaterEqual | Maximum | Minimum
        ),
        LiteOp::Reduce { op, .. } => matches!(op, ReduceOp::Max | ReduceOp::Min),
        op => matches!(
            op,
            LiteOp::Cast
                | LiteOp::Quantize
                | LiteOp::Dequantize
                | LiteOp::Reshape
                | LiteOp::Transpose
                | LiteOp::Squeeze { .. }
                | LiteOp::ExpandDims
                | LiteOp::Shape { .. }
                | LiteOp::BroadcastTo
                | LiteOp::Tile
                | LiteOp::Concatenation { .. }
                | LiteOp::Pack { .. }
                | LiteOp::Unpack { .. }
                | LiteOp::Split
                | LiteOp::SplitV
                | LiteOp::Slice
                | LiteOp::StridedSlice { .. }
                | LiteOp::Reverse
                | LiteOp::Gather { .. }
                | LiteOp::GatherNd
                | LiteOp::Select
                | LiteOp::Pad
                | LiteOp::MirrorPad { .. }
        ),
    }
}
