//! What the kernels' tests share: arbitrary values, and comparison of bits.

/// Values on both sides of an output that must not change.
pub const GUARD: usize = 64;

/// Values between -1 and 1, always the same for the same seed.
pub fn values(len: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..len).map(|_| next()).collect()
}

/// Panics where two slices differ in more than the kind of NaN.
pub fn assert_same_bits(got: &[f32], expected: &[f32], what: &str) {
    assert_eq!(got.len(), expected.len(), "{what}");
    for (at, (g, e)) in got.iter().zip(expected).enumerate() {
        let same = g.to_bits() == e.to_bits() || g.is_nan() && e.is_nan();
        assert!(same, "{what}: value {at} is {g:e}, not {e:e}");
    }
}
