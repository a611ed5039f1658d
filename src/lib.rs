#![doc = include_str!("README.md")]

pub mod train;
pub mod runtime;
pub mod lower;
pub mod raise;
pub mod read;
pub mod write;
pub mod ops;
pub mod tract;
pub mod kernels;
pub mod graph;
pub mod data;
pub mod format;
pub mod progress;
