//! Products of integers that are quantized as the model runs, in words that can be lowered. What onnxruntime's
//! `quantize_dynamic` writes round a product becomes the product of reals with weights that are stored in integers;
//! other ConvInteger and MatMulInteger become products that are exact in float32.

use super::quantized_forms::{integer_attribute, number, part};
use super::*;

/// Sums of so many products of two bytes are exact in float32.
const EXACT_PRODUCTS: i64 = (1 << 24) / (255 * 255);
/// The same of a byte and half a byte.
const EXACT_HALF_PRODUCTS: i64 = (1 << 24) / (255 * 16);

/// The attribute of a DequantizeLinear that gives weights to a product whose other operand was quantized as it ran.
pub const DYNAMIC: &str = "mlctl_dynamic";

/// Rewrites the entry graph.
pub fn rephrase(graph: &mut pb::GraphProto) {
    let chains = chains(graph);
    let dims: HashMap<String, Vec<i64>> = constants(graph)
        .into_iter()
        .map(|(name, tensor)| (name.to_string(), tensor.dims.clone()))
        .chain(graph.input.iter().filter_map(|input| Some((input.name.clone(), sizes(input)?))))
        .collect();
    let scales: HashSet<String> = graph
        .node
        .iter()
        .filter(|n| n.op_type == "DynamicQuantizeLinear")
        .flat_map(|n| n.output.iter().skip(1).cloned())
        .collect();
    for (number, node) in std::mem::take(&mut graph.node).into_iter().enumerate() {
        match chains.get(&number) {
            Some(product) => graph.node.extend(product.clone()),
            None => graph.node.push(node),
        }
    }
    if !chains.is_empty() {
        drop_unread(graph);
    }
    for node in std::mem::take(&mut graph.node) {
        match node.op_type.as_str() {
            "ConvInteger" | "MatMulInteger" => graph.node.extend(exact(node, &dims, &scales)),
            _ => graph.node.push(node),
        }
    }
}

/// Drops what is left of chains that became products.
fn drop_unread(graph: &mut pb::GraphProto) {
    const OF_CHAINS: [&str; 5] =
        ["DynamicQuantizeLinear", "ConvInteger", "MatMulInteger", "Cast", "Mul"];
    loop {
        let mut read: HashSet<String> = graph.output.iter().map(|o| o.name.clone()).collect();
        for inner in graphs(graph) {
            read.extend(inner.node.iter().flat_map(|node| node.input.iter().cloned()));
            read.extend(inner.output.iter().map(|output| output.name.clone()));
        }
        let before = graph.node.len();
        graph.node.retain(|node| {
            let unread = !node.output.iter().any(|output| read.contains(output));
            !(unread && OF_CHAINS.contains(&node.op_type.as_str()))
        });
        if graph.node.len() == before {
            return;
        }
    }
}

/// The sizes of a graph's input, where all are known.
fn sizes(input: &pb::ValueInfoProto) -> Option<Vec<i64>> {
    let (_, dims) = port_type(input)?;
    dims.iter().map(|dim| dim.parse().ok()).collect()
}

/// By the node that ends it, what a chain DynamicQuantizeLinear → product of integers → Cast → Mul becomes.
fn chains(graph: &pb::GraphProto) -> HashMap<usize, Vec<pb::NodeProto>> {
    let producers: HashMap<&str, &pb::NodeProto> = graph
        .node
        .iter()
        .flat_map(|node| node.output.iter().map(move |output| (output.as_str(), node)))
        .collect();
    let stored: HashSet<&str> = constants(graph).into_iter().map(|(name, _)| name).collect();
    let made_by = |name: &str, op: &str| producers.get(name).copied().filter(|n| n.op_type == op);
    let product = |end: &pb::NodeProto, sum: &str, scale: &str| -> Option<Vec<pb::NodeProto>> {
        let cast = made_by(sum, "Cast")?;
        let to = cast.attribute.iter().find(|a| a.name == "to")?.i;
        let integers = producers.get(cast.input.first()?.as_str())?;
        let real = match integers.op_type.as_str() {
            "ConvInteger" => "Conv",
            "MatMulInteger" => "MatMul",
            _ => return None,
        };
        let input = |place: usize| integers.input.get(place).map_or("", |name| name);
        let quantized = made_by(input(0), "DynamicQuantizeLinear")?;
        let [x, scale_of_x, zero_of_x] =
            [quantized.input.first()?, quantized.output.get(1)?, quantized.output.get(2)?];
        let scales = made_by(scale, "Mul")?;
        let scale_of_weights = match scales.input.as_slice() {
            [a, b] if a == scale_of_x => b,
            [a, b] if b == scale_of_x => a,
            _ => return None,
        };
        let is_float = to == pb::tensor_proto::DataType::Float as i64;
        let known = stored.contains(input(1)) && stored.contains(scale_of_weights.as_str());
        if !is_float || !known || input(2) != zero_of_x.as_str() {
            return None;
        }
        let output = end.output.first()?;
        let weights = format!("{output}/weights");
        let mut inputs = vec![input(1), scale_of_weights.as_str()];
        inputs.extend(Some(input(3)).filter(|name| !name.is_empty()));
        let mut dequantize = part("DequantizeLinear", &inputs, &weights);
        let axis = if real == "Conv" { 0 } else { -1 };
        dequantize.attribute = vec![integer_attribute("axis", axis), integer_attribute(DYNAMIC, 1)];
        let node = pb::NodeProto {
            attribute: integers.attribute.clone(),
            name: node_name(end).to_string(),
            ..part(real, &[x, &weights], output)
        };
        Some(vec![dequantize, node])
    };
    let ends = graph.node.iter().enumerate().filter(|(_, node)| node.op_type == "Mul");
    ends.filter_map(|(number, end)| {
        let [a, b] = end.input.as_slice() else { return None };
        Some((number, product(end, a, b).or_else(|| product(end, b, a))?))
    })
    .collect()
}

