// SPDX-License-Identifier: MIT OR Apache-2.0
//! Bytes between a QUIC stream and our end of the link's socketpair. Each direction holds one piece at a time and
//! asks for the next when it is gone, so the slower side sets the pace; each ends by itself.

use std::{
    future::pending,
    io::{self, IoSlice},
    os::fd::{AsRawFd, OwnedFd, RawFd},
    os::unix::net::UnixStream as StdUnixStream,
    pin::pin,
    time::Duration,
};

use bytes::{Buf, Bytes, BytesMut};
use iroh::endpoint::{
    Connection, ConnectionStats, ReadError, RecvStream, SendStream, VarInt, WriteError,
};
use n0_future::future::poll_once;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        unix::{OwnedReadHalf, OwnedWriteHalf},
        UnixStream,
    },
    task::yield_now,
    time::{sleep, Instant},
};

/// How much is read from the pair at once.
const PIECE: usize = 128 * 1024;
/// What is read begins with a cache line: 16 bytes past one, where malloc puts a large buffer, the kernel takes twice as long
/// to fill it on some processors.
const LINE: usize = 64;
/// What SSH writes at once goes into the pair at once, if the system allows it.
const PAIR_BYTES: libc::c_int = 256 * 1024;
/// How many packets' contents are written to the pair at once.
const CHUNKS: usize = 128;
/// So often it is looked for more before they are written, if there are as many as that already.
const GATHER: usize = 6;
const ALONE: usize = 4;
/// What was sent is waited for, when all else is done: so long without a sign of it.
const LINGER: Duration = Duration::from_secs(5);
/// Nothing tells that a link was closed altogether while it is not read: it is looked at, so often where that is the
/// end, and so often where it is only that the peer takes nothing, which is borne for a while.
const CLOSED_EVERY: Duration = Duration::from_millis(200);
const STUCK_EVERY: Duration = Duration::from_secs(2);
const STUCK_FOR: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Either is over then, however little by little the peer still takes something.
const LEFT_FOR: Duration = Duration::from_secs(120);

/// The connection broke, or was broken off.
struct Broken;

/// Our end, and the one that is the link: connected, non-blocking, close-on-exec.
pub fn pair() -> io::Result<(UnixStream, OwnedFd)> {
    let (ours, theirs) = StdUnixStream::pair()?;

    for end in [&ours, &theirs] {
        let size = PAIR_BYTES;

        // SAFETY: the value is an int that lives until the call returns.
        unsafe {
            libc::setsockopt(
                end.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_SNDBUF,
                (&raw const size).cast(),
                size_of::<libc::c_int>() as libc::socklen_t,
            )
        };
    }
    ours.set_nonblocking(true)?;
    theirs.set_nonblocking(true)?;
    Ok((UnixStream::from_std(ours)?, theirs.into()))
}

/// Has whoever has the link closed it? A half-closed one is not.
fn is_closed(fd: RawFd) -> bool {
    let mut poll = libc::pollfd {
        fd,
        events: 0,
        revents: 0,
    };

    // SAFETY: one pollfd, which lives until the call returns.
    unsafe { libc::poll(&mut poll, 1, 0) == 1 && poll.revents & libc::POLLHUP != 0 }
}

/// Until the link is closed. The caller keeps the descriptor open meanwhile.
pub async fn closed(fd: RawFd) {
    while !is_closed(fd) {
        sleep(CLOSED_EVERY).await;
    }
}

/// STREAM frames that went out: the peer's window had room for more, and the path's had.
fn taken(stats: &ConnectionStats) -> u64 {
    stats.frame_tx.stream
}

/// And what was answered: a path's queue may be longer than we wait.
fn moved(stats: &ConnectionStats) -> u64 {
    taken(stats) + stats.frame_rx.acks + stats.frame_rx.path_acks
}

/// Until `progress` has not changed for `patience`.
async fn stalled(
    conn: &Connection,
    progress: impl Fn(&ConnectionStats) -> u64,
    patience: Duration,
) {
    let begun = Instant::now();
    let mut last = (0, begun);

    while last.1.elapsed() < patience && begun.elapsed() < LEFT_FOR {
        let now = progress(&conn.stats());

        if now != last.0 {
            last = (now, Instant::now());
        }
        sleep(LOOK_EVERY).await;
    }
}

/// Until the link has been closed and still has bytes that the peer has not taken for a while.
async fn stuck(conn: &Connection, fd: RawFd) {
    while !is_closed(fd) {
        sleep(STUCK_EVERY).await;
    }
    stalled(conn, taken, STUCK_FOR).await;
}

