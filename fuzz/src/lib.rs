//! What the fuzz targets share: draws, mutations that know the files' structure, and what must hold of any input.

pub mod check;
pub mod check_serve;
pub mod check_tensorflow;
pub mod draw;
pub mod mutate_onnx;
pub mod mutate_tensorflow;
pub mod mutate_text;
pub mod mutate_tflite;
pub mod target;
