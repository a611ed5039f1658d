//! Operators on quantized values (QLinearConv, com.microsoft's QLinearAdd, QGemm …) in other words: each becomes
//! DequantizeLinear → the operator on reals → QuantizeLinear, which computes the same up to rounding.

use super::*;

/// Where an operator of com.microsoft or ONNX has its reals among its inputs, and how its result is stored.
struct Form {
    name: &'static str,
    /// The operator on reals.
    real: &'static str,
    /// Places of quantized inputs; scale and zero point follow each.
    operands: &'static [usize],
    /// Where scale and zero point of the result are.
    result: usize,
}

const FORMS: [Form; 13] = [
    Form { name: "QLinearConv", real: "Conv", operands: &[0, 3], result: 6 },
    Form { name: "QLinearMatMul", real: "MatMul", operands: &[0, 3], result: 6 },
    Form { name: "QGemm", real: "Gemm", operands: &[0, 3], result: 7 },
    Form { name: "QLinearAdd", real: "Add", operands: &[0, 3], result: 6 },
    Form { name: "QLinearMul", real: "Mul", operands: &[0, 3], result: 6 },
    Form { name: "QLinearAveragePool", real: "AveragePool", operands: &[0], result: 3 },
    Form { name: "QLinearGlobalAveragePool", real: "GlobalAveragePool", operands: &[0], result: 3 },
    Form { name: "QLinearSigmoid", real: "Sigmoid", operands: &[0], result: 3 },
    Form { name: "QLinearLeakyRelu", real: "LeakyRelu", operands: &[0], result: 3 },
    Form { name: "QLinearSoftmax", real: "Softmax", operands: &[0], result: 3 },
    Form { name: "QLinearReduceMean", real: "ReduceMean", operands: &[0], result: 3 },
    Form { name: "QLinearWhere", real: "Where", operands: &[1, 4], result: 7 },
    // its operands are as many as there are
    Form { name: "QLinearConcat", real: "Concat", operands: &[], result: 0 },
];

/// Why `node` stays what it is; `None` where [`rephrase`] has other words for it, or it has nothing to do with them.
pub fn refusal(node: &pb::NodeProto, opset: i64) -> Option<String> {
    let integer = |name: &str| node.attribute.iter().find(|a| a.name == name).map_or(0, |a| a.i);
    let linear = matches!(node.op_type.as_str(), "QuantizeLinear" | "DequantizeLinear");
    let block = integer("block_size");
    if linear && block != 0 {
        return Some(format!(
            "scales of blocks of {block}; export it with scales per tensor or per axis"
        ));
    }
    let form = form(node)?;
    if integer("channels_last") != 0 {
        return Some("channels_last; export it with the channels second".to_string());
    }
    let own = integer("opset");
    let last = node.attribute.iter().find(|a| a.name == "axis").is_none_or(|a| a.i == -1);
    if form.real == "Softmax" && own != 0 && (own < 13) != (opset < 13) && !last {
        return Some(format!("a softmax of opset {own} in a model of opset {opset}"));
    }
    let given = |place: usize| node.input.get(place).is_some_and(|name| !name.is_empty());
    let mut needed: Vec<usize> =
        operands(form, node).into_iter().flat_map(|p| [p, p + 1]).collect();
    needed.extend(stored(form, node).into_iter().flatten());
    match needed.into_iter().find(|&place| !given(place)) {
        Some(place) => Some(format!("input {place} is left out")),
        None => None,
    }
}

/// Whether [`rephrase`] knows the operator.
pub fn knows(node: &pb::NodeProto) -> bool {
    form(node).is_some() || product_to_reals(node).is_some()
}

/// com.microsoft's products of integers that give reals, as `quantize_dynamic` writes them of ONNX's own.
fn product_to_reals(node: &pb::NodeProto) -> Option<Vec<pb::NodeProto>> {
    let input = |place: usize| node.input.get(place).map_or("", |name| name);
    let [y] = node.output.as_slice() else { return None };
    let own = |part: &str| format!("{y}/{part}");
    let [bytes, scale, zero] = ["bytes", "scale", "zero"].map(own);
    let [sum, real, both, scaled] = ["sum", "real", "scales", "scaled"].map(own);
    let mut nodes = vec![];
    let (left, weights_scale, weights_zero, bias) = match node.op_type.as_str() {
        "DynamicQuantizeMatMul" => {
            let outputs = vec![bytes.clone(), scale.clone(), zero.clone()];
            let quantize = part("DynamicQuantizeLinear", &[input(0)], &bytes);
            nodes.push(pb::NodeProto { output: outputs, ..quantize });
            ([bytes.as_str(), &scale, &zero], input(2), input(3), input(4))
        }
        "MatMulIntegerToFloat" => ([input(0), input(2), input(4)], input(3), input(5), input(6)),
        _ => return None,
    };
    let mut operands = vec![left[0], input(1), left[2], weights_zero];
    while operands.last().is_some_and(|name| name.is_empty()) {
        operands.pop();
    }
    let mut cast = part("Cast", &[&sum], &real);
    let float = pb::tensor_proto::DataType::Float as i64;
    cast.attribute.push(integer_attribute("to", float));
    nodes.push(part("MatMulInteger", &operands, &sum));
    nodes.push(cast);
    nodes.push(part("Mul", &[left[1], weights_scale], &both));
    let result = if bias.is_empty() { y } else { &scaled };
    nodes.push(part("Mul", &[&real, &both], result));
    if !bias.is_empty() {
        nodes.push(part("Add", &[&scaled, bias], y));
    }
    Some(nodes)
}

