//! Large constants that stay in the file they are mapped from until something reads their values.
//!
//! tract copies such values when it needs them as memory of its own; what only passes them on (lowering,
//! packing) takes the file's bytes.

use super::*;
use crate::format::mmap;
use crate::kernels::{f32_from_f16, reorder};
use ::anyhow::{Context, Result, ensure};
use bytes::Bytes;
use std::sync::OnceLock;

/// The values of a tensor, in a file or, once read, in memory too.
#[derive(Debug)]
struct MappedValues {
    /// `None` once the values in memory were changed.
    file: Option<Bytes>,
    /// The file holds binary16 for float32 values.
    halves: bool,
    /// The file holds the values of another shape; their axes come in another order.
    moved: Option<Moved>,
    memory: OnceLock<PlainStorage>,
}

/// Axes of a shape in another order.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Moved {
    shape: Vec<usize>,
    order: Vec<usize>,
}

impl MappedValues {
    fn new(file: Bytes, halves: bool, moved: Option<Moved>) -> MappedValues {
        MappedValues { file: Some(file), halves, moved, memory: OnceLock::new() }
    }

    fn load(&self) -> TractResult<PlainStorage> {
        let file = self.file.as_ref().context("values without a source")?;
        let width = if self.halves { 2 } else { 4 };
        let moved = match &self.moved {
            Some(moved) => reorder(file, width, &moved.shape, &moved.order)?,
            None => None,
        };
        let values = moved.as_deref().unwrap_or(file);
        let blob = if self.halves {
            let mut wide = Tensor::zero::<f32>(&[values.len() / 2])?;
            read_halves(values, wide.try_as_plain_ram_mut()?.as_slice_mut::<f32>()?);
            wide.into_blob()?
        } else {
            Blob::from_bytes(values)?
        };
        mmap::release(file);
        Ok(PlainStorage::from(blob))
    }
}

/// Widens little-endian binary16, which may lie anywhere.
fn read_halves(bytes: &[u8], out: &mut [f32]) {
    let mut halves = [0u16; 1024];
    for (bytes, out) in bytes.chunks(2048).zip(out.chunks_mut(1024)) {
        let halves = &mut halves[..out.len()];
        for (half, bytes) in halves.iter_mut().zip(bytes.as_chunks::<2>().0) {
            *half = u16::from_le_bytes(*bytes);
        }
        f32_from_f16(halves, out);
    }
}

impl PartialEq for MappedValues {
    fn eq(&self, other: &Self) -> bool {
        match (&self.file, &other.file) {
            (Some(a), Some(b)) if self.halves == other.halves && self.moved == other.moved => {
                a.len() == b.len() && (a.as_ptr() == b.as_ptr() || a == b)
            }
            (None, None) => self.memory.get() == other.memory.get(),
            _ => false,
        }
    }
}

impl Eq for MappedValues {}

impl std::fmt::Display for MappedValues {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(f, "{} bytes of a mapped file", self.file.as_ref().map_or(0, Bytes::len))
    }
}

impl TensorStorage for MappedValues {
    fn byte_len(&self) -> usize {
        match (&self.file, self.memory.get()) {
            (Some(file), _) => file.len() * if self.halves { 2 } else { 1 },
            (None, memory) => memory.map_or(0, TensorStorage::byte_len),
        }
    }

    fn is_empty(&self) -> bool {
        self.byte_len() == 0
    }

    fn deep_clone(&self) -> Box<dyn TensorStorage> {
        match (&self.file, self.memory.get()) {
            (Some(file), _) => {
                Box::new(MappedValues::new(file.clone(), self.halves, self.moved.clone()))
            }
            (None, memory) => Box::new(memory.cloned().unwrap_or_default()),
        }
    }

    fn as_plain_ram(&self) -> Option<&PlainStorage> {
        self.memory.get()
    }

    fn as_plain_ram_mut(&mut self) -> Option<&mut PlainStorage> {
        self.materialize_plain_ram().ok()?;
        self.file = None;
        self.memory.get_mut()
    }

    fn into_plain_ram(self: Box<Self>) -> Option<PlainStorage> {
        match self.memory.into_inner() {
            Some(memory) => Some(memory),
            None => MappedValues { memory: OnceLock::new(), ..*self }.load().ok(),
        }
    }

    fn dyn_hash(&self, state: &mut dyn std::hash::Hasher) {
        state.write_usize(self.byte_len());
    }

    fn exotic_fact(&self, _shape: &[usize]) -> TractResult<Option<Box<dyn ExoticFact>>> {
        Ok(None)
    }

    fn is_exotic(&self) -> bool {
        false
    }

