//! `TypedModel` → a plan on our kernels, shared by threads; one session a thread.

mod fuse;
mod independence;
mod plan;
mod port;
mod rows;
mod share;
#[cfg(test)]
mod test_graph;
mod values;
mod watch;

pub use plan::{NodeTime, Plan, Session};
pub use port::Port;
pub use rows::run_rows;
pub use share::{Turns, share_out};
pub use values::{Value, Values};
pub use watch::{WatchedPlan, WatchingSession};

/// A value that goes into a plan or comes out of it.
pub use crate::tract::Tensor;

use crate::format::npy::{Array, Dtype};
use crate::graph::ElementType;
use crate::tract::DatumType;
use crate::tract::mapped::mapped_tensor;
use anyhow::{Context, Result, bail, ensure};

/// Arrays of more bytes stay in their file.
const LARGE: usize = 1 << 16;

/// A float32 tensor; `values` fill `shape`.
pub fn f32_tensor(shape: &[usize], values: &[f32]) -> Result<Tensor> {
    let count: usize = shape.iter().product();
    ensure!(count == values.len(), "{} values do not fill {shape:?}", values.len());
    Tensor::from_shape(shape, values)
}

/// The values of a float32 tensor.
pub fn f32_values(tensor: &Tensor) -> Result<&[f32]> {
    tensor.try_as_plain_ram()?.as_slice::<f32>()
}

/// As float32, whatever the element type.
pub fn to_f32(tensor: &Tensor) -> Result<Vec<f32>> {
    let cast = tensor.cast_to::<f32>()?;
    Ok(f32_values(&cast)?.to_vec())
}

/// An array of a `.npy` file as a tensor of `element`; only the same kind of number is taken. A large one stays where it
/// is until it is read.
pub fn from_array(array: &Array, element: ElementType) -> Result<Tensor> {
    let datum = match array.dtype {
        Dtype::F16 => DatumType::F16,
        Dtype::F32 => DatumType::F32,
        Dtype::F64 => DatumType::F64,
        Dtype::I8 => DatumType::I8,
        Dtype::I16 => DatumType::I16,
        Dtype::I32 => DatumType::I32,
        Dtype::I64 => DatumType::I64,
        Dtype::U8 => DatumType::U8,
        Dtype::U16 => DatumType::U16,
        Dtype::U32 => DatumType::U32,
        Dtype::U64 => DatumType::U64,
        Dtype::Bool => DatumType::Bool,
    };
    let wanted = crate::ops::datum_type(element)?;
    if datum == wanted && datum != DatumType::Bool && array.data.len() >= LARGE {
        return mapped_tensor(datum, &array.shape, array.data.clone());
    }
    let mut tensor = Tensor::zero_dt(datum, &array.shape)?;
    tensor.as_bytes_mut().copy_from_slice(&array.data);
    if datum == wanted {
        return Ok(tensor);
    }
    let same_kind = (datum.is_float() && wanted.is_float())
        || (datum.is_integer() && wanted.is_integer() && datum.size_of() <= wanted.size_of());
    ensure!(same_kind, "elements are {datum:?}, the model wants {element}");
    Ok(tensor.cast_to_dt(wanted)?.into_owned())
}

/// A tensor as an array for a `.npy` file.
pub fn to_array(tensor: &Tensor) -> Result<Array> {
    let dtype = match tensor.datum_type() {
        DatumType::F16 => Dtype::F16,
        DatumType::F32 => Dtype::F32,
        DatumType::F64 => Dtype::F64,
        DatumType::I8 => Dtype::I8,
        DatumType::I16 => Dtype::I16,
        DatumType::I32 => Dtype::I32,
        DatumType::I64 => Dtype::I64,
        DatumType::U8 => Dtype::U8,
        DatumType::U16 => Dtype::U16,
        DatumType::U32 => Dtype::U32,
        DatumType::U64 => Dtype::U64,
        DatumType::Bool => Dtype::Bool,
        other => bail!("{other:?} tensors cannot be saved"),
    };
    Array::new(dtype, tensor.shape().to_vec(), tensor.as_bytes().to_vec())
        .context("saving a tensor")
}
