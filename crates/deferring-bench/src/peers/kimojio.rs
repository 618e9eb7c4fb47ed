//! kimojio: a runtime of one thread that borrows its buffers.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use futures_util::future::try_join_all;
use kimojio::Errno;
use kimojio::configuration::Configuration;
use kimojio::operations::{self, OFlags, RecvFlags, SendFlags};

use super::there::{Peer, Run};
use crate::api::{self, Api, Job, Need, full, lanes};
use crate::cost::Ran;

#[derive(Clone, Copy)]
pub(super) struct Kimojio;

/// It counts its tasks in 16 bits, and panics beyond.
const TASKS_MAX: usize = 50_000;

impl Peer for Kimojio {
    const NAME: &'static str = "kimojio";

    fn lacks(need: Need) -> Option<&'static str> {
        match need {
            Need::Names => Some("not asked, as few have all of these ops"),
            Need::Nop | Need::Read | Need::Write | Need::Visit | Need::Net | Need::Sleep => None,
        }
    }

    fn start<J: Job>(job: J) -> anyhow::Result<Run> {
        let mut runtime = kimojio::Runtime::new(0, Configuration::new());
        Ok(Box::new(move |ops| {
            let job = job.clone();
            let all = async move {
                let file = api::open(&Self, &job).await?;
                let lane = |job: J, at, ops| job.lane(Self, file.clone(), at, ops);
                let mut lanes = lanes(&job, ops, lane);
                if lanes.len() <= TASKS_MAX {
                    let tasks: Vec<_> = lanes.into_iter().map(operations::spawn_task).collect();
                    for task in tasks {
                        task.await.map_err(|_| anyhow!("a lane panicked"))??;
                    }
                    return Ok(Ran::default());
                }
                // Several to a task.
                let each = lanes.len().div_ceil(TASKS_MAX);
                let mut tasks = Vec::new();
                while !lanes.is_empty() {
                    let some = lanes.split_off(lanes.len().saturating_sub(each));
                    tasks.push(operations::spawn_task(try_join_all(some)));
                }
                for task in tasks {
                    task.await.map_err(|_| anyhow!("a lane panicked"))??;
                }
                Ok(Ran::default())
            };
            let ended = runtime.block_on(all).context("it shut down")?;
            ended.map_err(|_| anyhow!("it panicked"))?
        }))
    }
}

fn of(errno: Errno) -> io::Error {
    io::Error::from_raw_os_error(errno.raw_os_error())
}

impl Api for Kimojio {
    type File = Rc<OwnedFd>;
    type Conn = OwnedFd;

    async fn nop(&self) -> io::Result<()> {
        operations::nop().await.map_err(of)
    }

    async fn file(&self, file: File) -> io::Result<Rc<OwnedFd>> {
        Ok(Rc::new(file.into()))
    }

    async fn read(&self, file: &Rc<OwnedFd>, mut buf: Vec<u8>, offset: u64) -> io::Result<Vec<u8>> {
        let n = operations::pread(file, &mut buf, offset).await.map_err(of)?;
        full(n, buf)
    }

    async fn write(&self, file: &Rc<OwnedFd>, buf: Vec<u8>, offset: u64) -> io::Result<Vec<u8>> {
        let n = operations::pwrite(file, &buf, offset).await.map_err(of)?;
        full(n, buf)
    }

    async fn sync(&self, file: &Rc<OwnedFd>) -> io::Result<()> {
        operations::fsync(file).await.map_err(of)
    }

    async fn visit(&self, path: PathBuf, mut buf: Vec<u8>) -> io::Result<(u64, Vec<u8>)> {
        let path = CString::new(path.into_os_string().into_vec())?;
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let file = operations::open(&path, flags, 0.into()).await.map_err(of)?;
        let len = operations::fstat(&file).await.map_err(of)?.stx_size;
        let n = operations::pread(&file, &mut buf, 0).await.map_err(of)?;
        operations::close(file).await.map_err(of)?;
        Ok((len, full(n, buf)?))
    }

    async fn conn(&self, stream: TcpStream) -> io::Result<OwnedFd> {
        Ok(stream.into())
    }

    async fn recv(&self, conn: &mut OwnedFd, mut buf: Vec<u8>) -> io::Result<(usize, Vec<u8>)> {
        let n = operations::recv(conn, &mut buf, RecvFlags::empty(), None).await.map_err(of)?;
        Ok((n, buf))
    }

    async fn send(&self, conn: &mut OwnedFd, buf: Vec<u8>) -> io::Result<Vec<u8>> {
        let mut sent = 0;
        while sent < buf.len() {
            let send = operations::send(conn, &buf[sent..], SendFlags::NOSIGNAL, None);
            sent += send.await.map_err(of)?;
        }
        Ok(buf)
    }

    async fn sleep(&self, time: Duration) -> io::Result<()> {
        operations::sleep(time).await.map_err(of)
    }
}
