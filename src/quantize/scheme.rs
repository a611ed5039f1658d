//! The schemes by name.

use anyhow::{Result, bail};
use std::fmt;
use std::str::FromStr;

/// How a file stores a model's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// Float16 constants, float32 computation.
    Float16,
}

impl Scheme {
    /// The scheme's short name, as in file names.
    pub fn name(self) -> &'static str {
        match self {
            Scheme::Float16 => "f16",
        }
    }

    /// The largest relative difference from the float model that is not an error; of float32 without a scheme.
    pub fn tolerance_of(scheme: Option<Scheme>) -> f64 {
        match scheme {
            None => 1e-5,
            Some(Scheme::Float16) => 2e-2,
        }
    }
}

impl FromStr for Scheme {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Scheme> {
        match text {
            "f16" | "float16" => Ok(Scheme::Float16),
            _ => bail!("unknown scheme '{text}'; a .tflite file can have: f16 (float16)"),
        }
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.name())
    }
}
