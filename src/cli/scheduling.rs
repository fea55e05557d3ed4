//! What `serve` asks of the kernel and the allocator so that thousands of threads stay cheap: the one place of the binary
//! that needs `unsafe`.
//!
//! **Scheduling.** A request is handed from a connection's thread to a worker and back. The thread that is woken tends to
//! push its waker off the processor at once, in the middle of the channel's lock, which it then waits for. Under
//! `SCHED_BATCH` a woken thread waits for its turn instead: on two processors a request took 65 to 91 µs of CPU instead of
//! 74 to 99 at 32 connections, and 83 to 119 instead of 119 to 138 at one (six and five quick runs each).
//!
//! **Futex table.** The kernel keeps what a process's threads sleep on in a table of its own, sized by the processors: with
//! thousands of threads asleep each wake-up walks past hundreds of others. The table is asked for at the size that they
//! need: with 8,000 workers a request took 196 to 251 µs of CPU instead of 420 to 577, with 2,000 204 to 216 instead of 249
//! to 278, with 64 the same (the simulated provider's half included, on a crowded machine, three and six rounds by turns).
//!
//! **Arenas.** glibc gives threads that allocate at the same time heaps of their own, up to eight a processor; each keeps
//! what its threads have freed. Two are enough here: 226 MB instead of 246 with 8,000 idle workers, 80 instead of 87 with 2,000.
//!
//! **Large blocks.** glibc gives a large block back to the system when it is freed, but raises the bound of what is large to
//! each that was, up to 32 MB: after 16 answers of 6 MB that nobody read, the process kept 66 MB. A bound that is set stays.

/// Has every thread started from now on wait for its turn when it is woken. A system that refuses is left as it is.
#[cfg(target_os = "linux")]
pub(super) fn prefer_throughput() {
    let parameters = libc::sched_param { sched_priority: 0 };
    // SAFETY: the call reads `parameters`, which lives until it returns, and keeps no pointer to it; thread 0 is the calling
    // one, and the policy asks for no privilege.
    #[expect(unsafe_code, reason = "no kept crate has a safe call for it")]
    let answer = unsafe { libc::sched_setscheduler(0, libc::SCHED_BATCH, &raw const parameters) };
    if answer != 0 {
        log::debug!("SCHED_BATCH was refused: {}", std::io::Error::last_os_error());
    }
}

/// Elsewhere there is no such policy.
#[cfg(not(target_os = "linux"))]
pub(super) fn prefer_throughput() {}

/// Has this process's threads sleep in a table of 16,384 places. Kernels before 6.16 refuse and are left as they are.
#[cfg(target_os = "linux")]
pub(super) fn widen_futex_table() {
    /// `PR_FUTEX_HASH`, its `PR_FUTEX_HASH_SET_SLOTS`, and a power of two of places; `libc` does not name them yet.
    const FUTEX_HASH: libc::c_int = 78;
    const SET_SLOTS: libc::c_ulong = 1;
    const SLOTS: libc::c_ulong = 16_384;
    // SAFETY: the call takes numbers alone. It exchanges a table of the kernel's, under the kernel's own locks, and no
    // memory of this process.
    #[expect(unsafe_code, reason = "no kept crate has a safe call for it")]
    let answer = unsafe { libc::prctl(FUTEX_HASH, SET_SLOTS, SLOTS, 0 as libc::c_ulong) };
    if answer != 0 {
        log::debug!("a wider futex table was refused: {}", std::io::Error::last_os_error());
    }
}

/// Elsewhere there is no such table.
#[cfg(not(target_os = "linux"))]
pub(super) fn widen_futex_table() {}

/// Has all threads share two heaps, and blocks of a megabyte go back to the system when they are freed. To be called before
/// the first thread starts.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub(super) fn limit_arenas() {
    const ARENAS: libc::c_int = 2;
    const LARGE: libc::c_int = 1 << 20;
    for (name, value) in [(libc::M_ARENA_MAX, ARENAS), (libc::M_MMAP_THRESHOLD, LARGE)] {
        // SAFETY: the call takes numbers alone, and sets a limit that the allocator reads when it would make another arena
        // or block; no other thread allocates yet.
        #[expect(unsafe_code, reason = "no kept crate has a safe call for it")]
        let answer = unsafe { libc::mallopt(name, value) };
        if answer == 0 {
            log::debug!("the allocator did not take {value} for its option {name}");
        }
    }
}

/// Another C library has other heaps.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(super) fn limit_arenas() {}
