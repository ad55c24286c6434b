// SPDX-License-Identifier: MIT OR Apache-2.0
//! alknet-iroh-relay ADDR:PORT: a relay over plain HTTP. Prints "relay URL", and lives until its standard input ends.

use std::{env, error::Error, io::Write, net::SocketAddr, process::ExitCode, str::FromStr};

use iroh_relay::server::{RelayConfig, Server, ServerConfig};
use tokio::io::AsyncReadExt;

async fn run(addr: &str) -> Result<(), Box<dyn Error>> {
    let mut config = ServerConfig::default();
    let mut bytes = [0; 64];
    let mut input = tokio::io::stdin();

    config.relay = Some(RelayConfig::new(SocketAddr::from_str(addr)?));
    let server = Server::spawn(config).await?;

    println!("relay http://{}", server.http_addr().ok_or("no address")?);
    std::io::stdout().flush()?;
    while input.read(&mut bytes).await? > 0 {}
    server.shutdown().await?;
    Ok(())
}

fn main() -> ExitCode {
    let addr = env::args().nth(1).unwrap_or_default();
    let outcome = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(Into::into)
        .and_then(|runtime| {
            let outcome = runtime.block_on(run(&addr));

            // The task that reads standard input waits for ever.
            runtime.shutdown_background();
            outcome
        });

    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("alknet-iroh-relay: {error}");
            ExitCode::FAILURE
        }
    }
}
