//! Who turns the ring, and how many ops are out: the oldest is awaited, then its place taken again.
//!
//! Not: what the ops are (`work.rs`).

use std::cell::RefCell;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, ensure};
use deferring::op::{Recv, Send};
use deferring::{
    Builder, Fd, Handle, Mode, OFlags, RecvFlags, ResolveFlags, Ring, SendFlags, block_on,
};
use tokio::runtime;
use tokio::task::LocalSet;

use crate::count::Counts;
use crate::no_ring;
use crate::work::{WARM_UP, Work, ZERO_LEN, made_file};

/// On this thread, by `block_on`.
pub(crate) fn here<W: Work>(
    depth: usize,
    ops: usize,
    make: fn(usize) -> anyhow::Result<W>,
) -> anyhow::Result<Counts> {
    let ring = builder().build().map_err(no_ring)?;
    Ok(block_on(&ring, counted(&ring, depth, ops, make(depth)?)))
}

/// By a thread of the ring's own.
pub(crate) fn by_a_thread<W: Work>(
    depth: usize,
    ops: usize,
    make: fn(usize) -> anyhow::Result<W>,
) -> anyhow::Result<Counts> {
    let ring = builder().start().map_err(no_ring)?;
    Ok(block_on(&ring, counted(&ring, depth, ops, make(depth)?)))
}

/// By a task of tokio's, for as many others as ops are out, on one thread.
pub(crate) fn by_tokio<W: Work + 'static>(
    depth: usize,
    ops: usize,
    make: fn(usize) -> anyhow::Result<W>,
) -> anyhow::Result<Counts> {
    let runtime = runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async {
        let ring = builder().start_on_tokio().map_err(no_ring)?;
        let crowd = Rc::new(RefCell::new(Crowd { work: make(depth)?, done: 0, looks: Vec::new() }));
        crowd.borrow_mut().looks.reserve(2);
        let tasks = LocalSet::new();
        for place in 0..depth {
            let (ring, crowd) = (ring.clone(), Rc::clone(&crowd));
            tasks.spawn_local(async move {
                while crowd.borrow().done < WARM_UP + ops {
                    let handle = crowd.borrow_mut().work.queue(&ring, place);
                    let output = handle.await;
                    let mut crowd = crowd.borrow_mut();
                    crowd.work.take(place, output);
                    crowd.done += 1;
                    if crowd.done == WARM_UP || crowd.done == WARM_UP + ops {
                        crowd.looks.push(Counts::now(ring.stats().enters));
                    }
                }
            });
        }
        tasks.await;
        let [before, after] = crowd.borrow().looks[..] else { unreachable!("two looks") };
        Ok(after.since(before))
    })
}

/// What tasks share.
struct Crowd<W> {
    work: W,
    done: usize,
    looks: Vec<Counts>,
}

/// Opens a file in a directory and closes it, one op at a time, on this thread.
pub(crate) fn here_by_opening(ops: usize) -> anyhow::Result<Counts> {
    let file = made_file(1)?;
    // By its name, which is always as long: how long a path is decides how it is copied.
    let (dir, name) = (file.path().parent(), file.path().file_name());
    let (dir, name) = (dir.context("a directory")?, name.context("a name")?);
    let dir = Fd::from(OwnedFd::from(File::open(dir)?));
    let ring = builder().build().map_err(no_ring)?;
    let pairs = async |ops: usize| {
        for _ in 0..ops / 2 {
            let flags = OFlags::RDONLY | OFlags::CLOEXEC;
            let fd = ring.openat2(&dir, name, flags, Mode::empty(), ResolveFlags::empty()).await?;
            ring.close(&fd).await?;
        }
        Ok::<_, io::Error>(())
    };
    block_on(&ring, async {
        pairs(WARM_UP).await?;
        let before = Counts::now(ring.stats().enters);
        pairs(ops).await?;
        Ok(Counts::now(ring.stats().enters).since(before))
    })
}

