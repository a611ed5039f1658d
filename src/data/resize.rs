//! Bilinear resizing with antialiasing: bit for bit what Pillow 11's `resize(…, BILINEAR)` gives. (Pillow 13 sometimes
//! resizes columns first, which differs by one level.)
//! Method: Pillow, src/libImaging/Resample.c (a triangle filter, widened when shrinking; 22-bit weights).

/// An 8-bit picture: height × width × channels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pixels {
    pub width: usize,
    pub height: usize,
    pub channels: usize,
    pub data: Vec<u8>,
}

impl Pixels {
    /// Resizes to `width`×`height`; a side that has its size already is left alone.
    pub fn resize_bilinear(self, width: usize, height: usize) -> Pixels {
        let wide = match self.width == width {
            true => self,
            false => self.resize_rows(width),
        };
        match wide.height == height {
            true => wide,
            false => wide.resize_columns(height),
        }
    }

    /// The part of `width`×`height` pixels that starts at column `left` and row `top`, cut at the edges.
    pub fn crop(&self, left: usize, top: usize, width: usize, height: usize) -> Pixels {
        let (left, top) = (left.min(self.width), top.min(self.height));
        let (width, height) = (width.min(self.width - left), height.min(self.height - top));
        let stride = self.width * self.channels;
        let data = (top..top + height)
            .flat_map(|row| {
                let start = row * stride + left * self.channels;
                &self.data[start..start + width * self.channels]
            })
            .copied()
            .collect();
        Pixels { width, height, channels: self.channels, data }
    }

    fn resize_rows(&self, width: usize) -> Pixels {
        let weights = Weights::bilinear(self.width, width);
        let mut data = Vec::with_capacity(width * self.height * self.channels);
        for row in self.data.chunks_exact((self.width * self.channels).max(1)) {
            for (start, weights) in weights.iter() {
                for channel in 0..self.channels {
                    let source = row[start * self.channels + channel..].iter();
                    let sum = source
                        .step_by(self.channels)
                        .zip(weights)
                        .fold(HALF, |sum, (&pixel, &weight)| sum + i32::from(pixel) * weight);
                    data.push(to_pixel(sum));
                }
            }
        }
        Pixels { width, height: self.height, channels: self.channels, data }
    }

    fn resize_columns(&self, height: usize) -> Pixels {
        let weights = Weights::bilinear(self.height, height);
        let stride = self.width * self.channels;
        let mut data = Vec::with_capacity(stride * height);
        let mut sums = vec![0; stride];
        for (start, weights) in weights.iter() {
            sums.fill(HALF);
            let rows = self.data[start * stride..].chunks_exact(stride.max(1));
            for (row, &weight) in rows.zip(weights) {
                for (sum, &pixel) in sums.iter_mut().zip(row) {
                    *sum += i32::from(pixel) * weight;
                }
            }
            data.extend(sums.iter().map(|&sum| to_pixel(sum)));
        }
        Pixels { width: self.width, height, channels: self.channels, data }
    }
}

const PRECISION: u32 = 22;
const HALF: i32 = 1 << (PRECISION - 1);

fn to_pixel(sum: i32) -> u8 {
    (sum >> PRECISION).clamp(0, 255) as u8
}

/// For each output pixel, the first input pixel and the weights from there on.
struct Weights {
    spans: Vec<(usize, usize)>,
    weights: Vec<i32>,
}

impl Weights {
    fn bilinear(from: usize, to: usize) -> Weights {
        let scale = from as f64 / to as f64;
        let support = scale.max(1.0);
        let mut spans = Vec::with_capacity(to);
        let mut weights = Vec::new();
        for out in 0..to {
            let centre = (out as f64 + 0.5) * scale;
            let start = (centre - support + 0.5).max(0.0) as usize;
            let end = ((centre + support + 0.5) as usize).min(from);
            let triangle: Vec<f64> = (start..end)
                .map(|at| (1.0 - ((at as f64 - centre + 0.5) / support).abs()).max(0.0))
                .collect();
            let total: f64 = triangle.iter().sum();
            spans.push((start, triangle.len()));
            weights.extend(triangle.iter().map(|weight| {
                let share = if total == 0.0 { 0.0 } else { weight / total };
                (0.5 + share * f64::from(1 << PRECISION)) as i32
            }));
        }
        Weights { spans, weights }
    }

    fn iter(&self) -> impl Iterator<Item = (usize, &[i32])> {
        let mut rest = &self.weights[..];
        self.spans.iter().map(move |&(start, count)| {
            let (these, after) = rest.split_at(count);
            rest = after;
            (start, these)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 7×5, `(x * 37 + y * 91 + x * y * 13) % 256`.
    fn sample() -> Pixels {
        let data = (0..5).flat_map(|y| (0..7).map(move |x| x * 37 + y * 91 + x * y * 13));
        Pixels {
            width: 7,
            height: 5,
            channels: 1,
            data: data.map(|value: u32| value as u8).collect(),
        }
    }

    // Pillow 11.3: np.asarray(Image.fromarray(sample).resize((width, height), Image.BILINEAR))
    #[test]
    fn sizes_up_and_down_give_the_bytes_of_pillow() {
        for (width, height, expected) in [
            (3, 4, vec![58, 125, 166, 154, 151, 120, 123, 153, 155, 117, 132, 120]),
            (7, 2, vec![79, 129, 121, 171, 105, 155, 147, 87, 163, 99, 175, 135, 129, 147]),
            (1, 1, vec![134]),
            (7, 5, sample().data),
            (
                10,
                6,
                vec![
                    0, 20, 46, 72, 98, 124, 150, 176, 202, 222, 68, 94, 127, 160, 193, 158, 65, 99,
                    132, 157, 144, 176, 179, 115, 148, 150, 121, 162, 135, 84, 113, 151, 162, 105,
                    145, 156, 134, 182, 163, 118, 40, 84, 123, 133, 186, 174, 102, 112, 152, 195,
                    108, 157, 155, 38, 88, 150, 200, 83, 81, 130,
                ],
            ),
        ] {
            assert_eq!(sample().resize_bilinear(width, height).data, expected);
        }
    }

    #[test]
    fn channels_are_resized_apart() {
        let data = (0..3u32)
            .flat_map(|y| (0..4).flat_map(move |x| (0..3).map(move |c| x * 37 + y * 91 + c * 50)))
            .map(|value| value as u8)
            .collect();
        let rgb = Pixels { width: 4, height: 3, channels: 3, data };
        assert_eq!(
            rgb.resize_bilinear(2, 2).data,
            [60, 110, 147, 119, 169, 137, 151, 133, 100, 95, 123, 90]
        );
    }

    #[test]
    fn a_crop_stays_inside() {
        let crop = sample().crop(5, 3, 9, 9);
        assert_eq!((crop.width, crop.height), (2, 2));
        assert_eq!(crop.data, [141, 217, 41, 130]);
        assert!(sample().crop(9, 9, 1, 1).data.is_empty());
    }

    #[test]
    fn white_stays_white_at_any_size() {
        for (width, height) in [(1, 1), (2, 700), (333, 1), (64, 64)] {
            let white = Pixels { width: 50, height: 300, channels: 1, data: vec![255; 15_000] };
            let resized = white.resize_bilinear(width, height);
            assert_eq!(resized.data, vec![255; width * height]);
        }
    }
}
