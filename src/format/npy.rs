//! NumPy's files: one array (`.npy`, versions 1 to 3) and named arrays in a ZIP file (`.npz`).
//! Arrays are little-endian and in C order on both sides of this module; it knows no models and writes no files.
//! Format: <https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>.

use std::collections::HashSet;
use std::fmt;
use std::io::{Cursor, Read, Write};

use super::mmap;
use bytes::Bytes;
use half::f16;
use zip::read::ZipFile;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipArchive, ZipWriter};

/// The most bytes that one array, or all arrays of one `.npz`, may hold.
pub const MAX_BYTES: u64 = 4 << 30;
/// The most arrays in one `.npz`.
pub const MAX_ENTRIES: usize = 65_536;
const MAX_HEADER: usize = 65_536;
const MAX_RANK: usize = 64;

/// An array; `data` is little-endian, last axis fastest, `shape`'s product times the element size long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Array {
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    pub data: Bytes,
}

/// The element types read and written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dtype {
    Bool,
    U8,
    U16,
    U32,
    U64,
    I8,
    I16,
    I32,
    I64,
    F16,
    F32,
    F64,
}

/// What can be wrong with an array or its file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NpyError {
    /// The first six bytes are not `\x93NUMPY`.
    BadMagic,
    /// The format version is not 1, 2 or 3.
    UnknownVersion(u8),
    /// The file ends inside its header.
    Truncated,
    /// The header's length is beyond what any plain array needs.
    HeaderTooLong(usize),
    /// The header is not the dictionary `{'descr': …, 'fortran_order': …, 'shape': …}`.
    BadHeader,
    /// The element type is not one of [`Dtype`]'s, or is big-endian.
    UnsupportedDtype(String),
    /// The shape has too many axes, or its bytes exceed the limit.
    TooLarge,
    /// The shape needs `declared` bytes, and `found` are there.
    SizeMismatch { declared: u64, found: u64 },
}

/// What can be wrong with an `.npz`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NpzError {
    /// The ZIP structure is broken, an entry does not unpack, or its checksum is wrong.
    Zip(String),
    /// There are more entries than [`MAX_ENTRIES`].
    TooManyEntries(usize),
    /// The entries declare more bytes than [`MAX_BYTES`], or than a file of this length can hold.
    TooLarge { declared: u64, limit: u64 },
    /// Two arrays to be written have the same name.
    DuplicateName(String),
    /// An entry is not named `….npy`.
    NotNpy(String),
    /// An entry's array is defective.
    Entry { name: String, error: NpyError },
}

/// Reads one `.npy`; Fortran order is turned into C order, other data stay where they are.
pub fn read_npy(bytes: &Bytes) -> Result<Array, NpyError> {
    let (header, data) = Header::read(bytes)?;
    let data = match header.is_fortran() {
        true => fortran_to_c(data, &header.shape, header.dtype.size()).into(),
        false => bytes.slice_ref(data),
    };
    Ok(header.with_data(data))
}

/// Writes one `.npy`, version 1, the data aligned to 64 bytes.
pub fn write_npy(array: &Array) -> Result<Vec<u8>, NpyError> {
    let mut out = npy_header(array)?;
    out.extend_from_slice(&array.data);
    Ok(out)
}

/// Reads all arrays of an `.npz`, stored or deflated, in the file's order; names without `.npy`. Stored arrays stay where
/// they are.
pub fn read_npz(bytes: &Bytes) -> Result<Vec<(String, Array)>, NpzError> {
    let mut archive = ZipArchive::new(Cursor::new(bytes)).map_err(zip_error)?;
    if archive.len() > MAX_ENTRIES {
        return Err(NpzError::TooManyEntries(archive.len()));
    }
    if archive.has_duplicate_names() {
        return Err(NpzError::Zip("two entries have the same name".into()));
    }
    // Deflate unpacks at most 1032 to 1, so that entries which share their bytes stay within this too.
    let limit = MAX_BYTES.min((bytes.len() as u64).saturating_mul(1032));
    let mut declared = 0u64;
    let mut arrays = Vec::new();
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index).map_err(zip_error)?;
        let full_name = entry.name().map_err(zip_error)?.into_owned();
        let Some(name) = full_name.strip_suffix(".npy").map(str::to_owned) else {
            return Err(NpzError::NotNpy(full_name));
        };
        declared = declared.saturating_add(entry.size());
        if declared > limit {
            return Err(NpzError::TooLarge { declared, limit });
        }
        let npy = match stored_entry(&entry, bytes) {
            Some(npy) => check_stored(&mut entry, &npy).map(|()| npy),
            None => unpacked(&mut entry).map(Bytes::from),
        };
        let npy = npy.map_err(|what| NpzError::Zip(format!("entry '{full_name}' {what}")))?;
        let array =
            read_npy(&npy).map_err(|error| NpzError::Entry { name: name.clone(), error })?;
        arrays.push((name, array));
    }
    Ok(arrays)
}

