//! Mutations of an ONNX graph: dimensions, types, attributes, edges, constants, nodes.

use crate::draw::Draw;
use mlctl::tract::pb;
use pb::attribute_proto::AttributeType;
use pb::tensor_proto::DataType;
use pb::tensor_shape_proto::dimension::Value as DimValue;
use prost::Message;

/// Operators of opset 26 that a model may hold; those with a body, a sequence or random numbers come from the seeds alone.
const OPERATORS: &str = "Abs Acos Acosh Add And ArgMax ArgMin Asin Asinh Atan Atanh AveragePool BatchNormalization BitShift BitwiseAnd \
    BitwiseNot BitwiseOr BitwiseXor Cast CastLike Ceil Celu Clip Col2Im Compress Concat ConstantOfShape Conv ConvInteger ConvTranspose \
    Cos Cosh CumSum DepthToSpace DequantizeLinear Div Dropout DynamicQuantizeLinear Einsum Elu Equal Erf Exp Expand EyeLike Flatten \
    Floor GRU Gather GatherElements GatherND Gelu Gemm GlobalAveragePool GlobalLpPool GlobalMaxPool Greater GreaterOrEqual GridSample \
    GroupNormalization HardSigmoid HardSwish Hardmax Identity InstanceNormalization IsInf IsNaN LRN LSTM LayerNormalization LeakyRelu \
    Less LessOrEqual Log LogSoftmax LpNormalization LpPool MatMul MatMulInteger Max MaxPool Mean MeanVarianceNormalization Min Mish \
    Mod Mul Neg NonMaxSuppression NonZero Not OneHot Or PRelu Pad Pow QuantizeLinear RMSNormalization RNN Range Reciprocal ReduceL1 \
    ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu Reshape Resize \
    ReverseSequence Round ScatterElements ScatterND Selu Shape Shrink Sigmoid Sign Sin Sinh Size Slice Softmax Softplus Softsign \
    SpaceToDepth Split Sqrt Squeeze Sub Sum Tan Tanh ThresholdedRelu Tile TopK Transpose Trilu Unsqueeze Where Xor";
const INTEGERS: &str = "align_corners allowzero antialias axis batch_axis batch_dims block_size blocksize ceil_mode count_include_pad \
    detect_negative detect_positive dtype end exclude_outside exclusive fmod group hidden_size input_forget keepdims largest layout \
    linear_before_reset new_axis noop_with_empty_axes num_groups num_outputs p reverse saturate select_last_index size sorted start \
    stash_type storage_order time_axis to transA transB upper";
const LISTS: &str = "axes dilations kernel_shape output_padding output_shape pads perm scales shape split starts ends strides value_ints";
const FLOATS: &str =
    "alpha beta bias clip cubic_coeff_a epsilon extrapolation_value gamma lambd value_float";
const TEXTS: [(&str, &str); 12] = [
    ("auto_pad", "SAME_UPPER SAME_LOWER VALID NOTSET"),
    ("mode", "constant reflect edge wrap nearest linear cubic bilinear DCR CRD"),
    (
        "coordinate_transformation_mode",
        "half_pixel pytorch_half_pixel align_corners asymmetric tf_crop_and_resize half_pixel_symmetric",
    ),
    ("nearest_mode", "round_prefer_floor round_prefer_ceil floor ceil"),
    ("direction", "forward reverse bidirectional LEFT RIGHT"),
    ("reduction", "none add mul max min"),
    ("approximate", "none tanh"),
    ("padding_mode", "zeros border reflection"),
    ("equation", "ij,jk->ik ij->ji ii->i ...ij,...jk->...ik bij,bjk ij,kl->"),
    ("keep_aspect_ratio_policy", "stretch not_larger not_smaller"),
    ("layout", "NCHW NHWC"),
    ("activations", "Tanh Sigmoid Relu"),
];
const TYPES: [DataType; 12] = [
    DataType::Float,
    DataType::Float,
    DataType::Float16,
    DataType::Int64,
    DataType::Int32,
    DataType::Int8,
    DataType::Uint8,
    DataType::Bool,
    DataType::Double,
    DataType::Int16,
    DataType::Uint32,
    DataType::String,
];

