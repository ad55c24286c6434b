// SPDX-License-Identifier: MIT OR Apache-2.0
//! The control socket: whole packets, some with a descriptor.

use std::{
    io, mem,
    os::fd::{AsRawFd, OwnedFd},
    ptr,
    sync::Arc,
    time::Duration,
};

use tokio::{
    io::unix::AsyncFd,
    sync::mpsc::{self, Receiver, Sender},
    time::sleep,
};

use crate::packet::{Heard, Said};

/// No packet of ours or of the host is longer.
const PACKET_MAX: usize = 64 * 1024;
/// Packets that wait to be sent; who has one more waits.
const QUEUE: usize = 64;
/// What the system is short of may be there again soon.
const RETRIES: u32 = 20;
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// A packet to the host, and the descriptor that goes with it.
pub struct Saying(pub Said, pub Option<OwnedFd>);

#[derive(Clone)]
pub struct Mouth(Sender<Saying>);

impl Mouth {
    /// Waits for room. Nothing happens when the host is gone: who listens to it ends everything.
    pub async fn say(&self, said: Said, fd: Option<OwnedFd>) {
        let _ = self.0.send(Saying(said, fd)).await;
    }
}

pub struct Control {
    fd: Arc<AsyncFd<OwnedFd>>,
    buffer: Vec<u8>,
}

/// The ear and the mouth of the endpoint. The mouth ends when the last clone of it is gone, or the host is; when something
/// cannot be said, the ear ends with it.
pub fn open(control: OwnedFd) -> io::Result<(Control, Mouth)> {
    // SAFETY: fcntl on a descriptor that we own.
    let flags = unsafe { libc::fcntl(control.as_raw_fd(), libc::F_GETFL) };
    if flags < 0
        || unsafe { libc::fcntl(control.as_raw_fd(), libc::F_SETFL, flags | libc::O_NONBLOCK) } < 0
    {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: nothing closes the descriptor while the AsyncFd has it.
    let fd = Arc::new(unsafe { AsyncFd::register(control) }?);
    let (to, from) = mpsc::channel(QUEUE);

    tokio::spawn(speak(fd.clone(), from));
    Ok((
        Control {
            fd,
            buffer: vec![0; PACKET_MAX],
        },
        Mouth(to),
    ))
}

async fn speak(fd: Arc<AsyncFd<OwnedFd>>, mut from: Receiver<Saying>) {
    while let Some(Saying(said, passed)) = from.recv().await {
        let Ok(text) = serde_json::to_vec(&said) else {
            continue;
        };
        if send_whole(&fd, &text, passed.as_ref()).await.is_err() {
            // The host has missed something. It sees our end closed, as our ear does, and starts another endpoint.
            // SAFETY: shutdown on a descriptor that `fd` keeps open.
            unsafe { libc::shutdown(fd.as_raw_fd(), libc::SHUT_RDWR) };
            return;
        }
    }
}

async fn send_whole(
    fd: &AsyncFd<OwnedFd>,
    bytes: &[u8],
    passed: Option<&OwnedFd>,
) -> io::Result<()> {
    let mut retries = RETRIES;

    loop {
        match fd
            .writable()
            .await?
            .try_io(|fd| send(fd.get_ref(), bytes, passed))
        {
            Ok(Err(error)) if is_shortage(&error) && retries > 0 => {
                retries -= 1;
                sleep(RETRY_AFTER).await;
            }
            Ok(done) => return done,
            // It would block.
            Err(_) => {}
        }
    }
}

/// Is it the system that has too little now, of memory or of room for descriptors on their way?
fn is_shortage(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::ENOBUFS | libc::ENOMEM | libc::ETOOMANYREFS)
    )
}

fn send(fd: &OwnedFd, bytes: &[u8], passed: Option<&OwnedFd>) -> io::Result<()> {
    let mut part = libc::iovec {
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    };
    // SAFETY: CMSG_SPACE only computes; all zero is a msghdr.
    let space = unsafe { libc::CMSG_SPACE(mem::size_of::<libc::c_int>() as u32) } as usize;
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    // u64 for the alignment of cmsghdr.
    let mut control = [0u64; 8];

    message.msg_iov = &mut part;
    message.msg_iovlen = 1;
    if let Some(passed) = passed {
        assert!(space <= mem::size_of_val(&control));
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = space as _;
        // SAFETY: the buffer has room for one header and one descriptor.
        unsafe {
            let header = libc::CMSG_FIRSTHDR(&message);

            (*header).cmsg_level = libc::SOL_SOCKET;
            (*header).cmsg_type = libc::SCM_RIGHTS;
            (*header).cmsg_len = libc::CMSG_LEN(mem::size_of::<libc::c_int>() as u32) as _;
            ptr::write_unaligned(libc::CMSG_DATA(header).cast(), passed.as_raw_fd());
        }
    }
    // SAFETY: the message and what it points to live until the call returns.
    let n = unsafe { libc::sendmsg(fd.as_raw_fd(), &message, libc::MSG_NOSIGNAL) };
    if n < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

impl Control {
    /// The next packet; None: the host is gone, or says what is no packet.
    pub async fn hear(&mut self) -> Option<Heard> {
        let n = loop {
            let mut ready = self.fd.readable().await.ok()?;
            let buffer = &mut self.buffer;

            match ready.try_io(|fd| receive(fd.get_ref(), buffer)) {
                Ok(n) => break n.ok()?,
                Err(_) => continue,
            }
        };
        let heard = serde_json::from_slice(&self.buffer[..n]).ok();

        // The first has a key in it.
        self.buffer[..n].fill(0);
        heard
    }
}

fn receive(fd: &OwnedFd, buffer: &mut [u8]) -> io::Result<usize> {
    // SAFETY: the buffer is ours and as long as is said.
    let n = unsafe { libc::recv(fd.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), 0) };
    if n < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(n as usize)
}
