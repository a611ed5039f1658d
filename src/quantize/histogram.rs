//! How often each size of number occurred: bins by a float's sign, exponent and first 7 bits of fraction, so that any range
//! fits, nothing is rescaled, and the order in which numbers and histograms are added does not matter.

use super::parameters::Range;
use serde::{Deserialize, Serialize};

const FRACTIONS: usize = 128;
const PAGES: usize = 512;

/// Counts of finite float32 numbers, and how many were not finite.
#[derive(Debug, Clone)]
pub struct Histogram {
    /// By sign and exponent, then by fraction.
    pages: Vec<Option<Box<[u64; FRACTIONS]>>>,
    min: f32,
    max: f32,
    pub not_finite: u64,
}

/// A bin: its middle and how many numbers fell into it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Bin {
    pub value: f32,
    pub count: u64,
}

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram {
            pages: vec![None; PAGES],
            min: f32::INFINITY,
            max: f32::NEG_INFINITY,
            not_finite: 0,
        }
    }
}

impl Histogram {
    pub fn add(&mut self, values: &[f32]) {
        for &value in values {
            if !value.is_finite() {
                self.not_finite += 1;
                continue;
            }
            let bits = (value.to_bits() >> 16) as usize;
            let page = self.pages[bits >> 7].get_or_insert_with(|| Box::new([0; FRACTIONS]));
            page[bits & (FRACTIONS - 1)] += 1;
            self.min = self.min.min(value);
            self.max = self.max.max(value);
        }
    }

    pub fn merge(&mut self, other: &Histogram) {
        for (page, other) in self.pages.iter_mut().zip(&other.pages) {
            let Some(other) = other else { continue };
            let page = page.get_or_insert_with(|| Box::new([0; FRACTIONS]));
            page.iter_mut().zip(other.iter()).for_each(|(count, other)| *count += other);
        }
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
        self.not_finite += other.not_finite;
    }

    /// Of the finite numbers, if there were any.
    pub fn range(&self) -> Option<Range> {
        (self.min <= self.max).then_some(Range { min: self.min, max: self.max })
    }

    /// The bins that are not empty, by rising value; a bin's middle is not beyond the range.
    pub fn bins(&self) -> Vec<Bin> {
        let mut bins = vec![];
        for (place, page) in self.pages.iter().enumerate() {
            let Some(page) = page else { continue };
            for (fraction, &count) in page.iter().enumerate().filter(|(_, count)| **count > 0) {
                let bits = ((place << 7 | fraction) << 16) as u32;
                let value = f32::from_bits(bits | 0x8000);
                let value = if bits & 0x7fff_ffff == 0 { 0.0 } else { value };
                bins.push(Bin { value: value.clamp(self.min, self.max), count });
            }
        }
        bins.sort_by(|a, b| a.value.total_cmp(&b.value));
        bins
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_any_size_are_counted_whatever_the_order() {
        let values = [0.0, -0.0, 1.0, 1.001, -3.5, 1e30, -1e-30, f32::NAN, f32::INFINITY];
        let mut whole = Histogram::default();
        whole.add(&values);
        assert_eq!(whole.not_finite, 2);
        assert_eq!(whole.range(), Some(Range { min: -3.5, max: 1e30 }));
        let bins = whole.bins();
        assert_eq!(bins.iter().map(|b| b.count).sum::<u64>(), 7);
        for value in [1.0f32, -3.5, 1e30, -1e-30] {
            let near = |b: &Bin| (b.value - value).abs() <= value.abs() / 128.0;
            assert!(bins.iter().any(near), "{value}");
        }
        let (mut a, mut b) = (Histogram::default(), Histogram::default());
        a.add(&values[..4]);
        b.add(&values[4..]);
        b.merge(&a);
        assert_eq!(b.bins(), bins);
        assert_eq!(Histogram::default().range(), None);
    }
}