/// The bytes of an entry that is not packed.
fn stored_entry<R: Read>(entry: &ZipFile<R>, bytes: &Bytes) -> Option<Bytes> {
    let is_stored = entry.compression() == CompressionMethod::Stored && !entry.encrypted();
    let first = entry.data_start().filter(|_| is_stored)? as usize;
    let end = first.checked_add(entry.size() as usize)?;
    (entry.size() == entry.compressed_size() && end <= bytes.len()).then(|| bytes.slice(first..end))
}

/// Reads an entry that lies in `bytes` to its end, where its checksum is compared; keeps none of a mapped file in memory.
fn check_stored(entry: &mut impl Read, bytes: &Bytes) -> Result<(), String> {
    let (mut part, mut seen) = (vec![0; 1 << 18], 0);
    loop {
        let read = entry.read(&mut part).map_err(|error| format!(": {error}"))?;
        if read == 0 {
            break;
        }
        let end = bytes.len().min(seen + read);
        mmap::release(bytes.get(seen..end).unwrap_or_default());
        seen += read;
    }
    (seen == bytes.len()).then_some(()).ok_or_else(|| "has not its declared size".into())
}

fn unpacked<R: Read>(entry: &mut ZipFile<R>) -> Result<Vec<u8>, String> {
    let size = entry.size();
    let mut npy = Vec::new();
    npy.try_reserve_exact(size as usize).map_err(|_| format!("of {size} bytes is too large"))?;
    entry.by_ref().take(size + 1).read_to_end(&mut npy).map_err(|error| format!(": {error}"))?;
    (npy.len() as u64 == size).then_some(npy).ok_or_else(|| "has not its declared size".into())
}

/// Writes an `.npz` as `np.savez` does, uncompressed; equal arrays give equal bytes.
pub fn write_npz(arrays: &[(String, Array)]) -> Result<Vec<u8>, NpzError> {
    let expected: usize =
        arrays.iter().map(|(name, array)| array.data.len() + 2 * name.len() + 512).sum();
    let mut zip = ZipWriter::new(Cursor::new(Vec::with_capacity(expected)));
    let mut names = HashSet::new();
    for (name, array) in arrays {
        if !names.insert(name) {
            return Err(NpzError::DuplicateName(name.clone()));
        }
        let header =
            npy_header(array).map_err(|error| NpzError::Entry { name: name.clone(), error })?;
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Stored)
            .last_modified_time(DateTime::default())
            .unix_permissions(0o644)
            .large_file((header.len() + array.data.len()) as u64 >= u32::MAX.into());
        zip.start_file(format!("{name}.npy"), options).map_err(zip_error)?;
        zip.write_all(&header)
            .and_then(|()| zip.write_all(&array.data))
            .map_err(|error| NpzError::Zip(error.to_string()))?;
    }
    Ok(zip.finish().map_err(zip_error)?.into_inner())
}

impl Array {
    /// Checks that `data` has the bytes that `shape` asks for.
    pub fn new(dtype: Dtype, shape: Vec<usize>, data: impl Into<Bytes>) -> Result<Array, NpyError> {
        let array = Array { dtype, shape, data: data.into() };
        array.check()?;
        Ok(array)
    }

