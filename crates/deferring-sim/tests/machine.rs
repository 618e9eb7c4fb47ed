//! What the machine does, and that it does it again.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::io::ErrorKind;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::{Context, Poll};
use std::time::Duration;

use deferring::op::{Op, Opcode, Openat2};
use deferring::{
    BufResult, CWD, CancelOutcome, Fd, OFlags, PollFlags, Ring, fs::File, time::sleep,
};
use deferring_sim::{Fault, Faults, PowerLost, Sim, check};
use futures_util::future::{join, join_all};

const SECOND: Duration = Duration::from_secs(1);

/// Some of everything, at once.
async fn program(ring: Ring, input: Fd, output: Fd) {
    let files = (0..8u8).map(|n| {
        let ring = &ring;
        async move {
            let path = format!("/{n}");
            let options = File::options().read(true).write(true).create(true);
            let file = options.open(ring, &path).await.unwrap();
            file.write_all_at(vec![n; 5000], 0).await.0.unwrap();
            file.sync_all().await.unwrap();
            let BufResult(read, bytes) = file.read_at(Vec::with_capacity(64), 4990).await;
            let read = read.unwrap();
            assert!((1..=10).contains(&read) && bytes == vec![n; read]);
            file.close().await.unwrap();
        }
    });
    let pipe = async {
        let write = ring.write(&output, vec![7; 100], 0);
        let BufResult(n, _) = ring.read(&input, Vec::with_capacity(100), 0).await;
        assert!(n.unwrap() > 0 && write.await.0.unwrap() > 0);
    };
    let work = join(join_all(files), pipe);
    let (_, slept) = join(work, sleep(&ring, 5 * SECOND)).await;
    slept.unwrap();
}

fn trace_of(seed: u64) -> (String, u64) {
    let sim = Sim::new(seed).faults(Faults::all()).traced();
    let (input, output) = sim.pipe().unwrap();
    sim.run(async |ring| program(ring, input, output).await).unwrap();
    (sim.trace(), sim.digest())
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let (first, other) = (trace_of(1), trace_of(2));
    assert_eq!(first, trace_of(1));
    assert_ne!(first.0, other.0);
    assert!(first.0.lines().count() > 60, "{}", first.0);
}

#[test]
fn faults_that_were_not_asked_for_one_by_one_go_unnoticed() {
    check(0..200, |sim| {
        let sim = sim.faults(Faults::all());
        let (input, output) = sim.pipe().unwrap();
        sim.run(async |ring| program(ring, input, output).await).unwrap();
        assert!(sim.struck() > 0);
        assert_eq!((sim.in_flight(), sim.open_descriptors()), (0, 0));
    });
}

#[test]
fn each_fault_is_counted_by_its_kind() {
    let mut struck = BTreeMap::new();
    for seed in 0..50 {
        let sim = Sim::new(seed).faults(Faults::all().errno(Opcode::NOP, libc::EIO, 1.0));
        let (input, output) = sim.pipe().unwrap();
        let run = sim.run(async |ring| {
            ring.nop().await.unwrap_err();
            program(ring.clone(), input, output).await;
            let (input, _output) = sim.pipe().unwrap();
            let read = ring.read(&input, vec![0; 8], 0);
            sleep(&ring, SECOND).await.unwrap(); // What has not begun needs no cancel.
            read.cancel().await;
        });
        run.unwrap();
        let kinds = sim.faults_struck();
        assert_eq!(kinds.values().sum::<u64>(), sim.struck());
        struck.extend(kinds);
    }
    let kinds = [
        Fault::Late,
        Fault::ShortTransfer,
        Fault::Undone,
        Fault::RefusedSubmit,
        Fault::InterruptedWait,
        Fault::DeadSubmitter,
        Fault::MissedCancel,
        Fault::Errno,
    ];
    assert_eq!(struck.into_keys().collect::<Vec<_>>(), kinds);
    assert!(Sim::new(0).faults_struck().is_empty());
}

