//! The one stream from the server: opened at the start, kept for life.
//!
//! When it is cut, the next one goes on where it was: our own server gives each reader a position (`sendTime`, and the epoch in
//! which it was given), and sends everything after it. Where that can't be, the postbox is told that something may be missing.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use prost_types::Timestamp;
use tokio::sync::watch;
use tokio::time::Instant;
use tonic::metadata::{AsciiMetadataValue, MetadataMap};
use tonic::{Code, Request, Response, Streaming};
use tracing::{info, warn};

use super::backoff::{Backoff, Failure};
use super::ended::{self, Ended};
use super::link_state::{Epoch, LinkState};
use super::probe;
use super::repeats::Repeats;
use crate::client::inbox::history::History;
use crate::client::inbox::message_json::MessageJson;
use crate::client::inbox::postbox::Postbox;
use crate::client::metrics::Metrics;
use crate::net::{Connection, Credentials, ServerAddr, ServerAddrs};
use crate::process::test_panic;
use crate::proto::messenger_server_client::MessengerServerClient;
use crate::proto::{EPOCH, POSITION, RESUME_AFTER, RESUMED, ReadMessagesResponse, WAITING, WAITING_MAX};
use crate::send_time::{SendTime, rfc3339};

/// The largest message taken from a server. Ours sends none over 4 MiB; a foreign one may be set to allow more, and a
/// message that is refused here would end the stream at every try.
const MAX_MESSAGE: usize = 64 * 1024 * 1024;

/// How long the stream goes on over a connection on which nothing can be sent any more. A server that ends says so too, and has by
/// then ended the stream itself, after the last message.
const LAST_MESSAGES: Duration = Duration::from_millis(500);

/// How long the server may take for the stream's response headers before it is asked for a sign of life.
/// Foreign servers send them only with the first message, so that alone says nothing.
const HEADERS_PATIENCE: Duration = Duration::from_secs(5);

/// A stream that was open for so long was not ended because of what the client is, or asks for.
const A_WHILE: Duration = Duration::from_secs(1);

/// How far the stream has come: everything up to this time is in the postbox.
#[derive(Debug)]
struct Place {
    epoch: AsciiMetadataValue,
    after: Timestamp,
}

/// Keeps the stream open and carries what comes through it into the postbox, and into the history for the pages.
#[derive(Debug)]
pub(crate) struct Link {
    servers: ServerAddrs,
    access: Credentials,
    postbox: Arc<Postbox>,
    history: Arc<History>,
    metrics: Metrics,
    state: watch::Sender<LinkState>,
    /// Where the next stream goes on.
    place: Option<Place>,
    /// What the first stream begins with.
    first: First,
    /// There was a stream before.
    opened: bool,
    /// Where the last stream was. The next one begins at another address of the same name, if there is one.
    last: Option<SocketAddr>,
    /// Where a server hung that has opened no stream since.
    hung: Option<SocketAddr>,
}

/// From where the first stream is wanted.
#[derive(Debug, Clone, Copy)]
enum First {
    /// From here on: the client is entitled to what was accepted after it began.
    Since(Instant),
    /// From when it opens: a server has refused the other.
    Now,
}

impl Link {
    pub(crate) fn new(
        servers: ServerAddrs,
        access: Credentials,
        postbox: Arc<Postbox>,
        history: Arc<History>,
        metrics: Metrics,
    ) -> Self {
        let state = watch::Sender::new(LinkState::Down);
        let first = First::Since(Instant::now());
        Self {
            servers,
            access,
            postbox,
            history,
            metrics,
            state,
            place: None,
            first,
            opened: false,
            last: None,
            hung: None,
        }
    }

    pub(crate) fn state(&self) -> watch::Receiver<LinkState> {
        self.state.subscribe()
    }

