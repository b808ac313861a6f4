//! Requests that wait for the task that appends, in order.

use std::collections::VecDeque;

use tokio::sync::mpsc::UnboundedReceiver;

use super::request::Request;

/// The most requests of a batch. Redis runs a batch as one script, and answers no other command
/// meanwhile.
const BATCH: usize = 256;
/// A batch with this many bytes of messages is full.
const BATCH_BYTES: usize = 512 * 1024;

/// The waiting requests.
pub(super) struct Queue {
    /// Requests of a batch that could not be sent. They are sent first.
    returned: VecDeque<Request>,
    requests: UnboundedReceiver<Request>,
}

impl Queue {
    pub(super) fn new(requests: UnboundedReceiver<Request>) -> Self {
        Self { returned: VecDeque::new(), requests }
    }

    /// Waits for a request. `None` when all senders of requests are gone.
    pub(super) async fn next(&mut self) -> Option<Request> {
        match self.returned.pop_front() {
            Some(request) => Some(request),
            None => self.requests.recv().await,
        }
    }

    /// A batch of this request and the requests that wait after it.
    pub(super) fn batch(&mut self, first: Request) -> Vec<Request> {
        let mut bytes = first.bytes();
        let mut batch = vec![first];
        while batch.len() < BATCH
            && bytes < BATCH_BYTES
            && let Some(request) = self.returned.pop_front().or_else(|| self.requests.try_recv().ok())
        {
            bytes += request.bytes();
            batch.push(request);
        }
        batch
    }

    /// Takes a batch back that Redis has not seen.
    pub(super) fn put_back(&mut self, batch: Vec<Request>) {
        for request in batch.into_iter().rev() {
            self.returned.push_front(request);
        }
    }
}

impl Request {
    fn bytes(&self) -> usize {
        self.message().map_or(0, |message| message.message.author_and_text().len())
    }
}