#[test]
fn a_transfer_of_nothing_is_no_transfer() {
    check(0..20, |sim| {
        let (input, output) = sim.pipe().unwrap();
        let (one, other) = sim.socket_pair().unwrap();
        sim.write("/file", "there").unwrap();
        let faults = Faults::all().short_transfers(0.0);
        sim.set_faults(faults.clone().zero_transfers(1.0));
        let told = sim.run(async |ring| {
            let options = File::options().read(true).write(true);
            let file = options.open(&ring, "/file").await.unwrap();
            // What is sent while nothing goes wrong is there, and still read as nothing.
            sim.set_faults(Faults::none());
            assert_eq!(ring.write(&output, vec![7; 5], 0).await.0.unwrap(), 5);
            assert_eq!(ring.write(&other, vec![7; 5], 0).await.0.unwrap(), 5);
            sim.set_faults(faults.clone().zero_transfers(1.0));
            for fd in [file.fd(), &input, &one] {
                assert_eq!(ring.read(fd, vec![0; 9], 0).await.0.unwrap(), 0);
                let BufResult(n, parts) = ring.readv(fd, vec![vec![0; 9]], 0).await;
                assert_eq!((n.unwrap(), parts), (0, vec![vec![0; 9]]));
            }
            for fd in [file.fd(), &output, &one] {
                assert_eq!(ring.write(fd, vec![1; 9], 0).await.0.unwrap(), 0);
                assert_eq!(ring.writev(fd, vec![vec![1; 9]], 0).await.0.unwrap(), 0);
            }
            let all = file.write_all_at("more", 5).await.0.unwrap_err();
            assert_eq!(all.kind(), ErrorKind::WriteZero);
            let told = sim.faults_struck()[&Fault::ZeroTransfer];
            // All is as it was, for whoever asks again.
            sim.set_faults(faults);
            assert_eq!(sim.read("/file").unwrap(), b"there");
            for fd in [file.fd(), &input, &one] {
                assert_eq!(ring.read(fd, vec![0; 9], 0).await.0.unwrap(), 5);
            }
            // At the end of a file nothing is nothing, and no fault.
            assert_eq!(ring.read(file.fd(), vec![0; 9], 5).await.0.unwrap(), 0);
            told
        });
        assert_eq!(told.unwrap(), 13);
        assert_eq!(sim.faults_struck()[&Fault::ZeroTransfer], 13);
    });
}

#[test]
fn a_program_that_asks_again_gets_all_in_spite_of_transfers_of_nothing() {
    check(0..50, |sim| {
        let (input, output) = sim.pipe().unwrap();
        let sim = sim.faults(Faults::all().zero_transfers(0.3));
        let sent: Vec<u8> = (0..100_000u32).map(|n| n.to_le_bytes()[0]).collect();
        let got = sim.run(async |ring| {
            let write = async {
                let mut left = &sent[..];
                while !left.is_empty() {
                    left = &left[ring.write(&output, left.to_vec(), 0).await.0.unwrap()..];
                }
            };
            let read = async {
                let mut got = Vec::new();
                while got.len() < sent.len() {
                    let BufResult(n, bytes) = ring.read(&input, vec![0; 4096], 0).await;
                    got.extend_from_slice(&bytes[..n.unwrap()]);
                }
                got
            };
            join(write, read).await.1
        });
        assert!(got.unwrap() == sent, "bytes are lost, or out of order");
        assert!(sim.faults_struck()[&Fault::ZeroTransfer] > 0);
    });
}

#[test]
fn what_is_switched_off_takes_no_chance_from_the_rest() {
    let trace = |faults| {
        let sim = Sim::new(3).faults(faults).traced();
        let (input, output) = sim.pipe().unwrap();
        sim.run(async |ring| program(ring, input, output).await).unwrap();
        sim.trace()
    };
    let off = Faults::all().zero_transfers(0.0).hangs(0.0).errno(Opcode::READ, libc::EIO, 0.0);
    assert_eq!(trace(off), trace(Faults::all()));
}

#[test]
fn a_run_hears_nothing_of_the_one_before() {
    check(0..50, |sim| {
        let sim = sim.faults(Faults::all());
        for _ in 0..3 {
            // It ends while the ring's own alarm is out.
            let made = sim.run(async |ring| File::create(&ring, "/file").await.map(drop));
            made.unwrap().unwrap();
            assert_eq!(sim.in_flight(), 0);
        }
    });
}

#[test]
fn a_submit_takes_something_or_says_why_not() {
    check(0..20, |sim| {
        let sim = sim.faults(Faults::none().refused_submits(0.5)).traced();
        sim.run(async |ring| {
            for _ in 0..20 {
                sleep(&ring, SECOND).await.unwrap();
            }
        })
        .unwrap();
        assert!(sim.struck() > 5 && !sim.trace().contains("takes 0"), "{}", sim.trace());
    });
}

