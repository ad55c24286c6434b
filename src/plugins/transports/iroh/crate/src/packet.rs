// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is said over the control socket. The host's side of it is ../iroh_packet.c.

use serde::{Deserialize, Serialize};

/// What the host says. `start` comes first, and once.
#[derive(Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Heard {
    Start(Start),
    Dial(Dial),
    /// A dial's number.
    Cancel(u64),
    /// Take no new connections for a while, or go on.
    Pause(bool),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Start {
    /// 32 bytes in hex; without it one is made, and forgotten at the end.
    pub key: Option<String>,
    /// Take connections.
    pub accept: bool,
    /// Where UDP is bound, "ADDR:PORT"; none: every address of the machine.
    pub bind: Vec<String>,
    /// Without it there is no UDP at all: everything goes through the relay.
    pub direct: bool,
    /// URLs; absent: n0's; empty: none.
    pub relays: Option<Vec<String>>,
    /// Publish (if connections are taken) and look up at n0's servers.
    pub n0: bool,
    /// And so in the local network.
    pub mdns: bool,
    /// http://..., which all HTTP goes through.
    pub proxy: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dial {
    pub dial: u64,
    /// 32 bytes in hex.
    pub peer: String,
    /// "ADDR:PORT", where the peer may be found.
    pub addresses: Vec<String>,
    pub timeout_ms: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Said {
    Ready {
        /// Hex.
        id: String,
        bound: Vec<String>,
    },
    /// There will be no endpoint.
    Failed(String),
    /// A link, and its descriptor with it; `dial` is whose answer it is, 0: it was accepted.
    Link {
        link: u64,
        dial: u64,
        peer: String,
    },
    /// A dial that came to nothing.
    Lost {
        dial: u64,
        error: String,
    },
    Path {
        link: u64,
        relayed: bool,
        via: String,
        rtt_us: u64,
    },
    Gone {
        link: u64,
    },
    /// Can peers find us through a relay?
    Online {
        #[serde(skip_serializing_if = "Option::is_none")]
        relay: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        error: Option<String>,
    },
}
