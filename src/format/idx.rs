//! IDX, the format of MNIST and its relatives: a type, up to 255 big-endian dimensions, then the elements.
//! Plain or gzipped, told apart by the first bytes. Knows neither images nor labels.
//! Layout: <http://yann.lecun.com/exdb/mnist/>; gzip: RFC 1952.

use std::fmt;

use flate2::{Crc, Decompress, FlushDecompress, Status};

/// The most element bytes one file may declare.
pub const MAX_BYTES: u64 = 2 << 30;

/// An IDX array; `data` holds the elements as in the file, big-endian, last dimension fastest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Idx {
    pub element: IdxType,
    pub dims: Vec<usize>,
    pub data: Vec<u8>,
}

/// The element types that the third byte of an IDX file can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdxType {
    U8,
    I8,
    I16,
    I32,
    F32,
    F64,
}

/// What can be wrong with an IDX file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IdxError {
    /// The file ends inside its header.
    Truncated,
    /// The first two bytes are not zero, or no dimension is declared.
    BadMagic([u8; 4]),
    /// The third byte names no IDX element type.
    UnknownType(u8),
    /// The header's dimensions ask for `declared` element bytes, and `found` are there.
    SizeMismatch { declared: u64, found: u64 },
    /// More element bytes are declared than this reader accepts, or than a 64-bit number can hold.
    TooLarge { limit: u64 },
    /// More element bytes are declared than a gzip file of this length can unpack to.
    Implausible { declared: u64, at_most: u64 },
    /// The gzip header or the deflate stream is broken.
    GzipBroken,
    /// The gzip file ends early.
    GzipTruncated,
    /// The unpacked bytes do not have the checksum or the length that the gzip file records.
    GzipChecksum,
    /// Bytes follow the end of the gzip stream.
    GzipTrailing { count: u64 },
}

/// Reads a whole file; a gzipped one is unpacked into exactly the declared size and its checksum is verified.
pub fn parse(bytes: &[u8]) -> Result<Idx, IdxError> {
    if !is_gzip(bytes) {
        let (header, rest) = Header::read(bytes)?;
        if rest.len() as u64 != header.data_bytes {
            return Err(IdxError::SizeMismatch {
                declared: header.data_bytes,
                found: rest.len() as u64,
            });
        }
        return Ok(header.with_data(rest.to_vec()));
    }
    let mut stream = Inflate::start(bytes)?;
    let header = stream.header()?;
    let data = stream.exactly(header.data_bytes)?;
    stream.finish(header.data_bytes, &data)?;
    Ok(header.with_data(data))
}

/// Reads the first `count` entries along the first dimension, or all if there are fewer.
///
/// A gzipped file is unpacked only that far, so its checksum is not verified.
pub fn parse_first(bytes: &[u8], count: usize) -> Result<Idx, IdxError> {
    if !is_gzip(bytes) {
        let (header, rest) = Header::read(bytes)?;
        let header = header.first(count);
        let data =
            usize::try_from(header.data_bytes).ok().and_then(|wanted| rest.get(..wanted)).ok_or(
                IdxError::SizeMismatch { declared: header.data_bytes, found: rest.len() as u64 },
            )?;
        return Ok(header.with_data(data.to_vec()));
    }
    let mut stream = Inflate::start(bytes)?;
    let header = stream.header()?.first(count);
    let data = stream.exactly(header.data_bytes)?;
    Ok(header.with_data(data))
}

impl IdxType {
    pub fn size(self) -> usize {
        match self {
            IdxType::U8 | IdxType::I8 => 1,
            IdxType::I16 => 2,
            IdxType::I32 | IdxType::F32 => 4,
            IdxType::F64 => 8,
        }
    }

    fn from_code(code: u8) -> Result<Self, IdxError> {
        Ok(match code {
            0x08 => IdxType::U8,
            0x09 => IdxType::I8,
            0x0B => IdxType::I16,
            0x0C => IdxType::I32,
            0x0D => IdxType::F32,
            0x0E => IdxType::F64,
            _ => return Err(IdxError::UnknownType(code)),
        })
    }
}