#[test]
fn what_a_submit_has_not_taken_is_sent_all_the_same() {
    check(0..500, |sim| {
        let ring = Ring::builder().queue_depth(2).completions(4);
        let sim = sim.faults(Faults::none().refused_submits(0.5)).ring(ring);
        let (input, output) = sim.pipe().unwrap();
        sim.run(async |ring| {
            let reads = join_all((0..3).map(|_| ring.read(&input, vec![0], 0)));
            let writes = join_all((0..3).map(|_| ring.write(&output, "x", 0)));
            join(reads, writes).await;
        })
        .unwrap();
    });
}

#[test]
fn a_year_takes_no_time() {
    let sim = Sim::new(0).patience(Duration::MAX);
    let year = 365 * 24 * 3600 * SECOND;
    sim.run(async |ring| sleep(&ring, year).await).unwrap().unwrap();
    assert!(sim.age() >= year && sim.steps() < 1000);
}

#[test]
fn a_program_that_waits_for_nothing_is_told_so() {
    let sim = Sim::new(3);
    let (input, _output) = sim.pipe().unwrap();
    let run = || sim.run(async |ring| ring.read(&input, vec![0; 8], 0).await.0);
    let panic = catch_unwind(AssertUnwindSafe(run)).unwrap_err();
    let said = panic.downcast_ref::<String>().unwrap();
    assert!(said.contains("seed 3: nothing can happen any more"), "{said}");
    assert!(said.contains("#1 Read, Armed"), "{said}");
}

#[test]
fn a_program_that_does_not_end_is_told_so() {
    let sim = Sim::new(0).patience(60 * SECOND);
    let run = || {
        sim.run(async |ring| {
            loop {
                sleep(&ring, SECOND).await.unwrap();
            }
        })
    };
    let panic = catch_unwind(AssertUnwindSafe(run)).unwrap_err();
    let said = panic.downcast_ref::<String>().unwrap();
    assert!(said.contains("the program has not ended in time"), "{said}");
}

#[test]
fn patience_is_for_each_program() {
    let sim = Sim::new(0).patience(60 * SECOND);
    for _ in 0..3 {
        sim.run(async |ring| sleep(&ring, 40 * SECOND).await).unwrap().unwrap();
    }
}

/// Lets others go first.
async fn yield_once() {
    let mut has = false;
    let poll = |cx: &mut Context<'_>| {
        cx.waker().wake_by_ref();
        if std::mem::replace(&mut has, true) { Poll::Ready(()) } else { Poll::Pending }
    };
    poll_fn(poll).await;
}

#[test]
fn time_passes_for_a_program_that_yields_until_another_is_done() {
    check(0..20, |sim| {
        let sim = sim.faults(Faults::all());
        sim.run(async |ring| {
            let done = Cell::new(false);
            let work = async {
                sleep(&ring, Duration::from_millis(3)).await.unwrap();
                File::create(&ring, "/file").await.unwrap();
                done.set(true);
            };
            let spin = async {
                while !done.get() {
                    yield_once().await;
                }
            };
            join(work, spin).await;
        })
        .unwrap();
    });
}

#[test]
fn a_program_that_yields_for_ever_is_told_so() {
    let sim = Sim::new(0);
    let run = || {
        sim.run(async |_| {
            loop {
                yield_once().await;
            }
        })
    };
    let panic = catch_unwind(AssertUnwindSafe(run)).unwrap_err();
    let said = panic.downcast_ref::<String>().unwrap();
    assert!(said.contains("wakes itself for ever"), "{said}");
}

#[test]
fn a_program_that_is_told_so_ends_whatever_it_has_left() {
    for seed in 0..20 {
        let faults = Faults::all().hangs_for_ever(0.5);
        let sim = Sim::new(seed).faults(faults).patience(SECOND / 10);
        let (input, _output) = sim.pipe().unwrap();
        let run = || {
            sim.run(async |ring| {
                let _read = ring.read(&input, vec![0; 8], 0);
                let _opens: Vec<_> = (0..8).map(|_| ring.queue(Openat2::new(CWD, "/"))).collect();
                sleep(&ring, SECOND).await
            })
        };
        let panic = catch_unwind(AssertUnwindSafe(run)).unwrap_err();
        let said = panic.downcast_ref::<String>().unwrap();
        assert!(said.contains("the program has not ended in time"), "{said}");
    }
}

#[test]
fn patience_ends_with_the_program() {
    let sim = Sim::new(0).faults(Faults::none().hangs_for_ever(1.0)).patience(SECOND / 10);
    sim.run(async |ring| {
        let _open = ring.queue(Openat2::new(CWD, "/").in_worker());
        sleep(&ring, SECOND / 100).await.unwrap();
    })
    .unwrap();
}

