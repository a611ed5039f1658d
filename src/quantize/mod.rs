//! Quantization of lite graphs: a scheme decides what to store how (`plan`), then edits (`apply`).

mod float16;
mod scheme;

pub use float16::Float16Plan;
pub use scheme::Scheme;