    fn slice(
        &self,
        datum: DatumType,
        shape: &[usize],
        axis: usize,
        start: usize,
        end: usize,
    ) -> TractResult<Option<Tensor>> {
        let Some(file) = self.file.as_ref().filter(|_| self.moved.is_none() && axis == 0) else {
            return Ok(None);
        };
        let width = if self.halves { 2 } else { datum.size_of() };
        let row = shape[1..].iter().product::<usize>() * width;
        let mut part: TVec<usize> = shape.into();
        part[0] = end - start;
        let values = MappedValues::new(file.slice(start * row..end * row), self.halves, None);
        Ok(Some(Tensor::from_storage(datum, &part, values)))
    }

    fn materialize_plain_ram(&self) -> TractResult<&PlainStorage> {
        if self.memory.get().is_none() {
            let loaded = self.load()?;
            return Ok(self.memory.get_or_init(|| loaded));
        }
        self.memory.get().context("values that were loaded")
    }
}

/// A tensor of `datum` whose values are the little-endian `bytes`.
///
/// # Errors
/// The bytes do not fill the shape, or are of a type without a fixed size.
pub fn mapped_tensor(datum: DatumType, shape: &[usize], bytes: Bytes) -> Result<Tensor> {
    ensure!(datum.is_copy() && datum != DatumType::Bool, "{datum:?} values cannot stay in a file");
    let count = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
    let size = count.and_then(|n| n.checked_mul(datum.size_of()));
    ensure!(size == Some(bytes.len()), "{} bytes for the shape {shape:?}", bytes.len());
    Ok(Tensor::from_storage(datum, shape, MappedValues::new(bytes, false, None)))
}

/// A float32 tensor whose values the `bytes` hold as binary16.
///
/// # Errors
/// The bytes do not fill the shape.
pub fn widened_tensor(shape: &[usize], bytes: Bytes) -> Result<Tensor> {
    let count = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
    let size = count.and_then(|n| n.checked_mul(2));
    ensure!(size == Some(bytes.len()), "{} bytes for the shape {shape:?}", bytes.len());
    Ok(Tensor::from_storage(DatumType::F32, shape, MappedValues::new(bytes, true, None)))
}

/// A mapped float32 tensor with its axes in another order, which is made when the values are read;
/// `None` for other tensors.
pub fn reordered_tensor(tensor: &Tensor, order: &[usize]) -> Option<Tensor> {
    let values = tensor.storage_as::<MappedValues>().filter(|v| v.moved.is_none())?;
    let file = values.file.clone().filter(|_| tensor.datum_type() == DatumType::F32)?;
    let shape: Option<Vec<usize>> =
        order.iter().map(|&axis| tensor.shape().get(axis).copied()).collect();
    let moved = Moved { shape: tensor.shape().to_vec(), order: order.to_vec() };
    let moved = MappedValues::new(file, values.halves, Some(moved));
    Some(Tensor::from_storage(DatumType::F32, &shape?, moved))
}

/// The file's bytes of a tensor whose values lie in a file, in the tensor's own type.
pub fn mapped_bytes(tensor: &Tensor) -> Option<&Bytes> {
    let values = tensor.storage_as::<MappedValues>()?;
    values.file.as_ref().filter(|_| !values.halves && values.moved.is_none())
}

/// Reads float32 values of a mapped tensor from place `first` on, as many as `out` holds, without
/// keeping any in memory; `None` for other tensors and places.
pub fn read_mapped(tensor: &Tensor, first: usize, out: &mut [f32]) -> Option<()> {
    let values = tensor.storage_as::<MappedValues>().filter(|v| v.moved.is_none())?;
    let width = if values.halves { 2 } else { 4 };
    let (from, size) = (first.checked_mul(width)?, out.len().checked_mul(width)?);
    let file = values.file.as_ref().filter(|_| tensor.datum_type() == DatumType::F32)?;
    let bytes = file.get(from..from.checked_add(size)?)?;
    if values.halves {
        read_halves(bytes, out);
    } else {
        for (value, bytes) in out.iter_mut().zip(bytes.as_chunks::<4>().0) {
            *value = f32::from_le_bytes(*bytes);
        }
    }
    mmap::release(bytes);
    Some(())
}

/// A constant whose tensor may stay in its file. (tract's own `Const` would read it.)
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MappedConst(pub Arc<Tensor>);

impl Op for MappedConst {
    fn name(&self) -> StaticName {
        "MappedConst".into()
    }

    tract_core::op_as_typed_op!();
}

impl EvalOp for MappedConst {
    tract_core::not_out_of_plan!();

    fn eval(&self, _ctx: &EvalContext, _inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        Ok(tvec!(self.0.clone().into_tvalue()))
    }
}

impl TypedOp for MappedConst {
    fn output_facts(&self, _inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let mut fact = TypedFact::shape_and_dt_of(&self.0);
        fact.konst = Some(self.0.clone());
        Ok(tvec!(fact))
    }

    tract_core::as_op!();
}

