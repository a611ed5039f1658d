//! The record of how a picture becomes a model's input. It is stored beside models and read back from files
//! nobody vouches for, so reading one validates it. It knows numbers only; [`super::image`] applies it to pictures.

use anyhow::{Result, ensure};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The longest side of an input, in pixels.
pub const MAX_SIDE: usize = 16_384;
/// The most pixels of an input.
pub const MAX_PIXELS: usize = 100_000_000;

/// Pixels of 0..=255 become `(pixel * scale - mean) / std` in a tensor of one image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct Preprocessing {
    pub height: usize,
    pub width: usize,
    pub channels: Channels,
    /// Multiplies the pixel, for instance 1/255.
    pub scale: f32,
    /// Subtracted after `scale`: one number for all channels, or one a channel in the order of `channels`.
    #[serde(default = "zero")]
    pub mean: Vec<f32>,
    /// Divides after `mean` is subtracted; as many as with `mean`.
    #[serde(default = "one")]
    pub std: Vec<f32>,
    #[serde(default)]
    pub polarity: Polarity,
    #[serde(default)]
    pub fit: Fit,
    #[serde(default)]
    pub layout: Layout,
}

/// The colour channels a model sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Channels {
    /// One: luma by ITU-R BT.601.
    Grey,
    Rgb,
    Bgr,
}

/// Whether dark-on-light pictures are turned into light-on-dark ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Polarity {
    #[default]
    AsIs,
    /// The model was trained on light strokes on a dark ground: a picture with a light border is inverted.
    LightOnDark,
}

/// How a picture of another size is brought to the model's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fit {
    /// The whole picture is resized, whatever its proportions.
    #[default]
    Stretch,
    /// As MNIST was made: the ink is cut out, scaled into the middle 20/28 of the field with its proportions
    /// kept, and centred by mass. A picture that has the model's size already is left alone.
    CentreDigit,
}

/// The order of a tensor's axes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Layout {
    #[default]
    Nhwc,
    Nchw,
}

impl Preprocessing {
    /// The whole picture, stretched to `height`×`width`, with values in 0..=1 and channels last.
    pub fn unit_range(height: usize, width: usize, channels: Channels) -> Self {
        Preprocessing {
            height,
            width,
            channels,
            scale: 1.0 / 255.0,
            mean: zero(),
            std: one(),
            polarity: Polarity::AsIs,
            fit: Fit::Stretch,
            layout: Layout::Nhwc,
        }
    }

    /// What a model trained on MNIST needs: 28×28, grey, 0..=1, a light digit centred on a dark ground.
    pub fn mnist() -> Self {
        Preprocessing {
            polarity: Polarity::LightOnDark,
            fit: Fit::CentreDigit,
            ..Self::unit_range(28, 28, Channels::Grey)
        }
    }

    /// Refuses sizes, factors and list lengths that cannot be meant. Deserializing calls it.
    pub fn validate(&self) -> Result<()> {
        let Preprocessing { height, width, .. } = *self;
        ensure!(
            (1..=MAX_SIDE).contains(&height)
                && (1..=MAX_SIDE).contains(&width)
                && height * width <= MAX_PIXELS,
            "preprocessing: an input of {height}×{width} pixels is not supported (1 to {MAX_SIDE} a side)"
        );
        ensure!(
            self.scale.is_finite() && self.scale != 0.0,
            "preprocessing: scale must be a number other than 0, not {}",
            self.scale
        );
        let channels = self.channels.count();
        for (name, values) in [("mean", &self.mean), ("std", &self.std)] {
            ensure!(
                values.len() == 1 || values.len() == channels,
                "preprocessing: {name} has {} numbers; {} expected",
                values.len(),
                if channels == 1 { "1 is".into() } else { format!("1 or {channels} are") }
            );
            ensure!(
                values.iter().all(|value| value.is_finite()),
                "preprocessing: {name} {values:?} is not finite"
            );
        }
        ensure!(
            self.std.iter().all(|&std| std > 0.0),
            "preprocessing: std must be above 0, not {:?}",
            self.std
        );
        Ok(())
    }

    /// The tensor's shape for `batch` images.
    pub fn shape(&self, batch: usize) -> [usize; 4] {
        match self.layout {
            Layout::Nhwc => [batch, self.height, self.width, self.channels.count()],
            Layout::Nchw => [batch, self.channels.count(), self.height, self.width],
        }
    }

    /// Turns pixels (height × width × channels, one or more images) into tensor values in `layout`.
    pub fn normalize(&self, pixels: &[u8]) -> Vec<f32> {
        let mut values = vec![0.0; pixels.len()];
        self.normalize_into(pixels, &mut values);
        values
    }

    /// [`normalize`](Self::normalize) into a buffer that is as long as `pixels`; the longer one's excess is left alone.
    pub fn normalize_into(&self, pixels: &[u8], values: &mut [f32]) {
        let channels = self.channels.count();
        let tables: Vec<[f32; 256]> = (0..channels).map(|channel| self.table(channel)).collect();
        if let [table] = &tables[..] {
            for (value, &pixel) in values.iter_mut().zip(pixels) {
                *value = table[usize::from(pixel)];
            }
            return;
        }
        let plane = self.height * self.width;
        let images = pixels.chunks_exact(plane * channels);
        for (pixels, values) in images.zip(values.chunks_exact_mut(plane * channels)) {
            for (at, pixel) in pixels.chunks_exact(channels).enumerate() {
                for (channel, (table, &byte)) in tables.iter().zip(pixel).enumerate() {
                    let target = match self.layout {
                        Layout::Nhwc => at * channels + channel,
                        Layout::Nchw => channel * plane + at,
                    };
                    values[target] = table[usize::from(byte)];
                }
            }
        }
    }

