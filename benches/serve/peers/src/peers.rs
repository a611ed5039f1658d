//! Servers that take a request as mlctl does and give a fixed reply: what the network and the protocol cost alone.

use crate::messages::{ModelSpec, PredictRequest, PredictResponse, float_tensor};
use anyhow::Result;
use axum::Router;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::post;
use bytes::Bytes;
use clap::Args;
use std::convert::Infallible;
use std::future::{Future, Ready, ready};
use std::pin::Pin;
use std::task::{Context, Poll};
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::server::{Grpc, NamedService, UnaryService};
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;

/// An axum server that reads the body and gives a fixed reply
#[derive(Debug, Args)]
pub struct AxumOptions {
    #[arg(long)]
    address: String,
    /// The body of every reply
    #[arg(long, default_value = "{\"predictions\": [[0.1]]}")]
    reply: String,
}

/// A tonic server that decodes a PredictRequest and gives a fixed PredictResponse
#[derive(Debug, Args)]
pub struct TonicOptions {
    #[arg(long)]
    address: String,
    /// Floats in the reply's tensor
    #[arg(long, default_value_t = 10)]
    outputs: usize,
}

#[tokio::main]
pub async fn run_axum(options: AxumOptions) -> Result<()> {
    const MOST: usize = 128 << 20;
    let reply = Bytes::from(options.reply);
    let answer = async |State(reply): State<Bytes>, body: Bytes| {
        std::hint::black_box(body.len());
        ([(CONTENT_TYPE, "application/json")], reply).into_response()
    };
    let limit = axum::extract::DefaultBodyLimit::max(MOST);
    let router = Router::new().route("/{*path}", post(answer)).layer(limit).with_state(reply);
    let listener = tokio::net::TcpListener::bind(&options.address).await?;
    eprintln!("listening on {}", listener.local_addr()?);
    use axum::serve::ListenerExt;
    let listener = listener.tap_io(|stream| {
        let _ = stream.set_nodelay(true);
    });
    Ok(axum::serve(listener, router).await?)
}

#[tokio::main]
pub async fn run_tonic(options: TonicOptions) -> Result<()> {
    let shape = [1, options.outputs as i64];
    let spec = ModelSpec { name: "default".into(), signature_name: "serving_default".into() };
    let outputs = [("y".to_string(), float_tensor(&shape, &vec![0.1; options.outputs]))];
    let reply = PredictResponse { outputs: outputs.into(), model_spec: Some(spec) };
    let address = options.address.parse()?;
    eprintln!("listening on {address}");
    let server = tonic::transport::Server::builder().tcp_nodelay(true);
    Ok({ server }.add_service(Fixed { reply }).serve(address).await?)
}

/// A PredictionService whose every call is `Predict`.
#[derive(Clone)]
struct Fixed {
    reply: PredictResponse,
}

impl NamedService for Fixed {
    const NAME: &'static str = "tensorflow.serving.PredictionService";
}

impl Service<axum::http::Request<Body>> for Fixed {
    type Response = axum::http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: axum::http::Request<Body>) -> Self::Future {
        let predict = Predict(self.reply.clone());
        Box::pin(async move {
            let mut grpc = Grpc::new(ProstCodec::<PredictResponse, PredictRequest>::default());
            Ok(grpc.unary(predict, request).await)
        })
    }
}

struct Predict(PredictResponse);

impl UnaryService<PredictRequest> for Predict {
    type Response = PredictResponse;
    type Future = Ready<Result<Response<PredictResponse>, Status>>;

    fn call(&mut self, request: Request<PredictRequest>) -> Self::Future {
        std::hint::black_box(request.get_ref().inputs.len());
        ready(Ok(Response::new(self.0.clone())))
    }
}