impl InferenceRulesOp for MappedConst {
    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        s: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        check_input_arity(inputs, 0)?;
        check_output_arity(outputs, 1)?;
        // not its value: tract would make constants of its own of it
        s.equals(&outputs[0].datum_type, self.0.datum_type())?;
        s.equals(&outputs[0].shape, ShapeFactoid::from(self.0.shape()))?;
        Ok(())
    }

    tract_core::as_op!();
    tract_onnx::tract_hir::to_typed!();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(values: &[f32]) -> Bytes {
        values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>().into()
    }

    #[test]
    fn values_are_read_when_they_are_asked_for() {
        let tensor = mapped_tensor(DatumType::F32, &[2, 2], bytes(&[1.0, -2.0, 0.5, 4.0])).unwrap();
        assert!(tensor.as_plain_ram().is_none());
        assert!(mapped_bytes(&tensor).is_some());
        let mut part = [0.0; 2];
        read_mapped(&tensor, 1, &mut part).unwrap();
        assert_eq!(part, [-2.0, 0.5]);
        assert!(tensor.as_plain_ram().is_none());
        assert!(read_mapped(&tensor, 3, &mut part).is_none());
        let turned = tensor.clone().permute_axes(&[1, 0]).unwrap();
        assert_eq!(turned, tensor2(&[[1f32, 0.5], [-2.0, 4.0]]));
        assert!(tensor.as_plain_ram().is_none());
        assert_eq!(tensor.try_as_plain_ram().unwrap().as_slice::<f32>().unwrap()[3], 4.0);
    }

    #[test]
    fn rows_are_read_by_themselves() {
        let whole =
            mapped_tensor(DatumType::F32, &[3, 2], bytes(&[1., 2., 3., 4., 5., 6.])).unwrap();
        let rows = whole.slice(0, 1, 3).unwrap();
        assert!(mapped_bytes(&rows).is_some() && rows.as_plain_ram().is_none());
        assert_eq!(rows.into_plain_ram().unwrap(), tensor2(&[[3f32, 4.], [5., 6.]]));
        assert!(whole.as_plain_ram().is_none());
        let halves = Bytes::from_static(&[0, 0x3c, 0, 0xc0]);
        let last = widened_tensor(&[2], halves).unwrap().slice(0, 1, 2).unwrap();
        assert_eq!(last.into_plain_ram().unwrap(), tensor1(&[-2f32]));
        let column = whole.slice(1, 1, 2).unwrap();
        assert_eq!(column, tensor2(&[[2f32], [4.], [6.]]));
    }

    #[test]
    fn halves_are_widened() {
        // 1 = 0x3c00, −2 = 0xc000 (IEEE 754 binary16)
        let tensor = widened_tensor(&[2], Bytes::from_static(&[0, 0x3c, 0, 0xc0])).unwrap();
        assert!(mapped_bytes(&tensor).is_none());
        let mut values = [0.0; 2];
        read_mapped(&tensor, 0, &mut values).unwrap();
        assert_eq!(values, [1.0, -2.0]);
        assert_eq!(tensor.into_plain_ram().unwrap(), tensor1(&[1f32, -2.0]));
    }

    #[test]
    fn axes_are_moved_when_the_values_are_read() {
        let tensor =
            mapped_tensor(DatumType::F32, &[2, 3], bytes(&[1., 2., 3., 4., 5., 6.])).unwrap();
        let moved = reordered_tensor(&tensor, &[1, 0]).unwrap();
        assert!(mapped_bytes(&moved).is_none() && read_mapped(&moved, 0, &mut [0.0]).is_none());
        assert_ne!(moved, reordered_tensor(&tensor, &[0, 1]).unwrap());
        let moved = moved.into_plain_ram().unwrap();
        assert_eq!(moved, tensor2(&[[1f32, 4.], [2., 5.], [3., 6.]]));
        assert!(reordered_tensor(&moved, &[1, 0]).is_none());
    }

    #[test]
    fn a_change_is_no_longer_in_the_file() {
        let mut tensor = mapped_tensor(DatumType::F32, &[1], bytes(&[1.0])).unwrap();
        tensor.try_as_plain_ram_mut().unwrap().as_slice_mut::<f32>().unwrap()[0] = 3.0;
        assert!(mapped_bytes(&tensor).is_none());
        assert_eq!(tensor.clone().into_plain_ram().unwrap(), tensor1(&[3f32]));
    }

    #[test]
    fn sizes_must_fit() {
        assert!(mapped_tensor(DatumType::F32, &[3], bytes(&[1.0])).is_err());
        assert!(mapped_tensor(DatumType::F32, &[usize::MAX, 8], bytes(&[1.0])).is_err());
        assert!(mapped_tensor(DatumType::Bool, &[1], Bytes::from_static(&[2])).is_err());
        assert!(widened_tensor(&[2], Bytes::from_static(&[0; 3])).is_err());
    }
}