/// A changed model, or `None` where `bytes` are no ONNX model.
pub fn mutate(bytes: &[u8], other: Option<&[u8]>, draw: &mut Draw) -> Option<Vec<u8>> {
    let mut model = pb::ModelProto::decode(bytes).ok()?;
    model.graph.as_ref()?;
    if let Some(other) = other.and_then(|o| pb::ModelProto::decode(o).ok()) {
        splice(&mut model, other, draw)?;
    }
    for _ in 0..draw.pick(&[1, 1, 1, 2, 4]) {
        change(&mut model, draw);
    }
    Some(model.encode_to_vec())
}

fn change(model: &mut pb::ModelProto, draw: &mut Draw) {
    if draw.one_in(40)
        && let Some(at) = draw.place(&model.opset_import)
    {
        model.opset_import[at].version = 1 + draw.below(27) as i64;
        return;
    }
    let Some(graph) = &mut model.graph else { return };
    let graph = body(graph, draw);
    match draw.below(16) {
        0 | 1 => change_port(graph, draw),
        2..=5 => change_node_attribute(graph, draw),
        6 | 7 => rewire(graph, draw),
        8 => change_operator(graph, draw),
        9 => bypass(graph, draw),
        10 => insert(graph, draw),
        11..=13 => change_constant(graph, draw),
        14 => exchange_constant_and_input(graph, draw),
        _ => add_output(graph, draw),
    }
}

/// The graph itself, or now and then the body of one of its nodes.
fn body<'a>(graph: &'a mut pb::GraphProto, draw: &mut Draw) -> &'a mut pb::GraphProto {
    let bodies = |g: &pb::GraphProto| {
        let nodes = g.node.iter().enumerate();
        let with_body = nodes.flat_map(|(n, node)| {
            let attributes = node.attribute.iter().enumerate();
            attributes.filter(|(_, a)| a.g.is_some()).map(move |(a, _)| (n, a))
        });
        with_body.collect::<Vec<_>>()
    };
    let places = bodies(graph);
    if places.is_empty() || draw.one_in(3) {
        return graph;
    }
    let (node, attribute) = draw.pick(&places);
    graph.node[node].attribute[attribute].g.get_or_insert_default()
}

fn word(of: &str, draw: &mut Draw) -> String {
    let words: Vec<&str> = of.split_whitespace().collect();
    draw.pick(&words).to_string()
}

fn change_port(graph: &mut pb::GraphProto, draw: &mut Draw) {
    let ports = if draw.one_in(8) { &mut graph.output } else { &mut graph.input };
    let Some(at) = draw.place(ports) else { return };
    let Some(pb::type_proto::Value::TensorType(tensor)) =
        ports[at].r#type.as_mut().and_then(|t| t.value.as_mut())
    else {
        return;
    };
    if draw.one_in(5) {
        tensor.elem_type = draw.pick(&TYPES) as i32;
        return;
    }
    let dims = &mut tensor.shape.get_or_insert_default().dim;
    let value = match draw.below(4) {
        0 => DimValue::DimParam(word("N M height 2*N N+1 ? sequence", draw)),
        _ => DimValue::DimValue(draw.integer(2)),
    };
    let dim = pb::tensor_shape_proto::Dimension { value: Some(value), ..Default::default() };
    match (draw.below(8), draw.place(dims)) {
        (0, _) | (_, None) => dims.push(dim),
        (1, Some(at)) => drop(dims.remove(at)),
        (2, Some(at)) => {
            let other = draw.below(dims.len());
            dims.swap(at, other);
        }
        (_, Some(at)) => dims[at] = dim,
    }
}

fn change_node_attribute(graph: &mut pb::GraphProto, draw: &mut Draw) {
    let Some(at) = draw.place(&graph.node) else { return };
    let attributes = &mut graph.node[at].attribute;
    match draw.place(attributes) {
        Some(at) if !draw.one_in(4) => match draw.below(12) {
            0 => drop(attributes.remove(at)),
            _ => change_attribute(&mut attributes[at], draw),
        },
        _ => {
            let attribute = new_attribute(draw);
            attributes.retain(|a| a.name != attribute.name);
            attributes.push(attribute);
        }
    }
}

