//! A request's head and how its body is framed. What is ambiguous is refused: a proxy in front may read it otherwise.

use super::Response;
use crate::serve::failure::{Code, Failure};
use bytes::BytesMut;

/// What the server needs of a head.
#[derive(Debug, Clone, PartialEq)]
pub struct Head {
    pub method: String,
    /// Without the query.
    pub path: String,
    pub headers: http::HeaderMap,
    pub keep_alive: bool,
    pub expects_continue: bool,
    pub gzip_body: bool,
    pub accepts_gzip: bool,
    pub body: Body,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body {
    None,
    Known(u64),
    Chunked,
}

/// Why a request is not read further; the connection ends with the answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    Malformed(&'static str),
    HeadTooLarge,
    BodyTooLarge(usize),
    TooSlow,
    Unsupported(&'static str),
}

impl Refusal {
    pub fn response(&self) -> Response {
        let invalid = Code::InvalidArgument;
        let (status, code, message) = match self {
            Refusal::Malformed(what) => (400, invalid, format!("Malformed request: {what}")),
            Refusal::HeadTooLarge => {
                (431, invalid, "the request's header is too large".to_string())
            }
            Refusal::BodyTooLarge(most) => {
                (413, invalid, format!("the request's body has more than {most} bytes"))
            }
            Refusal::TooSlow => {
                (408, Code::DeadlineExceeded, "the request comes too slowly".into())
            }
            Refusal::Unsupported(what) => (501, Code::Unimplemented, (*what).to_string()),
        };
        Response { status, ..Response::failure(&Failure::new(code, message)) }
    }
}

pub enum Parsed {
    Head(Head),
    Partial,
    Refused(Refusal),
}

/// Takes a whole head off `buffer`.
pub fn parse_head(buffer: &mut BytesMut) -> Parsed {
    let mut headers = [httparse::EMPTY_HEADER; 100];
    let mut request = httparse::Request::new(&mut headers);
    let length = match request.parse(buffer) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Parsed::Partial,
        Err(httparse::Error::TooManyHeaders) => return Parsed::Refused(Refusal::HeadTooLarge),
        Err(_) => return Parsed::Refused(Refusal::Malformed("it is not HTTP/1.1")),
    };
    let head = head_of(&request);
    let _ = buffer.split_to(length);
    head.map_or_else(Parsed::Refused, Parsed::Head)
}

fn head_of(request: &httparse::Request) -> Result<Head, Refusal> {
    let malformed = |what| Err(Refusal::Malformed(what));
    let http_1_1 = request.version == Some(1);
    let target = request.path.unwrap_or_default();
    // the absolute form, as proxies send it
    let target = match target.split_once("://") {
        Some((_, rest)) if !target.starts_with('/') => rest.find('/').map_or("/", |at| &rest[at..]),
        _ => target,
    };
    let path = target.split(['?', '#']).next().unwrap_or_default();
    let mut head = Head {
        method: request.method.unwrap_or_default().to_string(),
        path: path.to_string(),
        headers: http::HeaderMap::new(),
        keep_alive: http_1_1,
        expects_continue: false,
        gzip_body: false,
        accepts_gzip: false,
        body: Body::None,
    };
    let mut hosts = 0;
    for header in request.headers.iter() {
        if let (Ok(name), Ok(value)) = (
            http::HeaderName::from_bytes(header.name.as_bytes()),
            http::HeaderValue::from_bytes(header.value),
        ) {
            head.headers.append(name, value);
        }
        let Ok(value) = std::str::from_utf8(header.value) else {
            continue;
        };
        let value = value.trim();
        let is = |name: &str| header.name.eq_ignore_ascii_case(name);
        if is("content-length") {
            let digits = !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit());
            let Some(length) = value.parse().ok().filter(|_| digits) else {
                return malformed("Content-Length is not a number");
            };
            match head.body {
                Body::None => head.body = Body::Known(length),
                Body::Known(other) if other == length => {}
                _ => return malformed("the length of the body is given twice"),
            }
        } else if is("transfer-encoding") {
            if !value.eq_ignore_ascii_case("chunked") {
                return Err(Refusal::Unsupported("Transfer-Encoding other than chunked"));
            }
            if head.body != Body::None || !http_1_1 {
                return malformed("the length of the body is given twice");
            }
            head.body = Body::Chunked;
        } else if is("connection") {
            for option in value.split(',').map(str::trim) {
                if option.eq_ignore_ascii_case("close") {
                    head.keep_alive = false;
                } else if option.eq_ignore_ascii_case("keep-alive") {
                    head.keep_alive = true;
                }
            }
        } else if is("expect") {
            head.expects_continue = value.eq_ignore_ascii_case("100-continue");
        } else if is("content-encoding") {
            head.gzip_body = match value {
                v if v.eq_ignore_ascii_case("gzip") || v.eq_ignore_ascii_case("x-gzip") => true,
                v if v.is_empty() || v.eq_ignore_ascii_case("identity") => false,
                _ => return Err(Refusal::Unsupported("Content-Encoding other than gzip")),
            };
        } else if is("accept-encoding") {
            head.accepts_gzip |= accepts_gzip(value);
        } else if is("host") {
            hosts += 1;
        }
    }
    if hosts > 1 || (hosts == 0 && http_1_1) {
        return malformed("HTTP/1.1 needs one Host");
    }
    Ok(head)
}

