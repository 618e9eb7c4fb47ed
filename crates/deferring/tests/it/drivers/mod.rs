//! Rings under drivers: the same stories (`stories.rs`) on every kind of host (`hosts.rs`).
//!
//! What only one driver has is told beside it: `thread.rs`, `tokio.rs`; random stories on random
//! hosts, for long, in `soak.rs`. Not: the loops of single threads, which are told in
//! `../host.rs`.

mod executors;
mod hosts;
mod soak;
mod stories;
mod thread;
#[cfg(feature = "tokio")]
mod tokio;

use self::hosts::Host;

/// A story, by name.
struct Told {
    name: &'static str,
    tell: fn(Host),
}

/// Stories for every host, and those that need a driver.
macro_rules! stories {
    (any: [$($any:ident)*] driven: [$($driven:ident)*]) => {
        const FOR_ANY: &[Told] = &[$(Told { name: stringify!($any), tell: stories::$any }),*];
        const FOR_DRIVEN: &[Told] =
            &[$(Told { name: stringify!($driven), tell: stories::$driven }),*];

        /// A test for each story on a host; `driven` hosts tell more.
        macro_rules! tell_all_on {
            (driven $host:ident) => {
                mod $host {
                    $(#[test] fn $any() { super::stories::$any(super::hosts::$host()); })*
                    $(#[test] fn $driven() { super::stories::$driven(super::hosts::$host()); })*
                }
            };
            (any $host:ident) => {
                mod $host {
                    $(#[test] fn $any() { super::stories::$any(super::hosts::$host()); })*
                }
            };
        }
    };
}

stories! {
    any: [
        ten_thousand_ops_from_sixty_four_tasks_all_end
        an_op_that_is_cancelled_or_dropped_at_any_point_ends_once_and_frees_its_buffer
        a_deadline_ends_what_would_not_end
        select_drops_the_losers_and_their_buffers_are_freed
        a_task_that_never_rests_does_not_keep_another_from_reading
        two_rings_serve_the_same_tasks
        handles_go_from_task_to_task
        ops_of_a_thread_outside_complete
    ]
    driven: [
        a_submit_or_a_wait_by_hand_is_not_needed_and_says_so
        block_on_beside_the_driver_works
        detached_ops_complete_though_nobody_polls
        a_ring_dropped_inside_a_completion_ends
        a_ring_dropped_with_ops_out_gives_each_its_result
        a_ring_dropped_while_workers_are_blocked_ends_when_they_let_go
        a_waker_that_panics_leaves_the_ring_whole
    ]
}

/// The hosts, each with its stories.
macro_rules! hosts {
    ($($(#[$condition:meta])* $kind:ident $host:ident;)*) => {
        $($(#[$condition])* tell_all_on! { $kind $host })*

        fn all_hosts() -> Vec<Host> {
            vec![$($(#[$condition])* hosts::$host()),*]
        }
    };
}

hosts! {
    driven own_thread_futures_executor;
    driven own_thread_pollster;
    driven own_thread_smol;
    driven own_thread_global_queue;
    driven own_thread_tokio;
    #[cfg(feature = "async-io")]
    driven async_io_futures_executor;
    #[cfg(feature = "async-io")]
    driven async_io_smol;
    #[cfg(feature = "async-io")]
    driven async_io_global_queue;
    #[cfg(feature = "tokio")]
    driven tokio_current_thread;
    #[cfg(feature = "tokio")]
    driven tokio_two_workers;
    #[cfg(feature = "tokio")]
    driven tokio_eight_workers;
    #[cfg(feature = "tokio")]
    driven tokio_local_set;
    any block_on;
    any by_hand_from_two_threads;
    any epoll_with_the_ring;
    any epoll_with_an_eventfd;
}
