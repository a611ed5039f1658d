//! How constants lie in the shards of a TensorFlow.js model.

use crate::format::mmap;
use crate::graph::{ElementType, Model};
use crate::ops::{GraphDefAttribute, GraphDefConstant};
use crate::write::graphdef::GraphDefModel;
use anyhow::{Context, Result, bail};
use bytes::Bytes;
use half::f16;
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

/// What float32 weights become in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WeightStorage {
    Float32,
    Float16,
    /// Integers with a scale and a least value for each weight, of which 0 is one where it lies between.
    Uint8,
    Uint16,
}

/// What a constant's numbers become.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Encoding {
    /// As they are, but for what TensorFlow.js has no type for.
    Plain,
    Float16,
    /// `least + scale · integer`, the integer at most `most`.
    Affine {
        most: u32,
        scale: f64,
        least: f64,
    },
}

/// A constant, the node that is called like it in the file, and how it is stored.
#[derive(Debug)]
struct Weight<'a> {
    node: &'a str,
    constant: &'a GraphDefConstant,
    encoding: Encoding,
}

/// All constants of a model, in the order in which they are stored.
#[derive(Debug)]
pub struct WeightPlan<'a> {
    weights: Vec<Weight<'a>>,
    /// What was asked for, by the constant's name in the graph, where that was not float32.
    asked: HashMap<&'a str, WeightStorage>,
    pub report: Vec<StorageReport>,
    pub kept: Vec<KeptWeight>,
}

/// Float32 constants that are stored alike.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StorageReport {
    #[serde(rename = "type")]
    pub storage: &'static str,
    pub constants: usize,
    pub numbers: usize,
}

/// A constant that stays float32 though it was to be stored otherwise.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct KeptWeight {
    pub name: String,
    pub why: &'static str,
}

impl WeightStorage {
    pub fn name(self) -> &'static str {
        match self {
            WeightStorage::Float32 => "float32",
            WeightStorage::Float16 => "float16",
            WeightStorage::Uint8 => "uint8",
            WeightStorage::Uint16 => "uint16",
        }
    }
}

impl<'a> WeightPlan<'a> {
    /// `storage` is asked about float32 constants of several numbers, by the node's name and the graph's own; single
    /// numbers, integers and booleans are stored as they are.
    ///
    /// # Errors
    /// An integer that TensorFlow.js, whose integers have 32 bits, cannot hold.
    pub fn new(
        model: &'a GraphDefModel,
        mut storage: impl FnMut(&str, &str) -> WeightStorage,
    ) -> Result<WeightPlan<'a>> {
        let mut plan =
            WeightPlan { weights: vec![], asked: HashMap::new(), report: vec![], kept: vec![] };
        for node in model.functions.iter().flat_map(|function| &function.nodes) {
            let constant = node.attributes.iter().find_map(|(_, attribute)| match attribute {
                GraphDefAttribute::Constant(constant) => Some(constant),
                _ => None,
            });
            let Some(constant) = constant else { continue };
            let count: usize = constant.shape.iter().product();
            let mut encoding = Encoding::Plain;
            if constant.element == ElementType::F32 && count > 1 {
                let mut storage = storage(&node.name, &constant.name);
                if storage != WeightStorage::Float32 {
                    plan.asked.insert(&constant.name, storage);
                    let bytes = constant.bytes()?;
                    match Encoding::of(numbers(&bytes), storage) {
                        Ok(found) => encoding = found,
                        Err(why) => {
                            storage = WeightStorage::Float32;
                            plan.kept.push(KeptWeight { name: node.name.clone(), why });
                        }
                    }
                    mmap::release(&bytes);
                }
                plan.count(storage.name(), count);
            }
            plan.weights.push(Weight { node: &node.name, constant, encoding });
        }
        Ok(plan)
    }

    fn count(&mut self, storage: &'static str, numbers: usize) {
        match self.report.iter_mut().find(|report| report.storage == storage) {
            Some(report) => {
                report.constants += 1;
                report.numbers += numbers;
            }
            None => self.report.push(StorageReport { storage, constants: 1, numbers }),
        }
    }

    /// Gives `graph`, of which the model was made, the numbers that the file will hold.
    pub fn round(&self, graph: &mut Model) {
        if self.asked.is_empty() {
            return;
        }
        for tensor in graph.subgraphs.iter_mut().flat_map(|graph| &mut graph.tensors) {
            let Some(bytes) = tensor.data.as_ref().filter(|_| tensor.element == ElementType::F32)
            else {
                continue;
            };
            let Some(&storage) = self.asked.get(tensor.name.as_str()) else { continue };
            if let Ok(encoding) = Encoding::of(numbers(bytes), storage) {
                let rounded = numbers(bytes).flat_map(|n| encoding.rounded(n).to_le_bytes());
                tensor.data = Some(rounded.collect::<Vec<u8>>().into());
            }
        }
    }

    /// Writes the shards; returns their names, what the manifest says of the weights, and how many bytes there are.
    pub fn write(
        &self,
        folder: &Path,
        shard_size: usize,
    ) -> Result<(Vec<String>, Vec<Value>, u64)> {
        let total = self.weights.iter().map(Weight::len).sum::<u64>();
        let mut shards = Shards::new(folder, shard_size, total);
        let mut specifications = vec![];
        for weight in &self.weights {
            let at = || format!("weight '{}'", weight.node);
            let bytes = weight.stored().with_context(at)?;
            specifications.push(weight.specification()?);
            shards.write(&bytes)?;
            mmap::release(&bytes);
        }
        Ok((shards.finish()?, specifications, total))
    }
}