fn change_attribute(attribute: &mut pb::AttributeProto, draw: &mut Draw) {
    match AttributeType::try_from(attribute.r#type).unwrap_or(AttributeType::Undefined) {
        AttributeType::Int => attribute.i = draw.integer(attribute.i),
        AttributeType::Ints => draw.change_list(&mut attribute.ints),
        AttributeType::Float => attribute.f = draw.float(attribute.f),
        AttributeType::Floats => match draw.place(&attribute.floats) {
            Some(at) => attribute.floats[at] = draw.float(attribute.floats[at]),
            None => attribute.floats.push(1.0),
        },
        AttributeType::String => {
            let known = TEXTS.iter().find(|(name, _)| *name == attribute.name);
            attribute.s = word(known.map_or("a NOTSET", |(_, words)| words), draw).into_bytes();
        }
        AttributeType::Strings => match draw.place(&attribute.strings) {
            Some(at) => {
                attribute.strings[at] =
                    word("Tanh Sigmoid Relu Elu Affine HardSigmoid", draw).into_bytes()
            }
            None => attribute.strings.push(b"Tanh".to_vec()),
        },
        AttributeType::Tensor => {
            if let Some(tensor) = &mut attribute.t {
                change_tensor(tensor, draw);
            }
        }
        _ => attribute.r#type = draw.below(12) as i32,
    }
}

fn new_attribute(draw: &mut Draw) -> pb::AttributeProto {
    let mut attribute = pb::AttributeProto::default();
    let kind = match draw.below(8) {
        0..=2 => {
            attribute.name = word(INTEGERS, draw);
            attribute.i = draw.integer(1);
            AttributeType::Int
        }
        3..=5 => {
            attribute.name = word(LISTS, draw);
            attribute.ints = (0..draw.below(6)).map(|_| draw.integer(1)).collect();
            AttributeType::Ints
        }
        6 => {
            attribute.name = word(FLOATS, draw);
            attribute.f = draw.float(1.0);
            AttributeType::Float
        }
        _ => {
            let (name, words) = draw.pick(&TEXTS);
            attribute.name = name.into();
            attribute.s = word(words, draw).into_bytes();
            AttributeType::String
        }
    };
    attribute.r#type = kind as i32;
    attribute
}

/// Every value that a node of the graph may read.
fn values(graph: &pb::GraphProto) -> Vec<String> {
    let computed = graph.node.iter().flat_map(|n| n.output.iter().cloned());
    let given = graph.input.iter().map(|i| i.name.clone());
    computed.chain(given).chain(graph.initializer.iter().map(|i| i.name.clone())).collect()
}

fn rewire(graph: &mut pb::GraphProto, draw: &mut Draw) {
    let values = values(graph);
    let Some(at) = draw.place(&graph.node) else { return };
    let value = draw.place(&values).map_or(String::new(), |v| values[v].clone());
    let inputs = &mut graph.node[at].input;
    match (draw.below(8), draw.place(inputs)) {
        (0, _) | (_, None) => inputs.push(value),
        (1, Some(at)) => inputs[at] = String::new(),
        (2, Some(at)) => drop(inputs.remove(at)),
        (3, Some(at)) => {
            let other = draw.below(inputs.len());
            inputs.swap(at, other);
        }
        (_, Some(at)) => inputs[at] = value,
    }
}

fn change_operator(graph: &mut pb::GraphProto, draw: &mut Draw) {
    if let Some(at) = draw.place(&graph.node) {
        graph.node[at].op_type = word(OPERATORS, draw);
        if draw.one_in(3) {
            graph.node[at].attribute.clear();
        }
    }
}

/// Takes a node out; who read its first output reads one of its inputs.
fn bypass(graph: &mut pb::GraphProto, draw: &mut Draw) {
    if graph.node.len() < 2 {
        return;
    }
    let node = graph.node.remove(draw.below(graph.node.len()));
    let (Some(output), Some(input)) = (node.output.first(), draw.place(&node.input)) else {
        return;
    };
    for reader in graph.node.iter_mut().flat_map(|n| &mut n.input).filter(|i| *i == output) {
        *reader = node.input[input].clone();
    }
    graph.output.retain(|o| !node.output.contains(&o.name));
}

