//! A script on one kernel: what each op answered.
//!
//! Not: whether that is right (`judge.rs`).

use std::cell::RefCell;

use deferring::op::{Op, Openat2, Statx};
use deferring::{BufResult, CURRENT, Fd, FileType, Handle, Mode, OFlags, Ring, Stat};
use fastrand::Rng;
use futures_util::future::join_all;

use super::answer::{Answer, say};
use super::tree::{hash, tell, tree};
use super::{ROOM, SLOTS, Script, Slot, Step};
use crate::worlds::World;

/// What a script has told.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Told {
    /// By lane.
    pub(super) answers: Vec<Vec<String>>,
    pub(super) tree: Vec<String>,
}

/// Plays a script in a directory of this name, which is made.
pub(super) async fn play(world: &World, name: &str, script: &Script) -> Told {
    let world = world.room(&[name]).await;
    let cancels = script.lanes.len() > 1;
    let lanes = script.lanes.iter().enumerate().map(|(n, lane)| {
        let (world, name) = (&world, n.to_string());
        async move {
            let room = world.room(&[&name, "parent", "room"]).await;
            if lane.fifo {
                room.mkfifo("f");
            }
            let seed = cancels.then_some(script.seed.wrapping_add(n as u64));
            let mut player = Player::new(&room, seed);
            let mut answers = Vec::new();
            for step in &lane.steps {
                world.note(&format!("seed {}, {step:?}", script.seed));
                answers.push(player.step(step).await);
            }
            player.close().await;
            answers
        }
    });
    let answers = join_all(lanes).await;
    let tree = tree(&world).await;
    world.ring.close(&world.dir).await.expect("closes");
    Told { answers, tree }
}

struct Player<'a> {
    ring: Ring,
    world: &'a World,
    slots: Vec<Option<Open>>,
    /// When to cancel.
    rng: Option<RefCell<Rng>>,
}

#[derive(Clone)]
struct Open {
    fd: Fd,
    is_fifo: bool,
    appends: bool,
}

impl<'a> Player<'a> {
    fn new(world: &'a World, cancels: Option<u64>) -> Self {
        let (input, output) = world.pipe();
        let (one, other) = world.socket_pair();
        let open = |fd| Some(Open { fd, is_fifo: false, appends: false });
        let mut slots = vec![open(world.dir.clone())];
        slots.resize(SLOTS - 4, None);
        slots.extend([input, output, one, other].map(open));
        let rng = cancels.map(|seed| RefCell::new(Rng::with_seed(seed)));
        Self { ring: world.ring.clone(), world, slots, rng }
    }

    async fn close(self) {
        for open in self.slots.into_iter().flatten() {
            self.ring.close(&open.fd).await.expect("closes");
        }
        let _ = self.world;
    }

    fn fd(&self, slot: Slot) -> Option<&Fd> {
        self.slots[slot].as_ref().map(|open| &open.fd)
    }

    /// Asks; now and then twice, the first time with a cancel. If that came in time, nothing has
    /// happened, and the second answer is what the first would have been.
    async fn ask<T: Op<Output: Answer>>(&self, make: impl Fn(&Ring) -> Handle<T>) -> T::Output {
        self.ask_if(true, make).await
    }

    async fn ask_if<T: Op<Output: Answer>>(
        &self,
        may_cancel: bool,
        make: impl Fn(&Ring) -> Handle<T>,
    ) -> T::Output {
        let when = self.rng.as_ref().filter(|_| may_cancel).map(|rng| rng.borrow_mut().u8(..12));
        if let Some(when @ 0..4) = when {
            let handle = make(&self.ring);
            for _ in 0..when {
                self.ring.nop().await.expect("a nop");
            }
            let _ = handle.cancel().await;
            let output = handle.await;
            // A transfer may have been cut short.
            if !output.is_cancelled() && !T::Output::IS_TRANSFER {
                return output;
            }
        }
        make(&self.ring).await
    }

    #[allow(clippy::wildcard_enum_match_arm)] // The others are below.
    async fn step(&mut self, step: &Step) -> String {
        match step {
            Step::Close(slot) => match self.fd(*slot) {
                Some(fd) => say(self.ring.close(fd).await),
                None => NONE.into(),
            },
            Step::Drop(slot) => {
                self.slots[*slot] = None;
                "dropped".into()
            }
            Step::Nop => say(self.ring.nop().await),
            Step::Time { micros } => {
                let time = std::time::Duration::from_micros(*micros);
                say(self.ask(|ring| ring.timeout(time)).await)
            }
            Step::Open { from, path, flags, mode, resolve, to } => {
                let mode = Mode::from_bits_retain(*mode);
                let Some(dir) = self.fd(*from) else { return NONE.into() };
                let opened = self.ask(|ring| {
                    let open = Openat2::new(dir, path).flags(*flags).mode(mode).resolve(*resolve);
                    ring.queue(open)
                });
                match opened.await {
                    Ok(fd) => self.opened(fd, *flags, *to).await,
                    Err(error) => error.to_string(),
                }
            }
            _ => self.step_on(step).await.unwrap_or_else(|| NONE.into()),
        }
    }

    async fn opened(&mut self, fd: Fd, flags: OFlags, to: Slot) -> String {
        let stat = self.ring.queue(Statx::of(&fd)).await.expect("is open");
        let is_fifo = stat.file_type() == Some(FileType::Fifo);
        let open = Open { fd, is_fifo, appends: flags.contains(OFlags::APPEND) };
        if let Some(before) = self.slots[to].replace(open) {
            self.ring.close(&before.fd).await.expect("closes");
        }
        tell(&stat)
    }

