//! The one stream from the server: opened at the start, kept for life.
//!
//! When it is cut, the next one goes on where it was: a server of our make gives each reader a position (`sendTime`, and the epoch in
//! which it was given), and sends everything after it. Where that can't be, the postbox is told that something may be missing.

use std::error::Error as _;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use prost_types::Timestamp;
use thiserror::Error;
use tokio::sync::watch;
use tokio::time::Instant;
use tonic::metadata::{AsciiMetadataValue, MetadataMap};
use tonic::{Code, Request, Response, Status, Streaming};
use tracing::{info, warn};

use super::backoff::Backoff;
use super::history::History;
use super::message_json::MessageJson;
use super::metrics::Metrics;
use super::postbox::Postbox;
use crate::net::{self, Access, ConnectError, Connection, ServerAddr, ServerAddrs};
use crate::proto::messenger_server_client::MessengerServerClient;
use crate::proto::{EPOCH, POSITION, RESUME_AFTER, RESUMED, ReadMessagesResponse};
use crate::send_time::{SendTime, rfc3339};

/// The largest message taken from a server. Ours sends none over 4 MiB; one of another make may be set to allow more, and a
/// message that is refused here would end the stream at every try.
const MAX_MESSAGE: usize = 64 * 1024 * 1024;

/// How long the stream goes on over a connection on which nothing can be sent any more. A server that ends says so too, and has by
/// then ended the stream itself, after the last message.
const LAST_MESSAGES: Duration = Duration::from_millis(500);

/// How the stream stands. Those who send look at it: a message sent before the stream is open would not come back through it.
#[derive(Debug, Clone)]
pub(super) enum LinkState {
    /// No connection.
    Down,
    /// The call was made over this connection, its response headers have not come. A server of our make sends them at once;
    /// others (grpcio, grpc-go) only with the first message, so they cannot be waited for without a bound.
    Opening(Connection, Instant),
    /// Every message that is accepted from now on comes through the stream.
    Open(Connection, Epoch),
    /// The server does not let the client in, and would not take a message from it either.
    NotAdmitted(Status),
}

/// Which life of the room a server says it has, in its own words. `None` from a server of another make: it knows neither positions nor
/// idempotency keys.
pub(super) type Epoch = Option<AsciiMetadataValue>;

/// How far the stream has come: everything up to this time is in the postbox.
#[derive(Debug)]
struct Place {
    epoch: AsciiMetadataValue,
    after: Timestamp,
}

