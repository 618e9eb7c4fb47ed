//! The data of one file: read and written block by block, several blocks at a time.
//!
//! Where data is, is known to `extents.rs`; the memory is that of `buffers.rs`. Files may grow and
//! shrink meanwhile: what is there is copied, up to the end that a read finds.

use std::cell::Cell;
use std::io;
use std::ops::Range;

use deferring::op::Opcode;
use deferring::{BufResult, FallocateFlags, Fd, IoBuf, Stat};
use futures_util::future::join_all;
use rustix::io::Errno;

use super::Session;
use super::buffers::Held;
use super::extents::{Blocks, Extents};
use super::item::Item;
use super::step::{Failure, errno};

/// Blocks of one file in flight. The kernel writes those of one file one after the other anyhow;
/// this many hide reads behind writes.
const LANES_MAX: usize = 8;

pub(super) async fn copy(
    session: &Session,
    item: &Item,
    from: &Fd,
    to: &Fd,
    stat: &Stat,
) -> Result<(), Failure> {
    let size = stat.size().unwrap_or(0);
    let sparse = stat.blocks().is_some_and(|blocks| blocks.saturating_mul(512) < size);
    let data = Data { session, item, from, to, size, end: Cell::new(u64::MAX) };
    if !sparse && size <= session.buffers.block() as u64 {
        return data.copy_rest(0).await;
    }
    if !sparse {
        data.reserve().await?;
    }
    data.copy_extents(Extents::new(size, sparse)).await?;
    if data.end.get() < size {
        return data.set_len(data.end.get()).await;
    }
    if sparse {
        // The last hole.
        data.set_len(size).await?;
    }
    data.copy_rest(size).await
}

struct Data<'a> {
    session: &'a Session,
    item: &'a Item,
    from: &'a Fd,
    to: &'a Fd,
    /// When it was opened.
    size: u64,
    /// Where a read found the end, if before that.
    end: Cell<u64>,
}

impl Data<'_> {
    /// Takes the room at once: the copy is in one piece on the disk, and a full disk shows early.
    async fn reserve(&self) -> Result<(), Failure> {
        let flags = FallocateFlags::KEEP_SIZE;
        let reserved = self.session.ring.fallocate(self.to, flags, 0, self.size).await;
        match reserved {
            Err(error) if matches!(errno(&error), Some(Errno::NOSPC | Errno::DQUOT)) => {
                Err(self.failed_to("fallocate", error))
            }
            // Not every file system can; writing is what counts.
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Copies blocks side by side. After a failure, those under way are waited for, and no more.
    async fn copy_extents(&self, extents: Extents) -> Result<(), Failure> {
        let blocks = Blocks::new(extents, self.session.buffers.block() as u64);
        let lanes = self.session.buffers.lanes(LANES_MAX).into_iter();
        join_all(lanes.map(|buf| self.copy_blocks(&blocks, buf))).await.into_iter().collect()
    }

    /// Copies one block after the other, as long as there are more.
    async fn copy_blocks(&self, blocks: &Blocks, mut held: Held<'_>) -> Result<(), Failure> {
        loop {
            let block = match blocks.next(self.from) {
                Ok(Some(block)) if block.start < self.end.get() => block,
                Ok(_) => return Ok(()),
                Err(error) => return Err(self.failed_from("lseek", error)),
            };
            let copied = self.copy_block(block, &mut held).await;
            if copied.is_err() {
                blocks.stop();
                return copied;
            }
        }
    }

    async fn copy_block(&self, block: Range<u64>, held: &mut Held<'_>) -> Result<(), Failure> {
        let mut at = block.start;
        while at < block.end {
            match self.copy_once(at, block.end - at, held).await? {
                0 => {
                    self.end.set(self.end.get().min(at));
                    break;
                }
                n => at += n,
            }
        }
        Ok(())
    }

    /// Copies from here to the end, wherever that is by now.
    async fn copy_rest(&self, start: u64) -> Result<(), Failure> {
        let block = self.session.buffers.block() as u64;
        let mut held = self.session.buffers.own();
        let mut at = start;
        loop {
            // One more than expected: a read that then falls short has met the end.
            let want = if self.size > at { (self.size - at + 1).min(block) } else { block };
            let n = self.copy_once(at, want, &mut held).await?;
            at += n;
            // Files in /proc say that they are empty, and then give what they like.
            if n == 0 || self.size > 0 && at >= self.size && n < want {
                return Ok(());
            }
        }
    }

    /// One read, and what it takes to write that. 0 at the end of the file.
    async fn copy_once(&self, at: u64, want: u64, held: &mut Held<'_>) -> Result<u64, Failure> {
        let want = usize::try_from(want).expect("at most a block");
        let read = self.session.ring.read(self.from, held.take().slice(..want), at);
        let BufResult(read, part) = read.await;
        held.put(part.into_inner());
        match read {
            Ok(0) => Ok(0),
            Ok(n) => self.write_all(at, n, held).await,
            Err(error) => Err(self.failed_from("read", error)),
        }
    }

    async fn write_all(&self, at: u64, len: usize, held: &mut Held<'_>) -> Result<u64, Failure> {
        let mut done = 0;
        while done < len {
            let part = held.take().slice(done..len);
            let BufResult(written, part) =
                self.session.ring.write(self.to, part, at + done as u64).await;
            held.put(part.into_inner());
            match written {
                Ok(0) => return Err(self.failed_to("write", Errno::IO.into())),
                Ok(n) => {
                    self.session.report.wrote(n);
                    done += n;
                }
                Err(error) => return Err(self.failed_to("write", error)),
            }
        }
        Ok(len as u64)
    }

    async fn set_len(&self, len: u64) -> Result<(), Failure> {
        let ring = &self.session.ring;
        let set = if ring.supports(Opcode::FTRUNCATE) {
            ring.ftruncate(self.to, len).await
        } else {
            let lease = self.to.lease();
            lease.try_as_fd().and_then(|to| Ok(rustix::fs::ftruncate(to, len)?))
        };
        set.map_err(|error| self.failed_to("ftruncate", error))
    }

    fn failed_from(&self, step: &'static str, error: io::Error) -> Failure {
        Failure::new(step, self.item.source_path(), error)
    }

    fn failed_to(&self, step: &'static str, error: io::Error) -> Failure {
        Failure::new(step, self.item.target_path(), error)
    }
}