    fn table(&self, channel: usize) -> [f32; 256] {
        let of_channel = |values: &[f32], default: f32| {
            *values.get(channel).or(values.first()).unwrap_or(&default)
        };
        let (mean, std) = (of_channel(&self.mean, 0.0), of_channel(&self.std, 1.0));
        std::array::from_fn(|pixel| (pixel as f32 * self.scale - mean) / std)
    }
}

impl Channels {
    pub fn count(self) -> usize {
        match self {
            Channels::Grey => 1,
            Channels::Rgb | Channels::Bgr => 3,
        }
    }
}

// `remote = "Self"` makes the derived functions inherent, so that these two can validate.
impl<'de> Deserialize<'de> for Preprocessing {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let record = Self::deserialize(deserializer)?;
        record.validate().map_err(de::Error::custom)?;
        Ok(record)
    }
}

impl Serialize for Preprocessing {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Self::serialize(self, serializer)
    }
}

fn zero() -> Vec<f32> {
    vec![0.0]
}

fn one() -> Vec<f32> {
    vec![1.0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_has_plain_words_and_reads_back() {
        let json = serde_json::to_string(&Preprocessing::mnist()).unwrap();
        assert_eq!(
            json,
            r#"{"height":28,"width":28,"channels":"grey","scale":0.003921569,"mean":[0.0],"std":[1.0],"polarity":"light_on_dark","fit":"centre_digit","layout":"nhwc"}"#
        );
        let back: Preprocessing = serde_json::from_str(&json).unwrap();
        assert_eq!(back, Preprocessing::mnist());
    }

    #[test]
    fn left_out_fields_mean_nothing_is_done() {
        let json = r#"{"height":2,"width":3,"channels":"bgr","scale":0.003921569}"#;
        let record: Preprocessing = serde_json::from_str(json).unwrap();
        assert_eq!(record, Preprocessing::unit_range(2, 3, Channels::Bgr));
    }

    #[test]
    fn records_that_cannot_be_meant_are_refused() {
        let check = |field: &str, value: &str, expected: &str| {
            let mut record = serde_json::to_value(Preprocessing::mnist()).unwrap();
            record[field] = serde_json::from_str(value).unwrap();
            let error = serde_json::from_value::<Preprocessing>(record).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        check("height", "0", "0×28");
        check("height", "16385", "16385×28");
        check("width", "-1", "invalid value");
        check("scale", "0", "scale");
        check("scale", "1e99", "scale");
        check("mean", "[]", "mean has 0 numbers; 1 or 1 are expected");
        check("mean", "[1, 2, 3]", "mean has 3 numbers");
        check("std", "[0]", "std must be above 0");
        check("std", "[1e-99]", "std must be above 0");
        check("std", "[-1]", "std must be above 0");
        check("mean", "[1e99]", "not finite");
        check("channels", "\"cmyk\"", "unknown variant");
        check("layout", "\"nhcw\"", "unknown variant");
        check("colour", "1", "unknown field");
        let large = Preprocessing::unit_range(MAX_SIDE, MAX_SIDE, Channels::Grey);
        assert!(large.validate().is_err());
    }

    #[test]
    fn values_are_scaled_normalized_and_laid_out() {
        let mut record = Preprocessing {
            mean: vec![0.485, 0.0, 1.0],
            std: vec![0.229, 1.0, 0.5],
            ..Preprocessing::unit_range(1, 2, Channels::Rgb)
        };
        let pixels = [0, 255, 255, 128, 51, 0, 255, 0, 0, 1, 0, 0];
        // numpy: (px.astype('f4') * np.float32(1/255) - np.float32(.485)) / np.float32(.229)
        let [r0, r1, r128, r255] = [-2.117_904, -2.100_779_3, 0.074_064_63, 2.248_908_3];
        let nhwc = [r0, 1.0, 0.0, r128, 0.2, -2.0, r255, 0.0, -2.0, r1, 0.0, -2.0];
        assert_close(&record.normalize(&pixels), &nhwc);
        record.layout = Layout::Nchw;
        let nchw = [r0, r128, 1.0, 0.2, 0.0, -2.0, r255, r1, 0.0, 0.0, -2.0, -2.0];
        assert_close(&record.normalize(&pixels), &nchw);
        assert_eq!(record.shape(5), [5, 3, 1, 2]);
        record.mean = vec![0.5];
        record.std = vec![0.5];
        assert_eq!(record.normalize(&[0, 0, 0, 255, 255, 255]), [-1.0, 1.0].repeat(3));
    }

    #[test]
    fn a_hand_made_invalid_record_does_not_panic() {
        let record = Preprocessing { mean: vec![], std: vec![], ..Preprocessing::mnist() };
        assert_eq!(record.normalize(&[0, 255]), [0.0, 1.0]);
    }

    fn assert_close(values: &[f32], expected: &[f32]) {
        assert_eq!(values.len(), expected.len());
        for (value, expected) in values.iter().zip(expected) {
            assert!((value - expected).abs() < 1e-6, "{values:?}");
        }
    }
}
