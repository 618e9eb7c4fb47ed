//! FIFOs: opens that wait for each other, many more than there are workers (the seed's deadlock).

use std::time::Duration;

use deferring::op::{Op, Openat2};
use deferring::{BufResult, CWD, OFlags};
use futures_util::future::join_all;

use crate::buffer::Watched;
use crate::stage::Stage;

pub(crate) async fn play(mut stage: Stage) {
    let ring = stage.ring.clone();
    let crowd = stage.rng.usize(1..60);
    for n in 0..crowd {
        stage.sim.mkfifo(stage.path(&format!("f{n}"))).expect("a fifo");
    }
    let said = stage.rng.bool();
    let mut order: Vec<usize> = (0..crowd).collect();
    stage.rng.shuffle(&mut order);
    let pause = Duration::from_micros(stage.rng.u64(..100_000));
    let open = |n: usize, flags| {
        let open = Openat2::new(CWD, stage.path(&format!("f{n}"))).flags(flags);
        if said { ring.queue(open.may_block()) } else { ring.queue(open.in_worker()) }
    };
    // One side first, all of it.
    let readers: Vec<_> = (0..crowd).map(|n| open(n, OFlags::RDONLY)).collect();
    if said {
        deferring::time::sleep(&ring, pause).await.expect("a sleep");
    }
    let writers: Vec<_> = order.iter().map(|&n| open(n, OFlags::WRONLY)).collect();
    let result = |handle| stage.oracle.result(&ring, "the open of a fifo", handle);
    let opened = join_all(readers.into_iter().chain(writers).map(result)).await;
    let (readers, writers) = opened.split_at(crowd);
    for (writer, &n) in writers.iter().zip(&order) {
        let (Some(reader), Some(writer)) = (&readers[n], writer) else { continue };
        let reader = reader.as_ref().expect("the other end has come");
        let writer = writer.as_ref().expect("the other end has come");
        let said = u8::try_from(n).expect("few");
        let byte = Watched::new(&stage.oracle, vec![said]);
        let sent = stage.oracle.result(&ring, "a write", ring.write(writer, byte, 0)).await;
        assert!(sent.is_some_and(|BufResult(n, _)| n.is_ok_and(|n| n == 1)));
        let got = ring.read(reader, Watched::blank(&stage.oracle, 8), 0);
        match stage.oracle.result(&ring, "a read", got).await {
            Some(BufResult(Ok(1), buffer)) => assert_eq!(buffer.read(1), [said]),
            Some(BufResult(got, _)) => assert!(stage.fails, "{got:?}"),
            None => panic!("reads from pipes do not hang"),
        }
    }
}
