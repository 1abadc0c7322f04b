//! The time by which tokens expire: the machine's clock, which cannot go back while the node runs.
//!
//! A clock that is set back would let expired tokens in again. Time is therefore at least what it was
//! when the node started and what has passed since by a clock that nobody sets. One that is set forward
//! by mistake and then right again does no lasting harm.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

#[derive(Debug)]
pub(super) struct Clock {
    started: u64,
    since: Instant,
}

impl Clock {
    pub(super) fn start() -> Self {
        Self {
            started: wall(),
            since: Instant::now(),
        }
    }

    /// Seconds since 1970.
    pub(super) fn now(&self) -> u64 {
        self.at(wall())
    }

    fn at(&self, wall: u64) -> u64 {
        wall.max(self.started + self.since.elapsed().as_secs())
    }
}

fn wall() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_set_back_lets_no_time_pass_again() {
        let clock = Clock::start();
        assert!(clock.at(0) >= clock.started);
        assert!(clock.at(clock.started - 1) >= clock.started);
    }

    #[test]
    fn a_clock_that_was_set_forward_and_right_again_does_no_lasting_harm() {
        let clock = Clock::start();
        assert_eq!(
            clock.at(clock.started + 1_000_000),
            clock.started + 1_000_000
        );
        assert!(clock.at(clock.started) < clock.started + 1_000);
    }
}
