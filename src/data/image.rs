//! Pictures: found in folders, decoded within limits, made into tensors as a [`Preprocessing`] says.

use std::fs::{self, File};
use std::io::{Cursor, ErrorKind, Read};
use std::path::{Path, PathBuf};

use ::image::metadata::Orientation;
use ::image::{
    DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits, guess_format,
};
use anyhow::{Context, Result, anyhow, bail, ensure};

use super::digit;
use super::preprocessing::{Channels, Fit, Polarity, Preprocessing};
use super::resize::Pixels;

/// The largest picture that is decoded.
pub const MAX_PIXELS: u64 = 100_000_000;
/// The most bytes a decoded picture may take.
pub const MAX_DECODED_BYTES: u64 = 512 << 20;
const MAX_SIDE: u32 = 65_535;
const MAX_FILE_BYTES: u64 = 512 << 20;
const ACCEPTED: &str = "PNG, JPEG and BMP are read";

/// A picture as one image's tensor values, in the layout of its [`Preprocessing`].
#[derive(Clone, Debug, PartialEq)]
pub struct ImageTensor {
    pub data: Vec<f32>,
    /// The picture was dark on light and has been inverted.
    pub inverted: bool,
}

/// Decodes a PNG, JPEG or BMP file, told apart by content, turned upright by its EXIF orientation.
pub fn load_image(path: &Path) -> Result<DynamicImage> {
    read_file(path)
        .and_then(|bytes| decode_image(&bytes))
        .with_context(|| path.display().to_string())
}

/// [`load_image`] for bytes in memory.
pub fn decode_image(bytes: &[u8]) -> Result<DynamicImage> {
    decode_image_within(bytes, MAX_PIXELS)
}

/// [`decode_image`] of a picture of at most `most_pixels`, which [`MAX_PIXELS`] bounds.
pub fn decode_image_within(bytes: &[u8], most_pixels: u64) -> Result<DynamicImage> {
    ensure!(!bytes.is_empty(), "the file is empty; {ACCEPTED}");
    let format = match guess_format(bytes) {
        Ok(format @ (ImageFormat::Png | ImageFormat::Jpeg | ImageFormat::Bmp)) => format,
        Ok(other) => bail!("this is {} data; {ACCEPTED}", name(other)),
        Err(_) => bail!("this is not a picture; {ACCEPTED}"),
    };
    if format == ImageFormat::Jpeg {
        ensure!(jpeg_is_complete(bytes), "the JPEG data is cut short");
    }
    decode(bytes, format, most_pixels.min(MAX_PIXELS)).map_err(|error| {
        let reason = match error.downcast_ref() {
            Some(ImageError::IoError(cause)) if cause.kind() == ErrorKind::UnexpectedEof => {
                "it is cut short".to_owned()
            }
            _ => one_line(&error),
        };
        anyhow!("cannot decode the {} data: {reason}", name(format))
    })
}

/// The PNG, JPEG and BMP files of a folder by their extensions, sorted by name; a file's path is returned as it is.
pub fn list_images(path: &Path) -> Result<Vec<PathBuf>> {
    let metadata = fs::metadata(path)
        .map_err(|error| anyhow!("{} cannot be opened: {error}", path.display()))?;
    if metadata.is_file() {
        return Ok(vec![path.to_owned()]);
    }
    ensure!(metadata.is_dir(), "{} is neither a file nor a folder", path.display());
    let unreadable = || format!("cannot read folder {}", path.display());
    let mut images = Vec::new();
    for entry in fs::read_dir(path).with_context(unreadable)? {
        let file = entry.with_context(unreadable)?.path();
        let hidden = file.file_name().is_some_and(|name| name.as_encoded_bytes()[0] == b'.');
        let extension = file.extension().map(|e| e.to_string_lossy().to_ascii_lowercase());
        if !hidden
            && matches!(extension.as_deref(), Some("png" | "jpg" | "jpeg" | "bmp"))
            && file.is_file()
        {
            images.push(file);
        }
    }
    ensure!(!images.is_empty(), "folder {} has no .png, .jpg, .jpeg or .bmp file", path.display());
    images.sort();
    Ok(images)
}

