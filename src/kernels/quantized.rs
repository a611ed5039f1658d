//! Loops of quantized ops: products of bytes, requantization, sums of two values. All is integer arithmetic that
//! wraps, so every variant gives the same bits whatever its order.

use super::fixed_point::Multiplier;
use super::instruction_set::multiversioned;

/// Columns of a panel.
pub(super) const PANEL: usize = 32;

/// Filters of signed bytes for [`multiply_rows`].
///
/// In panels of 32: of four values of the depth those of all filters, filter by filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackedFilters {
    depth: usize,
    count: usize,
    panels: Vec<i8>,
    sums: Vec<i32>,
}

impl PackedFilters {
    /// `filters` are rows of `depth` values, at least one.
    pub fn new(filters: &[i8], depth: usize) -> PackedFilters {
        assert!(depth > 0 && filters.len().is_multiple_of(depth), "filters of {depth} values");
        let count = filters.len() / depth;
        let row_len = depth.next_multiple_of(4);
        let mut panels = vec![0; count.next_multiple_of(PANEL) * row_len];
        for (column, filter) in filters.chunks_exact(depth).enumerate() {
            let panel = &mut panels[column / PANEL * PANEL * row_len..];
            for (k, &value) in filter.iter().enumerate() {
                panel[(k / 4 * PANEL + column % PANEL) * 4 + k % 4] = value;
            }
        }
        let sum = |filter: &[i8]| filter.iter().fold(0i32, |sum, &v| sum.wrapping_add(v.into()));
        let sums = filters.chunks_exact(depth).map(sum).collect();
        PackedFilters { depth, count, panels, sums }
    }

    pub fn count(&self) -> usize {
        self.count
    }

    /// The sum of each filter's values.
    pub fn sums(&self) -> &[i32] {
        &self.sums
    }

    /// The length of a row for [`multiply_rows`]: the depth, rounded up to four.
    pub fn row_len(&self) -> usize {
        self.depth.next_multiple_of(4)
    }

    /// The length of a row of results: the number of filters, rounded up to a panel.
    pub fn result_len(&self) -> usize {
        self.count.next_multiple_of(PANEL)
    }
}

/// Whether this machine multiplies bytes faster than [`i16_products`] multiplies words.
pub fn has_byte_products() -> bool {
    #[cfg(target_arch = "x86_64")]
    return super::quantized_vnni::is_in_use();
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// The products of rows of unsigned bytes with all filters. `out` gets [`PackedFilters::result_len`] sums a row, 0 past
/// the last filter; what lies beyond the depth in a row does not count.
///
/// # Panics
/// The slices do not fit.
pub fn multiply_rows(rows: &[u8], filters: &PackedFilters, out: &mut [i32]) {
    let (row_len, result_len) = (filters.row_len(), filters.result_len());
    assert!(rows.len().is_multiple_of(row_len), "rows of {row_len} bytes");
    assert_eq!(rows.len() / row_len * result_len, out.len(), "rows of {result_len} sums");
    #[cfg(target_arch = "x86_64")]
    if super::quantized_vnni::is_in_use() {
        return super::quantized_vnni::multiply_rows(
            rows,
            &filters.panels,
            row_len,
            result_len,
            out,
        );
    }
    multiply_rows_scalar(rows, filters, out);
}

/// [`multiply_rows`] as it is defined.
fn multiply_rows_scalar(rows: &[u8], filters: &PackedFilters, out: &mut [i32]) {
    let (row_len, result_len) = (filters.row_len(), filters.result_len());
    for (row, out) in rows.chunks_exact(row_len).zip(out.chunks_exact_mut(result_len.max(1))) {
        for (panel, out) in
            filters.panels.chunks_exact(PANEL * row_len).zip(out.chunks_exact_mut(PANEL))
        {
            out.fill(0);
            for (values, filters) in row.chunks_exact(4).zip(panel.chunks_exact(4 * PANEL)) {
                for (sum, filter) in out.iter_mut().zip(filters.chunks_exact(4)) {
                    for (&value, &weight) in values.iter().zip(filter) {
                        *sum = sum.wrapping_add(i32::from(value) * i32::from(weight));
                    }
                }
            }
        }
    }
}

/// What brings sums of products to bytes: of each column a bias and a positive multiplier, then the zero point and the
/// bounds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ByteScaling {
    biases: Vec<i32>,
    mantissas: Vec<i32>,
    left: Vec<i32>,
    right: Vec<i32>,
    zero_point: i32,
    bounds: [i32; 2],
}

