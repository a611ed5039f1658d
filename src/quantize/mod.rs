//! Quantization of lite graphs: what was seen on samples (`calibrate`) gives ranges, a scheme decides (`plan`), then
//! edits (`apply`), and says what each layer lost (`layers`).

mod acceleration;
mod apply;
mod bias_correction;
mod budget;
mod calibrate;
mod carried;
mod equalize;
mod float16;
mod histogram;
mod int4;
mod integers;
mod judge;
mod keep_float;
mod keep_sums;
mod layer_histogram;
mod layers;
mod parameters;
mod plan;
mod ranges;
mod saved_ranges;
mod scheme;
mod weight_choice;
mod weights_only;

pub use crate::compare::Samples;
pub use acceleration::{Slowdown, slowdowns};
pub use apply::EndType;
pub use budget::BudgetReport;
pub use calibrate::Calibration;
pub use carried::{CarriedReport, keep_carried};
pub use float16::{Float16Plan, widen_constants};
pub use integers::{FloatLayer, IntegerOptions, IntegerReport, SavedRanges, quantize_to_integers};
pub use layer_histogram::LayerHistogram;
pub use layers::{LayerLoss, is_quantized};
pub use parameters::Range;
pub use ranges::{ChosenRange, RangeMethod};
pub use scheme::{Scheme, SchemeTarget};
pub use weight_choice::{Glob, SchemeChoice, WeightChoices};
pub use weights_only::{WeightOptions, WeightReport, WeightScheme, quantize_weights};
