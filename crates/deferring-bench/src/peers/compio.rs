//! compio: a runtime of one thread, on io_uring here.
#![allow(unsafe_code)] // Its trait of ops is unsafe to implement.

use std::fs::File;
use std::io;
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::ensure;
use compio::BufResult;
use compio::driver::{DriverType, OpCode, OpEntry};
use compio::fs::OpenOptions;
use compio::io::{AsyncRead, AsyncReadAt, AsyncWriteAt, AsyncWriteExt};
use compio::runtime::{Runtime, spawn, submit};
use rustix::fs::{OFlags, fcntl_getfl};

use super::there::{Peer, Run};
use crate::api::{self, Api, Job, Need, full, lanes};
use crate::cost::Ran;

#[derive(Clone, Copy)]
pub(super) struct Compio;

impl Peer for Compio {
    const NAME: &'static str = "compio";

    fn lacks(need: Need) -> Option<&'static str> {
        match need {
            Need::Names => Some("not asked, as few have all of these ops"),
            Need::Nop | Need::Read | Need::Write | Need::Visit | Need::Net | Need::Sleep => None,
        }
    }

    fn start<J: Job>(job: J) -> anyhow::Result<Run> {
        let runtime = Runtime::new()?;
        ensure!(runtime.driver_type() == DriverType::IoUring, "compio runs without io_uring");
        Ok(Box::new(move |ops| {
            runtime.block_on(async {
                let file = api::open(&Self, &job).await?;
                let lane = |job: J, at, ops| spawn(job.lane(Self, file.clone(), at, ops));
                for lane in lanes(&job, ops, lane) {
                    lane.await.map_err(|_| anyhow::anyhow!("a lane panicked"))??;
                }
                Ok(Ran::default())
            })
        }))
    }
}

/// It has none, and takes ops of others.
struct Nop;

// SAFETY: names no memory.
unsafe impl OpCode for Nop {
    type Control = ();

    fn create_entry(&mut self, (): &mut ()) -> OpEntry {
        io_uring::opcode::Nop::new().build().into()
    }
}

impl Api for Compio {
    type File = compio::fs::File;
    type Conn = compio::net::TcpStream;

    async fn nop(&self) -> io::Result<()> {
        let BufResult(result, Nop) = submit(Nop).await;
        result.map(|_| ())
    }

    /// It opens its files itself.
    async fn file(&self, file: File) -> io::Result<compio::fs::File> {
        let flags = fcntl_getfl(&file)?;
        let access = flags & OFlags::RWMODE;
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        OpenOptions::new()
            .read(access != OFlags::WRONLY)
            .write(access != OFlags::RDONLY)
            .custom_flags(i32::try_from((flags & OFlags::DIRECT).bits()).map_err(io::Error::other)?)
            .open(path)
            .await
    }

    async fn read(
        &self,
        file: &compio::fs::File,
        mut buf: Vec<u8>,
        offset: u64,
    ) -> io::Result<Vec<u8>> {
        buf.clear();
        let BufResult(n, buf) = file.read_at(buf, offset).await;
        full(n?, buf)
    }

    async fn write(
        &self,
        file: &compio::fs::File,
        buf: Vec<u8>,
        offset: u64,
    ) -> io::Result<Vec<u8>> {
        let BufResult(n, buf) = (&*file).write_at(buf, offset).await;
        full(n?, buf)
    }

    async fn sync(&self, file: &compio::fs::File) -> io::Result<()> {
        file.sync_all().await
    }

    async fn visit(&self, path: PathBuf, buf: Vec<u8>) -> io::Result<(u64, Vec<u8>)> {
        let file = compio::fs::File::open(path).await?;
        let len = file.metadata().await?.len();
        let buf = self.read(&file, buf, 0).await?;
        file.close().await?;
        Ok((len, buf))
    }

    async fn conn(&self, stream: TcpStream) -> io::Result<compio::net::TcpStream> {
        compio::net::TcpStream::from_std(stream)
    }

    async fn recv(
        &self,
        conn: &mut compio::net::TcpStream,
        mut buf: Vec<u8>,
    ) -> io::Result<(usize, Vec<u8>)> {
        buf.clear();
        let BufResult(n, buf) = conn.read(buf).await;
        Ok((n?, buf))
    }

    async fn send(&self, conn: &mut compio::net::TcpStream, buf: Vec<u8>) -> io::Result<Vec<u8>> {
        let BufResult(result, buf) = conn.write_all(buf).await;
        result.map(|()| buf)
    }

    async fn sleep(&self, time: Duration) -> io::Result<()> {
        compio::time::sleep(time).await;
        Ok(())
    }
}