    pub fn from_f32(shape: Vec<usize>, values: &[f32]) -> Result<Array, NpyError> {
        let data: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        Array::new(Dtype::F32, shape, data)
    }

    /// The elements as f32, each rounded to the nearest; false is 0 and true is 1.
    pub fn to_f32(&self) -> Vec<f32> {
        match self.dtype {
            Dtype::Bool => self.elements(|[b]| f32::from(u8::from(b != 0))),
            Dtype::U8 => self.elements(|[b]| f32::from(b)),
            Dtype::U16 => self.elements(|b| u16::from_le_bytes(b).into()),
            Dtype::U32 => self.elements(|b| u32::from_le_bytes(b) as f32),
            Dtype::U64 => self.elements(|b| u64::from_le_bytes(b) as f32),
            Dtype::I8 => self.elements(|b| i8::from_le_bytes(b).into()),
            Dtype::I16 => self.elements(|b| i16::from_le_bytes(b).into()),
            Dtype::I32 => self.elements(|b| i32::from_le_bytes(b) as f32),
            Dtype::I64 => self.elements(|b| i64::from_le_bytes(b) as f32),
            Dtype::F16 => self.elements(|b| f16::from_le_bytes(b).to_f32()),
            Dtype::F32 => self.elements(f32::from_le_bytes),
            Dtype::F64 => self.elements(|b| f64::from_le_bytes(b) as f32),
        }
    }

    fn elements<const SIZE: usize>(&self, to_f32: impl Fn([u8; SIZE]) -> f32) -> Vec<f32> {
        self.data.as_chunks::<SIZE>().0.iter().map(|&bytes| to_f32(bytes)).collect()
    }

    fn check(&self) -> Result<(), NpyError> {
        let declared = byte_count(self.dtype, &self.shape)?;
        match self.data.len() as u64 {
            found if found == declared => Ok(()),
            found => Err(NpyError::SizeMismatch { declared, found }),
        }
    }
}

impl Dtype {
    pub fn size(self) -> usize {
        match self {
            Dtype::Bool | Dtype::U8 | Dtype::I8 => 1,
            Dtype::U16 | Dtype::I16 | Dtype::F16 => 2,
            Dtype::U32 | Dtype::I32 | Dtype::F32 => 4,
            Dtype::U64 | Dtype::I64 | Dtype::F64 => 8,
        }
    }

    /// NumPy's spelling, such as `<f4`.
    pub fn descr(self) -> &'static str {
        match self {
            Dtype::Bool => "|b1",
            Dtype::U8 => "|u1",
            Dtype::U16 => "<u2",
            Dtype::U32 => "<u4",
            Dtype::U64 => "<u8",
            Dtype::I8 => "|i1",
            Dtype::I16 => "<i2",
            Dtype::I32 => "<i4",
            Dtype::I64 => "<i8",
            Dtype::F16 => "<f2",
            Dtype::F32 => "<f4",
            Dtype::F64 => "<f8",
        }
    }

    fn from_descr(descr: &str) -> Result<Dtype, NpyError> {
        const ALL: [Dtype; 12] = [
            Dtype::Bool,
            Dtype::U8,
            Dtype::U16,
            Dtype::U32,
            Dtype::U64,
            Dtype::I8,
            Dtype::I16,
            Dtype::I32,
            Dtype::I64,
            Dtype::F16,
            Dtype::F32,
            Dtype::F64,
        ];
        let unsupported = || NpyError::UnsupportedDtype(descr.into());
        let kind = descr.strip_prefix(['<', '|', '=', '>']).ok_or_else(unsupported)?;
        let dtype =
            ALL.into_iter().find(|dtype| &dtype.descr()[1..] == kind).ok_or_else(unsupported)?;
        match descr.starts_with('>') && dtype.size() > 1 {
            true => Err(unsupported()),
            false => Ok(dtype),
        }
    }
}

