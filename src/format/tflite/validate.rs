//! The checks of a model that need no knowledge of what an operator computes: every index is in
//! range, every constant has the length that its shape says, quantization fits the shape.

use super::{
    Model, Place, QuantizationDetails, QuantizationParameters, Result, SubGraph, Tensor,
    TfliteError,
};

impl Model {
    /// Checks all that `parse` promises.
    pub fn validate(&self) -> Result<()> {
        if self.buffers.first().is_none_or(|buffer| !buffer.data.is_empty()) {
            return Err(TfliteError::FirstBufferNotEmpty);
        }
        for (index, entry) in self.metadata.iter().enumerate() {
            let place = Place { part: "metadata", index, subgraph: None };
            check_index(place, "buffer", entry.buffer.into(), self.buffers.len())?;
        }
        for (index, &buffer) in self.metadata_buffer.iter().enumerate() {
            let place = Place { part: "metadata_buffer", index, subgraph: None };
            check_index(place, "buffer", buffer.into(), self.buffers.len())?;
        }
        for (index, signature) in self.signature_defs.iter().enumerate() {
            let place = Place { part: "signature", index, subgraph: None };
            let subgraph = signature.subgraph_index;
            check_index(place, "subgraph", subgraph.into(), self.subgraphs.len())?;
            let count = self.subgraphs[subgraph as usize].tensors.len();
            for map in signature.inputs.iter().chain(&signature.outputs) {
                check_index(place, "tensor", map.tensor_index.into(), count)?;
            }
        }
        for (index, subgraph) in self.subgraphs.iter().enumerate() {
            self.validate_subgraph(index, subgraph)?;
        }
        Ok(())
    }

    fn validate_subgraph(&self, number: usize, subgraph: &SubGraph) -> Result<()> {
        let tensors = subgraph.tensors.len();
        for (part, indices) in [("input", &subgraph.inputs), ("output", &subgraph.outputs)] {
            for (index, &tensor) in indices.iter().enumerate() {
                let place = Place { part, index, subgraph: Some(number) };
                check_index(place, "tensor", tensor.into(), tensors)?;
            }
        }
        for (index, tensor) in subgraph.tensors.iter().enumerate() {
            let place = Place { part: "tensor", index, subgraph: Some(number) };
            self.validate_tensor(place, tensor, tensors)?;
        }
        for (index, operator) in subgraph.operators.iter().enumerate() {
            let place = Place { part: "operator", index, subgraph: Some(number) };
            let codes = self.operator_codes.len();
            check_index(place, "operator code", operator.opcode_index.into(), codes)?;
            for &tensor in operator.inputs.iter().chain(&operator.intermediates) {
                if tensor != -1 {
                    check_index(place, "tensor", tensor.into(), tensors)?;
                }
            }
            for &tensor in &operator.outputs {
                check_index(place, "tensor", tensor.into(), tensors)?;
            }
            for called in operator.builtin_options.called_subgraphs() {
                check_index(place, "subgraph", called, self.subgraphs.len())?;
            }
        }
        Ok(())
    }

    fn validate_tensor(&self, place: Place, tensor: &Tensor, tensors: usize) -> Result<()> {
        let negative = |shape: &[i32], least| {
            let dimension = shape.iter().copied().find(|&dimension| dimension < least);
            dimension.map_or(Ok(()), |dimension| {
                Err(TfliteError::NegativeDimension { place, dimension })
            })
        };
        negative(&tensor.shape, 0)?;
        negative(&tensor.shape_signature, -1)?;
        if !tensor.shape_signature.is_empty() && tensor.shape_signature.len() != tensor.shape.len()
        {
            return Err(TfliteError::SignatureRank { place });
        }
        for variant in &tensor.variant_tensors {
            negative(&variant.shape, -1)?;
        }
        check_index(place, "buffer", tensor.buffer.into(), self.buffers.len())?;
        let found = self.buffers[tensor.buffer as usize].data.len() as u64;
        match (tensor.tensor_type.bits(), tensor.byte_length()) {
            (Some(_), None) => return Err(TfliteError::ShapeTooLarge { place }),
            (Some(_), Some(needed)) if found != 0 && found != needed => {
                return Err(TfliteError::DataLength { place, needed, found });
            }
            _ => {}
        }
        match &tensor.quantization {
            Some(quantization) => quantization.validate(place, &tensor.shape, tensors),
            None => Ok(()),
        }
    }
}

impl QuantizationParameters {
    /// The same conditions under which LiteRT accepts a tensor.
    fn validate(&self, place: Place, shape: &[i32], tensors: usize) -> Result<()> {
        let wrong = |reason| Err(TfliteError::Quantization { place, reason });
        let (scales, zero_points) = match &self.details {
            QuantizationDetails::None => {
                if self.scale.is_empty() {
                    return Ok(());
                }
                if self.scale.len() != self.zero_point.len() {
                    return wrong("scales and zero points differ in number");
                }
                let axis = usize::try_from(self.quantized_dimension).ok();
                let channels = axis.and_then(|axis| shape.get(axis)).map(|&count| count as usize);
                return match (self.scale.len(), channels) {
                    (1, Some(_)) => Ok(()),
                    (1, None) if shape.is_empty() && axis.is_some() => Ok(()),
                    (_, None) => wrong("the quantized dimension is out of range"),
                    (scales, Some(channels)) if scales == channels => Ok(()),
                    _ => wrong("scales and channels differ in number"),
                };
            }
            QuantizationDetails::Custom(_) => return Ok(()),
            QuantizationDetails::Blockwise(details) => {
                if details.block_size < 0 || details.block_shape.iter().any(|&size| size < 0) {
                    return wrong("negative block size");
                }
                (details.scales, details.zero_points)
            }
            QuantizationDetails::MultiAxis(details) => {
                if details.block_size < 0 {
                    return wrong("negative block size");
                }
                for &axis in &details.quantized_dimensions {
                    check_index(place, "quantized dimension", axis.into(), shape.len())?;
                }
                (details.scales, details.zero_points)
            }
        };
        check_index(place, "scales tensor", scales.into(), tensors)?;
        if zero_points != -1 {
            check_index(place, "zero points tensor", zero_points.into(), tensors)?;
        }
        Ok(())
    }
}

fn check_index(place: Place, what: &'static str, index: i64, count: usize) -> Result<()> {
    match usize::try_from(index) {
        Ok(number) if number < count => Ok(()),
        _ => Err(TfliteError::IndexOutOfRange { place, what, index, count }),
    }
}
