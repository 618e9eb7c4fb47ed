//! Many futures as one: each is polled when it was woken, by a bit of its own.
//!
//! What a program under `block_on` would use, at the least price: no task, no queue, and wakers that
//! are never counted, as what they point to stays for good. A single one is polled as it is, as a
//! program would await it. Runtimes that have tasks are measured with theirs.
#![allow(unsafe_code)] // The futures are pinned where they are, all in one box; and wakers by hand.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll, RawWaker, RawWakerVTable, Waker};

pub(crate) struct Lanes<F> {
    lanes: Pin<Box<[Option<F>]>>,
    wakers: Vec<Waker>,
    left: usize,
    polled: bool,
    woken: &'static Woken,
}

/// Of one `Lanes`; a ring may have wakers of it for longer, so it is never freed. Some hundred bytes
/// for each run.
struct Woken {
    bits: Vec<AtomicU64>,
    /// The whole was woken, and has not been polled since.
    any: AtomicBool,
    /// Of the one task that polls it, until its end: it may hold a ring, or a runtime. Taken once for
    /// a batch.
    whole: Mutex<Option<Waker>>,
}

impl Woken {
    fn with_whole<T>(&self, f: impl FnOnce(&mut Option<Waker>) -> T) -> T {
        f(&mut self.whole.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

struct One {
    at: usize,
    woken: &'static Woken,
}

impl One {
    fn wake(&self) {
        let woken = self.woken;
        // `SeqCst`: either this sees that the whole is to be woken, or that sees the bit.
        woken.bits[self.at / 64].fetch_or(1 << (self.at % 64), Ordering::SeqCst);
        if !woken.any.load(Ordering::SeqCst) && !woken.any.swap(true, Ordering::SeqCst) {
            woken.with_whole(|whole| whole.as_ref().map(Waker::wake_by_ref));
        }
    }

    fn waker(&'static self) -> Waker {
        const VTABLE: RawWakerVTable = RawWakerVTable::new(
            |one| RawWaker::new(one, &VTABLE),
            // SAFETY: made of a `&'static One` below.
            |one| unsafe { &*one.cast::<One>() }.wake(),
            // SAFETY: as above.
            |one| unsafe { &*one.cast::<One>() }.wake(),
            |_| {},
        );
        // SAFETY: what it points to stays, and may be used by any thread; nothing is counted.
        unsafe { Waker::new(std::ptr::from_ref(self).cast(), &VTABLE) }
    }
}

impl<F: Future<Output = anyhow::Result<()>>> Lanes<F> {
    pub(crate) fn new(lanes: impl IntoIterator<Item = F>) -> Self {
        let lanes: Box<[_]> = lanes.into_iter().map(Some).collect();
        let words = lanes.len().div_ceil(64);
        let in_word = |word: usize| (lanes.len() - word * 64).min(64);
        let all = |word: usize| u64::MAX >> (64 - in_word(word));
        let woken: &_ = Box::leak(Box::new(Woken {
            bits: (0..words).map(|word| AtomicU64::new(all(word))).collect(),
            any: AtomicBool::new(true),
            whole: Mutex::new(None),
        }));
        let ones: &[_] = Vec::leak((0..lanes.len()).map(|at| One { at, woken }).collect());
        let wakers = ones.iter().map(One::waker).collect();
        Self { left: lanes.len(), lanes: lanes.into(), wakers, polled: false, woken }
    }
}

impl<F: Future<Output = anyhow::Result<()>>> Future for Lanes<F> {
    type Output = anyhow::Result<()>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if this.lanes.len() == 1 {
            // SAFETY: a lane is in the box, which is pinned, and is looked at by its pin alone.
            let lane = unsafe { this.lanes.as_mut().map_unchecked_mut(|lanes| &mut lanes[0]) };
            return lane.as_pin_mut().expect("not polled after its end").poll(cx);
        }
        if !std::mem::replace(&mut this.polled, true) {
            this.woken.with_whole(|whole| *whole = Some(cx.waker().clone()));
        }
        // In this order: who is woken from here on wakes the whole again.
        this.woken.any.store(false, Ordering::SeqCst);
        for word in 0..this.woken.bits.len() {
            if this.woken.bits[word].load(Ordering::SeqCst) == 0 {
                continue;
            }
            let mut bits = this.woken.bits[word].swap(0, Ordering::AcqRel);
            while bits != 0 {
                let at = word * 64 + bits.trailing_zeros() as usize;
                bits &= bits - 1;
                // SAFETY: a lane is in the box, which is pinned, and is looked at by its pin alone.
                let mut lane =
                    unsafe { this.lanes.as_mut().map_unchecked_mut(|lanes| &mut lanes[at]) };
                let Some(future) = lane.as_mut().as_pin_mut() else { continue };
                if let Poll::Ready(done) = future.poll(&mut Context::from_waker(&this.wakers[at])) {
                    lane.set(None);
                    this.left -= 1;
                    done?;
                }
            }
        }
        if this.left == 0 { Poll::Ready(Ok(())) } else { Poll::Pending }
    }
}

impl<F> Drop for Lanes<F> {
    fn drop(&mut self) {
        drop(self.woken.with_whole(Option::take));
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::sync::Arc;
    use std::task::Wake;

    use super::*;

    #[test]
    fn all_lanes_run_to_their_end_and_an_error_comes_out() {
        for count in [0_u32, 1, 63, 64, 65, 1000] {
            let done = AtomicU64::new(0);
            let lane = |at| {
                let done = &done;
                async move {
                    for _ in 0..at % 5 {
                        yield_now().await;
                    }
                    done.fetch_add(1, Ordering::Relaxed);
                    Ok(())
                }
            };
            futures_executor::block_on(Lanes::new((0..count).map(lane))).unwrap();
            assert_eq!(done.into_inner(), u64::from(count));
        }
        let waker = Arc::new(NoWake);
        let mut lanes = Box::pin(Lanes::new([pending(), pending()]));
        assert!(lanes.as_mut().poll(&mut Context::from_waker(&waker.clone().into())).is_pending());
        assert_eq!(Arc::strong_count(&waker), 2);
        drop(lanes);
        assert_eq!(Arc::strong_count(&waker), 1, "the whole is held for good");
        let fails = Lanes::new([async { anyhow::bail!("no") }]);
        assert_eq!(futures_executor::block_on(fails).unwrap_err().to_string(), "no");
    }

    struct NoWake;

    impl Wake for NoWake {
        fn wake(self: Arc<Self>) {}
    }

    async fn yield_now() {
        let mut yielded = false;
        std::future::poll_fn(|cx| {
            if std::mem::replace(&mut yielded, true) {
                return Poll::Ready(());
            }
            // From another thread, as rings do.
            let waker = cx.waker().clone();
            std::thread::spawn(move || waker.wake());
            Poll::Pending
        })
        .await;
    }
}
