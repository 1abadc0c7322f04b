//! How many requests are answered at a time when nobody said how fast the upload is: as many as a limit of the
//! speed that is found would allow.
//!
//! Where each request that is answered gets less than [`UPLOAD_BYTES_PER_SECOND`], either they share an uplink
//! that is full, and fewer at a time would get pieces done sooner; or those who take them are slow, and more at a
//! time would bring more. Which of the two only a trial tells: twice as many are answered for a while.

use std::time::Duration;

use tokio::time::Instant;

use super::limits::{UPLOAD_BYTES_PER_SECOND, UPLOADS_AT_FIRST, UPLOADS_MAX, UPLOADS_MIN};

/// The shortest time over which a speed is taken; it is also that of as many answers as there are slots.
const PERIOD: Duration = Duration::from_secs(1);

/// Time between a trial that brought nothing and the next: in times of the trial itself, which takes long where an
/// uplink is slow, at the least, and at the most.
const TRIAL_EVERY: u32 = 5;
const TRIAL_EVERY_MIN: Duration = Duration::from_secs(10);
const TRIAL_EVERY_MAX: Duration = Duration::from_secs(60);

/// How much more twice as many requests must bring to be worth it.
const GROWTH: f64 = 1.5;

/// The slots of an upload.
#[derive(Debug)]
pub(super) struct Slots {
    limit: usize,
    /// None where the limit is given.
    found: Option<Found>,
}

#[derive(Debug)]
struct Found {
    period: Period,
    /// The speed before twice as many were let in, while that is tried.
    before: Option<f64>,
    next_trial: Instant,
}

/// What was answered since a point in time.
#[derive(Debug)]
struct Period {
    since: Instant,
    answers: usize,
    bytes: u64,
    /// Whether somebody waited at each answer's end: else the speed is not that of all slots.
    full: bool,
}

impl Period {
    fn new(now: Instant) -> Self {
        Self {
            since: now,
            answers: 0,
            bytes: 0,
            full: true,
        }
    }
}

/// Requests that an upload of so many bytes a second answers at a time.
fn slots(rate: u64) -> usize {
    let slots = usize::try_from(rate / UPLOAD_BYTES_PER_SECOND).unwrap_or(usize::MAX);
    slots.clamp(UPLOADS_MIN, UPLOADS_MAX)
}

impl Slots {
    /// Those of an upload that is limited to so many bytes a second.
    pub(super) fn of_rate(rate: u64) -> Self {
        Self {
            limit: slots(rate),
            found: None,
        }
    }

    /// Those of an upload whose speed is to be found.
    pub(super) fn unknown(now: Instant) -> Self {
        Self {
            limit: UPLOADS_AT_FIRST,
            found: Some(Found {
                period: Period::new(now),
                before: None,
                next_trial: now,
            }),
        }
    }

    /// Requests to answer at a time.
    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    /// Notes that an answer of so many bytes has left, and whether others wait for its slot.
    pub(super) fn done(&mut self, bytes: u64, waited_for: bool, now: Instant) {
        let Some(found) = &mut self.found else { return };
        let period = &mut found.period;
        period.answers += 1;
        period.bytes += bytes;
        period.full &= waited_for;
        let time = now.saturating_duration_since(period.since);
        if !period.full {
            // Whoever asks is answered at once: there is nothing to learn, and nothing to change.
            *period = Period::new(now);
            return;
        }
        if period.answers < self.limit || time < PERIOD {
            return;
        }
        let rate = period.bytes as f64 / time.as_secs_f64();
        *period = Period::new(now);
        self.limit = found.next(self.limit, rate, time, now);
    }
}