fn numbers(bytes: &[u8]) -> impl Iterator<Item = f32> {
    bytes.as_chunks::<4>().0.iter().map(|word| f32::from_le_bytes(*word))
}

impl Encoding {
    /// As `storage` has it, or why that cannot hold them.
    fn of(
        numbers: impl Iterator<Item = f32>,
        storage: WeightStorage,
    ) -> Result<Encoding, &'static str> {
        let (mut least, mut largest) = (f32::INFINITY, f32::NEG_INFINITY);
        let mut all_finite = true;
        for number in numbers {
            if number.is_finite() {
                (least, largest) = (least.min(number), largest.max(number));
            } else {
                all_finite = false;
            }
        }
        let most = match storage {
            WeightStorage::Float32 => return Ok(Encoding::Plain),
            WeightStorage::Float16 => {
                let fits = f16::from_f32(least).is_finite() && f16::from_f32(largest).is_finite();
                let is_empty = least > largest;
                return match fits || is_empty {
                    true => Ok(Encoding::Float16),
                    false => Err("a value is beyond ±65504"),
                };
            }
            WeightStorage::Uint8 => 255,
            WeightStorage::Uint16 => 65_535,
        };
        if !all_finite {
            return Err("a value is not finite");
        }
        Ok(Encoding::affine(least.into(), largest.into(), most))
    }

    /// `least` is moved so that 0, where it lies between, is one of the steps (padding and pruned weights stay 0), and
    /// the step widened so that both ends still fit: no number is off by more than half a step.
    fn affine(least: f64, largest: f64, most: u32) -> Encoding {
        let steps = f64::from(most);
        if least >= largest {
            return Encoding::Affine { most, scale: 1.0, least };
        }
        let scale = (largest - least) / steps;
        if least > 0.0 || largest < 0.0 {
            return Encoding::Affine { most, scale, least };
        }
        let below = (-least / scale).round();
        let above = steps - below;
        let needed = |end: f64, steps: f64| if steps > 0.0 { end / steps } else { 0.0 };
        let scale = needed(-least, below).max(needed(largest, above));
        Encoding::Affine { most, scale, least: -below * scale }
    }

    fn integer(number: f32, most: u32, scale: f64, least: f64) -> u32 {
        ((f64::from(number) - least) / scale).round().clamp(0.0, f64::from(most)) as u32
    }

    /// What TensorFlow.js makes of what is stored for `number`.
    fn rounded(self, number: f32) -> f32 {
        match self {
            Encoding::Plain => number,
            Encoding::Float16 => f16::from_f32(number).to_f32(),
            Encoding::Affine { most, scale, least } => {
                let integer = Encoding::integer(number, most, scale, least);
                (f64::from(integer) * scale + least) as f32
            }
        }
    }
}

