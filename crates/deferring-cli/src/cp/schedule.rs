//! Many things at a time: as many as there are jobs, each a future on the one thread.
//!
//! What comes next is decided in `walk.rs`; what is done with each thing is in its own file. After
//! Ctrl-C nothing is begun any more, and what is under way comes to its end: data is given up
//! (`file.rs`), temporary files (`temporary.rs`) and names kept for hard links (`spill.rs`) are
//! removed.

use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use deferring::{FileType, time};
use futures_util::future::{Either, select};
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};

use super::Session;
use super::directory::Directory;
use super::item::Item;
use super::report::Kind;
use super::step::Failure;
use super::walk::{Walk, end_entry};
use super::{file, symlink};

/// How long after Ctrl-C to wait for what is under way and for what is removed at the end: a file
/// server may be dead.
const WIND_DOWN: Duration = Duration::from_secs(5);

/// Copies all of it. What fails is reported, and the rest goes on.
pub(super) async fn copy_all(session: &Session, roots: Vec<Item>, jobs: usize) {
    session.links.spill().plan(&roots);
    let mut walk = Walk::new(roots);
    let mut running = FuturesUnordered::new();
    // Among the others, and not beside them: `FuturesUnordered` wakes itself whenever it has polled
    // all it has, which costs a system call each time, and is so avoided when one file is left.
    running.push(Either::Right(session.interrupt.wait().map(|()| None)));
    while session.interrupt.signal().is_none() {
        while running.len() <= jobs {
            let Some(item) = walk.next(session) else { break };
            running.push(Either::Left(copy(session, item).map(Some)));
        }
        if running.len() == 1 {
            running.clear();
            break;
        }
        if let Some(Some(done)) = running.next().await {
            settle(session, &mut walk, done);
        }
    }
    let rest = pin!(async {
        while let Some(done) = running.next().await {
            done.into_iter().for_each(|done| settle(session, &mut walk, done));
        }
        session.links.spill().remove(session).await;
    });
    let deadline = pin!(async {
        if session.interrupt.signal().is_none() {
            session.interrupt.wait().await;
        }
        time::sleep(&session.ring, WIND_DOWN).await
    });
    if let Either::Right(_) = select(rest, deadline).await {
        session.report.complain("gave up waiting for the kernel; temporary files may be left");
        if let Some(left) = session.links.spill().left() {
            let error = io::Error::other("no time to remove it; it is not needed any more");
            session.report.failure(&Failure::new("unlinkat", left.to_owned(), error));
        }
    }
}

/// How a thing ended, and what it was.
struct Done {
    item: Item,
    result: Result<Copied, Failure>,
}

enum Copied {
    Directory(Rc<Directory>),
    Other,
}

async fn copy(session: &Session, item: Item) -> Done {
    let copied = |()| Copied::Other;
    let result = match item.kind {
        FileType::Directory => Directory::enter(session, &item).await.map(Copied::Directory),
        FileType::Symlink => symlink::copy(session, &item).await.map(copied),
        // What a listing could not tell: the open will.
        FileType::Regular | FileType::Unknown => file::copy(session, &item).await.map(copied),
        special @ (FileType::Fifo
        | FileType::Socket
        | FileType::CharDevice
        | FileType::BlockDevice
        | _) => {
            session.report.skipped(&item.source_path(), special);
            Ok(Copied::Other)
        }
    };
    Done { item, result }
}

fn settle(session: &Session, walk: &mut Walk, Done { item, result }: Done) {
    match result {
        Ok(Copied::Directory(entered)) => {
            session.report.copied(Kind::Directory);
            // Its own entry ends when it is left.
            return walk.entered(Some(entered));
        }
        Ok(Copied::Other) | Err(Failure::Interrupted) => {}
        Err(failure @ Failure::Step { .. }) => session.report.failure(&failure),
    }
    if item.kind.is_dir() {
        walk.entered(None);
    }
    end_entry(item.parent.clone(), session);
}
