//! Work that is done on behalf of all who wait for it: [`JointWork`].

use std::sync::atomic::{AtomicU64, Ordering};

/// Work of which one time at most is under way. Those who ask for it meanwhile share the next time, however many they are.
#[derive(Debug, Default)]
pub(crate) struct JointWork {
    begun: AtomicU64,
    /// The last time that has ended; held while one goes on.
    last: async_lock::Mutex<Time>,
}

#[derive(Debug, Default)]
struct Time {
    number: u64,
    succeeded: bool,
}

impl JointWork {
    /// Whether the work succeeded in a time that began after this was called: `once`, unless another's will do. Where the one fails
    /// that is under way, so would the next: a store that does not answer keeps nobody waiting for longer than one time takes.
    pub(crate) async fn one_begun_from_now_on(&self, once: impl Future<Output = bool>) -> bool {
        let before = self.begun.load(Ordering::SeqCst);
        let (mut last, has_waited) = match self.last.try_lock() {
            Some(last) => (last, false),
            None => (self.last.lock().await, true),
        };
        let failed_meanwhile = has_waited && last.number == before && !last.succeeded;
        if last.number <= before && !failed_meanwhile {
            let number = self.begun.fetch_add(1, Ordering::SeqCst) + 1;
            *last = Time { number, succeeded: once.await };
        }
        last.succeeded
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::future::poll_fn;
    use std::pin::{Pin, pin};
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn poll(waiting: &mut Pin<&mut impl Future<Output = bool>>) -> Poll<bool> {
        waiting.as_mut().poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn those_who_come_while_it_is_done_share_the_next_time_and_its_outcome() {
        let (work, begun, answered) = (JointWork::default(), &Cell::new(0), &Cell::new(None));
        let once = || async {
            begun.set(begun.get() + 1);
            poll_fn(|_| answered.get().map_or(Poll::Pending, Poll::Ready)).await
        };
        let mut early = pin!(work.one_begun_from_now_on(once()));
        assert!(poll(&mut early).is_pending());
        let mut late = pin!(work.one_begun_from_now_on(once()));
        let mut later = pin!(work.one_begun_from_now_on(once()));
        assert!(poll(&mut late).is_pending() && poll(&mut later).is_pending());
        assert_eq!(begun.get(), 1, "one at a time");
        answered.set(Some(true));
        assert_eq!(poll(&mut early), Poll::Ready(true));
        answered.set(Some(false));
        assert_eq!((poll(&mut late), poll(&mut later)), (Poll::Ready(false), Poll::Ready(false)));
        assert_eq!(begun.get(), 2, "that of the early one began before the others were done");
    }

    #[test]
    fn f16_who_waits_for_work_that_fails_does_not_wait_for_another_time() {
        let (work, begun, answered) = (JointWork::default(), &Cell::new(0), &Cell::new(None));
        let once = || async {
            begun.set(begun.get() + 1);
            poll_fn(|_| answered.get().map_or(Poll::Pending, Poll::Ready)).await
        };
        let mut early = pin!(work.one_begun_from_now_on(once()));
        assert!(poll(&mut early).is_pending());
        let mut late = pin!(work.one_begun_from_now_on(once()));
        assert!(poll(&mut late).is_pending());
        answered.set(Some(false));
        assert_eq!((poll(&mut early), poll(&mut late)), (Poll::Ready(false), Poll::Ready(false)));
        assert_eq!(begun.get(), 1);
        // Whoever comes afterwards asks for himself.
        answered.set(Some(true));
        assert_eq!(poll(&mut pin!(work.one_begun_from_now_on(once()))), Poll::Ready(true));
    }

    #[test]
    fn what_was_left_in_the_middle_counts_for_nobody() {
        let work = JointWork::default();
        {
            let mut left = pin!(work.one_begun_from_now_on(std::future::pending()));
            assert!(poll(&mut left).is_pending());
        }
        let mut next = pin!(work.one_begun_from_now_on(std::future::ready(true)));
        assert_eq!(poll(&mut next), Poll::Ready(true));
    }
}