impl Weight<'_> {
    /// The bytes that one element takes.
    fn width(&self) -> usize {
        match (self.encoding, self.constant.element) {
            (Encoding::Float16, _) => 2,
            (Encoding::Affine { most, .. }, _) => {
                if most > 255 {
                    2
                } else {
                    1
                }
            }
            (Encoding::Plain, ElementType::Bool) => 1,
            (Encoding::Plain, ElementType::F16) => 2,
            (Encoding::Plain, _) => 4,
        }
    }

    fn len(&self) -> u64 {
        (self.constant.shape.iter().product::<usize>() * self.width()) as u64
    }

    fn stored(&self) -> Result<Bytes> {
        let bytes = self.constant.bytes()?;
        Ok(match (self.encoding, self.constant.element) {
            (Encoding::Float16, _) => {
                numbers(&bytes).flat_map(|n| f16::from_f32(n).to_le_bytes()).collect()
            }
            (Encoding::Affine { most, scale, least }, _) => {
                let integers = numbers(&bytes).map(|n| Encoding::integer(n, most, scale, least));
                match most {
                    255 => integers.map(|n| n as u8).collect(),
                    _ => integers.flat_map(|n| (n as u16).to_le_bytes()).collect(),
                }
            }
            (Encoding::Plain, element) => match element {
                ElementType::F32 | ElementType::F16 | ElementType::I32 | ElementType::Bool => bytes,
                ElementType::I64 => {
                    let integers: Result<Vec<i32>> = bytes
                        .as_chunks::<8>()
                        .0
                        .iter()
                        .map(|b| int32(i64::from_le_bytes(*b)))
                        .collect();
                    integers?.into_iter().flat_map(i32::to_le_bytes).collect()
                }
                ElementType::U8 => bytes.iter().flat_map(|&n| i32::from(n).to_le_bytes()).collect(),
                ElementType::I8 => {
                    bytes.iter().flat_map(|&n| i32::from(n as i8).to_le_bytes()).collect()
                }
                ElementType::I16 => {
                    let words = bytes.as_chunks::<2>().0.iter();
                    words.flat_map(|b| i32::from(i16::from_le_bytes(*b)).to_le_bytes()).collect()
                }
                ElementType::U16 => {
                    let words = bytes.as_chunks::<2>().0.iter();
                    words.flat_map(|b| i32::from(u16::from_le_bytes(*b)).to_le_bytes()).collect()
                }
                ElementType::U32 | ElementType::I4 | ElementType::String => {
                    bail!("TensorFlow.js has no {element} values")
                }
            },
        })
    }

    /// What the manifest says.
    fn specification(&self) -> Result<Value> {
        let element = self.constant.element;
        let kind = match element {
            ElementType::F32 | ElementType::F16 => "float32",
            ElementType::Bool => "bool",
            _ => "int32",
        };
        let mut weight = json!({"name": self.node, "shape": self.constant.shape, "dtype": kind});
        let quantization = match (self.encoding, element) {
            (Encoding::Float16, _) | (Encoding::Plain, ElementType::F16) => {
                json!({"dtype": "float16", "original_dtype": kind})
            }
            (Encoding::Affine { most, scale, least }, _) => {
                let name = if most > 255 { "uint16" } else { "uint8" };
                json!({"dtype": name, "min": least, "scale": scale, "original_dtype": kind})
            }
            (Encoding::Plain, _) => return Ok(weight),
        };
        weight["quantization"] = quantization;
        Ok(weight)
    }
}

/// `number` in 32 bits. Slices have limits far beyond their ends, for which the largest number will do.
fn int32(number: i64) -> Result<i32> {
    const BEYOND_ALL_SIZES: u64 = 1 << 53;
    match i32::try_from(number) {
        Ok(number) => Ok(number),
        Err(_) if number.unsigned_abs() >= BEYOND_ALL_SIZES => {
            Ok(if number > 0 { i32::MAX } else { i32::MIN })
        }
        Err(_) => bail!("it holds {number}, and TensorFlow.js' integers have 32 bits"),
    }
}

/// Files of one size that hold the weights one behind the other; names tell how many there are.
struct Shards<'a> {
    folder: &'a Path,
    size: usize,
    names: Vec<String>,
    open: Option<BufWriter<File>>,
    written: usize,
}

