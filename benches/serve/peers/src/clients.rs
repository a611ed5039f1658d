//! One connection to a server, which makes one request after the other.

use anyhow::{Context, Result, bail, ensure};
use bytes::{Bytes, BytesMut};
use h2::client::SendRequest;
use http::{Request, Uri};
use memchr::memmem;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How a request ended.
pub struct Answer {
    /// HTTP's status, or gRPC's code.
    pub status: u16,
    pub body: Bytes,
}

pub enum Client {
    Rest { stream: TcpStream, request: Bytes, buffer: BytesMut },
    Grpc { connection: SendRequest<Bytes>, uri: Uri, message: Bytes },
}

impl Client {
    pub async fn rest(address: &str, request: Bytes) -> Result<Client> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Client::Rest { stream, request, buffer: BytesMut::with_capacity(16 << 10) })
    }

    /// The connection's own work is a task of this thread.
    pub async fn grpc(address: &str, path: &str, message: Bytes) -> Result<Client> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let mut builder = h2::client::Builder::new();
        builder.initial_window_size(1 << 20).initial_connection_window_size(4 << 20);
        let (connection, driver) = builder.handshake(stream).await?;
        tokio::task::spawn_local(driver);
        let uri = format!("http://{address}{path}").parse()?;
        Ok(Client::Grpc { connection: connection.ready().await?, uri, message })
    }

    pub async fn call(&mut self) -> Result<Answer> {
        match self {
            Client::Rest { stream, request, buffer } => call_rest(stream, request, buffer).await,
            Client::Grpc { connection, uri, message } => {
                call_grpc(connection, uri.clone(), message.clone()).await
            }
        }
    }
}

async fn call_rest(
    stream: &mut TcpStream,
    request: &[u8],
    buffer: &mut BytesMut,
) -> Result<Answer> {
    // an early answer to a request that is refused is still read
    let written = stream.write_all(request).await;
    let end = loop {
        if let Some(at) = memmem::find(buffer, b"\r\n\r\n") {
            break at + 4;
        }
        if stream.read_buf(buffer).await? == 0 {
            written?;
            bail!("the server closed the connection");
        }
    };
    let head = std::str::from_utf8(&buffer[..end])?.to_ascii_lowercase();
    let status = head.get(9..12).and_then(|s| s.parse().ok()).context("no status")?;
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    let length: usize = length.context("the answer has no length")?.trim().parse()?;
    let closes = head.lines().any(|line| line == "connection: close");
    while buffer.len() < end + length {
        ensure!(stream.read_buf(buffer).await? > 0, "the answer ends too early");
    }
    let mut answer = buffer.split_to(end + length);
    let body = answer.split_off(end).freeze();
    ensure!(!closes || status != 200, "the server closes the connection after an answer");
    Ok(Answer { status, body })
}

async fn call_grpc(
    connection: &mut SendRequest<Bytes>,
    uri: Uri,
    message: Bytes,
) -> Result<Answer> {
    let request =
        Request::post(uri).header("content-type", "application/grpc").header("te", "trailers");
    futures_ready(connection).await?;
    let (response, mut send) = connection.send_request(request.body(())?, false)?;
    send.send_data(message, true)?;
    let (head, mut body) = response.await?.into_parts();
    let mut all = BytesMut::new();
    while let Some(data) = body.data().await {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        all.extend_from_slice(&data);
    }
    let trailers = body.trailers().await?;
    let status = trailers
        .as_ref()
        .and_then(|t| t.get("grpc-status"))
        .or_else(|| head.headers.get("grpc-status"));
    let status = status.context("no grpc-status")?.to_str()?.parse()?;
    Ok(Answer { status, body: all.freeze() })
}

async fn futures_ready(connection: &mut SendRequest<Bytes>) -> Result<()> {
    Ok(std::future::poll_fn(|context| connection.poll_ready(context)).await?)
}
