// SPDX-License-Identifier: MIT OR Apache-2.0
//! One iroh endpoint for alknet, in a process of its own.
//!
//! The program `alknet-iroh` (../alknet_iroh.c) drops its privileges and calls `alk_iroh_run`, the only thing that
//! leaves this library. From there on everything is said over one SOCK_SEQPACKET socket, a JSON object a packet:
//!
//!   packet.rs    what is said, in both directions
//!   control.rs   the socket, and descriptors that go over it
//!   endpoint.rs  the endpoint: settings, accepting, dialling, is it reachable
//!   bridge.rs    carries bytes between a QUIC stream and one end of a socketpair; the other end is the link
//!   path.rs      which way a link's bytes go
//!   quiet.rs     iroh's own log, which nobody reads
//!
//! Start here if you change how bytes travel: bridge.rs knows nothing of who made the connection.

mod bridge;
mod control;
mod endpoint;
mod packet;
mod path;
mod quiet;

use std::{
    os::fd::{FromRawFd, OwnedFd, RawFd},
    panic::{catch_unwind, AssertUnwindSafe},
    time::Duration,
};

/// Run an endpoint until the other end of `control` is closed. Takes the descriptor, which is a connected
/// SOCK_SEQPACKET socket. Returns the process's exit status: 0 the end was asked for, 1 it was not.
#[no_mangle]
pub extern "C" fn alk_iroh_run(control: RawFd) -> i32 {
    // SAFETY: the caller gives the descriptor away.
    let control = unsafe { OwnedFd::from_raw_fd(control) };

    catch_unwind(AssertUnwindSafe(|| run(control))).unwrap_or(1)
}

fn run(control: OwnedFd) -> i32 {
    quiet::listen_to_nothing();
    // One thread: a link's bytes would pay for each change of threads, and have been faster without.
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    else {
        return 1;
    };
    let status = runtime.block_on(endpoint::serve(control));

    runtime.shutdown_timeout(Duration::from_millis(200));
    status
}