impl Shards<'_> {
    fn new(folder: &Path, size: usize, total: u64) -> Shards<'_> {
        let count = total.div_ceil(size as u64).max(1);
        let name = |number| format!("group1-shard{number}of{count}.bin");
        Shards { folder, size, names: (1..=count).map(name).collect(), open: None, written: 0 }
    }

    fn write(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            let filled = self.written % self.size;
            if filled == 0 {
                self.start(self.written / self.size)?;
            }
            let part = bytes.len().min(self.size - filled);
            self.open.as_mut().context("a shard")?.write_all(&bytes[..part])?;
            self.written += part;
            bytes = &bytes[part..];
        }
        Ok(())
    }

    fn start(&mut self, number: usize) -> Result<()> {
        self.close()?;
        let name = self.names.get(number).context("more weights than were counted")?;
        self.open = Some(BufWriter::new(File::create(self.folder.join(name))?));
        Ok(())
    }

    fn close(&mut self) -> Result<()> {
        if let Some(file) = self.open.take() {
            file.into_inner().map_err(|error| error.into_error())?;
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Vec<String>> {
        if self.written == 0 {
            self.start(0)?;
        }
        self.close()?;
        Ok(self.names)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn affine(numbers: &[f32], storage: WeightStorage) -> (Encoding, f64, f64) {
        let encoding = Encoding::of(numbers.iter().copied(), storage).unwrap();
        let Encoding::Affine { scale, least, .. } = encoding else { panic!("{encoding:?}") };
        (encoding, scale, least)
    }

    #[test]
    fn zero_is_exact_and_no_number_is_off_by_more_than_half_a_step() {
        let cases: [&[f32]; 7] = [
            &[-0.7, 0.0, 0.31, 1.9],
            &[-1e-6, 0.0, 5.0],
            &[-5.0, 0.0, 1e-6],
            &[0.0, 0.1, 1.0],
            &[-1.0, -0.3, 0.0],
            &[-3e38, 0.0, 3e38],
            &[-1e-45, 0.0, 4e-44],
        ];
        for numbers in cases {
            for storage in [WeightStorage::Uint8, WeightStorage::Uint16] {
                let (encoding, scale, least) = affine(numbers, storage);
                assert_eq!(encoding.rounded(0.0), 0.0, "{numbers:?}");
                assert_eq!((-least / scale).fract(), 0.0, "{numbers:?}");
                for &number in numbers {
                    let error = f64::from(encoding.rounded(number)) - f64::from(number);
                    let half_a_step = scale * 0.5 * (1.0 + 1e-6) + f64::from(number).abs() * 1e-7;
                    assert!(error.abs() <= half_a_step, "{number} of {numbers:?}: {error}");
                }
            }
        }
    }

    #[test]
    fn ranges_that_are_none_are_exact() {
        for numbers in [[3.5, 3.5], [0.0, 0.0], [-2.0, -2.0]] {
            for storage in [WeightStorage::Uint8, WeightStorage::Uint16] {
                let (encoding, ..) = affine(&numbers, storage);
                assert_eq!(encoding.rounded(numbers[0]), numbers[0]);
            }
        }
        let (encoding, scale, least) = affine(&[10.0, 11.0], WeightStorage::Uint8);
        assert_eq!((least, scale), (10.0, 1.0 / 255.0));
        assert_eq!(encoding.rounded(11.0), 11.0);
    }

    #[test]
    fn what_a_storage_cannot_hold_stays_float32() {
        let of = |numbers: &[f32], storage| Encoding::of(numbers.iter().copied(), storage);
        use WeightStorage::{Float16, Uint8, Uint16};
        for number in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            assert_eq!(of(&[number, 1.0], Float16), Ok(Encoding::Float16));
            assert!(of(&[number, 1.0], Uint8).is_err() && of(&[1.0, number], Uint16).is_err());
        }
        assert_eq!(of(&[65504.0, -65504.0], Float16), Ok(Encoding::Float16));
        assert!(of(&[1.0, 65520.0], Float16).is_err() && of(&[-1e9], Float16).is_err());
        // 65519 rounds to 65504
        assert_eq!(Encoding::Float16.rounded(65519.0), 65504.0);
        assert_eq!(of(&[65519.0, 0.0], Float16), Ok(Encoding::Float16));
        assert_eq!(of(&[f32::NAN], Float16), Ok(Encoding::Float16));
    }

    #[test]
    fn long_integers_become_32_bits_or_are_refused() {
        for (number, expected) in [
            (7, Some(7)),
            (-1, Some(-1)),
            (i64::MAX, Some(i32::MAX)),
            (i64::MIN, Some(i32::MIN)),
            (1 << 31, None),
            (-(1 << 40), None),
        ] {
            assert_eq!(int32(number).ok(), expected, "{number}");
        }
    }

    #[test]
    fn shards_are_of_one_size() {
        for (lengths, size, expected) in [
            (&[10usize, 3, 7][..], 8, &[8usize, 8, 4][..]),
            (&[16], 8, &[8, 8]),
            (&[], 8, &[0]),
            (&[5], 8, &[5]),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let bytes: Vec<u8> = (0..lengths.iter().sum::<usize>() as u8).collect();
            let mut shards = Shards::new(folder.path(), size, bytes.len() as u64);
            let mut rest = bytes.as_slice();
            for &length in lengths {
                let (part, behind) = rest.split_at(length);
                shards.write(part).unwrap();
                rest = behind;
            }
            let names = shards.finish().unwrap();
            let files: Vec<Vec<u8>> =
                names.iter().map(|name| std::fs::read(folder.path().join(name)).unwrap()).collect();
            assert_eq!(files.iter().map(Vec::len).collect::<Vec<_>>(), expected);
            assert_eq!(files.concat(), bytes);
            assert_eq!(names[0], format!("group1-shard1of{}.bin", expected.len()));
        }
    }
}