fn unused_name(graph: &pb::GraphProto, word: &str) -> String {
    let taken = values(graph);
    (0..).map(|n| format!("{word}_{n}")).find(|n| !taken.contains(n)).unwrap_or_default()
}

/// A new node, or a copy of one, behind some value; the value's other readers may go on behind it.
fn insert(graph: &mut pb::GraphProto, draw: &mut Draw) {
    let values = values(graph);
    let Some(at) = draw.place(&values) else { return };
    let name = unused_name(graph, "inserted");
    let mut node = match draw.place(&graph.node) {
        Some(at) if draw.one_in(2) => graph.node[at].clone(),
        _ => pb::NodeProto {
            op_type: word(OPERATORS, draw),
            input: vec![String::new(); 1 + draw.below(3)],
            ..Default::default()
        },
    };
    if node.input.is_empty() {
        node.input.push(String::new());
    }
    for input in node.input.iter_mut().skip(1).filter(|i| i.is_empty()) {
        *input = values[draw.below(values.len())].clone();
    }
    node.input[0] = values[at].clone();
    node.name = name.clone();
    node.output = vec![name.clone()];
    if draw.one_in(2) {
        for reader in graph.node.iter_mut().flat_map(|n| &mut n.input).filter(|i| **i == values[at])
        {
            *reader = name.clone();
        }
    } else {
        graph.output.push(pb::ValueInfoProto { name, ..Default::default() });
    }
    graph.node.push(node);
}

fn change_constant(graph: &mut pb::GraphProto, draw: &mut Draw) {
    if let Some(at) = draw.place(&graph.initializer) {
        change_tensor(&mut graph.initializer[at], draw);
    }
}

/// Changes values, or the type or shape with values to fill it.
fn change_tensor(tensor: &mut pb::TensorProto, draw: &mut Draw) {
    let mut integers = int64_values(tensor);
    match draw.below(4) {
        0 if draw.one_in(4) => tensor.data_type = draw.pick(&TYPES) as i32,
        0 => {
            draw.change_list(&mut tensor.dims);
            fill(tensor, draw);
        }
        1 if !integers.is_empty() => {
            draw.change_list(&mut integers);
            if tensor.dims.len() == 1 {
                tensor.dims[0] = integers.len() as i64;
            }
            tensor.int64_data.clear();
            tensor.raw_data = integers.iter().flat_map(|v| v.to_le_bytes()).collect();
        }
        _ if !integers.is_empty() => {
            let at = draw.below(integers.len());
            integers[at] = draw.integer(integers[at]);
            tensor.int64_data.clear();
            tensor.raw_data = integers.iter().flat_map(|v| v.to_le_bytes()).collect();
        }
        _ if tensor.data_type == DataType::Float as i32 => {
            let at = draw.below(1 + tensor.raw_data.len() / 4) * 4;
            if let Some(place) = tensor.raw_data.get_mut(at..at + 4) {
                place.copy_from_slice(&draw.float(0.1).to_le_bytes());
            } else if let Some(at) = draw.place(&tensor.float_data) {
                tensor.float_data[at] = draw.float(tensor.float_data[at]);
            }
        }
        _ => {
            if let Some(at) = draw.place(&tensor.raw_data) {
                tensor.raw_data[at] = draw.integer(0) as u8;
            } else if let Some(at) = draw.place(&tensor.int32_data) {
                tensor.int32_data[at] = draw.integer(0) as i32;
            }
        }
    }
}

fn int64_values(tensor: &pb::TensorProto) -> Vec<i64> {
    if tensor.data_type != DataType::Int64 as i32 {
        return vec![];
    }
    let raw = tensor.raw_data.chunks_exact(8);
    let raw = raw.map(|b| b.iter().rev().fold(0i64, |v, &b| v << 8 | b as i64));
    tensor.int64_data.iter().copied().chain(raw).collect()
}

