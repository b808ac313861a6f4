//! `messenger-server --health-check`: asks a running server for its health.

use std::net::SocketAddr;
use std::time::Duration;

use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use super::settings::AccessSettings;
use crate::net::{Connection, ServerAddr};
use crate::proto;

/// How long the server may take to answer.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Asks the server that runs on this machine at `address` with these settings for its health. With
/// TLS the server must show the certificate from the settings.
///
/// # Errors
/// If there is no connection, no answer, or a status other than `SERVING`.
pub async fn check(address: SocketAddr, access: &AccessSettings) -> anyhow::Result<()> {
    let address = &access.address(address);
    let check = tokio::time::timeout(TIMEOUT, ask(address, access));
    check.await.map_err(|_| anyhow::anyhow!("no answer from {address}"))?
}

async fn ask(address: &ServerAddr, access: &AccessSettings) -> anyhow::Result<()> {
    let connection = Connection::open_with(address, &access.inside(), None).await?;
    let request = HealthCheckRequest { service: proto::SERVICE.to_owned() };
    let answer = HealthClient::with_origin(connection, address.origin()).check(request).await?.into_inner();
    anyhow::ensure!(answer.status() == ServingStatus::Serving, "{}", answer.status().as_str_name());
    Ok(())
}