/// Makes a picture the model's input: colours, size and polarity first, then the arithmetic.
pub fn to_tensor(image: &DynamicImage, preprocessing: &Preprocessing) -> ImageTensor {
    let (pixels, inverted) = to_pixels(image, preprocessing);
    ImageTensor { data: preprocessing.normalize(&pixels.data), inverted }
}

/// The picture in the model's size and channels, before scale, mean and std; true when it was inverted.
pub fn to_pixels(image: &DynamicImage, preprocessing: &Preprocessing) -> (Pixels, bool) {
    let Preprocessing { width, height, channels, .. } = *preprocessing;
    let light_on_dark = preprocessing.polarity == Polarity::LightOnDark;
    let rgb = without_alpha(image, light_on_dark);
    let grey = (light_on_dark || channels == Channels::Grey).then(|| luma(&rgb));
    let inverted = light_on_dark && grey.as_ref().is_some_and(digit::is_dark_on_light);
    let invert = |mut pixels: Pixels| {
        if inverted {
            pixels.data.iter_mut().for_each(|pixel| *pixel = !*pixel);
        }
        pixels
    };
    let is_fitting = (rgb.width, rgb.height) == (width, height);
    if rgb.data.is_empty() {
        let data = vec![0; width * height * channels.count()];
        return (Pixels { width, height, channels: channels.count(), data }, false);
    }
    if preprocessing.fit == Fit::CentreDigit && !is_fitting {
        let grey = grey.unwrap_or_else(|| luma(&rgb));
        let digit = digit::centre_digit(invert(grey), width, height);
        return (repeat_channel(digit, channels.count()), inverted);
    }
    let mut pixels = match (channels, grey) {
        (Channels::Grey, Some(grey)) => grey,
        _ => rgb,
    };
    pixels = invert(pixels.resize_bilinear(width, height));
    if channels == Channels::Bgr {
        pixels.data.chunks_exact_mut(3).for_each(<[u8]>::reverse);
    }
    (pixels, inverted)
}

/// A PNG of grey or RGB pixels.
pub fn png_of(pixels: Pixels) -> Result<Vec<u8>> {
    let colour = match pixels.channels {
        1 => ::image::ExtendedColorType::L8,
        3 => ::image::ExtendedColorType::Rgb8,
        other => bail!("pictures have 1 or 3 channels, not {other}"),
    };
    let (width, height) = (u32::try_from(pixels.width)?, u32::try_from(pixels.height)?);
    let mut bytes = vec![];
    let encoder = ::image::codecs::png::PngEncoder::new(&mut bytes);
    ::image::ImageEncoder::write_image(encoder, &pixels.data, width, height, colour)?;
    Ok(bytes)
}

fn read_file(path: &Path) -> Result<Vec<u8>> {
    ensure!(!path.is_dir(), "this is a folder; {ACCEPTED}");
    let file = File::open(path).map_err(|error| anyhow!("cannot be opened: {error}"))?;
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| anyhow!("cannot be read: {error}"))?;
    ensure!(
        bytes.len() as u64 <= MAX_FILE_BYTES,
        "the file is larger than {} MiB",
        MAX_FILE_BYTES >> 20
    );
    Ok(bytes)
}

fn decode(bytes: &[u8], format: ImageFormat, most_pixels: u64) -> Result<DynamicImage> {
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    limits.max_alloc = Some(MAX_DECODED_BYTES);
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    reader.limits(limits);
    let mut decoder = reader.into_decoder()?;
    let (width, height) = decoder.dimensions();
    ensure!(width > 0 && height > 0, "it has no pixels");
    ensure!(
        u64::from(width) * u64::from(height) <= most_pixels
            && decoder.total_bytes() <= MAX_DECODED_BYTES,
        "{width}×{height} pixels are more than {} megapixels or {} MiB",
        most_pixels / 1_000_000,
        MAX_DECODED_BYTES >> 20
    );
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let mut image = DynamicImage::from_decoder(decoder)?;
    image.apply_orientation(orientation);
    Ok(image)
}

fn name(format: ImageFormat) -> String {
    format!("{format:?}").to_uppercase()
}

