//! One task in two halves, each with a waker of its own.
//!
//! A connection and its calls are the two halves. A call that answers wakes the connection, which
//! has bytes to write. A connection that reads wakes the call that the bytes are for. If both had
//! the task's waker, each wake would cost a trip through the runtime's scheduler and a poll of
//! everything. Here a wake from inside the task only marks its half, and the task polls the halves
//! that are marked until none is.

use std::sync::Arc;
#[cfg(not(test))]
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::task::AtomicWaker;
// The tests choose how threads interleave at these.
#[cfg(test)]
use shuttle::sync::atomic::{AtomicBool, Ordering};

/// After this many passes the task yields to other tasks. This also ends the passes when the task
/// has used up its budget in tokio, which then reports every socket as pending and wakes at once.
const MAX_PASSES: usize = 16;

/// One half of the task.
pub(super) struct Half {
    mark: Arc<HalfWaker>,
    waker: Waker,
}

/// Polls the halves of one task.
pub(super) struct Scheduler(Arc<Task>);

struct HalfWaker {
    /// Whether the half was woken and has not been polled since.
    woken: AtomicBool,
    task: Arc<Task>,
}

#[derive(Default)]
struct Task {
    /// Whether the task is in its passes. If it is, it looks at the marks again before it stops.
    running: AtomicBool,
    waker: AtomicWaker,
}

/// Splits a task into two halves, both marked to be polled first.
pub(super) fn split() -> (Scheduler, Half, Half) {
    let task = Arc::<Task>::default();
    (Scheduler(Arc::clone(&task)), Half::new(&task), Half::new(&task))
}

impl Half {
    fn new(task: &Arc<Task>) -> Self {
        let mark = Arc::new(HalfWaker { woken: AtomicBool::new(true), task: Arc::clone(task) });
        Self { waker: Waker::from(Arc::clone(&mark)), mark }
    }

    /// Clears the mark, and returns whether the half was woken. The caller must then poll the half
    /// until it is pending.
    pub(super) fn take_woken(&self) -> bool {
        self.mark.woken.swap(false, Ordering::SeqCst)
    }

    /// Marks the half from within a pass.
    pub(super) fn wake(&self) {
        self.mark.woken.store(true, Ordering::SeqCst);
    }

    /// The context to poll the half with.
    pub(super) fn context(&self) -> Context<'_> {
        Context::from_waker(&self.waker)
    }
}

impl Wake for HalfWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.woken.store(true, Ordering::SeqCst);
        // The task first stops running and then looks at the marks. So either the task sees this
        // mark, or this sees that the task has stopped.
        if !self.task.running.load(Ordering::SeqCst) {
            self.task.waker.wake();
        }
    }
}

impl Scheduler {
    /// Polls the task: calls `pass`, which polls the halves that are marked, until it completes or
    /// no half is marked.
    pub(super) fn poll<T>(
        &self,
        cx: &mut Context<'_>,
        mut pass: impl FnMut() -> Poll<T>,
        halves: [&Half; 2],
    ) -> Poll<T> {
        self.0.waker.register(cx.waker());
        for _ in 0..MAX_PASSES {
            self.0.running.store(true, Ordering::SeqCst);
            if let Poll::Ready(output) = pass() {
                return Poll::Ready(output);
            }
            self.0.running.store(false, Ordering::SeqCst);
            if halves.iter().all(|half| !half.mark.woken.load(Ordering::SeqCst)) {
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use shuttle::sync::atomic::AtomicUsize;

    use super::*;

    /// Counts how often the task is woken through the runtime.
    #[derive(Default)]
    struct TaskWakes(AtomicUsize);

    impl Wake for TaskWakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    impl TaskWakes {
        /// The number of wakes since the last call.
        fn take(&self) -> usize {
            self.0.swap(0, Ordering::SeqCst)
        }
    }

    /// Polls the task with passes that count how often each half was marked, and then call
    /// `in_pass`.
    fn poll(
        task_wakes: &Arc<TaskWakes>,
        (scheduler, one, other): &(Scheduler, Half, Half),
        mut in_pass: impl FnMut(),
    ) -> (usize, usize) {
        let mut marked = (0, 0);
        let waker = Waker::from(Arc::clone(task_wakes));
        let polled = scheduler.poll(
            &mut Context::from_waker(&waker),
            || {
                marked.0 += usize::from(one.take_woken());
                marked.1 += usize::from(other.take_woken());
                in_pass();
                Poll::<()>::Pending
            },
            [one, other],
        );
        assert_eq!(polled, Poll::Pending);
        marked
    }

    #[test]
    fn both_halves_are_polled_first_and_then_the_one_that_was_woken() {
        shuttle::check_random(
            || {
                let (wakes, task) = (Arc::<TaskWakes>::default(), split());
                assert_eq!(poll(&wakes, &task, || {}), (1, 1));
                assert_eq!(poll(&wakes, &task, || {}), (0, 0));
                assert_eq!(wakes.take(), 0);
                for _ in 0..2 {
                    task.2.context().waker().wake_by_ref();
                    task.2.context().waker().wake_by_ref();
                    assert!(wakes.take() >= 1, "a wake from outside wakes the task");
                    assert_eq!(poll(&wakes, &task, || {}), (0, 1));
                }
            },
            1,
        );
    }

    #[test]
    fn a_half_that_is_woken_in_a_pass_is_polled_in_the_next() {
        shuttle::check_random(
            || {
                let (wakes, task) = (Arc::<TaskWakes>::default(), split());
                let mut left = 3;
                let marked = poll(&wakes, &task, || {
                    if left > 0 {
                        left -= 1;
                        task.1.context().waker().wake_by_ref();
                    }
                });
                assert_eq!(marked, (4, 1));
                assert_eq!(wakes.take(), 0, "a wake in a pass does not wake the task");
            },
            1,
        );
    }

    #[test]
    fn halves_that_keep_waking_each_other_yield_to_other_tasks() {
        shuttle::check_random(
            || {
                let (wakes, task) = (Arc::<TaskWakes>::default(), split());
                let wake = || task.1.context().waker().wake_by_ref();
                assert_eq!(poll(&wakes, &task, wake), (MAX_PASSES, 1));
                assert_eq!(wakes.take(), 1, "the task is polled again");
                assert_eq!(poll(&wakes, &task, || {}), (1, 0));
            },
            1,
        );
    }

    /// A lost wake leaves the task pending, which shuttle reports as a deadlock.
    #[test]
    fn a_wake_from_another_thread_is_never_lost() {
        shuttle::check_random(wakes_from_another_thread, 5_000);
        shuttle::check_pct(wakes_from_another_thread, 5_000, 3);
    }

    fn wakes_from_another_thread() {
        const WAKES: usize = 3;
        let (scheduler, one, other) = split();
        let waker = one.context().waker().clone();
        let woken = Arc::new(AtomicUsize::new(0));
        let thread = {
            let woken = Arc::clone(&woken);
            shuttle::thread::spawn(move || {
                for _ in 0..WAKES {
                    woken.fetch_add(1, Ordering::SeqCst);
                    waker.wake_by_ref();
                }
            })
        };
        let mut pass = || {
            let _ = other.take_woken();
            if one.take_woken() && woken.load(Ordering::SeqCst) == WAKES { Poll::Ready(()) } else { Poll::Pending }
        };
        shuttle::future::block_on(poll_fn(|cx| scheduler.poll(cx, &mut pass, [&one, &other])));
        thread.join().expect("no panic");
    }
}
