//! Mutations of a `.tflite` file: shapes, types, edges, constants, operators, and the fields of their options.

use crate::draw::Draw;
use bytes::Bytes;
use mlctl::format::tflite::{
    BuiltinOperator, Model, Operator, OperatorCode, QuantizationParameters, SubGraph, Tensor,
    TensorType,
};

const TYPES: [TensorType; 12] = [
    TensorType::Float32,
    TensorType::Float32,
    TensorType::Float16,
    TensorType::Int32,
    TensorType::Int64,
    TensorType::Int8,
    TensorType::UInt8,
    TensorType::Bool,
    TensorType::Int16,
    TensorType::Int4,
    TensorType::String,
    TensorType::Float64,
];

/// A changed file, or `None` where `bytes` are no `.tflite`.
pub fn mutate(bytes: &[u8], other: Option<&[u8]>, draw: &mut Draw) -> Option<Vec<u8>> {
    let mut model = Model::parse(Bytes::copy_from_slice(bytes)).ok()?;
    if let Some(other) = other.and_then(|o| Model::parse(Bytes::copy_from_slice(o)).ok()) {
        splice(&mut model, &other, draw);
    }
    for _ in 0..draw.pick(&[0, 1, 1, 1, 2, 4]) {
        change(&mut model, draw);
    }
    fit_constants(&mut model);
    let mut written = vec![];
    if model.write(&mut written).is_err() {
        written = bytes.to_vec();
        change_options(&mut written, draw);
    }
    while draw.one_in(4) {
        change_options(&mut written, draw);
    }
    Some(written)
}

fn change(model: &mut Model, draw: &mut Draw) {
    if draw.one_in(4) {
        change_buffer(model, draw);
        return;
    }
    if draw.one_in(10) {
        change_code(&mut model.operator_codes, draw);
        return;
    }
    let codes = model.operator_codes.len();
    let Some(at) = draw.place(&model.subgraphs) else { return };
    let graph = &mut model.subgraphs[at];
    match draw.below(10) {
        0..=3 => change_tensor(graph, model.buffers.len(), draw),
        4 | 5 => change_edge(graph, draw),
        6 => change_ends(graph, draw),
        7 => repeat_operator(graph, draw),
        8 => take_operator_out(graph, draw),
        _ => {
            if let Some(at) = draw.place(&graph.operators) {
                graph.operators[at].opcode_index = draw.below(codes.max(1)) as u32;
            }
        }
    }
}

fn change_tensor(graph: &mut SubGraph, buffers: usize, draw: &mut Draw) {
    let Some(at) = draw.place(&graph.tensors) else { return };
    let tensor = &mut graph.tensors[at];
    match draw.below(10) {
        0 => tensor.tensor_type = draw.pick(&TYPES),
        1 => tensor.buffer = draw.below(buffers) as u32,
        2 => {
            tensor.shape_signature = tensor.shape.clone();
            if let Some(axis) = draw.place(&tensor.shape) {
                tensor.shape_signature[axis] =
                    if draw.one_in(3) { draw.integer(1) as i32 } else { -1 };
            }
        }
        3 => tensor.is_variable = draw.one_in(2),
        4 => tensor.name = ["", "x", "a/b", "\u{e9}"][draw.below(4)].into(),
        5 => change_quantization(tensor, draw),
        _ => {
            let mut shape: Vec<i64> = tensor.shape.iter().map(|&d| d.into()).collect();
            draw.change_list(&mut shape);
            tensor.shape = shape.iter().map(|&d| d as i32).collect();
            if tensor.shape_signature.len() != tensor.shape.len() {
                tensor.shape_signature.clear();
            }
        }
    }
}

fn change_quantization(tensor: &mut Tensor, draw: &mut Draw) {
    let channels = match tensor.shape.last() {
        Some(&n) if draw.one_in(2) => n.clamp(0, 64) as usize,
        _ => 1,
    };
    tensor.quantization = (!draw.one_in(4)).then(|| QuantizationParameters {
        scale: (0..channels).map(|_| draw.float(0.05)).collect(),
        zero_point: (0..channels).map(|_| draw.integer(0)).collect(),
        quantized_dimension: if channels == 1 { 0 } else { tensor.shape.len() as i32 - 1 },
        ..Default::default()
    });
}