impl ByteScaling {
    /// `None` of a multiplier below 0.
    pub fn new(
        biases: Vec<i32>,
        multipliers: &[Multiplier],
        zero_point: i32,
        bounds: [i32; 2],
    ) -> Option<ByteScaling> {
        let of = |part: fn(&Multiplier) -> i32| multipliers.iter().map(part).collect::<Vec<_>>();
        let positive = multipliers.iter().all(|m| m.mantissa >= 0);
        (positive && biases.len() == multipliers.len()).then(|| ByteScaling {
            biases,
            mantissas: of(|m| m.mantissa),
            left: of(|m| m.shift.max(0)),
            right: of(|m| (-m.shift).max(0)),
            zero_point,
            bounds,
        })
    }
}

multiversioned! {
    /// out = the byte for each column's sum and bias, all of them with `added`; i8 as its bits.
    pub fn scale_to_bytes(sums: &[i32], added: i32, scaling: &ByteScaling, out: &mut [u8])
        = scale_to_bytes_body, scale_to_bytes_on;
    /// out = the products of a row with rows of weights, as many as it has places.
    pub fn i16_products(row: &[i16], weights: &[i16], out: &mut [i32])
        = i16_products_body, i16_products_on;
    /// sums = of each channel the products of pixels and weights over `taps`: pairs of a pixel and a row of weights,
    /// both as long as `sums`.
    pub fn depthwise_sums(pixels: &[i16], weights: &[i16], taps: &[(usize, usize)], sums: &mut [i32])
        = depthwise_sums_body, depthwise_sums_on;
    /// out = the byte for each pair of bytes.
    pub fn add_bytes(x: &[u8], y: &[u8], op: &ByteSum, out: &mut [u8]) = add_bytes_body, add_bytes_on;
    /// out = byte ^ flip − zero.
    pub fn centre_bytes(bytes: &[u8], flip: u8, zero: i16, out: &mut [i16])
        = centre_bytes_body, centre_bytes_on;
    /// out = byte ^ flip.
    pub fn flip_bytes(bytes: &[u8], flip: u8, out: &mut [u8]) = flip_bytes_body, flip_bytes_on;
    /// out = the larger of both bytes, after ^ flip.
    pub fn fold_largest(bytes: &[u8], flip: u8, out: &mut [u8]) = fold_largest_body, fold_largest_on;
    /// sums += byte ^ flip.
    pub fn add_bytes_to(bytes: &[u8], flip: u8, sums: &mut [i32]) = add_bytes_to_body, add_bytes_to_on;
}

/// As `fixed_point::doubled_high_product` of a `mantissa` that is not negative.
#[inline(always)]
fn high_product(x: i32, mantissa: i32) -> i32 {
    ((i64::from(x) * i64::from(mantissa) + (1 << 30)) >> 31) as i32
}

/// As `fixed_point::divide_by_power`.
#[inline(always)]
fn shifted_right(x: i32, right: i32) -> i32 {
    let mask = (1u32 << (right & 31)).wrapping_sub(1) as i32;
    let threshold = (mask >> 1) + i32::from(x < 0);
    (x >> (right & 31)) + i32::from(x & mask > threshold)
}

#[inline(always)]
fn scale_to_bytes_body(sums: &[i32], added: i32, scaling: &ByteScaling, out: &mut [u8]) {
    let count = out.len();
    let (sums, biases) = (&sums[..count], &scaling.biases[..count]);
    let (mantissas, left) = (&scaling.mantissas[..count], &scaling.left[..count]);
    let right = &scaling.right[..count];
    let [low, high] = scaling.bounds;
    for i in 0..count {
        let sum = sums[i].wrapping_add(biases[i]).wrapping_add(added).wrapping_shl(left[i] as u32);
        let scaled = shifted_right(high_product(sum, mantissas[i]), right[i]);
        out[i] = scaled.wrapping_add(scaling.zero_point).min(high).max(low) as u8;
    }
}

#[inline(always)]
fn i16_products_body(row: &[i16], weights: &[i16], out: &mut [i32]) {
    if row.is_empty() {
        return out.fill(0);
    }
    for (out, weights) in out.iter_mut().zip(weights.chunks_exact(row.len())) {
        let mut sum = 0i32;
        for (&a, &b) in row.iter().zip(weights) {
            sum = sum.wrapping_add(i32::from(a) * i32::from(b));
        }
        *out = sum;
    }
}

