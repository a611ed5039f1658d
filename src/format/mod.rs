//! Bytes only: the file formats that the rest of the program reads and writes, as plain values.
//! Knows no ops and no graphs; decides nothing about what the values mean.

pub mod atomic;
pub mod base64;
pub mod flatbuffer;
pub mod hdf5;
pub mod idx;
pub mod mmap;
pub mod npy;
pub mod tensorflow;
pub mod tflite;
pub mod tflite_metadata;