fn one_line(error: &anyhow::Error) -> String {
    error.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Whether the end-of-image marker is reached; the decoder itself paints a missing rest grey.
fn jpeg_is_complete(bytes: &[u8]) -> bool {
    const RST0: u8 = 0xd0;
    const RST7: u8 = 0xd7;
    const EOI: u8 = 0xd9;
    const SOS: u8 = 0xda;
    let mut at = 2;
    let mut in_scan = false;
    while let Some(&[first, marker]) = bytes.get(at..at + 2) {
        let is_data = first != 0xff || matches!(marker, 0 | RST0..=RST7);
        match marker {
            _ if in_scan && is_data => at += 1,
            _ if first != 0xff || marker == 0xff => at += 1,
            EOI => return true,
            _ => {
                let Some(&[high, low]) = bytes.get(at + 2..at + 4) else {
                    return false;
                };
                at += 2 + usize::from(u16::from_be_bytes([high, low]));
                in_scan = marker == SOS;
            }
        }
    }
    false
}

/// Composes transparency on white; with `light_on_dark` on black, if white leaves nothing to see.
fn without_alpha(image: &DynamicImage, light_on_dark: bool) -> Pixels {
    let (width, height) = (image.width() as usize, image.height() as usize);
    let of = |data: Vec<u8>| Pixels { width, height, channels: 3, data };
    if !image.color().has_alpha() {
        return of(image.to_rgb8().into_raw());
    }
    let rgba = image.to_rgba8();
    let compose = |ground: u32| {
        let blend = |value: u8, alpha: u8| {
            let alpha = u32::from(alpha);
            ((u32::from(value) * alpha + ground * (255 - alpha) + 127) / 255) as u8
        };
        of(rgba.pixels().flat_map(|p| [0, 1, 2].map(|channel| blend(p[channel], p[3]))).collect())
    };
    let on_white = compose(255);
    if light_on_dark {
        let darkest = on_white.data.iter().copied().min().unwrap_or(255);
        if darkest > 255 - digit::LEAST_CONTRAST {
            return compose(0);
        }
    }
    on_white
}

/// ITU-R BT.601 in Pillow's fixed point (`convert("L")`).
fn luma(rgb: &Pixels) -> Pixels {
    let grey = |pixel: &[u8; 3]| {
        let [r, g, b] = pixel.map(u32::from);
        ((r * 19595 + g * 38470 + b * 7471 + 0x8000) >> 16) as u8
    };
    let data = rgb.data.as_chunks::<3>().0.iter().map(grey).collect();
    Pixels { channels: 1, data, ..*rgb }
}

fn repeat_channel(grey: Pixels, channels: usize) -> Pixels {
    let data = grey.data.iter().flat_map(|&pixel| std::iter::repeat_n(pixel, channels)).collect();
    Pixels { channels, data, ..grey }
}

#[cfg(test)]
mod tests {
    use ::image::{GrayImage, ImageBuffer, Luma, RgbImage, Rgba, RgbaImage};

    use super::*;

    fn encode(image: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        image.into().write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    }

    /// 4×3, `(x * 37 + y * 91 + channel * 50) % 256`.
    fn sample() -> RgbImage {
        RgbImage::from_fn(4, 3, |x, y| {
            ::image::Rgb([0, 50, 100].map(|offset| (x * 37 + y * 91 + offset) as u8))
        })
    }

    fn grey(width: u32, height: u32, pixels: &[u8]) -> GrayImage {
        GrayImage::from_raw(width, height, pixels.to_vec()).unwrap()
    }

    fn pixels(image: impl Into<DynamicImage>, preprocessing: &Preprocessing) -> (Vec<u8>, bool) {
        let (pixels, inverted) = to_pixels(&image.into(), preprocessing);
        (pixels.data, inverted)
    }

    #[test]
    fn formats_are_told_apart_by_content() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("picture.txt");
        for format in [ImageFormat::Png, ImageFormat::Bmp] {
            fs::write(&path, encode(sample(), format)).unwrap();
            assert_eq!(load_image(&path).unwrap().to_rgb8(), sample());
        }
        fs::write(&path, encode(sample(), ImageFormat::Jpeg)).unwrap();
        assert_eq!(load_image(&path).unwrap().to_rgb8().dimensions(), (4, 3));
    }

    #[test]
    fn what_cannot_be_decoded_is_said_in_one_line() {
        let folder = tempfile::tempdir().unwrap();
        let png = encode(sample(), ImageFormat::Png);
        let jpeg = encode(sample(), ImageFormat::Jpeg);
        let check = |bytes: &[u8], expected: &str| {
            let path = folder.path().join("picture");
            fs::write(&path, bytes).unwrap();
            let error = format!("{:#}", load_image(&path).unwrap_err());
            assert!(error.starts_with(&path.display().to_string()), "{error}");
            assert!(error.contains(expected) && !error.contains('\n'), "{error}");
        };
        check(b"", "the file is empty; PNG, JPEG and BMP are read");
        check(b"hello", "not a picture; PNG, JPEG and BMP are read");
        check(b"GIF89a......", "this is GIF data; PNG, JPEG and BMP are read");
        check(&png[..png.len() / 2], "cannot decode the PNG data");
        check(&jpeg[..jpeg.len() - 2], "the JPEG data is cut short");
        check(&huge_png(), "20000×20000 pixels are more than 100 megapixels");
        let error = format!("{:#}", load_image(folder.path()).unwrap_err());
        assert!(error.contains("this is a folder"), "{error}");
        let error = format!("{:#}", load_image(Path::new("/nowhere.png")).unwrap_err());
        assert!(error.starts_with("/nowhere.png: cannot be opened"), "{error}");
    }

    /// A header that announces 400 megapixels, with a right checksum.
    fn huge_png() -> Vec<u8> {
        let mut bytes = encode(sample(), ImageFormat::Png);
        let side = 20_000u32.to_be_bytes();
        bytes[16..20].copy_from_slice(&side);
        bytes[20..24].copy_from_slice(&side);
        let mut crc = flate2::Crc::new();
        crc.update(&bytes[12..29]);
        bytes[29..33].copy_from_slice(&crc.sum().to_be_bytes());
        bytes
    }

    #[test]
    fn truncation_and_corruption_never_panic() {
        for format in [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::Bmp] {
            let file = encode(sample(), format);
            // A PNG whose picture is complete may lack its end chunk of 12 bytes.
            let needed = file.len() - if format == ImageFormat::Png { 16 } else { 1 };
            for length in 0..file.len() {
                let result = decode_image(&file[..length]);
                assert!(result.is_err() || length > needed, "{format:?} at {length}");
            }
            for at in 0..file.len() {
                for flip in [1, 16, 128, 255] {
                    let mut file = file.clone();
                    file[at] ^= flip;
                    let _ = decode_image(&file);
                }
            }
        }
    }

    #[test]
    fn a_jpeg_is_turned_upright() {
        let sides = RgbImage::from_fn(16, 8, |x, _| ::image::Rgb([if x < 8 { 0 } else { 255 }; 3]));
        let jpeg = encode(sides, ImageFormat::Jpeg);
        // TIFF with one entry, tag 0x112 (orientation), SHORT, value 6: turn by 90° clockwise.
        let exif = b"\xff\xe1\x00\x22Exif\0\0MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
        let turned = [&jpeg[..2], exif, &jpeg[2..]].concat();
        let image = decode_image(&turned).unwrap().to_luma8();
        assert_eq!(image.dimensions(), (8, 16));
        assert!(image[(4, 2)].0[0] < 20 && image[(4, 13)].0[0] > 235);
    }

    #[test]
    fn colours_become_what_pillow_makes_of_them() {
        let unit = |channels| Preprocessing::unit_range(3, 4, channels);
        // Pillow: convert("L"), then resize((2, 2), BILINEAR)
        let luma = [41, 78, 115, 152, 132, 169, 177, 214, 194, 80, 41, 78];
        assert_eq!(pixels(sample(), &unit(Channels::Grey)), (luma.to_vec(), false));
        let small = Preprocessing::unit_range(2, 2, Channels::Grey);
        assert_eq!(pixels(sample(), &small).0, [100, 151, 135, 111]);
        assert_eq!(pixels(sample(), &unit(Channels::Rgb)).0, sample().into_raw());
        assert_eq!(pixels(sample(), &unit(Channels::Bgr)).0[..6], [100, 50, 0, 137, 87, 37]);
        let tensor = to_tensor(&sample().into(), &unit(Channels::Grey));
        assert!((tensor.data[3] - 152.0 / 255.0).abs() < 1e-6);
    }

    #[test]
    fn sixteen_bits_are_reduced_by_value() {
        let deep: ImageBuffer<Luma<u16>, _> =
            ImageBuffer::from_raw(3, 1, vec![0u16, 32896, 65535]).unwrap();
        let decoded = decode_image(&encode(deep, ImageFormat::Png)).unwrap();
        let record = Preprocessing::unit_range(1, 3, Channels::Grey);
        assert_eq!(pixels(decoded, &record).0, [0, 128, 255]);
    }

    #[test]
    fn transparency_is_composed_on_white_unless_that_hides_the_strokes() {
        let strokes = |level: u8| {
            RgbaImage::from_fn(5, 5, |x, y| match (x, y) {
                (2, 1..4) => Rgba([level, level, level, 255]),
                _ => Rgba([level, level, level, 0]),
            })
        };
        let as_is = Preprocessing::unit_range(5, 5, Channels::Grey);
        let light_on_dark = Preprocessing { polarity: Polarity::LightOnDark, ..as_is.clone() };
        let half = RgbaImage::from_pixel(5, 5, Rgba([0, 0, 0, 128]));
        assert_eq!(pixels(half, &as_is), (vec![127; 25], false));
        let mut light_stroke = vec![0; 25];
        [7, 12, 17].iter().for_each(|&at: &usize| light_stroke[at] = 255);
        assert_eq!(pixels(strokes(255), &as_is).0, [255; 25]);
        assert_eq!(pixels(strokes(0), &light_on_dark), (light_stroke.clone(), true));
        assert_eq!(pixels(strokes(255), &light_on_dark), (light_stroke, false));
    }

    #[test]
    fn a_digit_of_another_size_is_centred_and_one_of_the_right_size_left_alone() {
        let ink = |x: u32, y: u32| (60..70).contains(&x) && (10..50).contains(&y);
        let sheet = GrayImage::from_fn(80, 60, |x, y| Luma([if ink(x, y) { 30 } else { 230 }]));
        let (pixels, inverted) = pixels(sheet, &Preprocessing::mnist());
        assert!(inverted);
        let lit: Vec<usize> = (0..784).filter(|&at| pixels[at] == 255).collect();
        assert_eq!((lit.len(), lit[0], lit[99]), (100, 5 * 28 + 12, 24 * 28 + 16));
        let digit = crate::data::mnist::first_test_images(1).unwrap();
        let again = self::pixels(grey(28, 28, digit.image(0)), &Preprocessing::mnist());
        assert_eq!(again, (digit.image(0).to_vec(), false));
    }

    #[test]
    fn blank_and_empty_pictures_are_dark() {
        for channels in [Channels::Grey, Channels::Rgb] {
            let record = Preprocessing { channels, ..Preprocessing::mnist() };
            for (image, inverted) in [
                (grey(50, 50, &[255; 2500]), true),
                (grey(50, 50, &[0; 2500]), false),
                (GrayImage::new(0, 0), false),
            ] {
                let tensor = to_tensor(&image.into(), &record);
                assert_eq!(tensor.data, vec![0.0; 784 * channels.count()]);
                assert_eq!(tensor.inverted, inverted);
            }
        }
    }

    #[test]
    fn a_folders_pictures_are_listed_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let error = list_images(folder.path()).unwrap_err().to_string();
        assert!(error.ends_with("has no .png, .jpg, .jpeg or .bmp file"), "{error}");
        for name in ["b.PNG", "a.jpeg", "c.txt", ".d.png", "e.bmp"] {
            fs::write(folder.path().join(name), b"").unwrap();
        }
        fs::create_dir(folder.path().join("f.png")).unwrap();
        let listed = list_images(folder.path()).unwrap();
        let names: Vec<_> = listed.iter().map(|path| path.file_name().unwrap()).collect();
        assert_eq!(names, ["a.jpeg", "b.PNG", "e.bmp"]);
        assert_eq!(list_images(&listed[0]).unwrap(), [listed[0].clone()]);
        assert!(list_images(Path::new("/nowhere")).is_err());
    }
}
