//! TLS and mutual TLS (rustls): certificates from PEM, read again when asked, so that they can be renewed.

use anyhow::{Context as _, Result, bail};
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, PoisonError, RwLock};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls;
use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::crypto::{
    WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio_rustls::rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use tokio_rustls::rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, ServerConfig,
    SignatureScheme, StreamOwned,
};
use tokio_rustls::server::TlsStream;

/// Where PEM text is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pem {
    File(PathBuf),
    /// The text itself, as TensorFlow Serving's `ssl_config_file` has it.
    Text(String),
}

impl Pem {
    fn read(&self) -> Result<Vec<u8>> {
        const MOST: u64 = 4 << 20;
        match self {
            Pem::Text(text) => Ok(text.clone().into_bytes()),
            Pem::File(path) => {
                let at = || path.display().to_string();
                let size = std::fs::metadata(path).with_context(at)?.len();
                if size > MOST {
                    bail!("{}: {size} bytes are too many for certificates", at());
                }
                std::fs::read(path).with_context(at)
            }
        }
    }

    fn name(&self, what: &str) -> String {
        match self {
            Pem::File(path) => path.display().to_string(),
            Pem::Text(_) => what.to_string(),
        }
    }
}

/// What a port with TLS needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsOptions {
    /// The server's certificate, then those between it and its root.
    pub certificate: Pem,
    pub key: Pem,
    /// Roots of the clients' certificates.
    pub client_roots: Option<Pem>,
    /// Whether a client without certificate is refused.
    pub client_required: bool,
}

/// Speaks TLS with clients.
pub struct Tls {
    options: Box<dyn Fn() -> Result<TlsOptions> + Send + Sync>,
    protocol: &'static [u8],
    config: RwLock<Arc<ServerConfig>>,
}

impl Tls {
    /// `protocol`: what the port speaks, as ALPN names it.
    ///
    /// # Errors
    /// A file cannot be read or holds no certificate or key, or key and certificate do not fit.
    pub fn new(
        options: impl Fn() -> Result<TlsOptions> + Send + Sync + 'static,
        protocol: &'static [u8],
    ) -> Result<Tls> {
        let config = RwLock::new(Arc::new(config_of(&options()?, protocol)?));
        Ok(Tls { options: Box::new(options), protocol, config })
    }

    /// Takes the certificates as they are now; keeps the old ones where these cannot be used.
    pub fn reload(&self) -> Result<()> {
        let config = Arc::new(config_of(&(self.options)()?, self.protocol)?);
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = config;
        Ok(())
    }

    pub async fn accept(&self, stream: TcpStream) -> io::Result<Stream> {
        let config = self.config.read().unwrap_or_else(PoisonError::into_inner).clone();
        let stream = TlsAcceptor::from(config).accept(stream).await?;
        Ok(Stream::Tls(Box::new(stream)))
    }
}

fn certificates(pem: &Pem, what: &str) -> Result<Vec<CertificateDer<'static>>> {
    let text = pem.read()?;
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let read = read.with_context(|| format!("{}: not PEM", pem.name(what)))?;
    if read.is_empty() {
        bail!("{}: there is no certificate (-----BEGIN CERTIFICATE-----) in it", pem.name(what));
    }
    Ok(read)
}

fn config_of(options: &TlsOptions, protocol: &[u8]) -> Result<ServerConfig> {
    let own = certificates(&options.certificate, "server_cert")?;
    let key_name = options.key.name("server_key");
    let key = PrivateKeyDer::from_pem_slice(&options.key.read()?)
        .with_context(|| format!("{key_name}: there is no private key in PEM in it"))?;
    let provider = Arc::new(default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone());
    let builder = builder.with_safe_default_protocol_versions().context("TLS")?;
    let builder = match &options.client_roots {
        None if options.client_required => {
            bail!("clients' certificates cannot be checked without their roots (custom_ca)")
        }
        None => builder.with_no_client_auth(),
        Some(roots) => {
            let mut store = RootCertStore::empty();
            for root in certificates(roots, "custom_ca")? {
                store.add(root).with_context(|| roots.name("custom_ca"))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(store.into(), provider);
            let verifier = match options.client_required {
                true => verifier,
                false => verifier.allow_unauthenticated(),
            };
            builder.with_client_cert_verifier(verifier.build().context("clients' roots")?)
        }
    };
    let names = || format!("{} and {key_name}", options.certificate.name("server_cert"));
    let mut config = builder.with_single_cert(own, key).with_context(names)?;
    config.alpn_protocols = vec![protocol.to_vec()];
    // tickets keep a session without memory here
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(config)
}

/// A client that takes any certificate, for a machine that asks itself.
pub fn unverified_client(
    stream: std::net::TcpStream,
) -> Result<StreamOwned<ClientConnection, std::net::TcpStream>> {
    let provider = Arc::new(default_provider());
    let verifier = Arc::new(Unverified(provider.signature_verification_algorithms));
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .context("TLS")?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").context("TLS")?;
    Ok(StreamOwned::new(ClientConnection::new(config.into(), name).context("TLS")?, stream))
}

#[derive(Debug)]
struct Unverified(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}

/// A client's connection.
pub enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Stream::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Stream::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_write_vectored(context, pieces),
            Stream::Tls(stream) => Pin::new(stream).poll_write_vectored(context, pieces),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Stream::Plain(stream) => stream.is_write_vectored(),
            Stream::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(context),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
