//! How pictures become a model's input where nobody says it: as the input's shape and scale tell. Knows no pictures.

use crate::data::preprocessing::{Channels, Layout, Preprocessing};
use crate::graph::shape_text;
use crate::runtime::Port;
use anyhow::{Context, Result, bail, ensure};

/// The record that an input's shape tells: colours by the number of channels, pixels from 0 to 1.
///
/// # Errors
/// The shape is not that of pictures, or could have either layout and none is given.
pub fn guessed_record(port: &Port, layout: Option<Layout>) -> Result<Preprocessing> {
    let shape = || shape_text(&port.shape);
    let no_picture =
        || format!("input '{}' {} takes no picture; give an .npy or .npz", port.name, shape());
    let known: Option<Vec<usize>> = port.shape.iter().skip(1).map(|d| d.known()).collect();
    let known = known.with_context(no_picture)?;
    let &[a, b, c] = known.as_slice() else { bail!(no_picture()) };
    let channels = |n| match n {
        1 => Some(Channels::Grey),
        3 => Some(Channels::Rgb),
        _ => None,
    };
    let (layout, height, width, channels) = match (layout, channels(a), channels(c)) {
        (Some(Layout::Nchw), Some(found), _) | (None, Some(found), None) => {
            (Layout::Nchw, b, c, found)
        }
        (Some(Layout::Nhwc), _, Some(found)) | (None, None, Some(found)) => {
            (Layout::Nhwc, a, b, found)
        }
        (None, Some(_), Some(_)) => {
            bail!("input '{}' {} could be NCHW or NHWC; say --input-layout", port.name, shape())
        }
        _ => bail!(no_picture()),
    };
    Ok(Preprocessing { layout, ..Preprocessing::unit_range(height, width, channels) })
}

/// Lets pixels go in as they are, 0 to 255, where the port's integers stand for just that range; tells whether they do.
pub fn scale_as_bytes(record: &mut Preprocessing, port: &Port) -> bool {
    let Some((scale, zero)) = port.scale_of_bytes() else { return false };
    (record.scale, record.mean) = (scale, vec![scale * zero]);
    true
}

/// # Errors
/// Pictures become another shape than the input takes.
pub fn check_record_fits(record: &Preprocessing, port: &Port) -> Result<()> {
    let shape = record.shape(1);
    let fits = port.shape.len() == 4
        && port.shape.iter().zip(shape).skip(1).all(|(d, n)| d.known().is_none_or(|d| d == n));
    ensure!(
        fits,
        "pictures become {shape:?}, but input '{}' takes {}; try --input-layout, or give an .npy",
        port.name,
        shape_text(&port.shape)
    );
    Ok(())
}

/// The model's own record, or the one that its only input tells, digits where it is of MNIST's size; `None` where it
/// takes no pictures.
pub fn picture_record(recorded: Option<&Preprocessing>, ports: &[Port]) -> Option<Preprocessing> {
    let [port] = ports else { return None };
    let record = match recorded {
        Some(record) => record.clone(),
        None => {
            let mut guessed = guessed_record(port, None).ok()?;
            let digits = Preprocessing { layout: guessed.layout, ..Preprocessing::mnist() };
            if guessed.shape(1) == digits.shape(1) {
                guessed = digits;
            }
            scale_as_bytes(&mut guessed, port);
            guessed
        }
    };
    let fits = port.has_reals() && check_record_fits(&record, port).is_ok();
    (fits && record.validate().is_ok()).then_some(record)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::preprocessing::Fit;
    use crate::graph::{Dim, ElementType, Quantization};

    fn port(element: ElementType, shape: &[usize]) -> Port {
        let inner = shape.iter().map(|&n| Dim::Known(n));
        let shape = std::iter::once(Dim::Symbol("N".into())).chain(inner).collect();
        Port { name: "x".into(), element, shape, quantization: None }
    }

    #[test]
    fn shapes_tell_how_pictures_go_in() {
        let record = |shape: &[usize]| picture_record(None, &[port(ElementType::F32, shape)]);
        let rgb = Preprocessing::unit_range(32, 24, Channels::Rgb);
        assert_eq!(record(&[32, 24, 3]), Some(rgb.clone()));
        let planes = Preprocessing { layout: Layout::Nchw, ..rgb.clone() };
        assert_eq!(record(&[3, 32, 24]), Some(planes));
        assert_eq!(record(&[28, 28, 1]).unwrap().fit, Fit::CentreDigit);
        assert_eq!(record(&[1, 28, 28]).unwrap().layout, Layout::Nchw);
        assert_eq!(record(&[784]), None);
        assert_eq!(record(&[3, 5, 3]), None);
        let two = [port(ElementType::F32, &[8, 8, 1]), port(ElementType::F32, &[8, 8, 1])];
        assert_eq!(picture_record(None, &two), None);
        assert_eq!(picture_record(Some(&rgb), &[port(ElementType::F32, &[8, 8, 3])]), None);
        assert_eq!(picture_record(None, &[port(ElementType::I32, &[8, 8, 3])]), None);
        let scale = Quantization::PerTensor { scale: 0.5, zero_point: 3 };
        let bytes = Port { quantization: Some(scale), ..port(ElementType::U8, &[8, 8, 3]) };
        let record = picture_record(None, &[bytes]).unwrap();
        assert_eq!((record.scale, record.mean), (0.5, vec![1.5]));
    }
}
