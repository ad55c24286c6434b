// SPDX-License-Identifier: MIT OR Apache-2.0
//! The endpoint: it is made as the host says, takes connections or dials, and ends with the control socket.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    error::Error,
    net::SocketAddr,
    os::fd::{AsRawFd, OwnedFd},
    rc::Rc,
    str::FromStr,
    time::Duration,
};

use iroh::{
    address_lookup::{AddrFilter, DnsAddressLookup, PkarrPublisher, PkarrResolver},
    endpoint::{
        presets, AckFrequencyConfig, Connection, ConnectionError, Incoming, QuicTransportConfig,
        RecvStream, SendStream, TransportErrorCode, VarInt,
    },
    Endpoint, EndpointAddr, EndpointId, RelayConfig, RelayMap, RelayMode, RelayUrl, SecretKey,
    TransportAddr, Watcher,
};
use iroh_mdns_address_lookup::MdnsAddressLookup;
use tokio::{
    sync::{watch, Notify, Semaphore},
    task::{spawn_local, AbortHandle, LocalSet},
    time::{sleep, timeout},
};

use crate::{
    bridge,
    control::{self, Control, Mouth},
    packet::{Dial, Heard, Said, Start},
    path,
};

const ALPN: &[u8] = b"alknet-ssh";
/// Connections whose handshake is under way; past the first number an address has to prove itself.
const HANDSHAKES: usize = 256;
const UNPROVED: usize = 32;
const HANDSHAKE_TIME: Duration = Duration::from_secs(10);
/// A relay that is not there after so long is told of.
const ONLINE_PATIENCE: Duration = Duration::from_secs(3);
/// A bulk transfer's packets come many at a time, and each ACK is a packet to make, send and read. A slow path's come one by
/// one, and do not wait long. A client's wish alone: noq-proto 1.4.0 writes it without looking whether there is room, and behind a
/// server's handshake there may be none, which ends the process.
const ACK_EVERY: u32 = 40;
const ACK_WITHIN: Duration = Duration::from_millis(2);
/// At the end: for links to say their last, and for the peers to hear of it.
const LAST_WORDS: Duration = Duration::from_millis(1500);
const CLOSE_TIME: Duration = Duration::from_millis(1000);

struct Host {
    endpoint: Endpoint,
    mouth: Mouth,
    relays: RelayMap,
    /// n0's servers know a peer's relay. Where they are not asked it may be at those of the settings.
    asks_n0: bool,
    /// Somebody is asked where a peer is.
    looks_up: bool,
    last_link: Cell<u64>,
    links: Cell<usize>,
    fewer: Notify,
    dials: RefCell<HashMap<u64, AbortHandle>>,
}

/// A link's life, counted.
struct Alive(Rc<Host>);

impl Alive {
    fn new(host: &Rc<Host>) -> Self {
        host.links.set(host.links.get() + 1);
        Alive(host.clone())
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.links.set(self.0.links.get() - 1);
        self.0.fewer.notify_waiters();
    }
}

pub async fn serve(control: OwnedFd) -> i32 {
    LocalSet::new()
        .run_until(async {
            let Ok((mut ear, mouth)) = control::open(control) else {
                return 1;
            };
            let Some(Heard::Start(start)) = ear.hear().await else {
                return 1;
            };

            match open(&start).await {
                Ok((endpoint, relays)) => {
                    live(ear, mouth, endpoint, relays, &start).await;
                    0
                }
                Err(error) => {
                    mouth.say(Said::Failed(error), None).await;
                    // The host closes when it has read that.
                    while ear.hear().await.is_some() {}
                    1
                }
            }
        })
        .await
}

