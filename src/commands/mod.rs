//! What each subcommand does. Knows neither flags nor printing: options in, an [`Outcome`] out.

pub mod bench;
pub mod compare;
pub mod convert;
pub mod export;
pub mod inputs;
pub mod inspect;
pub mod predict;
pub mod quantize;
mod samples;
pub mod save;
pub mod train;

/// How a command that did not fail ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome<T> {
    Done(T),
    /// The work was done, but a check on it (tolerance, budget) did not hold.
    CheckFailed(T),
    /// The user stopped it.
    Cancelled(String),
}
