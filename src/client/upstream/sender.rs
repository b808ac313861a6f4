//! Sends messages: decides when to call, over which connection, and how often.

use std::sync::Arc;
use std::time::Duration;

use prost_types::Timestamp;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout_at};
use tonic::metadata::AsciiMetadataValue;
use tonic::{Request, Status};

use super::idempotency_key::IdempotencyKey;
use super::link_state::{LinkState, OpenStream};
use super::send_error::{CallFailure, SendError};
use crate::net::Connection;
use crate::proto::messenger_server_client::MessengerServerClient;
use crate::proto::{EPOCH, IDEMPOTENCY_KEY, NOT_ACCEPTED, SendMessageRequest};

/// How long to wait before the next call, unless the link changes earlier.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// For how long after the start of a send the client repeats a call whose message may be in the
/// room. Our own server remembers an idempotency key for at least 15 seconds.
const RETRY_FOR: Duration = Duration::from_secs(10);

/// Sends messages over the connection whose stream brings them back.
#[derive(Debug)]
pub(in crate::client) struct Sender {
    link: watch::Receiver<LinkState>,
    shutdown: watch::Receiver<bool>,
    deadline: Duration,
}

/// One message on its way.
struct PendingSend {
    message: SendMessageRequest,
    key: IdempotencyKey,
    deadline: Instant,
    link: watch::Receiver<LinkState>,
    shutdown: watch::Receiver<bool>,
}

/// The result of calls to the server, up to the first one that may have reached the room.
enum SendOutcome {
    Sent(Timestamp),
    /// None of these calls put the message into the room.
    NotSent(SendError),
    /// The server with this epoch may have the message, and knows whether it has.
    Unknown(SendError, Option<AsciiMetadataValue>),
}

impl Sender {
    /// A sender whose sends take at most `deadline`. `shutdown` becomes true when the client shuts
    /// down; sends that then still wait for a server fail.
    pub(in crate::client) fn new(
        link: watch::Receiver<LinkState>,
        shutdown: watch::Receiver<bool>,
        deadline: Duration,
    ) -> Self {
        Self { link, shutdown, deadline }
    }

    /// Sends one message, and waits for the server if it is away.
    ///
    /// A call is repeated in two cases: if it surely did not reach the room, or if the server
    /// recognises the message by its `key`. So the message is never in the room twice.
    ///
    /// # Errors
    /// [`SendError`], which tells what is known about the message.
    pub(in crate::client) async fn send(
        &self,
        message: SendMessageRequest,
        key: IdempotencyKey,
    ) -> Result<Timestamp, SendError> {
        let start = Instant::now();
        let (link, shutdown) = (self.link.clone(), self.shutdown.clone());
        let mut pending = PendingSend { message, key, deadline: start + self.deadline, link, shutdown };
        let mut outcome = pending.try_send(None).await;
        loop {
            let (error, epoch) = match outcome {
                SendOutcome::Sent(time) => return Ok(time),
                SendOutcome::NotSent(error) | SendOutcome::Unknown(error, None) => return Err(error),
                SendOutcome::Unknown(error, Some(epoch)) => (error, epoch),
            };
            if start.elapsed() >= RETRY_FOR {
                return Err(error);
            }
            pending.pause().await;
            outcome = match pending.try_send(Some(&epoch)).await {
                // This call says nothing about the one before.
                SendOutcome::NotSent(_) => return Err(error),
                outcome => outcome,
            };
        }
    }
}