/// Data as long as the shape asks for, if that is not much.
fn fill(tensor: &mut pb::TensorProto, draw: &mut Draw) {
    let count =
        tensor.dims.iter().try_fold(1usize, |n, &d| n.checked_mul(usize::try_from(d).ok()?));
    let Some(count) = count.filter(|&n| n <= 4096) else { return };
    let old = std::mem::take(&mut tensor.raw_data);
    tensor.float_data.clear();
    tensor.int32_data.clear();
    tensor.int64_data.clear();
    let bytes = match DataType::try_from(tensor.data_type) {
        Ok(DataType::Float | DataType::Int32 | DataType::Uint32) => 4,
        Ok(DataType::Int64 | DataType::Double | DataType::Uint64) => 8,
        Ok(DataType::Float16 | DataType::Int16 | DataType::Uint16) => 2,
        _ => 1,
    };
    tensor.raw_data = (0..count * bytes).map(|i| old.get(i).copied().unwrap_or(0)).collect();
    if old.is_empty() && bytes == 4 {
        for place in tensor.raw_data.chunks_exact_mut(4) {
            place.copy_from_slice(&(draw.below(64) as f32 / 16.0 - 2.0).to_le_bytes());
        }
    }
}

fn exchange_constant_and_input(graph: &mut pb::GraphProto, draw: &mut Draw) {
    if draw.one_in(2) {
        let Some(at) = draw.place(&graph.initializer) else { return };
        let tensor = graph.initializer.remove(at);
        let dims = tensor.dims.iter().map(|&d| pb::tensor_shape_proto::Dimension {
            value: Some(DimValue::DimValue(d)),
            ..Default::default()
        });
        let kind = pb::type_proto::Tensor {
            elem_type: tensor.data_type,
            shape: Some(pb::TensorShapeProto { dim: dims.collect() }),
        };
        graph.input.push(pb::ValueInfoProto {
            name: tensor.name,
            r#type: Some(pb::TypeProto {
                value: Some(pb::type_proto::Value::TensorType(kind)),
                ..Default::default()
            }),
            ..Default::default()
        });
    } else {
        let Some(at) = draw.place(&graph.input) else { return };
        let input = graph.input.remove(at);
        let Some(pb::type_proto::Value::TensorType(kind)) = input.r#type.and_then(|t| t.value)
        else {
            return;
        };
        let dims = kind.shape.unwrap_or_default().dim;
        let dims = dims.iter().map(|d| match &d.value {
            Some(DimValue::DimValue(n)) => *n,
            _ => 1 + draw.below(3) as i64,
        });
        let mut tensor = pb::TensorProto {
            name: input.name,
            data_type: kind.elem_type,
            dims: dims.collect(),
            ..Default::default()
        };
        fill(&mut tensor, draw);
        graph.initializer.push(tensor);
    }
}

fn add_output(graph: &mut pb::GraphProto, draw: &mut Draw) {
    let values = values(graph);
    match (draw.below(3), draw.place(&values), draw.place(&graph.output)) {
        (0, _, Some(at)) if graph.output.len() > 1 => drop(graph.output.remove(at)),
        (1, Some(value), Some(at)) => graph.output[at].name = values[value].clone(),
        (_, Some(value), _) => {
            let name = values[value].clone();
            graph.output.push(pb::ValueInfoProto { name, ..Default::default() });
        }
        _ => {}
    }
}

/// Puts another model's graph behind a value of this one.
fn splice(model: &mut pb::ModelProto, other: pb::ModelProto, draw: &mut Draw) -> Option<()> {
    let graph = model.graph.as_mut()?;
    let mut more = other.graph?;
    let values = values(graph);
    let mark = unused_name(graph, "spliced");
    let own = |name: &mut String| {
        if !name.is_empty() {
            *name = format!("{mark}/{name}");
        }
    };
    for node in &mut more.node {
        node.input.iter_mut().chain(&mut node.output).for_each(own);
        own(&mut node.name);
    }
    more.initializer.iter_mut().for_each(|t| own(&mut t.name));
    more.input.iter_mut().chain(&mut more.output).for_each(|p| own(&mut p.name));
    if let (Some(value), Some(at)) = (draw.place(&values), draw.place(&more.input)) {
        let given = more.input.remove(at).name;
        for reader in more.node.iter_mut().flat_map(|n| &mut n.input).filter(|i| **i == given) {
            *reader = values[value].clone();
        }
    }
    graph.node.extend(more.node);
    graph.initializer.extend(more.initializer);
    graph.input.extend(more.input);
    graph.output.extend(more.output);
    Some(())
}