/// Messages between sockets, on this thread: for each a receive, which waits, and the send that ends it. So
/// many ops are out at once.
pub(crate) fn here_by_messages(depth: usize, ops: usize) -> anyhow::Result<Counts> {
    let ring = builder().build().map_err(no_ring)?;
    let pair = || UnixStream::pair().map(|(one, other)| [Fd::from(one), Fd::from(other)]);
    let pairs = (0..depth / 2).map(|_| pair()).collect::<io::Result<Vec<_>>>()?;
    let mut messages = Messages {
        ring: &ring,
        bufs: vec![Some([vec![1; ZERO_LEN], vec![2; ZERO_LEN]]); pairs.len()],
        out: pairs.iter().map(|_| None).collect(),
        pairs,
        oldest: 0,
    };
    block_on(&ring, async {
        messages.pass(WARM_UP / 2).await?;
        let before = Counts::now(ring.stats().enters);
        messages.pass(ops / 2).await?;
        let counts = Counts::now(ring.stats().enters).since(before);
        for place in 0..messages.out.len() {
            messages.end(place).await?;
        }
        Ok(counts)
    })
}

/// One that is under way.
type Message = (Handle<Recv<Vec<u8>>>, Handle<Send<Vec<u8>>>);

/// Pairs of sockets, between which messages are under way.
struct Messages<'a> {
    ring: &'a Ring,
    pairs: Vec<[Fd; 2]>,
    /// Of each pair that is idle: to send from, to receive into.
    bufs: Vec<Option<[Vec<u8>; 2]>>,
    out: Vec<Option<Message>>,
    oldest: usize,
}

impl Messages<'_> {
    /// So many times: awaits the oldest message, and sends another one there.
    async fn pass(&mut self, messages: usize) -> anyhow::Result<()> {
        for _ in 0..messages {
            let place = self.oldest;
            self.oldest = if place + 1 == self.out.len() { 0 } else { place + 1 };
            self.end(place).await?;
            let [from, into] = self.bufs[place].take().context("the place is idle")?;
            let [one, other] = &self.pairs[place];
            let recv = self.ring.recv(other, into, RecvFlags::empty());
            self.out[place] = Some((recv, self.ring.send(one, from, SendFlags::empty())));
        }
        Ok(())
    }

    async fn end(&mut self, place: usize) -> anyhow::Result<()> {
        if let Some((recv, send)) = self.out[place].take() {
            let (received, into) = recv.await.into_inner()?;
            let (sent, from) = send.await.into_inner()?;
            ensure!((received, sent) == (ZERO_LEN, ZERO_LEN), "a message came in parts");
            self.bufs[place] = Some([from, into]);
        }
        Ok(())
    }
}

/// A ring that does not care how long an op takes: under callgrind all takes fifty times as long,
/// and what the ring does about ops that hold a worker for long would be counted by the clock.
fn builder() -> Builder {
    Ring::builder().queue_depth(32).io_uring_only().stuck_after(Duration::from_secs(60))
}

async fn counted<W: Work>(ring: &Ring, depth: usize, ops: usize, work: W) -> Counts {
    let mut window = Window { ring, work, out: (0..depth).map(|_| None).collect(), oldest: 0 };
    window.turn(WARM_UP).await;
    let before = Counts::now(ring.stats().enters);
    window.turn(ops).await;
    let counts = Counts::now(ring.stats().enters).since(before);
    window.empty().await;
    counts
}

/// Some ops that are out, the oldest first from `oldest` on.
struct Window<'a, W: Work> {
    ring: &'a Ring,
    work: W,
    out: Vec<Option<Handle<W::Op>>>,
    oldest: usize,
}

impl<W: Work> Window<'_, W> {
    /// So many times: awaits the oldest, if its place is taken, and queues another one there.
    async fn turn(&mut self, ops: usize) {
        for _ in 0..ops {
            let place = self.oldest;
            self.oldest = if place + 1 == self.out.len() { 0 } else { place + 1 };
            if let Some(handle) = self.out[place].take() {
                self.work.take(place, handle.await);
            }
            self.out[place] = Some(self.work.queue(self.ring, place));
        }
    }

    /// Awaits what is still out.
    async fn empty(&mut self) {
        for place in 0..self.out.len() {
            if let Some(handle) = self.out[place].take() {
                self.work.take(place, handle.await);
            }
        }
    }
}
