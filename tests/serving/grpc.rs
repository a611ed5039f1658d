//! A gRPC call as bytes of HTTP/2: what no client library lets one send.
#![allow(dead_code)]

use super::serving::Server;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
/// Bytes of a frame.
const MOST: usize = 16 << 10;

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A connection with one call.
pub struct Call {
    stream: TcpStream,
}

impl Call {
    /// Sends the head, with nothing but literal headers.
    pub fn begin(server: &Server, path: &str, headers: &[(&str, &str)]) -> Call {
        let text = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
        // :method POST, :scheme http; :path, :authority and content-type in full
        let mut head = [
            &[0x83, 0x86, 0x04][..],
            &text(path),
            &[0x01],
            &text("x"),
            &[0x0f, 16],
            &text("application/grpc"),
        ]
        .concat();
        for (name, value) in [("te", "trailers")].iter().chain(headers) {
            head.extend([&[0][..], &text(name), &text(value)].concat());
        }
        let mut stream = TcpStream::connect(&server.grpc).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
        let asked = [frame(SETTINGS, 0, 0, &[]), frame(HEADERS, 4, 1, &head)].concat();
        stream.write_all(&asked).unwrap();
        Call { stream }
    }

    /// Sends the message, and that there is no other.
    pub fn send(&mut self, message: &[u8]) {
        let message = [&[0][..], &(message.len() as u32).to_be_bytes(), message].concat();
        let mut pieces = message.chunks(MOST).peekable();
        while let Some(piece) = pieces.next() {
            let last = u8::from(pieces.peek().is_none());
            self.stream.write_all(&frame(DATA, last, 1, piece)).unwrap();
        }
    }

    /// The answer's message, and whether the answer was a head alone.
    pub fn answer(&mut self) -> (Option<Vec<u8>>, bool) {
        let (mut answer, mut heads) = (vec![], 0);
        loop {
            let mut head = [0; 9];
            self.stream.read_exact(&mut head).unwrap();
            let [a, b, c, kind, flags, ..] = head;
            let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
            self.stream.read_exact(&mut payload).unwrap();
            match kind {
                SETTINGS if flags == 0 => {
                    self.stream.write_all(&frame(SETTINGS, 1, 0, &[])).unwrap()
                }
                DATA => answer.extend_from_slice(&payload),
                RESET | GOAWAY => panic!("frame {kind}: {payload:?}"),
                HEADERS => heads += 1,
                _ => {}
            }
            if kind == HEADERS && flags & 1 == 1 {
                return (answer.get(5..).map(<[u8]>::to_vec), heads == 1);
            }
        }
    }
}

/// One call; `None` where the answer has no message.
pub fn call(server: &Server, path: &str, message: &[u8]) -> Option<Vec<u8>> {
    let mut call = Call::begin(server, path, &[]);
    call.send(message);
    call.answer().0
}

/// A field of protobuf's that has a length.
pub fn field(number: u8, payload: impl AsRef<[u8]>) -> Vec<u8> {
    let payload = payload.as_ref();
    [&[number << 3 | 2, u8::try_from(payload.len()).unwrap()], payload].concat()
}