#[test]
fn what_is_written_from_outside_makes_nothing_else_durable() {
    let mut lost = false;
    for seed in 0..50 {
        let sim = Sim::new(seed);
        for path in ["/mine", "/yours"] {
            sim.write(path, "old").unwrap();
        }
        sim.run(async |ring| {
            let file = File::options().write(true).open(&ring, "/mine").await.unwrap();
            file.write_all_at("new", 0).await.0.unwrap();
        })
        .unwrap();
        sim.write("/yours", "new").unwrap();
        if seed % 2 == 0 {
            sim.sync();
        }
        sim.lose_power();
        assert_eq!(sim.read("/yours").unwrap(), b"new");
        let is_lost = sim.read("/mine").unwrap() == b"old";
        assert!(!is_lost || seed % 2 != 0);
        lost |= is_lost;
    }
    assert!(lost, "no seed loses it");
}

#[test]
fn a_pipe_ends_when_its_writer_is_dropped() {
    let sim = Sim::new(0);
    let (input, output) = sim.pipe().unwrap();
    let read = sim.run(async |ring| {
        let read = ring.read(&input, vec![0; 8], 0);
        let poll = ring.poll(&input, PollFlags::IN);
        sleep(&ring, SECOND).await.unwrap();
        drop(output);
        assert_eq!(poll.await.unwrap(), PollFlags::HUP);
        read.await.0
    });
    assert_eq!(read.unwrap().unwrap(), 0);
}

#[test]
fn a_write_fails_when_the_reader_is_dropped() {
    let sim = Sim::new(0);
    let (input, output) = sim.pipe().unwrap();
    let write = sim.run(async |ring| {
        drop(input);
        ring.write(&output, "nobody hears", 0).await.0
    });
    assert_eq!(write.unwrap().unwrap_err().kind(), ErrorKind::BrokenPipe);
}

#[test]
fn a_writer_waits_for_room_and_a_reader_for_bytes() {
    check(0..20, |sim| {
        let sim = sim.faults(Faults::all());
        let (one, two) = sim.socket_pair().unwrap();
        sim.run(async |ring| {
            let write = async {
                let (mut sent, bytes) = (0, vec![1u8; 300_000]);
                while sent < bytes.len() {
                    sent += ring.write(&one, bytes[sent..].to_vec(), 0).await.0.unwrap();
                }
            };
            let read = async {
                let mut got = 0;
                while got < 300_000 {
                    got += ring.read(&two, Vec::with_capacity(70_000), 0).await.0.unwrap();
                }
                assert_eq!(got, 300_000);
            };
            join(write, read).await;
        })
        .unwrap();
    });
}

#[test]
fn the_ends_of_a_fifo_wait_for_each_other_and_no_crowd_keeps_them_apart() {
    check(0..50, |sim| {
        let sim = sim.faults(Faults::all().workers_max(64));
        for n in 0..32 {
            sim.mkfifo(format!("/fifo{n}")).unwrap();
        }
        sim.run(async |ring| {
            // More opens than there are workers at first; their peers come last.
            let open = |n, flags| {
                ring.queue(Openat2::new(CWD, format!("/fifo{n}")).flags(flags).in_worker())
            };
            let readers: Vec<_> = (0..32).map(|n| open(n, OFlags::RDONLY)).collect();
            let writers: Vec<_> = (0..32).map(|n| open(n, OFlags::WRONLY)).collect();
            for (reader, writer) in readers.into_iter().zip(writers) {
                let (reader, writer) = (reader.await.unwrap(), writer.await.unwrap());
                assert!(ring.write(&writer, "x", 0).await.0.unwrap() == 1);
                assert_eq!(ring.read(&reader, vec![0], 0).await.1, b"x");
            }
        })
        .unwrap();
    });
}

#[test]
fn submitters_that_die_take_no_worker_with_them() {
    for seed in 0..50 {
        let sim = Sim::new(seed).faults(Faults::none().dead_submitters(0.2).workers_max(2));
        sim.mkfifo("/fifo").unwrap();
        let ended = sim.run(async |ring| {
            for _ in 0..20 {
                let end = |flags| ring.queue(Openat2::new(CWD, "/fifo").flags(flags).in_worker());
                let reader = end(OFlags::RDONLY);
                let mut files = Vec::new();
                for _ in 0..8 {
                    sleep(&ring, Duration::from_micros(1)).await.unwrap();
                    files.push(ring.queue(Openat2::new(CWD, "/").in_worker()));
                }
                let (reader, writer) = join(reader, end(OFlags::WRONLY)).await;
                let (_reader, _writer) = (reader.unwrap(), writer.unwrap());
                assert!(join_all(files).await.iter().all(Result::is_ok));
            }
        });
        ended.unwrap();
    }
}

