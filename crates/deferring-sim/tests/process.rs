//! What a machine takes from the process that it is in, and what it does not take from it.
//!
//! One test, in a process of its own: descriptors are counted, and made scarce, and so are ops that leak.

use std::cell::RefCell;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use deferring::op::{Op, Openat2};
use deferring::{CWD, OFlags, Ring, fs::File, time::sleep};
use deferring_sim::{Faults, PowerLost, Sim};
use futures_util::future::join_all;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn descriptors_are_given_back_and_their_numbers_do_not_matter() {
    let before = descriptors();
    power_cuts_take_what_nobody_has_been_given();
    a_panic_takes_what_the_program_has();
    assert_eq!(descriptors(), before);
    numbers_that_come_again_are_others();
    an_end_is_closed_whoever_else_has_it();
    a_call_that_never_ends_does_not_keep_the_ring_from_ending();
    without_descriptors_nothing_is_made();
    assert_eq!(descriptors(), before);
}

fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

fn power_cuts_take_what_nobody_has_been_given() {
    for seed in 0..50 {
        let sim = Sim::new(seed).faults(Faults::all().late(1.0).power_loss(0.02));
        sim.mkfifo("/fifo").unwrap();
        let lost = sim.run(async |ring| {
            let fifo = |flags| ring.queue(Openat2::new(CWD, "/fifo").flags(flags).in_worker());
            let _ends = (fifo(OFlags::RDONLY), fifo(OFlags::WRONLY));
            loop {
                let opens = (0..8).map(|_| ring.queue(Openat2::new(CWD, "/")));
                join_all(opens).await;
            }
        });
        let Err(PowerLost) = lost;
    }
}

fn a_panic_takes_what_the_program_has() {
    for seed in 0..20 {
        let sim = Sim::new(seed).faults(Faults::all());
        let (input, output) = sim.pipe().unwrap();
        let run = || {
            sim.run(async |ring| {
                let _read = ring.read(&input, vec![0; 8], 0);
                let _opens: Vec<_> = (0..8).map(|_| ring.queue(Openat2::new(CWD, "/"))).collect();
                sleep(&ring, Duration::from_micros(50)).await.unwrap();
                panic!("as asked");
            })
        };
        let panic = catch_unwind(AssertUnwindSafe(run)).map(|_: Result<(), _>| ()).unwrap_err();
        assert_eq!(panic.downcast_ref::<&str>(), Some(&"as asked"));
        drop((input, output));
        assert_eq!((sim.in_flight(), sim.open_descriptors()), (0, 0));
        // It is a machine still.
        let made = sim.run(async |ring| File::create(&ring, "/file").await.map(drop));
        made.unwrap().unwrap();
    }
}

/// The same run, whether the numbers of what the program has dropped are free or not.
fn numbers_that_come_again_are_others() {
    let told = |seed: u64, taken: &RefCell<Vec<fs::File>>, take: bool| {
        let sim = Sim::new(seed).faults(Faults::all()).traced();
        let occupy = |_: &Ring| {
            if take {
                taken.borrow_mut().push(fs::File::open("/dev/null").unwrap());
            }
        };
        let _others: Vec<_> = (0..20).map(|_| sim.pipe().unwrap()).collect();
        sim.run(async |ring| {
            for _ in 0..40 {
                let (input, output) = sim.pipe().unwrap();
                drop(output);
                occupy(&ring);
                let file = File::create(&ring, "/file").await.unwrap();
                drop(file);
                occupy(&ring);
                let read = ring.read(&input, vec![0; 8], 0);
                assert_eq!(read.await.0.unwrap(), 0);
            }
        })
        .unwrap();
        sim.trace()
    };
    for seed in 0..20 {
        let taken = RefCell::default();
        assert!(told(seed, &taken, false) == told(seed, &taken, true), "seed {seed}");
    }
}

fn a_call_that_never_ends_does_not_keep_the_ring_from_ending() {
    let sim = Sim::new(0).faults(Faults::none().hangs_for_ever(1.0));
    let leaked = deferring::leaked_ops();
    sim.run(async |ring| {
        let open = ring.queue(Openat2::new(CWD, "/").in_worker());
        sleep(&ring, SECOND).await.unwrap();
        drop(open);
    })
    .unwrap();
    assert_eq!((sim.in_flight(), deferring::leaked_ops() - leaked), (1, 1));
}

/// A child has the end too until its `exec`, as this duplicate is there.
fn an_end_is_closed_whoever_else_has_it() {
    let sim = Sim::new(0);
    let (input, output) = sim.pipe().unwrap();
    let duplicate = output.lease().try_as_fd().unwrap().try_clone_to_owned().unwrap();
    let read = sim.run(async |ring| {
        let read = ring.read(&input, vec![0; 8], 0);
        drop(output);
        read.await.0.unwrap()
    });
    assert_eq!(read, Ok(0));
    drop(duplicate);
}

fn without_descriptors_nothing_is_made() {
    let limit = getrlimit(Resource::Nofile);
    let sim = Sim::new(0);
    sim.run(async |ring| {
        setrlimit(Resource::Nofile, Rlimit { current: Some(0), ..limit }).unwrap();
        let made = File::create(&ring, "/file").await;
        let pipe = sim.pipe();
        let opened = ring.queue(Openat2::new(CWD, "/")).await;
        setrlimit(Resource::Nofile, limit).unwrap();
        assert!(made.is_err());
        for error in [pipe.map(drop).unwrap_err(), opened.map(drop).unwrap_err()] {
            assert_eq!(error.raw_os_error(), Some(libc::EMFILE));
        }
        File::create(&ring, "/file").await.unwrap();
        sleep(&ring, SECOND).await.unwrap();
    })
    .unwrap();
    assert_eq!(sim.open_descriptors(), 0);
}
