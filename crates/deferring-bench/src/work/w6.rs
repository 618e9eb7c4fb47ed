//! Question: what does it cost to receive a message over TCP and to send it back, on 64 connections
//! at once, of 64 bytes and of 4 KiB? Baseline: a loop with the crate `io-uring` on a ring with
//! `IORING_SETUP_DEFER_TASKRUN`, by recv and send.
//!
//! On the other side a thread sends one message on each connection, waits for all to come back,
//! looks at them, and begins anew; its processor time is taken off. Ours, too, is by recv and send.
#![allow(unsafe_code)] // SQEs carry addresses, not borrows.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, anyhow, ensure};
use io_uring::{IoUring, opcode, types};

use super::Files;
use crate::api::{Api, Job, Need, our_lane};
use crate::contest::{Measured, Runner};
use crate::cost::{Ran, thread_time};
use crate::field::Field;
use crate::file::{check, stamp};
use crate::options::Options;
use crate::ours::Driver;

const CONNS: usize = 64;

/// `MSG_NOSIGNAL`.
const NOSIGNAL: i32 = 0x4000;

/// `defer_taskrun` is what the baseline has.
const DRIVERS: &[Driver] = &[
    Driver::BlockOn,
    Driver::BlockOnDefer,
    Driver::Thread,
    Driver::TokioCurrent,
    Driver::TokioMulti,
    Driver::AsyncIo,
];

pub(crate) fn run(options: &Options, _: &Files<'_>) -> anyhow::Result<Vec<Measured>> {
    let measured = [("w6-64", 64), ("w6-4096", 4096)].map(|(id, bytes)| {
        let title = format!("TCP echo of {bytes} bytes on {CONNS} connections");
        let mut field = Field::new(id, title, "message");
        field.drivers = DRIVERS;
        let raw = move || {
            let (job, mut raw) = (Echo::new(bytes)?, Raw::new()?);
            Ok(Runner::new(move |ops| {
                job.begin(ops)?;
                let enters = raw.echo(&job.servers, bytes, ops)?;
                Ok(Ran { enters: Some(enters), ..job.end()? })
            }))
        };
        let contest = field.contest(options, raw, move || Echo::new(bytes));
        contest.hold(options.timed(7, 200, CONNS * 4), || Ok(()))
    });
    measured.into_iter().collect()
}

/// Connections, both ends.
#[derive(Clone)]
struct Echo {
    bytes: usize,
    servers: Arc<[TcpStream]>,
    clients: Arc<[TcpStream]>,
    /// Who sends and looks, and how much processor time that took.
    client: Arc<Mutex<Option<JoinHandle<anyhow::Result<Duration>>>>>,
}

impl Echo {
    fn new(bytes: usize) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("bind")?;
        let address = listener.local_addr()?;
        let (mut servers, mut clients) = (Vec::new(), Vec::new());
        for _ in 0..CONNS {
            let client = TcpStream::connect(address).context("connect")?;
            let (server, _) = listener.accept().context("accept")?;
            for end in [&client, &server] {
                end.set_nodelay(true)?;
            }
            // So that an echo that does not come is an error.
            client.set_read_timeout(Some(Duration::from_secs(20)))?;
            servers.push(server);
            clients.push(client);
        }
        let (servers, clients) = (servers.into(), clients.into());
        Ok(Self { bytes, servers, clients, client: Arc::default() })
    }
}

fn client(conns: &[TcpStream], bytes: usize, times: usize) -> anyhow::Result<Duration> {
    let before = thread_time();
    let mut buf = vec![7; bytes];
    let message = |time: usize, at: usize| (time * CONNS + at) as u64;
    for time in 0..times {
        for (at, mut conn) in conns.iter().enumerate() {
            stamp(&mut buf, message(time, at));
            conn.write_all(&buf).context("sending")?;
        }
        for (at, mut conn) in conns.iter().enumerate() {
            conn.read_exact(&mut buf).context("waiting for the echo")?;
            check(&mut buf, message(time, at))?;
        }
    }
    Ok(thread_time() - before)
}

impl Job for Echo {
    const NEEDS: Need = Need::Net;