impl fmt::Display for NpyError {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            NpyError::BadMagic => write!(f, "not an npy file: it does not start with \\x93NUMPY"),
            NpyError::UnknownVersion(version) => {
                write!(f, "npy version {version} is not supported (1, 2 and 3 are)")
            }
            NpyError::Truncated => write!(f, "the npy header is cut short"),
            NpyError::HeaderTooLong(length) => {
                write!(f, "an npy header of {length} bytes is not plausible")
            }
            NpyError::BadHeader => write!(
                f,
                "the npy header is not a dictionary of 'descr', 'fortran_order' and 'shape'"
            ),
            NpyError::UnsupportedDtype(descr) => write!(
                f,
                "element type {descr:?} is not supported; supported are bool, 8 to 64 bit integers, \
                 float16, float32 and float64, little-endian"
            ),
            NpyError::TooLarge => {
                write!(f, "the shape has over {MAX_RANK} axes or needs over {MAX_BYTES} bytes")
            }
            NpyError::SizeMismatch { declared, found } => {
                write!(f, "the shape needs {declared} bytes, but {found} are there")
            }
        }
    }
}

impl std::error::Error for NpyError {}

impl fmt::Display for NpzError {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            NpzError::Zip(what) => write!(f, "not an npz (ZIP) file, or cut short: {what}"),
            NpzError::TooManyEntries(count) => {
                write!(f, "{count} arrays in one npz are too many (at most {MAX_ENTRIES})")
            }
            NpzError::TooLarge { declared, limit } => write!(
                f,
                "the npz declares {declared} bytes or more; a file of this length may hold {limit}"
            ),
            NpzError::DuplicateName(name) => write!(f, "two arrays are named '{name}'"),
            NpzError::NotNpy(name) => {
                write!(f, "entry '{name}' is not an array: its name does not end in .npy")
            }
            NpzError::Entry { name, error } => write!(f, "array '{name}': {error}"),
        }
    }
}

impl std::error::Error for NpzError {}

fn zip_error(error: zip::result::ZipError) -> NpzError {
    NpzError::Zip(error.to_string())
}

fn byte_count(dtype: Dtype, shape: &[usize]) -> Result<u64, NpyError> {
    let product = shape.iter().try_fold(dtype.size() as u64, |n, &dim| n.checked_mul(dim as u64));
    product.filter(|&bytes| bytes <= MAX_BYTES && shape.len() <= MAX_RANK).ok_or(NpyError::TooLarge)
}

const MAGIC: &[u8; 6] = b"\x93NUMPY";

fn npy_header(array: &Array) -> Result<Vec<u8>, NpyError> {
    array.check()?;
    let dims: Vec<String> = array.shape.iter().map(usize::to_string).collect();
    let comma = if dims.len() == 1 { "," } else { "" };
    let mut text = format!(
        "{{'descr': '{}', 'fortran_order': False, 'shape': ({}{comma}), }}",
        array.dtype.descr(),
        dims.join(", ")
    );
    let unpadded = MAGIC.len() + 4 + text.len() + 1;
    text.extend(std::iter::repeat_n(' ', unpadded.next_multiple_of(64) - unpadded));
    text.push('\n');
    let length = u16::try_from(text.len()).map_err(|_| NpyError::TooLarge)?;
    Ok([MAGIC.as_slice(), &[1, 0], &length.to_le_bytes(), text.as_bytes()].concat())
}

struct Header {
    dtype: Dtype,
    fortran_order: bool,
    shape: Vec<usize>,
    data_bytes: u64,
}

impl Header {
    fn read(bytes: &[u8]) -> Result<(Header, &[u8]), NpyError> {
        let rest = bytes.strip_prefix(MAGIC).ok_or(NpyError::BadMagic)?;
        let ([major, _minor], rest) = rest.split_first_chunk().ok_or(NpyError::Truncated)?;
        let (length, rest) = match major {
            1 => {
                let (length, rest) = rest.split_first_chunk().ok_or(NpyError::Truncated)?;
                (u16::from_le_bytes(*length).into(), rest)
            }
            2 | 3 => {
                let (length, rest) = rest.split_first_chunk().ok_or(NpyError::Truncated)?;
                (u32::from_le_bytes(*length) as usize, rest)
            }
            other => return Err(NpyError::UnknownVersion(*other)),
        };
        if length > MAX_HEADER {
            return Err(NpyError::HeaderTooLong(length));
        }
        let (text, data) = rest.split_at_checked(length).ok_or(NpyError::Truncated)?;
        let text = std::str::from_utf8(text).map_err(|_| NpyError::BadHeader)?;
        let header = Header::parse(text)?;
        match data.len() as u64 {
            found if found == header.data_bytes => Ok((header, data)),
            found => Err(NpyError::SizeMismatch { declared: header.data_bytes, found }),
        }
    }

