//! monoio: a runtime of one thread, on io_uring here, with a wheel of timers.

use std::fs::File;
use std::io;
use std::net::TcpStream;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use monoio::io::{AsyncReadRent, AsyncWriteRentExt};
use monoio::{IoUringDriver, RuntimeBuilder, spawn};

use super::there::{Peer, Run};
use crate::api::{self, Api, Job, Need, full, lanes};
use crate::cost::Ran;

#[derive(Clone, Copy)]
pub(super) struct Monoio;

impl Peer for Monoio {
    const NAME: &'static str = "monoio";

    fn lacks(need: Need) -> Option<&'static str> {
        match need {
            Need::Names => Some("not asked, as few have all of these ops"),
            Need::Nop => Some("it has no nop"),
            Need::Read | Need::Write | Need::Visit | Need::Net | Need::Sleep => None,
        }
    }

    fn start<J: Job>(job: J) -> anyhow::Result<Run> {
        let mut runtime = RuntimeBuilder::<IoUringDriver>::new().enable_timer().build()?;
        Ok(Box::new(move |ops| {
            runtime.block_on(async {
                let file = api::open(&Self, &job).await?;
                let lane = |job: J, at, ops| spawn(job.lane(Self, file.clone(), at, ops));
                for lane in lanes(&job, ops, lane) {
                    lane.await?;
                }
                Ok(Ran::default())
            })
        }))
    }
}

impl Api for Monoio {
    type File = Rc<monoio::fs::File>;
    type Conn = monoio::net::TcpStream;

    async fn nop(&self) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    async fn file(&self, file: File) -> io::Result<Rc<monoio::fs::File>> {
        monoio::fs::File::from_std(file).map(Rc::new)
    }

    async fn read(
        &self,
        file: &Rc<monoio::fs::File>,
        buf: Vec<u8>,
        offset: u64,
    ) -> io::Result<Vec<u8>> {
        let (n, buf) = file.read_at(buf, offset).await;
        full(n?, buf)
    }

    async fn write(
        &self,
        file: &Rc<monoio::fs::File>,
        buf: Vec<u8>,
        offset: u64,
    ) -> io::Result<Vec<u8>> {
        let (n, buf) = file.write_at(buf, offset).await;
        full(n?, buf)
    }

    async fn sync(&self, file: &Rc<monoio::fs::File>) -> io::Result<()> {
        file.sync_all().await
    }

    async fn visit(&self, path: PathBuf, buf: Vec<u8>) -> io::Result<(u64, Vec<u8>)> {
        let file = monoio::fs::File::open(path).await?;
        let len = file.metadata().await?.len();
        let (n, buf) = file.read_at(buf, 0).await;
        file.close().await?;
        Ok((len, full(n?, buf)?))
    }

    async fn conn(&self, stream: TcpStream) -> io::Result<monoio::net::TcpStream> {
        monoio::net::TcpStream::from_std(stream)
    }

    async fn recv(
        &self,
        conn: &mut monoio::net::TcpStream,
        buf: Vec<u8>,
    ) -> io::Result<(usize, Vec<u8>)> {
        let (n, buf) = conn.read(buf).await;
        Ok((n?, buf))
    }

    async fn send(&self, conn: &mut monoio::net::TcpStream, buf: Vec<u8>) -> io::Result<Vec<u8>> {
        let (result, buf) = conn.write_all(buf).await;
        result.map(|_| buf)
    }

    async fn sleep(&self, time: Duration) -> io::Result<()> {
        monoio::time::sleep(time).await;
        Ok(())
    }
}
