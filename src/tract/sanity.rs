//! What tract takes on trust of an ONNX node: attributes that it divides by or indexes with, and small
//! constants that ask for huge tensors.

use super::onnx::node_name;
use super::pb;
use anyhow::{Context, Result, ensure};
use std::collections::HashMap;

/// The most elements that a constant may ask for.
const MOST_ELEMENTS: usize = 1 << 28;

/// Checks one node; `constants` are the tensors known by name.
///
/// # Errors
/// Names the node and what it asks for.
pub fn check(node: &pb::NodeProto, constants: &HashMap<&str, &pb::TensorProto>) -> Result<()> {
    check_values(node, constants)
        .and_then(|()| check_attributes(node))
        .with_context(|| format!("node '{}' ({})", node_name(node), node.op_type))
}

fn check_attributes(node: &pb::NodeProto) -> Result<()> {
    for attribute in &node.attribute {
        let ints = &attribute.ints;
        match attribute.name.as_str() {
            "strides" | "dilations" | "kernel_shape" => {
                let fits = ints.iter().all(|&n| 0 < n && n <= MOST_ELEMENTS as i64);
                ensure!(fits, "{} of {ints:?}", attribute.name);
            }
            "pads" | "output_padding" => {
                let fits = ints.iter().all(|&n| n.unsigned_abs() <= MOST_ELEMENTS as u64);
                ensure!(fits, "asks for {} of {ints:?}", attribute.name);
            }
            "group" => ensure!(attribute.i > 0, "group of {}", attribute.i),
            "perm" => {
                let axes = 0..ints.len() as i64;
                ensure!(axes.clone().all(|a| ints.contains(&a)), "{ints:?} is no permutation");
            }
            "shape" if node.op_type.starts_with("Random") => check_shape(ints)?,
            _ => {}
        }
    }
    Ok(())
}

fn check_values(node: &pb::NodeProto, constants: &HashMap<&str, &pb::TensorProto>) -> Result<()> {
    let input = |place: usize| constants.get(node.input.get(place)?.as_str()).copied();
    let integers = |place: usize| input(place).map(integers);
    let numbers = |place: usize| input(place).map(numbers).filter(|n| !n.is_empty());
    match node.op_type.as_str() {
        "ConstantOfShape" => integers(0).map_or(Ok(()), |shape| check_shape(&shape)),
        "Expand" | "Tile" => integers(1).map_or(Ok(()), |shape| check_shape(&shape)),
        "OneHot" => {
            let depth = numbers(1).and_then(|n| n.first().copied()).unwrap_or(1.0);
            ensure!(depth <= MOST_ELEMENTS as f64, "asks for a depth of {depth}");
            Ok(())
        }
        "Pad" => {
            let pads = integers(1).unwrap_or_default();
            let fits = pads.iter().all(|p| p.unsigned_abs() <= MOST_ELEMENTS as u64);
            ensure!(fits, "asks for pads of {pads:?}");
            Ok(())
        }
        "Range" => {
            let ends = [0, 1, 2].map(|place| numbers(place).and_then(|n| n.first().copied()));
            let [Some(start), Some(limit), Some(step)] = ends else { return Ok(()) };
            let count = (limit - start) / step;
            let fits = step != 0.0 && count.is_finite() && count <= MOST_ELEMENTS as f64;
            ensure!(fits, "asks for the values from {start} to {limit} by {step}");
            Ok(())
        }
        "Resize" | "Upsample" => {
            let scales = match node.input.len() {
                0..=2 => numbers(1),
                _ => numbers(2),
            };
            let scales = scales.unwrap_or_default();
            let fits = scales.iter().all(|s| s.is_finite() && *s > 0.0 && *s <= 65_536.0);
            ensure!(fits, "asks for scales of {scales:?}");
            integers(3).map_or(Ok(()), |sizes| check_shape(&sizes))
        }
        _ => Ok(()),
    }
}

fn check_shape(dims: &[i64]) -> Result<()> {
    let count = dims.iter().try_fold(1usize, |n, &d| n.checked_mul(usize::try_from(d).ok()?));
    ensure!(count.is_some_and(|n| n <= MOST_ELEMENTS), "asks for a tensor of shape {dims:?}");
    Ok(())
}

/// The values of a tensor of 64-bit integers that the file itself holds.
fn integers(tensor: &pb::TensorProto) -> Vec<i64> {
    let raw = tensor.raw_data.as_chunks::<8>().0.iter().map(|b| i64::from_le_bytes(*b));
    tensor.int64_data.iter().copied().chain(raw).collect()
}

/// The values of a small tensor of numbers that the file itself holds.
fn numbers(tensor: &pb::TensorProto) -> Vec<f64> {
    use pb::tensor_proto::DataType;
    let raw = &tensor.raw_data;
    let words = || raw.as_chunks::<4>().0.iter().copied();
    match DataType::try_from(tensor.data_type) {
        Ok(DataType::Int64) => integers(tensor).into_iter().map(|n| n as f64).collect(),
        Ok(DataType::Int32) => {
            let raw = words().map(i32::from_le_bytes);
            tensor.int32_data.iter().copied().chain(raw).map(f64::from).collect()
        }
        Ok(DataType::Float) => {
            let raw = words().map(f32::from_le_bytes);
            tensor.float_data.iter().copied().chain(raw).map(f64::from).collect()
        }
        Ok(DataType::Double) => {
            let raw = raw.as_chunks::<8>().0.iter().map(|b| f64::from_le_bytes(*b));
            tensor.double_data.iter().copied().chain(raw).collect()
        }
        _ => vec![],
    }
}