async fn live(mut ear: Control, mouth: Mouth, endpoint: Endpoint, relays: RelayMap, start: &Start) {
    let (pause, paused) = watch::channel(false);
    let host = Rc::new(Host {
        endpoint,
        mouth,
        relays,
        asks_n0: start.n0,
        looks_up: start.n0 || start.mdns,
        last_link: Cell::new(0),
        links: Cell::new(0),
        fewer: Notify::new(),
        dials: RefCell::new(HashMap::new()),
    });

    host.mouth
        .say(
            Said::Ready {
                id: host.endpoint.id().to_string(),
                bound: host
                    .endpoint
                    .bound_sockets()
                    .iter()
                    .map(|addr| addr.to_string())
                    .collect(),
            },
            None,
        )
        .await;
    if start.accept {
        spawn_local(accept(host.clone(), paused));
        if !host.relays.is_empty() {
            spawn_local(tell_online(host.clone()));
        }
    }
    while let Some(heard) = ear.hear().await {
        match heard {
            Heard::Start(_) => break,
            Heard::Dial(dial) => begin_dial(&host, dial),
            Heard::Cancel(dial) => {
                if let Some(dialling) = host.dials.borrow_mut().remove(&dial) {
                    dialling.abort();
                }
            }
            Heard::Pause(on) => {
                pause.send_replace(on);
            }
        }
    }
    pause.send_replace(true);
    let _ = timeout(LAST_WORDS, async {
        while host.links.get() > 0 {
            host.fewer.notified().await;
        }
    })
    .await;
    let _ = timeout(CLOSE_TIME, host.endpoint.close()).await;
}

// ---- settings ----

fn relay_map(urls: &[String]) -> Result<RelayMap, String> {
    urls.iter()
        .map(|text| {
            let url =
                RelayUrl::from_str(text).map_err(|_| format!("iroh_relay: {text} is not a URL"))?;
            // A plain one is a test's or stands behind something else: it answers no QUIC, and to ask costs seconds.
            let quic = (url.scheme() == "https").then(Default::default);

            Ok(RelayConfig::new(url, quic))
        })
        .collect::<Result<RelayMap, String>>()
}

fn secret_key(hex: &str) -> Result<SecretKey, String> {
    let mut bytes = [0; 32];

    if hex.len() != 64 || !hex.is_ascii() {
        return Err("the key is no key".into());
    }
    for (byte, pair) in bytes.iter_mut().zip(hex.as_bytes().chunks(2)) {
        *byte = std::str::from_utf8(pair)
            .ok()
            .and_then(|pair| u8::from_str_radix(pair, 16).ok())
            .ok_or("the key is no key")?;
    }
    Ok(SecretKey::from_bytes(&bytes))
}

async fn open(start: &Start) -> Result<(Endpoint, RelayMap), String> {
    let relay_mode = match &start.relays {
        None => RelayMode::Default,
        Some(urls) if urls.is_empty() => RelayMode::Disabled,
        Some(urls) => RelayMode::Custom(relay_map(urls)?),
    };
    let relays = relay_mode.relay_map();
    let streams = VarInt::from_u32(u32::from(start.accept));
    let mut acks = AckFrequencyConfig::default();

    acks.ack_eliciting_threshold(VarInt::from_u32(ACK_EVERY))
        .max_ack_delay(Some(ACK_WITHIN));
    let mut builder = Endpoint::builder(presets::Minimal)
        .relay_mode(relay_mode)
        .transport_config(
            QuicTransportConfig::builder()
                .max_concurrent_bidi_streams(streams)
                .max_concurrent_uni_streams(VarInt::from_u32(0))
                .datagram_receive_buffer_size(None)
                .ack_frequency_config((!start.accept).then_some(acks))
                .build(),
        );

    if let Some(key) = &start.key {
        builder = builder.secret_key(secret_key(key)?);
    }
    if start.accept {
        builder = builder.alpns(vec![ALPN.to_vec()]);
    }
    if !start.direct || !start.bind.is_empty() {
        builder = builder.clear_ip_transports();
    }
    for text in start.bind.iter().filter(|_| start.direct) {
        let addr = SocketAddr::from_str(text).map_err(|_| format!("{text} is no ADDR:PORT"))?;

        builder = builder
            .bind_addr(addr)
            .map_err(|error| format!("{text}: {}", reason(&error)))?;
    }
    if let Some(proxy) = &start.proxy {
        builder = builder.proxy_url(proxy.parse().map_err(|_| "the proxy is no URL")?);
    }
    if start.n0 {
        if start.accept {
            let mut publisher = PkarrPublisher::n0_dns();

            // Who has no relay can only be found by addresses.
            if relays.is_empty() {
                publisher = publisher.addr_filter(AddrFilter::unfiltered());
            }
            builder = builder.address_lookup(publisher);
        }
        builder = builder.address_lookup(PkarrResolver::n0_dns());
        // Name servers are asked directly: where there is a proxy, they are not.
        if start.proxy.is_none() {
            builder = builder.address_lookup(DnsAddressLookup::n0_dns());
        }
    }
    if start.mdns {
        builder = builder.address_lookup(MdnsAddressLookup::builder().advertise(start.accept));
    }
    let endpoint = builder.bind().await.map_err(|error| {
        let places = if start.bind.is_empty() {
            "0.0.0.0:0, [::]:0".to_string()
        } else {
            start.bind.join(", ")
        };

        format!("UDP on {places}: {}", reason(&error))
    })?;

    Ok((endpoint, relays))
}

