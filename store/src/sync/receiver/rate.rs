//! A limit on bytes a second, shared by all streams of a fetch.

use std::time::Duration;

use tokio::{sync::Mutex, time::Instant};

/// Lets through so many bytes a second; what was not used is not saved for more than a quarter second.
#[derive(Debug)]
pub(super) struct Rate {
    bytes_per_second: u64,
    /// When the bytes let through so far are paid for.
    paid: Mutex<Instant>,
}

const BURST: Duration = Duration::from_millis(250);

impl Rate {
    pub(super) fn new(bytes_per_second: u64) -> Self {
        Self {
            bytes_per_second: bytes_per_second.max(1),
            paid: Mutex::new(Instant::now()),
        }
    }

    /// Bytes to ask for at a time, so that streams take turns.
    pub(super) fn step(&self) -> usize {
        usize::try_from(self.bytes_per_second / 8)
            .unwrap_or(usize::MAX)
            .max(16 << 10)
    }

    /// Waits until `bytes` may pass.
    pub(super) async fn pass(&self, bytes: usize) {
        let price = Duration::from_secs_f64(bytes as f64 / self.bytes_per_second as f64);
        let until = {
            let mut paid = self.paid.lock().await;
            let now = Instant::now();
            *paid = (*paid).max(now.checked_sub(BURST).unwrap_or(now)) + price;
            *paid
        };
        tokio::time::sleep_until(until).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn bytes_pass_at_the_rate_that_was_set() {
        let rate = Rate::new(1_000_000);
        let start = Instant::now();
        for _ in 0..20 {
            rate.pass(100_000).await;
        }
        let took = start.elapsed().as_secs_f64();
        assert!((1.7..2.1).contains(&took), "2 MB at 1 MB/s took {took} s");
    }
}
