//! Where io_uring is refused, by a seccomp filter: the pool copies, and the last line says so.
#![allow(unsafe_code)] // Installs the filter.

use std::io;
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::{fs, os};

use serde_json::Value;

use crate::support::{Closely, cp, look, place_for_many, run};

/// A tree of some hundred files, with links of both kinds, holes, and a large one.
fn plant(root: &Path) {
    for number in 0..300_usize {
        let dir = root.join(format!("{}/{}", number % 5, number % 7));
        fs::create_dir_all(&dir).unwrap();
        let path = dir.join(format!("file-{number}"));
        fs::write(&path, vec![b'x'; number * 31]).unwrap();
        match number % 50 {
            0 => fs::hard_link(&path, dir.join(format!("hard-{number}"))).unwrap(),
            1 => symlink("nowhere", dir.join(format!("soft-{number}"))).unwrap(),
            _ => {}
        }
    }
    fs::write(root.join("large"), vec![7; 5 << 20]).unwrap();
    let hole = fs::File::create(root.join("hole")).unwrap();
    os::unix::fs::FileExt::write_at(&hole, b"end", 3 << 20).unwrap();
}

#[test]
fn the_pool_copies_a_tree_and_the_last_line_says_that_it_did_and_why() {
    let place = place_for_many();
    let path = |name: &str| place.path().join(name);
    fs::create_dir(path("src")).unwrap();
    plant(&path("src"));
    let seen = look(&path("src"), Closely::Plain);
    for (errno, why) in [(libc::EPERM, "io_uring is forbidden"), (libc::ENOSYS, "has no io_uring")]
    {
        let ended = run(refused(errno, cp(["-r", "src", "dst"]).current_dir(place.path()))).well();
        let parts = [" ring ops by a pool (", why, "; 0 errors\n"];
        assert!(parts.iter().all(|part| ended.out.contains(part)), "{ended:?}");
        assert_eq!(look(&path("dst"), Closely::Plain), seen);
        fs::remove_dir_all(path("dst")).unwrap();

        let json =
            run(refused(errno, cp(["-r", "--json", "-p", "src", "dst"]).current_dir(place.path())))
                .well();
        let object: Value = serde_json::from_str(&json.out).expect("JSON");
        assert_eq!(object["backend"], "pool", "{object}");
        let preserved = look(&path("src"), Closely::Preserved);
        assert_eq!(look(&path("dst"), Closely::Preserved), preserved);
        fs::remove_dir_all(path("dst")).unwrap();
    }
}

/// Has a command meet this errno when it asks for a ring.
fn refused(errno: i32, command: &mut Command) -> &mut Command {
    // SAFETY: system calls only, of memory of its own.
    unsafe { command.pre_exec(move || filter(errno)) }
}

fn filter(errno: i32) -> io::Result<()> {
    const LOAD: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    const EQUAL: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    const RETURN: u32 = libc::BPF_RET | libc::BPF_K;
    #[allow(clippy::cast_possible_truncation)] // They are small.
    let op = |code: u32, k: u32, jf: u8| libc::sock_filter { code: code as u16, jt: 0, jf, k };
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // The same.
    let mut program = [
        op(LOAD, 0, 0),
        op(EQUAL, libc::SYS_io_uring_setup as u32, 1),
        op(RETURN, libc::SECCOMP_RET_ERRNO | errno as u32, 0),
        op(RETURN, libc::SECCOMP_RET_ALLOW, 0),
    ];
    let program = libc::sock_fprog { len: 4, filter: program.as_mut_ptr() };
    // SAFETY: the program is in memory of ours, which the kernel reads during the call only; the
    // filter makes one call fail, as any kernel may.
    let set = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
            && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) == 0
    };
    if set { Ok(()) } else { Err(io::Error::last_os_error()) }
}
