//! The schemes by name.

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
}

const ALL: &str = "f16 (float16), int8, int16x8";

impl Scheme {
    /// The scheme's short name, as in file names.
    pub fn name(self) -> &'static str {
        match self {
            Scheme::Float16 => "f16",
            Scheme::Int8 => "int8",
            Scheme::Int16x8 => "int16x8",
        }
    }

    /// The largest relative difference from the float model that is not an error; of float32 without a scheme.
    /// Integer schemes report, and allow any.
    pub fn tolerance_of(scheme: Option<Scheme>) -> f64 {
        match scheme {
            None => 1e-5,
            Some(Scheme::Float16) => 2e-2,
            Some(Scheme::Int8 | Scheme::Int16x8) => f64::INFINITY,
        }
    }

    /// What activations become, where they are quantized on samples.
    pub fn activations(self) -> Option<ActivationType> {
        match self {
            Scheme::Float16 => None,
            Scheme::Int8 => Some(ActivationType::Int8),
            Scheme::Int16x8 => Some(ActivationType::Int16),
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
            _ => bail!("unknown scheme '{text}'; a .tflite file can have: {ALL}"),
        }
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.name())
    }
}