#[inline(always)]
fn depthwise_sums_body(pixels: &[i16], weights: &[i16], taps: &[(usize, usize)], sums: &mut [i32]) {
    const WIDTH: usize = 32;
    let channels = sums.len();
    let (wide, rest) = sums.as_chunks_mut::<WIDTH>();
    let rest_at = channels - rest.len();
    for (part, sums) in wide.iter_mut().enumerate() {
        let mut found = [0i32; WIDTH];
        for &(pixel, tap) in taps {
            let x = &pixels[pixel * channels + part * WIDTH..][..WIDTH];
            let w = &weights[tap * channels + part * WIDTH..][..WIDTH];
            for i in 0..WIDTH {
                found[i] = found[i].wrapping_add(i32::from(x[i]) * i32::from(w[i]));
            }
        }
        *sums = found;
    }
    for (i, sum) in rest.iter_mut().enumerate() {
        *sum = 0;
        for &(pixel, tap) in taps {
            let x = pixels[pixel * channels + rest_at + i];
            let w = weights[tap * channels + rest_at + i];
            *sum = sum.wrapping_add(i32::from(x) * i32::from(w));
        }
    }
}

#[inline(always)]
fn centre_bytes_body(bytes: &[u8], flip: u8, zero: i16, out: &mut [i16]) {
    for (out, &byte) in out.iter_mut().zip(bytes) {
        *out = i16::from(byte ^ flip) - zero;
    }
}

#[inline(always)]
fn flip_bytes_body(bytes: &[u8], flip: u8, out: &mut [u8]) {
    for (out, &byte) in out.iter_mut().zip(bytes) {
        *out = byte ^ flip;
    }
}

#[inline(always)]
fn fold_largest_body(bytes: &[u8], flip: u8, out: &mut [u8]) {
    for (out, &byte) in out.iter_mut().zip(bytes) {
        *out = (*out).max(byte ^ flip);
    }
}

#[inline(always)]
fn add_bytes_to_body(bytes: &[u8], flip: u8, sums: &mut [i32]) {
    for (sum, &byte) in sums.iter_mut().zip(bytes) {
        *sum = sum.wrapping_add(i32::from(byte ^ flip));
    }
}

/// What ADD and SUB do with bytes: each less its zero, up by `up` bits and to a common scale, then their sum (or
/// difference) to the result's scale.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ByteSum {
    /// 0x80 for i8, 0 for u8.
    pub flip: u8,
    /// Of the bytes after `flip`.
    pub zeros: [i32; 2],
    pub up: u32,
    pub multipliers: [Multiplier; 2],
    pub subtracts: bool,
    pub output: Multiplier,
    pub zero_point: i32,
    pub bounds: [i32; 2],
}

#[inline(always)]
fn add_bytes_body(x: &[u8], y: &[u8], op: &ByteSum, out: &mut [u8]) {
    let [low, high] = op.bounds;
    let sign = if op.subtracts { -1 } else { 1 };
    let scaled = |i: usize, byte: u8| {
        let value = (i32::from(byte ^ op.flip) - op.zeros[i]) << op.up;
        shifted_right(high_product(value, op.multipliers[i].mantissa), -op.multipliers[i].shift)
    };
    let (left, right) = (op.output.shift.max(0) as u32, (-op.output.shift).max(0));
    for ((out, &x), &y) in out.iter_mut().zip(x).zip(y) {
        let sum = scaled(0, x).wrapping_add(scaled(1, y).wrapping_mul(sign));
        let product = high_product(sum.wrapping_shl(left), op.output.mantissa);
        let result = shifted_right(product, right).wrapping_add(op.zero_point);
        *out = result.min(high).max(low) as u8;
    }
}

#[cfg(test)]
mod tests {
    use super::super::instruction_set::InstructionSet;
    use super::*;