    fn lanes(&self) -> usize {
        CONNS
    }

    fn begin(&self, ops: usize) -> anyhow::Result<()> {
        let (clients, bytes) = (Arc::clone(&self.clients), self.bytes);
        let client = thread::spawn(move || client(&clients, bytes, ops / CONNS));
        *self.client.lock().expect("no panics under it") = Some(client);
        Ok(())
    }

    async fn lane<A: Api>(
        self,
        api: A,
        _: Option<A::File>,
        lane: usize,
        ops: usize,
    ) -> anyhow::Result<()> {
        let mut conn = api.conn(self.servers[lane].try_clone()?).await?;
        let mut buf = vec![0; self.bytes];
        let mut left = ops * self.bytes;
        while left > 0 {
            let n;
            (n, buf) = api.recv(&mut conn, buf).await?;
            ensure!(n > 0, "the other side is gone");
            left -= n;
            // Back what came, which is nearly always all of it.
            buf.truncate(n);
            buf = api.send(&mut conn, buf).await?;
            buf.resize(self.bytes, 0);
        }
        Ok(())
    }

    fn end(&self) -> anyhow::Result<Ran> {
        let client = self.client.lock().expect("no panics under it").take();
        let client = client.context("begun before")?.join();
        let of_others = client.map_err(|_| anyhow!("the client panicked"))??;
        Ok(Ran { of_others, ..Ran::default() })
    }

    our_lane!();
}

/// The baseline: on each connection a recv, then a send of what came.
struct Raw {
    ring: IoUring,
}

impl Raw {
    fn new() -> anyhow::Result<Self> {
        let mut builder = IoUring::builder();
        builder.setup_single_issuer().setup_defer_taskrun();
        Ok(Self { ring: builder.build(u32::try_from(CONNS)?)? })
    }

    fn echo(&mut self, conns: &[TcpStream], bytes: usize, ops: usize) -> anyhow::Result<u64> {
        let mut bufs = vec![vec![0_u8; bytes]; CONNS];
        let mut left = vec![ops / CONNS * bytes; CONNS];
        let (mut open, mut enters) = (CONNS, 0);
        let mut came = Vec::with_capacity(2 * CONNS);
        for (at, buf) in bufs.iter_mut().enumerate() {
            self.recv(&conns[at], at, buf);
        }
        while open > 0 {
            self.ring.submit_and_wait(1)?;
            enters += 1;
            came.clear();
            came.extend(self.ring.completion().map(|cqe| (cqe.user_data(), cqe.result())));
            for &(data, result) in &came {
                let (at, sent) = (usize::try_from(data >> 1)?, data & 1 == 1);
                let n = usize::try_from(result).context("recv or send failed")?;
                ensure!(n > 0, "the other side is gone");
                if !sent {
                    self.send(&conns[at], at, &bufs[at][..n]);
                    continue;
                }
                left[at] -= n;
                match left[at] {
                    0 => open -= 1,
                    _ => self.recv(&conns[at], at, &mut bufs[at]),
                }
            }
        }
        Ok(enters)
    }

    fn recv(&mut self, conn: &TcpStream, at: usize, buf: &mut [u8]) {
        let len = u32::try_from(buf.len()).expect("a message is small");
        let fd = types::Fd(conn.as_raw_fd());
        let entry = opcode::Recv::new(fd, buf.as_mut_ptr(), len).build().user_data(at as u64 * 2);
        // SAFETY: the buffers stay until nothing is in the ring; an error ends the program.
        unsafe { self.ring.submission().push(&entry).expect("one for each connection") };
    }

    fn send(&mut self, conn: &TcpStream, at: usize, buf: &[u8]) {
        let len = u32::try_from(buf.len()).expect("a message is small");
        let fd = types::Fd(conn.as_raw_fd());
        let data = at as u64 * 2 + 1;
        let entry =
            opcode::Send::new(fd, buf.as_ptr(), len).flags(NOSIGNAL).build().user_data(data);
        // SAFETY: as of `recv`.
        unsafe { self.ring.submission().push(&entry).expect("one for each connection") };
    }
}
