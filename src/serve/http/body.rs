//! Bodies of requests, whole, with bounds on their size and pace.

use super::Limits;
use crate::serve::failure::Failure;
use crate::serve::memory::{Budget, Held};
use bytes::{Bytes, BytesMut};
use flate2::read::MultiGzDecoder;
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use std::fmt::Display;
use std::io::Read;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// Why there is no body.
#[derive(Debug, PartialEq, Eq)]
pub enum NoBody {
    /// It has more bytes than these.
    TooLarge(usize),
    TooSlow,
    /// The client broke off, or broke the protocol.
    Broken(String),
    /// All requests hold too much already.
    NoRoom(String),
}

fn no_room(failure: Failure) -> NoBody {
    NoBody::NoRoom(failure.message)
}

/// Every stretch of a body must bring so many bytes.
const LEAST: usize = 16 << 10;

/// Holds a body to its pace.
pub struct Pace {
    stretch: Duration,
    end: Instant,
    brought: usize,
}

impl Pace {
    pub fn new(stretch: Duration) -> Pace {
        Pace { stretch, end: Instant::now() + stretch, brought: 0 }
    }

    /// The next bytes; `None` at the end.
    pub async fn piece<B>(&mut self, body: &mut B) -> Result<Option<Bytes>, NoBody>
    where
        B: Body<Data = Bytes> + Unpin,
        B::Error: Display,
    {
        let piece = timeout_at(self.end, piece(body)).await;
        let piece = piece.unwrap_or(Err(NoBody::TooSlow))?;
        self.brought += piece.as_ref().map_or(0, Bytes::len);
        if self.brought >= LEAST {
            *self = Pace::new(self.stretch);
        }
        Ok(piece)
    }
}

/// The next bytes, whenever they come; `None` at the end.
pub async fn piece<B>(body: &mut B) -> Result<Option<Bytes>, NoBody>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Display,
{
    loop {
        match body.frame().await {
            None => return Ok(None),
            Some(Err(error)) => return Err(NoBody::Broken(error.to_string())),
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
        }
    }
}

/// Pieces one after the other; one alone, as most are, is not copied.
pub struct Pieces {
    first: Bytes,
    more: BytesMut,
    held: Held,
}

impl Pieces {
    pub fn new(memory: &Arc<Budget>) -> Pieces {
        Pieces { first: Bytes::new(), more: BytesMut::new(), held: memory.nothing() }
    }

    pub fn bytes(&self) -> &[u8] {
        if self.more.is_empty() { &self.first } else { &self.more }
    }

    /// Memory is taken as the bytes come, whatever a head promises.
    ///
    /// # Errors
    /// There is no room for them.
    pub fn push(&mut self, piece: Bytes) -> Result<(), NoBody> {
        self.held.grow(piece.len()).map_err(no_room)?;
        if self.bytes().is_empty() {
            (self.first, self.more) = (piece, BytesMut::new());
            return Ok(());
        }
        self.more.extend_from_slice(&std::mem::take(&mut self.first));
        self.more.extend_from_slice(&piece);
        Ok(())
    }

    /// The first `count` bytes, fewer where there are no more.
    pub fn take(&mut self, count: usize) -> Bytes {
        let bytes = self.cut(count);
        self.held.bind(bytes)
    }

    /// Leaves the first `count` bytes out.
    pub fn skip(&mut self, count: usize) {
        let bytes = self.cut(count);
        drop(self.held.split(bytes.len()));
    }

    fn cut(&mut self, count: usize) -> Bytes {
        let count = count.min(self.bytes().len());
        match self.more.is_empty() {
            true => self.first.split_to(count),
            false => self.more.split_to(count).freeze(),
        }
    }
}

/// Reads a body of up to `most` bytes.
pub async fn read(mut body: Incoming, most: usize, limits: &Limits) -> Result<Bytes, NoBody> {
    if body.size_hint().lower() > most as u64 {
        return Err(NoBody::TooLarge(most));
    }
    let (mut pace, mut pieces) = (Pace::new(limits.body_stretch), Pieces::new(&limits.memory));
    while let Some(piece) = pace.piece(&mut body).await? {
        if piece.len() > most - pieces.bytes().len() {
            return Err(NoBody::TooLarge(most));
        }
        pieces.push(piece)?;
    }
    Ok(pieces.take(usize::MAX))
}

/// What is packed by gzip, up to `most` bytes.
pub fn unpack(packed: &[u8], most: usize, memory: &Arc<Budget>) -> Result<Bytes, NoBody> {
    const AT_ONCE: u64 = 256 << 10;
    let (mut body, mut held) = (vec![], memory.nothing());
    let mut unpacked = MultiGzDecoder::new(packed).take(most as u64 + 1);
    loop {
        let read = unpacked.by_ref().take(AT_ONCE).read_to_end(&mut body);
        match read.map_err(|error| NoBody::Broken(error.to_string()))? {
            0 => break,
            count => held.grow(count).map_err(no_room)?,
        }
    }
    match body.len() > most {
        true => Err(NoBody::TooLarge(most)),
        false => Ok(held.bind(body.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use std::io::Write;

    #[test]
    fn bombs_are_stopped() {
        let mut encoder = GzEncoder::new(vec![], Compression::best());
        encoder.write_all(&vec![b' '; 10 << 20]).unwrap();
        let bomb = encoder.finish().unwrap();
        let memory = Budget::new(15 << 20);
        let unpack = |packed: &[u8], most| unpack(packed, most, &memory);
        assert_eq!(unpack(&bomb, 1 << 20), Err(NoBody::TooLarge(1 << 20)));
        assert_eq!(unpack(&bomb, 10 << 20).unwrap().len(), 10 << 20);
        assert!(matches!(unpack(b"plain", 10), Err(NoBody::Broken(_))));
        assert!(matches!(unpack(&bomb[..100], 10 << 20), Err(NoBody::Broken(_))));
        assert_eq!(memory.taken(), 0);
        let held = unpack(&bomb, 10 << 20).unwrap();
        assert!(matches!(unpack(&bomb, 10 << 20), Err(NoBody::NoRoom(_))));
        assert_eq!((held.len(), memory.taken()), (10 << 20, 10 << 20));
    }

    #[test]
    fn pieces_keep_their_order() {
        let memory = Budget::new(7);
        let mut pieces = Pieces::new(&memory);
        for piece in ["", "ab", "", "cde", "f"] {
            pieces.push(Bytes::from_static(piece.as_bytes())).unwrap();
        }
        assert!(pieces.push(Bytes::from_static(b"gh")).is_err());
        pieces.skip(1);
        assert_eq!(pieces.bytes(), b"bcdef");
        assert_eq!(pieces.take(5), "bcdef");
        assert_eq!(memory.taken(), 0);
        pieces.push(Bytes::from_static(b"gh")).unwrap();
        assert_eq!(pieces.take(9), "gh");
        assert_eq!(pieces.take(1), "");
    }
}
