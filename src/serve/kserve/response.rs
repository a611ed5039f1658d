//! Output tensors → an answer's JSON, and the binary tensors behind it.

use super::datatype;
use super::request::{Chosen, InferBody};
use crate::runtime::{Port, Tensor};
use crate::serve::failure::{Answer, Code, Failure};
use crate::serve::json::write::{write_flat, write_string};
use crate::serve::raw;
use std::io::Write;

/// A body, and how much of it is JSON where there is more.
pub struct Written {
    pub body: Vec<u8>,
    pub head: Option<usize>,
}

/// What an answer tells beside its tensors.
pub struct Told<'a> {
    pub model: &'a str,
    pub version: u64,
    pub id: Option<&'a str>,
}

impl InferBody {
    pub fn told<'a>(&'a self, model: &'a str, version: u64) -> Told<'a> {
        Told { model, version, id: self.id.as_deref() }
    }
}

/// # Errors
/// A tensor is of a type that the protocol has not.
pub fn write(
    told: &Told,
    ports: &[Port],
    tensors: &[Tensor],
    chosen: &[Chosen],
) -> Answer<Written> {
    let mut out = b"{\"model_name\": ".to_vec();
    write_string(&mut out, told.model);
    let _ = write!(out, ", \"model_version\": \"{}\"", told.version);
    if let Some(id) = told.id {
        out.extend_from_slice(b", \"id\": ");
        write_string(&mut out, id);
    }
    out.extend_from_slice(b", \"outputs\": [");
    let mut behind = vec![];
    for (i, Chosen { place, binary }) in chosen.iter().enumerate() {
        let (Some(port), Some(tensor)) = (ports.get(*place), tensors.get(*place)) else { continue };
        let tensor = raw::plain(tensor).map_err(broken)?;
        let element = crate::ops::element_type(tensor.datum_type()).map_err(broken)?;
        out.extend_from_slice(if i == 0 { b"{\"name\": " } else { b", {\"name\": " });
        write_string(&mut out, &port.name);
        let _ = write!(
            out,
            ", \"datatype\": \"{}\", \"shape\": {:?}, ",
            datatype(element),
            tensor.shape()
        );
        match binary {
            true => {
                let size = tensor.as_bytes().len();
                let _ = write!(out, "\"parameters\": {{\"binary_data_size\": {size}}}");
                behind.push(tensor);
            }
            false => {
                out.extend_from_slice(b"\"data\": ");
                write_flat(&mut out, &tensor)?;
            }
        }
        out.push(b'}');
    }
    out.extend_from_slice(b"]}");
    let head = (!behind.is_empty()).then_some(out.len());
    behind.iter().for_each(|tensor| out.extend_from_slice(tensor.as_bytes()));
    Ok(Written { body: out, head })
}

pub fn broken(error: anyhow::Error) -> Failure {
    Failure::new(Code::Internal, format!("an output cannot be written: {error:#}"))
}
