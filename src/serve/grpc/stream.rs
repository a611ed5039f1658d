//! Calls of many messages each way (KServe's `ModelStreamInfer`, as Triton has it): each message is answered as if it had
//! come alone, one after the other.

use super::frames::{Messages, packing};
use super::transport::{Admit, Call, Serve, answered, packs_answers, refusal, status_of};
use crate::serve::failure::{Answer, Code, Failure};
use crate::serve::http::{Limits, race, told_to_stop};
use crate::serve::keys::Caller;
use bytes::Bytes;
use hyper::body::Body;
use hyper::header::HeaderMap;
use std::fmt::Display;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::{mpsc, watch};
use tonic::Status;
use tonic::codegen::tokio_stream::wrappers::ReceiverStream;

/// How the messages of a stream are answered.
pub struct Each<A> {
    /// The call that one message would be.
    pub path: &'static str,
    pub limits: Arc<Limits>,
    pub stop: watch::Receiver<bool>,
    pub admit: Admit,
    pub answer: A,
    /// What the stream carries for an answer.
    pub wrap: fn(Answer<Vec<u8>>) -> Vec<u8>,
}

impl<A> Each<A> {
    fn call(&self, headers: HeaderMap, message: Bytes, caller: Answer<Option<Caller>>) -> Call {
        let (path, came) = (self.path.to_string(), Instant::now());
        Call { path, headers, message, caller, came, time: None }
    }
}

pub fn service<A, F>(each: Each<A>) -> Serve
where
    A: Fn(Call) -> F + Send + Sync + 'static,
    F: Future<Output = Answer<Vec<u8>>> + Send + 'static,
{
    let each = Arc::new(each);
    Arc::new(move |request| Box::pin(respond(each.clone(), request)))
}

async fn respond<A, F, B>(
    each: Arc<Each<A>>,
    request: hyper::Request<B>,
) -> hyper::Response<tonic::body::Body>
where
    A: Fn(Call) -> F + Send + Sync + 'static,
    F: Future<Output = Answer<Vec<u8>>> + Send + 'static,
    B: Body<Data = Bytes> + Unpin + Send + 'static,
    B::Error: Display,
{
    let (head, body) = request.into_parts();
    let packs = match packing(&head.headers) {
        Ok(packs) => packs,
        Err(failure) => return refusal(failure),
    };
    let caller = (each.admit)(each.path, &head.headers).map(|admitted| admitted.caller);
    if caller.is_err() {
        // told of as one call is
        let call = each.call(head.headers, Bytes::new(), caller);
        let refused = (each.answer)(call).await.err();
        return refusal(refused.unwrap_or_else(|| Failure::new(Code::Unauthenticated, "")));
    }
    let messages = Messages::new(body, packs, &each.limits);
    let packs = packs_answers(&head.headers);
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(answer_all(each, head.headers, caller, messages, sender));
    answered(ReceiverStream::new(receiver), packs)
}

