//! Our ring for one thread, which has no lock: the ops that tell what that saves.
//!
//! Not: all other ops, which cost what they cost under `block_on`, less the same.

use std::fs::File;
use std::io;
use std::net::TcpStream;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use deferring::op::{Fsync, Nop, Read, Write};
use deferring::{Fd, LocalRing, Ring};

use crate::api::{self, Api, Job, Need, full, lanes};
use crate::contest::{Contestant, Kind, Runner};
use crate::cost::Ran;
use crate::lanes::Lanes;

pub(crate) const NAME: &str = "`LocalRing`";

/// It as a contestant, if it takes part.
pub(crate) fn contestant<'a, J: Job>(
    make: impl Fn() -> anyhow::Result<J> + Sync + 'a,
) -> Option<Contestant<'a>> {
    if !matches!(J::NEEDS, Need::Nop | Need::Read) {
        return None;
    }
    Some(Contestant::new(Kind::Ours, NAME, move || {
        let (ring, job) = (Rc::new(Ring::builder().build_local()?), make()?);
        let (first, last) = (job.clone(), job.clone());
        Ok(Runner {
            prepare: Box::new(move |ops| first.prepare(ops)),
            run: Box::new(move |ops| run(&ring, &job, ops)),
            check: Box::new(move |ops| last.check(ops)),
        })
    }))
}

fn run<J: Job>(ring: &Rc<LocalRing>, job: &J, ops: usize) -> anyhow::Result<Ran> {
    let before = ring.stats().enters;
    job.begin(ops)?;
    let api = Local(Rc::clone(ring));
    ring.block_on(async {
        let file = api::open(&api, job).await?;
        let lane = |job: J, at, ops| job.lane(api.clone(), file.clone(), at, ops);
        Lanes::new(lanes(job, ops, lane)).await
    })?;
    Ok(Ran { enters: Some(ring.stats().enters - before), ..job.end()? })
}

#[derive(Clone, Debug)]
struct Local(Rc<LocalRing>);

fn not_asked<T>() -> io::Result<T> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "`LocalRing` is asked for nops and reads only"))
}

impl Api for Local {
    type File = Fd;
    type Conn = Fd;

    async fn nop(&self) -> io::Result<()> {
        self.0.queue(Nop::new()).await
    }

    async fn file(&self, file: File) -> io::Result<Fd> {
        Ok(file.into())
    }

    async fn read(&self, file: &Fd, buf: Vec<u8>, offset: u64) -> io::Result<Vec<u8>> {
        let (n, buf) = self.0.queue(Read::new(file, buf, offset)).await.into_inner()?;
        full(n, buf)
    }

    async fn write(&self, file: &Fd, buf: Vec<u8>, offset: u64) -> io::Result<Vec<u8>> {
        let (n, buf) = self.0.queue(Write::new(file, buf, offset)).await.into_inner()?;
        full(n, buf)
    }

    async fn sync(&self, file: &Fd) -> io::Result<()> {
        self.0.queue(Fsync::new(file)).await
    }

    async fn visit(&self, _: PathBuf, _: Vec<u8>) -> io::Result<(u64, Vec<u8>)> {
        not_asked()
    }

    async fn names(&self, _: PathBuf, _: usize, _: usize) -> io::Result<()> {
        not_asked()
    }

    async fn conn(&self, _: TcpStream) -> io::Result<Fd> {
        not_asked()
    }

    async fn recv(&self, _: &mut Fd, _: Vec<u8>) -> io::Result<(usize, Vec<u8>)> {
        not_asked()
    }

    async fn send(&self, _: &mut Fd, _: Vec<u8>) -> io::Result<Vec<u8>> {
        not_asked()
    }

    async fn sleep(&self, _: Duration) -> io::Result<()> {
        not_asked()
    }
}
