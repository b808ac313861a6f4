//! The link: the one stream from the server, which the client opens at the start and always keeps
//! open.
//!
//! A stream that was cut resumes where it ended. Our own server gives every reader a position: the
//! `sendTime` of the last message, and the epoch to which that time belongs. It then sends
//! everything after that position. If it can't, the link notes a gap in the postbox and the
//! history.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tonic::{Code, Request, Streaming};
use tracing::{info, warn};

use super::backoff::{Backoff, Failure};
use super::link_end::{LinkEnd, is_too_slow};
use super::link_log::LinkLog;
use super::link_state::{LinkState, OpenStream};
use super::probe;
use super::stream_start::{StreamHeaders, StreamStart};
use crate::client::inbox::history::History;
use crate::client::inbox::message_json::MessageJson;
use crate::client::inbox::postbox::Postbox;
use crate::client::metrics::Metrics;
use crate::net::{Connection, Credentials, ServerAddr, ServerAddrs};
use crate::process::test_panic;
use crate::proto::ReadMessagesResponse;
use crate::proto::messenger_server_client::MessengerServerClient;

/// The largest message that the client accepts. Our server sends none over 4 MiB, but others may
/// allow more. A rejected message would end the stream at every attempt.
const MAX_MESSAGE: usize = 64 * 1024 * 1024;

/// After this time without response headers the stream counts as open. Our own server sends the
/// headers at once; grpcio and grpc-go send them only with the first message.
const ASSUMED_OPEN_AFTER: Duration = Duration::from_secs(1);

/// After this much more time without response headers the client pings the server.
const DOUBT_AFTER: Duration = Duration::from_secs(4);

/// How long a stream may stay open on a connection that takes no more calls. A server that shuts
/// down retires the connection too, and ends the stream after the last message.
const LAST_MESSAGES: Duration = Duration::from_millis(500);

/// A stream that was open for this long did not end because of its starting point.
const STABLE_AFTER: Duration = Duration::from_secs(1);

/// Keeps the stream open, and hands its messages to the postbox and the history.
#[derive(Debug)]
pub(in crate::client) struct Link {
    servers: ServerAddrs,
    access: Credentials,
    postbox: Arc<Postbox>,
    history: Arc<History>,
    metrics: Metrics,
    state: watch::Sender<LinkState>,
    /// The point at which the next stream starts.
    start: StreamStart,
    /// Whether any stream was open before.
    had_stream: bool,
    /// The address of the last connection. The next one prefers another address of the same name.
    last_peer: Option<SocketAddr>,
    /// The address at which a server hung and has opened no stream since.
    hung_peer: Option<SocketAddr>,
}

type Messages = Streaming<ReadMessagesResponse>;

impl Link {
    pub(in crate::client) fn new(
        servers: ServerAddrs,
        access: Credentials,
        postbox: Arc<Postbox>,
        history: Arc<History>,
        metrics: Metrics,
    ) -> Self {
        Self {
            servers,
            access,
            postbox,
            history,
            metrics,
            state: watch::Sender::new(LinkState::Down),
            start: StreamStart::Since(Instant::now()),
            had_stream: false,
            last_peer: None,
            hung_peer: None,
        }
    }

    pub(in crate::client) fn state(&self) -> watch::Receiver<LinkState> {
        self.state.subscribe()
    }

    /// Opens the stream, and opens it again whenever it ends, at the next server if there are
    /// several. Never returns.
    pub(in crate::client) async fn keep_open(&mut self) {
        let mut backoff = Backoff::default();
        let servers = self.servers.clone();
        let mut log = LinkLog::new(servers.len());
        // Attempts since the last stream that was stable, including that one.
        let mut attempts = 0;
        for (index, server) in (0..servers.len()).cycle().zip(servers.cycle()) {
            let start = Instant::now();
            let (end, opened) = match self.open(server).await {
                Err(end) => (end, None),
                Ok((stream, messages)) => {
                    backoff.reset();
                    let since = Instant::now();
                    (self.read(stream, messages).await, Some(since))
                }
            };
            // Two servers that end every stream at once must not make this a loop without a pause.
            if opened.is_some_and(|since| since.elapsed() >= STABLE_AFTER) {
                attempts = 0;
            }
            if end.is_hang() {
                self.hung_peer = self.last_peer;
            } else if opened.is_some() && self.hung_peer == self.last_peer {
                self.hung_peer = None;
            }
            backoff.failed(match &end {
                LinkEnd::NoConnection(error) => Failure::of(error, start.elapsed()),
                _ => Failure::Costly,
            });
            self.metrics.stream_ended(end.name());
            attempts += 1;
            // No pause while there is another server to try.
            let pause = if attempts % servers.len() == 0 { backoff.next() } else { Duration::ZERO };
            self.state.send_replace(LinkState::after(&end, opened.is_some()));
            log.stream_ended((index, server), &end, opened.is_some(), pause);
            sleep(pause).await;
        }
    }