    fn bytes(count: usize, seed: u32) -> Vec<u8> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        (0..count).map(|_| next()).collect()
    }

    #[test]
    fn products_of_bytes_are_those_of_the_definition() {
        for (rows, depth, count) in
            [(1, 1, 1), (2, 4, 32), (13, 7, 33), (12, 64, 64), (25, 130, 70), (3, 5, 1)]
        {
            let weights: Vec<i8> = bytes(depth * count, 7).iter().map(|&b| b as i8).collect();
            let filters = PackedFilters::new(&weights, depth);
            let mut values = bytes(rows * filters.row_len(), 9);
            values[0] = 255;
            let mut found = vec![-1; rows * filters.result_len()];
            multiply_rows(&values, &filters, &mut found);
            let mut plain = vec![-1; found.len()];
            multiply_rows_scalar(&values, &filters, &mut plain);
            assert_eq!(found, plain, "{rows} rows, {depth} values, {count} filters");
            for (r, c) in (0..rows).flat_map(|r| (0..count).map(move |c| (r, c))) {
                let row = &values[r * filters.row_len()..][..depth];
                let filter = &weights[c * depth..][..depth];
                let pairs = row.iter().zip(filter);
                let sum: i32 = pairs.map(|(&a, &b)| i32::from(a) * i32::from(b)).sum();
                assert_eq!(plain[r * filters.result_len() + c], sum);
            }
        }
    }

    #[test]
    fn every_variant_scales_as_fixed_point_does() {
        let multipliers: Vec<Multiplier> = (0..67)
            .map(|i| Multiplier::of(2f64.powi(i % 40 - 35) * (1.0 + f64::from(i) / 67.0)))
            .collect();
        let biases: Vec<i32> = (0..67).map(|i| i * 7919 - 250_000).collect();
        let sums: Vec<i32> =
            (0..67).map(|i: i32| i.wrapping_mul(0x2345_6789) >> (i % 20)).collect();
        let scaling = ByteScaling::new(biases.clone(), &multipliers, -5, [-100, 127]).unwrap();
        for set in InstructionSet::available() {
            let mut out = vec![0; 67];
            scale_to_bytes_on(set, &sums, 3, &scaling, &mut out);
            for i in 0..67 {
                let sum = sums[i].wrapping_add(biases[i]).wrapping_add(3);
                let expected = multipliers[i].apply(sum).wrapping_sub(5).clamp(-100, 127);
                assert_eq!(out[i] as i8 as i32, expected, "{i}, {}", set.name());
            }
        }
    }

    #[test]
    fn every_variant_adds_as_fixed_point_does() {
        let (x, y) = (bytes(300, 1), bytes(300, 2));
        let op = |flip, subtracts| ByteSum {
            flip,
            zeros: [125, 3],
            up: 20,
            multipliers: [0.5, 0.123].map(Multiplier::of),
            subtracts,
            output: Multiplier::of(1.7e-6),
            zero_point: -3,
            bounds: [-128, 127],
        };
        for (set, flip, subtracts) in InstructionSet::available()
            .into_iter()
            .flat_map(|set| [(set, 0x80, false), (set, 0x80, true), (set, 0, false)])
        {
            let op = op(flip, subtracts);
            let mut out = vec![0; 300];
            add_bytes_on(set, &x, &y, &op, &mut out);
            for i in 0..300 {
                let scaled = |side: usize, byte: u8| {
                    op.multipliers[side].apply((i32::from(byte ^ flip) - op.zeros[side]) << 20)
                };
                let (a, b) = (scaled(0, x[i]), scaled(1, y[i]));
                let sum = if subtracts { a - b } else { a + b };
                let expected = (op.output.apply(sum) - 3).clamp(-128, 127);
                assert_eq!(out[i] as i8 as i32, expected, "{i}, {}", set.name());
            }
        }
    }

    #[test]
    fn every_variant_multiplies_words_alike() {
        let row: Vec<i16> = (0..131).map(|i| (i * 37 % 511) as i16 - 255).collect();
        let weights: Vec<i16> = (0..131 * 9).map(|i| (i * 91 % 511) as i16 - 255).collect();
        for set in InstructionSet::available() {
            let mut out = vec![1; 9];
            i16_products_on(set, &row, &weights, &mut out);
            let mut sums = vec![5; 131];
            depthwise_sums_on(set, &row, &weights, &[(0, 2), (0, 5)], &mut sums);
            for c in 0..9 {
                let pairs = row.iter().zip(&weights[c * 131..]);
                assert_eq!(out[c], pairs.map(|(&a, &b)| i32::from(a) * i32::from(b)).sum::<i32>());
            }
            for i in 0..131 {
                let both = i32::from(weights[2 * 131 + i]) + i32::from(weights[5 * 131 + i]);
                assert_eq!(sums[i], i32::from(row[i]) * both);
            }
        }
    }
}
