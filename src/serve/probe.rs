//! Asks a server whether it is ready, as a container's health check does: slim images have no curl.

use super::http::tls::unverified_client;
use anyhow::{Context, Result, bail};
use std::io::{Read, Write};
use std::net::{IpAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

trait Stream: Read + Write {}

impl<S: Read + Write> Stream for S {}

/// Asks `http://host:port/readyz`; an address that stands for all of a machine's is asked at this machine. With `tls`,
/// whatever certificate it shows: the machine asks itself.
///
/// # Errors
/// Nobody listens there, or the server is not ready: in its words.
pub fn probe(host: &str, port: u16, tls: bool) -> Result<()> {
    const TIME: Duration = Duration::from_secs(3);
    const MOST: u64 = 4096;
    let host = match host.parse::<IpAddr>() {
        Ok(IpAddr::V4(address)) if address.is_unspecified() => "127.0.0.1",
        Ok(IpAddr::V6(address)) if address.is_unspecified() => "::1",
        _ => host,
    };
    let at = || format!("{host}:{port} does not answer");
    let address = (host, port).to_socket_addrs().with_context(at)?.next().with_context(at)?;
    let stream = TcpStream::connect_timeout(&address, TIME).with_context(at)?;
    stream.set_read_timeout(Some(TIME))?;
    stream.set_write_timeout(Some(TIME))?;
    let mut stream: Box<dyn Stream> = match tls {
        true => Box::new(unverified_client(stream)?),
        false => Box::new(stream),
    };
    stream
        .write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .with_context(at)?;
    let mut answer = vec![];
    stream.take(MOST).read_to_end(&mut answer).with_context(at)?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    match head.split(' ').nth(1) {
        Some("200") => Ok(()),
        Some(status) => bail!("{host}:{port} is not ready ({status}): {}", body.trim()),
        None => bail!("{host}:{port} does not speak HTTP"),
    }
}