fn form(node: &pb::NodeProto) -> Option<&'static Form> {
    FORMS.iter().find(|form| form.name == node.op_type)
}

fn operands(form: &Form, node: &pb::NodeProto) -> Vec<usize> {
    match form.real {
        "Concat" => (2..node.input.len()).step_by(3).collect(),
        _ => form.operands.to_vec(),
    }
}

/// The places of the result's scale and zero point; `None` where it is real.
fn stored(form: &Form, node: &pb::NodeProto) -> Option<[usize; 2]> {
    let left_out = node.input.get(form.result).is_none_or(|name| name.is_empty());
    let is_real = form.real == "Gemm" && left_out;
    (!is_real).then_some([form.result, form.result + 1])
}

/// Replaces such operators in a graph, and has those that move quantized values move reals.
pub fn rephrase(graph: &mut pb::GraphProto) {
    let sizes = scalars(graph);
    let mut words = Words { nodes: vec![], scales: HashMap::new(), scalars: sizes };
    for mut node in std::mem::take(&mut graph.node) {
        for attribute in &mut node.attribute {
            attribute.g.iter_mut().chain(&mut attribute.graphs).for_each(rephrase);
        }
        match (form(&node), product_to_reals(&node)) {
            (Some(form), _) => words.on_reals(form, node),
            (None, Some(product)) => words.nodes.extend(product),
            (None, None) => words.moved(node),
        }
    }
    graph.node = words.nodes;
}

/// The names of constants of one element.
fn scalars(graph: &pb::GraphProto) -> HashSet<String> {
    let one = |t: &pb::TensorProto| t.dims.iter().all(|&d| d == 1);
    let constants = constants(graph).into_iter().filter(|(_, tensor)| one(tensor));
    constants.map(|(name, _)| name.to_string()).collect()
}

struct Words {
    nodes: Vec<pb::NodeProto>,
    /// Scale and zero point of values that are quantized as a whole.
    scales: HashMap<String, [String; 2]>,
    scalars: HashSet<String>,
}

/// A node of one result, named after it.
pub fn part(op: &str, inputs: &[&str], output: &str) -> pb::NodeProto {
    pb::NodeProto {
        op_type: op.into(),
        name: output.into(),
        input: inputs.iter().map(|i| i.to_string()).collect(),
        output: vec![output.into()],
        ..Default::default()
    }
}

pub fn integer_attribute(name: &str, value: i64) -> pb::AttributeProto {
    pb::AttributeProto {
        name: name.into(),
        r#type: pb::attribute_proto::AttributeType::Int as i32,
        i: value,
        ..Default::default()
    }
}

impl Words {
    fn dequantize(&mut self, inputs: &[&str], axis: i64, output: &str) {
        let inputs: Vec<&str> = match inputs {
            [x, scale, ""] => vec![x, scale],
            _ => inputs.to_vec(),
        };
        let mut node = part("DequantizeLinear", &inputs, output);
        node.attribute.push(integer_attribute("axis", axis));
        self.nodes.push(node);
    }

    fn quantize(&mut self, x: &str, scale: &str, zero_point: &str, output: &str) {
        self.nodes.push(part("QuantizeLinear", &[x, scale, zero_point], output));
        if self.scalars.contains(scale) {
            let parameters = [scale.to_string(), zero_point.to_string()];
            self.scales.insert(output.to_string(), parameters);
        }
    }

