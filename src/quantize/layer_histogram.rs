//! The values of a layer's result, for a picture of them.

use super::histogram::{Histogram, Span};
use super::layers::LayerLoss;
use super::parameters::Range;

/// How often the float32 graph's values of a layer occurred in calibration, and what quantization left of them.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerHistogram {
    pub name: String,
    pub op: String,
    pub spans: Vec<Span>,
    pub seen: Range,
    /// As the integers reach; what is beyond is clipped.
    pub range: Range,
    pub clipped: f64,
    pub own_sqnr_db: Option<f64>,
    pub weights_sqnr_db: Option<f64>,
}

impl LayerHistogram {
    /// `None` where nothing finite was seen.
    pub fn new(layer: &LayerLoss, histogram: &Histogram) -> Option<LayerHistogram> {
        Some(LayerHistogram {
            name: layer.name.clone(),
            op: layer.op.clone(),
            spans: histogram.spans(),
            seen: histogram.range()?,
            range: layer.range,
            clipped: layer.clipped,
            own_sqnr_db: layer.own_sqnr_db,
            weights_sqnr_db: layer.weights_sqnr_db,
        })
    }

    /// The least and the largest of what was seen and what the integers reach, not the same.
    pub fn axis(&self) -> (f32, f32) {
        let Range { min, max } = self.seen.union(self.range);
        let margin = ((max as f64 - min as f64) * 0.03).min(f32::MAX as f64 / 4.0) as f32;
        let margin = if margin > 0.0 { margin } else { 1.0 };
        ((min - margin).max(f32::MIN / 2.0), (max + margin).min(f32::MAX / 2.0))
    }

    /// Counts in `columns` of one width from `low` to `high`; those of a span are spread over it.
    pub fn columns(&self, low: f32, high: f32, columns: usize) -> Vec<f64> {
        let mut counts = vec![0.0; columns];
        let width = (high as f64 - low as f64) / columns as f64;
        if columns == 0 || width <= 0.0 {
            return counts;
        }
        let place = |value: f32| (value as f64 - low as f64) / width;
        let last = columns - 1;
        for span in &self.spans {
            let (from, to) = (place(span.low).max(0.0), place(span.high).min(columns as f64));
            let first = (from as usize).min(last);
            if to - from < 1e-9 {
                counts[first] += span.count as f64;
                continue;
            }
            for (column, count) in counts.iter_mut().enumerate().skip(first) {
                let inside = to.min(column as f64 + 1.0) - from.max(column as f64);
                if inside <= 0.0 {
                    break;
                }
                *count += span.count as f64 * inside / (to - from);
            }
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::super::histogram::Counts;
    use super::*;

    #[test]
    fn counts_are_spread_over_columns_and_none_is_lost() {
        let (mut histogram, mut counts) = (Histogram::default(), Counts::default());
        let values: Vec<f32> = (0..1_000).map(|i| i as f32 / 1_000.0).collect();
        histogram.add(&values, &mut counts);
        histogram.add(&[-1.0, 0.0, 0.0], &mut counts);
        let layer = LayerLoss {
            name: "x".into(),
            op: "ADD".into(),
            weights_sqnr_db: None,
            own_sqnr_db: None,
            sqnr_db: None,
            clipped: 0.0,
            range: Range { min: 0.0, max: 2.0 },
            scale: 1.0,
            zero_point: 0,
            node: 0,
        };
        let histogram = LayerHistogram::new(&layer, &histogram).unwrap();
        assert_eq!(histogram.seen, Range { min: -1.0, max: 0.999 });
        let (low, high) = histogram.axis();
        assert!(low < -1.0 && high > 2.0, "{low} {high}");
        let counts = histogram.columns(-1.0, 1.0, 20);
        assert!((counts.iter().sum::<f64>() - 1_003.0).abs() < 1e-6);
        assert_eq!(counts[0], 1.0);
        assert!(counts[1..10].iter().all(|&count| count == 0.0));
        assert!(counts[11..].iter().all(|count| (count - 100.0).abs() < 6.0), "{counts:?}");
        assert!(LayerHistogram::new(&layer, &Histogram::default()).is_none());
    }

    #[test]
    fn one_value_has_an_axis_too() {
        let mut histogram = Histogram::default();
        histogram.add(&[0.0; 9], &mut Counts::default());
        let mut layer = LayerLoss {
            name: "x".into(),
            op: "ADD".into(),
            weights_sqnr_db: None,
            own_sqnr_db: None,
            sqnr_db: None,
            clipped: 0.0,
            range: Range { min: 0.0, max: 0.0 },
            scale: 1.0,
            zero_point: 0,
            node: 0,
        };
        let zeros = LayerHistogram::new(&layer, &histogram).unwrap();
        assert_eq!(zeros.axis(), (-1.0, 1.0));
        assert_eq!(zeros.columns(-1.0, 1.0, 4), [0.0, 0.0, 9.0, 0.0]);
        layer.range = Range { min: f32::MIN, max: f32::MAX };
        let (low, high) = LayerHistogram::new(&layer, &histogram).unwrap().axis();
        assert!(low.is_finite() && high.is_finite() && (high - low).is_finite());
    }
}
