//! What `.tflite` files say about themselves for people and for mobile apps: the `TFLITE_METADATA`
//! flatbuffer (identifier `M001`, the public `metadata_schema.fbs`), and the ZIP of label files
//! behind the model. Must not know the model itself.

use std::fmt;
use std::io::{self, Cursor, Read, Write};

use super::flatbuffer::{FlatbufferError, Layout, Reader, Table, TableValue};

pub const FILE_IDENTIFIER: [u8; 4] = *b"M001";
/// The name of the model's metadata entry whose buffer holds this flatbuffer.
pub const METADATA_NAME: &str = "TFLITE_METADATA";

const MAX_FILES: usize = 1000;
const MAX_UNPACKED: u64 = 64 << 20;

/// A defect of the metadata or of the ZIP behind the model.
#[derive(Debug)]
pub enum TfliteMetadataError {
    /// The metadata flatbuffer is broken.
    Flatbuffer(FlatbufferError),
    /// The ZIP is broken or packed in an unknown way.
    Zip(String),
    /// The ZIP holds more than 1,000 files.
    TooManyFiles(usize),
    /// The files in the ZIP unpack to more than 64 MiB.
    TooLarge,
    /// What is to be written does not fit a ZIP: 65,535 files, 65,535 bytes of name, 4 GiB in all.
    DoesNotFitZip,
    /// Writing failed.
    Io(io::Error),
}