    /// The steps that use descriptors. `None` if there is none.
    #[allow(clippy::wildcard_enum_match_arm)] // The others are below.
    async fn step_on(&self, step: &Step) -> Option<String> {
        Some(match step {
            Step::Read { fd, .. }
            | Step::Readv { fd, .. }
            | Step::Write { fd, .. }
            | Step::Writev { fd, .. }
                if self.slots[*fd].as_ref()?.is_fifo =>
            {
                "a FIFO".into()
            }
            Step::Read { fd, len, at } => {
                let (fd, again) = self.transfer(*fd, *at)?;
                let read = |ring: &Ring| ring.read(fd, Vec::with_capacity(*len), *at);
                let BufResult(n, buf) = self.ask_if(again, read).await;
                say(n.map(|n| (n, hash(&buf))))
            }
            Step::ReadInVain { fd, len } => {
                let read = self.ring.read(self.fd(*fd)?, Vec::<u8>::with_capacity(*len), 0);
                self.ring.nop().await.expect("a nop");
                let _ = read.cancel().await;
                say(read.await.0)
            }
            Step::Readv { fd, lens, at } => {
                let (fd, again) = self.transfer(*fd, *at)?;
                let room = || lens.iter().map(|&len| Vec::with_capacity(len)).collect::<Vec<_>>();
                let BufResult(n, bufs) =
                    self.ask_if(again, |ring| ring.readv(fd, room(), *at)).await;
                say(n.map(|n| (n, hash(&bufs.concat()))))
            }
            Step::Write { fd, len, fill, at } => {
                let (fd, again) = self.transfer(*fd, *at)?;
                say(self.ask_if(again, |ring| ring.write(fd, bytes(*len, *fill), *at)).await.0)
            }
            Step::Writev { fd, lens, fill, at } => {
                let (fd, again) = self.transfer(*fd, *at)?;
                let parts = || lens.iter().map(|&len| bytes(len, *fill)).collect::<Vec<_>>();
                say(self.ask_if(again, |ring| ring.writev(fd, parts(), *at)).await.0)
            }
            Step::Sync { fd, data_only: true } => {
                let fd = self.fd(*fd)?;
                say(self.ask(|ring| ring.fdatasync(fd)).await)
            }
            Step::Sync { fd, data_only: false } => {
                let fd = self.fd(*fd)?;
                say(self.ask(|ring| ring.fsync(fd)).await)
            }
            Step::Truncate { fd, len } => {
                let fd = self.fd(*fd)?;
                say(self.ask(|ring| ring.ftruncate(fd, *len)).await)
            }
            Step::Allocate { fd, flags, at, len } => {
                let fd = self.fd(*fd)?;
                say(self.ask(|ring| ring.fallocate(fd, *flags, *at, *len)).await)
            }
            Step::Advise { fd, at, len, advice } => {
                let fd = self.fd(*fd)?;
                say(self.ask(|ring| ring.fadvise(fd, *at, *len, *advice)).await)
            }
            Step::Poll { fd, events } => {
                let poll = self.ring.poll(self.fd(*fd)?, *events);
                self.ring.nop().await.expect("a nop");
                if !poll.is_done() {
                    let _ = poll.cancel().await;
                }
                say(poll.await)
            }
            _ => self.step_on_names(step).await?,
        })
    }

    #[allow(clippy::wildcard_enum_match_arm)] // The others are above.
    async fn step_on_names(&self, step: &Step) -> Option<String> {
        Some(match step {
            Step::Stat { from, path, flags } => {
                let dir = self.fd(*from)?;
                let stat = self.ask(|ring| ring.statx(dir, path, *flags, Stat::EVERYTHING)).await;
                say(stat.map(|stat| tell(&stat)))
            }
            Step::StatOf(slot) => {
                let fd = self.fd(*slot)?;
                say(self.ask(|ring| ring.queue(Statx::of(fd))).await.map(|stat| tell(&stat)))
            }
            Step::Mkdir { from, path, mode } => {
                let (dir, mode) = (self.fd(*from)?, Mode::from_bits_retain(*mode));
                say(self.ask(|ring| ring.mkdirat(dir, path, mode)).await)
            }
            Step::Unlink { from, path, flags } => {
                let dir = self.fd(*from)?;
                say(self.ask(|ring| ring.unlinkat(dir, path, *flags)).await)
            }
            Step::Rename { from, path, to, path2, flags } => {
                let (dir, dir2) = (self.fd(*from)?, self.fd(*to)?);
                say(self.ask(|ring| ring.renameat2(dir, path, dir2, path2, *flags)).await)
            }
            Step::Link { from, path, to, path2, flags } => {
                let (dir, dir2) = (self.fd(*from)?, self.fd(*to)?);
                say(self.ask(|ring| ring.linkat(dir, path, dir2, path2, *flags)).await)
            }
            Step::Symlink { target, from, path } => {
                let dir = self.fd(*from)?;
                say(self.ask(|ring| ring.symlinkat(target, dir, path)).await)
            }
            other => unreachable!("{other:?} uses no names"),
        })
    }

    /// What to transfer from or to, and whether that can be done twice.
    fn transfer(&self, slot: Slot, at: u64) -> Option<(&Fd, bool)> {
        let open = self.slots[slot].as_ref()?;
        Some((&open.fd, at != CURRENT && !open.appends && slot < SLOTS - 4 && slot != ROOM))
    }
}

/// A slot without a descriptor.
const NONE: &str = "nothing open";

fn bytes(len: usize, fill: u8) -> Vec<u8> {
    (0..=255).cycle().skip(fill.into()).take(len).collect()
}
