//! Changes to SavedModels and bundles that keep them files of their kind.

use crate::check_tensorflow::parts;
use crate::draw::Draw;
use mlctl::format::tensorflow::{
    Attribute, GraphDef, NodeDef, SavedModel, read_table, write_table,
};
use prost::Message;

/// A SavedModel with a few nodes, attributes or ends changed; `None` where `bytes` are none.
pub fn mutate_saved_model(bytes: &[u8], other: Option<&[u8]>, draw: &mut Draw) -> Option<Vec<u8>> {
    let mut saved = SavedModel::decode(bytes).ok()?;
    let other = other.and_then(|other| SavedModel::decode(other).ok());
    let meta_graph = saved.meta_graphs.first_mut()?;
    for _ in 0..1 + draw.below(3) {
        let graph = meta_graph.graph_def.as_mut()?;
        let donor = other.as_ref().and_then(|other| other.meta_graphs.first()?.graph_def.as_ref());
        match draw.below(8) {
            0 => mutate_shape(
                meta_graph
                    .signature_def
                    .values_mut()
                    .flat_map(|s| s.inputs.values_mut())
                    .next()?
                    .tensor_shape
                    .as_mut(),
                draw,
            ),
            1 => {
                let end = meta_graph
                    .signature_def
                    .values_mut()
                    .flat_map(|s| s.outputs.values_mut())
                    .next()?;
                end.name = format!(
                    "{}:{}",
                    graph.node.get(draw.below(graph.node.len().max(1)))?.name,
                    draw.below(3)
                );
            }
            2 if donor.is_some() => {
                let nodes = &donor?.node;
                graph.node.push(nodes.get(draw.below(nodes.len().max(1)))?.clone());
            }
            _ => mutate_nodes(graph, draw)?,
        }
    }
    Some(saved.encode_to_vec())
}

fn mutate_nodes(graph: &mut GraphDef, draw: &mut Draw) -> Option<()> {
    let functions = graph.library.iter_mut().flat_map(|library| &mut library.function);
    let mut lists: Vec<&mut Vec<NodeDef>> = functions.map(|f| &mut f.node_def).collect();
    lists.push(&mut graph.node);
    let place = draw.below(lists.len());
    let nodes = lists.swap_remove(place);
    let count = nodes.len().max(1);
    let (from, to) = (draw.below(count), draw.below(count));
    let source = nodes.get(from)?.clone();
    let node = nodes.get_mut(to)?;
    match draw.below(7) {
        0 => node.op = source.op,
        1 => node.input = source.input,
        2 => node.input.push(source.name),
        3 => {
            let place = draw.below(node.input.len().max(1));
            *node.input.get_mut(place)? = format!("{}:{}", source.name, draw.below(3));
        }
        4 => node.attr = source.attr,
        5 => {
            node.input.pop();
        }
        _ => {
            let place = draw.below(node.attr.len().max(1));
            match node.attr.values_mut().nth(place)?.value.as_mut()? {
                Attribute::Int(value) => *value = draw.integer(3),
                Attribute::Bool(value) => *value = !*value,
                Attribute::Float(value) => *value = draw.integer(3) as f32,
                Attribute::Type(value) => *value = draw.below(24) as i32,
                Attribute::Shape(shape) => mutate_shape(Some(shape), draw),
                Attribute::List(list) => {
                    let place = draw.below(list.i.len().max(1));
                    *list.i.get_mut(place)? = draw.integer(3);
                }
                Attribute::Tensor(tensor) => match draw.below(3) {
                    0 => mutate_shape(tensor.tensor_shape.as_mut(), draw),
                    1 => tensor.dtype = draw.below(24) as i32,
                    _ => {
                        let number = draw.integer(3);
                        tensor.int_val = vec![number as i32];
                        tensor.float_val = vec![number as f32];
                        tensor.tensor_content = Default::default();
                    }
                },
                Attribute::Text(_) | Attribute::Function(_) => return None,
            }
        }
    }
    Some(())
}

fn mutate_shape(shape: Option<&mut mlctl::format::tensorflow::TensorShape>, draw: &mut Draw) {
    let Some(shape) = shape else { return };
    let place = draw.below(shape.dim.len().max(1));
    match shape.dim.get_mut(place) {
        Some(dim) if !draw.one_in(4) => dim.size = draw.integer(3),
        Some(dim) => {
            let dim = dim.clone();
            shape.dim.push(dim);
        }
        None => shape.unknown_rank = true,
    }
}

/// A bundle whose index has one entry changed, its checksums made anew.
pub fn mutate_bundle(bytes: &[u8], other: Option<&[u8]>, draw: &mut Draw) -> Option<Vec<u8>> {
    let (index, data) = parts(bytes)?;
    let table = read_table(index).ok()?;
    let mut entries: Vec<(Vec<u8>, Vec<u8>)> =
        table.into_iter().map(|(key, value)| (key, value.to_vec())).collect();
    if let Some(more) = other.and_then(parts).and_then(|(index, _)| read_table(index).ok()) {
        entries.extend(more.into_iter().map(|(key, value)| (key, value.to_vec())));
    }
    let count = entries.len().max(1);
    let source = entries.get(draw.below(count))?.1.clone();
    let entry = entries.get_mut(draw.below(count))?;
    match draw.below(4) {
        0 => entry.1 = source,
        1 => entry.0.push(draw.below(256) as u8),
        2 => entry.1.truncate(draw.below(entry.1.len().max(1))),
        _ => {
            let place = draw.below(entry.1.len().max(1));
            *entry.1.get_mut(place)? = draw.below(256) as u8;
        }
    }
    entries.sort();
    entries.dedup_by(|a, b| a.0 == b.0);
    let index = write_table(entries.iter().map(|(key, value)| (&key[..], value.clone())));
    let length = u32::try_from(index.len()).ok()?.to_le_bytes();
    Some([&length[..], &index, data].concat())
}
