#![doc = include_str!("README.md")]

pub mod data;
pub mod format;
pub mod graph;
pub mod kernels;
pub mod lower;
pub mod model;
pub mod ops;
pub mod progress;
pub mod raise;
pub mod read;
pub mod runtime;
pub mod tract;
pub mod train;
pub mod write;