    fn is_fortran(&self) -> bool {
        self.fortran_order && self.shape.len() > 1
    }

    fn with_data(self, data: Bytes) -> Array {
        Array { dtype: self.dtype, shape: self.shape, data }
    }

    fn parse(text: &str) -> Result<Header, NpyError> {
        let (mut descr, mut fortran_order, mut shape) = (None, None, None);
        let mut literal = Literal { rest: text };
        literal.expect("{")?;
        while !literal.accept("}") {
            let key = literal.string()?;
            literal.expect(":")?;
            match key {
                "descr" if literal.next_is('[') => {
                    return Err(NpyError::UnsupportedDtype("structured".into()));
                }
                "descr" => descr = Some(Dtype::from_descr(literal.string()?)?),
                "fortran_order" => fortran_order = Some(literal.boolean()?),
                "shape" => shape = Some(literal.tuple()?),
                _ => return Err(NpyError::BadHeader),
            }
            if !literal.accept(",") {
                literal.expect("}")?;
                break;
            }
        }
        let (Some(dtype), Some(fortran_order), Some(shape), "") =
            (descr, fortran_order, shape, literal.rest.trim())
        else {
            return Err(NpyError::BadHeader);
        };
        let data_bytes = byte_count(dtype, &shape)?;
        Ok(Header { dtype, fortran_order, shape, data_bytes })
    }
}

/// The part of Python's literal syntax that npy headers use.
struct Literal<'a> {
    rest: &'a str,
}

impl<'a> Literal<'a> {
    fn next_is(&mut self, start: char) -> bool {
        self.rest = self.rest.trim_start();
        self.rest.starts_with(start)
    }

    fn accept(&mut self, token: &str) -> bool {
        self.rest = self.rest.trim_start();
        match self.rest.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn expect(&mut self, token: &str) -> Result<(), NpyError> {
        self.accept(token).then_some(()).ok_or(NpyError::BadHeader)
    }

    fn string(&mut self) -> Result<&'a str, NpyError> {
        let quote = ['\'', '"']
            .into_iter()
            .find(|&quote| self.next_is(quote))
            .ok_or(NpyError::BadHeader)?;
        let (text, rest) = self.rest[1..].split_once(quote).ok_or(NpyError::BadHeader)?;
        self.rest = rest;
        Ok(text)
    }

    fn boolean(&mut self) -> Result<bool, NpyError> {
        if self.accept("True") {
            return Ok(true);
        }
        self.expect("False")?;
        Ok(false)
    }

    fn tuple(&mut self) -> Result<Vec<usize>, NpyError> {
        let mut dims = Vec::new();
        self.expect("(")?;
        while !self.accept(")") {
            let digits =
                self.rest.find(|c: char| !c.is_ascii_digit()).ok_or(NpyError::BadHeader)?;
            let (number, rest) = self.rest.split_at(digits);
            if number.is_empty() {
                return Err(NpyError::BadHeader);
            }
            dims.push(number.parse().map_err(|_| NpyError::TooLarge)?);
            self.rest = rest;
            if !self.accept(",") {
                self.expect(")")?;
                break;
            }
        }
        Ok(dims)
    }
}