impl Found {
    /// The limit that follows on `limit`, which was full for a `time` and gave `rate`.
    fn next(&mut self, limit: usize, rate: f64, time: Duration, now: Instant) -> usize {
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a float becomes the nearest integer that there is"
        )]
        let wanted = slots(rate as u64);
        match self.before.take() {
            Some(before) if rate < before * GROWTH => {
                let pause = time.saturating_mul(TRIAL_EVERY);
                self.next_trial = now + pause.clamp(TRIAL_EVERY_MIN, TRIAL_EVERY_MAX);
                return wanted;
            }
            None if now < self.next_trial => return wanted.max(limit),
            _ => {}
        }
        let each_moves = rate >= (limit as u64 * UPLOAD_BYTES_PER_SECOND) as f64;
        self.before = (!each_moves).then_some(rate);
        limit.saturating_mul(2).min(UPLOADS_MAX)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::cast_possible_truncation, reason = "speeds of tests are small")]
    use super::*;

    const REQUEST: f64 = (2 << 20) as f64;
    const STEP: Duration = Duration::from_millis(10);

    /// A link that requests share, with as many waiting as are wanted.
    struct Link {
        slots: Slots,
        now: Instant,
        /// Bytes left of the requests that are answered.
        active: Vec<f64>,
        sent: f64,
    }

    impl Link {
        fn new() -> Self {
            let now = Instant::now();
            Self {
                slots: Slots::unknown(now),
                now,
                active: Vec::new(),
                sent: 0.0,
            }
        }

        /// Runs with an uplink of `uplink` bytes a second, of which each of `takers` takes at most `each`;
        /// returns the bytes a second and the mean of the limit.
        fn run(&mut self, seconds: u64, uplink: f64, each: f64, takers: usize) -> (f64, f64) {
            let steps = seconds * 100;
            let (before, mut limits) = (self.sent, 0);
            for _ in 0..steps {
                self.now += STEP;
                let open = self.slots.limit().min(takers);
                while self.active.len() < open {
                    self.active.push(REQUEST);
                }
                let share = (uplink / self.active.len() as f64).min(each) * STEP.as_secs_f64();
                for left in &mut self.active {
                    *left -= share;
                    self.sent += share;
                }
                let (done, active) = self.active.drain(..).partition(|left| *left <= 0.0);
                self.active = active;
                let done: Vec<f64> = done;
                for _ in done {
                    let waited_for = takers > self.slots.limit();
                    self.slots.done(REQUEST as u64, waited_for, self.now);
                }
                limits += self.slots.limit();
            }
            let rate = (self.sent - before) / seconds as f64;
            (rate, limits as f64 / steps as f64)
        }
    }

    #[test]
    fn a_limit_that_is_given_stays() {
        let mut slots = Slots::of_rate(10 << 20);
        let mut now = Instant::now();
        for _ in 0..1000 {
            now += STEP;
            slots.done(1 << 30, true, now);
            assert_eq!(slots.limit(), 5);
        }
        assert_eq!(Slots::of_rate(0).limit(), UPLOADS_MIN);
        assert_eq!(Slots::of_rate(u64::MAX).limit(), UPLOADS_MAX);
    }

    #[test]
    fn a_full_uplink_answers_about_as_few_at_a_time_as_with_a_limit() {
        for uplink in [1e6, 5e6, 10e6, 50e6] {
            let mut link = Link::new();
            link.run(150, uplink, 1e9, 500);
            let (rate, limit) = link.run(600, uplink, 1e9, 500);
            let given = Slots::of_rate(uplink as u64).limit() as f64;
            assert!(
                (given * 0.8..given * 1.7).contains(&limit),
                "{uplink}: {limit}"
            );
            assert!(rate > uplink * 0.99, "{uplink}: {rate}");
        }
    }

    #[test]
    fn slow_takers_do_not_hold_up_a_fast_uplink() {
        for (each, takers) in [(1e6, 100), (100e3, 40), (20e6, 200)] {
            let mut link = Link::new();
            link.run(400, 1e9, each, takers);
            let (rate, _) = link.run(60, 1e9, each, takers);
            let most = (each * takers as f64).min(1e9);
            assert!(rate > most * 0.8, "{each}: {rate} of {most}");
        }
    }

    #[test]
    fn a_fast_link_is_soon_open_to_all() {
        let mut link = Link::new();
        link.run(6, 1e9, 300e6, 200);
        assert!(link.slots.limit() >= 200, "{}", link.slots.limit());
    }

    #[test]
    fn what_was_found_follows_when_the_uplink_becomes_slow_and_when_the_takers_do() {
        let mut link = Link::new();
        link.run(20, 1e9, 300e6, 500);
        link.run(300, 10e6, 300e6, 500);
        let (_, limit) = link.run(60, 10e6, 300e6, 500);
        assert!(limit < 10.0, "the uplink: {limit}");
        link.run(300, 1e9, 1e6, 100);
        let (rate, _) = link.run(60, 1e9, 1e6, 100);
        assert!(rate > 80e6, "the takers: {rate}");
    }

    #[test]
    fn where_nobody_waits_nothing_changes() {
        let mut link = Link::new();
        link.run(60, 1e6, 1e9, UPLOADS_AT_FIRST);
        assert_eq!(link.slots.limit(), UPLOADS_AT_FIRST);
    }
}
