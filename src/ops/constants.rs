//! Constants between tract and the lite graph: shared where they can be, and left in their files.

use super::*;
use crate::kernels;
use crate::tract::mapped::{mapped_bytes, mapped_tensor, reordered_tensor};

/// Constants of a lite graph from this size on stay where they are until something reads them.
pub const LARGE: usize = 1 << 14;

/// The values of a tensor as the lite graph stores them.
pub fn constant_bytes(value: &tract::Tensor) -> Result<(ElementType, bytes::Bytes)> {
    let target = match value.datum_type() {
        DatumType::TDim => DatumType::I64,
        DatumType::F64 => DatumType::F32,
        other => datum_type(carrier(element_type(other)?))?,
    };
    if value.datum_type() != target {
        return constant_bytes(&value.cast_to_dt(target)?.into_owned());
    }
    let element = element_type(target)?;
    ensure!(
        element != ElementType::String,
        "string constants are not supported; convert strings outside the model"
    );
    Ok((element, bytes::Bytes::copy_from_slice(value.as_bytes())))
}

/// As [`constant_bytes`], without a copy where the value's own can be shared.
pub fn shared_bytes(value: &Arc<tract::Tensor>) -> Result<(ElementType, bytes::Bytes)> {
    struct Values(Arc<tract::Tensor>);
    impl AsRef<[u8]> for Values {
        fn as_ref(&self) -> &[u8] {
            self.0.as_bytes()
        }
    }
    match element_type(value.datum_type()) {
        Ok(ElementType::String) | Err(_) => constant_bytes(value),
        Ok(element) if carrier(element) != element => constant_bytes(value),
        Ok(element) => Ok(match mapped_bytes(value) {
            Some(bytes) => (element, bytes.clone()),
            None => (element, bytes::Bytes::from_owner(Values(value.clone()))),
        }),
    }
}

/// The value of a lite constant.
pub fn tract_constant(tensor: &Tensor) -> Result<Arc<tract::Tensor>> {
    let at = || format!("constant '{}'", tensor.name);
    let data = tensor.data.as_ref().with_context(|| format!("'{}' has no value", tensor.name))?;
    let shape = tensor.known_shape().with_context(at)?;
    let datum = datum_type(tensor.element)?;
    if data.len() >= LARGE && tensor.element != ElementType::Bool {
        return Ok(mapped_tensor(datum, &shape, data.clone()).with_context(at)?.into_arc_tensor());
    }
    let mut value = tract::Tensor::zero_dt(datum, &shape).with_context(at)?;
    let target = value.as_bytes_mut();
    ensure!(target.len() == data.len(), "{}: size and shape differ", at());
    target.copy_from_slice(data);
    if tensor.element == ElementType::Bool {
        target.iter_mut().for_each(|b| *b = (*b != 0) as u8);
    }
    Ok(value.into_arc_tensor())
}

/// `value` with its axes in the order `order`.
pub fn reordered(value: &tract::Tensor, order: &[usize]) -> Result<Arc<tract::Tensor>> {
    if let Some(moved) = reordered_tensor(value, order) {
        return Ok(moved.into_arc_tensor());
    }
    let mut whole = value.clone().into_plain_ram()?;
    let shape: Vec<usize> = order.iter().map(|&axis| value.shape()[axis]).collect();
    let width = value.datum_type().size_of();
    match kernels::reorder(whole.as_bytes(), width, value.shape(), order)? {
        Some(moved) => {
            whole = tract::Tensor::zero_dt(value.datum_type(), &shape)?;
            whole.as_bytes_mut().copy_from_slice(&moved);
        }
        None => whole.set_shape(&shape)?,
    }
    Ok(whole.into_arc_tensor())
}