// ---- taking connections ----

async fn accept(host: Rc<Host>, mut paused: watch::Receiver<bool>) {
    let handshakes = Rc::new(Semaphore::new(HANDSHAKES));

    loop {
        if paused.wait_for(|paused| !paused).await.is_err() {
            return;
        }
        let incoming = tokio::select! {
            incoming = host.endpoint.accept() => incoming,
            _ = paused.changed() => continue,
        };
        let Some(incoming) = incoming else {
            return;
        };
        if handshakes.available_permits() == 0 {
            incoming.ignore();
        } else if handshakes.available_permits() < HANDSHAKES - UNPROVED
            && !incoming.remote_addr_validated()
        {
            // An address that is not its own does not get this.
            let _ = incoming.retry();
        } else {
            spawn_local(accept_one(host.clone(), incoming, handshakes.clone()));
        }
    }
}

async fn accept_one(host: Rc<Host>, incoming: Incoming, handshakes: Rc<Semaphore>) {
    let conn = {
        let Ok(_permit) = handshakes.try_acquire() else {
            return;
        };
        let Ok(accepting) = incoming.accept() else {
            return;
        };
        // Who speaks another protocol, or nothing, is no link; the endpoint has told it.
        let Ok(Ok(conn)) = timeout(HANDSHAKE_TIME, accepting).await else {
            return;
        };
        conn
    };
    let _alive = Alive::new(&host);
    let Ok((ours, theirs)) = bridge::pair() else {
        conn.close(VarInt::from_u32(0), b"");
        return;
    };
    let link = announce(&host, &conn, 0, theirs).await;

    // A peer that opens no stream is one that says nothing: the host's clock runs, and closes the link.
    tokio::select! {
        stream = conn.accept_bi() => {
            if let Ok((send, recv)) = stream {
                bridge::run(&conn, send, recv, ours).await;
            }
        }
        () = bridge::closed(ours.as_raw_fd()) => conn.close(VarInt::from_u32(0), b""),
    }
    host.mouth.say(Said::Gone { link }, None).await;
}

async fn announce(host: &Rc<Host>, conn: &Connection, dial: u64, theirs: OwnedFd) -> u64 {
    let link = host.last_link.get() + 1;

    host.last_link.set(link);
    host.mouth
        .say(
            Said::Link {
                link,
                dial,
                peer: conn.remote_id().to_string(),
            },
            Some(theirs),
        )
        .await;
    spawn_local(path::watch(conn.clone(), link, host.mouth.clone()));
    link
}

/// Can be reached through a relay, or cannot: told when it is known, and when it changes.
async fn tell_online(host: Rc<Host>) {
    let mut status = host.endpoint.home_relay_status();
    let mut told: Option<Option<String>> = None;
    let mut waited = false;

    loop {
        let now = status.get();
        let relay = now
            .iter()
            .find(|status| status.is_connected())
            .map(|status| status.url().to_string());

        // A relay that is being connected to is no news at first.
        if (relay.is_some() || waited) && told.as_ref() != Some(&relay) {
            let error = now
                .iter()
                .find_map(|status| status.last_error())
                .map(|error| format!("{error:#}"));

            host.mouth
                .say(
                    Said::Online {
                        relay: relay.clone(),
                        error: error.filter(|_| relay.is_none()),
                    },
                    None,
                )
                .await;
            told = Some(relay);
        }
        tokio::select! {
            changed = status.updated() => if changed.is_err() {
                return;
            },
            () = sleep(ONLINE_PATIENCE), if !waited => waited = true,
        }
    }
}