/// Reorders elements from first-axis-fastest to last-axis-fastest.
fn fortran_to_c(data: &[u8], shape: &[usize], size: usize) -> Vec<u8> {
    let mut strides = Vec::with_capacity(shape.len());
    let mut stride = size;
    for &dim in shape {
        strides.push(stride);
        stride *= dim;
    }
    let mut out = Vec::with_capacity(data.len());
    let mut index = vec![0; shape.len()];
    let mut at = 0;
    while out.len() < data.len() {
        out.extend_from_slice(&data[at..at + size]);
        for axis in (0..shape.len()).rev() {
            index[axis] += 1;
            at += strides[axis];
            if index[axis] < shape[axis] {
                break;
            }
            at -= strides[axis] * shape[axis];
            index[axis] = 0;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_npy(bytes: &[u8]) -> Result<Array, NpyError> {
        super::read_npy(&Bytes::copy_from_slice(bytes))
    }

    fn read_npz(bytes: &[u8]) -> Result<Vec<(String, Array)>, NpzError> {
        super::read_npz(&Bytes::copy_from_slice(bytes))
    }

    /// `np.save` of `np.arange(6, dtype='f4').reshape(2, 3)`.
    fn numpy_f32() -> Vec<u8> {
        numpy_file(
            "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }",
            &(0..6).flat_map(|i| (i as f32).to_le_bytes()).collect::<Vec<_>>(),
        )
    }

    /// A version 1 file as NumPy lays it out: 128 bytes of header, then `data`.
    fn numpy_file(header: &str, data: &[u8]) -> Vec<u8> {
        let padded = format!("{header:<117}\n");
        [b"\x93NUMPY\x01\x00v\x00", padded.as_bytes(), data].concat()
    }

    fn versioned(version: u8, header: &str, data: &[u8]) -> Vec<u8> {
        let length = (header.len() as u32).to_le_bytes();
        [MAGIC, [version, 0].as_slice(), &length, header.as_bytes(), data].concat()
    }

    fn f32_array() -> Array {
        Array::from_f32(vec![2, 3], &[0., 1., 2., 3., 4., 5.]).unwrap()
    }

    #[test]
    fn reads_and_writes_the_bytes_of_numpy() {
        assert_eq!(read_npy(&numpy_f32()), Ok(f32_array()));
        assert_eq!(write_npy(&f32_array()), Ok(numpy_f32()));
    }

    #[test]
    fn headers_of_every_version_and_shape_are_read() {
        let dict =
            |shape: &str| format!("{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}}}");
        for (shape, expected) in
            [("()", vec![]), ("(1,)", vec![1]), ("(1, 1,)", vec![1, 1]), ("( 1 ,1 )", vec![1, 1])]
        {
            for version in [2, 3] {
                let array = read_npy(&versioned(version, &dict(shape), &[7])).unwrap();
                assert_eq!((array.dtype, array.shape), (Dtype::U8, expected.clone()));
            }
        }
        let empty = read_npy(&versioned(2, &dict("(0, 5)"), &[])).unwrap();
        assert_eq!((empty.shape, empty.data), (vec![0, 5], Bytes::new()));
        let double_quotes = r#"{"shape":(1,),"fortran_order":False,"descr":"=i1"}"#;
        assert_eq!(read_npy(&versioned(3, double_quotes, &[255])).unwrap().to_f32(), [-1.0]);
    }

    #[test]
    fn fortran_order_is_turned_into_c_order() {
        // np.save of np.asfortranarray(np.arange(6, dtype='i2').reshape(2, 3))
        let file = numpy_file(
            "{'descr': '<i2', 'fortran_order': True, 'shape': (2, 3), }",
            &[0, 0, 3, 0, 1, 0, 4, 0, 2, 0, 5, 0],
        );
        assert_eq!(read_npy(&file).unwrap().to_f32(), [0., 1., 2., 3., 4., 5.]);
    }

    #[test]
    fn each_type_converts_to_f32() {
        for (dtype, bytes, expected) in [
            (Dtype::Bool, vec![0, 1], [0., 1.]),
            (Dtype::U8, vec![1, 255], [1., 255.]),
            (Dtype::I8, vec![1, 255], [1., -1.]),
            (Dtype::U16, vec![1, 0, 255, 255], [1., 65535.]),
            (Dtype::I16, vec![1, 0, 254, 255], [1., -2.]),
            (Dtype::U32, vec![1, 0, 0, 0, 0, 1, 0, 0], [1., 256.]),
            (Dtype::I32, vec![1, 0, 0, 0, 255, 255, 255, 255], [1., -1.]),
            (Dtype::F16, vec![0, 0x3c, 0, 0xc0], [1., -2.]),
            (Dtype::F32, vec![0, 0, 0x80, 0x3f, 0, 0, 0, 0xc0], [1., -2.]),
            (Dtype::U64, [[1; 8], [0; 8]].concat(), [72340172838076673., 0.]),
            (Dtype::I64, [[255; 8], [0; 8]].concat(), [-1., 0.]),
            (Dtype::F64, [1f64.to_le_bytes(), (-0.5f64).to_le_bytes()].concat(), [1., -0.5]),
        ] {
            let array = Array::new(dtype, vec![2], bytes).unwrap();
            assert_eq!(array.to_f32(), expected);
            assert_eq!(read_npy(&write_npy(&array).unwrap()), Ok(array));
        }
    }

    #[test]
    fn each_defect_has_its_error() {
        let file = |header: &str| versioned(2, header, &[0; 8]);
        let dict = |descr: &str, shape: &str| {
            file(&format!("{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}"))
        };
        let unsupported = |descr: &str| NpyError::UnsupportedDtype(descr.into());
        for (bytes, error) in [
            (b"\x93NUMPX\x01\x00".to_vec(), NpyError::BadMagic),
            (Vec::new(), NpyError::BadMagic),
            (versioned(4, "", &[]), NpyError::UnknownVersion(4)),
            (numpy_f32()[..100].to_vec(), NpyError::Truncated),
            (b"\x93NUMPY\x02\x00\xff\xff\xff\xff".to_vec(), NpyError::HeaderTooLong(0xffff_ffff)),
            (file("{'descr': '<f4', 'shape': (2,)}"), NpyError::BadHeader),
            (
                file("{'descr': '<f4', 'fortran_order': False, 'shape': (2,), 'x': 1}"),
                NpyError::BadHeader,
            ),
            (
                file("{'descr': '<f4', 'fortran_order': False, 'shape': (2,)} x"),
                NpyError::BadHeader,
            ),
            (file("__import__('os')"), NpyError::BadHeader),
            (dict("'<f4'", "(-2,)"), NpyError::BadHeader),
            (dict("'>f4'", "(2,)"), unsupported(">f4")),
            (dict("'<c8'", "(1,)"), unsupported("<c8")),
            (dict("'|O'", "(1,)"), unsupported("|O")),
            (dict("[('a', '<f4')]", "(1,)"), unsupported("structured")),
            (dict("'<f4'", "(4294967296, 4294967296)"), NpyError::TooLarge),
            (dict("'<f4'", "(99999999999999999999,)"), NpyError::TooLarge),
            (dict("'<f4'", &format!("({})", "1,".repeat(65))), NpyError::TooLarge),
            (dict("'<f4'", "(3,)"), NpyError::SizeMismatch { declared: 12, found: 8 }),
            (dict("'<f4'", "(1,)"), NpyError::SizeMismatch { declared: 4, found: 8 }),
        ] {
            assert_eq!(read_npy(&bytes), Err(error), "{}", bytes.escape_ascii());
        }
        let mismatch = Array::new(Dtype::F32, vec![2], vec![0; 7]);
        assert_eq!(mismatch, Err(NpyError::SizeMismatch { declared: 8, found: 7 }));
    }

    /// `np.savez_compressed(f, x=np.arange(6, dtype='f4').reshape(2, 3), flag=np.array([True, False]))`
    const NUMPY_NPZ: &str = "504b03042d0000000800000021004fe9002affffffffffffffff05001400782e6e7079010010\
        00980000000000000055000000000000009bec17ea1b10c9c850c650ad9e925a9c5ca46ea5a06e9366a2aea3a09e965f54529498179f\
        5f94920a12774bcc294e058a17672416a402f91a463a0ac69a3a0ab50a64032e063068b007120e4004c40d40bcc00100504b03042d00\
        0000080000002100ee19bb5dffffffffffffffff08001400666c61672e6e7079010010008200000000000000460000000000\
        00009bec17ea1b10c9c850c650ad9e925a9c5ca46ea5a05e9364a8aea3a09e965f54529498179f5f94920a12774bcc294e058a176724\
        16a402f91a463a9a3a0ab50a14002e460600504b01022d032d0000000800000021004fe9002a5500000098000000050000000000\
        000000000000800100000000782e6e7079504b01022d032d000000080000002100ee19bb5d4600000082000000080000000000000000\
        00000080018c000000666c61672e6e7079504b05060000000002000200690000000c0100000000";

    fn numpy_npz() -> Vec<u8> {
        (0..NUMPY_NPZ.len() / 2)
            .map(|at| u8::from_str_radix(&NUMPY_NPZ[2 * at..2 * at + 2], 16).unwrap())
            .collect()
    }

    fn named_arrays() -> Vec<(String, Array)> {
        let flag = Array::new(Dtype::Bool, vec![2], vec![1, 0]).unwrap();
        vec![("x".into(), f32_array()), ("flag".into(), flag)]
    }

    #[test]
    fn npz_of_numpy_is_read_and_ours_reads_back() {
        assert_eq!(read_npz(&numpy_npz()), Ok(named_arrays()));
        let ours = write_npz(&named_arrays()).unwrap();
        assert_eq!(read_npz(&ours), Ok(named_arrays()));
        assert_eq!(write_npz(&named_arrays()), Ok(ours));
        assert_eq!(read_npz(&write_npz(&[]).unwrap()), Ok(vec![]));
    }

    #[test]
    fn each_npz_defect_has_its_error() {
        let zip = |entries: &[(&str, &[u8])]| {
            let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
            for (name, bytes) in entries {
                zip.start_file(*name, SimpleFileOptions::default()).unwrap();
                zip.write_all(bytes).unwrap();
            }
            zip.finish().unwrap().into_inner()
        };
        let twice = vec![("a".to_string(), f32_array()), ("a".to_string(), f32_array())];
        assert_eq!(write_npz(&twice), Err(NpzError::DuplicateName("a".into())));
        assert_eq!(read_npz(&zip(&[("../a.txt", b"x")])), Err(NpzError::NotNpy("../a.txt".into())));
        assert_eq!(
            read_npz(&zip(&[("a.npy", b"x")])),
            Err(NpzError::Entry { name: "a".into(), error: NpyError::BadMagic })
        );
        assert!(matches!(read_npz(b"not a zip"), Err(NpzError::Zip(_))));
        let mut wrong_checksum = write_npz(&named_arrays()).unwrap();
        let last_element = wrong_checksum.windows(4).position(|w| w == 5f32.to_le_bytes()).unwrap();
        wrong_checksum[last_element] ^= 1;
        assert!(matches!(read_npz(&wrong_checksum), Err(NpzError::Zip(_))));
        let many: Vec<_> = (0..=MAX_ENTRIES)
            .map(|i| (i.to_string(), Array::new(Dtype::U8, vec![0], vec![]).unwrap()))
            .collect();
        assert_eq!(
            read_npz(&write_npz(&many).unwrap()),
            Err(NpzError::TooManyEntries(MAX_ENTRIES + 1))
        );
        let mut bomb = numpy_npz();
        let size_field = bomb.windows(4).rposition(|w| w == [0x55, 0, 0, 0]).unwrap() + 4;
        bomb[size_field..size_field + 4].copy_from_slice(&0xf000_0000u32.to_le_bytes());
        assert!(matches!(read_npz(&bomb), Err(NpzError::TooLarge { .. })));
    }

    #[test]
    fn truncation_and_corruption_never_panic() {
        let file = numpy_f32();
        for length in 0..file.len() {
            assert!(read_npy(&file[..length]).is_err());
        }
        for file in [numpy_npz(), write_npz(&named_arrays()).unwrap()] {
            for length in 0..file.len() {
                assert!(read_npz(&file[..length]).is_err(), "{length} bytes");
            }
            for at in 0..file.len() {
                for flip in [1, 2, 4, 8, 16, 32, 64, 128, 255] {
                    let mut file = file.clone();
                    file[at] ^= flip;
                    let _ = read_npz(&file);
                }
            }
        }
    }
}
