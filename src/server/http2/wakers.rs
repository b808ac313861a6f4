//! Two things in one task that wake each other, polled in turn until both are quiet.
//!
//! A connection and its calls are such a pair: a call that answers wakes the connection, which has to write; a connection that reads
//! wakes the call for which something has come. With the task's own waker each of these would be another trip through the scheduler
//! and another look at everything. Here a side is polled when somebody has woken *it*, and the task is only scheduled from outside.

use std::sync::Arc;
#[cfg(not(test))]
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::task::AtomicWaker;
// Those whose interleavings a test chooses.
#[cfg(test)]
use shuttle::sync::atomic::{AtomicBool, Ordering};

/// Turns after which the task lets others run. Also what ends the turns when tokio makes every socket say "later" because the task has
/// had its share.
const TURNS: usize = 16;

/// One of the two.
pub(crate) struct Side {
    bell: Arc<Bell>,
    waker: Waker,
}

struct Bell {
    /// It has been rung, and its side not been polled since.
    rung: AtomicBool,
    task: Arc<Task>,
}

#[derive(Default)]
struct Task {
    /// The task is taking turns now, and will see a bell without being woken.
    running: AtomicBool,
    waker: AtomicWaker,
}

/// The task that has both sides.
pub(crate) struct Turns(Arc<Task>);

/// What a task starts with: both sides are to be polled.
pub(crate) fn turns() -> (Turns, Side, Side) {
    let task = Arc::<Task>::default();
    (Turns(Arc::clone(&task)), Side::new(&task), Side::new(&task))
}

impl Side {
    fn new(task: &Arc<Task>) -> Self {
        let bell = Arc::new(Bell { rung: AtomicBool::new(true), task: Arc::clone(task) });
        Self { waker: Waker::from(Arc::clone(&bell)), bell }
    }

    /// Whether it is this side's turn. Who asks must then poll it until it is pending.
    pub(crate) fn is_due(&self) -> bool {
        self.bell.rung.swap(false, Ordering::SeqCst)
    }

    /// Says that it is to be polled.
    pub(crate) fn wake(&self) {
        self.bell.rung.store(true, Ordering::SeqCst);
    }

    /// What to poll it with.
    pub(crate) fn context(&self) -> Context<'_> {
        Context::from_waker(&self.waker)
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rung.store(true, Ordering::SeqCst);
        // Either this sees that the task has stopped running, or the task, which stops first and then looks at the bells, sees this one.
        if !self.task.running.load(Ordering::SeqCst) {
            self.task.waker.wake();
        }
    }
}

impl Turns {
    /// Polls the task: calls `turn`, which polls the sides that are due, until it completes or no side is due any more.
    pub(crate) fn poll<T>(
        &self,
        cx: &mut Context<'_>,
        mut turn: impl FnMut() -> Poll<T>,
        sides: [&Side; 2],
    ) -> Poll<T> {
        self.0.waker.register(cx.waker());
        self.0.running.store(true, Ordering::SeqCst);
        for _ in 0..TURNS {
            if let Poll::Ready(done) = turn() {
                return Poll::Ready(done);
            }
            self.0.running.store(false, Ordering::SeqCst);
            if sides.iter().all(|side| !side.bell.rung.load(Ordering::SeqCst)) {
                return Poll::Pending;
            }
            self.0.running.store(true, Ordering::SeqCst);
        }
        self.0.running.store(false, Ordering::SeqCst);
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use shuttle::sync::atomic::AtomicUsize;

    use super::*;

    /// Counts how often the task is woken from outside.
    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    impl Woken {
        fn times(&self) -> usize {
            self.0.swap(0, Ordering::SeqCst)
        }
    }

    /// Polls the task with turns that count how often each side was due, and do `then`.
    fn poll(woken: &Arc<Woken>, (turns, one, other): &(Turns, Side, Side), mut then: impl FnMut()) -> (usize, usize) {
        let mut due = (0, 0);
        let waker = Waker::from(Arc::clone(woken));
        let polled = turns.poll(
            &mut Context::from_waker(&waker),
            || {
                due.0 += usize::from(one.is_due());
                due.1 += usize::from(other.is_due());
                then();
                Poll::<()>::Pending
            },
            [one, other],
        );
        assert_eq!(polled, Poll::Pending);
        due
    }

    #[test]
    fn both_are_due_at_first_and_then_who_was_woken() {
        shuttle::check_random(
            || {
                let (woken, task) = (Arc::<Woken>::default(), turns());
                assert_eq!(poll(&woken, &task, || {}), (1, 1));
                assert_eq!(poll(&woken, &task, || {}), (0, 0));
                assert_eq!(woken.times(), 0);
                for _ in 0..2 {
                    task.2.context().waker().wake_by_ref();
                    task.2.context().waker().wake_by_ref();
                    assert!(woken.times() >= 1, "from outside: the task is to be polled");
                    assert_eq!(poll(&woken, &task, || {}), (0, 1));
                }
            },
            1,
        );
    }

    #[test]
    fn who_is_woken_in_a_turn_is_due_in_the_next() {
        shuttle::check_random(
            || {
                let (woken, task) = (Arc::<Woken>::default(), turns());
                let mut wakes = 3;
                let due = poll(&woken, &task, || {
                    if wakes > 0 {
                        wakes -= 1;
                        task.1.context().waker().wake_by_ref();
                    }
                });
                assert_eq!(due, (4, 1));
                assert_eq!(woken.times(), 0, "without another trip through the scheduler");
            },
            1,
        );
    }

    #[test]
    fn two_that_wake_each_other_for_ever_let_others_run() {
        shuttle::check_random(
            || {
                let (woken, task) = (Arc::<Woken>::default(), turns());
                let ring = || task.1.context().waker().wake_by_ref();
                assert_eq!(poll(&woken, &task, ring), (TURNS, 1));
                assert_eq!(woken.times(), 1, "and come back");
                assert_eq!(poll(&woken, &task, || {}), (1, 0));
            },
            1,
        );
    }

    /// The scheduler of the model sees a bell that nobody heard as a deadlock.
    #[test]
    fn a_bell_from_another_thread_is_never_lost() {
        shuttle::check_random(bells_from_another_thread, 5_000);
        shuttle::check_pct(bells_from_another_thread, 5_000, 3);
    }

    fn bells_from_another_thread() {
        const RINGS: usize = 3;
        let (turns, one, other) = turns();
        let waker = one.context().waker().clone();
        let news = Arc::new(AtomicUsize::new(0));
        let ringer = {
            let news = Arc::clone(&news);
            shuttle::thread::spawn(move || {
                for _ in 0..RINGS {
                    news.fetch_add(1, Ordering::SeqCst);
                    waker.wake_by_ref();
                }
            })
        };
        let mut turn = || {
            let _ = other.is_due();
            if one.is_due() && news.load(Ordering::SeqCst) == RINGS { Poll::Ready(()) } else { Poll::Pending }
        };
        shuttle::future::block_on(poll_fn(|cx| turns.poll(cx, &mut turn, [&one, &other])));
        ringer.join().expect("no panic");
    }
}