    /// Connects to `server` and opens a stream.
    async fn open(&mut self, server: &ServerAddr) -> Result<(Arc<OpenStream>, Messages), LinkEnd> {
        let connection = Connection::open_with(server, &self.access, self.last_peer).await?;
        self.last_peer = Some(connection.peer());
        // The headers of a stream may come late, so a server that still hangs would look like one
        // that works, again and again.
        if self.hung_peer == self.last_peer && !connection.sign_of_life().await {
            return Err(LinkEnd::Silent);
        }
        info!(%server, "connected, opening the stream");
        self.state.send_replace(LinkState::Opening);
        let mut client = MessengerServerClient::with_origin(connection.clone(), server.origin())
            .max_decoding_message_size(MAX_MESSAGE);
        let mut request = Request::new(());
        self.start.write_to(request.metadata_mut());
        let late_headers = async {
            sleep(ASSUMED_OPEN_AFTER).await;
            let stream = OpenStream { connection: connection.clone(), epoch: None };
            self.state.send_replace(LinkState::Open(Arc::new(stream)));
            sleep(DOUBT_AFTER).await;
            connection.doubt();
            std::future::pending().await
        };
        let response = tokio::select! {
            response = client.read_messages(request) => response,
            never = late_headers => match never {},
        };
        let response = response.map_err(|status| {
            if status.code() == Code::InvalidArgument {
                // The server rejects this starting point, and would reject it again.
                self.start = StreamStart::Now;
            }
            LinkEnd::from_status(status, &connection)
        })?;
        let headers = StreamHeaders::read(response.metadata());
        self.note_start(server, &headers);
        let stream = Arc::new(OpenStream { connection, epoch: headers.epoch });
        if stream.epoch.is_some() {
            stream.connection.watch_closely();
        }
        if let Some(full) = stream.connection.backpressure() {
            warn!(%server, reason = %full, "no message can be sent over this connection");
        }
        self.state.send_replace(LinkState::Open(Arc::clone(&stream)));
        Ok((stream, response.into_inner()))
    }

    /// Notes where a stream starts, and whether messages may be missing before it.
    fn note_start(&mut self, server: &ServerAddr, headers: &StreamHeaders) {
        let resumed = self.had_stream && headers.resumed == Some(true);
        // The first stream misses nothing, unless it asked for earlier messages.
        let gap = if self.had_stream { !resumed } else { headers.resumed == Some(false) };
        self.metrics.stream_opened(resumed, gap);
        self.had_stream = true;
        if resumed {
            info!(%server, "stream open, nothing is missing");
            return;
        }
        self.start = headers.start();
        if gap {
            warn!(%server, "stream open, messages may be missing");
            self.postbox.note_gap();
            self.history.note_gap(headers.position);
        } else {
            info!(%server, "stream open");
            if let Some(position) = headers.position {
                self.history.begin(position);
            }
        }
    }

    /// Reads a stream to its end. Nothing here waits for a reader of the messages, so the
    /// connection is drained however full the postbox is.
    async fn read(&mut self, stream: Arc<OpenStream>, mut messages: Messages) -> LinkEnd {
        let connection = &stream.connection;
        let mut retired = pin!(async {
            connection.retired().await;
            sleep(LAST_MESSAGES).await;
        });
        let mut hangs = pin!(probe::hangs(connection));
        let mut json = MessageJson::default();
        loop {
            let message = tokio::select! {
                biased;
                message = messages.message() => message,
                () = &mut retired => return LinkEnd::Retired,
                // Only our own server is known to have a health service that answers at once.
                () = &mut hangs, if stream.epoch.is_some() => return LinkEnd::Hangs,
            };
            match message {
                Ok(Some(message)) => {
                    self.metrics.message();
                    test_panic("link");
                    json.write(&message);
                    self.postbox.push(&json);
                    self.history.push(&json);
                    self.start.advance(message.send_time);
                }
                Ok(None) => return LinkEnd::Cleanly,
                Err(status) if is_too_slow(&status) => return LinkEnd::FellBehind,
                Err(status) => return LinkEnd::from_status(status, connection),
            }
        }
    }
}
