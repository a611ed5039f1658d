//! The ends of a plan, and the way between reals and the integers that stand for them there.

use super::{Tensor, f32_values};
use crate::graph::{Dim, ElementType, Quantization};
use crate::ops::datum_type;
use anyhow::{Result, ensure};

/// An input or output of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct Port {
    pub name: String,
    pub element: ElementType,
    pub shape: Vec<Dim>,
    pub quantization: Option<Quantization>,
}

impl Port {
    /// The scale and zero point of integers that stand for reals.
    fn scale(&self) -> Option<(f32, i64)> {
        use ElementType::{I8, I16, U8};
        match self.quantization {
            Some(Quantization::PerTensor { scale, zero_point })
                if matches!(self.element, I8 | U8 | I16) && scale.is_finite() && scale > 0.0 =>
            {
                Some((scale, zero_point))
            }
            _ => None,
        }
    }

    /// Whether reals can go in here, or come out.
    pub fn has_reals(&self) -> bool {
        self.element == ElementType::F32 || self.scale().is_some()
    }

    /// The scale of an 8-bit port, and the integer from 0 to 255, its lowest being 0, that stands for 0.
    pub fn scale_of_bytes(&self) -> Option<(f32, f32)> {
        let (scale, zero_point) = self.scale()?;
        match self.element {
            ElementType::U8 => Some((scale, zero_point as f32)),
            ElementType::I8 => Some((scale, zero_point as f32 + 128.0)),
            _ => None,
        }
    }

    /// float32 values as this port takes them: `round(x / scale) + zero_point`, within its type.
    ///
    /// # Errors
    /// The port takes something else than reals.
    pub fn of_reals(&self, reals: Tensor) -> Result<Tensor> {
        if self.element == ElementType::F32 {
            return Ok(reals);
        }
        let (name, element) = (&self.name, self.element);
        let scale = self.scale();
        ensure!(scale.is_some(), "'{name}' takes {element}, not reals");
        let (scale, zero_point) = scale.unwrap_or((1.0, 0));
        let (low, high) = match element {
            ElementType::I8 => (i64::from(i8::MIN), i64::from(i8::MAX)),
            ElementType::U8 => (0, u8::MAX.into()),
            _ => (i16::MIN.into(), i16::MAX.into()),
        };
        let integers = f32_values(&reals)?.iter();
        let integers: Vec<i64> = integers
            .map(|x| ((x / scale).round() as i64).saturating_add(zero_point).clamp(low, high))
            .collect();
        let integers = Tensor::from_shape(reals.shape(), &integers)?;
        Ok(integers.cast_to_dt(datum_type(element)?)?.into_owned())
    }

    /// What the values that came out of this port stand for: float32 of quantized ones, else as they are.
    pub fn reals(&self, values: &Tensor) -> Result<Tensor> {
        let Some((scale, zero_point)) = self.scale() else { return Ok(values.clone()) };
        let integers = values.cast_to::<i64>()?;
        let integers = integers.try_as_plain_ram()?.as_slice::<i64>()?.iter();
        let reals: Vec<f32> =
            integers.map(|&x| scale * (x.saturating_sub(zero_point)) as f32).collect();
        Tensor::from_shape(values.shape(), &reals)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reals_are_rounded_and_clamped() {
        let port = |element, scale, zero_point| Port {
            name: "x".into(),
            element,
            shape: vec![],
            quantization: Some(Quantization::PerTensor { scale, zero_point }),
        };
        let reals = Tensor::from_shape(&[5], &[0.25f32, -0.25, 100.0, -100.0, f32::NAN]).unwrap();
        let bytes = port(ElementType::U8, 0.5, 3).of_reals(reals.clone()).unwrap();
        assert_eq!(bytes.as_bytes(), [4, 2, 203, 0, 3]);
        let signed = port(ElementType::I8, 0.5, -128).of_reals(reals.clone()).unwrap();
        assert_eq!(signed.as_bytes(), [129, 128, 72, 128, 128]);
        let back = port(ElementType::U8, 0.5, 3).reals(&bytes).unwrap();
        assert_eq!(f32_values(&back).unwrap(), [0.5, -0.5, 100.0, -1.5, 0.0]);
        let plain = Port { quantization: None, ..port(ElementType::U8, 0.5, 3) };
        assert_eq!(port(ElementType::I8, 0.5, -3).scale_of_bytes(), Some((0.5, 125.0)));
        assert_eq!(port(ElementType::I16, 0.5, 0).scale_of_bytes(), None);
        assert!(plain.of_reals(reals).is_err() && !plain.has_reals());
        assert_eq!(plain.reals(&bytes).unwrap(), bytes);
    }
}
