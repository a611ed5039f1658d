//! Digits as MNIST shows them: cut out, scaled into a box, centred by mass, light on dark.
//! MNIST's recipe: <http://yann.lecun.com/exdb/mnist/> ("size normalized to fit in a 20x20 pixel box … centered in a
//! 28x28 image by computing the center of mass").

use super::resize::Pixels;

/// Differences below this many grey levels are taken for an empty sheet.
pub const LEAST_CONTRAST: u8 = 24;

/// True when the border is lighter than the middle between the picture's darkest and lightest levels.
pub fn is_dark_on_light(grey: &Pixels) -> bool {
    let darkest = grey.data.iter().copied().min().unwrap_or(0);
    let lightest = grey.data.iter().copied().max().unwrap_or(0);
    let middle = match lightest - darkest < LEAST_CONTRAST {
        true => 127,
        false => darkest.midpoint(lightest),
    };
    percentile(&mut border(grey), 50) > middle
}

/// Puts the light digit of `grey` (one channel) into a dark field of `width`×`height`.
///
/// The border's level becomes black and the strokes' level white. Without a stroke that stands out, the field is black.
pub fn centre_digit(grey: Pixels, width: usize, height: usize) -> Pixels {
    let blank = Pixels { width, height, channels: 1, data: vec![0; width * height] };
    let ink = stretch_contrast(shrink(grey, 8 * width.max(height)));
    let Some(ink) = ink.and_then(|ink| crop_to_ink(&ink)) else {
        return blank;
    };
    let (box_width, box_height) = (box_side(width), box_side(height));
    let scale = (box_width as f64 / ink.width as f64).min(box_height as f64 / ink.height as f64);
    let side =
        |length: usize, most: usize| ((length as f64 * scale).round() as usize).clamp(1, most);
    let (digit_width, digit_height) = (side(ink.width, box_width), side(ink.height, box_height));
    let mut digit = ink.resize_bilinear(digit_width, digit_height);
    stretch_to_white(&mut digit.data);
    place_by_mass(&digit, blank)
}

/// 20 of 28.
fn box_side(field: usize) -> usize {
    (field * 20 / 28).max(1)
}

fn shrink(grey: Pixels, longest: usize) -> Pixels {
    let (width, height) = (grey.width, grey.height);
    let now = width.max(height);
    if now <= longest {
        return grey;
    }
    let side = |length: usize| (length * longest / now).max(1);
    grey.resize_bilinear(side(width), side(height))
}

/// Maps the border's level, with its noise, to 0 and the lightest level to 255; `None` for an empty sheet.
fn stretch_contrast(mut grey: Pixels) -> Option<Pixels> {
    let mut border = border(&grey);
    let ground = percentile(&mut border, 50);
    let lightest = grey.data.iter().copied().max()?;
    let range = lightest.saturating_sub(ground);
    if range < LEAST_CONTRAST {
        return None;
    }
    let noise = percentile(&mut border, 95).saturating_sub(ground).min(range / 4);
    let black = ground + noise;
    let range = u32::from(lightest - black);
    for pixel in &mut grey.data {
        *pixel = (u32::from(pixel.saturating_sub(black)) * 255 / range) as u8;
    }
    Some(grey)
}

fn crop_to_ink(grey: &Pixels) -> Option<Pixels> {
    let is_ink = |x: usize, y: usize| grey.data[y * grey.width + x] >= 128;
    let mut columns = (0..grey.width).filter(|&x| (0..grey.height).any(|y| is_ink(x, y)));
    let mut rows = (0..grey.height).filter(|&y| (0..grey.width).any(|x| is_ink(x, y)));
    let (left, top) = (columns.next()?, rows.next()?);
    let (right, bottom) = (columns.next_back().unwrap_or(left), rows.next_back().unwrap_or(top));
    Some(grey.crop(left, top, right - left + 1, bottom - top + 1))
}

/// Makes the upper quarter of the ink white, as it is in MNIST, so that a thin pen does not leave a faint digit.
fn stretch_to_white(pixels: &mut [u8]) {
    let mut ink: Vec<u8> = pixels.iter().copied().filter(|&pixel| pixel > 0).collect();
    let white = u32::from(percentile(&mut ink, 75)).max(1);
    for pixel in pixels {
        *pixel = (u32::from(*pixel) * 255 / white).min(255) as u8;
    }
}

