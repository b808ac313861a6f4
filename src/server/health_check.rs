//! The standard health service, and asking it.
//!
//! <https://github.com/grpc/grpc/blob/master/doc/health-checking.md>

use std::fmt;
use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

use tokio::sync::watch;
use tokio_stream::wrappers::WatchStream;
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use super::settings::Access;
use crate::net::{Connection, ServerAddr};
use crate::proto;

/// A server that hangs must fail its health check, not hang it too.
const CHECK_TIMEOUT: Duration = Duration::from_secs(2);

/// Whether the server takes messages: yes, until it drains.
#[derive(Debug)]
pub(super) struct Serving(watch::Sender<ServingStatus>);

impl Serving {
    pub(super) fn new() -> Self {
        Self(watch::Sender::new(ServingStatus::Serving))
    }

    /// From now on `NOT_SERVING`. Those who watch are told, and their streams end (with the sender, which this drops) so that the
    /// connections can close.
    pub(super) fn end(self) {
        self.0.send_replace(ServingStatus::NotServing);
    }

    pub(super) fn service(&self) -> HealthServer<impl Health> {
        HealthServer::new(HealthService(self.0.subscribe()))
    }
}

struct HealthService(watch::Receiver<ServingStatus>);

impl HealthService {
    /// The two names that are known: the server as a whole, and its one service. They stand and fall together.
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
        // The protocol wants a stream for an unknown name too, in case it appears later. None will, but it must end with the rest.
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

/// Asks the server with these settings that listens on `address` of this machine whether it serves, as an orchestrator would
/// (`messenger-server --health-check`). With TLS it must be the one with the certificate that is in the file.
///
/// # Errors
/// Why it does not: no connection, no answer, or another status than `SERVING`.
pub async fn check(address: SocketAddr, access: &Access) -> anyhow::Result<()> {
    let address = &access.address(address);
    let check = tokio::time::timeout(CHECK_TIMEOUT, ask(address, access));
    check.await.map_err(|_| anyhow::anyhow!("no answer from {address}"))?
}

async fn ask(address: &ServerAddr, access: &Access) -> anyhow::Result<()> {
    let connection = Connection::open_with(address, &access.inside()).await?;
    let request = HealthCheckRequest { service: proto::SERVICE.to_owned() };
    let answer = HealthClient::with_origin(connection, address.origin()).check(request).await?.into_inner();
    anyhow::ensure!(answer.status() == ServingStatus::Serving, "{}", answer.status().as_str_name());
    Ok(())
}