/// From the link to the peer, until either does not go on.
async fn out(from: &mut OwnedReadHalf, to: &mut SendStream) -> Result<(), Broken> {
    let mut buffer = BytesMut::new();

    loop {
        if buffer.capacity() < PIECE / 4 {
            buffer.reserve(PIECE + LINE);
        }
        let odd = buffer.as_ptr().align_offset(LINE);

        buffer.resize(odd, 0);
        buffer.advance(odd);
        match from.read_buf(&mut buffer).await {
            Ok(0) => {
                let _ = to.finish();
                return Ok(());
            }
            Ok(_) => match to.write_chunk(buffer.split().freeze()).await {
                Ok(()) => {}
                Err(WriteError::Stopped(_)) => {
                    // Whoever writes into the link has to learn of it.
                    // SAFETY: shutdown on a descriptor that `from` keeps open.
                    unsafe { libc::shutdown(from.as_ref().as_raw_fd(), libc::SHUT_RD) };
                    return Ok(());
                }
                Err(_) => return Err(Broken),
            },
            Err(_) => {
                let _ = to.reset(VarInt::from_u32(0));
                return Ok(());
            }
        }
    }
}

async fn write_chunks(to: &mut OwnedWriteHalf, chunks: &[Bytes]) -> io::Result<()> {
    let mut parts = [IoSlice::new(&[]); CHUNKS];
    let mut parts = &mut parts[..chunks.len()];

    for (part, chunk) in parts.iter_mut().zip(chunks) {
        *part = IoSlice::new(chunk);
    }
    while !parts.is_empty() {
        let n = to.write_vectored(parts).await?;

        if n == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        IoSlice::advance_slices(&mut parts, n);
    }
    Ok(())
}

/// What has come, and what is about to: each write wakes whoever has the link, and the socket may hold more by now.
/// None: no more comes.
async fn gather(
    from: &mut RecvStream,
    chunks: &mut [Bytes],
    later: &mut Option<ReadError>,
) -> Result<Option<usize>, ReadError> {
    if let Some(error) = later.take() {
        return Err(error);
    }
    let Some(mut n) = from.read_many_chunks(chunks).await? else {
        return Ok(None);
    };

    for _ in 0..GATHER {
        // A lone packet is a keystroke's: it does not wait.
        if n < ALONE || n >= chunks.len() {
            break;
        }
        yield_now().await;
        match poll_once(pin!(from.read_many_chunks(&mut chunks[n..]))).await {
            Some(Ok(Some(more))) => n += more,
            Some(Err(error)) => {
                *later = Some(error);
                break;
            }
            // Nothing now; an end comes again.
            _ => break,
        }
    }
    Ok(Some(n))
}

/// From the peer to the link, until either does not go on.
async fn inward(from: &mut RecvStream, to: &mut OwnedWriteHalf) -> Result<(), Broken> {
    let mut chunks: [Bytes; CHUNKS] = std::array::from_fn(|_| Bytes::new());
    let mut later = None;

    loop {
        match gather(from, &mut chunks, &mut later).await {
            Ok(Some(n)) => {
                if write_chunks(to, &chunks[..n]).await.is_err() {
                    let _ = from.stop(VarInt::from_u32(0));
                    return Ok(());
                }
                chunks[..n].fill(Bytes::new());
            }
            Ok(None) => {
                let _ = to.shutdown().await;
                return Ok(());
            }
            Err(_) => return Err(Broken),
        }
    }
}

/// Until both directions are done, the link is closed, or the connection is lost. Ends the connection.
pub async fn run(
    conn: &Connection,
    mut send: SendStream,
    mut recv: RecvStream,
    stream: UnixStream,
) {
    let fd = stream.as_raw_fd();
    // Both halves live to the end of the function, and the descriptor with them.
    let (mut read, mut write) = stream.into_split();

    if both(conn, &mut read, &mut send, &mut recv, &mut write, fd)
        .await
        .is_ok()
    {
        tokio::select! {
            _ = send.stopped() => {}
            () = stalled(conn, moved, LINGER) => {}
        }
    }
    conn.close(VarInt::from_u32(0), b"");
}

async fn both(
    conn: &Connection,
    read: &mut OwnedReadHalf,
    send: &mut SendStream,
    recv: &mut RecvStream,
    write: &mut OwnedWriteHalf,
    fd: RawFd,
) -> Result<(), Broken> {
    let outward = out(read, send);
    let inbound = inward(recv, write);
    let gone = stuck(conn, fd);
    let (mut out_done, mut in_done) = (false, false);

    tokio::pin!(outward, inbound, gone);
    while !(out_done && in_done) {
        tokio::select! {
            done = &mut outward, if !out_done => {
                done?;
                out_done = true;
            }
            done = &mut inbound, if !in_done => {
                done?;
                in_done = true;
            }
            // Nobody reads what the peer still says.
            () = async { if out_done { closed(fd).await } else { pending().await } } => return Ok(()),
            () = &mut gone => return Err(Broken),
        }
    }
    Ok(())
}