/// Why a stream is over.
#[derive(Debug, Error)]
enum Ended {
    #[error(transparent)]
    NoConnection(#[from] ConnectError),
    #[error("{}: {}", .0.code(), .0.message())]
    Status(#[from] Status),
    #[error("the server ended it")]
    Cleanly,
    #[error("fell behind: the server no longer keeps the messages that come next")]
    FellBehind,
    #[error("the connection takes no more calls")]
    Retired,
}

/// Keeps the stream open and carries what comes through it into the postbox, and into the history for the pages.
#[derive(Debug)]
pub(super) struct Link {
    servers: ServerAddrs,
    access: Access,
    postbox: Arc<Postbox>,
    history: Arc<History>,
    metrics: Metrics,
    state: watch::Sender<LinkState>,
    /// Where the next stream goes on.
    place: Option<Place>,
    /// There was a stream before.
    opened: bool,
}

impl Link {
    pub(super) fn new(
        servers: ServerAddrs,
        access: Access,
        postbox: Arc<Postbox>,
        history: Arc<History>,
        metrics: Metrics,
    ) -> Self {
        let state = watch::Sender::new(LinkState::Down);
        Self { servers, access, postbox, history, metrics, state, place: None, opened: false }
    }

    pub(super) fn state(&self) -> watch::Receiver<LinkState> {
        self.state.subscribe()
    }

    /// Opens the stream, and again whenever it ends: cleanly, with a status, or because the server vanished; and then at the next server,
    /// if there are several. Never returns.
    pub(super) async fn keep_open(&mut self) {
        let mut backoff = Backoff::default();
        let servers = self.servers.clone();
        // Servers since the last stream that was open, that one included.
        let mut tried = 0;
        for server in servers.cycle() {
            let ended = self.read_stream(server, &mut backoff, &mut tried).await;
            self.metrics.stream_ended(ended.name());
            tried += 1;
            // None as long as there is another one to try.
            let pause = if tried % servers.len() == 0 { backoff.next() } else { Duration::ZERO };
            if let Ended::Status(status) = &ended
                && status.code() == Code::Unauthenticated
            {
                self.state.send_replace(LinkState::NotAdmitted(status.clone()));
                warn!(%server, reason = self.not_admitted(), says = status.message(), ?pause, "not let in, will retry");
                tokio::time::sleep(pause).await;
                continue;
            }
            self.state.send_replace(LinkState::Down);
            match ended {
                Ended::NoConnection(reason) => warn!(%reason, ?pause, "no connection, will retry"),
                reason => warn!(%server, %reason, ?pause, "stream ended, will reopen"),
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// What that means of the settings.
    fn not_admitted(&self) -> &'static str {
        match self.access.token {
            Some(_) => "the server does not take the token",
            None => "the server asks for a token, and none is set",
        }
    }

    /// One stream from beginning to end.
    async fn read_stream(&mut self, server: &ServerAddr, backoff: &mut Backoff, tried: &mut usize) -> Ended {
        let (connection, response) = match self.open(server).await {
            Ok(opened) => opened,
            Err(ended) => {
                if matches!(&ended, Ended::Status(status) if status.code() == Code::InvalidArgument) {
                    // Whoever it is, it does not take the place, and would not at the next try.
                    self.place = None;
                }
                return ended;
            }
        };
        let epoch = self.note_place(server, response.metadata());
        backoff.reset();
        *tried = 0;
        self.state.send_replace(LinkState::Open(connection.clone(), epoch));
        let mut retired = pin!(async {
            connection.retired().await;
            tokio::time::sleep(LAST_MESSAGES).await;
        });
        let mut messages = response.into_inner();
        let mut json = MessageJson::default();
        loop {
            let message = tokio::select! {
                biased;
                message = messages.message() => message,
                () = &mut retired => return Ended::Retired,
            };
            match message {
                // Nothing here waits: the stream is always drained, however full the postbox is.
                Ok(Some(message)) => {
                    self.metrics.message();
                    json.write(&message);
                    self.postbox.push(&json);
                    self.history.push(&json);
                    if let (Some(place), Some(time)) = (&mut self.place, message.send_time) {
                        place.after = time;
                    }
                }
                Ok(None) => return Ended::Cleanly,
                Err(status) if is_too_slow(&status) => return Ended::FellBehind,
                Err(status) => return status.into(),
            }
        }
    }

    async fn open(
        &self,
        server: &ServerAddr,
    ) -> Result<(Connection, Response<Streaming<ReadMessagesResponse>>), Ended> {
        let connection = Connection::open_with(server, &self.access).await?;
        let mut client = MessengerServerClient::with_origin(connection.clone(), server.origin())
            .max_decoding_message_size(MAX_MESSAGE);
        info!(%server, "connected, opening the stream");
        self.state.send_replace(LinkState::Opening(connection.clone(), Instant::now()));
        let mut request = Request::new(());
        if let Some(Place { epoch, after }) = &self.place
            && let Ok(after) = rfc3339(after).to_string().parse()
        {
            request.metadata_mut().insert(EPOCH, epoch.clone());
            request.metadata_mut().insert(RESUME_AFTER, after);
        }
        let response = client.read_messages(request).await?;
        Ok((connection, response))
    }

    /// Notes where the stream that has just been opened begins, and whether that is where the one before it was cut.
    fn note_place(&mut self, server: &ServerAddr, headers: &MetadataMap) -> Epoch {
        let epoch = headers.get(EPOCH).cloned();
        let resumed = headers.get(RESUMED).is_some_and(|resumed| resumed == "true");
        let gap = !resumed && self.opened;
        self.metrics.stream_opened(resumed, gap);
        self.opened = true;
        if resumed {
            info!(%server, "stream open, nothing is missing");
            return epoch;
        }
        let position = headers.get(POSITION).and_then(|position| position.to_str().ok()?.parse::<SendTime>().ok());
        self.place = epoch.clone().zip(position).map(|(epoch, after)| Place { epoch, after: after.into() });
        if gap {
            warn!(%server, "stream open, messages from before may be missing");
            self.postbox.note_gap();
            self.history.note_gap(position);
        } else {
            info!(%server, "stream open");
            if let Some(position) = position {
                self.history.begin(position);
            }
        }
        epoch
    }
}

impl Ended {
    /// What it is, in a word or a few.
    fn name(&self) -> &'static str {
        match self {
            Self::NoConnection(_) => "no connection",
            Self::Status(status) if status.source().is_some() => "connection lost",
            Self::Status(status) => status.code().description(),
            Self::Cleanly => "ended by the server",
            Self::FellBehind => "fell behind",
            Self::Retired => "connection retired",
        }
    }
}

/// Whether the server has ended a stream which it could not even tell so.
fn is_too_slow(status: &Status) -> bool {
    net::http2_error(status).and_then(h2::Error::reason) == Some(h2::Reason::ENHANCE_YOUR_CALM)
}

impl LinkState {
    /// The connection to send over, if it is time to: the stream is open, or has been opening for `patience`.
    pub(super) fn connection(&self, patience: Duration) -> Option<(Connection, Epoch)> {
        match self {
            Self::Open(connection, epoch) => Some((connection.clone(), epoch.clone())),
            Self::Opening(connection, since) if since.elapsed() >= patience => Some((connection.clone(), None)),
            _ => None,
        }
    }
}