// ---- dialling ----

fn peer_addr(host: &Host, dial: &Dial) -> Result<EndpointAddr, String> {
    let id = EndpointId::from_str(&dial.peer)
        .map_err(|_| "there is no such endpoint id: it is no public key".to_string())?;
    let mut addr = EndpointAddr::new(id);

    for text in &dial.addresses {
        addr = addr
            .with_ip_addr(SocketAddr::from_str(text).map_err(|_| format!("{text} is no IP:PORT"))?);
    }
    if !host.asks_n0 {
        addr = addr.with_addrs(
            host.relays
                .urls::<Vec<_>>()
                .into_iter()
                .map(TransportAddr::Relay),
        );
    }
    if addr.is_empty() && !host.looks_up {
        return Err(
            "nothing says where the peer is: there is no relay, no discovery and no peer_address"
                .into(),
        );
    }
    Ok(addr)
}

fn begin_dial(host: &Rc<Host>, dial: Dial) {
    let number = dial.dial;
    let dialling = spawn_local({
        let host = host.clone();

        async move {
            let time = Duration::from_millis(dial.timeout_ms);
            let reached = match peer_addr(&host, &dial) {
                Ok(addr) => match timeout(time, reach(&host, addr)).await {
                    Ok(reached) => reached,
                    Err(_) => Err(format!("no answer in {} s", time.as_secs_f64())),
                },
                Err(error) => Err(error),
            };

            // From here on it is a link, which a cancel does not end.
            let alive = Alive::new(&host);
            host.dials.borrow_mut().remove(&number);
            spawn_local(async move {
                let host = alive.0.clone();

                match reached {
                    Ok(reached) => linked(&host, reached, number).await,
                    Err(error) => {
                        let dial = number;

                        host.mouth.say(Said::Lost { dial, error }, None).await;
                    }
                }
                drop(alive);
            });
        }
    });

    host.dials
        .borrow_mut()
        .insert(number, dialling.abort_handle());
}

/// What is at the bottom of an error: the layers above it say where in iroh it was met.
fn reason(error: &(dyn Error + 'static)) -> String {
    let mut last = error;

    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}

/// Did the peer answer that it has not got our protocol (no_application_protocol, RFC 7301)?
fn speaks_other(error: &(dyn Error + 'static)) -> bool {
    let mut at = Some(error);

    while let Some(error) = at {
        if let Some(ConnectionError::ConnectionClosed(close)) = error.downcast_ref() {
            return close.error_code == TransportErrorCode::crypto(120);
        }
        at = error.source();
    }
    false
}

/// The connection to a peer, and the stream in it that is the link.
struct Reached {
    conn: Connection,
    send: SendStream,
    recv: RecvStream,
}

/// Where this is dropped before its end, the connection is closed.
async fn reach(host: &Host, addr: EndpointAddr) -> Result<Reached, String> {
    let conn = host.endpoint.connect(addr, ALPN).await.map_err(|error| {
        if speaks_other(&error) {
            "the peer is there, but serves no alknet (ALPN alknet-ssh)".into()
        } else {
            reason(&error)
        }
    })?;
    // Which the peer has to allow.
    let (send, recv) = conn.open_bi().await.map_err(|error| error.to_string())?;

    Ok(Reached { conn, send, recv })
}

async fn linked(host: &Rc<Host>, reached: Reached, dial: u64) {
    let Reached { conn, send, recv } = reached;

    match bridge::pair() {
        Ok((ours, theirs)) => {
            let link = announce(host, &conn, dial, theirs).await;

            bridge::run(&conn, send, recv, ours).await;
            host.mouth.say(Said::Gone { link }, None).await;
        }
        Err(error) => {
            let error = error.to_string();

            host.mouth.say(Said::Lost { dial, error }, None).await;
        }
    }
}