/// The product of integers in float32, of few enough that it is exact; otherwise it stays, to be refused.
fn exact(
    node: pb::NodeProto,
    dims: &HashMap<String, Vec<i64>>,
    scalars: &HashSet<String>,
) -> Vec<pb::NodeProto> {
    let is_conv = node.op_type == "ConvInteger";
    let input = |place: usize| node.input.get(place).map_or("", |name| name);
    let is_one = |name: &str| {
        let one = dims.get(name).is_some_and(|dims| dims.iter().all(|&d| d == 1));
        name.is_empty() || scalars.contains(name) || one
    };
    let products = dims.get(input(1)).map(|weights| match is_conv {
        true => weights.iter().skip(1).fold(1i64, |n, &d| n.saturating_mul(d)),
        false => weights.iter().rev().nth(1).or(weights.first()).copied().unwrap_or(i64::MAX),
    });
    // of weights, a zero point for each column broadcasts as it is
    let by_column = !is_conv && dims.get(input(3)).is_some_and(|dims| dims.len() == 1);
    let (Some(products), [y]) = (products, node.output.as_slice()) else { return vec![node] };
    if products > EXACT_HALF_PRODUCTS || !is_one(input(2)) || !(is_one(input(3)) || by_column) {
        return vec![node];
    }
    let own = |part: &str| format!("{y}/{part}");
    let cast = |from: &str, to: &str, kind: pb::tensor_proto::DataType| {
        let mut node = part("Cast", &[from], to);
        node.attribute.push(integer_attribute("to", kind as i64));
        node
    };
    use pb::tensor_proto::DataType::{Float, Int32};
    let mut nodes = vec![];
    let mut operands = vec![];
    for (place, name) in ["left", "right"].into_iter().enumerate() {
        let [real, zero, centred] =
            ["real", "zero", "centred"].map(|p| own(&format!("{name}_{p}")));
        nodes.push(cast(input(place), &real, Float));
        if input(place + 2).is_empty() {
            operands.push(real);
        } else {
            nodes.push(cast(input(place + 2), &zero, Float));
            nodes.push(part("Sub", &[&real, &zero], &centred));
            operands.push(centred);
        }
    }
    let product = |right: &str, output: &str| pb::NodeProto {
        attribute: node.attribute.clone(),
        ..part(if is_conv { "Conv" } else { "MatMul" }, &[&operands[0], right], output)
    };
    if products <= EXACT_PRODUCTS {
        let sum = own("sum");
        nodes.push(product(&operands[1], &sum));
        nodes.push(cast(&sum, y, Int32));
        return nodes;
    }
    let [sixteen, share, high, tens, low] = ["sixteen", "share", "high", "tens", "low"].map(own);
    let [of_high, of_low, large] = ["of_high", "of_low", "large"].map(own);
    let [high_sum, low_sum, times] = ["high_sum", "low_sum", "times"].map(own);
    nodes.extend([
        number(&sixteen, 16.0),
        part("Div", &[&operands[1], &sixteen], &share),
        part("Floor", &[&share], &high),
        part("Mul", &[&high, &sixteen], &tens),
        part("Sub", &[&operands[1], &tens], &low),
        product(&high, &of_high),
        product(&low, &of_low),
        cast(&of_high, &high_sum, Int32),
        cast(&of_low, &low_sum, Int32),
        cast(&sixteen, &times, Int32),
        part("Mul", &[&high_sum, &times], &large),
        part("Add", &[&large, &low_sum], y),
    ]);
    nodes
}
