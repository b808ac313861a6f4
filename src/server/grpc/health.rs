//! The standard health service.
//!
//! <https://github.com/grpc/grpc/blob/master/doc/health-checking.md>

use std::fmt;
use std::pin::Pin;

use tokio::sync::watch;
use tokio_stream::wrappers::WatchStream;
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use crate::proto;

/// The server's health: `SERVING` until it drains.
#[derive(Debug)]
pub(in crate::server) struct HealthState(watch::Sender<ServingStatus>);

struct HealthService(watch::Receiver<ServingStatus>);

impl HealthState {
    pub(in crate::server) fn new() -> Self {
        Self(watch::Sender::new(ServingStatus::Serving))
    }

    /// Changes the health to `NOT_SERVING` and then ends the streams of `Watch`, so that their
    /// connections can close.
    pub(in crate::server) fn end(self) {
        // The streams end because this drops the sender.
        self.0.send_replace(ServingStatus::NotServing);
    }

    pub(in crate::server) fn service(&self) -> HealthServer<impl Health> {
        HealthServer::new(HealthService(self.0.subscribe()))
    }
}

impl HealthService {
    /// Whether the request names the whole server or its one service. Both have the same health.
    fn knows(request: &Request<HealthCheckRequest>) -> bool {
        matches!(request.get_ref().service.as_str(), "" | proto::SERVICE)
    }
}

#[tonic::async_trait]
impl Health for HealthService {
    async fn check(&self, request: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        if !Self::knows(&request) {
            return Err(Status::not_found(format!("no service {:?} here", request.get_ref().service)));
        }
        Ok(Response::new(answer(*self.0.borrow())))
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn watch(&self, request: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        // The protocol wants a stream for an unknown name too, in case the service appears later.
        let known = Self::knows(&request);
        let answers = WatchStream::new(self.0.clone())
            .map(move |status| Ok(answer(if known { status } else { ServingStatus::ServiceUnknown })));
        Ok(Response::new(Box::pin(answers)))
    }
}

impl fmt::Debug for HealthService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("HealthService").field(&*self.0.borrow()).finish()
    }
}

fn answer(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status.into() }
}
