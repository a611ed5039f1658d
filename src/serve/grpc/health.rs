//! gRPC's health protocol (github.com/grpc/grpc, doc/health-checking.md): Check, and Watch for load balancers.

use crate::serve::Server;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tonic::codegen::tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, async_trait};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

/// Services whose health can be asked for; they have it in common.
const KNOWN: [&str; 4] = [
    "",
    "tensorflow.serving.PredictionService",
    "tensorflow.serving.ModelService",
    "inference.GRPCInferenceService",
];

/// The service, which answers for `server`.
pub fn service(server: &Arc<Server>) -> HealthServer<impl Health> {
    HealthServer::new(Of(Arc::downgrade(server)))
}

/// Weak: a client that watches does not keep the server.
struct Of(Weak<Server>);

fn status(server: &Weak<Server>) -> ServingStatus {
    let serves = server
        .upgrade()
        .is_some_and(|server| server.registry.is_ready() && !server.draining.load(Relaxed));
    if serves { ServingStatus::Serving } else { ServingStatus::NotServing }
}

fn answer(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status.into() }
}

#[async_trait]
impl Health for Of {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        match KNOWN.contains(&request.get_ref().service.as_str()) {
            true => Ok(Response::new(answer(status(&self.0)))),
            false => Err(Status::not_found("unknown service")),
        }
    }

    type WatchStream = ReceiverStream<Result<HealthCheckResponse, Status>>;

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        const PAUSE: Duration = Duration::from_millis(100);
        let known = KNOWN.contains(&request.get_ref().service.as_str());
        let (sender, receiver) = tokio::sync::mpsc::channel(1);
        let server = self.0.clone();
        tokio::spawn(async move {
            let mut told = None;
            while !sender.is_closed() {
                let now = if known { status(&server) } else { ServingStatus::ServiceUnknown };
                if told != Some(now) {
                    told = Some(now);
                    if sender.send(Ok(answer(now))).await.is_err() {
                        return;
                    }
                }
                // a stream would hold up the end of its connection
                if server.upgrade().is_none_or(|server| server.draining.load(Relaxed)) {
                    return;
                }
                tokio::time::sleep(PAUSE).await;
            }
        });
        Ok(Response::new(receiver.into()))
    }
}
