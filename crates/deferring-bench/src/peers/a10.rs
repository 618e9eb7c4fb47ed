//! a10: futures over one ring that is polled by hand. It has no tasks, so that ours are polled.

use std::fs::File;
use std::io;
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use a10::{AsyncFd, Extract, Ring, SubmissionQueue};

use super::there::{Peer, Run};
use crate::api::{self, Api, Job, Need, full, lanes};
use crate::cost::Ran;
use crate::lanes::Lanes;

/// Its default of 32 is fewer than some workloads have in flight.
const ENTRIES: u32 = 256;

#[derive(Clone)]
pub(super) struct A10(SubmissionQueue);

impl Peer for A10 {
    const NAME: &'static str = "a10";

    fn lacks(need: Need) -> Option<&'static str> {
        match need {
            Need::Nop => Some("it has no nop"),
            Need::Names => Some("not asked, as few have all of these ops"),
            Need::Sleep => Some("it has no timers"),
            Need::Read | Need::Write | Need::Visit | Need::Net => None,
        }
    }

    fn start<J: Job>(job: J) -> anyhow::Result<Run> {
        let mut ring = Ring::config().with_submission_queue_size(ENTRIES).build()?;
        Ok(Box::new(move |ops| {
            let api = Self(ring.sq());
            let file = block_on(&mut ring, api::open(&api, &job))?;
            let lane = |job: J, at, ops| job.lane(api.clone(), file.clone(), at, ops);
            block_on(&mut ring, Lanes::new(lanes(&job, ops, lane)))?;
            Ok(Ran::default())
        }))
    }
}

/// Who is woken is woken by the poll of the ring, on this thread.
fn block_on<T>(
    ring: &mut Ring,
    future: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<T> {
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return value;
        }
        ring.poll(Some(Duration::from_secs(20)))?;
    }
}

impl Api for A10 {
    type File = Rc<AsyncFd>;
    type Conn = AsyncFd;

    async fn nop(&self) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    async fn file(&self, file: File) -> io::Result<Rc<AsyncFd>> {
        Ok(Rc::new(AsyncFd::new(OwnedFd::from(file), self.0.clone())))
    }

    async fn read(&self, file: &Rc<AsyncFd>, mut buf: Vec<u8>, offset: u64) -> io::Result<Vec<u8>> {
        buf.clear(); // It reads into what is to spare.
        let buf = file.read(buf).from(offset).await?;
        full(buf.len(), buf)
    }

    async fn write(&self, file: &Rc<AsyncFd>, buf: Vec<u8>, offset: u64) -> io::Result<Vec<u8>> {
        let (buf, n) = file.write(buf).at(offset).extract().await?;
        full(n, buf)
    }

    async fn sync(&self, file: &Rc<AsyncFd>) -> io::Result<()> {
        file.sync_all().await
    }

    async fn visit(&self, path: PathBuf, mut buf: Vec<u8>) -> io::Result<(u64, Vec<u8>)> {
        let file = a10::fs::open_file(self.0.clone(), path).await?;
        let len = file.metadata().await?.len();
        buf.clear();
        let buf = file.read(buf).from(0).await?;
        file.close().await?;
        Ok((len, full(buf.len(), buf)?))
    }

    async fn conn(&self, stream: TcpStream) -> io::Result<AsyncFd> {
        Ok(AsyncFd::new(OwnedFd::from(stream), self.0.clone()))
    }

    async fn recv(&self, conn: &mut AsyncFd, mut buf: Vec<u8>) -> io::Result<(usize, Vec<u8>)> {
        buf.clear();
        let buf = conn.recv(buf).await?;
        Ok((buf.len(), buf))
    }

    async fn send(&self, conn: &mut AsyncFd, buf: Vec<u8>) -> io::Result<Vec<u8>> {
        conn.send_all(buf).extract().await
    }

    async fn sleep(&self, _: Duration) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}
