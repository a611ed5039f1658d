//! Messages in the body of a call, as gRPC frames them: a byte that says whether the message is packed, its length, its
//! bytes. Memory is taken as bytes come, whatever a length promises; what is packed is unpacked aside.

use crate::serve::failure::{Answer, Code, Failure};
use crate::serve::http::Limits;
use crate::serve::http::body::{self, NoBody, Pace, Pieces};
use crate::serve::memory::Budget;
use crate::serve::rest::aside;
use bytes::Bytes;
use hyper::body::Body;
use hyper::header::HeaderMap;
use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

const PREFIX: usize = 5;

/// Whether `grpc-encoding` is gzip.
///
/// # Errors
/// It is one that is not known here.
pub fn packing(headers: &HeaderMap) -> Answer<bool> {
    match headers.get("grpc-encoding").map(|value| value.as_bytes()) {
        None | Some(b"identity") => Ok(false),
        Some(b"gzip") => Ok(true),
        Some(other) => {
            let other = String::from_utf8_lossy(other);
            let message = format!("Content is compressed with `{other}` which isn't supported");
            Err(Failure::new(Code::Unimplemented, message))
        }
    }
}

/// The messages of one call.
pub struct Messages<B> {
    body: B,
    held: Pieces,
    /// Whether messages may be packed.
    packs: bool,
    most: usize,
    stretch: Duration,
    memory: Arc<Budget>,
}

impl<B> Messages<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Display,
{
    pub fn new(body: B, packs: bool, limits: &Limits) -> Messages<B> {
        let (most, stretch, memory) = (limits.body, limits.body_stretch, limits.memory.clone());
        Messages { body, held: Pieces::new(&memory), packs, most, stretch, memory }
    }

    /// Lowers the bytes that a message may have.
    pub fn at_most(self, bytes: usize) -> Messages<B> {
        Messages { most: self.most.min(bytes), ..self }
    }

    /// The next message, `None` at the end. It may begin whenever it likes, and must then come at the pace of bodies.
    pub async fn next(&mut self) -> Answer<Option<Bytes>> {
        while self.held.bytes().is_empty() {
            match body::piece(&mut self.body).await.map_err(|none| self.failure(none))? {
                None => return Ok(None),
                Some(piece) => self.push(piece)?,
            }
        }
        match self.framed(&mut Pace::new(self.stretch)).await? {
            None => Ok(None),
            Some(framed) => self.opened(framed).await.map(Some),
        }
    }

    /// The message of a call that has one.
    pub async fn only(mut self) -> Answer<Bytes> {
        // what the gRPC status codes say of "request cardinality violation"
        let wrong = |what| Failure::new(Code::Unimplemented, format!("{what} where one is taken"));
        if self.body.size_hint().lower() > self.most.saturating_add(PREFIX) as u64 {
            return Err(self.failure(NoBody::TooLarge(self.most)));
        }
        let mut pace = Pace::new(self.stretch);
        let framed = self.framed(&mut pace).await?.ok_or_else(|| wrong("no message"))?;
        // before it is unpacked: nobody would read the others
        while self.held.bytes().is_empty() && !self.body.is_end_stream() {
            match pace.piece(&mut self.body).await.map_err(|none| self.failure(none))? {
                None => break,
                Some(piece) => self.push(piece)?,
            }
        }
        if !self.held.bytes().is_empty() {
            return Err(wrong("several messages"));
        }
        self.opened(framed).await
    }

    /// The next message as it came, and whether it is packed.
    async fn framed(&mut self, pace: &mut Pace) -> Answer<Option<(bool, Bytes)>> {
        loop {
            if let Some((packed, length)) = self.head()?
                && self.held.bytes().len() - PREFIX >= length
            {
                self.held.skip(PREFIX);
                return Ok(Some((packed, self.held.take(length))));
            }
            match pace.piece(&mut self.body).await.map_err(|none| self.failure(none))? {
                Some(piece) => self.push(piece)?,
                None if self.held.bytes().is_empty() => return Ok(None),
                None => {
                    let message = "the call ends within a message";
                    return Err(Failure::new(Code::Internal, message));
                }
            }
        }
    }

    /// Whether the message is packed, and its length, once they have come.
    fn head(&self) -> Answer<Option<(bool, usize)>> {
        let Some(&[flag, a, b, c, d]) = self.held.bytes().first_chunk::<PREFIX>() else {
            return Ok(None);
        };
        let broken = |message| Err(Failure::new(Code::Internal, message));
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        match flag {
            0 | 1 if length > self.most => Err(self.failure(NoBody::TooLarge(self.most))),
            0 => Ok(Some((false, length))),
            1 if self.packs => Ok(Some((true, length))),
            1 => broken("a message is packed, and there is no grpc-encoding"),
            _ => broken("the first byte of a message is neither 0 nor 1"),
        }
    }

    async fn opened(&mut self, (packed, message): (bool, Bytes)) -> Answer<Bytes> {
        if !packed || message.is_empty() {
            return Ok(message);
        }
        let (most, memory) = (self.most, self.memory.clone());
        let opened = aside(move || body::unpack(&message, most, &memory)).await?;
        opened.map_err(|none| match none {
            NoBody::Broken(why) => {
                Failure::new(Code::Internal, format!("a message cannot be unpacked: {why}"))
            }
            other => self.failure(other),
        })
    }

