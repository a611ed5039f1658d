//! Functions of 16-bit values by a table of 513 of their results and straight lines between, as TFLite makes and reads
//! such tables (`common.h`: LUTPopulateInt16, LUTLookup).

const STEPS: usize = 512;

/// A function's results at 513 places of equal distance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interpolation {
    results: Vec<i16>,
}

impl Interpolation {
    /// `function` of the reals `scale · (integer − zero_point)`, as integers of `output_scale`; each entry moved by half
    /// the error that the line would have in its middle.
    pub fn new(
        scale: f64,
        zero_point: i32,
        output_scale: f64,
        function: impl Fn(f64) -> f64,
    ) -> Interpolation {
        let least = scale * f64::from(i32::from(i16::MIN) - zero_point);
        let most = scale * f64::from(i32::from(i16::MAX) - zero_point);
        let step = (most - least) / STEPS as f64;
        let factor = 65536.0 / (65535.0 * output_scale);
        let bounded = |real: f64| real.clamp(i16::MIN.into(), i16::MAX.into()) as i16;
        let entry = |i: usize| {
            let at = least + i as f64 * step;
            let value = function(at);
            let middle = (function(at + step / 2.0) * factor).round();
            let line = ((function(least + (i + 1) as f64 * step) * factor
                + (value * factor).round())
                / 2.0)
                .round();
            bounded((value * factor).round() - ((line - middle) / 2.0).round())
        };
        let mut results: Vec<i16> = (0..STEPS).map(entry).collect();
        results.push(bounded((function(most) * factor).round()));
        Interpolation { results }
    }

    pub fn at(&self, value: i16) -> i16 {
        let place = (256 + (value >> 7)) as usize;
        let base = i32::from(self.results[place]);
        let slope = i32::from(self.results[place + 1]) - base;
        (base + ((slope * i32::from(value & 0x7f) + 64) >> 7)) as i16
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_near_the_function() {
        let table = Interpolation::new(10.0 / 65535.0, i16::MAX.into(), 2.0 / 65535.0, f64::exp);
        for value in (i16::MIN..=i16::MAX).step_by(17) {
            let real = 10.0 / 65535.0 * (f64::from(value) - 32767.0);
            let found = f64::from(table.at(value)) * 2.0 / 65536.0;
            // the table's places are 65535 / 512 apart, and are read as if 128
            assert!((found - real.exp()).abs() < 2e-4, "e^{real}: {found}");
        }
    }
}
