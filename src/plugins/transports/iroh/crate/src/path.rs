// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which way a link's bytes go: told when it changes, and when the round trip does by a good deal.

use std::time::Duration;

use iroh::{
    endpoint::{Connection, Path},
    TransportAddr,
};
use n0_future::StreamExt;
use tokio::time::{interval, MissedTickBehavior};

use crate::{control::Mouth, packet::Said};

const LOOK_EVERY: Duration = Duration::from_secs(5);

#[derive(Clone, PartialEq)]
struct Seen {
    relayed: bool,
    via: String,
    rtt_us: u64,
}

impl Seen {
    fn of(path: &Path<'_>) -> Self {
        Seen {
            relayed: path.is_relay(),
            via: match path.remote_addr() {
                TransportAddr::Relay(url) => url.to_string(),
                TransportAddr::Ip(addr) => addr.to_string(),
                _ => String::new(),
            },
            rtt_us: path.rtt().as_micros().try_into().unwrap_or(u64::MAX),
        }
    }

    fn is_news(&self, before: &Seen) -> bool {
        self.relayed != before.relayed
            || self.via != before.via
            || self.rtt_us.abs_diff(before.rtt_us) > before.rtt_us / 4
    }
}

/// Until the connection ends.
pub async fn watch(conn: Connection, link: u64, mouth: Mouth) {
    let mut changes = conn.paths_stream();
    let mut tick = interval(LOOK_EVERY);
    let mut told: Option<Seen> = None;

    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            change = changes.next() => if change.is_none() {
                return;
            },
            _ = tick.tick() => {}
        }
        let Some(now) = conn
            .paths()
            .iter()
            .find(|path| path.is_selected())
            .map(|path| Seen::of(&path))
        else {
            continue;
        };
        if told.as_ref().is_some_and(|told| !now.is_news(told)) {
            continue;
        }
        mouth
            .say(
                Said::Path {
                    link,
                    relayed: now.relayed,
                    via: now.via.clone(),
                    rtt_us: now.rtt_us,
                },
                None,
            )
            .await;
        told = Some(now);
    }
}
