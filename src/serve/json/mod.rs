//! JSON bodies, read straight into tensors and written from them. Knows neither HTTP nor models beyond their ports.

pub mod examples;
pub mod scan;
pub mod tensors;
pub mod write;