#[test]
fn what_the_last_ring_has_left_hung_takes_no_worker_twice() {
    let sim = Sim::new(0).faults(Faults::none().hangs(0.3).workers_max(3));
    for _ in 0..30 {
        sim.run(async |ring| {
            let opens = (0..6).map(|_| ring.queue(Openat2::new(CWD, "/").in_worker()));
            let _opens: Vec<_> = opens.collect();
            sleep(&ring, SECOND).await.unwrap();
        })
        .unwrap();
    }
    sim.set_faults(Faults::none());
    sim.run(async |ring| File::create(&ring, "/file").await.map(drop)).unwrap().unwrap();
}

#[test]
fn a_hung_call_ends_when_it_is_cancelled() {
    let sim = Sim::new(0).faults(Faults::none().hangs(1.0));
    sim.run(async |ring| {
        let open = ring.queue(Openat2::new(CWD, "/").in_worker());
        sleep(&ring, SECOND).await.unwrap();
        assert_ne!(open.cancel().await, CancelOutcome::Finished);
        open.await.unwrap_err();
    })
    .unwrap();
}

#[test]
fn an_errno_comes_as_often_as_it_was_asked_for() {
    let sim = Sim::new(0).faults(Faults::none().errno(Opcode::FSYNC, libc::EIO, 0.5));
    let failed = sim.run(async |ring| {
        let file = File::create(&ring, "/file").await.unwrap();
        let mut failed = 0;
        for _ in 0..1000 {
            failed += usize::from(file.sync_all().await.is_err());
        }
        failed
    });
    assert!((400..600).contains(&failed.unwrap()), "{failed:?}");
}

#[test]
fn a_sync_that_fails_is_not_made_good_by_the_next_one() {
    check(0..50, |sim| {
        sim.write("/file", "old").unwrap();
        for errno in [libc::EIO, libc::ENOLCK] {
            sim.set_faults(Faults::none().errno(Opcode::FSYNC, errno, 1.0));
            sim.run(async |ring| {
                let file =
                    File::options().read(true).write(true).open(&ring, "/file").await.unwrap();
                file.write_all_at("new", 0).await.0.unwrap();
                assert_eq!(ring.fsync(file.fd()).await.unwrap_err().raw_os_error(), Some(errno));
                sim.set_faults(Faults::none());
                file.sync_all().await.unwrap();
                assert_eq!(file.read_at(Vec::with_capacity(3), 0).await.1, b"new");
            })
            .unwrap();
            sim.lose_power();
            // No disk says that there are no locks left.
            let left = if errno == libc::EIO { "old" } else { "new" };
            assert_eq!(sim.read("/file").unwrap(), left.as_bytes());
        }
    });
}

#[test]
fn without_workers_ops_fail_with_an_error_that_says_so() {
    let sim = Sim::new(0).faults(Faults::none().workers_max(0));
    let error = sim.run(async |ring| File::create(&ring, "/file").await.unwrap_err()).unwrap();
    assert_eq!(error.kind(), ErrorKind::ResourceBusy, "{error}");
}

#[test]
fn a_directory_is_synced_but_not_by_a_descriptor_for_its_name_only() {
    let sim = Sim::new(0);
    sim.run(async |ring| {
        let directory = ring.queue(Openat2::new(CWD, "/").flags(OFlags::DIRECTORY)).await.unwrap();
        ring.fsync(&directory).await.unwrap();
        let name = ring.queue(Openat2::new(CWD, "/").flags(OFlags::PATH)).await.unwrap();
        let error = ring.fsync(&name).await.unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EBADF));
    })
    .unwrap();
}

#[test]
fn what_the_test_notes_is_in_the_trace() {
    let sim = Sim::new(0).traced();
    sim.run(async |ring| {
        let file = File::create(&ring, "/file").await.unwrap();
        sim.note("made");
        file.sync_data().await.unwrap();
    })
    .unwrap();
    let trace = sim.trace();
    assert!(trace.contains("ms  -- made\n"), "{trace}");
    assert!(trace.contains("Fsync file 1 /file, data"), "{trace}");
}

