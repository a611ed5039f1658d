#![doc = include_str!("README.md")]
// Top to bottom: a module imports only modules below it. tests/layering.rs holds them to it.

pub mod cli;
pub mod commands;
pub mod serve;
pub mod train;
pub mod quantize;
pub mod compare;
pub mod model;
pub mod runtime;
pub mod lower;
pub mod raise;
pub mod read;
pub mod write;
pub mod passes;
pub mod ops;
pub mod tract;
pub mod kernels;
pub mod graph;
pub mod data;
pub mod format;
pub mod progress;