impl fmt::Display for IdxError {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            IdxError::Truncated => write!(f, "the IDX header is cut short"),
            IdxError::BadMagic([a, b, c, d]) => write!(
                f,
                "not an IDX file: it starts with {a:02x} {b:02x} {c:02x} {d:02x}, and an IDX file starts with \
                 00 00, a type and a number of dimensions"
            ),
            IdxError::UnknownType(code) => write!(f, "0x{code:02x} is not an IDX element type"),
            IdxError::SizeMismatch { declared, found } => write!(
                f,
                "the IDX header declares {declared} bytes of elements, but {found} are there"
            ),
            IdxError::TooLarge { limit } => {
                write!(f, "the IDX header declares more than {limit} bytes of elements")
            }
            IdxError::Implausible { declared, at_most } => write!(
                f,
                "the IDX header declares {declared} bytes of elements, but a gzip file of this length unpacks to \
                 at most {at_most}"
            ),
            IdxError::GzipBroken => write!(f, "the gzip data is broken"),
            IdxError::GzipTruncated => write!(f, "the gzip file is cut short"),
            IdxError::GzipChecksum => {
                write!(f, "the gzip checksum does not fit the unpacked bytes: the file is damaged")
            }
            IdxError::GzipTrailing { count } => {
                write!(f, "{count} bytes follow the end of the gzip data")
            }
        }
    }
}

impl std::error::Error for IdxError {}

struct Header {
    element: IdxType,
    dims: Vec<usize>,
    data_bytes: u64,
    /// The header itself, for the checksum.
    raw: Vec<u8>,
}

impl Header {
    fn read(bytes: &[u8]) -> Result<(Header, &[u8]), IdxError> {
        let (magic, rest) = bytes.split_first_chunk::<4>().ok_or(IdxError::Truncated)?;
        let [0, 0, code, rank @ 1..=255] = *magic else {
            return Err(IdxError::BadMagic(*magic));
        };
        let element = IdxType::from_code(code)?;
        let (dims, data) =
            rest.split_at_checked(usize::from(rank) * 4).ok_or(IdxError::Truncated)?;
        let dims: Vec<u32> = dims
            .chunks_exact(4)
            .map(|d| d.iter().fold(0, |value, &byte| value << 8 | u32::from(byte)))
            .collect();
        let data_bytes = dims
            .iter()
            .try_fold(element.size() as u64, |product, &dim| product.checked_mul(dim.into()))
            .filter(|&bytes| bytes <= MAX_BYTES)
            .ok_or(IdxError::TooLarge { limit: MAX_BYTES })?;
        let raw = bytes[..bytes.len() - data.len()].to_vec();
        let dims = dims.into_iter().map(|dim| dim as usize).collect();
        Ok((Header { element, dims, data_bytes, raw }, data))
    }

    fn first(mut self, count: usize) -> Header {
        let total = self.dims[0];
        if count < total {
            self.data_bytes = self.data_bytes / total as u64 * count as u64;
            self.dims[0] = count;
        }
        self
    }

    fn with_data(self, data: Vec<u8>) -> Idx {
        Idx { element: self.element, dims: self.dims, data }
    }
}

fn is_gzip(bytes: &[u8]) -> bool {
    bytes.starts_with(&[0x1f, 0x8b])
}

/// Deflate's best case: 258 bytes from two one-bit codes (zlib's technical details).
const MAX_RATIO: u64 = 1032;

struct Inflate<'a> {
    /// The deflate stream and what follows it.
    body: &'a [u8],
    state: Decompress,
    ended: bool,
    crc: Crc,
}

impl<'a> Inflate<'a> {
    fn start(gzip: &'a [u8]) -> Result<Self, IdxError> {
        let body = skip_gzip_header(gzip)?;
        Ok(Inflate { body, state: Decompress::new(false), ended: false, crc: Crc::new() })
    }

    fn header(&mut self) -> Result<Header, IdxError> {
        let cut_short = |error| match error {
            IdxError::SizeMismatch { .. } => IdxError::Truncated,
            other => other,
        };
        let mut bytes = self.exactly(4).map_err(cut_short)?;
        let dims = 4 * u64::from(bytes[3]);
        bytes.extend(self.exactly(dims).map_err(cut_short)?);
        let (header, _) = Header::read(&bytes)?;
        let at_most = self.body.len() as u64 * MAX_RATIO;
        if header.data_bytes > at_most {
            return Err(IdxError::Implausible { declared: header.data_bytes, at_most });
        }
        self.crc.update(&header.raw);
        Ok(header)
    }

    fn exactly(&mut self, count: u64) -> Result<Vec<u8>, IdxError> {
        let wanted = usize::try_from(count).map_err(|_| IdxError::TooLarge { limit: MAX_BYTES })?;
        let mut out = Vec::new();
        out.try_reserve_exact(wanted).map_err(|_| IdxError::TooLarge { limit: MAX_BYTES })?;
        while out.len() < wanted {
            if self.ended {
                return Err(IdxError::SizeMismatch { declared: count, found: out.len() as u64 });
            }
            self.inflate_into(&mut out)?;
        }
        out.truncate(wanted);
        Ok(out)
    }

