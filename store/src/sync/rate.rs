//! A limit on bytes a second, shared by whoever sends or receives under it.

use std::time::Duration;

use tokio::{sync::Mutex, time::Instant};

/// Lets through so many bytes a second; what was not used is not saved for more than a quarter second.
#[derive(Debug)]
pub struct Rate {
    bytes_per_second: u64,
    /// When the bytes let through so far are paid for.
    paid: Mutex<Instant>,
}

const BURST: Duration = Duration::from_millis(250);

/// Bytes of the smallest step.
const STEP_BYTES_MIN: u64 = 16 << 10;

impl Rate {
    /// A limit of so many bytes a second; 0 is taken as 1.
    pub fn new(bytes_per_second: u64) -> Self {
        Self {
            bytes_per_second: bytes_per_second.max(1),
            paid: Mutex::new(Instant::now()),
        }
    }

    /// The limit.
    pub fn bytes_per_second(&self) -> u64 {
        self.bytes_per_second
    }

    /// Bytes to move at a time, so that streams take turns.
    pub fn step(&self) -> usize {
        usize::try_from((self.bytes_per_second / 8).max(STEP_BYTES_MIN)).unwrap_or(usize::MAX)
    }

    /// Waits until `bytes` may pass.
    pub async fn pass(&self, bytes: usize) {
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

/// Time over which a [`Gauge`] averages.
const TAU: Duration = Duration::from_secs(2);

/// Bytes a second over the last seconds.
#[derive(Debug, Default)]
pub struct Gauge {
    rate: f64,
    noted: Option<Instant>,
}

impl Gauge {
    /// Notes bytes.
    pub fn add(&mut self, bytes: u64, now: Instant) {
        self.rate = self.rate(now) + bytes as f64 / TAU.as_secs_f64();
        self.noted = Some(now);
    }

    /// Bytes a second: old ones count less and less.
    pub fn rate(&self, now: Instant) -> f64 {
        let Some(noted) = self.noted else { return 0.0 };
        let age = now.saturating_duration_since(noted).as_secs_f64();
        self.rate * (-age / TAU.as_secs_f64()).exp()
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

    #[test]
    fn a_gauge_shows_what_flows_and_forgets_what_flowed() {
        let (mut gauge, mut now) = (Gauge::default(), Instant::now());
        for _ in 0..200 {
            now += Duration::from_millis(50);
            gauge.add(5000, now);
        }
        let flowing = gauge.rate(now);
        assert!((90_000.0..110_000.0).contains(&flowing), "{flowing}");
        assert!(gauge.rate(now + Duration::from_secs(20)) < 10.0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_limit_of_zero_is_a_crawl_and_no_division_by_zero() {
        let rate = Rate::new(0);
        assert_eq!(rate.bytes_per_second(), 1);
        rate.pass(10).await;
    }
}