    fn push(&mut self, piece: Bytes) -> Answer<()> {
        self.held.push(piece).map_err(|none| self.failure(none))
    }

    fn failure(&self, none: NoBody) -> Failure {
        match none {
            NoBody::NoRoom(why) => Failure::new(Code::ResourceExhausted, why),
            NoBody::TooLarge(_) => {
                let message = format!("Received message larger than max ({})", self.most);
                Failure::new(Code::ResourceExhausted, message)
            }
            NoBody::TooSlow => Failure::new(Code::DeadlineExceeded, "the call comes too slowly"),
            NoBody::Broken(why) => {
                Failure::new(Code::Cancelled, format!("the call broke off: {why}"))
            }
        }
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use http_body_util::{Full, StreamBody};
    use hyper::body::Frame;
    use std::convert::Infallible;
    use std::future::Future;
    use std::io::Write;

    use tokio::sync::mpsc;
    use tonic::codegen::tokio_stream::wrappers::ReceiverStream;

    pub fn run<T>(future: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(future)
    }

    pub fn framed(flag: u8, message: &[u8]) -> Vec<u8> {
        [&[flag], &(message.len() as u32).to_be_bytes()[..], message].concat()
    }

    pub fn gzipped(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(vec![], Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    type Sender = mpsc::Sender<Result<Frame<Bytes>, Infallible>>;
    pub type Sent = StreamBody<ReceiverStream<Result<Frame<Bytes>, Infallible>>>;

    /// A body that comes as it is sent.
    pub fn sent() -> (Sender, Sent) {
        let (sender, receiver) = mpsc::channel(1000);
        (sender, StreamBody::new(receiver.into()))
    }

    pub fn send(sender: &Sender, bytes: &[u8]) {
        sender.try_send(Ok(Frame::data(Bytes::copy_from_slice(bytes)))).unwrap();
    }

    pub fn limits(body: usize) -> Limits {
        Limits { body, body_stretch: Duration::from_millis(200), ..Limits::default() }
    }

    fn only(body: &[u8], packs: bool) -> Answer<Bytes> {
        let body = Full::new(Bytes::copy_from_slice(body));
        run(Messages::new(body, packs, &limits(1 << 20)).only())
    }

    #[test]
    fn one_message_is_taken() {
        let check = |body: &[u8], packs: bool, expected: Result<&[u8], Code>| {
            let found = only(body, packs).map_err(|failure| failure.code);
            assert_eq!(found.as_deref(), expected.as_deref(), "{body:?}");
        };
        check(&framed(0, b"abc"), false, Ok(b"abc"));
        check(&framed(0, b"abc"), true, Ok(b"abc"));
        check(&framed(0, b""), false, Ok(b""));
        check(&framed(1, &gzipped(b"abc")), true, Ok(b"abc"));
        check(&framed(1, &gzipped(b"abc")), false, Err(Code::Internal));
        check(&framed(1, b"abc"), true, Err(Code::Internal));
        check(&framed(2, b"abc"), true, Err(Code::Internal));
        check(&framed(0, b"abc")[..7], false, Err(Code::Internal));
        check(&framed(0, b"abc")[..3], false, Err(Code::Internal));
        check(&[0, 0, 16, 0, 1], false, Err(Code::ResourceExhausted));
        check(&[0, 255, 255, 255, 255], false, Err(Code::ResourceExhausted));
        check(&framed(1, &gzipped(&[0; (1 << 20) + 1])), true, Err(Code::ResourceExhausted));
        // the table of doc/statuscodes.md in gRPC's source
        check(b"", false, Err(Code::Unimplemented));
        check(&framed(0, b"abc").repeat(2), false, Err(Code::Unimplemented));
        check(&[&framed(0, b"abc")[..], b"x"].concat(), false, Err(Code::Unimplemented));
    }

    #[test]
    fn what_nobody_reads_is_not_unpacked() {
        // unpacking this would tell that it is no gzip
        let body = Full::new(Bytes::from(framed(1, b"no gzip").repeat(2)));
        let failure = run(Messages::new(body, true, &limits(100)).only()).unwrap_err();
        assert_eq!(failure.code, Code::Unimplemented);
        let body = Full::new(Bytes::from(framed(1, b"no gzip")));
        let failure = run(Messages::new(body, true, &limits(100)).only()).unwrap_err();
        assert_ne!(failure.code, Code::Unimplemented);
    }

    #[test]
    fn messages_come_in_any_pieces_and_are_held_to_their_pace() {
        let whole = [framed(0, b"first"), framed(1, &gzipped(b"second")), framed(0, b"")].concat();
        for size in [1, 2, 7, 1000] {
            let (sender, body) = sent();
            whole.chunks(size).for_each(|piece| send(&sender, piece));
            drop(sender);
            run(async {
                let mut messages = Messages::new(body, true, &limits(100));
                for expected in ["first", "second", ""] {
                    assert_eq!(messages.next().await.unwrap().unwrap(), expected);
                }
                assert_eq!(messages.next().await.unwrap(), None);
            });
        }
        let (sender, body) = sent();
        run(async {
            let mut messages = Messages::new(body, true, &limits(100));
            // there may be any time before a message
            let waited = tokio::time::timeout(Duration::from_millis(500), messages.next()).await;
            assert!(waited.is_err());
            send(&sender, &framed(0, b"first")[..7]);
            assert_eq!(messages.next().await.unwrap_err().code, Code::DeadlineExceeded);
        });
    }
}