/// Whether `gzip` is among the encodings and not excluded by `q=0`.
fn accepts_gzip(value: &str) -> bool {
    value.split(',').any(|entry| {
        let mut parts = entry.split(';').map(str::trim);
        let is_gzip = parts.next().is_some_and(|name| name.eq_ignore_ascii_case("gzip"));
        let quality = parts.find_map(|p| p.strip_prefix("q=")).map_or(Ok(1.0), str::parse::<f32>);
        is_gzip && quality.is_ok_and(|q| q > 0.0)
    })
}

pub mod chunked {
    //! The chunked transfer coding (RFC 9112, section 7.1).

    use super::Refusal;
    use bytes::{Bytes, BytesMut};

    const MOST_LINE: usize = 1 << 10;
    const MOST_TRAILERS: usize = 100;

    #[derive(Debug, Default)]
    pub struct Decoder {
        body: BytesMut,
        /// Bytes that the chunk still lacks.
        left: u64,
        state: State,
        trailers: usize,
    }

    #[derive(Debug, Default, PartialEq)]
    enum State {
        #[default]
        Size,
        Data,
        DataEnd,
        Trailers,
    }

    impl Decoder {
        /// Takes what there is off `input`; the body when it is whole.
        pub fn decode(
            &mut self,
            input: &mut BytesMut,
            most: usize,
        ) -> Result<Option<Bytes>, Refusal> {
            loop {
                match self.state {
                    State::Size => {
                        let Some(line) = line(input)? else { return Ok(None) };
                        self.left = size(&line)?;
                        let total = self.left.saturating_add(self.body.len() as u64);
                        if total > most as u64 {
                            return Err(Refusal::BodyTooLarge(most));
                        }
                        self.state = if self.left == 0 { State::Trailers } else { State::Data };
                    }
                    State::Data => {
                        let take =
                            usize::try_from(self.left).unwrap_or(usize::MAX).min(input.len());
                        self.body.extend_from_slice(&input.split_to(take));
                        self.left -= take as u64;
                        if self.left > 0 {
                            return Ok(None);
                        }
                        self.state = State::DataEnd;
                    }
                    State::DataEnd => {
                        let Some(line) = line(input)? else { return Ok(None) };
                        if !line.is_empty() {
                            return Err(Refusal::Malformed("a chunk is longer than its size"));
                        }
                        self.state = State::Size;
                    }
                    State::Trailers => {
                        let Some(line) = line(input)? else { return Ok(None) };
                        if line.is_empty() {
                            return Ok(Some(std::mem::take(&mut self.body).freeze()));
                        }
                        self.trailers += 1;
                        if self.trailers > MOST_TRAILERS {
                            return Err(Refusal::HeadTooLarge);
                        }
                    }
                }
            }
        }
    }

    /// A whole line without its end.
    fn line(input: &mut BytesMut) -> Result<Option<BytesMut>, Refusal> {
        match input.iter().take(MOST_LINE).position(|&b| b == b'\n') {
            Some(at) => {
                let mut line = input.split_to(at + 1);
                if !line.ends_with(b"\r\n") {
                    return Err(Refusal::Malformed("a line of a chunk has no CRLF"));
                }
                line.truncate(at - 1);
                Ok(Some(line))
            }
            None if input.len() >= MOST_LINE => {
                Err(Refusal::Malformed("a chunk's line is too long"))
            }
            None => Ok(None),
        }
    }