impl PendingSend {
    /// Calls the server until it has an outcome for the message, or the deadline passes. With an
    /// `epoch`, only the server that named it is called.
    async fn try_send(&mut self, epoch: Option<&AsciiMetadataValue>) -> SendOutcome {
        let mut rejection = None;
        loop {
            // A call without time would end at once, with an unknown outcome.
            if Instant::now() >= self.deadline {
                return SendOutcome::NotSent(not_sent(&self.link, rejection));
            }
            let stream = tokio::select! {
                // First, because there nearly always is one, and then no timer is set.
                biased;
                stream = open_stream(&mut self.link) => match stream {
                    Ok(stream) => stream,
                    Err(status) => return SendOutcome::NotSent(SendError::Refused(status)),
                },
                _ = self.shutdown.wait_for(|shutdown| *shutdown) => return SendOutcome::NotSent(SendError::ShuttingDown),
                () = sleep_until(self.deadline) => return SendOutcome::NotSent(not_sent(&self.link, rejection)),
            };
            if epoch.is_some() && epoch != stream.epoch.as_ref() {
                return SendOutcome::NotSent(SendError::ServerAway);
            }
            let connection = &stream.connection;
            let reserved = tokio::select! {
                biased;
                reserved = connection.reserve() => reserved,
                // There may be another connection now, whose server has room. The link pauses
                // between two connections, so this loop does not spin.
                Ok(()) = self.link.changed() => continue,
                _ = self.shutdown.wait_for(|shutdown| *shutdown) => return SendOutcome::NotSent(SendError::ShuttingDown),
                () = sleep_until(self.deadline) => return SendOutcome::NotSent(no_room(connection)),
            };
            let time = self.deadline.saturating_duration_since(Instant::now());
            if time.is_zero() {
                return SendOutcome::NotSent(no_room(connection));
            }
            let mut request = Request::new(self.message.clone());
            request.set_timeout(time);
            request.metadata_mut().insert(IDEMPOTENCY_KEY, self.key.metadata());
            if let Some(epoch) = epoch {
                request.metadata_mut().insert(EPOCH, epoch.clone());
            }
            let mut client = MessengerServerClient::with_origin(reserved, connection.origin());
            match timeout_at(self.deadline, client.send_message(request)).await {
                Ok(Ok(answer)) => return SendOutcome::Sent(answer.into_inner().send_time.unwrap_or_default()),
                Ok(Err(status)) => match CallFailure::from(status) {
                    CallFailure::NotProcessed(status) => {
                        rejection = Some(status).filter(|status| status.metadata().contains_key(NOT_ACCEPTED));
                    }
                    CallFailure::Refused(error) => return SendOutcome::NotSent(error),
                    CallFailure::Unknown(error) => return SendOutcome::Unknown(error, stream.epoch.clone()),
                },
                Err(_) => {
                    connection.doubt();
                    return SendOutcome::Unknown(SendError::NoAnswer, stream.epoch.clone());
                }
            }
            self.pause().await;
        }
    }

    /// Waits until the link changes, which it is about to after most failures. The bound is for a
    /// link that does not change: calls must not follow each other without a pause.
    async fn pause(&mut self) {
        let _ = timeout_at(self.deadline.min(Instant::now() + RETRY_PAUSE), self.link.changed()).await;
    }
}

/// Waits for an open stream.
///
/// # Errors
/// The status of a server that rejects the client's credentials.
async fn open_stream(link: &mut watch::Receiver<LinkState>) -> Result<Arc<OpenStream>, Status> {
    loop {
        match &*link.borrow_and_update() {
            LinkState::Open(stream) => return Ok(Arc::clone(stream)),
            LinkState::Unauthenticated(status) => return Err(status.clone()),
            LinkState::Down | LinkState::Opening | LinkState::Unavailable(_) => {}
        }
        if link.changed().await.is_err() {
            // The link is gone, as it is while the program ends. The caller has a deadline.
            std::future::pending::<()>().await;
        }
    }
}

/// The reason why a call did not leave over this connection before the deadline.
fn no_room(connection: &Connection) -> SendError {
    connection.last_backpressure().map_or(SendError::ServerAway, SendError::NoRoom)
}

/// The reason why a message was not sent before the deadline: the server's present status, or its
/// last one.
fn not_sent(link: &watch::Receiver<LinkState>, rejection: Option<Status>) -> SendError {
    let says = match &*link.borrow() {
        LinkState::Unavailable(status) => Some(status.clone()),
        LinkState::Opening | LinkState::Open(_) => rejection,
        LinkState::Down | LinkState::Unauthenticated(_) => None,
    };
    says.map_or(SendError::ServerAway, SendError::NotAccepted)
}