    fn on_reals(&mut self, form: &Form, mut node: pb::NodeProto) {
        let Some(result) = node.output.first().cloned() else { return self.nodes.push(node) };
        let (operands, stored) = (operands(form, &node), stored(form, &node));
        let inputs = std::mem::take(&mut node.input);
        let input = |place: usize| inputs.get(place).map_or("", |name| name);
        let flag = |name: &str| node.attribute.iter().any(|a| a.name == name && a.i != 0);
        let right_axis = match form.real {
            "Conv" => 0,
            "Gemm" if flag("transB") => 0,
            "Gemm" => 1,
            _ => -1,
        };
        let left_axis = if form.real == "MatMul" { -2 } else { 1 };
        for (i, place) in operands.into_iter().enumerate() {
            let real = format!("{result}/operand{i}");
            let axis = if i == 0 { left_axis } else { right_axis };
            self.dequantize(&[input(place), input(place + 1), input(place + 2)], axis, &real);
            node.input.push(real);
        }
        let bias = match form.real {
            "Conv" => input(8),
            "Gemm" => input(6),
            _ => "",
        };
        if !bias.is_empty() {
            let [scale, real] = ["bias_scale", "bias"].map(|part| format!("{result}/{part}"));
            let mut factors = (input(1).to_string(), input(4));
            let alpha = node.attribute.iter().find(|a| a.name == "alpha").map_or(1.0, |a| a.f);
            if form.real == "Gemm" && alpha != 1.0 {
                let [name, scaled] = ["alpha", "alpha_scale"].map(|p| format!("{result}/{p}"));
                self.nodes.push(number(&name, alpha));
                self.nodes.push(part("Mul", &[&factors.0, &name], &scaled));
                factors.0 = scaled;
            }
            self.nodes.push(part("Mul", &[&factors.0, factors.1], &scale));
            // a vector, or a matrix of the channels last
            self.dequantize(&[bias, &scale, ""], if form.real == "Conv" { 0 } else { -1 }, &real);
            node.input.push(real);
        }
        if form.real == "Where" {
            node.input.insert(0, input(0).to_string());
        }
        node.attribute.retain(|a| !matches!(a.name.as_str(), "channels_last" | "opset"));
        node.op_type = form.real.into();
        node.domain = String::new();
        match stored {
            None => self.nodes.push(node),
            Some([scale, zero_point]) => {
                let real = format!("{result}/real");
                node.output = vec![real.clone()];
                self.nodes.push(node);
                self.quantize(&real, input(scale), input(zero_point), &result);
            }
        }
    }

    /// Takes the operator over; where it moves values that are quantized, it comes between DequantizeLinear and
    /// QuantizeLinear of the same scale.
    fn moved(&mut self, mut node: pb::NodeProto) {
        if node.op_type == "QuantizeLinear" {
            if let ([_, scale, zero_point], [output]) = (node.input.as_slice(), &node.output[..])
                && self.scalars.contains(scale)
                && !zero_point.is_empty()
            {
                let parameters = [scale.clone(), zero_point.clone()];
                self.scales.insert(output.clone(), parameters);
            }
            return self.nodes.push(node);
        }
        let quantized = node.input.first().and_then(|x| self.scales.get(x)).cloned();
        let Some([scale, zero_point]) = quantized.filter(|_| moves(&node)) else {
            return self.nodes.push(node);
        };
        let name = node.output.first().cloned().unwrap_or_default();
        let real = format!("{name}/moved");
        self.dequantize(&[&node.input[0].clone(), &scale, &zero_point], 1, &real);
        node.input[0] = real;
        if node.op_type == "Pad" && node.input.get(2).is_some_and(|name| !name.is_empty()) {
            let padding = format!("{name}/padding");
            self.dequantize(&[&node.input[2].clone(), &scale, &zero_point], 1, &padding);
            node.input[2] = padding;
        }
        let outputs = node.output.clone();
        for output in node.output.iter_mut().filter(|o| !o.is_empty()) {
            *output = format!("{output}/real");
        }
        self.nodes.push(node);
        for output in outputs.iter().filter(|o| !o.is_empty()) {
            self.quantize(&format!("{output}/real"), &scale, &zero_point, output);
        }
    }
}

/// Whether an operator only moves or picks the numbers of its first input.
fn moves(node: &pb::NodeProto) -> bool {
    let text = |name: &str| {
        let attribute = node.attribute.iter().find(|a| a.name == name);
        attribute.map(|a| String::from_utf8_lossy(&a.s).into_owned()).unwrap_or_default()
    };
    match node.op_type.as_str() {
        "Flatten" | "Reshape" | "Transpose" | "Squeeze" | "Unsqueeze" | "Identity" | "Slice"
        | "Gather" | "Split" | "DepthToSpace" | "SpaceToDepth" | "Expand" | "Tile" => true,
        "MaxPool" => node.output.len() == 1,
        "Pad" => {
            let padding = node.input.get(2).is_some_and(|name| !name.is_empty());
            padding || matches!(text("mode").as_str(), "reflect" | "edge" | "wrap")
        }
        "Resize" => matches!(text("mode").as_str(), "" | "nearest"),
        _ => false,
    }
}

/// A float32 constant.
pub fn number(name: &str, value: f32) -> pb::NodeProto {
    let value = pb::TensorProto {
        data_type: pb::tensor_proto::DataType::Float as i32,
        float_data: vec![value],
        ..Default::default()
    };
    let value = pb::AttributeProto {
        name: "value".into(),
        r#type: pb::attribute_proto::AttributeType::Tensor as i32,
        t: Some(value),
        ..Default::default()
    };
    pb::NodeProto { attribute: vec![value], ..part("Constant", &[], name) }
}
