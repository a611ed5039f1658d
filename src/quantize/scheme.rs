//! The schemes by name.

use super::weights_only::WeightScheme;
use crate::ops::ActivationType;
use crate::write::WeightStorage;
use anyhow::{Context, Result, bail};
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
    /// Uint8 weights with a scale and a least value each, that TensorFlow.js widens as it loads.
    Uint8,
    /// The same of 16 bits.
    Uint16,
}

/// A kind of file that has schemes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SchemeTarget {
    Tflite,
    TensorFlowJs,
}

const ALL: [Scheme; 8] = [
    Scheme::Float16,
    Scheme::Dynamic,
    Scheme::Int8,
    Scheme::Int16x8,
    Scheme::Weights8,
    Scheme::Weights4,
    Scheme::Uint8,
    Scheme::Uint16,
];

impl SchemeTarget {
    /// `a .tflite file has f16 (float16), …`.
    fn schemes(self) -> String {
        let names = ALL.iter().filter(|scheme| scheme.is_of(self));
        let names: Vec<&str> = names
            .map(|scheme| match scheme {
                Scheme::Float16 => "f16 (float16)",
                scheme => scheme.name(),
            })
            .collect();
        let what = match self {
            SchemeTarget::Tflite => "a .tflite file",
            SchemeTarget::TensorFlowJs => "a TensorFlow.js model",
        };
        format!("{what} has {}", names.join(", "))
    }
}

impl Scheme {
    pub fn is_of(self, target: SchemeTarget) -> bool {
        match self {
            Scheme::Float16 => true,
            Scheme::Int8
            | Scheme::Int16x8
            | Scheme::Dynamic
            | Scheme::Weights8
            | Scheme::Weights4 => target == SchemeTarget::Tflite,
            Scheme::Uint8 | Scheme::Uint16 => target == SchemeTarget::TensorFlowJs,
        }
    }

    /// # Errors
    /// `target` lacks the scheme; lists what it has.
    pub fn check(self, target: SchemeTarget) -> Result<()> {
        let schemes = target.schemes();
        match target {
            _ if self.is_of(target) => Ok(()),
            SchemeTarget::Tflite => {
                bail!("the scheme {self} is one of TensorFlow.js models (--to tfjs); {schemes}")
            }
            SchemeTarget::TensorFlowJs => {
                bail!("the scheme {self} is one of .tflite files (--to tflite); {schemes}")
            }
        }
    }

    /// The scheme's short name, as in file names.
    pub fn name(self) -> &'static str {
        match self {
            Scheme::Float16 => "f16",
            Scheme::Int8 => "int8",
            Scheme::Int16x8 => "int16x8",
            Scheme::Dynamic => "dynamic",
            Scheme::Weights8 => "w8",
            Scheme::Weights4 => "w4",
            Scheme::Uint8 => "uint8",
            Scheme::Uint16 => "uint16",
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
                | Scheme::Weights4
                | Scheme::Uint8
                | Scheme::Uint16,
            ) => f64::INFINITY,
        }
    }

    /// What activations become, where they are quantized on samples.
    pub fn activations(self) -> Option<ActivationType> {
        match self {
            Scheme::Float16
            | Scheme::Dynamic
            | Scheme::Weights8
            | Scheme::Weights4
            | Scheme::Uint8
            | Scheme::Uint16 => None,
            Scheme::Int8 => Some(ActivationType::Int8),
            Scheme::Int16x8 => Some(ActivationType::Int16),
        }
    }

    /// What weights become in a `.tflite`, where activations stay float32.
    pub fn weights(self) -> Option<WeightScheme> {
        match self {
            Scheme::Float16 | Scheme::Int8 | Scheme::Int16x8 | Scheme::Uint8 | Scheme::Uint16 => {
                None
            }
            Scheme::Dynamic => Some(WeightScheme::Dynamic),
            Scheme::Weights8 => Some(WeightScheme::Int8),
            Scheme::Weights4 => Some(WeightScheme::Int4),
        }
    }

    /// What weights become in a TensorFlow.js model.
    pub fn storage(self) -> Option<WeightStorage> {
        match self {
            Scheme::Float16 => Some(WeightStorage::Float16),
            Scheme::Uint8 => Some(WeightStorage::Uint8),
            Scheme::Uint16 => Some(WeightStorage::Uint16),
            Scheme::Int8
            | Scheme::Int16x8
            | Scheme::Dynamic
            | Scheme::Weights8
            | Scheme::Weights4 => None,
        }
    }
}

impl FromStr for Scheme {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Scheme> {
        let name = if text == "float16" { "f16" } else { text };
        let found = ALL.into_iter().find(|scheme| scheme.name() == name);
        found.with_context(|| {
            let [tflite, js] = [SchemeTarget::Tflite, SchemeTarget::TensorFlowJs];
            format!("unknown scheme '{text}'; {}; {}", tflite.schemes(), js.schemes())
        })
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
    fn every_scheme_is_found_by_its_name() {
        for scheme in ALL {
            assert_eq!(scheme.name().parse::<Scheme>().unwrap(), scheme);
        }
        assert_eq!("float16".parse::<Scheme>().unwrap(), Scheme::Float16);
        let said = "w2".parse::<Scheme>().unwrap_err().to_string();
        for part in ["'w2'", "a .tflite file has f16 (float16), dynamic, int8, int16x8, w8, w4"] {
            assert!(said.contains(part), "{said}");
        }
        assert!(said.ends_with("a TensorFlow.js model has f16 (float16), uint8, uint16"), "{said}");
    }

    #[test]
    fn a_scheme_that_a_target_lacks_is_told_with_those_it_has() {
        let said = |scheme: Scheme, target| scheme.check(target).map_err(|e| e.to_string());
        use SchemeTarget::{TensorFlowJs, Tflite};
        let uint8 = said(Scheme::Uint8, Tflite).unwrap_err();
        assert!(uint8.contains("--to tfjs") && uint8.ends_with("int16x8, w8, w4"), "{uint8}");
        let int8 = said(Scheme::Int8, TensorFlowJs).unwrap_err();
        assert!(int8.ends_with("has f16 (float16), uint8, uint16"), "{int8}");
        for scheme in ALL {
            assert_eq!(said(scheme, TensorFlowJs).is_ok(), scheme.storage().is_some());
        }
        assert!(said(Scheme::Float16, Tflite).is_ok());
    }
}
