//! Ranges in a file: what an earlier calibration found, or a person wrote.

use super::equalize::LARGEST_EXPONENT;
use super::integers::SavedRanges;
use anyhow::{Result, ensure};

impl SavedRanges {
    /// # Errors
    /// Names the first tensor whose numbers no calibration gives: not finite, or a smallest above the largest.
    pub fn check(&self) -> Result<()> {
        for (name, range) in &self.tensors {
            for (what, min, max) in
                [("", range.min, range.max), ("seen_", range.seen_min, range.seen_max)]
            {
                ensure!(
                    min.is_finite() && max.is_finite(),
                    "tensor '{name}': {what}min {min} and {what}max {max} are to be finite numbers"
                );
                ensure!(min <= max, "tensor '{name}': {what}min {min} is above {what}max {max}");
            }
        }
        for (name, means) in &self.channel_means {
            ensure!(
                means.iter().all(|mean| mean.is_finite()),
                "tensor '{name}': a mean of a channel is not a finite number"
            );
        }
        for (name, exponents) in &self.equalization {
            ensure!(
                exponents.iter().all(|&exponent| (exponent as f32).abs() <= LARGEST_EXPONENT),
                "tensor '{name}': a power of equalization is beyond ±{LARGEST_EXPONENT}"
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_no_calibration_gives_are_refused() {
        let check = |range: &str, more: &str| {
            let text = format!(r#"{{"method": "mse", "tensors": {{"x": {{{range}}}}}{more}}}"#);
            serde_json::from_str::<SavedRanges>(&text).unwrap().check()
        };
        let good = r#""min": -1, "max": 2, "seen_min": -3, "seen_max": 2"#;
        check(good, "").unwrap();
        let refused = |range: &str, more: &str, expected: &str| {
            let said = check(range, more).unwrap_err().to_string();
            assert_eq!(said, expected);
        };
        let above = good.replace("-1", "3");
        refused(&above, "", "tensor 'x': min 3 is above max 2");
        let seen = good.replace("-3", "7");
        refused(&seen, "", "tensor 'x': seen_min 7 is above seen_max 2");
        let infinite = good.replace("2", "1e39");
        refused(&infinite, "", "tensor 'x': min -1 and max inf are to be finite numbers");
        let mean = r#", "channel_means": {"y": [0, 1e39]}"#;
        refused(good, mean, "tensor 'y': a mean of a channel is not a finite number");
        check(good, r#", "equalization": {"z": [10, -10]}"#).unwrap();
        let power = r#", "equalization": {"z": [1, -2147483648]}"#;
        refused(good, power, "tensor 'z': a power of equalization is beyond ±10");
    }
}