    /// Fills `out` up to its capacity, or as far as the stream goes.
    fn inflate_into(&mut self, out: &mut Vec<u8>) -> Result<(), IdxError> {
        let (read, written) = (self.state.total_in(), out.len());
        let status = self
            .state
            .decompress_vec(self.body, out, FlushDecompress::None)
            .map_err(|_| IdxError::GzipBroken)?;
        let consumed = (self.state.total_in() - read) as usize;
        self.body = self.body.get(consumed..).ok_or(IdxError::GzipBroken)?;
        self.ended = status == Status::StreamEnd;
        if !self.ended && consumed == 0 && out.len() == written {
            return Err(IdxError::GzipTruncated);
        }
        Ok(())
    }

    /// Checks that the stream ends here, with the right trailer and nothing behind.
    fn finish(mut self, declared: u64, data: &[u8]) -> Result<(), IdxError> {
        let mut beyond = Vec::with_capacity(1);
        while !self.ended {
            self.inflate_into(&mut beyond)?;
            if !beyond.is_empty() {
                return Err(IdxError::SizeMismatch { declared, found: declared + 1 });
            }
        }
        let (crc, rest) = self.body.split_first_chunk::<4>().ok_or(IdxError::GzipTruncated)?;
        let (length, rest) = rest.split_first_chunk::<4>().ok_or(IdxError::GzipTruncated)?;
        self.crc.update(data);
        let unpacked = self.state.total_out() as u32;
        if u32::from_le_bytes(*crc) != self.crc.sum() || u32::from_le_bytes(*length) != unpacked {
            return Err(IdxError::GzipChecksum);
        }
        if !rest.is_empty() {
            return Err(IdxError::GzipTrailing { count: rest.len() as u64 });
        }
        Ok(())
    }
}