    fn size(line: &[u8]) -> Result<u64, Refusal> {
        let digits = line.split(|&b| b == b';').next().unwrap_or_default().trim_ascii();
        let text = std::str::from_utf8(digits).unwrap_or_default();
        let hexadecimal = !text.is_empty() && text.bytes().all(|b| b.is_ascii_hexdigit());
        let size = u64::from_str_radix(text, 16).ok().filter(|_| hexadecimal);
        size.ok_or(Refusal::Malformed("the size of a chunk is no number"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(text: &str) -> Result<Head, Refusal> {
        let mut buffer = BytesMut::from(text);
        match parse_head(&mut buffer) {
            Parsed::Head(head) => {
                assert!(buffer.is_empty(), "{text}");
                Ok(Head { headers: http::HeaderMap::new(), ..head })
            }
            Parsed::Refused(refusal) => Err(refusal),
            Parsed::Partial => panic!("{text} is not whole"),
        }
    }

    #[test]
    fn heads() {
        let plain = Head {
            method: "POST".into(),
            path: "/a/b".into(),
            headers: http::HeaderMap::new(),
            keep_alive: true,
            expects_continue: false,
            gzip_body: false,
            accepts_gzip: false,
            body: Body::None,
        };
        let post =
            |headers: &str| head(&format!("POST /a/b?c=d HTTP/1.1\r\nHost: x\r\n{headers}\r\n"));
        assert_eq!(post(""), Ok(plain.clone()));
        assert_eq!(
            post("content-LENGTH: 12\r\n"),
            Ok(Head { body: Body::Known(12), ..plain.clone() })
        );
        assert_eq!(
            post("Transfer-Encoding: chunked\r\nConnection: close\r\n"),
            Ok(Head { body: Body::Chunked, keep_alive: false, ..plain.clone() })
        );
        assert_eq!(
            post(
                "Content-Encoding: gzip\r\nAccept-Encoding: br, gzip;q=0.5\r\nExpect: 100-continue\r\n"
            ),
            Ok(Head {
                gzip_body: true,
                accepts_gzip: true,
                expects_continue: true,
                ..plain.clone()
            })
        );
        assert!(!post("Accept-Encoding: gzip;q=0, br\r\n").unwrap().accepts_gzip);
        assert!(!head("GET / HTTP/1.0\r\n\r\n").unwrap().keep_alive);
        assert_eq!(head("GET http://h:1/v1/x HTTP/1.1\r\nHost: h\r\n\r\n").unwrap().path, "/v1/x");
    }

    #[test]
    fn what_is_ambiguous_is_refused() {
        let post = |headers: &str| {
            head(&format!("POST / HTTP/1.1\r\nHost: x\r\n{headers}\r\n")).unwrap_err()
        };
        let twice = Refusal::Malformed("the length of the body is given twice");
        let number = Refusal::Malformed("Content-Length is not a number");
        assert_eq!(post("Content-Length: 1\r\nTransfer-Encoding: chunked\r\n"), twice);
        assert_eq!(post("Transfer-Encoding: chunked\r\nContent-Length: 1\r\n"), twice);
        assert_eq!(post("Content-Length: 1\r\nContent-Length: 2\r\n"), twice);
        assert_eq!(post("Content-Length: +1\r\n"), number);
        assert_eq!(post("Content-Length: 1, 1\r\n"), number);
        assert_eq!(post("Content-Length: 99999999999999999999\r\n"), number);
        assert!(matches!(post("Transfer-Encoding: gzip, chunked\r\n"), Refusal::Unsupported(_)));
        assert!(matches!(post("Content-Encoding: br\r\n"), Refusal::Unsupported(_)));
        assert!(matches!(post("Host: y\r\n"), Refusal::Malformed(_)));
        assert!(matches!(head("GET / HTTP/1.1\r\n\r\n"), Err(Refusal::Malformed(_))));
        assert!(matches!(head("nonsense\r\n\r\n"), Err(Refusal::Malformed(_))));
    }

    #[test]
    fn chunks() {
        let decode = |text: &str, step: usize| {
            let (mut decoder, mut input) = (chunked::Decoder::default(), BytesMut::new());
            for piece in text.as_bytes().chunks(step) {
                input.extend_from_slice(piece);
                if let Some(body) = decoder.decode(&mut input, 20)? {
                    return Ok(Some((body, input)));
                }
            }
            Ok(None)
        };
        let text = "3\r\nabc\r\nA;x=y\r\n0123456789\r\n0\r\nTrailer: 1\r\n\r\nnext";
        for step in [1, 2, 7, 100] {
            let (body, rest) = decode(text, step).unwrap().unwrap();
            assert_eq!(body, "abc0123456789");
            assert!(b"next".starts_with(&rest), "{rest:?}");
        }
        assert_eq!(decode("3\r\nab", 1), Ok(None));
        let malformed =
            |text: &str| assert!(matches!(decode(text, 1), Err(Refusal::Malformed(_))), "{text}");
        malformed("x\r\n");
        malformed("-1\r\n");
        malformed("\r\n");
        malformed("1\nab");
        malformed("1\r\nab\r\n");
        malformed(&"1".repeat(2000));
        assert_eq!(decode("15\r\n", 1), Err(Refusal::BodyTooLarge(20)));
        assert_eq!(decode("ffffffffffffffff\r\n", 1), Err(Refusal::BodyTooLarge(20)));
    }
}
