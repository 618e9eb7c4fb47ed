//! Contents: what was written is what is read.

use deferring::fs::File;
use deferring::{BufResult, Fd};
use futures_util::future::join_all;

use crate::buffer::Watched;
use crate::stage::Stage;

const SIZE: usize = 20_000;

/// What a file holds, as far as it is known.
struct Model {
    bytes: Vec<Option<u8>>,
    len: usize,
    /// An op that may still be under way changes the length.
    is_certain: bool,
}

pub(crate) async fn play(mut stage: Stage) {
    let options = File::options().read(true).write(true).create(true);
    let path = stage.path("data");
    let opened = stage.oracle.result(&stage.ring, "an open", options.open(&stage.ring, path)).await;
    let Some(opened) = opened else { return };
    let Ok(file) = opened else { return assert!(stage.fails, "{opened:?}") };
    let mut model = Model { bytes: vec![Some(0); SIZE * 2], len: 0, is_certain: true };
    for _ in 0..stage.rng.usize(1..40) {
        match stage.rng.u8(..8) {
            0..3 => write(&mut stage, file.fd(), &mut model).await,
            3..6 => read(&mut stage, file.fd(), &model).await,
            6 => many_reads(&mut stage, file.fd(), &model).await,
            _ => {
                let Some(synced) =
                    stage.oracle.result(&stage.ring, "an fsync", file.sync_all()).await
                else {
                    continue;
                };
                assert!(synced.is_ok() || stage.fails, "{synced:?}");
            }
        }
    }
    stage.oracle.result(&stage.ring, "a close", file.close()).await;
}

async fn write(stage: &mut Stage, fd: &Fd, model: &mut Model) {
    let (at, len) = (stage.rng.usize(..SIZE), stage.rng.usize(..5000));
    let fill = stage.rng.u8(..);
    let buffer = Watched::new(&stage.oracle, vec![fill; len]);
    let handle = stage.ring.write(fd, buffer, at as u64);
    match stage.oracle.result(&stage.ring, "a write", handle).await {
        Some(BufResult(Ok(n), buffer)) => {
            assert!(n <= len && (n > 0 || len == 0));
            drop(buffer);
            model.bytes[at..at + n].fill(Some(fill));
            if n > 0 {
                model.len = model.len.max(at + n);
            }
        }
        Some(BufResult(Err(error), _)) => panic!("a write: {error}"),
        // It may happen yet.
        None => {
            model.bytes[at..at + len].fill(None);
            model.is_certain = false;
        }
    }
}

async fn read(stage: &mut Stage, fd: &Fd, model: &Model) {
    let (at, len) = (stage.rng.usize(..SIZE), stage.rng.usize(..5000));
    let buffer = Watched::blank(&stage.oracle, len);
    let mut handle = stage.ring.read(fd, buffer, at as u64);
    if stage.rng.u8(..4) == 0 {
        let time = std::time::Duration::from_micros(stage.rng.u64(..2000));
        handle = handle.timeout(time);
    }
    if let Some(answer) = stage.oracle.result(&stage.ring, "a read", handle).await {
        check(stage, answer, at, len, model);
    }
}

async fn many_reads(stage: &mut Stage, fd: &Fd, model: &Model) {
    let places: Vec<(usize, usize)> = (0..stage.rng.usize(1..32))
        .map(|_| (stage.rng.usize(..SIZE), stage.rng.usize(..200)))
        .collect();
    let reads = places.iter().map(|&(at, len)| {
        let handle = stage.ring.read(fd, Watched::blank(&stage.oracle, len), at as u64);
        stage.oracle.result(&stage.ring, "one of many reads", handle)
    });
    let answers = join_all(reads).await;
    for (answer, (at, len)) in answers.into_iter().zip(places) {
        if let Some(answer) = answer {
            check(stage, answer, at, len, model);
        }
    }
}

fn check(stage: &Stage, answer: BufResult<usize, Watched>, at: usize, len: usize, model: &Model) {
    let BufResult(result, buffer) = answer;
    let n = match result {
        Ok(n) => n,
        Err(error) if error.kind() == std::io::ErrorKind::TimedOut => 0,
        Err(error) => return assert!(stage.fails, "a read: {error}"),
    };
    let read = buffer.read(n);
    let there = model.len.saturating_sub(at).min(len);
    assert!(n <= there || !model.is_certain, "{n} bytes of {there} are read");
    for (byte, known) in read.iter().zip(&model.bytes[at..]) {
        assert!(known.is_none_or(|known| known == *byte), "a byte is not what was written");
    }
}
