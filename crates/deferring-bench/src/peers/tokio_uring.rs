//! tokio-uring: a ring in the reactor of a `current_thread` tokio, whose timers it has.

use std::fs::File;
use std::io;
use std::net::TcpStream;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use tokio_uring::{Runtime, builder, spawn};

use super::there::{Peer, Run};
use crate::api::{self, Api, Job, Need, full, lanes};
use crate::cost::Ran;

#[derive(Clone, Copy)]
pub(super) struct TokioUring;

impl Peer for TokioUring {
    const NAME: &'static str = "tokio-uring";

    fn lacks(need: Need) -> Option<&'static str> {
        match need {
            Need::Names => Some("not asked, as few have all of these ops"),
            Need::Nop | Need::Read | Need::Write | Need::Visit | Need::Net | Need::Sleep => None,
        }
    }

    fn start<J: Job>(job: J) -> anyhow::Result<Run> {
        let runtime = Runtime::new(&builder())?;
        Ok(Box::new(move |ops| {
            runtime.block_on(async {
                let file = api::open(&Self, &job).await?;
                let lane = |job: J, at, ops| spawn(job.lane(Self, file.clone(), at, ops));
                for lane in lanes(&job, ops, lane) {
                    lane.await??;
                }
                Ok(Ran::default())
            })
        }))
    }
}

impl Api for TokioUring {
    type File = Rc<tokio_uring::fs::File>;
    type Conn = tokio_uring::net::TcpStream;

    async fn nop(&self) -> io::Result<()> {
        tokio_uring::no_op().await
    }

    async fn file(&self, file: File) -> io::Result<Rc<tokio_uring::fs::File>> {
        Ok(Rc::new(tokio_uring::fs::File::from_std(file)))
    }

    async fn read(
        &self,
        file: &Rc<tokio_uring::fs::File>,
        buf: Vec<u8>,
        offset: u64,
    ) -> io::Result<Vec<u8>> {
        let (n, buf) = file.read_at(buf, offset).await;
        full(n?, buf)
    }

    async fn write(
        &self,
        file: &Rc<tokio_uring::fs::File>,
        buf: Vec<u8>,
        offset: u64,
    ) -> io::Result<Vec<u8>> {
        let (n, buf) = file.write_at(buf, offset).submit().await;
        full(n?, buf)
    }

    async fn sync(&self, file: &Rc<tokio_uring::fs::File>) -> io::Result<()> {
        file.sync_all().await
    }

    async fn visit(&self, path: PathBuf, buf: Vec<u8>) -> io::Result<(u64, Vec<u8>)> {
        let file = tokio_uring::fs::File::open(path).await?;
        let len = file.statx().await?.stx_size;
        let (n, buf) = file.read_at(buf, 0).await;
        file.close().await?;
        Ok((len, full(n?, buf)?))
    }

    async fn conn(&self, stream: TcpStream) -> io::Result<tokio_uring::net::TcpStream> {
        Ok(tokio_uring::net::TcpStream::from_std(stream))
    }

    async fn recv(
        &self,
        conn: &mut tokio_uring::net::TcpStream,
        buf: Vec<u8>,
    ) -> io::Result<(usize, Vec<u8>)> {
        let (n, buf) = conn.read(buf).await;
        Ok((n?, buf))
    }

    async fn send(
        &self,
        conn: &mut tokio_uring::net::TcpStream,
        buf: Vec<u8>,
    ) -> io::Result<Vec<u8>> {
        let (result, buf) = conn.write_all(buf).await;
        result.map(|()| buf)
    }

    async fn sleep(&self, time: Duration) -> io::Result<()> {
        tokio::time::sleep(time).await;
        Ok(())
    }
}
