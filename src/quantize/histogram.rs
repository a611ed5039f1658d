//! How often each size of number occurred: bins by a float's sign, exponent and first 7 bits of fraction, so that any range
//! fits, nothing is rescaled, and the order in which numbers and histograms are added does not matter.

use super::parameters::Range;
use serde::{Deserialize, Serialize};

const FRACTIONS: usize = 128;
const PAGES: usize = 512;
/// The bits of a bin's number that are all set where a number is not finite.
const EXPONENT: usize = 0xff * FRACTIONS;
/// So that 32 bits hold any count.
const MOST_AT_ONCE: usize = 1 << 31;
/// Fewer values are counted one by one.
const WORTH_COUNTS: usize = 1 << 12;

fn bin_of(value: f32) -> usize {
    (value.to_bits() >> 16) as usize
}

/// The counts of all bins, each twice: values that follow each other are often alike, and a count that was just written
/// is slow to read again.
#[derive(Debug)]
pub struct Counts([Vec<u32>; 2]);

impl Default for Counts {
    fn default() -> Counts {
        Counts([vec![], vec![]])
    }
}

impl Counts {
    fn add(&mut self, values: &[f32]) {
        self.0.iter_mut().for_each(|counts| counts.resize(PAGES * FRACTIONS, 0));
        let [even, odd] = &mut self.0;
        let (Ok(even), Ok(odd)) = (
            <&mut [u32; PAGES * FRACTIONS]>::try_from(even.as_mut_slice()),
            <&mut [u32; PAGES * FRACTIONS]>::try_from(odd.as_mut_slice()),
        ) else {
            return;
        };
        let (pairs, rest) = values.as_chunks::<2>();
        for [a, b] in pairs {
            even[bin_of(*a)] += 1;
            odd[bin_of(*b)] += 1;
        }
        rest.iter().for_each(|value| even[bin_of(*value)] += 1);
    }

    /// Calls `count` with the bins that are not empty, and empties them.
    fn take(&mut self, mut count: impl FnMut(usize, u64)) {
        for counts in &mut self.0 {
            for (page, counts) in counts.chunks_exact_mut(FRACTIONS).enumerate() {
                if counts.iter().fold(0, |all, count| all | count) == 0 {
                    continue;
                }
                for (fraction, found) in counts.iter_mut().enumerate().filter(|(_, n)| **n > 0) {
                    count(page * FRACTIONS + fraction, std::mem::take(found).into());
                }
            }
        }
    }
}

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

/// A bin's reach, `low` and `high` included.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Span {
    pub low: f32,
    pub high: f32,
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
    /// `counts` are working memory, which many histograms may share.
    pub fn add(&mut self, values: &[f32], counts: &mut Counts) {
        for values in values.chunks(MOST_AT_ONCE) {
            self.add_range(values);
            if values.len() < WORTH_COUNTS {
                values.iter().for_each(|value| self.count(bin_of(*value), 1));
                continue;
            }
            counts.add(values);
            counts.take(|bin, count| self.count(bin, count));
        }
    }

    fn count(&mut self, bin: usize, count: u64) {
        if bin & EXPONENT == EXPONENT {
            self.not_finite += count;
            return;
        }
        let page = self.pages[bin / FRACTIONS].get_or_insert_with(|| Box::new([0; FRACTIONS]));
        page[bin % FRACTIONS] += count;
    }

    fn add_range(&mut self, values: &[f32]) {
        const LANES: usize = 16;
        let (mut min, mut max) = ([f32::INFINITY; LANES], [f32::NEG_INFINITY; LANES]);
        let mut lanes = |values: &[f32]| {
            for (lane, &value) in values.iter().enumerate() {
                let finite = value.abs() < f32::INFINITY;
                min[lane] = if finite && value < min[lane] { value } else { min[lane] };
                max[lane] = if finite && value > max[lane] { value } else { max[lane] };
            }
        };
        let (chunks, rest) = values.as_chunks::<LANES>();
        chunks.iter().for_each(|chunk| lanes(chunk));
        lanes(rest);
        self.min = min.into_iter().fold(self.min, f32::min);
        self.max = max.into_iter().fold(self.max, f32::max);
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

    /// How far the bins reach that are not empty; not beyond the range. Zeros are by themselves.
    pub fn spans(&self) -> Vec<Span> {
        let mut spans = vec![];
        for (place, page) in self.pages.iter().enumerate() {
            let Some(page) = page else { continue };
            for (fraction, &count) in page.iter().enumerate().filter(|(_, count)| **count > 0) {
                let bits = ((place << 7 | fraction) << 16) as u32;
                let (near, far) = match bits & 0x7fff_ffff {
                    0 => (0.0, 0.0),
                    _ => (f32::from_bits(bits), f32::from_bits(bits | 0xffff)),
                };
                let [low, high] =
                    [near.min(far), near.max(far)].map(|v| v.clamp(self.min, self.max));
                spans.push(Span { low, high, count });
            }
        }
        spans
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
        let mut counts = Counts::default();
        whole.add(&values, &mut counts);
        assert_eq!(whole.not_finite, 2);
        assert_eq!(whole.range(), Some(Range { min: -3.5, max: 1e30 }));
        let bins = whole.bins();
        assert_eq!(bins.iter().map(|b| b.count).sum::<u64>(), 7);
        for value in [1.0f32, -3.5, 1e30, -1e-30] {
            let near = |b: &Bin| (b.value - value).abs() <= value.abs() / 128.0;
            assert!(bins.iter().any(near), "{value}");
        }
        for value in [0.0f32, 1.0, 1.001, -3.5, 1e30, -1e-30] {
            let holds = |span: &Span| (span.low..=span.high).contains(&value);
            assert!(whole.spans().iter().any(holds), "{value}");
        }
        assert!(whole.spans().iter().all(|s| s.low <= s.high && s.low >= -3.5 && s.high <= 1e30));
        let (mut a, mut b) = (Histogram::default(), Histogram::default());
        a.add(&values[..4], &mut counts);
        b.add(&values[4..], &mut counts);
        b.merge(&a);
        assert_eq!(b.bins(), bins);
        // many at once, as one by one
        let mut many = Histogram::default();
        many.add(&values.repeat(WORTH_COUNTS)[..WORTH_COUNTS * 9 - 2], &mut counts);
        (0..WORTH_COUNTS - 1).for_each(|_| a.merge(&whole));
        a.add(&values[4..7], &mut counts);
        assert_eq!((many.bins(), many.range()), (a.bins(), a.range()));
        assert_eq!(many.not_finite, 2 * (WORTH_COUNTS as u64 - 1));
        assert_eq!(Histogram::default().range(), None);
    }
}