    /// Opens the stream, and again whenever it ends: cleanly, with a status, or because the server vanished; and then at the next server,
    /// if there are several. Never returns.
    pub(crate) async fn keep_open(&mut self) {
        let mut backoff = Backoff::default();
        let servers = self.servers.clone();
        let mut repeats = Repeats::new(servers.len());
        // Servers since the last stream that was open for a while, that one included.
        let mut tried = 0;
        for (index, server) in (0..servers.len()).cycle().zip(servers.cycle()) {
            let begun = Instant::now();
            let mut opened = None;
            let ended = self.read_stream(server, &mut backoff, &mut opened).await;
            // Two servers that end each stream at once must not make this a loop without a pause.
            if opened.is_some_and(|opened: Instant| opened.elapsed() >= A_WHILE) {
                tried = 0;
            }
            if matches!(ended, Ended::Silent | Ended::Stuck | Ended::Hangs) {
                self.hung = self.last;
            } else if opened.is_some() && self.hung == self.last {
                self.hung = None;
            }
            backoff.failed(match &ended {
                Ended::NoConnection(error) => Failure::of(error, begun.elapsed()),
                _ => Failure::Costly,
            });
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
            let opened = matches!(*self.state.borrow(), LinkState::Open(..));
            self.state.send_replace(match &ended {
                Ended::Status(status) if !opened && ended::is_said(status) => LinkState::Unavailable(status.clone()),
                _ => LinkState::Down,
            });
            match ended {
                Ended::NoConnection(reason) => {
                    if repeats.is_due(index, &reason.to_string()) {
                        warn!(%reason, ?pause, "no connection, will retry");
                    }
                }
                Ended::Status(status) if !opened => {
                    if repeats.is_due(index, &status.to_string()) {
                        let reason = Ended::Status(status);
                        warn!(%server, %reason, ?pause, "stream ended, will reopen");
                    }
                }
                reason => {
                    repeats.reset();
                    warn!(%server, %reason, ?pause, "stream ended, will reopen");
                }
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
    async fn read_stream(&mut self, server: &ServerAddr, backoff: &mut Backoff, opened: &mut Option<Instant>) -> Ended {
        let (connection, response) = match self.open(server).await {
            Ok(opened) => opened,
            Err(ended) => {
                if matches!(&ended, Ended::Status(status) if status.code() == Code::InvalidArgument) {
                    // Whoever it is, it does not take the place, and would not at the next try.
                    (self.place, self.first) = (None, First::Now);
                }
                return ended;
            }
        };
        let epoch = self.note_place(server, response.metadata());
        let is_ours = epoch.is_some();
        if is_ours {
            connection.watch_closely();
        }
        if let Some(full) = connection.backpressure() {
            warn!(%server, reason = %full, "nothing can be sent over this connection");
        }
        backoff.reset();
        *opened = Some(Instant::now());
        self.state.send_replace(LinkState::Open(connection.clone(), epoch));
        let mut retired = pin!(async {
            connection.retired().await;
            tokio::time::sleep(LAST_MESSAGES).await;
        });
        let mut hangs = pin!(probe::hangs(&connection));
        let mut messages = response.into_inner();
        let mut json = MessageJson::default();
        loop {
            let message = tokio::select! {
                biased;
                message = messages.message() => message,
                () = &mut retired => return Ended::Retired,
                () = &mut hangs, if is_ours => return Ended::Hangs,
            };
            match message {
                // Nothing here waits: the stream is always drained, however full the postbox is.
                Ok(Some(message)) => {
                    self.metrics.message();
                    test_panic("link");
                    json.write(&message);
                    self.postbox.push(&json);
                    self.history.push(&json);
                    if let (Some(place), Some(time)) = (&mut self.place, message.send_time) {
                        place.after = time;
                    }
                }
                Ok(None) => return Ended::Cleanly,
                Err(status) if ended::is_too_slow(&status) => return Ended::FellBehind,
                Err(status) => return Ended::of(status, &connection),
            }
        }
    }

    async fn open(
        &mut self,
        server: &ServerAddr,
    ) -> Result<(Connection, Response<Streaming<ReadMessagesResponse>>), Ended> {
        let connection = Connection::open_elsewhere(server, &self.access, self.last).await?;
        self.last = Some(connection.peer());
        let mut client = MessengerServerClient::with_origin(connection.clone(), server.origin())
            .max_decoding_message_size(MAX_MESSAGE);
        // Else it would be taken for a server that is there, again and again: its headers may come late.
        if self.hung == self.last && !connection.sign_of_life().await {
            return Err(Ended::Silent);
        }
        info!(%server, "connected, opening the stream");
        self.state.send_replace(LinkState::Opening(connection.clone(), Instant::now()));
        let mut request = Request::new(());
        if let Some(Place { epoch, after }) = &self.place
            && let Ok(after) = rfc3339(after).to_string().parse()
        {
            request.metadata_mut().insert(EPOCH, epoch.clone());
            request.metadata_mut().insert(RESUME_AFTER, after);
        } else if let First::Since(begun) = self.first
            && !self.opened
            && let Ok(waited) = waiting_ms(begun.elapsed()).parse()
        {
            // Measured after the server's first frame has come: so the server knows that the client cannot
            // have begun earlier than so long before that frame.
            request.metadata_mut().insert(WAITING, waited);
        }
        let doubt = async {
            tokio::time::sleep(HEADERS_PATIENCE).await;
            connection.doubt();
            std::future::pending().await
        };
        let response = tokio::select! {
            response = client.read_messages(request) => response.map_err(|status| Ended::of(status, &connection))?,
            never = doubt => match never {},
        };
        Ok((connection, response))
    }

    /// Notes where the stream that has just been opened begins, and whether that is where the one before it was cut.
    fn note_place(&mut self, server: &ServerAddr, headers: &MetadataMap) -> Epoch {
        let epoch = headers.get(EPOCH).cloned();
        let complete = headers.get(RESUMED).map(|resumed| resumed == "true");
        let resumed = self.opened && complete == Some(true);
        // Before the first stream nothing was missed, unless it asked for earlier messages.
        let gap = if self.opened { !resumed } else { complete == Some(false) };
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

/// A wait as the server takes it, in milliseconds that have begun.
fn waiting_ms(time: Duration) -> String {
    time.as_millis().saturating_add(1).min(WAITING_MAX.into()).to_string()
}