#[test]
fn a_note_may_look_at_the_machine() {
    struct Steps<'a>(&'a Sim);
    impl std::fmt::Display for Steps<'_> {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            write!(f, "{} steps", self.0.steps())
        }
    }
    let sim = Sim::new(0).traced();
    sim.note(Steps(&sim));
    assert!(sim.trace().contains("-- 0 steps"), "{}", sim.trace());
}

#[test]
fn one_program_runs_at_a_time_on_each_machine() {
    let sim = Sim::new(0);
    let run = || {
        sim.run(async |_| {
            // Another machine has its own time.
            let other = Sim::new(1);
            other.run(async |ring| sleep(&ring, SECOND).await).unwrap().unwrap();
            assert_eq!((sim.age() < SECOND, other.age() >= SECOND), (true, true));
            sim.run(async |_| {})
        })
    };
    let panic = catch_unwind(AssertUnwindSafe(run)).unwrap_err();
    let said = panic.downcast_ref::<&str>().unwrap();
    assert!(said.contains("a program runs on this machine"), "{said}");
    sim.run(async |ring| sleep(&ring, SECOND).await).unwrap().unwrap();
}

#[test]
fn a_ring_and_a_handle_that_outlive_their_run_are_dead_and_do_no_harm() {
    for seed in 0..20 {
        let sim = Sim::new(seed).faults(Faults::all());
        let (input, output) = sim.pipe().unwrap();
        let kept = sim.run(async |ring| {
            let file = File::create(&ring, "/file").await.unwrap();
            (ring.read(&input, vec![7; 8], 0), file, ring)
        });
        let (read, file, ring) = kept.unwrap();
        sim.run(async |ring| {
            ring.write(&output, "late", 0).await.0.unwrap();
            sleep(&ring, SECOND).await.unwrap();
            // Nobody turns its ring.
            assert!(!read.is_done());
        })
        .unwrap();
        if seed % 2 == 0 {
            sim.lose_power();
        }
        drop((file, read, ring));
        drop((input, output));
        assert_eq!((sim.in_flight(), sim.open_descriptors()), (0, 0));
    }
}

#[test]
fn what_was_not_synced_may_be_gone() {
    check(0..100, |sim| {
        let sim = sim.faults(Faults::all());
        let ended = sim.run(async |ring| {
            let file = File::create(&ring, "/file").await.unwrap();
            file.write_all_at(vec![1; 2048], 0).await.0.unwrap();
            sim.lose_power();
            sleep(&ring, SECOND).await
        });
        assert_eq!(ended.unwrap_err(), PowerLost);
        let found = sim.read("/file");
        assert!(found.as_ref().is_ok_and(|bytes| bytes.len() <= 2048) || found.is_err());
        // It is a machine again.
        sim.run(async |ring| File::create(&ring, "/other").await.unwrap()).unwrap();
    });
}

#[test]
fn a_program_can_be_cut_at_each_of_its_steps() {
    for (faults, seeds) in [(Faults::none(), 1), (Faults::all(), 10)] {
        for seed in 0..seeds {
            let mut found = Vec::new();
            for step in 0.. {
                let sim = Sim::new(seed).faults(faults.clone());
                sim.write("/value", "old").unwrap();
                sim.lose_power_at(step);
                let synced = Cell::new(false);
                let ended = sim.run(async |ring| {
                    let file = File::options().write(true).open(&ring, "/value").await.unwrap();
                    file.write_all_at("new", 0).await.0.unwrap();
                    file.sync_all().await.unwrap();
                    synced.set(true);
                    file.close().await.unwrap();
                });
                let value = sim.read("/value").unwrap();
                assert!(value == b"new" || value == b"old" && !synced.get(), "step {step}");
                if ended.is_ok() {
                    break;
                }
                assert!(sim.steps() >= step);
                found.push((value, synced.get()));
            }
            assert!(found.len() > 10 && found.is_sorted_by_key(|(_, synced)| *synced), "{found:?}");
            for seen in [(b"old".to_vec(), false), (b"new".to_vec(), true)] {
                assert!(found.contains(&seen), "seed {seed}: {seen:?}");
            }
        }
    }
}

#[test]
fn a_small_completion_queue_loses_nothing() {
    check(0..20, |sim| {
        let sim = sim.faults(Faults::all()).ring(Ring::builder().queue_depth(4).completions(8));
        sim.run(async |ring| {
            let sleeps = (0..500).map(|n| sleep(&ring, Duration::from_nanos(n)));
            assert!(join_all(sleeps).await.iter().all(Result::is_ok));
        })
        .unwrap();
    });
}