fn change_buffer(model: &mut Model, draw: &mut Draw) {
    let Some(at) = draw.place(&model.buffers).filter(|&at| at > 0) else { return };
    let mut data = model.buffers[at].data.to_vec();
    let words = data.len() / 4;
    if words > 0 {
        let place = draw.below(words) * 4;
        let old =
            i32::from_le_bytes([data[place], data[place + 1], data[place + 2], data[place + 3]]);
        let new = match draw.one_in(3) && data.len() > 64 {
            true => draw.float(f32::from_bits(old as u32)).to_le_bytes(),
            false => (draw.integer(old.into()) as i32).to_le_bytes(),
        };
        data[place..place + 4].copy_from_slice(&new);
    } else if let Some(place) = draw.place(&data) {
        data[place] = draw.integer(0) as u8;
    }
    model.buffers[at].data = data.into();
}

fn change_code(codes: &mut [OperatorCode], draw: &mut Draw) {
    let Some(at) = draw.place(codes) else { return };
    match draw.below(6) {
        0 => codes[at].version = draw.integer(codes[at].version.into()) as i32,
        1 => codes[at].custom_code = "Custom".into(),
        _ => codes[at].builtin_code = BuiltinOperator(draw.below(210) as i32),
    }
}

fn change_edge(graph: &mut SubGraph, draw: &mut Draw) {
    let tensor = draw.below(graph.tensors.len().max(1)) as i32;
    let Some(at) = draw.place(&graph.operators) else { return };
    let operator = &mut graph.operators[at];
    let ends = if draw.one_in(5) { &mut operator.outputs } else { &mut operator.inputs };
    match (draw.below(8), draw.place(ends)) {
        (0, _) | (_, None) => ends.push(tensor),
        (1, Some(at)) => drop(ends.remove(at)),
        (2, Some(at)) => ends[at] = -1,
        (3, Some(at)) => {
            let other = draw.below(ends.len());
            ends.swap(at, other);
        }
        (_, Some(at)) => ends[at] = tensor,
    }
}

fn change_ends(graph: &mut SubGraph, draw: &mut Draw) {
    let tensor = draw.below(graph.tensors.len().max(1)) as i32;
    let ends = if draw.one_in(2) { &mut graph.inputs } else { &mut graph.outputs };
    match (draw.below(3), draw.place(ends)) {
        (0, _) | (_, None) => ends.push(tensor),
        (1, Some(at)) if ends.len() > 1 => drop(ends.remove(at)),
        (_, Some(at)) => ends[at] = tensor,
    }
}

/// An operator again, on its own output.
fn repeat_operator(graph: &mut SubGraph, draw: &mut Draw) {
    let Some(at) = draw.place(&graph.operators) else { return };
    let mut operator: Operator = graph.operators[at].clone();
    let (Some(&output), Some(input)) = (operator.outputs.first(), operator.inputs.first_mut())
    else {
        return;
    };
    *input = output;
    let Some(mut tensor) = usize::try_from(output).ok().and_then(|o| graph.tensors.get(o)).cloned()
    else {
        return;
    };
    tensor.name.push_str("_again");
    graph.tensors.push(tensor);
    let last = graph.tensors.len() as i32 - 1;
    operator.outputs[0] = last;
    graph.operators.insert(at + 1, operator);
    graph.outputs.push(last);
}

/// Who read its first output reads its first input.
fn take_operator_out(graph: &mut SubGraph, draw: &mut Draw) {
    if graph.operators.len() < 2 {
        return;
    }
    let operator = graph.operators.remove(draw.below(graph.operators.len()));
    let (Some(&output), Some(&input)) = (operator.outputs.first(), operator.inputs.first()) else {
        return;
    };
    let readers = graph.operators.iter_mut().flat_map(|o| &mut o.inputs).chain(&mut graph.outputs);
    for reader in readers.filter(|r| **r == output) {
        *reader = input;
    }
}

