//! Requests that wait for the writer, in the order in which they came.

use std::collections::VecDeque;

use tokio::sync::mpsc::UnboundedReceiver;

use super::Request;

/// Requests of one batch, which the engine does as one: nobody else gets an answer from it meanwhile.
const BATCH: usize = 256;
/// The bytes of messages with which a batch is full.
const BATCH_BYTES: usize = 512 * 1024;

/// What is to be done.
pub(super) struct Queue {
    /// What was taken and could not be handed to the engine. It comes first.
    back: VecDeque<Request>,
    requests: UnboundedReceiver<Request>,
}

impl Queue {
    pub(super) fn new(requests: UnboundedReceiver<Request>) -> Self {
        Self { back: VecDeque::new(), requests }
    }

    /// Waits for a request. `None` when nobody is left to make one.
    pub(super) async fn next(&mut self) -> Option<Request> {
        match self.back.pop_front() {
            Some(request) => Some(request),
            None => self.requests.recv().await,
        }
    }

    /// This request, and those behind it that are here already and fit into one batch with it.
    pub(super) fn batch(&mut self, first: Request) -> Vec<Request> {
        let mut bytes = first.bytes();
        let mut batch = vec![first];
        while batch.len() < BATCH
            && bytes < BATCH_BYTES
            && let Some(request) = self.back.pop_front().or_else(|| self.requests.try_recv().ok())
        {
            bytes += request.bytes();
            batch.push(request);
        }
        batch
    }

    /// Takes a batch back, of which the engine has seen nothing.
    pub(super) fn put_back(&mut self, batch: Vec<Request>) {
        for request in batch.into_iter().rev() {
            self.back.push_front(request);
        }
    }
}

impl Request {
    fn bytes(&self) -> usize {
        self.message().map_or(0, |message| message.author.len() + message.text.len())
    }
}
