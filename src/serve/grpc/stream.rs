//! Calls of many messages each way (KServe's `ModelStreamInfer`, as Triton has it): each message is answered as if it had
//! come alone, one after the other.

use super::transport::{Bytewise, Call, Serve};
use crate::serve::failure::Answer;
use crate::serve::http::{race, told_to_stop};
use bytes::Bytes;
use hyper::header::HeaderMap;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::{mpsc, watch};
use tonic::codec::CompressionEncoding;
use tonic::codegen::tokio_stream::wrappers::ReceiverStream;
use tonic::server::{Grpc, StreamingService};
use tonic::{Response, Status, Streaming};

/// How the messages of a stream are answered.
pub struct Each<A> {
    /// The call that one message would be.
    pub path: &'static str,
    /// Bytes of a message, also unpacked.
    pub most: usize,
    pub stop: watch::Receiver<bool>,
    pub answer: A,
    /// What the stream carries for an answer.
    pub wrap: fn(Answer<Vec<u8>>) -> Vec<u8>,
}

pub fn service<A, F>(each: Each<A>) -> Serve
where
    A: Fn(Call) -> F + Send + Sync + 'static,
    F: Future<Output = Answer<Vec<u8>>> + Send + 'static,
{
    let each = Arc::new(each);
    Arc::new(move |request| {
        let each = each.clone();
        Box::pin(async move {
            Grpc::new(Bytewise)
                .accept_compressed(CompressionEncoding::Gzip)
                .send_compressed(CompressionEncoding::Gzip)
                .max_decoding_message_size(each.most)
                .streaming(Stream(each), request)
                .await
        })
    })
}

struct Stream<A>(Arc<Each<A>>);

impl<A, F> StreamingService<Bytes> for Stream<A>
where
    A: Fn(Call) -> F + Send + Sync + 'static,
    F: Future<Output = Answer<Vec<u8>>> + Send + 'static,
{
    type Response = Vec<u8>;
    type ResponseStream = ReceiverStream<Result<Vec<u8>, Status>>;
    type Future =
        Pin<Box<dyn Future<Output = Result<Response<Self::ResponseStream>, Status>> + Send>>;

    fn call(&mut self, request: tonic::Request<Streaming<Bytes>>) -> Self::Future {
        let (metadata, _, messages) = request.into_parts();
        let (sender, receiver) = mpsc::channel(1);
        tokio::spawn(answer_all(self.0.clone(), metadata.into_headers(), messages, sender));
        Box::pin(std::future::ready(Ok(Response::new(receiver.into()))))
    }
}

async fn answer_all<A, F>(
    each: Arc<Each<A>>,
    headers: HeaderMap,
    mut messages: Streaming<Bytes>,
    answers: mpsc::Sender<Result<Vec<u8>, Status>>,
) where
    A: Fn(Call) -> F,
    F: Future<Output = Answer<Vec<u8>>>,
{
    let mut stop = each.stop.clone();
    loop {
        // a stream would hold up the end of its connection
        let next = race(pin!(messages.message()), pin!(told_to_stop(&mut stop))).await;
        let answered = match next {
            None | Some(Ok(None)) => return,
            Some(Err(status)) => Err(status),
            Some(Ok(Some(message))) => {
                let (path, came) = (each.path.to_string(), Instant::now());
                let call = Call { path, headers: headers.clone(), message, came, time: None };
                Ok((each.wrap)((each.answer)(call).await))
            }
        };
        let ended = answered.is_err();
        if answers.send(answered).await.is_err() || ended {
            return;
        }
    }
}