async fn answer_all<A, F, B>(
    each: Arc<Each<A>>,
    headers: HeaderMap,
    caller: Answer<Option<Caller>>,
    mut messages: Messages<B>,
    answers: mpsc::Sender<Result<Vec<u8>, Status>>,
) where
    A: Fn(Call) -> F,
    F: Future<Output = Answer<Vec<u8>>>,
    B: Body<Data = Bytes> + Unpin,
    B::Error: Display,
{
    let mut stop = each.stop.clone();
    let mut first = Some(caller);
    loop {
        // a stream would hold up the end of its connection
        let next = race(pin!(messages.next()), pin!(told_to_stop(&mut stop))).await;
        let answered = match next {
            Some(Ok(None)) => return,
            None => Err(Status::unavailable("the server ends")),
            Some(Err(failure)) => Err(status_of(failure)),
            Some(Ok(Some(message))) => {
                // a key may be taken back meanwhile
                let again = || (each.admit)(each.path, &headers).map(|admitted| admitted.caller);
                let caller = first.take().unwrap_or_else(again);
                let is_admitted = caller.is_ok();
                let answer = (each.answer)(each.call(headers.clone(), message, caller));
                // nobody waits for it where the client has gone
                match race(pin!(answer), pin!(answers.closed())).await {
                    None => return,
                    Some(Err(failure)) if !is_admitted => Err(status_of(failure)),
                    Some(answer) => Ok((each.wrap)(answer)),
                }
            }
        };
        let ended = answered.is_err();
        if answers.send(answered).await.is_err() || ended {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::frames::tests::{Sent, framed, limits, run, send, sent};
    use super::*;
    use crate::serve::keys::Admitted;
    use http_body_util::BodyExt;
    use std::pin::Pin;
    use std::sync::Mutex;
    use std::time::Duration;
    use tokio::time::timeout;

    type Answering = Pin<Box<dyn Future<Output = Answer<Vec<u8>>> + Send>>;
    type Answers = fn(Call) -> Answering;

    /// Answers with what it was asked.
    fn echo(call: Call) -> Answering {
        Box::pin(async move { call.caller.map(|_| call.message.to_vec()) })
    }

    fn each<A>(answer: A, admit: Admit) -> (watch::Sender<bool>, Each<A>) {
        let (told, stop) = watch::channel(false);
        let wrap = |answer: Answer<Vec<u8>>| answer.unwrap_or_else(|e| e.message.into_bytes());
        let limits = Arc::new(limits(100));
        (told, Each { path: "/one", limits, stop, admit, answer, wrap })
    }

    fn everyone() -> Admit {
        Arc::new(|_, _| Ok(Admitted::anyone()))
    }

    async fn ask(each: Each<Answers>, body: Sent) -> hyper::Response<tonic::body::Body> {
        respond(Arc::new(each), hyper::Request::new(body)).await
    }

    /// The messages, and the code and text at the end.
    async fn whole(response: hyper::Response<tonic::body::Body>) -> (Bytes, i32, String) {
        let of = |headers: &HeaderMap| {
            let text = |name| headers.get(name).map(|v| v.to_str().unwrap().to_string());
            (text("grpc-status").map(|n| n.parse().unwrap()), text("grpc-message"))
        };
        let (head, body) = response.into_parts();
        let body = timeout(Duration::from_secs(5), body.collect()).await.expect("an end").unwrap();
        let (code, text) = of(body.trailers().unwrap_or(&head.headers));
        (body.to_bytes(), code.unwrap(), text.unwrap_or_default())
    }

    #[test]
    fn messages_are_answered_one_by_one() {
        let (_told, each) = each(echo as Answers, everyone());
        let (sender, body) = sent();
        let both = [framed(0, b"a"), framed(0, b"bc")].concat();
        send(&sender, &both);
        drop(sender);
        let found = run(async { whole(ask(each, body).await).await });
        assert_eq!(found, (both.into(), 0, String::new()));
    }

    #[test]
    fn slow_and_large_messages_end_the_stream() {
        for (piece, code) in
            [(&[0, 0, 0][..], 4), (&[0, 0, 0, 0, 9, 1], 4), (&[0, 0, 0, 0, 101], 8)]
        {
            let (_told, each) = each(echo as Answers, everyone());
            let (sender, body) = sent();
            send(&sender, piece);
            let (_, found, text) = run(async { whole(ask(each, body).await).await });
            assert_eq!(found, code, "{text}");
        }
    }

    #[test]
    fn a_stream_is_told_that_the_server_ends() {
        let (told, each) = each(echo as Answers, everyone());
        let (_sender, body) = sent();
        let found = run(async {
            let response = ask(each, body).await;
            told.send(true).unwrap();
            whole(response).await
        });
        assert_eq!(found, (Bytes::new(), 14, "the server ends".replace(' ', "%20")));
    }

    #[test]
    fn a_stream_without_a_key_is_refused() {
        let no = || Err(Failure::new(Code::Unauthenticated, "no"));
        let (_told, each) = each(echo as Answers, Arc::new(move |_, _| no()));
        let (_sender, body) = sent();
        let found = run(async { whole(ask(each, body).await).await });
        assert_eq!(found, (Bytes::new(), 16, "no".into()));
    }

    #[test]
    fn a_key_that_is_taken_back_ends_the_stream() {
        let asked = Mutex::new(0);
        let admit: Admit = Arc::new(move |path, _| {
            assert_eq!(path, "/one");
            let mut asked = asked.lock().unwrap();
            *asked += 1;
            match *asked {
                1..=2 => Ok(Admitted::anyone()),
                _ => Err(Failure::new(Code::Unauthenticated, "no")),
            }
        });
        let (_told, each) = each(echo as Answers, admit);
        let (sender, body) = sent();
        send(&sender, &framed(0, b"a").repeat(3));
        let found = run(async { whole(ask(each, body).await).await });
        assert_eq!(found, (framed(0, b"a").repeat(2).into(), 16, "no".into()));
    }

    #[test]
    fn nobody_works_for_a_client_that_has_gone() {
        struct Work(mpsc::UnboundedSender<&'static str>);
        impl Drop for Work {
            fn drop(&mut self) {
                let _ = self.0.send("dropped");
            }
        }
        let (seen, mut sees) = mpsc::unbounded_channel();
        let answer = move |_: Call| {
            let work = Work(seen.clone());
            async move {
                work.0.send("begun").unwrap();
                std::future::pending::<Answer<Vec<u8>>>().await
            }
        };
        let (_told, each) = each(answer, everyone());
        let (sender, body) = sent();
        send(&sender, &framed(0, b"a"));
        run(async {
            let response = respond(Arc::new(each), hyper::Request::new(body)).await;
            assert_eq!(sees.recv().await, Some("begun"));
            drop(response);
            let dropped = timeout(Duration::from_secs(5), sees.recv()).await;
            assert_eq!(dropped.expect("it works on"), Some("dropped"));
        });
    }
}
