//! Many futures as one: each is polled when it was woken, by a bit of its own.
//!
//! What a program under `block_on` would use, at the least price: no task, no queue, no allocation
//! after the start, and one for all of them then. Runtimes that have tasks are measured with theirs.
#![allow(unsafe_code)] // The futures are pinned where they are, all in one box.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::task::AtomicWaker;

pub(crate) struct Lanes<F> {
    lanes: Pin<Box<[Option<F>]>>,
    wakers: Vec<Waker>,
    left: usize,
    woken: Arc<Woken>,
}

struct Woken {
    bits: Vec<AtomicU64>,
    /// The whole was woken, and has not been polled since.
    any: AtomicBool,
    whole: AtomicWaker,
}

struct One {
    at: usize,
    woken: Arc<Woken>,
}

impl Wake for One {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.woken.bits[self.at / 64].fetch_or(1 << (self.at % 64), Ordering::AcqRel);
        if !self.woken.any.swap(true, Ordering::AcqRel) {
            self.woken.whole.wake();
        }
    }
}

impl<F: Future<Output = anyhow::Result<()>>> Lanes<F> {
    pub(crate) fn new(lanes: impl IntoIterator<Item = F>) -> Self {
        let lanes: Box<[_]> = lanes.into_iter().map(Some).collect();
        let words = lanes.len().div_ceil(64);
        let in_word = |word: usize| (lanes.len() - word * 64).min(64);
        let all = |word: usize| u64::MAX >> (64 - in_word(word));
        let woken = Arc::new(Woken {
            bits: (0..words).map(|word| AtomicU64::new(all(word))).collect(),
            any: AtomicBool::new(true),
            whole: AtomicWaker::new(),
        });
        let waker = |at| Waker::from(Arc::new(One { at, woken: Arc::clone(&woken) }));
        let wakers = (0..lanes.len()).map(waker).collect();
        Self { left: lanes.len(), lanes: lanes.into(), wakers, woken }
    }
}

impl<F: Future<Output = anyhow::Result<()>>> Future for Lanes<F> {
    type Output = anyhow::Result<()>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        // In this order: who is woken from here on wakes the whole again.
        this.woken.whole.register(cx.waker());
        this.woken.any.store(false, Ordering::SeqCst);
        for word in 0..this.woken.bits.len() {
            if this.woken.bits[word].load(Ordering::Acquire) == 0 {
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

#[cfg(test)]
mod tests {
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
        let fails = Lanes::new([async { anyhow::bail!("no") }]);
        assert_eq!(futures_executor::block_on(fails).unwrap_err().to_string(), "no");
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