impl fmt::Display for TfliteMetadataError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flatbuffer(error) => write!(f, "{error}"),
            Self::Zip(reason) => write!(f, "the ZIP of associated files: {reason}"),
            Self::TooManyFiles(count) => {
                write!(f, "{count} associated files; the limit is {MAX_FILES}")
            }
            Self::TooLarge => {
                write!(f, "the associated files unpack to more than {MAX_UNPACKED} bytes")
            }
            Self::DoesNotFitZip => write!(f, "the associated files are too large for a ZIP"),
            Self::Io(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for TfliteMetadataError {}

impl From<FlatbufferError> for TfliteMetadataError {
    fn from(error: FlatbufferError) -> Self {
        Self::Flatbuffer(error)
    }
}

impl From<io::Error> for TfliteMetadataError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

type Result<T, E = TfliteMetadataError> = std::result::Result<T, E>;

#[derive(Debug, Clone, PartialEq, Default)]
pub struct ModelMetadata {
    pub name: String,
    pub description: String,
    pub version: String,
    /// In the order of the model's subgraphs.
    pub subgraph_metadata: Vec<SubGraphMetadata>,
    pub author: String,
    pub license: String,
    pub associated_files: Vec<AssociatedFile>,
    /// The oldest metadata parser that understands all of it, as in `1.0.0`.
    pub min_parser_version: String,
}

#[derive(Debug, Clone, PartialEq, Default)]
pub struct SubGraphMetadata {
    pub name: String,
    pub description: String,
    /// As many as the subgraph has inputs.
    pub input_tensor_metadata: Vec<TensorMetadata>,
    /// As many as the subgraph has outputs.
    pub output_tensor_metadata: Vec<TensorMetadata>,
    pub associated_files: Vec<AssociatedFile>,
}

#[derive(Debug, Clone, PartialEq, Default)]
pub struct TensorMetadata {
    pub name: String,
    pub description: String,
    pub dimension_names: Vec<String>,
    pub content: Option<Content>,
    pub process_units: Vec<ProcessUnit>,
    pub stats: Option<Stats>,
    pub associated_files: Vec<AssociatedFile>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    Feature,
    Image {
        color_space: ColorSpace,
        /// Width and height, for tensors of unknown size.
        default_size: Option<(u32, u32)>,
    },
    /// Bounding boxes, or what a newer schema knows: read by its code only, not written.
    Other(u8),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ColorSpace {
    #[default]
    Unknown = 0,
    Rgb = 1,
    Grayscale = 2,
}

#[derive(Debug, Clone, PartialEq)]
pub enum ProcessUnit {
    /// (value − mean) / std, one for all channels or one for each.
    Normalization { mean: Vec<f32>, std: Vec<f32> },
    /// Score thresholds, tokenizers and the like: read by their code only, not written.
    Other(u8),
}

#[derive(Debug, Clone, PartialEq, Default)]
pub struct Stats {
    pub max: Vec<f32>,
    pub min: Vec<f32>,
}

#[derive(Debug, Clone, PartialEq, Default)]
pub struct AssociatedFile {
    /// The name in the ZIP behind the model.
    pub name: String,
    pub description: String,
    pub file_type: AssociatedFileType,
    /// As in `en` or `en-US`.
    pub locale: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AssociatedFileType {
    #[default]
    Unknown = 0,
    Descriptions = 1,
    /// One label a line: line i names index i of the tensor's last axis.
    TensorAxisLabels = 2,
    /// One label a line: line i names the tensor's value i.
    TensorValueLabels = 3,
    TensorAxisScoreCalibration = 4,
    Vocabulary = 5,
}

impl ModelMetadata {
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let reader = Reader::new(bytes);
        let table = reader.root(&FILE_IDENTIFIER)?;
        Ok(Self {
            name: table.text(0)?.to_owned(),
            description: table.text(1)?.to_owned(),
            version: table.text(2)?.to_owned(),
            subgraph_metadata: table.tables(3, SubGraphMetadata::read)?,
            author: table.text(4)?.to_owned(),
            license: table.text(5)?.to_owned(),
            associated_files: table.tables(6, AssociatedFile::read)?,
            min_parser_version: table.text(7)?.to_owned(),
        })
    }

    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let mut table = TableValue::new();
        table
            .text_if_any(0, &self.name)
            .text_if_any(1, &self.description)
            .text_if_any(2, &self.version)
            .tables_if_any(3, tables(&self.subgraph_metadata, SubGraphMetadata::to_table))
            .text_if_any(4, &self.author)
            .text_if_any(5, &self.license)
            .tables_if_any(6, tables(&self.associated_files, AssociatedFile::to_table))
            .text_if_any(7, &self.min_parser_version);
        let mut bytes = Vec::new();
        Layout::new(table, &FILE_IDENTIFIER)?.write(&mut bytes)?;
        Ok(bytes)
    }
}

impl SubGraphMetadata {
    fn read(table: Table) -> Result<Self> {
        Ok(Self {
            name: table.text(0)?.to_owned(),
            description: table.text(1)?.to_owned(),
            input_tensor_metadata: table.tables(2, TensorMetadata::read)?,
            output_tensor_metadata: table.tables(3, TensorMetadata::read)?,
            associated_files: table.tables(4, AssociatedFile::read)?,
        })
    }

    fn to_table(&self) -> TableValue {
        let mut table = TableValue::new();
        table
            .text_if_any(0, &self.name)
            .text_if_any(1, &self.description)
            .tables_if_any(2, tables(&self.input_tensor_metadata, TensorMetadata::to_table))
            .tables_if_any(3, tables(&self.output_tensor_metadata, TensorMetadata::to_table))
            .tables_if_any(4, tables(&self.associated_files, AssociatedFile::to_table));
        table
    }
}

impl TensorMetadata {
    fn read(table: Table) -> Result<Self> {
        let content = table.table(3)?.map(|table| table.union(0)).transpose()?.flatten();
        let stats = table.table(5)?.map(|table| {
            Ok::<_, FlatbufferError>(Stats { max: table.scalars(0)?, min: table.scalars(1)? })
        });
        Ok(Self {
            name: table.text(0)?.to_owned(),
            description: table.text(1)?.to_owned(),
            dimension_names: table.texts(2)?,
            content: content.map(|(code, table)| Content::read(code, table)).transpose()?,
            process_units: table.tables(4, ProcessUnit::read)?,
            stats: stats.transpose()?,
            associated_files: table.tables(6, AssociatedFile::read)?,
        })
    }

    fn to_table(&self) -> TableValue {
        let mut table = TableValue::new();
        table.text_if_any(0, &self.name).text_if_any(1, &self.description);
        if !self.dimension_names.is_empty() {
            table.texts(2, self.dimension_names.clone());
        }
        if let Some(content) = &self.content {
            table.table(3, content.to_table());
        }
        let units = self.process_units.iter().filter_map(ProcessUnit::to_table).collect();
        table.tables_if_any(4, units);
        if let Some(stats) = &self.stats {
            let mut inner = TableValue::new();
            inner.scalars_if_any(0, &stats.max).scalars_if_any(1, &stats.min);
            table.table(5, inner);
        }
        table.tables_if_any(6, tables(&self.associated_files, AssociatedFile::to_table));
        table
    }
}

impl Content {
    fn read(code: u8, table: Option<Table>) -> Result<Self> {
        match (code, table) {
            (1, _) => Ok(Self::Feature),
            (2, Some(table)) => {
                let color_space = match table.scalar::<i8>(0, 0)? {
                    1 => ColorSpace::Rgb,
                    2 => ColorSpace::Grayscale,
                    _ => ColorSpace::Unknown,
                };
                let default_size = match table.table(1)? {
                    Some(size) => Some((size.scalar(0, 0)?, size.scalar(1, 0)?)),
                    None => None,
                };
                Ok(Self::Image { color_space, default_size })
            }
            (2, None) => Ok(Self::Image { color_space: ColorSpace::Unknown, default_size: None }),
            (code, _) => Ok(Self::Other(code)),
        }
    }

    fn to_table(&self) -> TableValue {
        let mut table = TableValue::new();
        match self {
            Self::Feature => {
                table.union(0, 1, TableValue::new());
            }
            Self::Image { color_space, default_size } => {
                let mut properties = TableValue::new();
                properties.scalar(0, *color_space as i8, 0);
                if let Some((width, height)) = default_size {
                    let mut size = TableValue::new();
                    size.scalar(0, *width, 0).scalar(1, *height, 0);
                    properties.table(1, size);
                }
                table.union(0, 2, properties);
            }
            Self::Other(_) => {}
        }
        table
    }
}

impl ProcessUnit {
    fn read(table: Table) -> Result<Self> {
        match table.union(0)? {
            Some((1, Some(options))) => {
                Ok(Self::Normalization { mean: options.scalars(0)?, std: options.scalars(1)? })
            }
            union => Ok(Self::Other(union.map_or(0, |(code, _)| code))),
        }
    }

    fn to_table(&self) -> Option<TableValue> {
        let Self::Normalization { mean, std } = self else {
            return None;
        };
        let mut options = TableValue::new();
        options.scalars_if_any(0, mean).scalars_if_any(1, std);
        let mut table = TableValue::new();
        table.union(0, 1, options);
        Some(table)
    }
}

impl AssociatedFile {
    fn read(table: Table) -> Result<Self> {
        let file_type = match table.scalar::<i8>(2, 0)? {
            1 => AssociatedFileType::Descriptions,
            2 => AssociatedFileType::TensorAxisLabels,
            3 => AssociatedFileType::TensorValueLabels,
            4 => AssociatedFileType::TensorAxisScoreCalibration,
            5 => AssociatedFileType::Vocabulary,
            _ => AssociatedFileType::Unknown,
        };
        Ok(Self {
            name: table.text(0)?.to_owned(),
            description: table.text(1)?.to_owned(),
            file_type,
            locale: table.text(3)?.to_owned(),
        })
    }

    fn to_table(&self) -> TableValue {
        let mut table = TableValue::new();
        table
            .text_if_any(0, &self.name)
            .text_if_any(1, &self.description)
            .scalar(2, self.file_type as i8, 0)
            .text_if_any(3, &self.locale);
        table
    }
}

fn tables<T>(items: &[T], to_table: impl Fn(&T) -> TableValue) -> Vec<TableValue> {
    items.iter().map(to_table).collect()
}

const LOCAL_FILE: u32 = 0x0403_4b50;
const CENTRAL_FILE: u32 = 0x0201_4b50;
const END_OF_CENTRAL: u32 = 0x0605_4b50;
const END_LENGTH: usize = 22;
const VERSION_NEEDED: u16 = 20;
const NAMES_ARE_UTF8: u16 = 1 << 11;
const DATE_1980_01_01: u32 = 0x0021_0000;

/// Writes a ZIP of unpacked `files` (name, contents) behind a model of `start` bytes, with offsets
/// from the beginning of the whole file, and returns its length. No files, no ZIP.
pub fn append_labels_zip(
    out: &mut impl Write,
    start: u64,
    files: &[(String, Vec<u8>)],
) -> Result<u64> {
    if files.is_empty() {
        return Ok(0);
    }
    let fits =
        |number: usize| u32::try_from(number).map_err(|_| TfliteMetadataError::DoesNotFitZip);
    let fits_short =
        |number: usize| u16::try_from(number).map_err(|_| TfliteMetadataError::DoesNotFitZip);
    let start = usize::try_from(start).map_err(|_| TfliteMetadataError::DoesNotFitZip)?;
    let count = fits_short(files.len())?;
    let mut at = start;
    let mut directory = Vec::new();
    for (name, contents) in files {
        let mut crc = flate2::Crc::new();
        crc.update(contents);
        let length = fits(contents.len())?;

        let mut common = Vec::new();
        for half in [VERSION_NEEDED, NAMES_ARE_UTF8, 0] {
            common.extend_from_slice(&half.to_le_bytes());
        }
        for word in [DATE_1980_01_01, crc.sum(), length, length] {
            common.extend_from_slice(&word.to_le_bytes());
        }
        common.extend_from_slice(&fits_short(name.len())?.to_le_bytes());
        common.extend_from_slice(&0u16.to_le_bytes());

        directory.extend_from_slice(&CENTRAL_FILE.to_le_bytes());
        directory.extend_from_slice(&VERSION_NEEDED.to_le_bytes());
        directory.extend_from_slice(&common);
        directory.extend_from_slice(&[0; 10]);
        directory.extend_from_slice(&fits(at)?.to_le_bytes());
        directory.extend_from_slice(name.as_bytes());

        out.write_all(&LOCAL_FILE.to_le_bytes())?;
        out.write_all(&common)?;
        out.write_all(name.as_bytes())?;
        out.write_all(contents)?;
        at += 4 + common.len() + name.len() + contents.len();
    }
    let mut end = Vec::with_capacity(END_LENGTH);
    end.extend_from_slice(&END_OF_CENTRAL.to_le_bytes());
    end.extend_from_slice(&[0; 4]);
    end.extend_from_slice(&count.to_le_bytes());
    end.extend_from_slice(&count.to_le_bytes());
    end.extend_from_slice(&fits(directory.len())?.to_le_bytes());
    end.extend_from_slice(&fits(at)?.to_le_bytes());
    end.extend_from_slice(&0u16.to_le_bytes());
    out.write_all(&directory)?;
    out.write_all(&end)?;
    Ok((at - start + directory.len() + end.len()) as u64)
}

/// The files (name, contents) in the ZIP behind a model; none if there is no ZIP.
pub fn read_associated_files(bytes: &[u8]) -> Result<Vec<(String, Vec<u8>)>> {
    if !ends_with_zip(bytes) {
        return Ok(Vec::new());
    }
    let broken = |error: zip::result::ZipError| TfliteMetadataError::Zip(error.to_string());
    let mut archive = zip::ZipArchive::new(Cursor::new(bytes)).map_err(broken)?;
    if archive.len() > MAX_FILES {
        return Err(TfliteMetadataError::TooManyFiles(archive.len()));
    }
    let mut files = Vec::new();
    let mut left = MAX_UNPACKED;
    for index in 0..archive.len() {
        let mut file = archive.by_index(index).map_err(broken)?;
        if file.is_dir() {
            continue;
        }
        let mut contents = Vec::new();
        let unpacked = file.by_ref().take(left + 1).read_to_end(&mut contents);
        unpacked.map_err(|error| TfliteMetadataError::Zip(error.to_string()))?;
        left = left.checked_sub(contents.len() as u64).ok_or(TfliteMetadataError::TooLarge)?;
        let name = file.name().map_err(broken)?.into_owned();
        files.push((name, contents));
    }
    Ok(files)
}

/// Whether the bytes end with a ZIP's end record, whose comment ends with them.
fn ends_with_zip(bytes: &[u8]) -> bool {
    let tail = &bytes[bytes.len().saturating_sub(END_LENGTH + usize::from(u16::MAX))..];
    tail.windows(END_LENGTH).enumerate().any(|(at, record)| {
        record.starts_with(&END_OF_CENTRAL.to_le_bytes())
            && at + END_LENGTH + usize::from(u16::from_le_bytes([record[20], record[21]]))
                == tail.len()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn small_metadata() -> ModelMetadata {
        let input = TensorMetadata {
            name: "image".into(),
            description: "a digit".into(),
            dimension_names: vec!["batch".into(), "height".into()],
            content: Some(Content::Image {
                color_space: ColorSpace::Grayscale,
                default_size: Some((28, 27)),
            }),
            process_units: vec![ProcessUnit::Normalization { mean: vec![0.0], std: vec![255.0] }],
            stats: Some(Stats { max: vec![1.0], min: vec![0.0] }),
            associated_files: Vec::new(),
        };
        let labels = AssociatedFile {
            name: "labels.txt".into(),
            description: "ten digits".into(),
            file_type: AssociatedFileType::TensorAxisLabels,
            locale: "en".into(),
        };
        let output = TensorMetadata {
            name: "probabilities".into(),
            content: Some(Content::Feature),
            associated_files: vec![labels.clone()],
            ..TensorMetadata::default()
        };
        ModelMetadata {
            name: "mnist".into(),
            description: "digits".into(),
            version: "1".into(),
            subgraph_metadata: vec![SubGraphMetadata {
                name: "main".into(),
                description: "the graph".into(),
                input_tensor_metadata: vec![input],
                output_tensor_metadata: vec![output],
                associated_files: vec![labels.clone()],
            }],
            author: "someone".into(),
            license: "MIT".into(),
            associated_files: vec![labels],
            min_parser_version: "1.0.0".into(),
        }
    }

    fn files() -> Vec<(String, Vec<u8>)> {
        vec![("labels.txt".into(), b"zero\none\n".to_vec()), ("größe.txt".into(), Vec::new())]
    }

    fn model_with_zip() -> Vec<u8> {
        let mut bytes = b"the model's own bytes".to_vec();
        let start = bytes.len();
        let length = append_labels_zip(&mut bytes, start as u64, &files()).unwrap();
        assert_eq!(length as usize, bytes.len() - start);
        bytes
    }

    #[test]
    fn reads_what_it_wrote() {
        let metadata = small_metadata();
        let bytes = metadata.to_bytes().unwrap();
        assert_eq!(bytes[4..8], FILE_IDENTIFIER);
        assert_eq!(ModelMetadata::parse(&bytes).unwrap(), metadata);
        let empty = ModelMetadata::default();
        assert_eq!(ModelMetadata::parse(&empty.to_bytes().unwrap()).unwrap(), empty);
    }

    #[test]
    fn label_files_are_found_behind_the_model() {
        let bytes = model_with_zip();
        assert_eq!(read_associated_files(&bytes).unwrap(), files());
        assert_eq!(bytes, model_with_zip());
        assert_eq!(read_associated_files(b"TFL3 and no ZIP").unwrap(), []);
        assert_eq!(append_labels_zip(&mut Vec::new(), 7, &[]).unwrap(), 0);
    }

    #[test]
    fn offsets_count_from_the_beginning_of_the_file() {
        let bytes = model_with_zip();
        let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
        let directory = word(bytes.len() - 6);
        assert_eq!(bytes[directory..directory + 4], CENTRAL_FILE.to_le_bytes());
        let first_file = word(directory + 42);
        assert_eq!(bytes[first_file..first_file + 4], LOCAL_FILE.to_le_bytes());
        assert_eq!(first_file, 21);
    }

    #[test]
    fn too_many_files_are_an_error() {
        let files: Vec<_> = (0..1001).map(|index| (format!("{index}"), Vec::new())).collect();
        let mut bytes = Vec::new();
        append_labels_zip(&mut bytes, 0, &files).unwrap();
        let error = read_associated_files(&bytes).unwrap_err();
        assert!(matches!(error, TfliteMetadataError::TooManyFiles(1001)), "{error}");
    }

    #[test]
    fn files_that_unpack_too_large_are_an_error() {
        let mut bytes = Vec::new();
        let files = [("a".into(), vec![0; 40 << 20]), ("b".into(), vec![0; 40 << 20])];
        append_labels_zip(&mut bytes, 0, &files).unwrap();
        let error = read_associated_files(&bytes).unwrap_err();
        assert!(matches!(error, TfliteMetadataError::TooLarge), "{error}");
    }

    #[test]
    fn names_that_no_zip_can_hold_are_an_error() {
        let files = [("n".repeat(1 << 16), Vec::new())];
        let error = append_labels_zip(&mut Vec::new(), 0, &files).unwrap_err();
        assert!(matches!(error, TfliteMetadataError::DoesNotFitZip), "{error}");
    }

    #[test]
    fn broken_bytes_never_panic() {
        let check = |good: &[u8], read: &dyn Fn(&[u8])| {
            for length in 0..good.len() {
                read(&good[..length]);
            }
            for position in 0..good.len() {
                for flip in [0x01, 0x02, 0x10, 0x80, 0xff] {
                    let mut bytes = good.to_vec();
                    bytes[position] ^= flip;
                    read(&bytes);
                }
            }
        };
        check(&small_metadata().to_bytes().unwrap(), &|bytes| drop(ModelMetadata::parse(bytes)));
        check(&model_with_zip(), &|bytes| drop(read_associated_files(bytes)));
    }
}
