//! `block_on` with a simulation's ring: it waits in virtual time, like the program around it.

use std::cell::Cell;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Poll;
use std::time::Duration;

use deferring::{BufResult, Ring, block_on, fs::File, time::sleep};
use deferring_sim::{Faults, PowerLost, Sim, check};
use futures_util::future::{join, join_all};

const HOUR: Duration = Duration::from_secs(3600);

/// What a program that is not async would do: one call after the other.
fn write_and_read(ring: &Ring, path: &str) {
    let file = block_on(ring, File::options().read(true).write(true).create(true).open(ring, path));
    let file = file.unwrap();
    block_on(ring, file.write_all_at(vec![7; 5000], 0)).0.unwrap();
    block_on(ring, file.sync_all()).unwrap();
    let BufResult(n, bytes) = block_on(ring, file.read_at(Vec::with_capacity(64), 4990));
    let n = n.unwrap();
    assert!((1..=10).contains(&n) && bytes == vec![7; n]);
    block_on(ring, file.close()).unwrap();
}

#[test]
fn it_waits_in_virtual_time() {
    let sim = Sim::new(1).patience(3 * HOUR);
    sim.run(async |ring| {
        block_on(&ring, sleep(&ring, HOUR)).unwrap();
        assert!((HOUR..HOUR + Duration::from_secs(1)).contains(&sim.age()));
        // What the program around it has asked for goes on meanwhile.
        let other = ring.nop();
        let sleeps = (1..=60).map(|n| sleep(&ring, HOUR / n));
        block_on(&ring, join_all(sleeps)).into_iter().for_each(|slept| slept.unwrap());
        assert!(other.is_done());
        other.await.unwrap();
    })
    .unwrap();
    assert!((2 * HOUR..3 * HOUR).contains(&sim.age()));
}

#[test]
fn under_faults_it_goes_on_and_the_same_seed_gives_the_same_run() {
    check(0..100, |sim| {
        let seed = sim.seed();
        let run = |sim: &Sim| {
            sim.run(async |ring| {
                write_and_read(&ring, "/one");
                let long = async { sleep(&ring, HOUR / 2).await.unwrap() };
                let work = async {
                    sleep(&ring, HOUR / 4).await.unwrap();
                    // In a future that another one waits beside.
                    write_and_read(&ring, "/other");
                };
                join(long, work).await;
            })
            .unwrap();
            assert!(sim.age() >= HOUR / 2);
        };
        let sim = sim.faults(Faults::all()).traced();
        run(&sim);
        let again = Sim::new(seed).faults(Faults::all()).traced();
        run(&again);
        assert_eq!(sim.trace(), again.trace());
        assert_eq!((sim.in_flight(), sim.open_descriptors()), (0, 0));
    });
}

#[test]
fn a_ring_that_was_kept_is_turned_by_it_in_virtual_time() {
    let sim = Sim::new(2).faults(Faults::all());
    let ring = sim.run(async |ring| ring).unwrap();
    block_on(&ring, sleep(&ring, 100 * HOUR)).unwrap();
    assert!(sim.age() >= 100 * HOUR);
    write_and_read(&ring, "/kept");
    drop(ring);
    assert_eq!((sim.read("/kept").unwrap(), sim.open_descriptors()), (vec![7; 5000], 0));
}

#[test]
fn for_a_future_that_yields_time_passes_until_another_is_done() {
    check(0..20, |sim| {
        let sim = sim.faults(Faults::all());
        sim.run(async |ring| {
            let slept = Cell::new(false);
            let sleeps = async {
                sleep(&ring, Duration::from_millis(20)).await.unwrap();
                slept.set(true);
            };
            let yields = poll_fn(|cx| {
                if slept.get() {
                    return Poll::Ready(());
                }
                cx.waker().wake_by_ref();
                Poll::Pending
            });
            block_on(&ring, join(sleeps, yields));
        })
        .unwrap();
    });
}

#[test]
fn what_cannot_come_or_not_in_time_is_told() {
    let told = |program: fn(Ring)| {
        let sim = Sim::new(3).patience(Duration::from_millis(20));
        let ended = catch_unwind(AssertUnwindSafe(|| sim.run(async |ring| program(ring))));
        *ended.unwrap_err().downcast::<String>().unwrap()
    };
    let deadlock = told(|ring| block_on(&ring, std::future::pending()));
    assert!(deadlock.contains("nothing can happen any more"), "{deadlock}");
    let late = told(|ring| block_on(&ring, sleep(&ring, HOUR)).unwrap());
    assert!(late.contains("has not ended in time"), "{late}");
    let yields = told(|ring| {
        block_on(
            &ring,
            poll_fn(|cx| -> Poll<()> {
                cx.waker().wake_by_ref();
                Poll::Pending
            }),
        );
    });
    assert!(yields.contains("has not ended in time"), "{yields}");
}

#[test]
fn without_power_it_ends_with_errors() {
    check(0..50, |sim| {
        let sim = sim.faults(Faults::all());
        let ended = sim.run(async |ring| {
            let file = block_on(&ring, File::create(&ring, "/file")).unwrap();
            sim.lose_power();
            block_on(&ring, file.write_all_at("gone", 0)).0.unwrap_err();
            block_on(&ring, sleep(&ring, HOUR)).unwrap_err();
            // The program itself ends where it awaits something.
            std::future::pending::<()>().await;
        });
        assert_eq!(ended, Err(PowerLost));
    });
}