fn place_by_mass(digit: &Pixels, mut field: Pixels) -> Pixels {
    let (mut mass, mut x_sum, mut y_sum) = (0u64, 0u64, 0u64);
    for (at, &pixel) in digit.data.iter().enumerate() {
        mass += u64::from(pixel);
        x_sum += u64::from(pixel) * (at % digit.width) as u64;
        y_sum += u64::from(pixel) * (at / digit.width) as u64;
    }
    let offset = |sum: u64, field: usize, digit: usize| {
        let centre = sum as f64 / mass.max(1) as f64;
        let start = (field as f64 / 2.0 - centre).round();
        (start.max(0.0) as usize).min(field - digit)
    };
    let left = offset(x_sum, field.width, digit.width);
    let top = offset(y_sum, field.height, digit.height);
    for (y, row) in digit.data.chunks_exact(digit.width).enumerate() {
        let start = (top + y) * field.width + left;
        field.data[start..start + digit.width].copy_from_slice(row);
    }
    field
}

/// The pixels of a frame around the picture, a twentieth of its shorter side wide.
fn border(grey: &Pixels) -> Vec<u8> {
    let wide = (grey.width.min(grey.height) / 20).max(1);
    let inside = |at: usize, length: usize| at >= wide && at + wide < length;
    let mut pixels = Vec::new();
    for (y, row) in grey.data.chunks_exact(grey.width.max(1)).enumerate() {
        match inside(y, grey.height) {
            true => pixels.extend(
                row.iter().enumerate().filter(|&(x, _)| !inside(x, grey.width)).map(|(_, &p)| p),
            ),
            false => pixels.extend_from_slice(row),
        }
    }
    pixels
}

fn percentile(values: &mut [u8], percent: usize) -> u8 {
    let Some(last) = values.len().checked_sub(1) else {
        return 0;
    };
    *values.select_nth_unstable(last * percent / 100).1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(width: usize, height: usize, level: u8) -> Pixels {
        Pixels { width, height, channels: 1, data: vec![level; width * height] }
    }

    fn with_bar(
        mut grey: Pixels,
        left: usize,
        top: usize,
        width: usize,
        height: usize,
        level: u8,
    ) -> Pixels {
        for y in top..top + height {
            grey.data[y * grey.width + left..][..width].fill(level);
        }
        grey
    }

    #[test]
    fn the_border_tells_the_polarity() {
        for (grey, expected) in [
            (with_bar(field(40, 30, 255), 10, 5, 8, 20, 0), true),
            (with_bar(field(40, 30, 0), 10, 5, 8, 20, 255), false),
            // A sheet in dim light is darker than mid-grey, yet lighter than its ink.
            (with_bar(field(40, 30, 100), 10, 5, 8, 20, 30), true),
            (with_bar(field(40, 30, 150), 10, 5, 8, 20, 220), false),
            // The ink reaches the border.
            (with_bar(field(40, 30, 255), 10, 0, 8, 30, 0), true),
            (field(40, 30, 255), true),
            (field(40, 30, 0), false),
            (field(1, 1, 255), true),
        ] {
            assert_eq!(is_dark_on_light(&grey), expected);
        }
    }

    #[test]
    fn a_bar_fills_the_box_and_is_centred() {
        // 10×40 of ink become 5×20; its mass centre, 2 and 9.5 from its corner, goes to 14 and 14.
        let grey = with_bar(field(100, 90, 10), 70, 45, 10, 40, 200);
        let digit = centre_digit(grey, 28, 28);
        assert_eq!(digit, with_bar(field(28, 28, 0), 12, 5, 5, 20, 255));
    }

    #[test]
    fn a_wide_field_keeps_proportions() {
        // The mass centre, 9.5 from the corner, goes to 28 and 14; halves round away from 0.
        let grey = with_bar(field(30, 30, 0), 3, 3, 8, 8, 255);
        let digit = centre_digit(grey, 56, 28);
        assert_eq!(digit, with_bar(field(56, 28, 0), 19, 5, 20, 20, 255));
    }

    #[test]
    fn noise_of_the_ground_becomes_black() {
        let mut grey = with_bar(field(60, 60, 20), 20, 10, 10, 40, 220);
        for (at, pixel) in grey.data.iter_mut().enumerate() {
            *pixel += (at * 7919 % 11) as u8;
        }
        let digit = centre_digit(grey, 28, 28);
        let lit = digit.data.iter().filter(|&&pixel| pixel > 0).count();
        assert!((100..=140).contains(&lit), "{lit} pixels are lit");
    }

    #[test]
    fn empty_sheets_and_slivers_do_no_harm() {
        for grey in [
            field(50, 40, 0),
            field(50, 40, 255),
            field(1, 1, 77),
            field(0, 0, 0),
            with_bar(field(50, 40, 0), 5, 5, 10, 10, LEAST_CONTRAST - 1),
        ] {
            assert_eq!(centre_digit(grey, 28, 28), field(28, 28, 0));
        }
        let hairline = with_bar(field(3000, 3, 0), 1, 1, 2998, 1, 255);
        assert_eq!(centre_digit(hairline, 28, 28).data.len(), 784);
        let tiny = with_bar(field(9, 9, 0), 4, 4, 1, 1, 255);
        assert_eq!(centre_digit(tiny, 1, 1).data, [255]);
    }
}
