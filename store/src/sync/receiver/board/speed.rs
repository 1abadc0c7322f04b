//! How fast a peer sends, as far as requests are sized and the end is foretold by it.

use std::time::Duration;

use tokio::time::Instant;

use crate::sync::rate::Gauge;

/// What is known of a peer's speed.
#[derive(Debug, Default)]
pub(super) struct Speed {
    /// Bytes a second of one stream, waiting included.
    stream: Option<u64>,
    /// Of all streams.
    all: Gauge,
}

impl Speed {
    /// Notes that a unit has brought so many bytes in so much time.
    pub(super) fn unit(&mut self, bytes: u64, took: Duration) {
        let micros = took.as_micros().max(100);
        let found = u128::from(bytes) * 1_000_000 / micros;
        let found = u64::try_from(found).unwrap_or(u64::MAX) / 10;
        self.stream = Some(
            self.stream
                .map_or(found * 10, |known| known / 10 * 7 + found * 3),
        );
    }

    /// Notes bytes.
    pub(super) fn received(&mut self, bytes: u64, now: Instant) {
        self.all.add(bytes, now);
    }

    /// Bytes a second over the last seconds.
    pub(super) fn rate(&self, now: Instant) -> f64 {
        self.all.rate(now)
    }

    /// Bytes a second of one stream, if it is known.
    pub(super) fn stream(&self) -> Option<u64> {
        self.stream
    }
}
