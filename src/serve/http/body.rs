//! Bodies of requests, whole, with bounds on their size and pace.

use super::Limits;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
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
}

/// Every stretch of a body must bring so many bytes.
const LEAST: usize = 16 << 10;

/// Reads a body of up to `most` bytes. `check` sees what has come so far after each piece, and may refuse it.
pub async fn read(
    mut body: Incoming,
    most: usize,
    limits: &Limits,
    check: impl Fn(&[u8]) -> Result<(), NoBody>,
) -> Result<Bytes, NoBody> {
    if body.size_hint().lower() > most as u64 {
        return Err(NoBody::TooLarge(most));
    }
    let stretch = |time: Duration| Instant::now() + time;
    let (mut end, mut brought) = (stretch(limits.body_stretch), 0);
    // one piece, as most are, is not copied
    let (mut first, mut bytes) = (Bytes::new(), BytesMut::new());
    loop {
        let frame = match timeout_at(end, body.frame()).await {
            Err(_) => return Err(NoBody::TooSlow),
            Ok(None) => break,
            Ok(Some(Err(error))) => return Err(NoBody::Broken(error.to_string())),
            Ok(Some(Ok(frame))) => frame,
        };
        let Ok(data) = frame.into_data() else { continue };
        if data.len() > most - first.len() - bytes.len() {
            return Err(NoBody::TooLarge(most));
        }
        brought += data.len();
        if brought >= LEAST {
            (end, brought) = (stretch(limits.body_stretch), 0);
        }
        if first.is_empty() && bytes.is_empty() {
            check(&data)?;
            first = data;
            continue;
        }
        // memory is taken as the bytes come, whatever the head promises
        bytes.extend_from_slice(&std::mem::take(&mut first));
        bytes.extend_from_slice(&data);
        check(&bytes)?;
    }
    Ok(if bytes.is_empty() { first } else { bytes.freeze() })
}
