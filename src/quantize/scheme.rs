//! The schemes by name.

use super::weights_only::WeightScheme;
use crate::ops::ActivationType;
use anyhow::{Result, bail};
use std::fmt;
use std::str::FromStr;

/// How a file stores a model's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// Float16 constants, float32 computation.
    Float16,
    /// Int8 weights and activations.
    Int8,
    /// Int8 weights, int16 activations.
    Int16x8,
    /// Int8 weights, float32 activations that ops make int8 as they run.
    Dynamic,
    /// Int8 constants, float32 computation.
    Weights8,
    /// Int4 constants, float32 computation.
    Weights4,
}

const ALL: &str = "f16 (float16), dynamic, int8, int16x8, w8, w4";

impl Scheme {
    /// The scheme's short name, as in file names.
    pub fn name(self) -> &'static str {
        match self {
            Scheme::Float16 => "f16",
            Scheme::Int8 => "int8",
            Scheme::Int16x8 => "int16x8",
            Scheme::Dynamic => "dynamic",
            Scheme::Weights8 => "w8",
            Scheme::Weights4 => "w4",
        }
    }

    /// The largest relative difference from the float model that is not an error; of float32 without a scheme.
    /// Integer schemes report, and allow any.
    pub fn tolerance_of(scheme: Option<Scheme>) -> f64 {
        match scheme {
            None => 1e-5,
            Some(Scheme::Float16) => 2e-2,
            Some(
                Scheme::Int8
                | Scheme::Int16x8
                | Scheme::Dynamic
                | Scheme::Weights8
                | Scheme::Weights4,
            ) => f64::INFINITY,
        }
    }

    /// What activations become, where they are quantized on samples.
    pub fn activations(self) -> Option<ActivationType> {
        match self {
            Scheme::Float16 | Scheme::Dynamic | Scheme::Weights8 | Scheme::Weights4 => None,
            Scheme::Int8 => Some(ActivationType::Int8),
            Scheme::Int16x8 => Some(ActivationType::Int16),
        }
    }

    /// What weights become, where activations stay float32.
    pub fn weights(self) -> Option<WeightScheme> {
        match self {
            Scheme::Float16 | Scheme::Int8 | Scheme::Int16x8 => None,
            Scheme::Dynamic => Some(WeightScheme::Dynamic),
            Scheme::Weights8 => Some(WeightScheme::Int8),
            Scheme::Weights4 => Some(WeightScheme::Int4),
        }
    }
}

impl FromStr for Scheme {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Scheme> {
        match text {
            "f16" | "float16" => Ok(Scheme::Float16),
            "int8" => Ok(Scheme::Int8),
            "int16x8" => Ok(Scheme::Int16x8),
            "dynamic" => Ok(Scheme::Dynamic),
            "w8" => Ok(Scheme::Weights8),
            "w4" => Ok(Scheme::Weights4),
            "uint8" | "uint16" => bail!(
                "the scheme '{text}' is one of TensorFlow.js models; a .tflite file can have: {ALL}"
            ),
            _ => bail!("unknown scheme '{text}'; a .tflite file can have: {ALL}"),
        }
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scheme_is_found_by_its_name_and_listed() {
        let listed: Vec<&str> = ALL.split(", ").filter_map(|s| s.split(' ').next()).collect();
        assert_eq!(listed, ["f16", "dynamic", "int8", "int16x8", "w8", "w4"]);
        for name in listed {
            assert_eq!(name.parse::<Scheme>().unwrap().name(), name);
        }
        for text in ["uint8", "uint16", "w2"] {
            let said = text.parse::<Scheme>().unwrap_err().to_string();
            assert!(said.contains(text) && said.contains(ALL), "{said}");
        }
    }
}
