//! The query for the end of the stream. A query that waits to be sent serves all streams that open
//! meanwhile. So a Redis that hangs gets one query, however many streams open.

use std::sync::Mutex;

use tokio::sync::watch;

use crate::process::unpoisoned;

/// An answer to wait for. The channel closes if nobody will answer.
type Answer<T> = watch::Receiver<Option<T>>;

/// The query that waits to be sent, if there is one.
#[derive(Debug)]
pub(super) struct TipQueries<T>(Mutex<Option<Answer<T>>>);

/// A query for the end of the stream. Dropping it without an answer ends the wait of all its
/// callers.
#[derive(Debug)]
pub(super) struct TipQuery<T>(watch::Sender<Option<T>>);

impl<T: Clone> TipQueries<T> {
    pub(super) fn new() -> Self {
        Self(Mutex::new(None))
    }

    /// Returns the end of the stream. Hands a new query to `send` if none waits already.
    pub(super) async fn ask(&self, send: impl FnOnce(TipQuery<T>)) -> Option<T> {
        let mut answer = self.join(send);
        let answer = answer.wait_for(Option::is_some).await.ok()?;
        answer.clone()
    }

    fn join(&self, send: impl FnOnce(TipQuery<T>)) -> Answer<T> {
        let mut waiting = unpoisoned(self.0.lock());
        if let Some(answer) = waiting.as_ref().filter(|answer| answer.has_changed().is_ok()) {
            return answer.clone();
        }
        let (question, answer) = watch::channel(None);
        *waiting = Some(answer.clone());
        send(TipQuery(question));
        answer
    }

    /// Notes that the query is sent to Redis now. Streams that open later need a new one, because
    /// this answer may be older than they are.
    pub(super) fn note_sent(&self) {
        *unpoisoned(self.0.lock()) = None;
    }
}

impl<T> TipQuery<T> {
    pub(super) fn answer(self, answer: T) {
        self.0.send_replace(Some(answer));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_who_ask_before_it_is_sent_share_one_question_and_nobody_else() {
        let (queries, mut sent) = (TipQueries::<u32>::new(), Vec::new());
        let ask = |sent: &mut Vec<_>| queries.join(|question| sent.push(question));
        let first: Vec<_> = (0..1_000).map(|_| ask(&mut sent)).collect();
        assert_eq!(sent.len(), 1);
        queries.note_sent();
        let second: Vec<_> = (0..1_000).map(|_| ask(&mut sent)).collect();
        assert_eq!(sent.len(), 2);
        sent.remove(0).answer(7);
        assert!(first.iter().all(|answer| *answer.borrow() == Some(7)));
        assert!(second.iter().all(|answer| answer.borrow().is_none()));
        // Nobody answers the second question, so the next caller asks a new one.
        sent.clear();
        assert!(second.iter().all(|answer| answer.has_changed().is_err()));
        ask(&mut sent);
        assert_eq!(sent.len(), 1);
    }
}