/// RFC 1952 section 2.3: ten fixed bytes, then what the flag bits announce.
fn skip_gzip_header(bytes: &[u8]) -> Result<&[u8], IdxError> {
    const DEFLATE: u8 = 8;
    const HEADER_CRC: u8 = 2;
    const EXTRA: u8 = 4;
    const NAME: u8 = 8;
    const COMMENT: u8 = 16;
    let (fixed, mut rest) = bytes.split_first_chunk::<10>().ok_or(IdxError::GzipTruncated)?;
    let flags = fixed[3];
    if fixed[2] != DEFLATE || flags & 0xe0 != 0 {
        return Err(IdxError::GzipBroken);
    }
    if flags & EXTRA != 0 {
        let (length, after) = rest.split_first_chunk::<2>().ok_or(IdxError::GzipTruncated)?;
        let length = usize::from(u16::from_le_bytes(*length));
        rest = after.get(length..).ok_or(IdxError::GzipTruncated)?;
    }
    for text in [NAME, COMMENT] {
        if flags & text != 0 {
            let end = rest.iter().position(|&byte| byte == 0).ok_or(IdxError::GzipTruncated)?;
            rest = &rest[end + 1..];
        }
    }
    if flags & HEADER_CRC != 0 {
        rest = rest.get(2..).ok_or(IdxError::GzipTruncated)?;
    }
    Ok(rest)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    const SMALL: [u8; 18] = [
        0, 0, 8, 2, 0, 0, 0, 3, 0, 0, 0, 2, //
        10, 11, 20, 21, 30, 31,
    ];

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn small() -> Idx {
        Idx { element: IdxType::U8, dims: vec![3, 2], data: vec![10, 11, 20, 21, 30, 31] }
    }

    #[test]
    fn plain_and_gzipped_files_read_the_same() {
        assert_eq!(parse(&SMALL), Ok(small()));
        assert_eq!(parse(&gzip(&SMALL)), Ok(small()));
    }

    #[test]
    fn every_element_type_is_read_big_endian_as_it_is() {
        for (code, element, size) in [
            (0x08, IdxType::U8, 1),
            (0x09, IdxType::I8, 1),
            (0x0b, IdxType::I16, 2),
            (0x0c, IdxType::I32, 4),
            (0x0d, IdxType::F32, 4),
            (0x0e, IdxType::F64, 8),
        ] {
            let mut file = vec![0, 0, code, 1, 0, 0, 0, 2];
            file.extend(0..2 * size);
            let idx = parse(&file).unwrap();
            assert_eq!((idx.element, idx.dims), (element, vec![2]));
            assert_eq!(idx.data, (0..2 * size).collect::<Vec<_>>());
        }
    }

    #[test]
    fn the_first_items_can_be_read_alone() {
        for file in [SMALL.to_vec(), gzip(&SMALL)] {
            let two = parse_first(&file, 2).unwrap();
            assert_eq!((two.dims, two.data), (vec![2, 2], vec![10, 11, 20, 21]));
            assert_eq!(parse_first(&file, 0).unwrap().dims, [0, 2]);
            assert_eq!(parse_first(&file, 99), Ok(small()));
        }
        let mut long = vec![0, 0, 8, 1, 0, 1, 0, 0];
        long.extend(
            (0..65536u32).map(|i| (i.wrapping_mul(i).wrapping_mul(2654435761) >> 24) as u8),
        );
        let half = &gzip(&long)[..2_000];
        assert_eq!(parse_first(half, 100).unwrap().data, long[8..108]);
    }

    #[test]
    fn each_defect_has_its_error() {
        let with = |at: usize, byte: u8| {
            let mut bytes = SMALL;
            bytes[at] = byte;
            bytes
        };
        let huge = [[0, 0, 8, 4].as_slice(), &[0xff; 16]].concat();
        let too_large = [0, 0, 8, 1, 0x80, 0, 0, 1];
        let implausible = [0, 0, 8, 1, 0x7f, 0, 0, 0];
        let good = gzip(&SMALL);
        let end = good.len();
        let mut bad_crc = good.clone();
        bad_crc[end - 8] ^= 1;
        let mut bad_length = good.clone();
        bad_length[end - 4] ^= 1;
        let mut bad_method = good.clone();
        bad_method[2] = 7;
        let mut bad_deflate = good.clone();
        bad_deflate[10] |= 6;
        let with_one_more = [SMALL.as_slice(), &[0]].concat();
        let size_mismatch = |found| IdxError::SizeMismatch { declared: 6, found };
        for (file, error) in [
            (SMALL[..3].to_vec(), IdxError::Truncated),
            (SMALL[..11].to_vec(), IdxError::Truncated),
            (gzip(&SMALL[..11]), IdxError::Truncated),
            (Vec::new(), IdxError::Truncated),
            (with(0, 1).to_vec(), IdxError::BadMagic([1, 0, 8, 2])),
            (with(3, 0).to_vec(), IdxError::BadMagic([0, 0, 8, 0])),
            (gzip(&with(1, 7)), IdxError::BadMagic([0, 7, 8, 2])),
            (with(2, 0x0a).to_vec(), IdxError::UnknownType(0x0a)),
            (SMALL[..17].to_vec(), size_mismatch(5)),
            (gzip(&SMALL[..17]), size_mismatch(5)),
            (with_one_more.clone(), size_mismatch(7)),
            (gzip(&with_one_more), size_mismatch(7)),
            (huge, IdxError::TooLarge { limit: MAX_BYTES }),
            (gzip(&too_large), IdxError::TooLarge { limit: MAX_BYTES }),
            (bad_method, IdxError::GzipBroken),
            (bad_deflate, IdxError::GzipBroken),
            (good[..end - 5].to_vec(), IdxError::GzipTruncated),
            (good[..end - 10].to_vec(), IdxError::GzipTruncated),
            (bad_crc, IdxError::GzipChecksum),
            (bad_length, IdxError::GzipChecksum),
            ([good.as_slice(), &[1, 2]].concat(), IdxError::GzipTrailing { count: 2 }),
        ] {
            assert_eq!(parse(&file), Err(error.clone()), "{file:02x?}");
            assert!(!error.to_string().contains('\n'));
        }
        assert!(matches!(
            parse(&gzip(&implausible)),
            Err(IdxError::Implausible { declared: 0x7f00_0000, .. })
        ));
    }

    #[test]
    fn optional_gzip_header_fields_are_skipped() {
        let plain = gzip(&SMALL);
        let mut file = plain[..10].to_vec();
        file[3] = 0x1f;
        file.extend([3, 0, 1, 2, 3]);
        file.extend(b"name\0comment\0");
        file.extend([0xaa, 0xbb]);
        file.extend(&plain[10..]);
        assert_eq!(parse(&file), Ok(small()));
    }

    #[test]
    fn truncation_and_corruption_never_panic() {
        for file in [SMALL.to_vec(), gzip(&SMALL)] {
            for length in 0..file.len() {
                assert!(parse(&file[..length]).is_err(), "{length} bytes");
                let _ = parse_first(&file[..length], 2);
            }
            for at in 0..file.len() {
                for flip in 1..=255 {
                    let mut file = file.clone();
                    file[at] ^= flip;
                    let _ = parse(&file);
                    let _ = parse_first(&file, 2);
                }
            }
        }
    }
}
