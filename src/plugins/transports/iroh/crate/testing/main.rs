// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the tests and the benchmark need of iroh besides alknet: endpoints without alknet. Each prints a line
//! when it is ready, and lives until its standard input ends.

use std::{
    env,
    error::Error,
    io::Write,
    net::{Ipv4Addr, SocketAddr},
    process::ExitCode,
    str::FromStr,
};

use iroh::{
    endpoint::{presets, Connection, QuicTransportConfig, VarInt},
    Endpoint, EndpointAddr, EndpointId,
};
use tokio::io::AsyncReadExt;

type Outcome<T> = Result<T, Box<dyn Error>>;

const USAGE: &str = "usage:
  alknet-iroh-testing raw
      takes one connection after the other, and moves bytes as its peer asks; prints \"raw ID ADDR:PORT\"
  alknet-iroh-testing move ID ADDR:PORT up|down BYTES
      moves so many to or from a raw; prints \"moved BYTES SECONDS\"
  alknet-iroh-testing hold ID ADDR:PORT ALPN [stream]
      connects and says nothing, or opens a stream and says one byte; prints \"held\", and \"closed\" when the peer closes
  alknet-iroh-testing refuse ALPN
      takes connections and no stream in them; prints \"refuse ID ADDR:PORT\", \"held\", and \"closed\" when the peer closes";

const RAW: &[u8] = b"alknet-raw";
/// What one write is, as much as alknet hands over at once.
const PIECE: usize = 64 * 1024;
/// As many as iroh allows by itself.
const STREAMS: u32 = 100;

fn say(line: &str) {
    println!("{line}");
    // A test waits for it.
    let _ = std::io::stdout().flush();
}

async fn input_ends() {
    let mut bytes = [0; 64];
    let mut input = tokio::io::stdin();

    while matches!(input.read(&mut bytes).await, Ok(n) if n > 0) {}
}

async fn endpoint(alpns: Vec<Vec<u8>>, streams: u32) -> Outcome<Endpoint> {
    Ok(Endpoint::builder(presets::Minimal)
        .alpns(alpns)
        .transport_config(
            QuicTransportConfig::builder()
                .max_concurrent_bidi_streams(VarInt::from_u32(streams))
                .build(),
        )
        .clear_ip_transports()
        .bind_addr((Ipv4Addr::LOCALHOST, 0))?
        .bind()
        .await?)
}

async fn raw_serve(conn: Connection) -> Outcome<()> {
    let (mut send, mut recv) = conn.accept_bi().await?;
    let mut head = [0; 9];

    recv.read_exact(&mut head).await?;
    let mut left = u64::from_be_bytes(head[1..].try_into()?);

    if head[0] == b'd' {
        let piece = vec![0; PIECE];

        while left > 0 {
            let n = left.min(PIECE as u64);

            send.write_all(&piece[..n as usize]).await?;
            left -= n;
        }
    } else {
        let mut piece = vec![0; PIECE];

        while let Some(n) = recv.read(&mut piece).await? {
            left -= n as u64;
        }
        send.write_all(if left == 0 { b"k" } else { b"?" }).await?;
    }
    send.finish()?;
    send.stopped().await?;
    conn.closed().await;
    Ok(())
}

/// Says under which name it is where, and takes one connection after the other until the input ends.
async fn serve(
    name: &str,
    alpn: &[u8],
    streams: u32,
    each: impl AsyncFn(Connection) -> Outcome<()>,
) -> Outcome<()> {
    let endpoint = endpoint(vec![alpn.to_vec()], streams).await?;

    say(&format!(
        "{name} {} {}",
        endpoint.id(),
        endpoint.bound_sockets()[0]
    ));
    let serving = async {
        while let Some(incoming) = endpoint.accept().await {
            each(incoming.await?).await?;
        }
        Outcome::Ok(())
    };

    tokio::select! {
        done = serving => done?,
        () = input_ends() => {}
    }
    endpoint.close().await;
    Ok(())
}

async fn raw() -> Outcome<()> {
    serve("raw", RAW, STREAMS, async |conn| {
        if let Err(error) = raw_serve(conn).await {
            say(&format!("error {error}"));
        }
        Ok(())
    })
    .await
}

async fn refuse(alpn: &str) -> Outcome<()> {
    serve("refuse", alpn.as_bytes(), 0, async |conn| {
        say("held");
        say(&format!("closed {}", conn.closed().await));
        Ok(())
    })
    .await
}

fn there(id: &str, addr: &str) -> Outcome<EndpointAddr> {
    let id = EndpointId::from_str(id).or_else(|_| EndpointId::from_z32(id))?;

    Ok(EndpointAddr::new(id).with_ip_addr(SocketAddr::from_str(addr)?))
}

async fn carry(id: &str, addr: &str, way: &str, total: &str) -> Outcome<()> {
    let total = u64::from_str(total)?;
    let endpoint = endpoint(vec![], STREAMS).await?;
    let conn = endpoint.connect(there(id, addr)?, RAW).await?;
    let begun = std::time::Instant::now();
    let (mut send, mut recv) = conn.open_bi().await?;
    let mut piece = vec![0; PIECE];
    let mut head = vec![way.as_bytes()[0]];
    let mut got = 0;

    head.extend_from_slice(&total.to_be_bytes());
    send.write_all(&head).await?;
    if way == "up" {
        let mut left = total;

        while left > 0 {
            let n = left.min(PIECE as u64);

            send.write_all(&piece[..n as usize]).await?;
            left -= n;
        }
    }
    send.finish()?;
    while let Some(n) = recv.read(&mut piece).await? {
        got += n as u64;
    }
    if got != if way == "up" { 1 } else { total } {
        return Err(format!("{got} bytes came").into());
    }
    say(&format!("moved {total} {}", begun.elapsed().as_secs_f64()));
    input_ends().await;
    conn.close(VarInt::from_u32(0), b"");
    endpoint.close().await;
    Ok(())
}

async fn hold(id: &str, addr: &str, alpn: &str, stream: bool) -> Outcome<()> {
    let endpoint = endpoint(vec![], STREAMS).await?;
    let conn = endpoint.connect(there(id, addr)?, alpn.as_bytes()).await?;
    let mut opened = None;

    if stream {
        let mut both = conn.open_bi().await?;

        both.0.write_all(b"S").await?;
        opened = Some(both);
    }
    say("held");
    tokio::select! {
        why = conn.closed() => say(&format!("closed {why}")),
        () = input_ends() => {}
    }
    drop(opened);
    endpoint.close().await;
    Ok(())
}

async fn run(words: &[&str]) -> Outcome<()> {
    match words {
        ["raw"] => raw().await,
        ["move", id, addr, way @ ("up" | "down"), total] => carry(id, addr, way, total).await,
        ["hold", id, addr, alpn] => hold(id, addr, alpn, false).await,
        ["hold", id, addr, alpn, "stream"] => hold(id, addr, alpn, true).await,
        ["refuse", alpn] => refuse(alpn).await,
        _ => Err(USAGE.into()),
    }
}

fn main() -> ExitCode {
    let words: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("alknet-iroh-testing: {error}");
            return ExitCode::FAILURE;
        }
    };
    let outcome = runtime.block_on(run(&words));

    // The task that reads standard input waits for ever.
    runtime.shutdown_background();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("alknet-iroh-testing: {error}");
            ExitCode::FAILURE
        }
    }
}