/// Puts the other model's main graph behind an output of this one.
fn splice(model: &mut Model, other: &Model, draw: &mut Draw) {
    let (buffers, codes) = (model.buffers.len() as u32, model.operator_codes.len() as u32);
    let (Some(graph), Some(more)) = (model.subgraphs.first_mut(), other.subgraphs.first()) else {
        return;
    };
    let tensors = graph.tensors.len() as i32;
    let moved = |index: &i32| if *index < 0 { *index } else { index + tensors };
    for tensor in &more.tensors {
        let mut tensor = tensor.clone();
        tensor.name.push_str("_more");
        if tensor.buffer > 0 {
            tensor.buffer += buffers - 1;
        }
        graph.tensors.push(tensor);
    }
    for operator in &more.operators {
        let mut operator = operator.clone();
        operator.opcode_index += codes;
        operator.inputs = operator.inputs.iter().map(moved).collect();
        operator.outputs = operator.outputs.iter().map(moved).collect();
        graph.operators.push(operator);
    }
    let mut given: Vec<i32> = more.inputs.iter().map(moved).collect();
    if let (Some(first), Some(at)) = (given.first().copied(), draw.place(&graph.outputs)) {
        let value = graph.outputs[at];
        for reader in
            graph.operators.iter_mut().flat_map(|o| &mut o.inputs).filter(|i| **i == first)
        {
            *reader = value;
        }
        given.remove(0);
    }
    graph.inputs.extend(given);
    graph.outputs.extend(more.outputs.iter().map(moved));
    model.operator_codes.extend(other.operator_codes.iter().cloned());
    model.buffers.extend(other.buffers.iter().skip(1).cloned());
}

/// Gives each constant that is short or long for its shape a buffer of the right length.
fn fit_constants(model: &mut Model) {
    for tensor in model.subgraphs.iter_mut().flat_map(|g| &mut g.tensors) {
        let (Some(buffer), Some(needed)) =
            (model.buffers.get(tensor.buffer as usize), tensor.byte_length())
        else {
            continue;
        };
        if buffer.data.is_empty() || buffer.data.len() as u64 == needed || needed > 16_384 {
            continue;
        }
        let data: Vec<u8> =
            (0..needed as usize).map(|i| buffer.data[i % buffer.data.len()]).collect();
        tensor.buffer = model.buffers.len() as u32;
        model.buffers.push(mlctl::format::tflite::Buffer { data: data.into() });
    }
}

/// Changes a scalar field of some operator's options, in the bytes; what is no flatbuffer stays as it is.
fn change_options(bytes: &mut [u8], draw: &mut Draw) {
    let Some((at, size)) = option_field(bytes, draw) else { return };
    let Some(place) = bytes.get_mut(at..at + size) else { return };
    match place {
        [byte] => *byte = if draw.one_in(8) { draw.integer(0) as u8 } else { draw.below(7) as u8 },
        [a, b, c, d] => {
            let old = i32::from_le_bytes([*a, *b, *c, *d]);
            let new = match draw.one_in(4) {
                true => draw.float(f32::from_bits(old as u32)).to_le_bytes(),
                false => (draw.integer(old.into()) as i32).to_le_bytes(),
            };
            place.copy_from_slice(&new);
        }
        _ => {}
    }
}

/// Offset and size of a field of the options of an operator (numbers of fields as in schema.fbs).
fn option_field(bytes: &[u8], draw: &mut Draw) -> Option<(usize, usize)> {
    let word = |at: usize| Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?) as usize);
    let half = |at: usize| Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?) as usize);
    let follow = |at: usize| Some(at + word(at)?);
    let vtable = |table: usize| table.checked_sub(word(table)? as u32 as i32 as usize);
    let field = |table: usize, number: usize| {
        let vtable = vtable(table)?;
        let offset =
            (4 + 2 * number < half(vtable)?).then(|| half(vtable + 4 + 2 * number)).flatten()?;
        (offset != 0).then_some(table + offset)
    };
    let element = |vector: usize, draw: &mut Draw| {
        let count = word(vector)?;
        follow(vector + 4 + 4 * (count > 0).then(|| draw.below(count))?)
    };
    let graph = element(follow(field(follow(0)?, 2)?)?, draw)?;
    let operator = element(follow(field(graph, 3)?)?, draw)?;
    let options = follow(field(operator, 4).or_else(|| field(operator, 12))?)?;
    let table = vtable(options)?;
    let offsets: Vec<usize> =
        (4..half(table)?).step_by(2).map_while(|at| half(table + at)).filter(|&o| o > 0).collect();
    let at = offsets[draw.place(&offsets)?];
    let end = offsets.iter().copied().filter(|&o| o > at).min().unwrap_or(half(table + 2)?);
    let size = if end.checked_sub(at)? >= 4 { 4 } else { 1 };
    Some((options + at, size))
}
