//! The question where the stream ends. One that waits for the writer serves all who open a stream
//! meanwhile, so an engine that hangs has no more than one of them to come, however many open.

use std::sync::Mutex;

use tokio::sync::watch;

use crate::process::unpoisoned;

/// What those who ask wait for. It closes when nobody will answer.
type Answer<T> = watch::Receiver<Option<T>>;

/// The question that waits for the writer, if there is one.
#[derive(Debug)]
pub(super) struct Asking<T>(Mutex<Option<Answer<T>>>);

/// The question itself. Whoever drops it without an answer says that there is none.
#[derive(Debug)]
pub(super) struct Question<T>(watch::Sender<Option<T>>);

impl<T: Clone> Asking<T> {
    pub(super) fn new() -> Self {
        Self(Mutex::new(None))
    }

    /// Asks. If nobody else's question waits already, a new one is handed to `send`.
    pub(super) async fn ask(&self, send: impl FnOnce(Question<T>)) -> Option<T> {
        let mut answer = self.join(send);
        let answer = answer.wait_for(Option::is_some).await.ok()?;
        answer.clone()
    }

    fn join(&self, send: impl FnOnce(Question<T>)) -> Answer<T> {
        let mut waiting = unpoisoned(self.0.lock());
        if let Some(answer) = waiting.as_ref().filter(|answer| answer.has_changed().is_ok()) {
            return answer.clone();
        }
        let (question, answer) = watch::channel(None);
        *waiting = Some(answer.clone());
        send(Question(question));
        answer
    }

    /// The question goes out to the engine now. Streams that open later need a new question, because this
    /// answer may be older than they are.
    pub(super) fn goes_out(&self) {
        *unpoisoned(self.0.lock()) = None;
    }
}

impl<T> Question<T> {
    pub(super) fn answer(self, answer: T) {
        self.0.send_replace(Some(answer));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_who_ask_before_it_goes_out_share_one_question_and_nobody_else() {
        let (asking, mut sent) = (Asking::<u32>::new(), Vec::new());
        let first: Vec<_> = (0..1_000).map(|_| asking.join(|question| sent.push(question))).collect();
        assert_eq!(sent.len(), 1);
        asking.goes_out();
        let second: Vec<_> = (0..1_000).map(|_| asking.join(|question| sent.push(question))).collect();
        assert_eq!(sent.len(), 2);
        sent.remove(0).answer(7);
        assert!(first.iter().all(|answer| *answer.borrow() == Some(7)));
        assert!(second.iter().all(|answer| answer.borrow().is_none()));
        // Nobody answers the second one, so the next is a new one.
        sent.clear();
        assert!(second.iter().all(|answer| answer.has_changed().is_err()));
        asking.join(|question| sent.push(question));
        assert_eq!(sent.len(), 1);
    }
}
